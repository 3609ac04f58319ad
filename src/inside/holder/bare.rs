//! A step without a fence: a supervisor process that adopts whatever the step leaves behind, and ends it.
//!
//! The supervisor hears from the holder over a socket. When the holder is gone, however it went, that socket closes
//! and the supervisor ends the step: an ordinary step leaves nothing. It starts the launcher, as bubblewrap would: each
//! step is under Landlock and the filters of its own, as far as the kernel has them. Where Landlock keeps no signals in
//! (before its sixth version) a hostile step can kill its supervisor first, since both are the same user; that, and the
//! network, is what the fence is for.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitOptions, getpid, kill_process, pidfd_open, set_child_subreaper, wait,
};

use super::close_inherited;
use super::fenced::{enter_before, in_memory};
use super::opened;
use super::processes::Processes;
use super::serve::{Given, Launch, Signalled, StepNet};
use crate::confine::launch::{Job, Opened};
use crate::confine::wire::Terms;
use crate::domain::spec::StepCommand;
use crate::domain::view::View;
use crate::process::Bound;

/// To the supervisor: ask the step to end.
const TERMINATE: u8 = b'T';
/// To the supervisor: end everything now. A closed socket says the same.
const KILL: u8 = b'K';
/// From the supervisor: the step was started. Anything else is why not.
const STARTED: u8 = b'+';
/// From the supervisor, at the end: the step passed this bound.
const OVER: [(u8, Bound); 2] = [(b'M', Bound::Memory), (b'P', Bound::Processes)];
/// How often it looks what the step takes. Each look reads every process of the machine.
const LOOK_EVERY: Timespec = Timespec { tv_sec: 0, tv_nsec: 500_000_000 };

/// The launcher is this binary.
const THIS: &str = "/proc/self/exe";

/// Starts steps in the joined tree itself.
#[derive(Default)]
pub(super) struct Launcher {
    view: Option<Shown>,
}

/// What a view is without mounts.
struct Shown {
    tree: PathBuf,
    /// What Landlock leaves open.
    opened: Vec<Opened>,
}

impl Launch for Launcher {
    type Step = Supervised;

    fn mount(&mut self, view: View) -> Result<(), String> {
        if let Some(root) = &view.root {
            return Err(format!("show {} to steps as their root without namespaces", root.display()));
        }
        self.view = Some(Shown { tree: view.tree.shown().to_owned(), opened: opened::of_the_machine(&view) });
        Ok(())
    }

    fn start(&mut self, command: &StepCommand, _net: StepNet, given: Given) -> io::Result<Supervised> {
        let view = self.view.as_ref().ok_or_else(|| io::Error::other("no view was given"))?;
        let (ours, theirs) = UnixStream::pair()?;
        // SAFETY: the holder has one thread, so no lock can be held by another one for ever.
        match unsafe { libc::fork() } {
            -1 => Err(io::Error::last_os_error()),
            0 => {
                let code = supervise(command, view, given, theirs);
                // Nothing of the holder that this process is a copy of may run on the way out.
                // SAFETY: _exit(2) can be called anywhere.
                unsafe { libc::_exit(code) }
            }
            pid => {
                drop((theirs, given));
                begun(pid, ours)
            }
        }
    }
}

/// Waits for the supervisor's word that the launcher became the step.
fn begun(pid: i32, mut line: UnixStream) -> io::Result<Supervised> {
    let supervisor = Pid::from_raw(pid).ok_or_else(|| io::Error::other("a process without an id"))?;
    let mut word = [0; 512];
    let length = line.read(&mut word)?;
    match word[..length].split_first() {
        Some((&STARTED, _)) => Ok(Supervised { supervisor, line }),
        Some(_) => Err(io::Error::other(String::from_utf8_lossy(&word[..length]).into_owned())),
        None => Err(io::Error::other("its supervisor ended at once")),
    }
}

/// A step's supervisor, as the holder knows it.
pub(super) struct Supervised {
    supervisor: Pid,
    line: UnixStream,
}

impl Signalled for Supervised {
    fn process(&self) -> Pid {
        self.supervisor
    }

    // An error means that the supervisor has ended, and the step before it.
    fn terminate(&mut self) {
        let _ = self.line.write_all(&[TERMINATE]);
    }

    fn kill(&mut self) {
        let _ = self.line.write_all(&[KILL]);
    }

    fn status(&mut self, of_process: i32) -> Option<i32> {
        Some(of_process)
    }

    fn is_counted_here(&self) -> bool {
        false
    }

    fn over(&mut self) -> Option<Bound> {
        let mut word = [0];
        // It has ended: what it had to say is there.
        let read = self.line.read(&mut word).ok()?;
        OVER.into_iter().find(|(byte, _)| word[..read] == [*byte]).map(|(_, bound)| bound)
    }
}

/// The life of a supervisor: gives its exit status, which passes on the step's.
fn supervise(command: &StepCommand, view: &Shown, given: Given, mut line: UnixStream) -> i32 {
    let Given { terms, output, cgroup } = given;
    let kept = [Some(output.as_fd()), Some(line.as_fd()), cgroup.as_ref().map(AsFd::as_fd)];
    close_inherited(&kept.into_iter().flatten().collect::<Vec<_>>());
    let begun = set_child_subreaper(Some(getpid())).map_err(io::Error::from).and_then(|()| {
        let main = start(command, view, &terms, output, cgroup)?;
        Ok((main, pidfd_open(main, PidfdFlags::empty())?))
    });
    let (main, watch) = match begun {
        Ok(begun) => begun,
        Err(error) => {
            // If the holder is gone too, there is nobody to tell.
            let _ = line.write_all(error.to_string().as_bytes());
            return 127;
        }
    };
    let told = line.write_all(&[STARTED]);
    let status = if told.is_ok() { attend(main, &watch, &mut line, &terms) } else { None };
    let at_the_end = end_all(main);
    status.or(at_the_end).unwrap_or(128 + Signal::KILL.as_raw())
}

/// Starts the launcher and waits until it is the step. What it refused and why is an error.
fn start(
    command: &StepCommand,
    view: &Shown,
    terms: &Terms,
    output: OwnedFd,
    cgroup: Option<OwnedFd>,
) -> io::Result<Pid> {
    let job = Job {
        argv: command.argv.clone(),
        env: command.env.clone(),
        landlock: terms.landlock.then(|| view.opened.clone()),
        seccomp: terms.seccomp,
        outer: Vec::new(),
    };
    let job = in_memory(c"step", &serde_json::to_vec(&job)?)?;
    let (mut refusal, refusal_write) = io::pipe()?;
    // For the launcher, which closes them to the step. Nothing else is started in between: one thread.
    for fd in [job.as_fd(), refusal_write.as_fd()] {
        fcntl_setfd(fd, FdFlags::empty())?;
    }
    let mut child = Command::new(THIS);
    if let Some(entry) = cgroup {
        enter_before(&mut child, entry);
    }
    let child = child
        .args(["internal", "launch", &job.as_raw_fd().to_string(), &refusal_write.as_raw_fd().to_string()])
        .env_clear()
        .current_dir(view.tree.join(&command.dir))
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .process_group(0)
        .spawn()?;
    drop(refusal_write);
    let mut why = String::new();
    refusal.read_to_string(&mut why)?;
    match &*why {
        "" => {}
        why => return Err(io::Error::other(why.to_owned())),
    }
    i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or_else(|| io::Error::other("a process without an id"))
}

/// Until the step's first process ends (its status), the step passes a bound, or the holder wants it ended or is gone (`None`).
fn attend(main: Pid, watch: &OwnedFd, line: &mut UnixStream, terms: &Terms) -> Option<i32> {
    loop {
        let mut fds = [watch.as_fd(), line.as_fd()].map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        match poll(&mut fds, Some(&LOOK_EVERY)) {
            Ok(0) => {
                let over = Processes::look().used_by(getpid()).over(terms);
                if let Some((word, _)) = OVER.into_iter().find(|(_, bound)| over == Some(*bound)) {
                    // A holder that is gone needs no word.
                    let _ = line.write_all(&[word]);
                    return None;
                }
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return None,
        }
        let spoken = !fds[1].revents().is_empty();
        if let Reaped { main: Some(status), .. } = reap(main) {
            return Some(status);
        }
        if spoken {
            let mut word = [0];
            match line.read(&mut word) {
                Ok(1) if word == [TERMINATE] => signal_descendants(Signal::TERM),
                _ => return None,
            }
        }
    }
}

/// Kills descendants until there are none, new ones included. The step's status, if its first process was among them.
fn end_all(main: Pid) -> Option<i32> {
    let mut status = None;
    loop {
        signal_descendants(Signal::KILL);
        let reaped = reap(main);
        status = status.or(reaped.main);
        if reaped.none_left {
            return status;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

struct Reaped {
    /// The status of the step's first process, if it was reaped now.
    main: Option<i32>,
    none_left: bool,
}

fn reap(main: Pid) -> Reaped {
    let mut status_of_main = None;
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((process, status))) => {
                if process == main {
                    let signal = || status.terminating_signal().map(|signal| 128 + signal);
                    status_of_main = status.exit_status().or_else(signal);
                }
            }
            Ok(None) => return Reaped { main: status_of_main, none_left: false },
            Err(Errno::INTR) => {}
            Err(_) => return Reaped { main: status_of_main, none_left: true },
        }
    }
}

/// Everything whose chain of parents leads here. As a subreaper we are the parent of what lost its own.
fn signal_descendants(signal: Signal) {
    for process in Processes::look().below(getpid().as_raw_nonzero().get()) {
        if let Some(process) = Pid::from_raw(process) {
            // An error means that it ended in between.
            let _ = kill_process(process, signal);
        }
    }
}

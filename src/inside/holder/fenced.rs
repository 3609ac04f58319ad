//! A step under bubblewrap, inside the holder's namespaces.

use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{MemfdFlags, Mode, OFlags, fcntl_setfl, memfd_create};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, kill_process_group, setrlimit};

use super::door;
use super::processes;
use super::root;
use super::serve::{Given, Launch, Signalled, StepNet};
use crate::confine::bubblewrap::{Descriptors, Status, arguments, options};
use crate::confine::launch::{self, Job};
use crate::confine::wire::Netns;
use crate::domain::spec::StepCommand;
use crate::domain::view::View;

/// Starts steps under bubblewrap.
pub(super) struct Launcher {
    bubblewrap: Option<PathBuf>,
    /// This binary, which starts the step inside. Opened before the view covers where it lies.
    exe: File,
    /// The holder's own namespaces.
    outer: Vec<(String, String)>,
    network: String,
    /// What a step may not write of its `/proc`.
    covered: Vec<&'static str>,
}

/// The kernel's own switches, the machine's and not the namespace's. Their files belong to root, and where the agent is
/// root, so is a step in the kernel's eyes: it needs no capability to write them. bubblewrap covers none of the folders,
/// because none can be written itself.
const SWITCHES: [&str; 10] = [
    "/proc/sys",
    "/proc/sysrq-trigger",
    "/proc/irq",
    "/proc/bus",
    "/proc/fs",
    "/proc/acpi",
    "/proc/scsi",
    "/proc/driver",
    "/proc/mtrr",
    "/proc/pressure",
];

/// Those of which some are open to every user: triggers on pressure, and `ns_last_pid`, whose writing the kernel refuses later.
const OPEN_TO_ALL: [&str; 2] = ["/proc/sys", "/proc/pressure"];

/// Whether this process is root outside of its user namespace (`0 OUTER 1` in its map).
fn is_root_outside() -> io::Result<bool> {
    let map = std::fs::read_to_string("/proc/self/uid_map")?;
    Ok(map.split_ascii_whitespace().nth(1) == Some("0"))
}

impl Launcher {
    pub(super) fn new() -> io::Result<Self> {
        let own = |kind: &str| Ok((kind.to_owned(), launch::namespace(kind)?));
        Ok(Self {
            bubblewrap: std::env::var_os("PATH").and_then(|path| find("bwrap", &path)),
            exe: File::from(rustix::fs::open("/proc/self/exe", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?),
            outer: launch::OWN.into_iter().map(own).collect::<io::Result<_>>()?,
            network: launch::namespace(launch::NETWORK)?,
            covered: {
                let switches: &[&str] = if is_root_outside()? { &SWITCHES } else { &OPEN_TO_ALL };
                switches.iter().copied().filter(|path| Path::new(path).exists()).collect()
            },
        })
    }

    /// What the launcher is told.
    fn job(&self, command: &StepCommand, netns: Netns, given: &Given) -> Job {
        let network = (netns != Netns::Host).then(|| (launch::NETWORK.to_owned(), self.network.clone()));
        Job {
            argv: command.argv.clone(),
            env: command.env.clone(),
            landlock: given.terms.landlock,
            seccomp: given.terms.seccomp,
            outer: self.outer.iter().cloned().chain(network).collect(),
        }
    }
}

impl Launch for Launcher {
    type Step = Fence;

    fn mount(&mut self, view: View) -> Result<(), String> {
        root::build(&view, self.bubblewrap.as_deref())
    }

    fn in_memory(&self) -> u64 {
        processes::in_memory(Path::new("/dev/shm"))
    }

    fn start(&mut self, command: &StepCommand, net: StepNet, given: Given) -> io::Result<Fence> {
        let program = self.bubblewrap.as_ref().ok_or_else(|| io::Error::other("bwrap is not on the agent's PATH"))?;
        let netns = match &net {
            StepNet::Host => Netns::Host,
            StepNet::Own => Netns::Own,
            StepNet::Door(..) => Netns::Door,
        };
        let options = in_memory(c"bubblewrap-options", &options(command, netns, &self.covered))?;
        let job = in_memory(c"step", &serde_json::to_vec(&self.job(command, netns, &given))?)?;
        let (status, status_write) = io::pipe()?;
        let (refusal, refusal_write) = io::pipe()?;
        let exe = self.exe.try_clone()?;
        for read in [&status, &refusal] {
            fcntl_setfl(read, OFlags::NONBLOCK)?;
        }
        // For bubblewrap and the launcher, which close them to the step. Nothing else is started in between: one thread.
        for fd in [options.as_fd(), status_write.as_fd(), exe.as_fd(), job.as_fd(), refusal_write.as_fd()] {
            fcntl_setfd(fd, FdFlags::empty())?;
        }
        if let Some(most) = given.terms.processes {
            limit_processes(most)?;
        }
        let mut bubblewrap = Command::new(program);
        if let Some(entry) = given.cgroup {
            enter_before(&mut bubblewrap, entry);
        }
        if let StepNet::Door(socket, doors) = net {
            door::before(&mut bubblewrap, socket, doors);
        }
        let fds = Descriptors {
            options: options.as_raw_fd(),
            status: status_write.as_raw_fd(),
            launcher: exe.as_raw_fd(),
            job: job.as_raw_fd(),
            refusal: refusal_write.as_raw_fd(),
        };
        let child = bubblewrap
            .args(arguments(fds))
            .env_clear()
            .stdin(Stdio::null())
            .stdout(given.output.try_clone()?)
            .stderr(given.output)
            .process_group(0)
            .spawn()?;
        let monitor = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let monitor = monitor.ok_or_else(|| io::Error::other("a process without an id"))?;
        let [status, refusal] = [status, refusal].map(|read| File::from(OwnedFd::from(read)));
        Ok(Fence { monitor, status, refusal, said: Vec::new() })
    }
}

/// A step's bubblewrap.
pub(super) struct Fence {
    monitor: Pid,
    /// Where bubblewrap tells of its child and of the command's end.
    status: File,
    /// Where the launcher says why it starts nothing.
    refusal: File,
    said: Vec<u8>,
}

impl Fence {
    fn said(&mut self) -> Status {
        // It does not block: what was not written yet is no error.
        let _ = self.status.read_to_end(&mut self.said);
        Status::read(&self.said)
    }

    /// Process 1 of the step's own namespace, the leader of the session and process group that the command is in.
    fn first_inside(&mut self) -> Option<Pid> {
        self.said().child.and_then(Pid::from_raw)
    }
}

impl Signalled for Fence {
    fn process(&self) -> Pid {
        self.monitor
    }

    fn terminate(&mut self) {
        // Process 1 itself can't be asked from outside: the kernel drops signals that it has no handler for.
        let asked = self.first_inside().is_some_and(|first| kill_process_group(first, Signal::TERM).is_ok());
        if !asked {
            // The command was not started yet.
            self.kill();
        }
    }

    fn kill(&mut self) {
        // An error means that it has already ended.
        if let Some(first) = self.first_inside() {
            let _ = kill_process(first, Signal::KILL);
        }
        let _ = kill_process(self.monitor, Signal::KILL);
    }

    fn status(&mut self, of_process: i32) -> Option<i32> {
        let mut why = Vec::new();
        // Nothing there to read is an error too: it does not block.
        let _ = self.refusal.read_to_end(&mut why);
        if !why.is_empty() {
            return None;
        }
        match self.said() {
            Status { exit_code: Some(code), .. } => Some(code),
            // Killed before it could tell.
            Status { exit_code: None, .. } if of_process > 128 => Some(of_process),
            Status { exit_code: None, .. } => None,
        }
    }

    fn is_counted_here(&self) -> bool {
        true
    }
}

/// Has the command's process enter a control group before it becomes the program.
pub(super) fn enter_before(command: &mut Command, entry: OwnedFd) {
    let entry = File::from(entry);
    // SAFETY: the holder has one thread, so in its forked child no lock is held by another one; the closure takes
    // none and writes one byte.
    unsafe { command.pre_exec(move || (&entry).write_all(b"0")) };
}

/// The limit becomes that of the user namespace which bubblewrap makes, so it counts a build's processes and not
/// those of the whole user (Linux 5.14). It can only be lowered again; root's processes are never counted. The holder and
/// the steps beside it count along, so it would be met before the bound of a control group, and by whoever asks next.
fn limit_processes(processes: u64) -> io::Result<()> {
    let now = getrlimit(Resource::Nproc);
    if now.current.is_none_or(|current| current > processes) {
        setrlimit(Resource::Nproc, Rlimit { current: Some(processes), maximum: Some(processes) })?;
    }
    Ok(())
}

fn in_memory(name: &CStr, bytes: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create(name, MemfdFlags::CLOEXEC)?);
    file.write_all(bytes)?;
    file.rewind()?;
    Ok(file)
}

/// The program as the `PATH` names it. Looked up once: spawning by a whole path is a vfork, by a bare name a fork.
fn find(program: &str, path: &OsStr) -> Option<PathBuf> {
    std::env::split_paths(path).map(|dir| dir.join(program)).find(|candidate| {
        candidate.is_absolute()
            && rustix::fs::access(candidate, rustix::fs::Access::EXEC_OK).is_ok()
            && candidate.is_file()
    })
}

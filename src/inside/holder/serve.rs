//! The holder's loop: requests from the agent, exits of steps.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, WaitOptions, pidfd_open, wait};

use super::processes::Processes;
use super::{bare, fenced};
use crate::confine::wire::{Inbox, Netns, Reply, Request, StepId, Terms, send_all};
use crate::domain::spec::StepCommand;
use crate::domain::view::View;
use crate::process::Bound;

/// Orphans are adopted by the holder; they wake nobody, so while steps run they are reaped at least this often.
const REAP_EVERY: Duration = Duration::from_secs(1);

/// What steps take is looked at this often, and more often the nearer one is to its bound.
const LOOK_EVERY: Duration = Duration::from_millis(250);
const LOOK_CLOSELY: Duration = Duration::from_millis(50);

/// How a step is run: under bubblewrap, or with a supervisor.
pub(super) trait Launch {
    /// A step that was started.
    type Step: Signalled;
    /// Makes the view ready.
    fn mount(&mut self, view: View) -> Result<(), String>;
    /// Starts a step that prints to `output`.
    fn start(&mut self, command: &StepCommand, netns: StepNet, given: Given) -> io::Result<Self::Step>;
    /// Bytes of memory that steps fill and no process of theirs has.
    fn in_memory(&self) -> u64 {
        0
    }
}

/// What comes along with a step.
pub(super) struct Given {
    pub(super) terms: Terms,
    pub(super) output: OwnedFd,
    /// The entry of its control group.
    pub(super) cgroup: Option<OwnedFd>,
}

/// The network that a step gets.
pub(super) enum StepNet {
    /// The host's.
    Host,
    /// Its own.
    Own,
    /// Its own, with sockets listening at the door and there, which are to be sent over this one.
    Door(OwnedFd, Vec<SocketAddr>),
}

/// A started step, as far as the loop knows it.
pub(super) trait Signalled {
    /// The process of ours whose exit is the step's exit.
    fn process(&self) -> Pid;
    /// SIGTERM to the step.
    fn terminate(&mut self);
    /// SIGKILL to everything of it.
    fn kill(&mut self);
    /// The step's status, once the process has ended as told: its status, `128 + n` for signal `n`.
    fn status(&mut self, of_process: i32) -> Option<i32>;
    /// Whether the loop counts what it takes; else somebody nearer does, and says so at the end.
    fn is_counted_here(&self) -> bool;
    /// The bound that somebody nearer saw it pass.
    fn over(&mut self) -> Option<Bound> {
        None
    }
}

/// Serves a confined build until the agent's side of the socket closes.
pub(super) fn confined(socket: &OwnedFd) -> io::Result<()> {
    serve(socket, fenced::Launcher::new()?)
}

/// Serves a build without namespaces.
pub(super) fn bare(socket: &OwnedFd) -> io::Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    serve(socket, bare::Launcher::default())
}

struct Entry<S> {
    id: StepId,
    /// Readable once the process has ended.
    watch: OwnedFd,
    step: S,
    terms: Terms,
    over: Option<Bound>,
}

impl<S: Signalled> Entry<S> {
    fn is_counted(&self) -> bool {
        let Terms { memory, processes, .. } = self.terms;
        self.over.is_none() && self.step.is_counted_here() && (memory.is_some() || processes.is_some())
    }
}

fn serve<L: Launch>(socket: &OwnedFd, mut launcher: L) -> io::Result<()> {
    let (mut inbox, mut steps) = (Inbox::new(), Vec::<Entry<L::Step>>::new());
    let mut look_at = Instant::now();
    send_all(socket, &Reply::Ready)?;
    loop {
        let counts = steps.iter().any(Entry::is_counted);
        let patience = if counts { look_at.saturating_duration_since(Instant::now()) } else { REAP_EVERY };
        if wait_for(socket.as_fd(), steps.iter().map(|entry| entry.watch.as_fd()), patience)? {
            if !inbox.receive(socket)? {
                return Ok(());
            }
            while let Some(request) = inbox.message()? {
                carry_out(request, socket, &mut inbox, &mut launcher, &mut steps)?;
            }
        }
        reap(socket, &mut steps)?;
        if counts && Instant::now() >= look_at {
            let is_near = count(&launcher, &mut steps);
            look_at = Instant::now() + if is_near { LOOK_CLOSELY } else { LOOK_EVERY };
        }
    }
}

/// Ends each step that is beyond a bound that the kernel does not keep. Whether one is over half of its memory.
fn count<L: Launch>(launcher: &L, steps: &mut [Entry<L::Step>]) -> bool {
    let (all, shared) = (Processes::look(), launcher.in_memory());
    let mut is_near = false;
    for entry in steps.iter_mut().filter(|entry| entry.is_counted()) {
        let mut used = all.used_by(entry.step.process());
        used.bytes = used.bytes.saturating_add(shared);
        is_near |= entry.terms.memory.is_some_and(|most| used.bytes > most / 2);
        entry.over = used.over(&entry.terms);
        if entry.over.is_some() {
            entry.step.kill();
        }
    }
    is_near
}

/// Whether the socket has something, when it or a step has.
fn wait_for<'a>(
    socket: BorrowedFd<'a>,
    watches: impl Iterator<Item = BorrowedFd<'a>>,
    patience: Duration,
) -> io::Result<bool> {
    let mut fds: Vec<PollFd<'_>> =
        std::iter::once(socket).chain(watches).map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
    let timeout = Timespec::try_from(patience).ok().filter(|_| fds.len() > 1);
    match poll(&mut fds, timeout.as_ref()) {
        Ok(_) => Ok(!fds[0].revents().is_empty()),
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

fn carry_out<L: Launch>(
    request: Request,
    socket: &OwnedFd,
    inbox: &mut Inbox,
    launcher: &mut L,
    steps: &mut Vec<Entry<L::Step>>,
) -> io::Result<()> {
    let find = |steps: &mut Vec<Entry<L::Step>>, id| steps.iter().position(|entry| entry.id == id);
    match request {
        Request::Mount(view) => {
            let reply = launcher.mount(view).map_or_else(Reply::Refused, |()| Reply::Mounted);
            send_all(socket, &reply)
        }
        Request::Start { id, command, netns, doors, terms } => {
            let output = inbox.fd().ok_or_else(|| io::Error::other("a step came without its pipe"))?;
            let door = match netns {
                Netns::Host => StepNet::Host,
                Netns::Own => StepNet::Own,
                Netns::Door => {
                    StepNet::Door(inbox.fd().ok_or_else(|| io::Error::other("a door came without a socket"))?, doors)
                }
            };
            let cgroup = terms.cgroup.then(|| inbox.fd()).flatten();
            if terms.cgroup && cgroup.is_none() {
                return Err(io::Error::other("a step came without its control group"));
            }
            let given = Given { terms, output, cgroup };
            let reply = match launcher.start(&command, door, given).and_then(|step| entry(id, step, terms)) {
                Ok(entry) => {
                    steps.push(entry);
                    Reply::Started(id)
                }
                Err(error) => Reply::NotStarted { id, why: error.to_string() },
            };
            send_all(socket, &reply)
        }
        // A step that is no longer there has ended by itself; its exit is on the way.
        Request::Terminate(id) => {
            find(steps, id).into_iter().for_each(|at| steps[at].step.terminate());
            Ok(())
        }
        Request::Kill(id) => {
            find(steps, id).into_iter().for_each(|at| steps[at].step.kill());
            Ok(())
        }
    }
}

fn entry<S: Signalled>(id: StepId, mut step: S, terms: Terms) -> io::Result<Entry<S>> {
    match pidfd_open(step.process(), PidfdFlags::empty()) {
        Ok(watch) => Ok(Entry { id, watch, step, terms, over: None }),
        Err(error) => {
            step.kill();
            Err(error.into())
        }
    }
}

/// Reaps whatever has ended, orphans too, and tells of the steps among them.
fn reap<S: Signalled>(socket: &OwnedFd, steps: &mut Vec<Entry<S>>) -> io::Result<()> {
    while let Ok(Some((process, status))) = wait(WaitOptions::NOHANG) {
        let Some(at) = steps.iter().position(|entry| entry.step.process() == process) else { continue };
        let Some(code) = status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal)) else {
            continue;
        };
        let mut entry = steps.swap_remove(at);
        let status = entry.step.status(code);
        let over = entry.over.or_else(|| entry.step.over());
        send_all(socket, &Reply::Exited { id: entry.id, status, over })?;
    }
    Ok(())
}

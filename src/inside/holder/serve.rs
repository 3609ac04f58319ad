//! The holder's loop: requests from the agent, exits of steps.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, WaitOptions, pidfd_open, wait};

use super::{bare, fenced};
use crate::confine::wire::{Inbox, Netns, Reply, Request, StepId, send_all};
use crate::domain::spec::StepCommand;
use crate::domain::view::View;

/// Orphans are adopted by the holder; they wake nobody, so while steps run they are reaped at least this often.
const REAP_EVERY: Timespec = Timespec { tv_sec: 1, tv_nsec: 0 };

/// How a step is run: under bubblewrap, or with a supervisor.
pub(super) trait Launch {
    /// A step that was started.
    type Step: Signalled;
    /// Makes the view ready.
    fn mount(&mut self, view: View) -> Result<(), String>;
    /// Starts a step that prints to `output`.
    fn start(&mut self, command: &StepCommand, netns: StepNet, output: OwnedFd) -> io::Result<Self::Step>;
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
}

/// Serves a confined build until the agent's side of the socket closes.
pub(super) fn confined(socket: &OwnedFd) -> io::Result<()> {
    serve(socket, fenced::Launcher::new())
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
}

fn serve<L: Launch>(socket: &OwnedFd, mut launcher: L) -> io::Result<()> {
    let (mut inbox, mut steps) = (Inbox::new(), Vec::<Entry<L::Step>>::new());
    send_all(socket, &Reply::Ready)?;
    loop {
        if wait_for(socket.as_fd(), steps.iter().map(|entry| entry.watch.as_fd()))? {
            if !inbox.receive(socket)? {
                return Ok(());
            }
            while let Some(request) = inbox.message()? {
                carry_out(request, socket, &mut inbox, &mut launcher, &mut steps)?;
            }
        }
        reap(socket, &mut steps)?;
    }
}

/// Whether the socket has something, when it or a step has.
fn wait_for<'a>(socket: BorrowedFd<'a>, watches: impl Iterator<Item = BorrowedFd<'a>>) -> io::Result<bool> {
    let mut fds: Vec<PollFd<'_>> =
        std::iter::once(socket).chain(watches).map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
    let timeout = (fds.len() > 1).then_some(REAP_EVERY);
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
        Request::Start { id, command, netns, doors } => {
            let output = inbox.fd().ok_or_else(|| io::Error::other("a step came without its pipe"))?;
            let door = match netns {
                Netns::Host => StepNet::Host,
                Netns::Own => StepNet::Own,
                Netns::Door => {
                    StepNet::Door(inbox.fd().ok_or_else(|| io::Error::other("a door came without a socket"))?, doors)
                }
            };
            let reply = match launcher.start(&command, door, output).and_then(|step| entry(id, step)) {
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

fn entry<S: Signalled>(id: StepId, mut step: S) -> io::Result<Entry<S>> {
    match pidfd_open(step.process(), PidfdFlags::empty()) {
        Ok(watch) => Ok(Entry { id, watch, step }),
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
        send_all(socket, &Reply::Exited { id: entry.id, status })?;
    }
    Ok(())
}

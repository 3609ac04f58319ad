//! A step under bubblewrap, inside the holder's namespaces.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use rustix::fs::{MemfdFlags, OFlags, fcntl_setfl, memfd_create};
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, kill_process_group, setrlimit};

use super::door;
use super::root;
use super::serve::{Launch, Signalled, StepNet};
use crate::confine::bubblewrap::{Status, arguments, options};
use crate::confine::wire::Netns;
use crate::domain::spec::StepCommand;
use crate::domain::view::View;

/// Starts steps under bubblewrap.
pub(super) struct Launcher {
    bubblewrap: Option<PathBuf>,
}

impl Launcher {
    pub(super) fn new() -> Self {
        Self { bubblewrap: std::env::var_os("PATH").and_then(|path| find("bwrap", &path)) }
    }
}

impl Launch for Launcher {
    type Step = Fence;

    fn mount(&mut self, view: View) -> Result<(), String> {
        root::build(&view, self.bubblewrap.as_deref())
    }

    fn start(&mut self, command: &StepCommand, net: StepNet, output: OwnedFd) -> io::Result<Fence> {
        let program = self.bubblewrap.as_ref().ok_or_else(|| io::Error::other("bwrap is not on the agent's PATH"))?;
        let netns = match &net {
            StepNet::Host => Netns::Host,
            StepNet::Own => Netns::Own,
            StepNet::Door(..) => Netns::Door,
        };
        let options = in_memory(&options(command, netns))?;
        let (status, status_write) = io::pipe()?;
        fcntl_setfl(&status, OFlags::NONBLOCK)?;
        // Both are for bubblewrap, which closes them to the step. Nothing else is started in between: one thread.
        for fd in [options.as_fd(), status_write.as_fd()] {
            fcntl_setfd(fd, FdFlags::empty())?;
        }
        limit_processes(command.processes)?;
        let mut bubblewrap = Command::new(program);
        if let StepNet::Door(socket, doors) = net {
            door::before(&mut bubblewrap, socket, doors);
        }
        let child = bubblewrap
            .args(arguments(options.as_raw_fd(), status_write.as_raw_fd(), command))
            .env_clear()
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .spawn()?;
        let monitor = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        let monitor = monitor.ok_or_else(|| io::Error::other("a process without an id"))?;
        Ok(Fence { monitor, status: File::from(OwnedFd::from(status)), said: Vec::new() })
    }
}

/// A step's bubblewrap.
pub(super) struct Fence {
    monitor: Pid,
    /// Where bubblewrap tells of its child and of the command's end.
    status: File,
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
        match self.said() {
            Status { exit_code: Some(code), .. } => Some(code),
            // Killed before it could tell.
            Status { exit_code: None, .. } if of_process > 128 => Some(of_process),
            Status { exit_code: None, .. } => None,
        }
    }
}

/// The limit becomes that of the user namespace which bubblewrap makes, so it counts a build's processes and not
/// those of the whole user (Linux 5.14). It can only be lowered again; root's processes are never counted.
fn limit_processes(processes: u64) -> io::Result<()> {
    let now = getrlimit(Resource::Nproc);
    if now.current.is_none_or(|current| current > processes) {
        setrlimit(Resource::Nproc, Rlimit { current: Some(processes), maximum: Some(processes) })?;
    }
    Ok(())
}

fn in_memory(bytes: &[u8]) -> io::Result<File> {
    let mut file = File::from(memfd_create(c"bubblewrap-options", MemfdFlags::CLOEXEC)?);
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

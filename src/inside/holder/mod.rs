//! The holder of one build: makes the namespaces, joins the view, starts every step, passes on how each ends.
//!
//! Confined, it is process 1 of a PID namespace: the kernel ends everything inside with it, whoever ended it. Bare,
//! each step has a supervisor that ends the step's processes one by one, which a hostile step can escape.
//! It speaks with the agent over the socket that is its standard input; when that closes, it goes.

mod another;
mod bare;
mod bind;
mod devices;
mod door;
mod etc;
mod fenced;
mod loader;
mod namespaces;
mod opened;
mod processes;
mod root;
mod serve;

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::ExitCode;

use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, setrlimit, setsid, umask};

use crate::confine::wire::{self, Reply};
use namespaces::Side;

/// `internal holder confined|bare`, with the agent's socket as standard input.
pub(super) fn enter(args: &[OsString]) -> ExitCode {
    let confined = args.first().is_some_and(|mode| mode == "confined");
    match hold(confined) {
        Ok(code) => code,
        Err(error) => {
            // The agent that would have heard it over the socket is gone, or the socket is.
            eprintln!("hookmill: a build's holder: {error}");
            ExitCode::FAILURE
        }
    }
}

fn hold(confined: bool) -> io::Result<ExitCode> {
    let socket = io::stdin().as_fd().try_clone_to_owned()?;
    if let Err(what) = settle(&socket) {
        wire::send_all(&socket, &Reply::Refused(format!("settle: {what}")))?;
        return Ok(ExitCode::FAILURE);
    }
    if !confined {
        serve::bare(&socket)?;
        return Ok(ExitCode::SUCCESS);
    }
    match namespaces::enter() {
        Ok(Side::Inside) => serve::confined(&socket).map(|()| ExitCode::SUCCESS),
        Ok(Side::Outside(code)) => Ok(code),
        Err(what) => {
            wire::send_all(&socket, &Reply::Refused(what))?;
            Ok(ExitCode::FAILURE)
        }
    }
}

/// What every step inherits, and what none may.
fn settle(socket: &OwnedFd) -> io::Result<()> {
    close_inherited(&[socket.as_fd()]);
    // No controlling terminal: a step that asks for a password must fail, not wait for the person who ran `hookmill run`.
    setsid()?;
    umask(Mode::WGRP | Mode::WOTH);
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    rustix::thread::set_no_new_privs(true)?;
    // When memory runs out, a build's processes go before the agent. Not everywhere writable; then nothing is lost.
    let _ = std::fs::write("/proc/self/oom_score_adj", "500");
    Ok(())
}

/// Closes every descriptor from 3 on but these: whoever started the agent may have left some open.
fn close_inherited(kept: &[std::os::fd::BorrowedFd<'_>]) {
    use std::os::fd::AsRawFd;
    let mut kept: Vec<u32> = kept.iter().filter_map(|fd| u32::try_from(fd.as_raw_fd()).ok()).collect();
    kept.sort_unstable();
    let mut from = 3;
    for fd in kept.into_iter().chain([u32::MAX]) {
        if fd > from {
            // SAFETY: nothing in this single-threaded process owns a descriptor outside of `kept`: it is called at
            // the start, and in a forked supervisor that never returns to what it was forked from.
            unsafe { libc::syscall(libc::SYS_close_range, from, fd - 1, 0) };
        }
        from = fd.saturating_add(1).max(from);
    }
}

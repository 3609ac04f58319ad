//! Namespaces of the holder's own, without root.

use std::process::ExitCode;

use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::{Pid, Signal, WaitOptions, getegid, geteuid, set_parent_process_death_signal, waitpid};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// On which side of the fence this process continues.
pub(super) enum Side {
    /// Process 1 of the new PID namespace.
    Inside,
    /// The process that the agent started; process 1 has ended.
    Outside(ExitCode),
}

/// Makes user, mount, PID, IPC and UTS namespaces, in which the agent's own user is root, and forks process 1 into them.
///
/// # Errors
/// What could not be done and why, to follow "could not".
pub(super) fn enter() -> Result<Side, String> {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    let all = UnshareFlags::NEWUSER
        | UnshareFlags::NEWNS
        | UnshareFlags::NEWPID
        | UnshareFlags::NEWIPC
        | UnshareFlags::NEWUTS;
    // SAFETY: descriptors are not unshared, and there is one thread.
    unsafe { unshare_unsafe(all) }.map_err(|error| format!("make user, mount and PID namespaces: {error}"))?;
    // Only one's own ids can be mapped without privilege, and only after giving up setgroups(2).
    write("/proc/self/setgroups", "deny")?;
    write("/proc/self/uid_map", &format!("0 {uid} 1"))?;
    write("/proc/self/gid_map", &format!("0 {gid} 1"))?;
    // SAFETY: there is one thread, so no lock can be held by another one for ever.
    match unsafe { libc::fork() } {
        -1 => Err(format!("fork: {}", std::io::Error::last_os_error())),
        0 => begin_inside().map(|()| Side::Inside),
        child => Ok(Side::Outside(wait_for(child))),
    }
}

fn begin_inside() -> Result<(), String> {
    // The process outside has one thread, so the signal means that the process has ended, not some thread of it.
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| format!("watch the outer process: {error}"))?;
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(|error| format!("make mounts private: {error}"))
}

/// Stays until process 1 and with it everything inside has ended: only then can the agent see our exit.
fn wait_for(child: i32) -> ExitCode {
    let child = Pid::from_raw(child);
    loop {
        match waitpid(child, WaitOptions::empty()) {
            Ok(Some((_, status))) if status.exit_status() == Some(0) => return ExitCode::SUCCESS,
            Ok(Some(_)) => return ExitCode::FAILURE,
            Err(rustix::io::Errno::INTR) | Ok(None) => {}
            Err(_) => return ExitCode::FAILURE,
        }
    }
}

fn write(path: &str, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("write {path}: {error}"))
}

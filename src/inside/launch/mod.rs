//! The last process before a step: bubblewrap starts it inside the fence, it looks whether there is one, builds the
//! second walls, and becomes the step. Without a fence the step's supervisor starts it, and those walls are the only ones.
//!
//! What it was asked for and can't build, or a fence that is none, starts nothing: the holder hears why, and the build
//! ends as ours to mend.

mod landlock;
mod seccomp;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

use crate::confine::launch::{Job, LANDLOCK, SECCOMP, namespace};

/// What shells say of a program that is not there, and of one that can't be run.
const NOT_FOUND: u8 = 127;
const NOT_RUN: u8 = 126;

/// `internal launch JOB REFUSAL`: two descriptors.
pub(super) fn main(job: &OsString, refusal: &OsString) -> ExitCode {
    let (Some(job), Some(mut refusal)) = (open(job), open(refusal)) else {
        eprintln!("hookmill: `internal` is for hookmill itself");
        return ExitCode::from(2);
    };
    match prepare(job) {
        Ok(job) => become_step(&job),
        Err(why) => {
            // Without somebody who listens there is the output, which says it as well.
            let _ = refusal.write_all(why.as_bytes());
            eprintln!("hookmill: {why}");
            ExitCode::FAILURE
        }
    }
}

/// A descriptor that the holder left open for this process.
fn open(number: &OsString) -> Option<File> {
    let number: i32 = number.to_str()?.parse().ok().filter(|number| *number > 2)?;
    // SAFETY: nothing else in this process, which has only begun, owns a descriptor.
    Some(unsafe { File::from_raw_fd(number) })
}

/// Everything before the step. What could not be done and why.
fn prepare(job: File) -> Result<Job, String> {
    close_at_exec().map_err(|error| format!("descriptors could not be kept from the step: {error}"))?;
    let job: Job = serde_json::from_reader(io::BufReader::new(job))
        .map_err(|error| format!("the step could not be read: {error}"))?;
    for (kind, outer) in &job.outer {
        let own = namespace(kind).map_err(|error| format!("the {kind} namespace can't be read: {error}"))?;
        if own == *outer {
            return Err(format!("bubblewrap built no fence: the step would run in the holder's own {kind} namespace"));
        }
    }
    give_up_capabilities().map_err(|error| format!("root's privileges could not be given up: {error}"))?;
    if let Some(opened) = &job.landlock {
        landlock::put_on(opened).map_err(|error| format!("{LANDLOCK}: {error}"))?;
    }
    if job.seccomp {
        seccomp::put_on().map_err(|error| format!("{SECCOMP}: {error}"))?;
    }
    Ok(job)
}

/// Those of a step whose agent is root and has no fence, where bubblewrap would have taken them: to the machine's network,
/// to everybody's files. No exec gives them back (`no_new_privs`).
fn give_up_capabilities() -> io::Result<()> {
    let none = CapabilitySet::empty();
    Ok(set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })?)
}

/// All of ours and this binary's own: a step begins with standard input and output.
fn close_at_exec() -> io::Result<()> {
    // SAFETY: the call changes a flag of descriptors and closes none.
    match unsafe { libc::syscall(libc::SYS_close_range, 3u32, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) } {
        0 => Ok(()),
        _ => each_closed_at_exec(),
    }
}

/// Before Linux 5.11 `close_range(2)` knows no flag.
fn each_closed_at_exec() -> io::Result<()> {
    let open: Vec<i32> = std::fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|fd| *fd > 2)
        .collect();
    for fd in open {
        // SAFETY: the call changes a flag; a descriptor that was the listing's own is an error that changes nothing.
        unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    Ok(())
}

/// Returns only if there is no such program.
fn become_step(job: &Job) -> ExitCode {
    let Some((program, args)) = job.argv.split_first() else {
        eprintln!("hookmill: the command is empty");
        return ExitCode::from(NOT_RUN);
    };
    let error = Command::new(program).args(args).env_clear().envs(environment(job)).exec();
    // Without the number, as other programs say it.
    let words = error.to_string();
    let words = words.split(" (os error").next().unwrap_or_default();
    eprintln!("hookmill: execvp {program}: {words}");
    ExitCode::from(if error.kind() == io::ErrorKind::NotFound { NOT_FOUND } else { NOT_RUN })
}

/// With the directory in which bubblewrap started it, as a shell would say.
fn environment(job: &Job) -> BTreeMap<String, String> {
    let mut env = job.env.clone();
    if let Ok(dir) = std::env::var("PWD") {
        env.entry("PWD".to_owned()).or_insert(dir);
    }
    env
}

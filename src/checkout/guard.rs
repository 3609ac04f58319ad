//! The bounds that the child process sets on itself before it reads a byte of anybody's.

use rustix::process::{Resource, Rlimit};

use super::Source;

/// Memory that the process may write to. What it maps of packs to read does not count, and has its own bound: together
/// with the agent they stay below 1 GB, whatever a repository holds.
pub(super) const MAX_MEMORY: u64 = 800 << 20;
/// What is mapped of packs at once, in windows of this size each.
const MAPPED: (usize, usize) = (128 << 20, 32 << 20);
/// How long libgit2's own transports would wait. Nothing is fetched through them: what is, has its deadlines in
/// `transport`. Should one ever be used, it does not wait for ever.
const UNUSED_TRANSPORTS: i32 = 60_000;

/// Seconds of computing that a fetch may take, whatever comes in.
const COMPUTING: u64 = 10;
/// Further seconds for each MiB that comes in. A history that repeats a file of 1 MB a thousand times in one MiB takes
/// about three: what is beyond this was made to be unpacked for ever.
const COMPUTING_PER_MIB: u64 = 8;

/// Limits this process and libgit2 in it. Once, before any other use of git.
///
/// # Errors
/// When libgit2 can't be set up; limits that the system refuses to lower are left as they are.
pub fn prepare(source: &Source) -> Result<(), git2::Error> {
    match source {
        Source::Remote(_) => prepare_unattended(),
        Source::Local(_) => bound(),
    }
}

/// The same for what is done without a job: nobody's configuration is heeded.
///
/// # Errors
/// As [`prepare`].
pub fn prepare_unattended() -> Result<(), git2::Error> {
    bound()?;
    // SAFETY: no thread of this process uses libgit2 yet.
    unsafe { ignore_user_configuration() }
}

fn bound() -> Result<(), git2::Error> {
    for (what, most) in [(Resource::Data, MAX_MEMORY), (Resource::Core, 0)] {
        // The limit may be lower already, and then that one holds.
        let _ = rustix::process::setrlimit(what, Rlimit { current: Some(most), maximum: Some(most) });
    }
    // Modes of files are git's to say, not our umask's.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    git2::opts::strict_hash_verification(true);
    // SAFETY: these change libgit2's global state; no thread of this process uses it yet.
    unsafe {
        git2::opts::set_verify_owner_validation(true)?;
        git2::opts::set_mwindow_mapped_limit(MAPPED.0)?;
        git2::opts::set_mwindow_size(MAPPED.1)?;
        git2::opts::set_server_connect_timeout_in_milliseconds(UNUSED_TRANSPORTS)?;
        git2::opts::set_server_timeout_in_milliseconds(UNUSED_TRANSPORTS)?;
        git2::opts::set_cache_max_size(64 << 20)
    }
}

/// Bounds the time for which this process computes by what it has received: `None` takes the bound away. A few kilobytes
/// can describe terabytes of differences to differences, and libgit2 unpacks them all without a pause. The kernel ends the
/// process with SIGXCPU, which [`super::client`] puts into words.
pub(super) fn bound_computing(received: Option<u64>) {
    let current = received.map(|bytes| COMPUTING + (bytes >> 20) * COMPUTING_PER_MIB);
    let maximum = rustix::process::getrlimit(Resource::Cpu).maximum;
    // A lower limit that the system sets holds.
    let _ = rustix::process::setrlimit(Resource::Cpu, Rlimit { current: current.or(maximum), maximum });
}

/// No configuration of a person or a machine bends what the agent fetches (`url.*.insteadOf`,
/// proxies, filters). `hookmill run` keeps it: there it says which of the person's files are ignored.
///
/// # Safety
/// As all of `git2::opts`: no other thread uses libgit2.
unsafe fn ignore_user_configuration() -> Result<(), git2::Error> {
    use git2::ConfigLevel::{Global, ProgramData, System, XDG};
    for level in [ProgramData, System, XDG, Global] {
        // SAFETY: the caller's promise.
        unsafe { git2::opts::set_search_path(level, "")? };
    }
    Ok(())
}

//! The one pipe for standard output and standard error, in the order of a terminal.

use std::io;
use std::os::fd::OwnedFd;

/// What the kernel lets an ordinary user have (`fs.pipe-max-size`): few wake-ups for a step that prints a lot.
#[cfg(target_os = "linux")]
const WANTED: usize = 1024 * 1024;

/// A pipe for a step's output: the end to read, the end to give away. Neither is inherited by accident.
///
/// # Errors
/// When the process may not open more files.
pub fn output_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = std::io::pipe()?;
    let (read, write) = (OwnedFd::from(read), OwnedFd::from(write));
    #[cfg(target_os = "linux")]
    if rustix::pipe::fcntl_setpipe_size(&read, WANTED).is_err() {
        // Past the user's share of pipe pages the kernel refuses; the default of 64 KiB works, only slower.
        let _ = rustix::pipe::fcntl_setpipe_size(&read, WANTED / 4);
    }
    Ok((read, write))
}

//! The one pipe for standard output and standard error, in the order of a terminal.

use std::io;
use std::os::fd::OwnedFd;

use rustix::buffer::spare_capacity;
use rustix::io::{Errno, ioctl_fionbio};
use tokio::net::unix::pipe::Receiver;

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

/// What is read at a time. Of more the allocator asks the kernel, each time for clean pages.
const PIECE: usize = 64 * 1024;

/// The end that is read. It is watched only while it is empty: the kernel wakes whoever watches a pipe at every write, and a
/// program that prints fast waits for that each time.
pub(super) enum Output {
    Unwatched(OwnedFd),
    Watched(Receiver),
    /// Nothing more comes, or nobody listens any more.
    Over,
}

impl Output {
    pub(super) fn new(read: OwnedFd) -> io::Result<Self> {
        ioctl_fionbio(&read, true)?;
        Ok(Self::Unwatched(read))
    }

    pub(super) fn is_over(&self) -> bool {
        matches!(self, Self::Over)
    }

    /// The next bytes, once there are some; none when it is over. A dropped call loses nothing.
    pub(super) async fn read(&mut self) -> Vec<u8> {
        loop {
            if let Self::Watched(receiver) = self {
                // What can't be watched can't be read either, and is told by that.
                let _ = receiver.readable().await;
            }
            let read = match std::mem::replace(self, Self::Over) {
                Self::Watched(receiver) => receiver.into_nonblocking_fd(),
                Self::Unwatched(read) => Ok(read),
                Self::Over => return Vec::new(),
            };
            let Ok(read) = read else { continue };
            let mut bytes = Vec::with_capacity(PIECE);
            match rustix::io::read(&read, spare_capacity(&mut bytes)) {
                Ok(0) => {}
                Ok(_) => {
                    *self = Self::Unwatched(read);
                    return bytes;
                }
                Err(Errno::INTR) => *self = Self::Unwatched(read),
                Err(Errno::AGAIN) => *self = Receiver::from_owned_fd_unchecked(read).map_or(Self::Over, Self::Watched),
                Err(_) => {}
            }
        }
    }
}

//! The one pipe for standard output and standard error, in the order of a terminal.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::io::{Errno, ioctl_fionbio};
use tokio::net::unix::pipe::Receiver;
use tokio::task::consume_budget;
use tokio::time::sleep;

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
/// Where the kernel watches no more pipes (`fs.epoll.max_user_watches`), an empty one is looked at again after so long.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// The end that is read, until nothing more comes or nobody listens any more.
pub(super) struct Output(Option<OwnedFd>);

impl Output {
    pub(super) fn new(read: OwnedFd) -> io::Result<Self> {
        ioctl_fionbio(&read, true)?;
        Ok(Self(Some(read)))
    }

    pub(super) fn is_over(&self) -> bool {
        self.0.is_none()
    }

    pub(super) fn close(&mut self) {
        self.0 = None;
    }

    /// The next bytes, once there are some; none when it is over. A dropped call loses nothing.
    pub(super) async fn read(&mut self) -> Vec<u8> {
        while let Some(read) = &self.0 {
            // A program that prints without a pause lets others have their turn, and a deadline its effect.
            consume_budget().await;
            let mut bytes = Vec::with_capacity(PIECE);
            match rustix::io::read(read, spare_capacity(&mut bytes)) {
                Ok(0) => self.close(),
                Ok(_) => return bytes,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => until_readable(read).await,
                Err(_) => self.close(),
            }
        }
        Vec::new()
    }
}

/// Watches a pipe only now, while it is empty: the kernel wakes whoever watches one at every write, and a program that prints
/// fast waits for that each time.
async fn until_readable(read: &OwnedFd) {
    let watched = read.try_clone().and_then(Receiver::from_owned_fd_unchecked);
    match watched {
        // What can't be awaited is told by the next read.
        Ok(watched) => drop(watched.readable().await),
        Err(_) => sleep(LOOK_AGAIN).await,
    }
}

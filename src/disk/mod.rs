//! The disk of the data directory: how much room is left on it, what follows from that, and a reserve for the last words.
//!
//! Two things run out: bytes, and inodes on file systems that count them. Below a first mark no build is started and what
//! can be spared goes; at an eighth of it builds that run are stopped; at half of that the reserve is given up, so that
//! the store has room to write what happened.

mod reserve;
mod running;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::config::server::Space;
use reserve::Reserve;
use running::Running;
pub use running::Writer;

/// The part of the first mark below which builds that run are stopped.
const CRITICAL: u64 = 8;

/// What is free on a file system, and of how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Bytes that we may still write.
    pub bytes_free: u64,
    /// Bytes altogether.
    pub bytes: u64,
    /// Files and folders that we may still make.
    pub inodes_free: u64,
    /// Files and folders altogether; 0 where the file system counts none.
    pub inodes: u64,
}

impl Room {
    /// Of the file system that `path` is on (`statvfs(3)`).
    pub fn of(path: &Path) -> io::Result<Room> {
        let fs = rustix::fs::statvfs(path)?;
        Ok(Room {
            bytes_free: fs.f_bavail.saturating_mul(fs.f_frsize),
            bytes: fs.f_blocks.saturating_mul(fs.f_frsize),
            inodes_free: fs.f_favail,
            inodes: fs.f_files,
        })
    }
}

/// How much room there is, in steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// As it should be.
    Fine,
    /// No build is started; what can be spared goes.
    Low,
    /// Builds that run are stopped.
    Critical,
    /// The reserve is given up.
    Spent,
}

/// What a look at the disk found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// How much room there is, in steps.
    pub level: Level,
    /// What is free.
    pub room: Room,
    /// In words: `120 MiB free, and below 1024 MiB …`.
    pub words: String,
}

/// The disk of a data directory. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Disk(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    dir: PathBuf,
    space: Space,
    reserve: Reserve,
    running: Running,
    asked: Notify,
}

impl Disk {
    /// Of the file system that `dir` is on. Nothing is read or written yet.
    pub fn new(dir: &Path, space: &Space) -> Self {
        let reserve = Reserve::new(dir.join("reserve"), space.reserve);
        Self(Arc::new(Inner {
            dir: dir.to_owned(),
            space: space.clone(),
            reserve,
            running: Running::default(),
            asked: Notify::new(),
        }))
    }

    /// Looks how much is free.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn look(&self) -> io::Result<Look> {
        let room = Room::of(&self.0.dir)?;
        let level = level(&room, &self.0.space);
        Ok(Look { level, room, words: words(&room, &self.0.space) })
    }

    /// Why no build may be started now; `None` when there is room, and where the system does not say.
    pub fn holds_back(&self) -> Option<String> {
        self.look().ok().filter(|look| look.level > Level::Fine).map(|look| look.words)
    }

    /// How many bytes are missing until builds are started again, with a little more, so that it does not go to and fro.
    pub fn missing(&self, room: &Room) -> u64 {
        let low = low_bytes(room, &self.0.space);
        (low + low / 4).saturating_sub(room.bytes_free)
    }

    /// Gives the reserve up. True where there was one: what failed for want of space may be tried again.
    pub fn give_reserve(&self) -> bool {
        self.0.reserve.give()
    }

    /// Makes the reserve where it is missing and leaves enough room. True where it was made.
    ///
    /// # Errors
    /// When the disk refuses.
    pub fn hold_reserve(&self) -> io::Result<bool> {
        let room = Room::of(&self.0.dir)?;
        let bytes = self.0.reserve.fitting(room.bytes);
        match room.bytes_free >= low_bytes(&room, &self.0.space).saturating_add(bytes) {
            true => self.0.reserve.hold(bytes),
            false => Ok(false),
        }
    }

    /// A build that runs writes into `folder` from now on; `stop` asks it to stop.
    pub fn enter(&self, folder: PathBuf, stop: CancellationToken) -> Writer {
        self.0.running.enter(folder, stop)
    }

    /// Tells the build that takes most to stop, unless one was told and is not gone yet. Its folder and its bytes.
    pub fn stop_largest(&self) -> Option<(PathBuf, u64)> {
        self.0.running.stop_largest()
    }

    /// Asks whoever waits in [`Disk::asked`] to make room.
    pub fn ask(&self) {
        self.0.asked.notify_one();
    }

    /// Returns when somebody asks for room, or did so since the last call.
    pub async fn asked(&self) {
        self.0.asked.notified().await;
    }
}

/// The first mark in bytes: as configured, but on a small disk no more than a share of it.
fn low_bytes(room: &Room, space: &Space) -> u64 {
    space.low.min(room.bytes / 100 * space.low_percent)
}

fn low_inodes(room: &Room, space: &Space) -> u64 {
    room.inodes / 100 * space.low_percent
}

fn level(room: &Room, space: &Space) -> Level {
    let of = |free: u64, low: u64| match free {
        _ if low == 0 || free >= low => Level::Fine,
        _ if free >= low / CRITICAL => Level::Low,
        _ if free >= low / CRITICAL / 2 => Level::Critical,
        _ => Level::Spent,
    };
    of(room.bytes_free, low_bytes(room, space)).max(of(room.inodes_free, low_inodes(room, space)))
}

fn words(room: &Room, space: &Space) -> String {
    let (low, low_inodes) = (low_bytes(room, space), low_inodes(room, space));
    let mib = |bytes: u64| format!("{} MiB", bytes >> 20);
    if room.bytes_free < low {
        return format!("{} left, and no build is started below {} ([data] low)", mib(room.bytes_free), mib(low));
    }
    if room.inodes_free < low_inodes {
        let free = room.inodes_free;
        return format!("{free} files left, and no build is started below {low_inodes} ([data] low_percent)");
    }
    format!("{} free", mib(room.bytes_free))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn space() -> Space {
        Space { low: 1024 * MIB, low_percent: 5, reserve: 64 * MIB }
    }

    #[test]
    fn marks_follow_the_size_of_the_disk() {
        let check = |mib: u64, free: u64, expected| {
            let room = Room { bytes: mib * MIB, bytes_free: free * MIB, inodes: 0, inodes_free: 0 };
            assert_eq!(level(&room, &space()), expected, "{free} of {mib} MiB");
        };
        check(500_000, 1024, Level::Fine);
        check(500_000, 1023, Level::Low);
        check(500_000, 128, Level::Low);
        check(500_000, 127, Level::Critical);
        check(500_000, 64, Level::Critical);
        check(500_000, 63, Level::Spent);
        check(4_000, 200, Level::Fine);
        check(4_000, 199, Level::Low);
        check(4_000, 24, Level::Critical);
        check(100, 5, Level::Fine);
        check(100, 0, Level::Spent);
    }

    #[test]
    fn inodes_run_out_too_where_they_are_counted() {
        let check = |inodes, inodes_free, expected, words: &str| {
            let room = Room { bytes: 500_000 * MIB, bytes_free: 400_000 * MIB, inodes, inodes_free };
            assert_eq!(level(&room, &space()), expected, "{inodes_free} of {inodes}");
            assert_eq!(super::words(&room, &space()), words);
        };
        check(0, 0, Level::Fine, "400000 MiB free");
        check(1000, 50, Level::Fine, "400000 MiB free");
        check(1000, 49, Level::Low, "49 files left, and no build is started below 50 ([data] low_percent)");
        check(1000, 0, Level::Spent, "0 files left, and no build is started below 50 ([data] low_percent)");
    }

    #[test]
    fn a_mark_of_nothing_is_none() {
        let off = Space { low: 0, low_percent: 0, reserve: 0 };
        let room = Room { bytes: 1000, bytes_free: 0, inodes: 10, inodes_free: 0 };
        assert_eq!(level(&room, &off), Level::Fine);
    }
}

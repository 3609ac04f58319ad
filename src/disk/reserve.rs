//! A file that takes room and holds nothing: it goes when the disk is full, so that there is some.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use rustix::fs::FallocateFlags;
use rustix::io::Errno;

/// The part of a disk that the reserve may take at most.
const SHARE: u64 = 100;

/// The reserve of a data directory.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    /// As configured.
    bytes: u64,
    /// Held while the file is made or removed.
    changing: Mutex<()>,
}

impl Reserve {
    pub(super) fn new(path: PathBuf, bytes: u64) -> Self {
        Self { path, bytes, changing: Mutex::default() }
    }

    /// How large it is on a disk of that size: as configured, but no more than a hundredth.
    pub(super) fn fitting(&self, disk: u64) -> u64 {
        self.bytes.min(disk / SHARE)
    }

    /// Makes the file where there is none, whole or not at all. True where it was made.
    pub(super) fn hold(&self, bytes: u64) -> io::Result<bool> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        // Blocks, not length: a file with holes would take no room.
        let held = fs::metadata(&self.path).map(|data| data.blocks() * 512).unwrap_or_default();
        if bytes == 0 || held >= bytes {
            return Ok(false);
        }
        let made = self.make(bytes);
        if made.is_err() {
            // Half of it would only take what others need.
            let _ = fs::remove_file(&self.path);
        }
        made.map(|()| true)
    }

    fn make(&self, bytes: u64) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&self.path)?;
        match rustix::fs::fallocate(&file, FallocateFlags::empty(), 0, bytes) {
            // Not every file system can give room beforehand.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => fill(&mut file, bytes),
            other => Ok(other?),
        }
    }

    /// Removes the file. True where there was one.
    pub(super) fn give(&self) -> bool {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        fs::remove_file(&self.path).is_ok()
    }
}

fn fill(file: &mut File, bytes: u64) -> io::Result<()> {
    static PIECE: [u8; 65_536] = [0x5a; 65_536];
    let mut left = usize::try_from(bytes).unwrap_or(usize::MAX);
    while left > 0 {
        let piece = left.min(PIECE.len());
        file.write_all(&PIECE[..piece])?;
        left -= piece;
    }
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_room_until_it_is_given_up() {
        let dir = tempfile::tempdir().expect("a folder");
        let reserve = Reserve::new(dir.path().join("reserve"), 1 << 20);
        assert_eq!((reserve.fitting(1 << 40), reserve.fitting(50 << 20)), (1 << 20, (50 << 20) / 100));
        assert!(!reserve.give(), "there is none");
        assert!(reserve.hold(1 << 20).expect("room"));
        let held = fs::metadata(dir.path().join("reserve")).expect("a file");
        assert!(held.blocks() * 512 >= 1 << 20, "blocks, not a hole: {}", held.blocks());
        assert!(!reserve.hold(1 << 20).expect("it is there"), "once is enough");
        assert!(reserve.give());
        assert!(!reserve.hold(0).expect("nothing to do"), "switched off");
        assert!(!dir.path().join("reserve").exists());
    }

    #[test]
    fn what_can_not_be_whole_is_not_there() {
        let dir = tempfile::tempdir().expect("a folder");
        let reserve = Reserve::new(dir.path().join("none/reserve"), 1 << 20);
        reserve.hold(1 << 20).expect_err("no such folder");
        let mut file = File::create(dir.path().join("filled")).expect("a file");
        fill(&mut file, 100_000).expect("room");
        assert_eq!(file.metadata().expect("a file").len(), 100_000);
    }
}

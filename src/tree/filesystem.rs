//! What a file system can do, tried once.

use std::io;
use std::path::Path;

/// What the file system of a directory is good for when a tree is to be brought somewhere else on it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FileSystem {
    /// Files can share their contents until one of them is written (`FICLONE`): btrfs, XFS, bcachefs.
    pub reflinks: bool,
    /// Every write to a file changes its change time, so that a tree in which somebody worked can be told from one in
    /// which nobody did.
    pub tells_changes: bool,
}

impl FileSystem {
    /// Tries it in `dir`, which has to be writable. What was made for the trial is removed again.
    ///
    /// # Errors
    /// When `dir` can't be written.
    pub fn probe(dir: &Path) -> io::Result<Self> {
        let trial = tempfile::Builder::new().prefix("probe-").tempdir_in(dir)?;
        Ok(Self { reflinks: reflinks(trial.path())?, tells_changes: tells_changes(trial.path()) })
    }
}

#[cfg(target_os = "linux")]
fn reflinks(dir: &Path) -> io::Result<bool> {
    let from = dir.join("from");
    std::fs::write(&from, [b'x'; 4096])?;
    let to = std::fs::File::create(dir.join("to"))?;
    Ok(rustix::fs::ioctl_ficlone(&to, std::fs::File::open(from)?).is_ok())
}

#[cfg(not(target_os = "linux"))]
fn reflinks(_: &Path) -> io::Result<bool> {
    Ok(false)
}

/// The file systems of which it is known. Not among them: tmpfs, where a write through a shared mapping leaves all times
/// as they were (mmap(2) allows it), and what lives on other machines, whose clocks are not ours.
#[cfg(target_os = "linux")]
fn tells_changes(dir: &Path) -> bool {
    /// statfs(2): ext2, ext3 and ext4; XFS; btrfs; F2FS; bcachefs; overlayfs, whose times are those of what is below.
    const KNOWN: [i64; 6] = [0xEF53, 0x5846_5342, 0x9123_683E, 0xF2F5_2010, 0xCA45_1A4E, 0x794C_7630];
    #[allow(clippy::unnecessary_cast, clippy::useless_conversion, reason = "the field's type differs between machines")]
    rustix::fs::statfs(dir).is_ok_and(|answer| KNOWN.contains(&(answer.f_type as i64 & 0xFFFF_FFFF)))
}

#[cfg(not(target_os = "linux"))]
fn tells_changes(_: &Path) -> bool {
    false
}

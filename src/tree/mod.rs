//! The only way to touch a directory that a build may have written.
//!
//! A repository may hold `package.json -> /etc/passwd`, and a build may put `dist -> /` where a
//! folder was. Whoever reads, collects or cleans such a tree by plain paths follows the link. Here
//! every path is resolved beneath an open directory and a link on the way is an error: by
//! openat2(2) with `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS` on Linux, one
//! component at a time with `O_NOFOLLOW` where the kernel has no openat2.
//!
//! The directory that is named to begin with (`root`) is ours and is opened as any path is.

mod copy;
mod dir;
mod filesystem;
mod manifest;
mod overlay;
mod relocate;
mod remove;
mod resolve;
mod spread;
mod walk;

use std::io;
use std::path::{Path, PathBuf};

pub use copy::copy_tree;
pub use dir::{Dir, NewFile};
pub use filesystem::FileSystem;
pub use manifest::{Differences, Manifest, wait_past};
pub use relocate::{move_entry, move_tree};
pub use remove::{empty_trash, remove, rename_away};
pub use walk::{Entry, Kind, Visit, walk};

/// Why a path beneath a root could not be used.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// A component is a symbolic link (or the path would have left the root through one).
    #[error("{}: a link is in the way, and links are not followed here", path.display())]
    Link {
        /// The path as it was asked for, relative to the root.
        path: PathBuf,
    },
    /// The path is absolute or has `..` in it.
    #[error("{}: this path would leave its directory", path.display())]
    Outside {
        /// The path as it was asked for.
        path: PathBuf,
    },
    /// The file is larger than the caller wants to hold.
    #[error("{}: larger than {limit} bytes", path.display())]
    TooLarge {
        /// The path, relative to the root.
        path: PathBuf,
        /// The bound that the caller gave, in bytes.
        limit: u64,
    },
    /// The path is a folder, a pipe, a socket or a device.
    #[error("{}: not a regular file", path.display())]
    NotAFile {
        /// The path, relative to the root.
        path: PathBuf,
    },
    /// The system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The path, relative to the root (or the root itself).
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl TreeError {
    /// True when there is nothing at the path.
    pub fn is_not_found(&self) -> bool {
        matches!(self, TreeError::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// True when the disk or the quota is full.
    pub fn is_disk_full(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self, TreeError::Io { source, .. } if matches!(source.kind(), StorageFull | QuotaExceeded))
    }

    fn from_errno(path: &Path, errno: rustix::io::Errno) -> Self {
        use rustix::io::Errno;
        let path = path.to_owned();
        match errno {
            // openat2 answers EXDEV where a link (or a mount trick) would have left the root.
            Errno::LOOP | Errno::XDEV => TreeError::Link { path },
            _ => TreeError::Io { path, source: errno.into() },
        }
    }
}

/// Reads the regular file `rel` beneath `root`, whole.
///
/// Refuses links anywhere in `rel`, anything that is not a regular file (a pipe would hang the
/// reader), and more than `max_bytes` bytes.
pub fn read_file(root: &Path, rel: &Path, max_bytes: u64) -> Result<Vec<u8>, TreeError> {
    Dir::open(root)?.read_file(rel, max_bytes)
}

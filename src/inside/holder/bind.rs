//! Showing parts of the host below the new root.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::mount::mount_bind_recursive;

/// Where the root is built: a directory that every host has. In the holder's namespace only, what was there is
/// covered; whatever of it is needed is opened before.
pub(super) const NEW_ROOT: &str = "/tmp";

/// What can be done with what is shown. Nothing shown gives privileges by a set-uid bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// Read and execute.
    Read,
    /// Write too.
    Write,
    /// A device node to be used as one.
    Device,
}

/// A root that is being built. Files and mount points are made in one place and seen in another, where something lies
/// between the two.
#[derive(Debug, Clone)]
pub(super) struct Site {
    made: PathBuf,
    seen: PathBuf,
}

impl Site {
    /// One that is seen where it is made.
    pub(super) fn at(dir: impl Into<PathBuf>) -> Self {
        let dir = dir.into();
        Self { made: dir.clone(), seen: dir }
    }

    /// One that is made in a directory, and later seen in another.
    pub(super) fn apart(made: PathBuf, seen: PathBuf) -> Self {
        Self { made, seen }
    }

    /// Where a path of the root is made.
    pub(super) fn make(&self, path: impl AsRef<Path>) -> PathBuf {
        below(&self.made, path.as_ref())
    }

    /// Where a path of the root is seen.
    pub(super) fn under(&self, path: impl AsRef<Path>) -> PathBuf {
        below(&self.seen, path.as_ref())
    }

    /// Makes the mount point for what the descriptor names, at `at` of the root.
    pub(super) fn prepare(&self, fd: &OwnedFd, at: &Path) -> io::Result<()> {
        mount_point(&by_descriptor(fd), &self.make(at))
    }

    /// Mounts what the descriptor names, with every mount below it, at `at` of the root.
    pub(super) fn bind(&self, fd: &OwnedFd, at: &Path, access: Access) -> io::Result<()> {
        let at = self.under(at);
        let source = by_descriptor(fd);
        mount_point(&source, &at)?;
        mount_bind_recursive(&source, &at)?;
        set_attributes(&at, access)
    }
}

/// Of the kind of what is to be mounted on it, unless there is something already.
fn mount_point(source: &str, at: &Path) -> io::Result<()> {
    if at.symlink_metadata().is_ok() {
        return Ok(());
    }
    if fs::metadata(source)?.is_dir() {
        return fs::create_dir_all(at);
    }
    fs::create_dir_all(at.parent().unwrap_or(Path::new(NEW_ROOT)))?;
    fs::File::create(at).map(drop)
}

/// `mount_setattr(2)`, Linux 5.12: unlike a remount it reaches mounts below too and leaves locked flags alone.
fn set_attributes(at: &Path, access: Access) -> io::Result<()> {
    let at = CString::new(at.as_os_str().as_encoded_bytes())?;
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_NOSUID
            | match access {
                Access::Read => libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_RDONLY,
                Access::Write => libc::MOUNT_ATTR_NODEV,
                Access::Device => libc::MOUNT_ATTR_NOEXEC,
            },
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: the path ends in a NUL and the struct is of the size that is told; both outlive the call.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            at.as_ptr(),
            libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn below(dir: &Path, path: &Path) -> PathBuf {
    dir.join(path.strip_prefix("/").unwrap_or(path))
}

/// A descriptor that names a path, whatever covers it later.
pub(super) fn open(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}

/// The path of what a descriptor names.
pub(super) fn by_descriptor(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

//! Moving by rename: no bytes are copied, whatever the size.

use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode};
use rustix::io::{Errno, Result};

use super::dir::names;
use super::remove::{allow_entering, remove_at};
use super::{Dir, TreeError};

/// Moves what is at `rel` beneath `from` to `to_rel` beneath `to`, where nothing may be yet; the folder to hold it has to
/// be there. A folder that forbids it (mode 0555) is asked again with other rights, and gets its own back.
///
/// # Errors
/// When something is there, when there is nothing to move, or when both are not on one file system.
pub fn move_entry(from: &Dir, rel: &Path, to: &Dir, to_rel: &Path) -> std::result::Result<(), TreeError> {
    let (source, name) = from.parent_of(rel)?;
    let (target, to_name) = to.parent_of(to_rel)?;
    rename(source.fd(), name.as_ref(), target.fd(), to_name.as_ref())
        .map_err(|errno| TreeError::Io { path: rel.to_owned(), source: errno.into() })
}

/// Moves everything in the folder `from` into the folder `to`, and removes `from`. Folders that are in both are joined,
/// and stay as they are; anything else that stands in the way is replaced.
///
/// # Errors
/// When both are not on one file system; some of it is moved then.
pub fn move_tree(from: &Path, to: &Path) -> std::result::Result<(), TreeError> {
    let (source, target) = (Dir::open(from)?, Dir::open(to)?);
    merge(source.fd(), target.fd()).map_err(|errno| TreeError::Io { path: from.to_owned(), source: errno.into() })?;
    super::remove(from)
}

fn merge(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    for (name, kind) in names(from)? {
        let name = Path::new(&name);
        match rename(from, name, to, name) {
            Err(Errno::EXIST) if kind.is_dir() && is_folder(to, name)? => {
                let (inner, into) = (open(from, name)?, open(to, name)?);
                merge(inner.fd(), into.fd())?;
            }
            Err(Errno::EXIST) => {
                remove_at(to, name)?;
                rename(from, name, to, name)?;
            }
            answer => answer?,
        }
    }
    Ok(())
}

fn open(dir: BorrowedFd<'_>, name: &Path) -> Result<Dir> {
    let fd = rustix::fs::openat(dir, name, super::resolve::FOLDER, Mode::empty())?;
    Ok(Dir::from_fd(fd))
}

fn is_folder(dir: BorrowedFd<'_>, name: &Path) -> Result<bool> {
    let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(FileType::from_raw_mode(stat.st_mode).is_dir())
}

/// rename(2) that replaces nothing.
fn rename(from: BorrowedFd<'_>, name: &Path, to: BorrowedFd<'_>, to_name: &Path) -> Result<()> {
    match without_replacing(from, name, to, to_name) {
        // A folder that moves to another one has its `..` written, which its own mode has to allow.
        Err(Errno::ACCESS | Errno::PERM) if is_folder(from, name)? => {
            let stat = rustix::fs::statat(from, name, AtFlags::SYMLINK_NOFOLLOW)?;
            allow_entering(from, name)?;
            without_replacing(from, name, to, to_name)?;
            let moved = open(to, to_name)?;
            #[allow(clippy::unnecessary_cast, reason = "the field's type differs between systems")]
            rustix::fs::fchmod(moved.fd(), Mode::from_raw_mode(stat.st_mode & 0o7777))
        }
        answer => answer,
    }
}

#[cfg(target_os = "linux")]
fn without_replacing(from: BorrowedFd<'_>, name: &Path, to: BorrowedFd<'_>, to_name: &Path) -> Result<()> {
    use rustix::fs::RenameFlags;
    match rustix::fs::renameat_with(from, name, to, to_name, RenameFlags::NOREPLACE) {
        // A file system that knows no flags.
        Err(Errno::INVAL | Errno::NOSYS) => looking_first(from, name, to, to_name),
        answer => answer,
    }
}

#[cfg(not(target_os = "linux"))]
fn without_replacing(from: BorrowedFd<'_>, name: &Path, to: BorrowedFd<'_>, to_name: &Path) -> Result<()> {
    looking_first(from, name, to, to_name)
}

/// Between the look and the rename nobody else writes there: the folders are those of one build, which has ended or not
/// begun.
fn looking_first(from: BorrowedFd<'_>, name: &Path, to: BorrowedFd<'_>, to_name: &Path) -> Result<()> {
    match rustix::fs::statat(to, to_name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Err(Errno::EXIST),
        Err(Errno::NOENT) => rustix::fs::renameat(from, name, to, to_name),
        Err(errno) => Err(errno),
    }
}

//! Cleaning up after builds: never through a link, and as deep as a hostile build may nest.

use std::ffi::OsString;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, Mode};
use rustix::io::{Errno, Result};

use super::dir::names;
use super::resolve::FOLDER;
use super::{Dir, TreeError};

/// Folders nested deeper than this are moved up before they are emptied, so that neither our stack
/// nor our open files grow with what a build has nested.
const MAX_NESTING: usize = 64;

/// Removes `path` and all that is in it. Nothing there is no error; a link is removed, not followed.
pub fn remove(path: &Path) -> std::result::Result<(), TreeError> {
    let (parent, name) = split(path)?;
    remove_at(parent.fd(), name.as_ref()).map_err(|errno| TreeError::from_errno(path, errno))
}

/// Moves `path` into `trash` under a fresh name, which takes no time whatever is in it. `trash` is
/// made where it is missing, and has to be on the same file system. Nothing at `path` is no error.
pub fn rename_away(path: &Path, trash: &Path) -> std::result::Result<(), TreeError> {
    let failed = |source| TreeError::Io { path: trash.to_owned(), source };
    std::fs::create_dir_all(trash).map_err(failed)?;
    let into = Dir::open(trash)?;
    let (parent, name) = match split(path) {
        Err(error) if error.is_not_found() => return Ok(()),
        answer => answer?,
    };
    match rustix::fs::renameat(parent.fd(), &name, into.fd(), fresh_name()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        // Not TreeError::from_errno: here EXDEV means what it says, another file system.
        Err(errno) => Err(TreeError::Io { path: path.to_owned(), source: errno.into() }),
    }
}

/// Removes all that is in `trash`, not the folder itself. No such folder is no error.
pub fn empty_trash(trash: &Path) -> std::result::Result<(), TreeError> {
    let dir = match Dir::open(trash) {
        Err(error) if error.is_not_found() => return Ok(()),
        answer => answer?,
    };
    empty(dir.fd(), dir.fd(), 0).map_err(|errno| TreeError::from_errno(trash, errno))
}

/// The folder that holds `path`, by any way, and the last component.
fn split(path: &Path) -> std::result::Result<(Dir, OsString), TreeError> {
    let name = path.file_name().ok_or_else(|| TreeError::Outside { path: path.to_owned() })?;
    let parent = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    Ok((Dir::open(parent)?, name.to_owned()))
}

/// Removes `name` in `dir`, whatever it is.
pub(super) fn remove_at(dir: BorrowedFd<'_>, name: &Path) -> Result<()> {
    match rustix::fs::unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        // Linux says EISDIR of a folder, POSIX and macOS say EPERM.
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(errno) => return Err(errno),
    }
    remove_folder(dir, name, None, 0)
}

/// Empties and removes the folder `name` in `dir`. `top` takes what is nested too deep.
fn remove_folder(dir: BorrowedFd<'_>, name: &Path, top: Option<BorrowedFd<'_>>, depth: usize) -> Result<()> {
    for _ in 0..2 {
        match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::NOTEMPTY | Errno::EXIST) => {}
            Err(errno) => return Err(errno),
        }
        let emptied =
            open_for_emptying(dir, name).and_then(|folder| empty(folder.as_fd(), top.unwrap_or(folder.as_fd()), depth));
        gone(emptied)?;
    }
    gone(rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR))
}

/// What is not there any more has been removed by another, who empties the same trash.
fn gone(removed: Result<()>) -> Result<()> {
    match removed {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

/// Removes everything in `folder`, again and again until it stays empty: folders that were nested
/// too deep come back to its top.
fn empty(folder: BorrowedFd<'_>, top: BorrowedFd<'_>, depth: usize) -> Result<()> {
    loop {
        let entries = names(folder)?;
        if entries.is_empty() {
            return Ok(());
        }
        for (name, kind) in entries {
            let name = Path::new(&name);
            if !kind.is_dir() {
                remove_file(folder, name)?;
            } else if depth < MAX_NESTING {
                remove_folder(folder, name, Some(top), depth + 1)?;
            } else {
                gone(rustix::fs::renameat(folder, name, top, fresh_name()))?;
            }
        }
        // Below the top one pass is enough: nothing is ever moved into a nested folder.
        if depth > 0 {
            return Ok(());
        }
    }
}

fn remove_file(folder: BorrowedFd<'_>, name: &Path) -> Result<()> {
    match gone(rustix::fs::unlinkat(folder, name, AtFlags::empty())) {
        Err(Errno::ACCESS) => {
            make_writable(folder)?;
            gone(rustix::fs::unlinkat(folder, name, AtFlags::empty()))
        }
        answer => answer,
    }
}

/// Opens a folder that is to be emptied; one that forbids it (mode 0555, or overlayfs' mode 0) is
/// opened up first. Only our own folders can be.
fn open_for_emptying(dir: BorrowedFd<'_>, name: &Path) -> Result<std::os::fd::OwnedFd> {
    let open = || rustix::fs::openat(dir, name, FOLDER, Mode::empty());
    let folder = match open() {
        Err(Errno::ACCESS) => {
            allow_entering(dir, name)?;
            open()?
        }
        answer => answer?,
    };
    let mode = rustix::fs::fstat(&folder)?.st_mode;
    if mode & 0o300 != 0o300 {
        make_writable(folder.as_fd())?;
    }
    Ok(folder)
}

fn make_writable(folder: BorrowedFd<'_>) -> Result<()> {
    rustix::fs::fchmod(folder, Mode::from_raw_mode(0o700))
}

/// chmod of a folder that may not be opened, without following a link that took its place.
#[cfg(target_os = "linux")]
pub(super) fn allow_entering(dir: BorrowedFd<'_>, name: &Path) -> Result<()> {
    use std::os::fd::AsRawFd;

    use rustix::fs::OFlags;
    let held = rustix::fs::openat(
        dir,
        name,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    rustix::fs::chmod(format!("/proc/self/fd/{}", held.as_raw_fd()), Mode::from_raw_mode(0o700))
}

#[cfg(not(target_os = "linux"))]
pub(super) fn allow_entering(dir: BorrowedFd<'_>, name: &Path) -> Result<()> {
    rustix::fs::chmodat(dir, name, Mode::from_raw_mode(0o700), AtFlags::SYMLINK_NOFOLLOW)
}

/// A name that no other process, and no other call of this one, gives.
pub(super) fn fresh_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    format!("{}-{nanos:x}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn links_are_removed_and_what_they_point_at_is_left() {
        let victim = tempfile::tempdir().expect("a folder");
        std::fs::write(victim.path().join("kept"), "").expect("a file");
        let root = tempfile::tempdir().expect("a folder");
        let build = root.path().join("build");
        std::fs::create_dir_all(build.join("a")).expect("folders");
        symlink(victim.path(), build.join("a/dist")).expect("a link");
        symlink("/", build.join("root")).expect("a link");
        remove(&build).expect("ours");
        assert!(!build.exists() && victim.path().join("kept").exists());
        remove(&build).expect("nothing there is no error");
        symlink(victim.path(), &build).expect("a link");
        remove(&build).expect("the link itself");
        assert!(victim.path().join("kept").exists());
    }

    #[test]
    fn very_deep_and_forbidding_folders_go_too() {
        let root = tempfile::tempdir().expect("a folder");
        let start = root.path().join("deep");
        std::fs::create_dir(&start).expect("a folder");
        // Deeper than any path may be long: made one level at a time, by handle.
        let mut at = Dir::open(&start).expect("a folder");
        for _ in 0..3000 {
            rustix::fs::mkdirat(at.fd(), "nested", Mode::from_raw_mode(0o755)).expect("a folder");
            at = at.open_dir(Path::new("nested")).expect("a folder");
        }
        let closed = start.join("closed");
        std::fs::create_dir(&closed).expect("a folder");
        std::fs::write(closed.join("file"), "").expect("a file");
        std::fs::set_permissions(&closed, std::fs::Permissions::from_mode(0o000)).expect("ours");
        remove(&start).expect("all of it");
        assert!(!start.exists());
    }

    #[test]
    fn the_trash_takes_and_is_emptied() {
        let root = tempfile::tempdir().expect("a folder");
        let trash = root.path().join("trash");
        for _ in 0..2 {
            std::fs::create_dir_all(root.path().join("x/y")).expect("folders");
            rename_away(&root.path().join("x"), &trash).expect("same file system");
        }
        rename_away(&root.path().join("x"), &trash).expect("nothing there is no error");
        assert_eq!(std::fs::read_dir(&trash).expect("a folder").count(), 2);
        empty_trash(&trash).expect("ours");
        assert_eq!(std::fs::read_dir(&trash).expect("a folder").count(), 0);
        empty_trash(&root.path().join("none")).expect("no trash is no error");
    }

    #[test]
    fn two_may_empty_the_same_trash() {
        let root = tempfile::tempdir().expect("a folder");
        let trash = root.path().join("trash");
        for place in 0..300 {
            let folder = trash.join(format!("{place}/a/b"));
            std::fs::create_dir_all(&folder).expect("folders");
            std::fs::write(folder.join("file"), "").expect("a file");
        }
        let both = std::sync::Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    both.wait();
                    empty_trash(&trash).expect("what another took is no error");
                });
            }
        });
        assert_eq!(std::fs::read_dir(&trash).expect("a folder").count(), 0);
    }
}

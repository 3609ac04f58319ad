//! From a relative path to an open file, without leaving the root and without following a link.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, Result};

use super::TreeError;

/// Flags with which a folder on the way, or the folder itself, is opened.
pub(super) const FOLDER: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Refuses absolute paths and `..` before the kernel is asked. An empty path is the root itself.
pub(super) fn checked(rel: &Path) -> std::result::Result<&Path, TreeError> {
    let plain = rel.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if plain { Ok(rel) } else { Err(TreeError::Outside { path: rel.to_owned() }) }
}

/// Opens `rel` beneath `dir`. The caller has [`checked`] the path.
pub(super) fn open_beneath(dir: BorrowedFd<'_>, rel: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
    let rel = if rel.as_os_str().is_empty() { Path::new(".") } else { rel };
    let flags = flags | OFlags::CLOEXEC;
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::ResolveFlags;
        let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        // EAGAIN: something was renamed while the kernel walked; it asks to be asked again.
        for _ in 0..64 {
            // Without O_NOFOLLOW: with it, a folder that is a link would be ENOTDIR and not ELOOP.
            match rustix::fs::openat2(dir, rel, flags.difference(OFlags::NOFOLLOW), mode, within) {
                Err(Errno::AGAIN | Errno::INTR) => continue,
                // No such call (before Linux 5.6), or a container's seccomp filter that does not know it.
                Err(Errno::NOSYS | Errno::PERM) => return by_component(dir, rel, flags, mode),
                answer => return answer,
            }
        }
        Err(Errno::AGAIN)
    }
    #[cfg(not(target_os = "linux"))]
    by_component(dir, rel, flags, mode)
}

/// One component at a time, each with `O_NOFOLLOW`: what openat2 does in one call.
fn by_component(dir: BorrowedFd<'_>, rel: &Path, flags: OFlags, mode: Mode) -> Result<OwnedFd> {
    let mut parts = rel.components().filter(|part| matches!(part, Component::Normal(_))).peekable();
    let mut held: Option<OwnedFd> = None;
    while let Some(part) = parts.next() {
        let at = held.as_ref().map_or(dir, AsFd::as_fd);
        let last = parts.peek().is_none();
        let (how, mode) = if last { (flags | OFlags::NOFOLLOW, mode) } else { (FOLDER, Mode::empty()) };
        let next = rustix::fs::openat(at, part.as_os_str(), how, mode).map_err(|errno| {
            // O_DIRECTORY with O_NOFOLLOW answers ENOTDIR for a link; say what it is.
            if errno == Errno::NOTDIR && is_link(at, part.as_os_str().as_ref()) { Errno::LOOP } else { errno }
        })?;
        if last {
            return Ok(next);
        }
        held = Some(next);
    }
    rustix::fs::openat(dir, ".", flags, mode)
}

fn is_link(dir: BorrowedFd<'_>, name: &Path) -> bool {
    rustix::fs::statat(dir, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW)
        .is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode).is_symlink())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_component_refuses_what_openat2_refuses() {
        let root = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(root.path().join("real")).expect("a folder");
        std::fs::write(root.path().join("real/file"), "x").expect("a file");
        std::os::unix::fs::symlink("real", root.path().join("link")).expect("a link");
        std::os::unix::fs::symlink("/etc/passwd", root.path().join("real/out")).expect("a link");
        let dir = std::fs::File::open(root.path()).expect("a folder");
        type Opener = fn(BorrowedFd<'_>, &Path, OFlags, Mode) -> Result<OwnedFd>;
        for open in [open_beneath as Opener, by_component as Opener] {
            let open = |rel: &str| open(dir.as_fd(), Path::new(rel), OFlags::RDONLY, Mode::empty()).map(|_| ());
            let folder = |rel: &str| super::super::Dir::open(root.path()).and_then(|dir| dir.open_dir(Path::new(rel)));
            assert!(matches!(folder("link"), Err(TreeError::Link { .. })));
            assert_eq!(open("real/file"), Ok(()));
            assert_eq!(open("link/file"), Err(Errno::LOOP));
            assert_eq!(open("real/out"), Err(Errno::LOOP));
            assert_eq!(open("real/none"), Err(Errno::NOENT));
            assert_eq!(open("."), Ok(()));
        }
    }

    #[test]
    fn paths_that_leave_are_refused_unseen() {
        assert!(checked(Path::new("a/b")).is_ok() && checked(Path::new("")).is_ok());
        for bad in ["/etc", "../x", "a/../../x"] {
            assert!(matches!(checked(Path::new(bad)), Err(TreeError::Outside { .. })), "{bad}");
        }
    }
}

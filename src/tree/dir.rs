//! An open folder, and what can be done beneath it.

use std::ffi::{CString, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Timespec, Timestamps};
use rustix::io::Errno;

use super::TreeError;
use super::resolve::{FOLDER, checked, open_beneath};
use super::walk::Kind;

/// An open folder. Every path given to its methods is relative to it, and resolved beneath it.
#[derive(Debug)]
pub struct Dir {
    fd: OwnedFd,
}

/// What a file is made with.
#[derive(Debug, Clone, Copy)]
pub struct NewFile {
    /// Whether it may be executed: mode 0755, else 0644.
    pub executable: bool,
    /// Its modification time; `None` leaves the time of writing.
    pub modified: Option<SystemTime>,
}

impl Dir {
    /// Opens a folder that is ours, by any path.
    pub fn open(path: &Path) -> Result<Dir, TreeError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty())
            .map(|fd| Dir { fd })
            .map_err(|errno| TreeError::Io { path: path.to_owned(), source: errno.into() })
    }

    /// Opens the folder `rel`.
    pub fn open_dir(&self, rel: &Path) -> Result<Dir, TreeError> {
        let fd = open_beneath(self.fd.as_fd(), checked(rel)?, FOLDER, Mode::empty())
            .map_err(|errno| TreeError::from_errno(rel, errno))?;
        Ok(Dir { fd })
    }

    /// The names in this folder, in byte order.
    pub fn names(&self) -> Result<Vec<OsString>, TreeError> {
        let names = names(self.fd.as_fd()).map_err(|errno| TreeError::from_errno(Path::new("."), errno))?;
        Ok(names.into_iter().map(|(name, _)| name).collect())
    }

    /// Reads the regular file `rel`, at most `max_bytes` bytes of it.
    pub fn read_file(&self, rel: &Path, max_bytes: u64) -> Result<Vec<u8>, TreeError> {
        let file = self.open_file(rel)?;
        let mut bytes = Vec::new();
        // One byte more than allowed tells "exactly as large" from "larger", whatever the size said before.
        file.take(max_bytes.saturating_add(1))
            .read_to_end(&mut bytes)
            .map_err(|source| TreeError::Io { path: rel.to_owned(), source })?;
        if bytes.len() as u64 > max_bytes {
            return Err(TreeError::TooLarge { path: rel.to_owned(), limit: max_bytes });
        }
        Ok(bytes)
    }

    /// Opens the regular file `rel` for reading. A pipe or a device is refused, without waiting for it.
    pub fn open_file(&self, rel: &Path) -> Result<File, TreeError> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let fd = open_beneath(self.fd.as_fd(), checked(rel)?, flags, Mode::empty())
            .map_err(|errno| TreeError::from_errno(rel, errno))?;
        let stat = rustix::fs::fstat(&fd).map_err(|errno| TreeError::from_errno(rel, errno))?;
        if !FileType::from_raw_mode(stat.st_mode).is_file() {
            return Err(TreeError::NotAFile { path: rel.to_owned() });
        }
        Ok(File::from(fd))
    }

    /// Makes the file `rel` anew; anything that stands there already is an error.
    pub fn write_new(&self, rel: &Path, bytes: &[u8], new: NewFile) -> Result<(), TreeError> {
        self.fill_new(rel, new, |file| file.write_all(bytes))
    }

    fn fill_new(
        &self,
        rel: &Path,
        new: NewFile,
        fill: impl FnOnce(&mut File) -> std::io::Result<()>,
    ) -> Result<(), TreeError> {
        let mode = Mode::from_raw_mode(if new.executable { 0o755 } else { 0o644 });
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let fd = open_beneath(self.fd.as_fd(), checked(rel)?, flags, mode)
            .map_err(|errno| TreeError::from_errno(rel, errno))?;
        let failed = |source| TreeError::Io { path: rel.to_owned(), source };
        let mut file = File::from(fd);
        fill(&mut file).map_err(failed)?;
        if let Some(modified) = new.modified {
            rustix::fs::futimens(&file, &times(modified)).map_err(|errno| failed(errno.into()))?;
        }
        Ok(())
    }

    /// Makes the file `rel`, in the place of whatever stood there (a folder with all that is in it, too).
    pub fn replace(&self, rel: &Path, bytes: &[u8], new: NewFile) -> Result<(), TreeError> {
        self.clear_for(rel, || self.write_new(rel, bytes, new))
    }

    /// Makes the file `rel` a copy of the file at `from`, in the place of whatever stood there. What is copied is never in
    /// memory as a whole.
    pub fn replace_with_copy(&self, rel: &Path, from: &Path, new: NewFile) -> Result<(), TreeError> {
        let copy = |file: &mut File| std::io::copy(&mut File::open(from)?, file).map(drop);
        self.clear_for(rel, || self.fill_new(rel, new, copy))
    }

    /// Makes the symbolic link `rel` with the text `target`, which is never resolved here.
    pub fn replace_link(&self, rel: &Path, target: &[u8], modified: Option<SystemTime>) -> Result<(), TreeError> {
        self.clear_for(rel, || {
            let (parent, name) = self.parent_of(rel)?;
            let failed = |errno| TreeError::from_errno(rel, errno);
            // A NUL can't be in a path; the system's own word for that is EINVAL.
            let text = CString::new(target).map_err(|_| failed(Errno::INVAL))?;
            rustix::fs::symlinkat(&text, parent.fd(), &name).map_err(failed)?;
            match modified {
                Some(at) => rustix::fs::utimensat(parent.fd(), &name, &times(at), AtFlags::SYMLINK_NOFOLLOW),
                None => Ok(()),
            }
            .map_err(failed)
        })
    }

    /// Makes the folder `rel` and those above it, where they are not there yet.
    pub fn make_dir(&self, rel: &Path) -> Result<(), TreeError> {
        let mut made = PathBuf::new();
        for part in checked(rel)?.components() {
            made.push(part);
            let (parent, name) = self.parent_of(&made)?;
            match rustix::fs::mkdirat(parent.fd(), &name, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return Err(TreeError::from_errno(&made, errno)),
            }
        }
        // What was there already may have been a link or a file.
        self.open_dir(rel).map(|_| ())
    }

    /// The text of the symbolic link `rel`.
    pub fn read_link(&self, rel: &Path) -> Result<Vec<u8>, TreeError> {
        let (parent, name) = self.parent_of(rel)?;
        rustix::fs::readlinkat(parent.fd(), &name, Vec::new())
            .map(CString::into_bytes)
            .map_err(|errno| TreeError::from_errno(rel, errno))
    }

    /// Removes `rel`, and all that is in it if it is a folder. Nothing there is no error.
    pub fn remove(&self, rel: &Path) -> Result<(), TreeError> {
        match self.parent_of(rel) {
            Ok((parent, name)) => {
                super::remove::remove_at(parent.fd(), name.as_ref()).map_err(|errno| TreeError::from_errno(rel, errno))
            }
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// What stands at `rel`; a link is a link.
    pub fn kind(&self, rel: &Path) -> Result<Kind, TreeError> {
        let (parent, name) = self.parent_of(rel)?;
        rustix::fs::statat(parent.fd(), &name, AtFlags::SYMLINK_NOFOLLOW)
            .map(|stat| FileType::from_raw_mode(stat.st_mode).into())
            .map_err(|errno| TreeError::from_errno(rel, errno))
    }

    /// Moves `rel`, whatever it is, to the same path beneath `to`, on the same file system. The folder that it comes to
    /// is there already; a file in its place is replaced, a folder that is not empty is an error.
    pub fn rename_into(&self, rel: &Path, to: &Dir) -> Result<(), TreeError> {
        let ((parent, name), (target, _)) = (self.parent_of(rel)?, to.parent_of(rel)?);
        // Not TreeError::from_errno: here EXDEV means what it says, another file system.
        rustix::fs::renameat(parent.fd(), &name, target.fd(), &name)
            .map_err(|errno| TreeError::Io { path: rel.to_owned(), source: errno.into() })
    }

    /// Removes the folder `rel` if it is empty; tells whether it was.
    pub fn remove_if_empty(&self, rel: &Path) -> Result<bool, TreeError> {
        let (parent, name) = self.parent_of(rel)?;
        match rustix::fs::unlinkat(parent.fd(), &name, AtFlags::REMOVEDIR) {
            Ok(()) => Ok(true),
            Err(Errno::NOTEMPTY | Errno::EXIST | Errno::NOENT) => Ok(false),
            Err(errno) => Err(TreeError::from_errno(rel, errno)),
        }
    }

    pub(super) fn from_fd(fd: OwnedFd) -> Self {
        Dir { fd }
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The folder that holds `rel`, opened, and the last component's name.
    pub(super) fn parent_of(&self, rel: &Path) -> Result<(Dir, OsString), TreeError> {
        let name = checked(rel)?.file_name().ok_or_else(|| TreeError::Outside { path: rel.to_owned() })?;
        let parent = self.open_dir(rel.parent().unwrap_or(Path::new("")))?;
        Ok((parent, name.to_owned()))
    }

    /// Runs `make`; when something stands in its place, removes that and runs it again.
    fn clear_for(&self, rel: &Path, make: impl Fn() -> Result<(), TreeError>) -> Result<(), TreeError> {
        match make() {
            Err(TreeError::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {
                self.remove(rel)?;
                make()
            }
            // O_EXCL with a link in the last place is EEXIST, but openat2 may speak of the link first.
            Err(TreeError::Link { .. }) => {
                self.remove(rel)?;
                make()
            }
            answer => answer,
        }
    }
}

/// The names in an open folder with what kind they are, `.` and `..` left out, in name order.
pub(super) fn names(dir: BorrowedFd<'_>) -> rustix::io::Result<Vec<(OsString, FileType)>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name == b"." || name == b".." {
            continue;
        }
        let mut kind = entry.file_type();
        if kind == FileType::Unknown {
            // Some file systems do not tell the kind with the name.
            let stat = rustix::fs::statat(dir, std::ffi::OsStr::from_bytes(name), AtFlags::SYMLINK_NOFOLLOW)?;
            kind = FileType::from_raw_mode(stat.st_mode);
        }
        names.push((OsString::from_vec(name.to_vec()), kind));
    }
    names.sort_unstable_by(|a, b| a.0.cmp(&b.0));
    Ok(names)
}

/// Both times of a file, as utimensat(2) takes them.
fn times(modified: SystemTime) -> Timestamps {
    let since = modified.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let spec =
        Timespec { tv_sec: i64::try_from(since.as_secs()).unwrap_or(i64::MAX), tv_nsec: since.subsec_nanos().into() };
    Timestamps { last_access: spec, last_modification: spec }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: NewFile = NewFile { executable: false, modified: None };

    #[test]
    fn a_manifest_that_is_a_link_is_not_read() {
        let root = tempfile::tempdir().expect("a folder");
        std::os::unix::fs::symlink("/etc/passwd", root.path().join("package.json")).expect("a link");
        let error = super::super::read_file(root.path(), Path::new("package.json"), 100).expect_err("a link");
        assert!(matches!(error, TreeError::Link { .. }), "{error}");
    }

    #[test]
    fn reading_has_a_bound_and_wants_a_regular_file() {
        let root = tempfile::tempdir().expect("a folder");
        let dir = Dir::open(root.path()).expect("a folder");
        dir.write_new(Path::new("f"), b"12345", PLAIN).expect("room");
        assert_eq!(dir.read_file(Path::new("f"), 5).expect("as large as allowed"), b"12345");
        assert!(matches!(dir.read_file(Path::new("f"), 4), Err(TreeError::TooLarge { .. })));
        assert!(matches!(dir.read_file(Path::new(""), 4), Err(TreeError::NotAFile { .. })));
        assert!(dir.read_file(Path::new("none"), 4).expect_err("absent").is_not_found());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_pipe_does_not_hang_the_reader() {
        let root = tempfile::tempdir().expect("a folder");
        rustix::fs::mknodat(rustix::fs::CWD, root.path().join("pipe"), FileType::Fifo, Mode::from_raw_mode(0o600), 0)
            .expect("a pipe");
        let error = super::super::read_file(root.path(), Path::new("pipe"), 9).expect_err("a pipe");
        assert!(matches!(error, TreeError::NotAFile { .. }));
    }

    #[test]
    fn replacing_takes_the_place_of_links_and_folders_and_leaves_their_targets() {
        let root = tempfile::tempdir().expect("a folder");
        let victim = tempfile::tempdir().expect("a folder");
        std::fs::write(victim.path().join("kept"), "kept").expect("a file");
        let dir = Dir::open(root.path()).expect("a folder");
        std::os::unix::fs::symlink(victim.path().join("kept"), root.path().join("a")).expect("a link");
        dir.replace(Path::new("a"), b"new", PLAIN).expect("the link goes");
        std::fs::create_dir_all(root.path().join("b/c")).expect("folders");
        std::os::unix::fs::symlink(victim.path(), root.path().join("b/c/out")).expect("a link");
        dir.replace(Path::new("b"), b"file", PLAIN).expect("the folder goes");
        std::os::unix::fs::symlink(victim.path(), root.path().join("d")).expect("a link");
        assert!(matches!(dir.write_new(Path::new("d/x"), b"", PLAIN), Err(TreeError::Link { .. })));
        assert!(matches!(dir.make_dir(Path::new("d/x")), Err(TreeError::Link { .. })));
        assert_eq!(std::fs::read_to_string(victim.path().join("kept")).expect("still there"), "kept");
        assert_eq!(std::fs::read_dir(victim.path()).expect("a folder").count(), 1);
    }
}

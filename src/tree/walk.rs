//! Every entry of a tree, in a fixed order, links as links.

use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FileType};

use super::dir::names;
use super::{Dir, TreeError};

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A folder.
    Dir,
    /// A symbolic link; never followed.
    Link,
    /// A pipe, a socket, a device.
    Other,
}

impl From<FileType> for Kind {
    fn from(kind: FileType) -> Self {
        match kind {
            FileType::RegularFile => Kind::File,
            FileType::Directory => Kind::Dir,
            FileType::Symlink => Kind::Link,
            _ => Kind::Other,
        }
    }
}

/// One entry as lstat(2) tells of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Relative to the root of the walk.
    pub path: PathBuf,
    /// What it is.
    pub kind: Kind,
    /// Bytes of a file, or of a link's text.
    pub size: u64,
    /// Permission bits: `mode & 0o7777`.
    pub mode: u32,
    /// Modification time: seconds and nanoseconds since 1970.
    pub modified: (i64, u32),
    /// Change time, in the same form: nobody can set it back.
    pub changed: (i64, u32),
    /// The inode's number.
    pub inode: u64,
    /// How many names the inode has.
    pub links: u64,
    /// Bytes that it takes on the disk.
    pub disk_bytes: u64,
    /// overlayfs' mark that a name is gone: a character device with the number 0:0.
    pub whiteout: bool,
}

/// What a visitor wants next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visit {
    /// Go on, into the folder if the entry is one.
    Continue,
    /// Do not go into this folder.
    Skip,
    /// End the walk.
    Stop,
}

/// Visits everything beneath `root`: a folder before what is in it, names in byte order, no link
/// followed. What vanishes during the walk is left out.
pub fn walk(root: &Path, mut visit: impl FnMut(&Entry) -> Visit) -> Result<(), TreeError> {
    let top = Dir::open(root)?;
    let mut waiting = vec![PathBuf::new()];
    while let Some(at) = waiting.pop() {
        let dir = match top.open_dir(&at) {
            Err(error) if error.is_not_found() => continue,
            answer => answer?,
        };
        let mut folders = Vec::new();
        for (name, _) in names(dir.fd()).map_err(|errno| TreeError::from_errno(&at, errno))? {
            let path = at.join(&name);
            let stat = match rustix::fs::statat(dir.fd(), &name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(rustix::io::Errno::NOENT) => continue,
                answer => answer.map_err(|errno| TreeError::from_errno(&path, errno))?,
            };
            let entry = entry(path, &stat);
            match visit(&entry) {
                Visit::Stop => return Ok(()),
                Visit::Continue if entry.kind == Kind::Dir => folders.push(entry.path),
                Visit::Continue | Visit::Skip => {}
            }
        }
        waiting.extend(folders.into_iter().rev());
    }
    Ok(())
}

#[allow(clippy::unnecessary_cast, clippy::useless_conversion, reason = "the fields' types differ between systems")]
fn entry(path: PathBuf, stat: &rustix::fs::Stat) -> Entry {
    let time = |seconds, nanos| (seconds as i64, u32::try_from(nanos).unwrap_or(0));
    Entry {
        path,
        kind: FileType::from_raw_mode(stat.st_mode).into(),
        size: u64::try_from(stat.st_size).unwrap_or(0),
        mode: stat.st_mode as u32 & 0o7777,
        modified: time(stat.st_mtime, stat.st_mtime_nsec),
        changed: time(stat.st_ctime, stat.st_ctime_nsec),
        inode: stat.st_ino as u64,
        links: stat.st_nlink as u64,
        disk_bytes: u64::try_from(stat.st_blocks).unwrap_or(0) * 512,
        whiteout: FileType::from_raw_mode(stat.st_mode).is_char_device() && stat.st_rdev == 0,
    }
}

impl Dir {
    /// What `rel` is. The last component may be a link, and is not followed.
    pub fn entry(&self, rel: &Path) -> Result<Entry, TreeError> {
        let (parent, name) = self.parent_of(rel)?;
        let stat = rustix::fs::statat(parent.fd(), &name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| TreeError::from_errno(rel, errno))?;
        Ok(entry(rel.to_owned(), &stat))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_seen_and_not_entered() {
        let root = tempfile::tempdir().expect("a folder");
        std::fs::create_dir_all(root.path().join("b/inner")).expect("folders");
        std::fs::create_dir(root.path().join("skipped")).expect("a folder");
        std::fs::write(root.path().join("skipped/no"), "").expect("a file");
        std::fs::write(root.path().join("b/inner/file"), "123").expect("a file");
        std::os::unix::fs::symlink("/", root.path().join("a")).expect("a link");
        let mut seen = Vec::new();
        walk(root.path(), |entry| {
            seen.push((entry.path.to_string_lossy().into_owned(), entry.kind));
            if entry.path == Path::new("skipped") { Visit::Skip } else { Visit::Continue }
        })
        .expect("readable");
        let expected = [
            ("a", Kind::Link),
            ("b", Kind::Dir),
            ("skipped", Kind::Dir),
            ("b/inner", Kind::Dir),
            ("b/inner/file", Kind::File),
        ];
        assert_eq!(seen, expected.map(|(path, kind)| (path.to_owned(), kind)));
    }
}

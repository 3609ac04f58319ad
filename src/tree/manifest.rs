//! What a tree was like at a moment, and what became of it since.
//!
//! A build that worked in a tree could have done anything to it: written into a file and set its size and times back,
//! put another file under its name, linked it to somewhere else. The change time tells of all of these, since nobody but
//! the clock sets it; the inode's number tells of what was replaced.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{AtFlags, FileType, Stat};

use super::dir::names;
use super::spread::spread;
use super::{Dir, Kind, TreeError};

/// Every entry of a tree as it was.
#[derive(Debug, Clone, Default)]
pub struct Manifest {
    /// By their paths, the root's empty.
    folders: HashMap<PathBuf, Folder>,
    /// The newest change time in it.
    newest: (i64, u32),
}

/// What differs from a [`Manifest`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Differences {
    /// Entries that are not what they were, or are gone, with the kind that they were of. Of a folder that is gone: the
    /// folder only. In path order.
    pub changed: BTreeMap<PathBuf, Kind>,
    /// Entries that were not there; of a folder: the folder only. In path order.
    pub added: Vec<PathBuf>,
}

#[derive(Debug, Clone)]
struct Folder {
    own: Stamp,
    attributes: Vec<u8>,
    entries: BTreeMap<OsString, Stamp>,
}

/// What is to stay as it is of an entry. A folder's size and times follow what is made and removed in it, which is seen
/// by its names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    kind: Kind,
    mode: u32,
    inode: u64,
    size: u64,
    modified: (i64, u32),
    changed: (i64, u32),
}

impl Stamp {
    #[allow(clippy::unnecessary_cast, clippy::useless_conversion, reason = "the fields' types differ between systems")]
    fn of(stat: &Stat) -> Self {
        let kind = Kind::from(FileType::from_raw_mode(stat.st_mode));
        let (mode, inode) = (stat.st_mode as u32 & 0o7777, stat.st_ino as u64);
        let time = |seconds, nanos| (seconds as i64, u32::try_from(nanos).unwrap_or(0));
        let none = (0, 0);
        match kind {
            Kind::Dir => Stamp { kind, mode, inode, size: 0, modified: none, changed: none },
            _ => Stamp {
                kind,
                mode,
                inode,
                size: u64::try_from(stat.st_size).unwrap_or(0),
                modified: time(stat.st_mtime, stat.st_mtime_nsec),
                changed: time(stat.st_ctime, stat.st_ctime_nsec),
            },
        }
    }
}

impl Manifest {
    /// Looks at everything in `root`, over several threads, and then waits until the file system's clock has passed the
    /// newest change, some milliseconds at most: whatever is changed after this has another change time.
    ///
    /// # Errors
    /// When it can't be read, or was changed in what is the future by the clock.
    pub fn take(root: &Path) -> Result<Self, TreeError> {
        let top = Dir::open(root)?;
        let taken = Mutex::new(Self::default());
        spread(|path| {
            let dir = top.open_dir(path)?;
            let folder = look(&dir).map_err(|errno| TreeError::from_errno(path, errno))?;
            let inner = folder.entries.iter().filter(|(_, stamp)| stamp.kind == Kind::Dir);
            let inner = inner.map(|(name, _)| path.join(name)).collect();
            let newest = folder.entries.values().map(|stamp| stamp.changed).max();
            let mut taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
            taken.newest = taken.newest.max(newest.unwrap_or_default());
            taken.folders.insert(path.to_owned(), folder);
            Ok(inner)
        })?;
        let taken = taken.into_inner().unwrap_or_else(PoisonError::into_inner);
        clock::pass(taken.newest).map_err(|source| TreeError::Io { path: root.to_owned(), source })?;
        Ok(taken)
    }

    /// Compares with what is in `root` now. Folders that were not there are named and not entered.
    ///
    /// # Errors
    /// When `root` can't be read. What is in it and can't be read counts as changed.
    pub fn compare(&self, root: &Path) -> Result<Differences, TreeError> {
        let top = Dir::open(root)?;
        let found = Mutex::new(Differences::default());
        spread(|path| {
            let (differences, inner) = self.compare_folder(&top, path);
            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
            found.changed.extend(differences.changed);
            found.added.extend(differences.added);
            Ok(inner)
        })?;
        let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
        found.added.sort_unstable();
        Ok(found)
    }

    /// The folders named `name`, those in such a folder left out, in path order.
    pub fn folders_named(&self, name: &str) -> Vec<PathBuf> {
        let is_one = |path: &Path| path.file_name().is_some_and(|last| last == name);
        let outermost = |path: &&PathBuf| is_one(path) && !path.ancestors().skip(1).any(is_one);
        let mut folders: Vec<PathBuf> = self.folders.keys().filter(outermost).cloned().collect();
        folders.sort_unstable();
        folders
    }

    /// What `path` was, if it was there.
    pub fn kind(&self, path: &Path) -> Option<Kind> {
        let folder = self.folders.get(path.parent().unwrap_or(Path::new("")))?;
        folder.entries.get(path.file_name()?).map(|stamp| stamp.kind)
    }

    /// The number of entries, without the root.
    pub fn len(&self) -> usize {
        self.folders.values().map(|folder| folder.entries.len()).sum()
    }

    /// Whether there is nothing in the tree.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes `path`, and all that is in it, for something that was not there.
    pub fn forget(&mut self, path: &Path) {
        if let Some(folder) = self.folders.get_mut(path.parent().unwrap_or(Path::new("")))
            && let Some(stamp) = path.file_name().and_then(|name| folder.entries.remove(name))
            && stamp.kind == Kind::Dir
        {
            self.folders.retain(|inner, _| !inner.starts_with(path));
        }
    }

    fn compare_folder(&self, top: &Dir, path: &Path) -> (Differences, Vec<PathBuf>) {
        let mut differences = Differences::default();
        let mut inner = Vec::new();
        let Some(before) = self.folders.get(path) else { return (differences, inner) };
        let now = top.open_dir(path).ok().and_then(|dir| Some((look(&dir).ok()?, dir)));
        let Some((now, _)) = now.filter(|(now, _)| now.own == before.own && now.attributes == before.attributes) else {
            differences.changed.insert(path.to_owned(), Kind::Dir);
            return (differences, inner);
        };
        for (name, stamp) in &before.entries {
            if now.entries.get(name) != Some(stamp) {
                differences.changed.insert(path.join(name), stamp.kind);
            } else if stamp.kind == Kind::Dir {
                inner.push(path.join(name));
            }
        }
        let added = now.entries.keys().filter(|name| !before.entries.contains_key(*name));
        differences.added.extend(added.map(|name| path.join(name)));
        (differences, inner)
    }
}

/// Waits until the file system's clock has passed the change time `changed`, some milliseconds at most: whatever is changed
/// after this has another one.
///
/// # Errors
/// When it lies in what is the future by the clock.
pub fn wait_past(changed: (i64, u32)) -> std::io::Result<()> {
    clock::pass(changed)
}

fn look(dir: &Dir) -> rustix::io::Result<Folder> {
    let own = Stamp::of(&rustix::fs::fstat(dir.fd())?);
    let mut entries = BTreeMap::new();
    for (name, _) in names(dir.fd())? {
        let stat = rustix::fs::statat(dir.fd(), &name, AtFlags::SYMLINK_NOFOLLOW)?;
        entries.insert(name, Stamp::of(&stat));
    }
    Ok(Folder { own, attributes: attributes(dir.fd())?, entries })
}

/// A folder's extended attributes, names and values. Its change time tells of them and of each new file alike, and one of
/// them gives rights to files that are yet to be made (acl(5), default ACLs). Those of files are told by their own
/// change times.
#[cfg(target_os = "linux")]
fn attributes(dir: BorrowedFd<'_>) -> rustix::io::Result<Vec<u8>> {
    use rustix::io::Errno;

    let length = match rustix::fs::flistxattr_query(dir) {
        Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        answer => answer?,
    };
    let mut list = vec![0; length];
    let length = rustix::fs::flistxattr(dir, &mut list)?;
    list.truncate(length);
    let mut all = Vec::new();
    for name in list.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0; rustix::fs::fgetxattr_query(dir, name)?];
        let read = rustix::fs::fgetxattr(dir, name, &mut value)?;
        all.extend_from_slice(name);
        all.push(0);
        all.extend_from_slice(&read.to_le_bytes());
        all.extend_from_slice(&value[..read]);
    }
    Ok(all)
}

#[cfg(not(target_os = "linux"))]
fn attributes(_: BorrowedFd<'_>) -> rustix::io::Result<Vec<u8>> {
    Ok(Vec::new())
}

#[cfg(target_os = "linux")]
mod clock {
    use std::io;
    use std::time::{Duration, Instant};

    use rustix::time::{ClockId, clock_gettime};

    /// The clock's step is a hundredth of a second at most; a change that lies further ahead was made before the clock
    /// was set back.
    const LONGEST: Duration = Duration::from_millis(100);

    /// Waits until the clock from which Linux takes change times (the coarse one, which steps with the timer) is past
    /// `newest`.
    pub(super) fn pass(newest: (i64, u32)) -> io::Result<()> {
        let until = Instant::now() + LONGEST;
        loop {
            let now = clock_gettime(ClockId::RealtimeCoarse);
            if (now.tv_sec, now.tv_nsec) > (newest.0, newest.1.into()) {
                return Ok(());
            }
            if Instant::now() > until {
                return Err(io::Error::other("changed in the future, by this machine's clock"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod clock {
    /// Times are in nanoseconds there.
    pub(super) fn pass(_: (i64, u32)) -> std::io::Result<()> {
        Ok(())
    }
}

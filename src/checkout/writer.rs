//! Writes files into a workspace, and says in the indexes what was written.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use git2::{Index, IndexEntry, IndexTime, ObjectType, Odb, Oid};
use sha2::{Digest, Sha256};

use super::attributes::{Eol, Form};
use super::contents::Contents;
use super::convert;
use super::diff::{Item, Kind};
use super::lfs;
use super::mirror;
use super::refusal::{Refusal, Stop};
use super::submodules::{Modules, top_of};
use crate::tree::{Dir, NewFile, TreeError};

/// Removes files and then the folders that they leave empty.
pub(super) fn remove_gone(src: &Dir, gone: &[Vec<u8>]) -> Result<(), TreeError> {
    let mut folders = BTreeSet::new();
    for path in gone {
        let path = Path::new(OsStr::from_bytes(path));
        src.remove(path)?;
        folders.extend(path.ancestors().skip(1).filter(|folder| !folder.as_os_str().is_empty()));
    }
    // Reverse order puts what lies inside before what it lies in.
    for folder in folders.into_iter().rev() {
        match src.remove_if_empty(folder) {
            Err(error) if !error.is_not_found() => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Writes items, keeping the folder of the last one open.
pub(super) struct Writer<'a> {
    pub(super) odb: &'a Odb<'a>,
    pub(super) src: &'a Dir,
    pub(super) contents: &'a Contents,
    pub(super) modules: &'a Modules,
    pub(super) at: Option<(PathBuf, Dir)>,
}

/// What was written for one item.
pub(super) struct Written {
    pub(super) entry: IndexEntry,
    /// The size of the Git LFS contents that were written in the place of a pointer.
    pub(super) lfs: Option<u64>,
    pub(super) is_lfs_pointer: bool,
    /// The attributes ask for an encoding that is not written here.
    pub(super) encoded: bool,
}

impl Writer<'_> {
    pub(super) fn put(&mut self, item: &Item) -> Result<Written, Stop> {
        let path = Path::new(OsStr::from_bytes(&item.path));
        let (parent, name) = (path.parent().unwrap_or(Path::new("")), path.file_name().unwrap_or_default());
        let name = Path::new(name);
        let plain = Form::default();
        if item.kind == Kind::Submodule {
            self.folder(parent)?.make_dir(name)?;
            return Ok(Written { entry: entry(item, plain, 0), lfs: None, is_lfs_pointer: false, encoded: false });
        }
        let blob = self.odb.read(item.id)?;
        if blob.kind() != ObjectType::Blob {
            return Err(Refusal::tree(&item.path, "is said to be a file and is none").into());
        }
        let data = blob.data();
        if item.kind == Kind::Link {
            self.folder(parent)?.replace_link(name, data, Some(modified(item.id, plain)))?;
            let entry = entry(item, plain, data.len() as u64);
            return Ok(Written { entry, lfs: None, is_lfs_pointer: false, encoded: false });
        }
        let text = String::from_utf8_lossy(&item.path);
        let form = self.contents.form(&text, self.modules);
        let executable = item.kind == Kind::File { executable: true };
        let new = NewFile { executable, modified: Some(modified(item.id, form)) };
        if let Some((pointer, file)) = self.contents.lfs_of(&text) {
            self.folder(parent)?.replace_with_copy(name, file, new)?;
            let lfs = Some(pointer.size);
            let entry = entry(item, form, pointer.size);
            return Ok(Written { entry, lfs, is_lfs_pointer: false, encoded: false });
        }
        let written: Cow<'_, [u8]> = convert::to_worktree(data, item.id, form);
        self.folder(parent)?.replace(name, &written, new)?;
        Ok(Written {
            entry: entry(item, form, written.len() as u64),
            lfs: None,
            is_lfs_pointer: lfs::is_pointer(data),
            encoded: form.encoded,
        })
    }

    fn folder(&mut self, parent: &Path) -> Result<&Dir, TreeError> {
        if self.at.as_ref().is_none_or(|(path, _)| path != parent) {
            self.src.make_dir(parent)?;
            self.at = Some((parent.to_owned(), self.src.open_dir(parent)?));
        }
        let (_, dir) = self.at.as_ref().expect("set just above");
        Ok(dir)
    }
}

/// The indexes of a workspace: ours, of which each `.git` gets a copy that a build may do anything to.
pub(super) struct Indexes {
    folder: PathBuf,
    open: BTreeMap<String, Index>,
}

impl Indexes {
    pub(super) fn new(folder: PathBuf) -> Indexes {
        Indexes { folder, open: BTreeMap::new() }
    }

    /// The file of the repository at `top` (with `/`; empty for the root).
    pub(super) fn file(&self, top: &str) -> PathBuf {
        match top {
            "" => self.folder.join("index"),
            top => self.folder.join(format!("index-{}", &mirror::hex(&Sha256::digest(top))[..32])),
        }
    }

    fn of(&mut self, top: &str) -> Result<&mut Index, Stop> {
        if !self.open.contains_key(top) {
            let index = Index::open(&self.file(top))?;
            self.open.insert(top.to_owned(), index);
        }
        Ok(self.open.get_mut(top).expect("put in just above"))
    }

    /// Takes a path out of the index of the repository that it belonged to.
    pub(super) fn remove(&mut self, path: &[u8], modules: &Modules) -> Result<(), Stop> {
        let text = String::from_utf8_lossy(path);
        let top = top_of(modules, &text);
        Ok(self.of(top)?.remove(Path::new(OsStr::from_bytes(&path[top.len()..])), 0)?)
    }

    /// Puts an entry, whose path is the one in the checkout, into the index of its repository.
    pub(super) fn add(&mut self, mut entry: IndexEntry, modules: &Modules) -> Result<(), Stop> {
        let text = String::from_utf8_lossy(&entry.path).into_owned();
        let top = top_of(modules, &text);
        entry.path.drain(..top.len());
        Ok(self.of(top)?.add(&entry)?)
    }

    /// Writes what changed. Every one of `tops` is there afterwards.
    pub(super) fn write(&mut self, tops: &[String]) -> Result<(), Stop> {
        for top in tops {
            if !self.file(top).exists() {
                self.of(top)?;
            }
        }
        Ok(self.open.values_mut().try_for_each(Index::write)?)
    }
}

/// A file's time, from its content: the same content has the same time in every workspace, and
/// webpack's persistent cache, which compares times first, holds. Within 2000 to 2003.
fn modified(id: Oid, form: Form) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds(id, form).into())
}

fn seconds(id: Oid, form: Form) -> u32 {
    const YEAR_2000: u32 = 946_684_800;
    const FOUR_YEARS: u32 = 4 * 365 * 86_400;
    let bytes = id.as_bytes();
    // The same blob in another form is other contents.
    let shift = u32::from(form.eol != Eol::AsStored) + 2 * u32::from(form.ident) + 4 * u32::from(form.lfs);
    YEAR_2000 + u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]).wrapping_add(shift) % FOUR_YEARS
}

fn entry(item: &Item, form: Form, bytes: u64) -> IndexEntry {
    let zero = IndexTime::new(0, 0);
    let mode = match item.kind {
        Kind::File { executable: true } => 0o100_755,
        Kind::Link => 0o120_000,
        Kind::Submodule => 0o160_000,
        Kind::File { executable: false } | Kind::Folder => 0o100_644,
    };
    IndexEntry {
        ctime: zero,
        mtime: IndexTime::new(i32::try_from(seconds(item.id, form)).unwrap_or(i32::MAX), 0),
        dev: 0,
        ino: 0,
        mode,
        uid: 0,
        gid: 0,
        // git keeps the low 32 bits, and so do we.
        file_size: bytes as u32,
        id: item.id,
        flags: 0,
        flags_extended: 0,
        path: item.path.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_stable_and_plausible() {
        let id = |text: &str| Oid::from_str(text).expect("an id");
        let (low, high) = (id(&"0".repeat(40)), id(&"f".repeat(40)));
        let plain = Form::default();
        assert_eq!(seconds(low, plain), 946_684_800);
        assert!(seconds(high, plain) < 1_072_915_200, "before 2004");
        assert_ne!(seconds(high, plain), seconds(high, Form { ident: true, ..plain }));
    }
}

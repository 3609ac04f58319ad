//! A slot's `src`: exactly the files of one tree, changed into those of the next.
//!
//! `<slot>/state.json` says which tree that is. It is removed before the first change and written
//! after the last, so a child that was killed in between leaves a workspace that nobody believes:
//! it is moved away and written anew.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use git2::{Index, IndexEntry, IndexTime, ObjectType, Odb, Oid};
use serde::{Deserialize, Serialize};

use super::budget::{Budget, Meter, Totals};
use super::diff::{self, Difference, Item, Kind};
use super::gitdir::{self, Head};
use super::listing::{self, Watched};
use super::refusal::{Refusal, Stop};
use crate::tree::{self, Dir, NewFile, TreeError};

/// What a workspace holds.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct State {
    /// Changes with the meaning of this file; another one is not read.
    version: u32,
    /// The machine's start: files written before a power cut may be empty, whatever this file says.
    boot: Option<String>,
    tree: String,
    head: Option<Head>,
    pub(super) totals: Totals,
    pub(super) watched: Watched,
    /// Files that hold a Git LFS pointer and not their contents.
    pub(super) lfs: BTreeSet<String>,
    /// Folders that belong to other repositories, and are empty.
    pub(super) submodules: BTreeSet<String>,
}

const VERSION: u32 = 2;

/// A slot's workspace, opened.
pub(super) struct Workspace {
    slot: PathBuf,
    state: Option<State>,
    /// Removes what was moved away, beside the work.
    cleaning: Option<JoinHandle<()>>,
}

impl Workspace {
    /// Opens the workspace of a slot; the slot's folder is made where it is missing.
    pub(super) fn open(slot: &Path) -> Result<Workspace, Refusal> {
        std::fs::create_dir_all(slot).map_err(|error| Refusal::disk(slot, &error))?;
        let state = std::fs::read(slot.join("state.json"))
            .ok()
            .and_then(|bytes| serde_json::from_slice::<State>(&bytes).ok())
            .filter(|state| state.version == VERSION && state.boot == boot_id());
        Ok(Workspace { slot: slot.to_owned(), state, cleaning: None })
    }

    /// Where the files are.
    pub(super) fn src(&self) -> PathBuf {
        self.slot.join("src")
    }

    /// Where things are moved that are to be removed.
    pub(super) fn trash(&self) -> PathBuf {
        self.slot.join("trash")
    }

    /// Makes `src` hold exactly the files of `tree`, with `head` as its `.git`. Answers with what
    /// it holds now and the number of paths that were touched.
    pub(super) fn switch(
        &mut self,
        odb: &Odb<'_>,
        tree: Oid,
        head: Option<Head>,
        budget: Budget,
    ) -> Result<(State, u64), Stop> {
        let src = self.src();
        // A tree that the mirror no longer has can't be compared with.
        let known = |state: &State| Oid::from_str(&state.tree).is_ok_and(|id| odb.exists(id)) && src.is_dir();
        let state = self.state.take().filter(known);
        let old = state.as_ref().and_then(|state| Oid::from_str(&state.tree).ok());
        let totals = state.as_ref().map_or_else(Totals::default, |state| state.totals);
        let difference = diff::compare(odb, old, tree, Meter::new(budget, totals))?;
        let changed = touched(&difference);
        let state = match state {
            Some(state) if old == Some(tree) && state.head == head => return Ok((state, changed)),
            other => other,
        };
        self.forget()?;
        if state.is_none() {
            self.clear()?;
        }
        let state = self.apply(odb, state, &difference, tree, head)?;
        self.remember(&state)?;
        Ok((state, changed))
    }

    fn apply(
        &self,
        odb: &Odb<'_>,
        state: Option<State>,
        difference: &Difference,
        tree: Oid,
        head: Option<Head>,
    ) -> Result<State, Stop> {
        let (mut watched, mut lfs, mut submodules, old_head) = match state {
            Some(state) => (state.watched, state.lfs, state.submodules, state.head),
            None => Default::default(),
        };
        let src = Dir::open(&self.src())?;
        let mut index = Index::open(&self.index())?;
        remove_gone(&src, &difference.gone)?;
        for path in &difference.gone {
            index.remove(Path::new(OsStr::from_bytes(path)), 0)?;
            if let Ok(path) = std::str::from_utf8(path) {
                lfs.remove(path);
                submodules.remove(path);
            }
        }
        let mut writer = Writer { odb, src: &src, at: None };
        for item in &difference.put {
            let written = writer.put(item)?;
            index.add(&index_entry(item, written.bytes))?;
            let path = String::from_utf8_lossy(&item.path);
            if written.is_lfs_pointer {
                lfs.insert(path.into_owned());
            } else if item.kind == Kind::Submodule {
                submodules.insert(path.into_owned());
            }
        }
        listing::carry_on(&mut watched, difference);
        index.write()?;
        match &head {
            Some(head) => {
                if old_head.as_ref() != Some(head) {
                    gitdir::write(&src, head)?;
                }
                self.give_index(&src)?;
            }
            None => src.remove(Path::new(".git"))?,
        }
        let totals = difference.totals;
        Ok(State { version: VERSION, boot: boot_id(), tree: tree.to_string(), head, totals, watched, lfs, submodules })
    }

    /// Waits until what was moved away is gone.
    pub(super) fn finish(mut self) {
        if let Some(cleaning) = self.cleaning.take() {
            // What could not be removed stays in the trash for the next time.
            let _ = cleaning.join();
        }
    }

    /// Our own index; the one in `src` is a copy that a build may do anything to.
    fn index(&self) -> PathBuf {
        self.slot.join("index")
    }

    fn give_index(&self, src: &Dir) -> Result<(), Stop> {
        let bytes = std::fs::read(self.index()).map_err(|error| Refusal::disk(&self.index(), &error))?;
        Ok(src.replace(Path::new(".git/index"), &bytes, NewFile { executable: false, modified: None })?)
    }

    fn forget(&self) -> Result<(), Refusal> {
        let file = self.slot.join("state.json");
        match std::fs::remove_file(&file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Refusal::disk(&file, &error)),
            _ => Ok(()),
        }
    }

    fn remember(&self, state: &State) -> Result<(), Refusal> {
        let (file, new) = (self.slot.join("state.json"), self.slot.join("state.json.new"));
        let bytes = serde_json::to_vec(state).expect("a struct of strings and numbers is JSON");
        std::fs::write(&new, bytes)
            .and_then(|()| std::fs::rename(&new, &file))
            .map_err(|error| Refusal::disk(&file, &error))
    }

    /// Begins with nothing.
    fn clear(&mut self) -> Result<(), Stop> {
        let (src, trash) = (self.src(), self.trash());
        tree::rename_away(&src, &trash)?;
        for left in ["index", "index.lock"] {
            tree::remove(&self.slot.join(left))?;
        }
        std::fs::create_dir(&src).map_err(|error| Refusal::disk(&src, &error))?;
        self.cleaning = Some(std::thread::spawn(move || {
            let _ = tree::empty_trash(&trash);
        }));
        Ok(())
    }
}

/// Paths that were written or removed, each once.
fn touched(difference: &Difference) -> u64 {
    let written: BTreeSet<&[u8]> = difference.put.iter().map(|item| item.path.as_slice()).collect();
    let only_gone = difference.gone.iter().filter(|path| !written.contains(path.as_slice())).count();
    (written.len() + only_gone) as u64
}

/// Removes files and then the folders that they leave empty.
fn remove_gone(src: &Dir, gone: &[Vec<u8>]) -> Result<(), TreeError> {
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
struct Writer<'a> {
    odb: &'a Odb<'a>,
    src: &'a Dir,
    at: Option<(PathBuf, Dir)>,
}

struct Written {
    bytes: u64,
    is_lfs_pointer: bool,
}

impl Writer<'_> {
    fn put(&mut self, item: &Item) -> Result<Written, Stop> {
        let path = Path::new(OsStr::from_bytes(&item.path));
        let (parent, name) = (path.parent().unwrap_or(Path::new("")), path.file_name().unwrap_or_default());
        let name = Path::new(name);
        let dir = self.folder(parent)?;
        if item.kind == Kind::Submodule {
            dir.make_dir(name)?;
            return Ok(Written { bytes: 0, is_lfs_pointer: false });
        }
        let blob = self.odb.read(item.id)?;
        if blob.kind() != ObjectType::Blob {
            return Err(Refusal::tree(&item.path, "is said to be a file and is none").into());
        }
        let data = blob.data();
        let modified = Some(modified(item.id));
        // Folders are opened afresh, so the borrow of `dir` ends with the read above.
        let dir = self.folder(parent)?;
        match item.kind {
            Kind::Link => dir.replace_link(name, data, modified)?,
            kind => {
                let executable = kind == Kind::File { executable: true };
                dir.replace(name, data, NewFile { executable, modified })?;
            }
        }
        let is_lfs_pointer = item.kind != Kind::Link && is_lfs_pointer(data);
        Ok(Written { bytes: data.len() as u64, is_lfs_pointer })
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

/// A Git LFS pointer (git-lfs docs/spec.md): at most 1023 bytes, beginning with its version.
fn is_lfs_pointer(data: &[u8]) -> bool {
    data.len() < 1024 && data.starts_with(b"version https://git-lfs.github.com/spec/")
}

/// A file's time, from its content: the same content has the same time in every workspace, and
/// webpack's persistent cache, which compares times first, holds. Within 2000 to 2003.
fn modified(id: Oid) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds(id).into())
}

fn seconds(id: Oid) -> u32 {
    const YEAR_2000: u32 = 946_684_800;
    const FOUR_YEARS: u32 = 4 * 365 * 86_400;
    let bytes = id.as_bytes();
    YEAR_2000 + u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]) % FOUR_YEARS
}

fn index_entry(item: &Item, bytes: u64) -> IndexEntry {
    let zero = IndexTime::new(0, 0);
    let mode = match item.kind {
        Kind::File { executable: true } => 0o100_755,
        Kind::Link => 0o120_000,
        Kind::Submodule => 0o160_000,
        Kind::File { executable: false } | Kind::Folder => 0o100_644,
    };
    IndexEntry {
        ctime: zero,
        mtime: IndexTime::new(i32::try_from(seconds(item.id)).unwrap_or(i32::MAX), 0),
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

/// Which start of the machine this is, where it tells.
fn boot_id() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_stable_and_plausible() {
        let id = |text: &str| Oid::from_str(text).expect("an id");
        let (low, high) = (id(&"0".repeat(40)), id(&"f".repeat(40)));
        assert_eq!(seconds(low), 946_684_800);
        assert!(seconds(high) < 1_072_915_200, "before 2004");
        assert_eq!(seconds(high), seconds(high));
    }

    #[test]
    fn lfs_pointers_are_told_from_files_that_speak_of_them() {
        assert!(is_lfs_pointer(b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"));
        assert!(!is_lfs_pointer(b"see version https://git-lfs.github.com/spec/v1"));
        assert!(!is_lfs_pointer(&[b"version https://git-lfs.github.com/spec/v1".as_slice(), &[b' '; 2000]].concat()));
    }
}

//! A slot's `src`: exactly the files of one tree, changed into those of the next.
//!
//! `<slot>/state.json` says which tree that is. It is removed before the first change and written
//! after the last, so a child that was killed in between leaves a workspace that nobody believes:
//! it is moved away and written anew.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use git2::{Odb, Oid};
use serde::{Deserialize, Serialize};

use super::budget::{Budget, Meter, Totals};
use super::contents::{AttributeFiles, Contents, LfsSources};
use super::diff::{self, Difference, Kind, Side};
use super::gitdir::{self, Head};
use super::listing::{self, Watched};
use super::refusal::{Refusal, Stop};
use super::submodules::{self, Modules};
use super::writer::{self, Indexes, Writer};
use crate::tree::{self, Dir, NewFile};

/// What a workspace holds.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
pub(super) struct State {
    /// Changes with the meaning of this file; another one is not read.
    version: u32,
    /// The machine's start: files written before a power cut may be empty, whatever this file says.
    boot: Option<String>,
    tree: String,
    head: Option<Head>,
    /// Submodules that are there.
    modules: Modules,
    wishes: Wishes,
    /// Attribute files, by which the other files were written.
    attributes: AttributeFiles,
    /// Sizes of the contents of Git LFS that are there.
    large: BTreeMap<String, u64>,
    /// True when contents of Git LFS are not there because the forge has none.
    pub(super) no_lfs_server: bool,
    /// True when attributes ask for an encoding that is not written here.
    pub(super) encoded: bool,
    pub(super) totals: Totals,
    pub(super) watched: Watched,
    /// Files that hold a Git LFS pointer and not their contents.
    pub(super) lfs: BTreeSet<String>,
    /// Folders that belong to other repositories, and are empty.
    pub(super) submodules: BTreeSet<String>,
}

const VERSION: u32 = 4;

/// What was asked for besides the tree. Another wish is another workspace: it is begun anew.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Wishes {
    pub(super) submodules: bool,
    pub(super) lfs: bool,
}

/// What a workspace is to hold.
pub(super) struct Target<'a> {
    pub(super) tree: Oid,
    /// Its `.git`, if it gets one.
    pub(super) head: Option<Head>,
    pub(super) modules: Modules,
    pub(super) wishes: Wishes,
    pub(super) lfs: &'a LfsSources,
}

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

    /// Makes `src` hold exactly the files of a target. Answers with what it holds now and the number of paths that were
    /// touched.
    pub(super) fn switch(&mut self, odb: &Odb<'_>, target: Target<'_>, budget: Budget) -> Result<(State, u64), Stop> {
        let src = self.src();
        // A tree that the mirrors no longer have can't be compared with.
        let holds = |tree: &str| Oid::from_str(tree).is_ok_and(|id| odb.exists(id));
        let known = |state: &State| {
            let whole = holds(&state.tree) && state.modules.values().all(|module| holds(&module.tree));
            whole && state.wishes == target.wishes && src.is_dir()
        };
        let state = self.state.take().filter(known);
        let trees = submodules::trees(&target.modules);
        let side = Side { tree: target.tree, submodules: &trees };
        let compare = |state: Option<&State>| {
            let old = state.and_then(|state| Oid::from_str(&state.tree).ok());
            let totals = state.map_or_else(Totals::default, |state| state.totals);
            let trees_before = state.map(|state| submodules::trees(&state.modules));
            let before = old.zip(trees_before.as_ref()).map(|(tree, submodules)| Side { tree, submodules });
            diff::compare(odb, before, side, Meter::new(budget, totals))
        };
        let (state, mut difference) = match compare(state.as_ref()) {
            Ok(difference) => (state, difference),
            // Parts of the old tree may be gone although its root is there: what a person's repository lent us
            // goes when it is cleaned up, or when another folder of that name is built.
            Err(_) if state.is_some() => (None, compare(None)?),
            Err(stop) => return Err(stop),
        };
        if let Some(state) = &state
            && state.tree == target.tree.to_string()
            && state.head == target.head
            && state.modules == target.modules
        {
            return Ok((state.clone(), 0));
        }
        let (attributes, large) = match &state {
            Some(state) => (state.attributes.clone(), state.large.clone()),
            None => Default::default(),
        };
        let mut contents = Contents::of(odb, &attributes, &difference)?;
        if state.is_some() {
            contents.add_reformed(odb, &attributes, side, &target.modules, budget, &mut difference)?;
        }
        let large = staying(large, &difference);
        contents.obtain_lfs(odb, &difference, &target.modules, target.lfs, &large, budget)?;
        let changed = touched(&difference);
        self.forget()?;
        if state.is_none() {
            self.clear()?;
        }
        let state = self.apply(odb, state, &difference, contents, large, target)?;
        self.remember(&state)?;
        Ok((state, changed))
    }

    fn apply(
        &self,
        odb: &Odb<'_>,
        state: Option<State>,
        difference: &Difference,
        contents: Contents,
        mut large: BTreeMap<String, u64>,
        target: Target<'_>,
    ) -> Result<State, Stop> {
        let mut known = state.unwrap_or_default();
        let src = Dir::open(&self.src())?;
        let mut indexes = Indexes::new(self.slot.clone());
        writer::remove_gone(&src, &difference.gone)?;
        for path in &difference.gone {
            indexes.remove(path, &known.modules)?;
            if let Ok(path) = std::str::from_utf8(path) {
                known.lfs.remove(path);
                known.submodules.remove(path);
            }
        }
        let mut writer = Writer { odb, src: &src, contents: &contents, modules: &target.modules, at: None };
        let mut encoded = false;
        for item in &difference.put {
            let written = writer.put(item)?;
            indexes.add(written.entry, &target.modules)?;
            let path = String::from_utf8_lossy(&item.path).into_owned();
            encoded |= written.encoded;
            known.lfs.remove(&path);
            if let Some(size) = written.lfs {
                large.insert(path, size);
            } else if written.is_lfs_pointer {
                known.lfs.insert(path);
            } else if item.kind == Kind::Submodule && !target.modules.contains_key(&path) {
                known.submodules.insert(path);
            }
        }
        listing::carry_on(&mut known.watched, difference);
        self.give_git(&src, &known, &mut indexes, &target)?;
        Ok(State {
            version: VERSION,
            boot: boot_id(),
            tree: target.tree.to_string(),
            head: target.head,
            modules: target.modules,
            wishes: target.wishes,
            totals: difference.totals,
            attributes: contents.files,
            large,
            no_lfs_server: (known.no_lfs_server || contents.no_server) && !known.lfs.is_empty(),
            encoded: known.encoded || encoded,
            ..known
        })
    }

    /// Writes the `.git` of the root and of each submodule, where they differ from what is there.
    fn give_git(&self, src: &Dir, known: &State, indexes: &mut Indexes, target: &Target<'_>) -> Result<(), Stop> {
        let tops: Vec<String> =
            std::iter::once(String::new()).chain(target.modules.keys().map(|path| format!("{path}/"))).collect();
        indexes.write(&tops)?;
        let Some(head) = &target.head else { return Ok(src.remove(Path::new(".git"))?) };
        let modules = target.modules.iter().map(|(path, module)| (format!("{path}/"), &module.head));
        for (top, head) in std::iter::once((String::new(), head)).chain(modules) {
            let before = match top.strip_suffix('/') {
                None => known.head.as_ref(),
                Some(path) => known.modules.get(path).map(|module| &module.head),
            };
            let folder = src.open_dir(Path::new(&top))?;
            if before != Some(head) {
                gitdir::write(&folder, head)?;
            }
            let file = indexes.file(&top);
            let bytes = std::fs::read(&file).map_err(|error| Refusal::disk(&file, &error))?;
            folder.replace(Path::new(".git/index"), &bytes, NewFile { executable: false, modified: None })?;
        }
        Ok(())
    }

    /// Waits until what was moved away is gone.
    pub(super) fn finish(mut self) {
        if let Some(cleaning) = self.cleaning.take() {
            // What could not be removed stays in the trash for the next time.
            let _ = cleaning.join();
        }
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
        let entries = std::fs::read_dir(&self.slot).map_err(|error| Refusal::disk(&self.slot, &error))?;
        for entry in entries.flatten().filter(|entry| entry.file_name().as_bytes().starts_with(b"index")) {
            tree::remove(&entry.path())?;
        }
        std::fs::create_dir(&src).map_err(|error| Refusal::disk(&src, &error))?;
        self.cleaning = Some(std::thread::spawn(move || {
            let _ = tree::empty_trash(&trash);
        }));
        Ok(())
    }
}

/// The large files that a difference does not touch.
fn staying(mut large: BTreeMap<String, u64>, difference: &Difference) -> BTreeMap<String, u64> {
    let put = difference.put.iter().map(|item| &item.path);
    for path in difference.gone.iter().chain(put) {
        if let Ok(path) = std::str::from_utf8(path) {
            large.remove(path);
        }
    }
    large
}

/// Paths that were written or removed, each once.
fn touched(difference: &Difference) -> u64 {
    let written: BTreeSet<&[u8]> = difference.put.iter().map(|item| item.path.as_slice()).collect();
    let only_gone = difference.gone.iter().filter(|path| !written.contains(path.as_slice())).count();
    (written.len() + only_gone) as u64
}

/// Which start of the machine this is, where it tells.
fn boot_id() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_owned())
}

//! A build's tree where nothing can be stacked: one directory, that the build writes into.
//!
//! The slot's sources are **lent**: moved into the build's tree by a rename, and back after the build if every tracked
//! file still is what it was; what the build added goes to the trash. So neither costs more than one look at each tracked
//! file. The build may have left anything: nothing that it wrote is followed, opened or believed, and where a tracked
//! file was touched the sources are given up, so that the next checkout begins with nothing. A build that is killed leaves
//! no sources at all, which is the same.
//!
//! Layers of snapshots are [brought](bring) over the sources: by rename where they are this build's alone, else as copies;
//! never as hard links. What an install left is [noted](Installed::note) before anything else runs, and goes out again
//! by rename if it still is that.
//!
//! `.git`, and the files that earlier builds of the workspace wrote into (npm its lockfile, say), are set aside and the
//! build gets copies, so that it may write there as it likes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::domain::view::Stack;
use crate::tree::{self, Differences, Dir, FileSystem, Kind, Manifest, TreeError, Visit};

mod installed;

pub use installed::{Brought, Installed, Parted, bring};

/// Where a build's directories are, all on one file system.
#[derive(Debug, Clone)]
pub struct Places {
    /// The slot's folder of the repository: its `src` holds the sources.
    pub slot: PathBuf,
    /// The tree's own path, the same in every build of a slot.
    pub tree: PathBuf,
    /// The build's directory, which goes to the trash with all that is in it.
    pub own: PathBuf,
    /// Where things are moved that are to be removed.
    pub trash: PathBuf,
}

/// How a tree came where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// By one rename.
    Renamed,
    /// As a copy that shares its contents with the original.
    Reflinked,
    /// As a copy.
    Copied,
}

impl Way {
    /// That of what can't be moved, on such a file system.
    pub fn of_copies(files: FileSystem) -> Self {
        if files.reflinks { Way::Reflinked } else { Way::Copied }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Way::Renamed => "brought in by rename",
            Way::Reflinked => "brought in by reflink",
            Way::Copied => "copied in parallel",
        })
    }
}

/// The sources in a build's tree.
#[derive(Debug)]
pub struct Lent {
    places: Places,
    /// `None`: the tree is a copy, and the sources are where they were.
    loan: Option<Loan>,
    way: Way,
}

#[derive(Debug)]
struct Loan {
    /// Everything in the tree but what was set aside.
    manifest: Manifest,
    /// Paths in the tree of what was set aside, under its place in the list.
    paths: Vec<PathBuf>,
    /// The folder in which they are.
    aside: Manifest,
}

/// What became of lent sources.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Returned {
    /// They are back, as they were.
    Back,
    /// They had not been moved.
    Untouched,
    /// They are in the trash: the build changed these of their paths, at most some of which are named.
    GivenUp(Vec<PathBuf>),
}

/// More changed paths than this are not named, nor set aside: the sources are copied for each build instead.
const MOST_EDITED: usize = 64;
/// A file larger than this is taken for one that was changed. Bytes.
const MOST_COMPARED: u64 = 64 << 20;
/// Beside the sources: what builds of this workspace wrote into.
const EDITED: &str = "edited.json";

/// Tracked files that builds of a workspace write into.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Edited {
    /// Relative to the sources.
    paths: BTreeSet<PathBuf>,
    /// More than can be set aside.
    too_many: bool,
}

impl Lent {
    /// Brings the sources of a slot into a build's tree.
    ///
    /// # Errors
    /// When they can't be moved or copied; the sources may be gone then, and the next checkout begins anew.
    pub fn lend(places: Places, files: FileSystem) -> Result<Self, TreeError> {
        tree::rename_away(&places.tree, &places.trash)?;
        let src = places.slot.join("src");
        let edited = Edited::read(&places.slot);
        let manifest = (files.tells_changes && !edited.too_many).then(|| Manifest::take(&src)).and_then(|manifest| {
            manifest.inspect_err(|error| tracing::debug!(%error, "the sources are copied, not moved")).ok()
        });
        let Some(manifest) = manifest else {
            tree::copy_tree(&src, &places.tree)?;
            return Ok(Self { places, loan: None, way: Way::of_copies(files) });
        };
        rename(&src, &places.tree)?;
        let loan = Loan::set_aside(&places, manifest, &edited)?;
        Ok(Self { places, loan: Some(loan), way: Way::Renamed })
    }

    /// Where the sources are: what the checkout made, and what the build's steps have done to it.
    pub fn tree(&self) -> &Path {
        &self.places.tree
    }

    /// The tree, as the steps are to see it.
    pub fn stack(&self) -> Stack {
        Stack::plain(self.places.tree.clone())
    }

    /// How they came.
    pub fn way(&self) -> Way {
        self.way
    }

    /// Whether a path is one of the sources: a file, a link or a folder.
    pub fn is_source(&self, path: &Path) -> bool {
        match &self.loan {
            Some(loan) => loan.manifest.kind(path).is_some() || loan.paths.iter().any(|aside| path.starts_with(aside)),
            None => Dir::open(&self.places.slot.join("src")).is_ok_and(|src| src.kind(path).is_ok()),
        }
    }

    /// Which of the sources a build has changed or removed until now, `.git` apart.
    ///
    /// # Errors
    /// When they can't be read.
    pub fn changed(&self) -> Result<BTreeSet<PathBuf>, TreeError> {
        let Some(loan) = &self.loan else { return differing(&self.places.slot.join("src"), &self.places.tree) };
        let mut changed: BTreeSet<PathBuf> = loan.manifest.compare(&self.places.tree)?.changed.into_keys().collect();
        let (tree, held) = (Dir::open(&self.places.tree)?, Dir::open(&aside(&self.places))?);
        for (at, path) in loan.paths.iter().enumerate() {
            let kept = held_as(at, path);
            if loan.aside.kind(&kept) != Some(Kind::Dir) && !reads_alike(&held, &kept, &tree, path) {
                changed.insert(path.clone());
            }
        }
        Ok(changed)
    }

    /// Ends the build's tree: its sources go back where they were, if they are as they were, and all else to the trash.
    /// Everything that the build started has to have ended.
    ///
    /// # Errors
    /// When something could not be moved. The sources are not where they were then, which the next checkout sees.
    pub fn give_back(self) -> Result<Returned, TreeError> {
        let Self { places, loan, .. } = self;
        let Some(loan) = loan else {
            tree::rename_away(&places.tree, &places.trash)?;
            return Ok(Returned::Untouched);
        };
        let differences = loan.differences(&places);
        match differences {
            Ok(differences) if differences.changed.is_empty() => {
                loan.restore(&places, &differences.added)?;
                rename(&places.tree, &places.slot.join("src"))?;
                Ok(Returned::Back)
            }
            differences => {
                tree::rename_away(&places.tree, &places.trash)?;
                let changed = differences.map(|all| all.changed).unwrap_or_default();
                let paths = changed.keys().take(MOST_EDITED).cloned().collect();
                Edited::read(&places.slot).remember(&places.slot, changed);
                Ok(Returned::GivenUp(paths))
            }
        }
    }
}

impl Loan {
    /// Takes `.git` and the edited files out of the tree, puts copies in their places and knows all else.
    fn set_aside(places: &Places, mut manifest: Manifest, edited: &Edited) -> Result<Self, TreeError> {
        let mut paths = manifest.folders_named(".git");
        let is_file = |path: &&PathBuf| matches!(manifest.kind(path), Some(Kind::File | Kind::Link));
        let inside = |path: &&PathBuf| !paths.iter().any(|folder| path.starts_with(folder));
        let edited: Vec<PathBuf> = edited.paths.iter().filter(is_file).filter(inside).cloned().collect();
        paths.extend(edited);
        let folder = made(aside(places))?;
        let (tree, held) = (Dir::open(&places.tree)?, Dir::open(&folder)?);
        for (at, path) in paths.iter().enumerate() {
            held.make_dir(&name(at))?;
            tree::move_entry(&tree, path, &held, &held_as(at, path))?;
            manifest.forget(path);
        }
        // After the renames, since they are changes too.
        let aside = Manifest::take(&folder)?;
        for (at, path) in paths.iter().enumerate() {
            let (from, to) = (held.open_dir(&name(at))?, tree.open_dir(path.parent().unwrap_or(Path::new("")))?);
            match (aside.kind(&held_as(at, path)), path.file_name()) {
                (Some(Kind::Dir), _) => tree::copy_tree(&folder.join(held_as(at, path)), &places.tree.join(path))?,
                (Some(kind), Some(last)) => from.copy_entry(Path::new(last), kind, &to)?,
                _ => {}
            }
        }
        Ok(Self { manifest, paths, aside })
    }

    /// What the build did to the sources. A build without a fence can reach what was set aside as well.
    fn differences(&self, places: &Places) -> Result<Differences, TreeError> {
        let aside = self.aside.compare(&aside(places))?;
        let mut differences = self.manifest.compare(&places.tree)?;
        if !aside.changed.is_empty() || !aside.added.is_empty() {
            differences.changed.insert(PathBuf::from(".git"), Kind::Dir);
        }
        Ok(differences)
    }

    /// Removes what was added, the copies of what was set aside too, and puts that back.
    fn restore(&self, places: &Places, added: &[PathBuf]) -> Result<(), TreeError> {
        let left = made(places.own.join("left"))?;
        let (tree, held, left) = (Dir::open(&places.tree)?, Dir::open(&aside(places))?, Dir::open(&left)?);
        for (at, path) in added.iter().enumerate() {
            tree::move_entry(&tree, path, &left, &name(at))?;
        }
        self.paths
            .iter()
            .enumerate()
            .try_for_each(|(at, path)| tree::move_entry(&held, &held_as(at, path), &tree, path))
    }
}

impl Edited {
    fn read(slot: &Path) -> Self {
        let bytes = std::fs::read(slot.join(EDITED)).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    /// Adds what was found changed, if setting it aside would have helped.
    fn remember(mut self, slot: &Path, changed: BTreeMap<PathBuf, Kind>) {
        let is_file = |kind: &Kind| matches!(kind, Kind::File | Kind::Link);
        if changed.is_empty() || !changed.values().all(is_file) {
            return;
        }
        self.paths.extend(changed.into_keys().filter(|path| path.to_str().is_some()));
        if self.paths.len() > MOST_EDITED {
            self = Self { too_many: true, paths: BTreeSet::new() };
        }
        let bytes = serde_json::to_vec(&self).expect("paths that are text, and a yes or no, are JSON");
        if let Err(error) = std::fs::write(slot.join(EDITED), bytes) {
            tracing::debug!(slot = %slot.display(), %error, "which files builds write into is not remembered");
        }
    }
}

/// What of the tree `from` its copy has no more, or with other contents; `.git` apart.
fn differing(from: &Path, copy: &Path) -> Result<BTreeSet<PathBuf>, TreeError> {
    let (original, now) = (Dir::open(from)?, Dir::open(copy)?);
    let mut differing = BTreeSet::new();
    tree::walk(from, |entry| {
        if entry.path.file_name().is_some_and(|name| name == ".git") {
            return Visit::Skip;
        }
        let is_same = match entry.kind {
            Kind::Dir => now.open_dir(&entry.path).is_ok(),
            _ => reads_alike(&original, &entry.path, &now, &entry.path),
        };
        if !is_same {
            differing.insert(entry.path.clone());
        }
        Visit::Continue
    })?;
    Ok(differing)
}

/// Whether two files have the same contents, or two links the same text. What can't be read does not.
fn reads_alike(one: &Dir, path: &Path, other: &Dir, other_path: &Path) -> bool {
    let texts = |dir: &Dir, path: &Path| match dir.kind(path)? {
        Kind::Link => dir.read_link(path),
        _ => dir.read_file(path, MOST_COMPARED),
    };
    match (texts(one, path), texts(other, other_path)) {
        (Ok(text), Ok(other_text)) => text == other_text && one.kind(path).ok() == other.kind(other_path).ok(),
        _ => false,
    }
}

fn aside(places: &Places) -> PathBuf {
    places.own.join("aside")
}

fn name(at: usize) -> PathBuf {
    PathBuf::from(at.to_string())
}

/// Where what stood at `path` is set aside: by its own name, in a folder of its own.
fn held_as(at: usize, path: &Path) -> PathBuf {
    name(at).join(path.file_name().unwrap_or_default())
}

fn made(folder: PathBuf) -> Result<PathBuf, TreeError> {
    std::fs::create_dir_all(&folder).map_err(|source| TreeError::Io { path: folder.clone(), source })?;
    Ok(folder)
}

fn rename(from: &Path, to: &Path) -> Result<(), TreeError> {
    std::fs::rename(from, to).map_err(|source: io::Error| TreeError::Io { path: from.to_owned(), source })
}

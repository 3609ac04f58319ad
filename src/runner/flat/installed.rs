//! Layers that come into a tree, and the dependencies that leave it as one.

use std::path::{Path, PathBuf};

use super::{made, name};
use crate::tree::{self, Dir, Entry, Kind, Manifest, TreeError};

/// A layer for a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Brought {
    /// This build's alone (see [`Cache::take`](crate::cache::Cache::take)): it is moved, and its directory goes.
    Moved(PathBuf),
    /// Others may use it too: it is copied, and stays as it is.
    Shared(PathBuf),
}

/// Brings layers, the topmost first, over what is in `into`. Where they differ the topmost wins; folders are joined.
///
/// # Errors
/// When something can't be moved or copied; some of it is in `into` then.
pub fn bring(layers: &[Brought], into: &Path) -> Result<(), TreeError> {
    layers.iter().rev().try_for_each(|layer| match layer {
        Brought::Moved(dir) => tree::move_tree(dir, into),
        Brought::Shared(dir) => tree::copy_tree(dir, into),
    })
}

/// What was installed, as it was when the installs were done.
#[derive(Debug)]
pub struct Installed {
    trees: Vec<(PathBuf, Manifest)>,
    /// Files and links that are in none of the trees.
    files: Vec<(PathBuf, Entry)>,
}

/// What became of dependencies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parted {
    /// They were as installed, and are the new layer. These paths were added to them since, and are no part of it.
    Whole(Vec<PathBuf>),
    /// These of their paths were changed after the install; they stayed where they were.
    Changed(Vec<PathBuf>),
}

impl Installed {
    /// Looks at the folders, files and links at `paths` beneath `tree`; none of them lies in another. What is not there is
    /// left out, and what is at `except` is taken for something that was not there. Everything that installs started has
    /// to have ended.
    ///
    /// # Errors
    /// When one can't be read.
    pub fn note(tree: &Path, paths: &[PathBuf], except: &[PathBuf]) -> Result<Self, TreeError> {
        let root = Dir::open(tree)?;
        let mut noted = Self { trees: Vec::new(), files: Vec::new() };
        for path in paths.iter().filter(|path| !except.iter().any(|at| path.starts_with(at))) {
            match root.entry(path) {
                Ok(Entry { kind: Kind::Dir, .. }) => {
                    let mut manifest = Manifest::take(&tree.join(path))?;
                    except
                        .iter()
                        .filter_map(|except| except.strip_prefix(path).ok())
                        .for_each(|at| manifest.forget(at));
                    noted.trees.push((path.clone(), manifest));
                }
                Ok(entry) if entry.kind != Kind::Other => {
                    noted.files.push((path.clone(), entry));
                }
                Err(error) if !error.is_not_found() => return Err(error),
                _ => {}
            }
        }
        let newest = noted.files.iter().map(|(_, entry)| entry.changed).max().unwrap_or_default();
        tree::wait_past(newest).map_err(|source| TreeError::Io { path: tree.to_owned(), source })?;
        Ok(noted)
    }

    /// Moves all of it out of `tree` into the new directory `into`, at the same paths, if it is what it was when it was
    /// noted. What was added to its folders since is moved into `left`, also new, to be removed. Everything that the build
    /// started has to have ended.
    ///
    /// # Errors
    /// When something can't be moved. What is in `into` is no layer then.
    pub fn part(&self, tree: &Path, into: &Path, left: &Path) -> Result<Parted, TreeError> {
        let root = Dir::open(tree)?;
        let (mut changed, mut added) = (Vec::new(), Vec::new());
        for (path, manifest) in &self.trees {
            // A folder of that name, and no link that took its place: nothing of the build runs any more.
            let differences = root.open_dir(path).and_then(|_| manifest.compare(&tree.join(path)));
            match differences {
                Ok(found) => {
                    changed.extend(found.changed.into_keys().map(|inner| joined(path, &inner)));
                    added.extend(found.added.into_iter().map(|inner| path.join(inner)));
                }
                Err(_) => changed.push(path.clone()),
            }
        }
        let is_same = |then: &Entry| root.entry(&then.path).is_ok_and(|now| is_same(then, &now));
        changed.extend(self.files.iter().filter(|(_, then)| !is_same(then)).map(|(path, _)| path.clone()));
        if !changed.is_empty() {
            return Ok(Parted::Changed(changed));
        }
        let (layer, left) = (Dir::open(&made(into.to_owned())?)?, Dir::open(&made(left.to_owned())?)?);
        for (at, path) in added.iter().enumerate() {
            tree::move_entry(&root, path, &left, &name(at))?;
        }
        let trees = self.trees.iter().map(|(path, _)| path);
        for path in trees.chain(self.files.iter().map(|(path, _)| path)) {
            if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                layer.make_dir(parent)?;
            }
            tree::move_entry(&root, path, &layer, path)?;
        }
        Ok(Parted::Whole(added))
    }
}

/// Whether nobody wrote to a file or put another in its place. A file system may take room for it later.
fn is_same(then: &Entry, now: &Entry) -> bool {
    *then == Entry { disk_bytes: then.disk_bytes, ..now.clone() }
}

/// `path`, and what is in it: the folder itself is an empty path.
fn joined(path: &Path, inner: &Path) -> PathBuf {
    if inner.as_os_str().is_empty() { path.to_owned() } else { path.join(inner) }
}

//! Layers that come into a tree, and the dependencies that leave it as one.

use std::path::{Path, PathBuf};

use super::{made, name};
use crate::tree::{self, Dir, Manifest, TreeError};

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

/// Trees of dependencies as they were when the installs were done.
#[derive(Debug)]
pub struct Installed {
    trees: Vec<(PathBuf, Manifest)>,
}

/// What became of dependencies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Parted {
    /// They were as installed, and are the new layer.
    Whole,
    /// These of their paths were changed after the install; they stayed where they were.
    Changed(Vec<PathBuf>),
}

impl Installed {
    /// Looks at the trees of dependencies at `paths` beneath `tree`; none of them lies in another. What is no folder is
    /// left out. Everything that installs started has to have ended.
    ///
    /// # Errors
    /// When one can't be read.
    pub fn note(tree: &Path, paths: &[PathBuf]) -> Result<Self, TreeError> {
        let root = Dir::open(tree)?;
        let there = paths.iter().filter(|path| root.open_dir(path).is_ok());
        let noted = there.map(|path| Ok((path.clone(), Manifest::take(&tree.join(path))?)));
        Ok(Self { trees: noted.collect::<Result<_, TreeError>>()? })
    }

    /// Moves the dependencies out of `tree` into the new directory `into`, at the same paths, if they are what they were
    /// when they were noted. What was added to them since is moved into `left`, also new, to be removed. Everything that the build
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
        if !changed.is_empty() {
            return Ok(Parted::Changed(changed));
        }
        let (layer, left) = (Dir::open(&made(into.to_owned())?)?, Dir::open(&made(left.to_owned())?)?);
        for (at, path) in added.iter().enumerate() {
            tree::move_entry(&root, path, &left, &name(at))?;
        }
        for (path, _) in &self.trees {
            if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                layer.make_dir(parent)?;
            }
            tree::move_entry(&root, path, &layer, path)?;
        }
        Ok(Parted::Whole)
    }
}

/// `path`, and what is in it: the folder itself is an empty path.
fn joined(path: &Path, inner: &Path) -> PathBuf {
    if inner.as_os_str().is_empty() { path.to_owned() } else { path.join(inner) }
}

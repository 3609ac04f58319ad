//! What a build wrote, where it lies when its steps have ended.

use std::path::{Component, Path, PathBuf};

use crate::domain::view::View;
use crate::tree::{self, Kind, TreeError, Visit};

use super::observer;

/// Where bundlers and compilers keep something for their next run.
#[derive(Debug, Clone)]
pub(super) struct Caches {
    /// The folders that steps ran in, relative to the tree's root.
    pub(super) projects: Vec<String>,
    /// `[cache] paths`.
    pub(super) paths: Vec<String>,
}

impl Caches {
    /// Every path of the tree that may be one.
    pub(super) fn all(&self) -> Vec<PathBuf> {
        observer::kept::paths(&self.projects, &self.paths)
    }
}

/// What a build wrote, where it lies until it is kept.
#[derive(Debug)]
pub(super) enum Remains {
    /// In the topmost layers of its views, apart from what was found.
    Views {
        /// The view in which installs ran, where that was one of their own.
        installs: Option<Installs>,
        /// The view in which the last steps ran.
        steps: Box<View>,
    },
    /// In directories of its own, with what was found.
    Apart(Apart),
}

/// A view in which nothing but installs ran.
#[derive(Debug)]
pub(super) struct Installs {
    pub(super) view: View,
    /// Whether what they wrote can be kept.
    pub(super) are_kept: bool,
}

/// What was taken out of a tree without stacks.
#[derive(Debug, Default)]
pub(super) struct Apart {
    /// As they were installed; `None` where a step changed them after that.
    pub(super) dependencies: Option<Dependencies>,
    /// HOME's folder of downloads.
    pub(super) downloads: Option<PathBuf>,
    /// What bundlers and compilers kept in the tree.
    pub(super) work: Option<PathBuf>,
    /// What webpack kept in HOME.
    pub(super) bundler: Option<PathBuf>,
    /// Whether a step may have changed dependencies after the installs.
    pub(super) edited: bool,
}

/// Dependencies in directories of their own.
#[derive(Debug, Clone)]
pub(super) struct Dependencies {
    /// Those of the tree, at their paths in it.
    pub(super) tree: PathBuf,
    /// HOME's `.cache`, if it is there.
    pub(super) cache: PathBuf,
}

/// Whether a step wrote to dependencies, caches apart, which are taken out before.
pub(super) fn edits_dependencies(written: &Path) -> Result<bool, TreeError> {
    let mut edited = false;
    tree::walk(written, |entry| {
        let of_dependencies = |part: Component<'_>| DEPENDENCIES.iter().any(|name| part.as_os_str() == *name);
        if !entry.path.components().any(of_dependencies) {
            return Visit::Continue;
        }
        edited |= entry.kind != Kind::Dir;
        if edited { Visit::Stop } else { Visit::Continue }
    })?;
    Ok(edited)
}

/// Folders of dependencies.
const DEPENDENCIES: [&str; 2] = ["node_modules", "bower_components"];

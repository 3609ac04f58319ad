//! The layers of a workspace, as data. Mounting them is the holder's work.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::snapshot::Place;

/// Where a confined step sees its tree: the same absolute path in every build.
pub const BUILD_DIR: &str = "/build";
/// Where a confined step's HOME is: private, and the same path in every build.
pub const HOME_DIR: &str = "/home/build";

/// What a build's steps see. Paths are the host's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// The tree: the sources, above them a snapshot of dependencies and of caches, on top this build's writes.
    pub tree: Stack,
    /// The private HOME: one directory, into which the agent writes between steps.
    pub home: PathBuf,
    /// Folders of HOME of which something is kept from build to build, by their path in it.
    pub in_home: Vec<(PathBuf, Stack)>,
    /// The private TMPDIR.
    pub tmp: PathBuf,
    /// Further paths that steps may read, at the same path inside: tools, the mirror's objects.
    pub readable: Vec<PathBuf>,
    /// A directory that steps see as their root, instead of this machine's programs.
    pub root: Option<PathBuf>,
}

impl View {
    /// Where this machine finds what was written to a place. For a folder of HOME that nothing was written to, it is not there.
    pub fn writes(&self, place: Place) -> PathBuf {
        let Some(at) = place.in_home() else { return self.tree.upper.clone() };
        let stack = self.in_home.iter().find(|(path, _)| path == Path::new(at));
        stack.map_or_else(|| self.home.join(at), |(_, stack)| stack.upper.clone())
    }
}

/// Directories that are shown as one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stack {
    /// Read-only layers, the topmost first. With none, `upper` is all there is and is shown as it is.
    pub lowers: Vec<PathBuf>,
    /// What is written goes here.
    pub upper: PathBuf,
    /// overlayfs' own directory, empty, on the file system of `upper`. Not used without lowers.
    pub work: PathBuf,
    /// An empty directory on which the layers are joined. Not used without lowers.
    pub joined: PathBuf,
}

impl Stack {
    /// One directory, that can be written.
    pub fn plain(dir: PathBuf) -> Self {
        Self { lowers: Vec::new(), work: dir.clone(), joined: dir.clone(), upper: dir }
    }

    /// `lowers` below the writes; `own` holds `upper`, `work` and `joined`.
    pub fn over(lowers: Vec<PathBuf>, own: &Path) -> Self {
        Self { lowers, upper: own.join("upper"), work: own.join("work"), joined: own.join("joined") }
    }

    /// Where the holder finds it as one directory: mounted there, if it has layers.
    pub fn shown(&self) -> &Path {
        if self.lowers.is_empty() { &self.upper } else { &self.joined }
    }
}

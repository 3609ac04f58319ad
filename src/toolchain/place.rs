//! Where programs are looked for: on this machine, or in another root that steps see.

use std::path::{Path, PathBuf};

use crate::config::root::Root;

/// Whose programs. Paths are as steps see them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Place {
    /// This machine's own.
    #[default]
    Host,
    /// A root's; its links lead nowhere but into it.
    Root(Root),
}

impl Place {
    /// The root, if it is one.
    pub(super) fn root(&self) -> Option<&Root> {
        match self {
            Place::Host => None,
            Place::Root(root) => Some(root),
        }
    }

    /// Where this process finds what is really at `path`.
    pub(super) fn on_host(&self, path: &Path) -> PathBuf {
        self.root().map_or_else(|| path.to_owned(), |root| root.on_host(path))
    }

    /// A path without links, if anything is there.
    pub(super) fn real(&self, path: &Path) -> Option<PathBuf> {
        match self {
            Place::Host => path.canonicalize().ok(),
            Place::Root(root) => root.resolve(path).ok(),
        }
    }

    /// True for a file that may be executed by somebody.
    pub(super) fn is_program(&self, path: &Path) -> bool {
        match self {
            Place::Host => super::search::is_program(path),
            Place::Root(root) => root.program(path).is_ok(),
        }
    }

    /// Whether a path leads to anything.
    pub(super) fn has(&self, path: &Path) -> bool {
        self.real(path).is_some()
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Place::Host => f.write_str("on the agent"),
            Place::Root(root) => write!(f, "in the root {}", root.dir().display()),
        }
    }
}

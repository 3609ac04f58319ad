//! The directories of one build, and their end.

use std::io;
use std::path::{Path, PathBuf};

use crate::confine::Seen;
use crate::domain::build::BuildId;
use crate::domain::repo::RepoId;
use crate::domain::snapshot::Place;
use crate::domain::view::Stack;
use crate::tree;

use super::flat;

/// A build's own directories under a slot; moved to the trash when dropped.
#[derive(Debug)]
pub(super) struct Workspace {
    /// The slot's sources of this repository, kept from build to build.
    pub(super) slot: PathBuf,
    /// The slot's own directory.
    slot_dir: PathBuf,
    /// This build's own directory.
    own: PathBuf,
    trash: PathBuf,
}

/// What a build's steps have in common: those that install, or all others. Each phase has a view of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Package managers, where what they write is to be kept apart from what comes after them.
    Installs,
    /// Everything else, or everything.
    Steps,
}

impl Phase {
    fn folder(self) -> &'static str {
        match self {
            Phase::Installs => "installs",
            Phase::Steps => "steps",
        }
    }
}

impl Workspace {
    /// Makes the directories of a build in slot number `slot`.
    pub(super) fn prepare(data_dir: &Path, slot: usize, repo: &RepoId, build: BuildId) -> io::Result<Self> {
        let slot_dir = data_dir.join("slots").join(slot.to_string());
        let workspace = Self {
            slot: slot_dir.join("repos").join(directory_name(repo)),
            own: slot_dir.join("builds").join(build.to_string()),
            trash: data_dir.join("trash"),
            slot_dir,
        };
        if workspace.own.exists() {
            tree::rename_away(&workspace.own, &workspace.trash).map_err(io::Error::other)?;
        }
        std::fs::create_dir_all(workspace.tmp())?;
        std::fs::create_dir_all(&workspace.slot)?;
        Ok(workspace)
    }

    /// The sources that the checkout keeps.
    pub(super) fn sources(&self) -> PathBuf {
        self.slot.join("src")
    }

    /// Where this machine has what steps see, where there are no mounts: the same paths in every build of the slot.
    pub(super) fn host(&self) -> Seen {
        Seen { build: self.slot_dir.join("build"), home: self.slot_dir.join("home"), tmp: self.tmp() }
    }

    /// Where the tree is brought if nothing can be stacked.
    pub(super) fn places(&self) -> flat::Places {
        flat::Places {
            slot: self.slot.clone(),
            tree: self.host().build,
            own: self.own.clone(),
            trash: self.trash.clone(),
        }
    }

    /// The private TMPDIR.
    pub(super) fn tmp(&self) -> PathBuf {
        self.own.join("tmp")
    }

    /// The private HOME where nothing is stacked: empty, at the same path in every build of the slot.
    pub(super) fn flat_home(&self) -> io::Result<PathBuf> {
        let home = self.host().home;
        tree::rename_away(&home, &self.trash).map_err(io::Error::other)?;
        std::fs::create_dir_all(&home)?;
        Ok(home)
    }

    /// The private HOME of a phase.
    pub(super) fn home(&self, phase: Phase) -> io::Result<PathBuf> {
        let home = self.own.join(phase.folder()).join("home");
        std::fs::create_dir_all(&home)?;
        Ok(home)
    }

    /// A place in a phase: what the phase writes, over these layers.
    pub(super) fn stack(&self, phase: Phase, place: Place, lowers: Vec<PathBuf>) -> io::Result<Stack> {
        let own = self.own.join(phase.folder()).join("stacks").join(place.in_home().unwrap_or("tree"));
        let stack = if lowers.is_empty() { Stack::plain(own.join("upper")) } else { Stack::over(lowers, &own) };
        for dir in [&stack.upper, &stack.work, &stack.joined] {
            std::fs::create_dir_all(dir)?;
        }
        Ok(stack)
    }

    /// An empty directory in which something is put together that is to be kept.
    pub(super) fn to_keep(&self, what: &str) -> io::Result<PathBuf> {
        let dir = self.own.join("keep").join(what);
        std::fs::create_dir_all(&dir)?;
        Ok(dir)
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        if let Err(error) = tree::rename_away(&self.own, &self.trash) {
            tracing::warn!(dir = %self.own.display(), %error, "a build's directory could not be moved to the trash");
        }
    }
}

/// A directory name for a repository that no repository can choose: readable, and unique by a hash.
fn directory_name(repo: &RepoId) -> String {
    use sha2::{Digest, Sha256};
    let folded = format!("{}/{}", repo.forge, repo.path.folded());
    let digest = Sha256::digest(folded.as_bytes());
    let readable: String =
        folded.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' }).take(40).collect();
    let hash: String = digest.iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("{readable}-{hash}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directory_names_are_safe_and_fold_case() {
        let name = |text: &str| directory_name(&text.parse().expect("a repository"));
        assert_eq!(name("github/Acme/Shop"), name("github/acme/shop"));
        assert_ne!(name("github/acme/shop"), name("github/acme_shop/x"));
        assert!(name("github/a$(id)/b;c").chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)));
    }
}

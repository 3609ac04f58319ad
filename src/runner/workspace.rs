//! The directories of one build, and their end.

use std::io;
use std::path::{Path, PathBuf};

use crate::domain::build::BuildId;
use crate::domain::repo::RepoId;
use crate::domain::view::{Stack, View};
use crate::tree;

use super::flat;

/// A build's own directories under a slot; moved to the trash when dropped.
#[derive(Debug)]
pub(super) struct Workspace {
    /// The slot's sources of this repository, kept from build to build.
    pub(super) slot: PathBuf,
    /// This build's own directory.
    own: PathBuf,
    /// The tree where nothing is stacked: at the same path in every build of the slot.
    flat: PathBuf,
    trash: PathBuf,
}

impl Workspace {
    /// Makes the directories of a build in slot number `slot`.
    pub(super) fn prepare(data_dir: &Path, slot: usize, repo: &RepoId, build: BuildId) -> io::Result<Self> {
        let slot_dir = data_dir.join("slots").join(slot.to_string());
        let workspace = Self {
            slot: slot_dir.join("repos").join(directory_name(repo)),
            own: slot_dir.join("builds").join(build.to_string()),
            flat: slot_dir.join("build"),
            trash: data_dir.join("trash"),
        };
        if workspace.own.exists() {
            tree::rename_away(&workspace.own, &workspace.trash).map_err(io::Error::other)?;
        }
        for dir in
            ["tree", "home"].iter().flat_map(|stack| ["upper", "work", "joined"].map(|part| format!("{stack}/{part}")))
        {
            std::fs::create_dir_all(workspace.own.join(dir))?;
        }
        std::fs::create_dir_all(workspace.own.join("tmp"))?;
        std::fs::create_dir_all(&workspace.slot)?;
        Ok(workspace)
    }

    /// The sources that the checkout keeps.
    pub(super) fn sources(&self) -> PathBuf {
        self.slot.join("src")
    }

    /// Where the tree is brought if nothing can be stacked.
    pub(super) fn places(&self) -> flat::Places {
        flat::Places {
            slot: self.slot.clone(),
            tree: self.flat.clone(),
            own: self.own.clone(),
            trash: self.trash.clone(),
        }
    }

    /// What the steps see: the sources below, this build's writes on top.
    pub(super) fn view(&self, readable: Vec<PathBuf>) -> View {
        View {
            tree: Stack::over(vec![self.sources()], &self.own.join("tree")),
            home: Stack::plain(self.own.join("home/upper")),
            tmp: self.own.join("tmp"),
            readable,
        }
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        for dir in [&self.own, &self.flat] {
            if let Err(error) = tree::rename_away(dir, &self.trash) {
                tracing::warn!(dir = %dir.display(), %error, "a build's directory could not be moved to the trash");
            }
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

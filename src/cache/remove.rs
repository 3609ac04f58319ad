//! Removing snapshots, never one in use.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use super::lease::{Alone, Lease};
use super::list::Listed;
use super::record::names;
use super::{Cache, CacheError, at};
use crate::domain::repo::{RefName, RepoId};
use crate::domain::snapshot::{LayerId, Level, Scope};

/// Which snapshots; a part that is `None` is any.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Of this repository.
    pub repo: Option<RepoId>,
    /// Of this ref.
    pub git_ref: Option<RefName>,
    /// Of this level.
    pub level: Option<Level>,
}

impl Selection {
    /// Whether a snapshot is among them.
    pub fn has(&self, listed: &Listed) -> bool {
        let record = &listed.record;
        self.repo.as_ref().is_none_or(|repo| *repo == record.scope.repo)
            && self.git_ref.as_ref().is_none_or(|git_ref| *git_ref == record.scope.git_ref)
            && self.level.is_none_or(|level| level == record.level)
    }
}

/// What became of a removal.
#[derive(Debug, Default)]
pub struct Removed {
    /// These are gone.
    pub removed: Vec<Listed>,
    /// These stay, since somebody uses them.
    pub in_use: Vec<Listed>,
    /// What that freed on the disk, in bytes.
    pub bytes: u64,
}

impl Cache {
    /// Removes the snapshots that are selected, and the layers that only they named.
    pub fn remove(&self, selection: &Selection) -> Result<Removed, CacheError> {
        let mut answer = Removed::default();
        for listed in self.list().into_iter().filter(|listed| selection.has(listed)) {
            match self.remove_unused(&listed)? {
                true => answer.removed.push(listed),
                false => answer.in_use.push(listed),
            }
        }
        answer.bytes = self.remove_unnamed()?;
        Ok(answer)
    }

    /// Removes everything of a scope: a pull request was closed, a branch was deleted. Layers that a running build still uses
    /// go with the next [`Cache::collect`].
    pub fn drop_scope(&self, scope: &Scope) -> Result<(), CacheError> {
        self.discard(&self.scopes().join(scope.id()))?;
        self.remove_unnamed().map(drop)
    }

    /// Removes a record, unless one of its layers is in use; tells whether it did. Its layers stay until
    /// [`Cache::remove_unnamed`].
    pub(super) fn remove_unused(&self, listed: &Listed) -> Result<bool, CacheError> {
        let mut alone = Vec::new();
        for layer in &listed.record.layers {
            let dir = self.layer_dir(&layer.id);
            match Lease::alone(&dir).map_err(at(&dir))? {
                Alone::Yes(lease) => alone.push(lease),
                Alone::InUse => return Ok(false),
                Alone::Gone => {}
            }
        }
        match fs::remove_file(&listed.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(at(&listed.path)(error)),
            _ => Ok(true),
        }
    }

    /// Removes layers that no record names and nobody uses; answers with the bytes that they took.
    pub(super) fn remove_unnamed(&self) -> Result<u64, CacheError> {
        // The layers before the records: a layer that is made meanwhile is not among them.
        let ids = self.layer_ids();
        let named: HashSet<LayerId> =
            self.list().into_iter().flat_map(|listed| listed.record.layers).map(|layer| layer.id).collect();
        Ok(ids.iter().filter(|id| !named.contains(id)).map(|id| self.discard_unused(id)).sum())
    }

    /// Removes a layer unless it is in use; answers with the bytes that it took, 0 if it stays.
    pub(super) fn discard_unused(&self, id: &LayerId) -> u64 {
        let (dir, bytes) = (self.layer_dir(id), self.layer_bytes(id));
        let done = match Lease::alone(&dir) {
            Ok(Alone::Yes(_alone)) => self.discard(&dir).map(|()| bytes),
            Ok(Alone::InUse) => Ok(0),
            // Without its lease nobody can hold it.
            Ok(Alone::Gone) => self.discard(&dir).map(|()| bytes),
            Err(error) => Err(at(&dir)(error)),
        };
        done.unwrap_or_else(|error| {
            tracing::warn!(layer = %dir.display(), %error, "a layer could not be removed");
            0
        })
    }

    /// Removes folders of scopes in which nothing is left.
    pub(super) fn remove_empty_scopes(&self) {
        let remove = |dir: &Path| drop(fs::remove_dir(dir));
        for scope in names(&self.scopes()) {
            names(&scope).iter().for_each(|level| remove(level));
            remove(&scope);
        }
    }
}

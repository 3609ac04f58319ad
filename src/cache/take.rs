//! Moving a layer out, for hosts on which nothing can be stacked.

use std::fs;
use std::path::Path;

use super::lookup::Held;
use super::{Cache, CacheError, at, layer, manifest};
use crate::domain::snapshot::LayerId;

impl Cache {
    /// Moves the files of `layer`, one of those held, to `into`, which must not be there (or be an empty folder on the same
    /// file system). All of it is compared with the manifest before, by lstat(2). The snapshot is gone then; what is made
    /// of it after the build is a new one.
    ///
    /// `false`: another uses it, or it does not hold, and nothing was moved. What does not hold is removed.
    pub fn take(&self, mut held: Held, layer: &LayerId, into: &Path) -> Result<bool, CacheError> {
        let dir = self.layer_dir(layer);
        let Some(place) = held.leases.iter().position(|(id, _)| id == layer) else {
            return Err(CacheError::Gone(layer.0.clone()));
        };
        let (_, lease) = held.leases.swap_remove(place);
        let Some(_alone) = lease.into_alone(&dir).map_err(at(&dir))? else { return Ok(false) };
        let (files, list) = (layer::files(&dir), layer::manifest(&dir));
        if let Some(how) = manifest::whole_difference(&files, &list).map_err(at(&list))? {
            tracing::warn!(layer = %dir.display(), %how, "a snapshot is damaged and is removed");
            self.discard(&held.path)?;
            self.discard(&dir)?;
            return Ok(false);
        }
        // First the record: what a crash leaves is a layer that no record names.
        self.discard(&held.path)?;
        fs::rename(&files, into).map_err(at(into))?;
        self.discard(&dir)?;
        Ok(true)
    }
}

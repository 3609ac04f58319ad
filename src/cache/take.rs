//! Moving a layer out, for hosts on which nothing can be stacked.

use std::fs;
use std::path::Path;

use super::lease::Lease;
use super::lookup::Held;
use super::{Cache, CacheError, at, layer, manifest};
use crate::domain::snapshot::LayerId;

/// What came of [`Cache::take`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// The files are where they were wanted.
    Moved,
    /// Another uses the layer. It is still held, and can be copied.
    InUse,
    /// It does not hold: what, in a sentence's words. It is removed.
    Damaged(String),
}

impl Cache {
    /// Moves the files of `layer`, one of those held, to `into`, which must not be there (or be an empty folder on the same
    /// file system). All of it is compared with the manifest before, by lstat(2). With the first layer that is moved the
    /// record goes; what is made of it after the build is a new one.
    ///
    /// # Errors
    /// When it is not one of those held, or by the system's word.
    pub fn take(&self, held: &mut Held, layer: &LayerId, into: &Path) -> Result<Taken, CacheError> {
        let dir = self.layer_dir(layer);
        let Some(place) = held.leases.iter().position(|(id, _)| id == layer) else {
            return Err(CacheError::Gone(layer.0.clone()));
        };
        let (id, shared) = held.leases.swap_remove(place);
        let Some(_alone) = shared.into_alone(&dir).map_err(at(&dir))? else {
            let shared = Lease::share(&dir).map_err(at(&dir))?.ok_or_else(|| CacheError::Gone(layer.0.clone()))?;
            held.leases.push((id, shared));
            return Ok(Taken::InUse);
        };
        let (files, list) = (layer::files(&dir), layer::manifest(&dir));
        let damage = manifest::whole_difference(&files, &list).map_err(at(&list))?;
        // First the record: what a crash leaves is a layer that no record names.
        self.discard(&held.path)?;
        if damage.is_none() {
            fs::rename(&files, into).map_err(at(into))?;
        }
        self.discard(&dir)?;
        Ok(damage.map_or(Taken::Moved, Taken::Damaged))
    }
}

//! What is kept.

use std::collections::HashSet;
use std::path::PathBuf;

use super::Cache;
use super::record::{self, Read};
use crate::domain::snapshot::{LayerId, Record};
use crate::domain::time::Timestamp;

/// A snapshot, for people and for those who remove it.
#[derive(Debug, Clone)]
pub struct Listed {
    /// What is known of it.
    pub record: Record,
    /// When it was last used.
    pub used: Timestamp,
    /// What all its layers take on the disk, in bytes. Layers that another snapshot names too are counted there as well:
    /// the sum over all is [`Cache::bytes`].
    pub bytes: u64,
    pub(super) path: PathBuf,
}

impl Cache {
    /// All snapshots, the last used first. Records that can't be read are left out; [`Cache::verify`] tells of them.
    pub fn list(&self) -> Vec<Listed> {
        let mut listed: Vec<Listed> = self
            .record_paths()
            .into_iter()
            .filter_map(|(path, used)| {
                let Ok(Read::Whole(record)) = record::read(&path) else { return None };
                let layers: HashSet<&LayerId> = record.layers.iter().map(|layer| &layer.id).collect();
                let bytes = layers.into_iter().map(|id| self.layer_bytes(id)).sum();
                Some(Listed { record: *record, used: used.into(), bytes, path })
            })
            .collect();
        listed.sort_by_key(|one| std::cmp::Reverse(one.used));
        listed
    }

    /// What all layers take on the disk, each counted once, in bytes.
    pub fn bytes(&self) -> u64 {
        self.layer_ids().iter().map(|id| self.layer_bytes(id)).sum()
    }
}

//! Quota and age.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use super::list::Listed;
use super::record::names;
use super::{Cache, CacheError};
use crate::domain::snapshot::LayerId;
use crate::domain::time::Timestamp;

/// What [`Cache::collect`] did.
#[derive(Debug, Default)]
pub struct Collected {
    /// Snapshots that were not used for too long.
    pub old: Vec<Listed>,
    /// Snapshots that had to go for the quota, the least recently used first.
    pub over_quota: Vec<Listed>,
    /// What that freed on the disk, in bytes.
    pub bytes: u64,
    /// What is still kept, in bytes. More than the quota only if all of it is in use.
    pub kept_bytes: u64,
}

impl Cache {
    /// Removes what was not used for as long as `unused`, then the least recently used until the rest takes no more than
    /// `quota_bytes` on the disk, then layers that no record names. Nothing that is in use goes.
    pub fn collect(&self, quota_bytes: u64, unused: Duration) -> Result<Collected, CacheError> {
        let mut collected = Collected::default();
        let now = Timestamp::from(SystemTime::now());
        let (old, mut rest): (Vec<_>, Vec<_>) =
            self.list().into_iter().partition(|listed| now.since(listed.used) >= unused);
        for listed in old {
            match self.remove_unused(&listed)? {
                true => collected.old.push(listed),
                false => rest.push(listed),
            }
        }
        collected.bytes = self.remove_unnamed()?;
        let mut shares = Shares::of(self, &rest);
        // `rest` has the last used first.
        while shares.bytes > quota_bytes
            && let Some(listed) = rest.pop()
        {
            // What has no layers of its own frees nothing.
            if shares.would_free(&listed) > 0 && self.remove_unused(&listed)? {
                shares.drop_record(&listed);
                collected.over_quota.push(listed);
            }
        }
        collected.bytes += self.remove_unnamed()?;
        self.forget_old_misses(now, unused);
        self.remove_empty_scopes();
        collected.kept_bytes = self.bytes();
        Ok(collected)
    }

    fn forget_old_misses(&self, now: Timestamp, unused: Duration) {
        for level in names(&self.scopes()).iter().flat_map(|scope| names(scope)) {
            let path = level.join("missed.json");
            let noted = std::fs::metadata(&path).and_then(|data| data.modified());
            if noted.is_ok_and(|noted| now.since(noted.into()) >= unused) {
                // At worst it is told a little longer.
                let _ = std::fs::remove_file(&path);
            }
        }
    }
}

/// How many records name each layer, and what it takes.
struct Shares {
    layers: HashMap<LayerId, (usize, u64)>,
    bytes: u64,
}

impl Shares {
    fn of(cache: &Cache, records: &[Listed]) -> Self {
        let mut layers: HashMap<LayerId, (usize, u64)> = HashMap::new();
        for layer in records.iter().flat_map(|listed| &listed.record.layers) {
            layers.entry(layer.id.clone()).or_insert_with(|| (0, cache.layer_bytes(&layer.id))).0 += 1;
        }
        let bytes = layers.values().map(|(_, bytes)| bytes).sum();
        Self { layers, bytes }
    }

    /// Bytes that would be free without this record. Those of a layer that others name too are counted: it goes with the last
    /// of them, for which this one has to go as well.
    fn would_free(&self, listed: &Listed) -> u64 {
        listed.record.layers.iter().filter_map(|layer| self.layers.get(&layer.id)).map(|(_, bytes)| bytes).sum()
    }

    fn drop_record(&mut self, listed: &Listed) {
        for layer in &listed.record.layers {
            if let Some((count, bytes)) = self.layers.get_mut(&layer.id) {
                *count -= 1;
                if *count == 0 {
                    self.bytes -= *bytes;
                }
            }
        }
    }
}

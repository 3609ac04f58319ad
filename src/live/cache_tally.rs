//! What caches did in this process, counted for `/metrics`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::domain::snapshot::Level;

/// Counts hits and misses; knows how much is kept. Cheap to clone; clones count together.
#[derive(Debug, Clone, Default)]
pub struct CacheTally(Arc<Figures>);

#[derive(Debug, Default)]
struct Figures {
    hits: [AtomicU64; Level::ALL.len()],
    misses: [AtomicU64; Level::ALL.len()],
    kept_bytes: AtomicU64,
}

/// What a level's snapshots were good for since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LevelUse {
    /// The level.
    pub level: Level,
    /// How often something was found.
    pub hits: u64,
    /// How often nothing was.
    pub misses: u64,
}

impl CacheTally {
    /// A snapshot was looked for, and found or not.
    pub fn count(&self, level: Level, is_hit: bool) {
        let of = if is_hit { &self.0.hits } else { &self.0.misses };
        of[level as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// What all layers on this agent's disk take, in bytes, as the sweeper last saw them.
    pub fn set_kept_bytes(&self, bytes: u64) {
        self.0.kept_bytes.store(bytes, Ordering::Relaxed);
    }

    /// The last [`Self::set_kept_bytes`].
    pub fn kept_bytes(&self) -> u64 {
        self.0.kept_bytes.load(Ordering::Relaxed)
    }

    /// Every level's figures.
    pub fn levels(&self) -> Vec<LevelUse> {
        let read = |of: &[AtomicU64], level: Level| of[level as usize].load(Ordering::Relaxed);
        let figures =
            |&level: &Level| LevelUse { level, hits: read(&self.0.hits, level), misses: read(&self.0.misses, level) };
        Level::ALL.iter().map(figures).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clones_count_together_and_levels_apart() {
        let tally = CacheTally::default();
        for level in Level::ALL {
            tally.clone().count(level, true);
        }
        tally.count(Level::Work, false);
        tally.set_kept_bytes(7);
        for LevelUse { level, hits, misses } in tally.levels() {
            assert_eq!((hits, misses), (1, u64::from(level == Level::Work)), "{level:?}");
        }
        assert_eq!(tally.levels().len(), Level::ALL.len());
        assert_eq!(tally.clone().kept_bytes(), 7);
    }
}

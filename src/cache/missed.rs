//! The last time that a scope had nothing of a level: kept so that people can be told why.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Cache, CacheError, at, record};
use crate::domain::build::BuildId;
use crate::domain::snapshot::{Inputs, Level, Scope};
use crate::domain::time::Timestamp;

/// Beside the records of its level.
pub(super) const FILE: &str = "missed.json";

/// A build that found no snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Miss {
    /// Whose.
    pub scope: Scope,
    /// What it was of.
    pub level: Level,
    /// What it asked for.
    pub inputs: Inputs,
    /// Which build.
    pub build: BuildId,
    /// When.
    pub at: Timestamp,
}

impl Cache {
    /// Notes that `build` found nothing of `level` for `inputs`; `scope` is the build's own. Takes the place of the last note.
    pub fn note_miss(
        &self,
        scope: &Scope,
        level: Level,
        inputs: &Inputs,
        build: BuildId,
        when: Timestamp,
    ) -> Result<(), CacheError> {
        let path = self.missed_json(scope, level);
        let miss = Miss { scope: scope.clone(), level, inputs: inputs.clone(), build, at: when };
        let bytes = serde_json::to_vec(&miss).map_err(|error| at(&path)(error.into()))?;
        // Not synced: a crash takes an explanation with it and nothing else, and a build waits for this.
        record::replace(&path, &bytes, false).map_err(at(&path))
    }

    /// The last note, if there is one that can be read.
    pub fn last_miss(&self, scope: &Scope, level: Level) -> Option<Miss> {
        read(&self.missed_json(scope, level))
    }

    /// The last notes of all scopes and levels, the newest first.
    pub fn last_misses(&self) -> Vec<Miss> {
        let levels = record::names(&self.scopes()).into_iter().flat_map(|scope| record::names(&scope));
        let mut misses: Vec<Miss> = levels.filter_map(|level| read(&level.join(FILE))).collect();
        misses.sort_by_key(|miss| std::cmp::Reverse(miss.at));
        misses
    }

    fn missed_json(&self, scope: &Scope, level: Level) -> PathBuf {
        self.level_dir(scope, level).join(FILE)
    }
}

fn read(path: &Path) -> Option<Miss> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

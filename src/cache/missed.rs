//! The last time that a scope had nothing of a level: kept so that people can be told why.

use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Cache, CacheError, at, record};
use crate::domain::build::BuildId;
use crate::domain::snapshot::{Inputs, Level, Scope};
use crate::domain::time::Timestamp;

/// A build that found no snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Miss {
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
        let miss = Miss { inputs: inputs.clone(), build, at: when };
        let bytes = serde_json::to_vec(&miss).map_err(|error| at(&path)(error.into()))?;
        record::write_atomically(&path, &bytes).map_err(at(&path))
    }

    /// The last note, if there is one that can be read.
    pub fn last_miss(&self, scope: &Scope, level: Level) -> Option<Miss> {
        serde_json::from_slice(&fs::read(self.missed_json(scope, level)).ok()?).ok()
    }

    fn missed_json(&self, scope: &Scope, level: Level) -> PathBuf {
        self.level_dir(scope, level).join("missed.json")
    }
}

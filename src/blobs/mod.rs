//! What builds leave on disk: the logs of their steps with the journal that orders them, and their [`Artifacts`].
//!
//! `<logs>/<build>/<claim>/` holds one file a step (its bytes as they came, capped), `journal`
//! (fixed-size records of what happened, in order) and `texts` (the states that the journal points
//! to). Each claim of a build has a folder of its own, so a reader of an older one never sees halves
//! of two; the newest counts.
//!
//! Where several machines work together, a [`Depot`] holds all of this too: a [`Shipper`] brings there what is written
//! here, a [`Fetcher`] brings here what was written elsewhere, into the same folders.

mod artifacts;
mod depot;
mod fetch;
mod journal;
mod read;
mod ship;
mod write;
mod writing;

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::domain::build::BuildId;
use writing::Writing;

pub use artifacts::{Artifact, Artifacts, Filling};
pub use depot::Depot;
pub use fetch::{Fetcher, Presence};
pub use journal::{BadCursor, Cursor};
pub use read::{Entry, Reader, Snapshot, StepFile, StepTail};
pub use ship::Shipper;
pub use write::{BuildLog, StepLog};

const JOURNAL: &str = "journal";
const TEXTS: &str = "texts";

// Marks within a claim's folder; steps' logs begin with a number.
/// It came from elsewhere.
const FETCHED: &str = "fetched";
/// All of it lies in the shared place; holds a [`Whole`].
const WHOLE: &str = "whole";
/// The build was finished when this claim was its newest: nothing will follow.
const SETTLED: &str = "settled";

/// What is said of a log when all of it lies in the shared place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Whole {
    /// How many artifacts lie there as well.
    artifacts: usize,
}

/// The folder of all logs. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Logs {
    dir: Arc<Path>,
    written: Arc<AtomicU64>,
    writing: Arc<Writing>,
}

impl Logs {
    /// The logs beneath `dir` (`<data>/logs`), which need not exist yet.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Logs { dir: dir.into().into(), written: Arc::default(), writing: Arc::default() }
    }

    /// Opens the log of a build for the agent that holds `claim`, and forgets what older claims wrote.
    ///
    /// `cap` is the size that each step's log may have. `on_new` is called after anything new can be
    /// read; it must be quick. Errors are the disk's: `StorageFull` means that there is no space.
    pub fn create(
        &self,
        build: BuildId,
        claim: u64,
        cap: u64,
        on_new: impl Fn() + Send + Sync + 'static,
    ) -> io::Result<BuildLog> {
        let dir = self.claim_dir(build, claim);
        // Before its folder is there: who looks for what an earlier process left must not take it for that.
        let open = self.writing.open((build, claim));
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        let log = BuildLog::create(dir, cap, Arc::clone(&self.written), open, Box::new(on_new))?;
        for older in self.claims(build)?.into_iter().filter(|&other| other < claim) {
            remove_dir(&self.claim_dir(build, older))?;
        }
        Ok(log)
    }

    /// Removes everything that a build left here. A build that left nothing is fine.
    pub fn remove(&self, build: BuildId) -> io::Result<()> {
        remove_dir(&self.build_dir(build))
    }

    /// Every build that left something here, in no order.
    pub fn builds(&self) -> io::Result<Vec<BuildId>> {
        Ok(numbered(&self.dir)?.into_iter().filter_map(|id| i64::try_from(id).ok().map(BuildId)).collect())
    }

    /// Bytes of step output that this process wrote to disk since it started.
    pub fn bytes_written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }

    /// The claim whose journal counts, if there is one.
    fn newest_claim(&self, build: BuildId) -> io::Result<Option<u64>> {
        Ok(self.claims(build)?.into_iter().max())
    }

    /// What was said of the newest claim's log when all of it lay in the shared place.
    fn whole(&self, build: BuildId) -> io::Result<Option<Whole>> {
        let Some(claim) = self.newest_claim(build)? else { return Ok(None) };
        match fs::read(self.claim_dir(build, claim).join(WHOLE)) {
            Ok(text) => Ok(serde_json::from_slice(&text).ok()),
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(other) => Err(other),
        }
    }

    fn claims(&self, build: BuildId) -> io::Result<Vec<u64>> {
        numbered(&self.build_dir(build))
    }

    // Both paths are made of numbers only: no name that somebody chose ever leads to a place on disk.
    fn build_dir(&self, build: BuildId) -> PathBuf {
        self.dir.join(build.0.to_string())
    }

    fn claim_dir(&self, build: BuildId, claim: u64) -> PathBuf {
        self.build_dir(build).join(claim.to_string())
    }
}

/// The names in a folder that are numbers; a missing folder has none.
fn numbered(dir: &Path) -> io::Result<Vec<u64>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(other) => return Err(other),
    };
    let mut numbers = Vec::new();
    for entry in entries {
        numbers.extend(entry?.file_name().to_str().and_then(|name| name.parse::<u64>().ok()));
    }
    Ok(numbers)
}

fn remove_dir(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(gone) if gone.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

/// The file name of a step's log: its place in the plan, and its name for people who look at the folder.
fn step_file_name(index: u16, name: &str) -> String {
    let safe = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
    let name: String = name.chars().take(64).map(safe).collect();
    format!("{index:02}-{name}.log")
}

#[cfg(test)]
mod tests;

//! What the pages and the API need to know: the seam between this door and whatever keeps the records.

use std::pin::Pin;

use serde::Serialize;

use crate::domain::build::{Build, BuildId, State};
use crate::domain::outcome::Outcome;
use crate::domain::repo::RepoId;
use crate::domain::rule::{Rule, Ruling};
use crate::domain::snapshot::Level;
use crate::domain::spec::Explanation;
use crate::domain::time::Timestamp;

pub use crate::runner::follow::Unavailable;

/// An answer that may take a while.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, Unavailable>> + Send + 'a>>;

/// The records, asked and changed. An `Err` always means that they can't be reached at this moment.
pub trait Records: Send + Sync + 'static {
    /// A build with its steps.
    fn build(&self, id: BuildId) -> Answer<'_, Option<Build>>;

    /// Why a build's plan is as it is; `None` before it was planned, and for builds of versions that did not keep it.
    fn explanation(&self, id: BuildId) -> Answer<'_, Option<Explanation>>;

    /// Which rules moved a build, and why, oldest first.
    fn rulings(&self, id: BuildId) -> Answer<'_, Vec<Ruling>>;

    /// Builds, newest first, at most [`BuildFilter::limit`]; their steps may be left out.
    fn builds(&self, filter: BuildFilter) -> Answer<'_, Vec<Build>>;

    /// The newest deliveries, at most `limit`.
    fn deliveries(&self, limit: u32) -> Answer<'_, Vec<Delivery>>;

    /// Ends a build. `by` is who asked: the reason reads `cancelled by <by>`.
    fn cancel(&self, id: BuildId, by: &'static str) -> Answer<'_, Result<(), ChangeRefused>>;

    /// Builds the same commit again, with or without what earlier builds left; the answer is the new build.
    fn rerun(&self, id: BuildId, cache: bool, by: &'static str) -> Answer<'_, Result<BuildId, ChangeRefused>>;

    /// How the parts of this server are. Never fails: a store that does not answer is a part that is not ok.
    fn parts(&self) -> Pin<Box<dyn Future<Output = Vec<Part>> + Send + '_>>;

    /// Why no queued build is started at this moment, a phrase; `None` where only slots are waited for.
    fn waits(&self) -> Option<String>;

    /// The figures behind `/metrics`.
    fn counts(&self) -> Answer<'_, Counts>;
}

/// Which builds are asked for; `None` asks for any.
#[derive(Debug, Clone, PartialEq)]
pub struct BuildFilter {
    /// Of this repository.
    pub repo: Option<RepoId>,
    /// Of this branch, by its short name.
    pub branch: Option<String>,
    /// In this state.
    pub state: Option<State>,
    /// With this outcome.
    pub outcome: Option<Outcome>,
    /// Older than this build.
    pub before: Option<BuildId>,
    /// At most so many.
    pub limit: u32,
}

impl Default for BuildFilter {
    fn default() -> Self {
        BuildFilter { repo: None, branch: None, state: None, outcome: None, before: None, limit: 50 }
    }
}

/// Why a change was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChangeRefused {
    /// There is no build of that number.
    #[error("there is no such build")]
    NoSuchBuild,
    /// It has its outcome already.
    #[error("the build has finished already")]
    AlreadyFinished,
    /// It has no outcome yet.
    #[error("the build has not finished yet; cancel it first or wait for it")]
    NotFinished,
}

/// A delivery and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Delivery {
    /// The forge's id of it.
    pub delivery: String,
    /// The configured forge.
    pub forge: String,
    /// The repository it spoke of, if any.
    pub repo: Option<String>,
    /// The forge's word for what happened.
    pub event: String,
    /// When it was taken.
    pub at: Timestamp,
    /// The status it was answered with: 202 or 200.
    pub status: u16,
    /// Builds that belong to it.
    pub builds: Vec<BuildId>,
    /// Why nothing was built, if nothing was.
    pub ignored: Option<String>,
    /// The rule that decided it; none for what an older version answered.
    pub rule: Option<Rule>,
}

/// A request to a hook that was refused. Kept in memory only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// When it came.
    pub at: Timestamp,
    /// Where it came from, as the listener saw it.
    pub from: String,
    /// The path it was sent to.
    pub path: String,
    /// The status it was answered with.
    pub status: u16,
    /// Why, in words for the operator.
    pub reason: String,
    /// The names of the headers that matter and were there.
    pub headers: Vec<String>,
}

/// How a part of the server is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// `store`, `agent`, `outbox`, `sandbox`, `disk`.
    pub name: &'static str,
    /// Whether it is as it should be.
    pub ok: bool,
    /// Whether the server is not ready without it.
    pub needed: bool,
    /// One line for people.
    pub detail: String,
}

/// Figures of this moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Builds by state and outcome.
    pub builds: Vec<(State, Option<Outcome>, u64)>,
    /// Requests to hooks since the start, by answer: `202`, `200`, `4xx`, `503`.
    pub deliveries: Vec<(&'static str, u64)>,
    /// Statuses that wait to be sent.
    pub outbox_pending: u64,
    /// Statuses that were given up.
    pub outbox_dead: u64,
    /// Builds that wait for a slot.
    pub queued: u64,
    /// Slots of this process's agent.
    pub slots: u64,
    /// Slots that hold a build.
    pub slots_busy: u64,
    /// What caches did since the start: level, hits, misses.
    pub caches: Vec<(Level, u64, u64)>,
    /// What this process's agent keeps for later builds, in bytes.
    pub snapshot_bytes: u64,
}

//! What the pages and the API need to know: the seam between this door and whatever keeps the records.

use std::pin::Pin;

use serde::Serialize;

use crate::domain::agent::{Agent, Order};
use crate::domain::audit::{Actor, AuditEntry};
use crate::domain::build::{Build, BuildId, State};
use crate::domain::outcome::Outcome;
use crate::domain::repo::{CommitId, RepoId};
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

    /// Ends a build. `by` is who asked: the reason reads `cancelled by <who>`.
    fn cancel(&self, id: BuildId, by: Actor) -> Answer<'_, Result<(), ChangeRefused>>;

    /// Lets a fork's waiting build go on; the answer is the commit that was approved. `sha`, where it is given, must be
    /// that one.
    fn approve(&self, id: BuildId, sha: Option<CommitId>, by: Actor) -> Answer<'_, Result<CommitId, ChangeRefused>>;

    /// Builds the same commit again, with or without what earlier builds left; the answer is the new build.
    fn rerun(&self, id: BuildId, cache: bool, by: Actor) -> Answer<'_, Result<BuildId, ChangeRefused>>;

    /// What waits for the forges, and what they never took.
    fn outbox(&self) -> Answer<'_, Outbox>;

    /// What the forge was told of a build: the newest status of each context.
    fn told(&self, id: BuildId) -> Answer<'_, Vec<Told>>;

    /// Sends again what was given up of a build.
    fn resend(&self, id: BuildId, by: Actor) -> Answer<'_, Result<(), ChangeRefused>>;

    /// Every agent that was heard of lately, by name.
    fn agents(&self) -> Answer<'_, Vec<Agent>>;

    /// Asks something of an agent. False: there is none of that name.
    fn order_agent<'a>(&'a self, name: &'a str, order: Order, by: Actor) -> Answer<'a, bool>;

    /// Who changed what, newest first, at most [`AuditFilter::limit`].
    fn audit(&self, filter: AuditFilter) -> Answer<'_, Vec<AuditEntry>>;

    /// The name of the agent in this process, if there is one: what it built lies on this disk.
    fn own_agent(&self) -> Option<&str>;

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

/// Which entries of the audit are asked for; `None` asks for any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditFilter {
    /// Of builds of this repository.
    pub repo: Option<RepoId>,
    /// From this moment on.
    pub since: Option<Timestamp>,
    /// Older than this entry.
    pub before: Option<i64>,
    /// At most so many.
    pub limit: u32,
}

impl Default for AuditFilter {
    fn default() -> Self {
        AuditFilter { repo: None, since: None, before: None, limit: 50 }
    }
}

/// Why a change was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
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
    /// It waits for nobody's approval.
    #[error("the build waits for no approval")]
    NoApprovalNeeded,
    /// The pull request's head is another commit by now, or there is none any more.
    #[error("{0}")]
    HeadMoved(String),
    /// The request names another commit than the build's.
    #[error("the build is of commit {0}: look at that one, or name another build")]
    OtherCommit(CommitId),
    /// Of its statuses none was given up.
    #[error("no status of the build was given up: there is nothing to send again")]
    NothingToSend,
}

/// What waits for the forges, and what they never took.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Outbox {
    /// Statuses that are still to be sent.
    pub unsent: u64,
    /// Of these, those that failed at least once.
    pub failing: u64,
    /// Seconds since the oldest of them was written.
    pub oldest_seconds: Option<u64>,
    /// What the last failing attempt was told.
    pub last_error: Option<String>,
    /// Forges that are left alone.
    pub paused: Vec<PausedForge>,
    /// When forges' tokens end, where they say so.
    pub tokens: Vec<TokenEnd>,
    /// How many statuses were given up.
    pub dead_count: u64,
    /// The newest of them.
    pub dead: Vec<Undelivered>,
}

/// A forge that is left alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PausedForge {
    /// The configured forge.
    pub forge: String,
    /// For how many seconds still.
    pub seconds: u64,
    /// Why.
    pub reason: String,
}

/// When a token ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TokenEnd {
    /// The configured forge.
    pub forge: String,
    /// When.
    pub expires_at: Timestamp,
}

/// A status that was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Undelivered {
    /// The build that it belongs to.
    pub build: BuildId,
    /// The repository: `github/acme/shop`.
    pub repo: String,
    /// The commit.
    pub sha: String,
    /// The name under which the forge lists it.
    pub context: String,
    /// `pending`, `success`, `failure` or `error`.
    pub state: &'static str,
    /// What was to be said.
    pub sentence: String,
    /// How often it was tried.
    pub attempts: u32,
    /// The forge's last answer.
    pub last_error: String,
    /// When it was written.
    pub at: Timestamp,
}

/// What a forge was told of a build in one context.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Told {
    /// The name under which the forge lists it.
    pub context: String,
    /// `pending`, `success`, `failure` or `error`.
    pub state: &'static str,
    /// The sentence.
    pub sentence: String,
    /// `due`, `sent`, `dropped` (a newer build owns the commit) or `dead` (given up).
    pub fate: String,
    /// How often it was tried.
    pub attempts: u32,
    /// What went wrong last, unless the forge has it by now.
    pub last_error: Option<String>,
    /// When the forge took it.
    pub sent_at: Option<Timestamp>,
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
    /// Forges that are left alone, and for how many seconds still.
    pub paused: Vec<(String, u64)>,
    /// When forges' tokens end, where they say so.
    pub token_ends: Vec<(String, Timestamp)>,
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
    /// Bytes and inodes that are free on the disk of this process's data, where the system says so.
    pub disk_free: Option<(u64, u64)>,
    /// Looks for what was missed since the start, by how they ended: `ok`, `failed`.
    pub looks: Vec<(&'static str, u64)>,
    /// What they found, by kind: `push`, `tag`, `pull_request`, `deleted`, `closed`.
    pub missed: Vec<(&'static str, u64)>,
    /// Failed deliveries that a forge was asked to send again.
    pub sent_again: u64,
}

//! A build and its steps: what is stored, shown and sent, and which moves are legal.

use serde::{Deserialize, Serialize};

use super::outcome::Outcome;
use super::repo::{CommitId, RefName, RepoId};
use super::sentence::size;
use super::snapshot::Level;
use super::time::Timestamp;
use super::trust::Trust;

/// A build's number: rising, from 1, never used again.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BuildId(pub i64);

impl std::fmt::Display for BuildId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a build stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// A fork's build that needs a maintainer's word.
    Waiting,
    /// Ready to be claimed.
    Queued,
    /// An agent holds its lease.
    Running,
    /// It has an outcome; nothing changes it any more.
    Finished,
}

impl State {
    /// The word in the store, the API and on pages.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Waiting => "waiting",
            State::Queued => "queued",
            State::Running => "running",
            State::Finished => "finished",
        }
    }

    /// The legal moves. `Running → Queued` happens only when a lease was lost.
    pub fn may_become(self, next: State) -> bool {
        use State::{Finished, Queued, Running, Waiting};
        matches!(
            (self, next),
            (Waiting, Queued | Finished) | (Queued, Running | Finished) | (Running, Finished | Queued)
        )
    }
}

impl std::str::FromStr for State {
    type Err = super::repo::BadName;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "waiting" => Ok(State::Waiting),
            "queued" => Ok(State::Queued),
            "running" => Ok(State::Running),
            "finished" => Ok(State::Finished),
            _ => Err(super::repo::BadName(format!("{text:?} is not a state"))),
        }
    }
}

/// Why a build exists. The words are those of the API's `event`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// A branch moved.
    Push,
    /// A tag was pushed.
    Tag,
    /// A pull request was opened, reopened or got new commits.
    PullRequest,
    /// A merge queue asks.
    MergeGroup,
    /// Somebody asked for the same commit again.
    Rerun,
    /// Somebody asked for a ref by the API.
    Api,
    /// A push that was missed and found later.
    Sweep,
    /// `hookmill run` on a folder.
    Local,
}

impl Cause {
    /// The word in the store, the API and `CI_EVENT`.
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::Push => "push",
            Cause::Tag => "tag",
            Cause::PullRequest => "pull_request",
            Cause::MergeGroup => "merge_group",
            Cause::Rerun => "rerun",
            Cause::Api => "api",
            Cause::Sweep => "sweep",
            Cause::Local => "local",
        }
    }
}

impl Cause {
    /// What people are told of it: the word, and what it means where that is not plain.
    pub fn words(self) -> &'static str {
        match self {
            Cause::Sweep => "sweep (found by asking the forge; no delivery told of it)",
            other => other.as_str(),
        }
    }
}

impl std::str::FromStr for Cause {
    type Err = super::repo::BadName;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        use Cause::{Api, Local, MergeGroup, PullRequest, Push, Rerun, Sweep, Tag};
        [Push, Tag, PullRequest, MergeGroup, Rerun, Api, Sweep, Local]
            .into_iter()
            .find(|cause| cause.as_str() == text)
            .ok_or_else(|| super::repo::BadName(format!("{text:?} is not an event")))
    }
}

/// One build, serialised exactly as the API shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Build {
    /// Its number.
    pub id: BuildId,
    /// The repository, written `forge/owner/name`.
    #[serde(with = "repo_as_text")]
    pub repo: RepoId,
    /// The commit that gets the status.
    pub sha: CommitId,
    /// What was checked out, once it was.
    pub built_sha: Option<CommitId>,
    /// The commit of the base branch that a pull request is compared with.
    pub base_sha: Option<CommitId>,
    /// The ref by which superseding, cancelling and cache scope go.
    #[serde(rename = "ref")]
    pub git_ref: RefName,
    /// The short name of the branch, for branch builds.
    pub branch: Option<String>,
    /// The pull request's number, if one asked.
    pub pull_request: Option<u64>,
    /// Why it exists.
    #[serde(rename = "event")]
    pub cause: Cause,
    /// Whose code it runs.
    pub trust: Trust,
    /// 1, or one more than the highest for the same repository, ref and commit.
    pub attempt: u32,
    /// The build that this one repeats.
    pub rerun_of: Option<BuildId>,
    /// The newer build that took this one's place.
    pub superseded_by: Option<BuildId>,
    /// Where it stands.
    pub state: State,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// Why it ended so (or why it waits), one line.
    pub reason: Option<String>,
    /// Who approved a fork's build.
    pub approved_by: Option<String>,
    /// When they did.
    #[serde(default)]
    pub approved_at: Option<Timestamp>,
    /// When the delivery was taken.
    pub created_at: Timestamp,
    /// When the agent that finished (or now holds) it began.
    pub started_at: Option<Timestamp>,
    /// When it got its outcome.
    pub finished_at: Option<Timestamp>,
    /// The layers that confined it, in words; empty before it ran.
    pub sandbox: String,
    /// The branch a pull request wants to go into, or the repository's default branch.
    pub base_branch: Option<String>,
    /// The repository's default branch, as the forge last named it.
    pub default_branch: Option<String>,
    /// The head commit's first line or the pull request's title, as the forge gave it. Hostile text.
    pub title: Option<String>,
    /// Who pushed, as the forge gave it. Hostile text.
    pub author: Option<String>,
    /// False for a rerun without any cache.
    pub use_cache: bool,
    /// The build whose verdict was taken over, since it had the same files: nothing of this one ran.
    #[serde(default)]
    pub same_as: Option<BuildId>,
    /// The agent that claimed it last.
    #[serde(default)]
    pub agent: Option<String>,
    /// What it left for later builds; empty until that is kept, which is after its end.
    #[serde(default)]
    pub kept: Vec<KeptLevel>,
    /// The plan's steps in order, the checkout first; empty before planning.
    pub steps: Vec<Step>,
}

/// What kind of work a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StepKind {
    /// Getting the commit into the workspace.
    Checkout,
    /// A package manager.
    Install,
    /// webpack, or the repository's build script.
    Bundle,
    /// A command named in the repository file.
    Check,
}

impl StepKind {
    /// The word in the store and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            StepKind::Checkout => "checkout",
            StepKind::Install => "install",
            StepKind::Bundle => "bundle",
            StepKind::Check => "check",
        }
    }
}

impl std::str::FromStr for StepKind {
    type Err = super::repo::BadName;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "checkout" => Ok(StepKind::Checkout),
            "install" => Ok(StepKind::Install),
            "bundle" => Ok(StepKind::Bundle),
            "check" => Ok(StepKind::Check),
            _ => Err(super::repo::BadName(format!("{text:?} is not a step kind"))),
        }
    }
}

/// What a step's cache did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CacheUse {
    /// Restored; the work was not done again.
    Hit,
    /// Looked for and not there.
    Miss,
    /// Not looked for.
    Off,
}

impl CacheUse {
    /// The word in the store and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            CacheUse::Hit => "hit",
            CacheUse::Miss => "miss",
            CacheUse::Off => "off",
        }
    }
}

impl std::str::FromStr for CacheUse {
    type Err = super::repo::BadName;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "hit" => Ok(CacheUse::Hit),
            "miss" => Ok(CacheUse::Miss),
            "off" => Ok(CacheUse::Off),
            _ => Err(super::repo::BadName(format!("{text:?} is not a cache use"))),
        }
    }
}

/// Where a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StepState {
    /// Planned.
    Queued,
    /// Its process was started.
    Running,
    /// It has an outcome.
    Finished,
}

impl StepState {
    /// The word in the store and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            StepState::Queued => "queued",
            StepState::Running => "running",
            StepState::Finished => "finished",
        }
    }
}

impl std::str::FromStr for StepState {
    type Err = super::repo::BadName;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "queued" => Ok(StepState::Queued),
            "running" => Ok(StepState::Running),
            "finished" => Ok(StepState::Finished),
            _ => Err(super::repo::BadName(format!("{text:?} is not a step state"))),
        }
    }
}

/// One step of a build, as the API shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Unique in its build: `checkout`, `npm`, `npm:client`, `bundle`, a check's name.
    pub name: String,
    /// What it does.
    pub kind: StepKind,
    /// Where it stands.
    pub state: StepState,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// The process's exit status, if it exited.
    pub exit_code: Option<i32>,
    /// The signal that ended it, without `SIG`: `KILL`.
    pub signal: Option<String>,
    /// What its cache did.
    pub cache: CacheUse,
    /// Why its cache did that, a phrase: `unchanged since build 12`, `package-lock.json changed since build 12`. Hostile text.
    #[serde(default)]
    pub cache_note: Option<String>,
    /// When its process was started.
    pub started_at: Option<Timestamp>,
    /// When its outcome was known.
    pub finished_at: Option<Timestamp>,
    /// The first useful line of a failure, one line. Hostile text.
    pub reason: Option<String>,
    /// What mends it, where the cause is a known one: lines to paste, with the file that they belong into as a comment.
    #[serde(default)]
    pub mend: Option<String>,
    /// The hosts that it asked for where only some are open to it, by name.
    #[serde(default)]
    pub reached: Vec<Reached>,
}

/// A host that a step asked for. Hostile text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    /// `host:port`.
    pub host: String,
    /// Bytes in both directions.
    pub bytes: u64,
    /// It is closed to this step: refused, or with bytes let through because that is only reported.
    pub closed: bool,
}

/// `registry.example:443 4.2 MB`; `cdn.example:443 closed`.
impl std::fmt::Display for Reached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.bytes, self.closed) {
            (0, true) => write!(f, "{} closed", self.host),
            (bytes, false) => write!(f, "{} {}", self.host, size(bytes)),
            (bytes, true) => write!(f, "{} {}, closed and only reported", self.host, size(bytes)),
        }
    }
}

impl Step {
    /// An install whose inputs were unchanged: no package manager was started.
    pub fn is_restored(&self) -> bool {
        self.kind == StepKind::Install && self.cache == CacheUse::Hit
    }

    /// A planned step that has not begun.
    pub fn queued(name: impl Into<String>, kind: StepKind) -> Self {
        Step {
            name: name.into(),
            kind,
            state: StepState::Queued,
            outcome: None,
            exit_code: None,
            signal: None,
            cache: CacheUse::Off,
            cache_note: None,
            started_at: None,
            finished_at: None,
            reason: None,
            mend: None,
            reached: Vec::new(),
        }
    }

    /// Adds what one try reached to what earlier ones did.
    pub fn has_reached(&mut self, more: impl IntoIterator<Item = Reached>) {
        for new in more {
            match self.reached.iter_mut().find(|known| known.host == new.host) {
                Some(known) => (known.bytes, known.closed) = (known.bytes + new.bytes, known.closed | new.closed),
                None => self.reached.push(new),
            }
        }
        self.reached.sort_by(|one, other| one.host.cmp(&other.host));
    }

    /// The hosts in one line; empty where there is none to tell of.
    pub fn reached_in_words(&self) -> String {
        self.reached.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }
}

/// What a build left of one kind for later builds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptLevel {
    /// What it is of.
    pub level: Level,
    /// The size of what this build added, in bytes; layers of earlier builds beneath it do not count.
    pub bytes: u64,
}

/// `packages 81 MB`; `verdict`, which takes no space.
impl std::fmt::Display for KeptLevel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.bytes {
            0 => f.write_str(self.level.as_str()),
            bytes => write!(f, "{} {}", self.level.as_str(), size(bytes)),
        }
    }
}

impl Build {
    /// What it left for later builds, in one line: `packages 81 MB, work 4.2 MB, verdict`; empty for nothing.
    pub fn kept_in_words(&self) -> String {
        self.kept.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }
}

mod repo_as_text {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::RepoId;

    pub(super) fn serialize<S: Serializer>(repo: &RepoId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(repo)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<RepoId, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::State::{Finished, Queued, Running, Waiting};

    #[test]
    fn a_finished_build_never_moves() {
        for next in [Waiting, Queued, Running, Finished] {
            assert!(!Finished.may_become(next));
        }
        assert!(Running.may_become(Queued), "a lost lease gives the build back");
        assert!(!Waiting.may_become(Running), "a fork's build runs only through the queue");
    }
}

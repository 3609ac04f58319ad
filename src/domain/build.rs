//! A build and its steps: what is stored, shown and sent, and which moves are legal.

use serde::{Deserialize, Serialize};

use super::outcome::Outcome;
use super::repo::{CommitId, RefName, RepoId};
use super::sentence::size;
use super::snapshot::Level;
use super::step::Step;
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

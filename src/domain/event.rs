//! What a delivery means, whichever forge sent it.

use serde::{Deserialize, Serialize};

use super::repo::{CommitId, RefName, RepoPath};
use super::time::Timestamp;

/// A delivery, read: who it speaks of and what happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Heard {
    /// The repository that the payload names, if it names one.
    pub repo: Option<RepoPath>,
    /// The repository's default branch, if the payload says so.
    pub default_branch: Option<String>,
    /// What happened.
    pub event: Event,
}

/// What happened at the forge.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Event {
    /// A branch or tag now points at a commit.
    Push(Push),
    /// A branch or tag is gone.
    Deleted {
        /// The ref that is gone.
        git_ref: RefName,
        /// What it pointed at, where the forge says so: GitHub does, Gitea names no commit of a branch.
        tip: Option<CommitId>,
        /// When it went, by the forge's clock, where it says so.
        pushed_at: Option<Timestamp>,
    },
    /// A pull request was opened, reopened or got new commits.
    PullRequest(PullRequest),
    /// A pull request was closed or merged.
    PullRequestClosed {
        /// Its number.
        number: u64,
        /// The ref under which its builds run.
        git_ref: RefName,
        /// True when the head is in another repository.
        fork: bool,
    },
    /// Nothing to build; the sentence is the answer to the forge and says why.
    Ignored {
        /// One sentence, for the person who looks at the hook's deliveries.
        because: String,
    },
}

/// A branch or tag that moved (or was made).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Push {
    /// The branch or tag.
    pub git_ref: RefName,
    /// The commit it pointed at; `None` when it was made by this push.
    pub before: Option<CommitId>,
    /// The commit it points at now. The only word on what to build: `commits` may be empty or cut.
    pub after: CommitId,
    /// When it was pushed, by the forge's clock and in whole seconds, where the forge says so: GitHub does.
    pub pushed_at: Option<Timestamp>,
    /// The forge says that history was rewritten. GitHub does, Gitea is silent.
    pub forced: bool,
    /// The head commit's message asks for no build (`[skip ci]`, `[ci skip]`, `[no ci]`).
    pub skip_ci: bool,
    /// The head commit's first line. Hostile text.
    pub title: Option<String>,
    /// Who pushed. Hostile text.
    pub author: Option<String>,
}

/// A pull request that has something new to build.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PullRequest {
    /// Its number.
    pub number: u64,
    /// The head commit.
    pub head: CommitId,
    /// `refs/heads/<source>` when the head is in this repository, else `refs/pull/<n>/head`.
    pub git_ref: RefName,
    /// True when the head is in another repository (or that repository is gone).
    pub fork: bool,
    /// The branch it wants to go into.
    pub base_branch: String,
    /// That branch's commit, as the payload gave it.
    pub base: Option<CommitId>,
    /// The title. Hostile text.
    pub title: Option<String>,
    /// Who opened it. Hostile text.
    pub author: Option<String>,
}

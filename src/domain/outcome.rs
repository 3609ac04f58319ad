//! How a build or a step ended.

use serde::{Deserialize, Serialize};

/// The final word on a build or a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Everything that was planned succeeded (also: there was nothing to do).
    Passed,
    /// A rule says that nothing needs building; counts as success.
    Skipped,
    /// The repository's own fault: an exit status, a compile error, a tree that is not acceptable.
    Failed,
    /// A step or the build ran longer than it may.
    TimedOut,
    /// A person, a newer push or a failing sibling ended it.
    Cancelled,
    /// Our fault or the infrastructure's: "not your commit".
    Broken,
}

impl Outcome {
    /// The word in the store, the API and on pages.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::Passed => "passed",
            Outcome::Skipped => "skipped",
            Outcome::Failed => "failed",
            Outcome::TimedOut => "timed_out",
            Outcome::Cancelled => "cancelled",
            Outcome::Broken => "broken",
        }
    }

    /// Passed and skipped are success; everything else is not.
    pub fn is_success(self) -> bool {
        matches!(self, Outcome::Passed | Outcome::Skipped)
    }

    /// The exit code of `run`, `demo --once` and `builds log -f`.
    pub fn exit_code(self) -> u8 {
        match self {
            Outcome::Passed | Outcome::Skipped => 0,
            Outcome::Failed | Outcome::TimedOut => 1,
            Outcome::Broken => 3,
            Outcome::Cancelled => 130,
        }
    }
}

impl std::str::FromStr for Outcome {
    type Err = super::repo::BadName;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Outcome::Passed, Outcome::Skipped, Outcome::Failed, Outcome::TimedOut, Outcome::Cancelled, Outcome::Broken]
            .into_iter()
            .find(|outcome| outcome.as_str() == text)
            .ok_or_else(|| super::repo::BadName(format!("{text:?} is not an outcome")))
    }
}

/// An outcome with the sentence that explains it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// How it ended.
    pub outcome: Outcome,
    /// Why, for people: one line, the words of a status sentence. Never a secret.
    pub reason: String,
}

impl Verdict {
    /// A verdict from its two parts.
    pub fn new(outcome: Outcome, reason: impl Into<String>) -> Self {
        Self { outcome, reason: reason.into() }
    }
}

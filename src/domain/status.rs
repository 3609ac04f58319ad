//! What a forge is told about a commit.

use serde::{Deserialize, Serialize};

use super::outcome::Outcome;

/// The states that GitHub, Gitea and Forgejo share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StatusState {
    /// Waiting, queued or running.
    Pending,
    /// Passed or skipped.
    Success,
    /// Failed or timed out.
    Failure,
    /// Broken or cancelled.
    Error,
}

impl StatusState {
    /// The word in the forge's API.
    pub fn as_str(self) -> &'static str {
        match self {
            StatusState::Pending => "pending",
            StatusState::Success => "success",
            StatusState::Failure => "failure",
            StatusState::Error => "error",
        }
    }
}

impl std::str::FromStr for StatusState {
    type Err = super::repo::BadName;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "pending" => Ok(StatusState::Pending),
            "success" => Ok(StatusState::Success),
            "failure" => Ok(StatusState::Failure),
            "error" => Ok(StatusState::Error),
            _ => Err(super::repo::BadName(format!("{text:?} is not a status state"))),
        }
    }
}

impl From<Outcome> for StatusState {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Passed | Outcome::Skipped => StatusState::Success,
            Outcome::Failed | Outcome::TimedOut => StatusState::Failure,
            Outcome::Cancelled | Outcome::Broken => StatusState::Error,
        }
    }
}

/// One status to be sent: it belongs to a build, which gives repository, commit and link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The name under which the forge lists it: `hookmill`, `hookmill/npm`.
    pub context: String,
    /// The state.
    pub state: StatusState,
    /// One line, at most 140 characters (see [`super::sentence`]).
    pub sentence: String,
}

//! Whose code a build runs.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How long a fork's build waits for a maintainer, and how long the approval of its commit holds for another build of it.
pub const APPROVAL_HOLDS: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// How far a build's code is trusted. Decided by the agent from the forge's signed word, never by the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Trust {
    /// A push to the repository's own branches or tags.
    Trusted,
    /// A pull request from a branch of the same repository.
    Member,
    /// A pull request from anybody else's copy.
    Fork,
}

impl Trust {
    /// The word in the store, the API and `CI_TRUST`.
    pub fn as_str(self) -> &'static str {
        match self {
            Trust::Trusted => "trusted",
            Trust::Member => "member",
            Trust::Fork => "fork",
        }
    }
}

impl std::str::FromStr for Trust {
    type Err = super::repo::BadName;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "trusted" => Ok(Trust::Trusted),
            "member" => Ok(Trust::Member),
            "fork" => Ok(Trust::Fork),
            _ => Err(super::repo::BadName(format!("{text:?} is not a trust"))),
        }
    }
}

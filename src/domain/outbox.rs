//! Who may speak for a commit.
//!
//! A commit's context belongs to its newest build: what an older one would say after a newer one has spoken is kept for
//! the account and never sent. That goes for its `pending` as for its final word; else the commit could stay pending
//! for ever.

use super::build::BuildId;
use super::status::StatusState;

/// Where a status stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fate {
    /// It is to be sent.
    Due,
    /// The forge took it.
    Sent,
    /// A newer build had spoken: it is never sent.
    Dropped,
    /// It was given up.
    Dead,
}

impl Fate {
    /// The word in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Fate::Due => "due",
            Fate::Sent => "sent",
            Fate::Dropped => "dropped",
            Fate::Dead => "dead",
        }
    }

    /// Of a word that `speaker` says in a context of a commit, in which `newest` is the newest build that spoke so far.
    /// What is due takes the place of whatever else is due there.
    pub fn of_word(speaker: BuildId, newest: Option<BuildId>) -> Self {
        if newest.is_some_and(|newest| newest > speaker) { Fate::Dropped } else { Fate::Due }
    }
}

/// Whether a build that ends must say one more word in a context in which this was its last.
pub fn needs_final_word(last: StatusState) -> bool {
    last == StatusState::Pending
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_belongs_to_its_newest_build() {
        let (older, newer) = (BuildId(1), BuildId(2));
        assert_eq!(Fate::of_word(older, None), Fate::Due);
        assert_eq!(Fate::of_word(older, Some(older)), Fate::Due);
        assert_eq!(Fate::of_word(older, Some(newer)), Fate::Dropped);
        assert_eq!(Fate::of_word(newer, Some(older)), Fate::Due);
    }
}

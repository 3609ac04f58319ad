//! Who may speak for a commit, and what follows from what a forge answers.
//!
//! A commit's context belongs to its newest build: what an older one would say after a newer one has spoken is kept for
//! the account and never sent. That goes for its `pending` as for its final word; else the commit could stay pending
//! for ever.

use std::time::Duration;

use super::build::BuildId;
use super::status::StatusState;

/// After this long a status is given up: nobody looks at that commit any more.
pub const GIVE_UP: Duration = Duration::from_secs(24 * 60 * 60);
/// A token that was refused is tried again this seldom.
pub const UNAUTHORIZED_PAUSE: Duration = Duration::from_secs(5 * 60);
/// The first wait after a failure; doubled each time, up to the longest.
pub const FIRST_WAIT: Duration = Duration::from_secs(2);
/// The longest wait between two tries that the forge did not ask for.
pub const LONGEST_WAIT: Duration = Duration::from_secs(15 * 60);

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

/// Why a forge did not take a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// It may take it later.
    Later {
        /// Not before this time has passed, by its own word.
        after: Option<Duration>,
    },
    /// Our token is not good: nothing is taken until a person acts.
    Unauthorized,
    /// It never will.
    Never,
}

/// What a sender does with a status that was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterRejection {
    /// Gives it up, because the forge will never take it.
    Refused,
    /// Gives it up, because it is too old.
    TooOld,
    /// Tries again.
    Again {
        /// Not before this time.
        wait: Duration,
        /// For which time nothing else is sent to that forge either.
        pause: Option<Duration>,
    },
}

impl Rejection {
    /// What follows for a status that was tried `attempts` times before and was written `age` ago; `jitter` is between
    /// 0 and 1.
    pub fn means(self, attempts: u32, age: Duration, jitter: f64) -> AfterRejection {
        match self {
            Rejection::Never => AfterRejection::Refused,
            Rejection::Later { .. } | Rejection::Unauthorized if age > GIVE_UP => AfterRejection::TooOld,
            Rejection::Later { after } => {
                AfterRejection::Again { wait: after.unwrap_or_else(|| backoff(attempts, jitter)), pause: after }
            }
            Rejection::Unauthorized => {
                AfterRejection::Again { wait: UNAUTHORIZED_PAUSE, pause: Some(UNAUTHORIZED_PAUSE) }
            }
        }
    }
}

/// Doubled for each attempt, with up to a half of jitter.
fn backoff(attempts: u32, jitter: f64) -> Duration {
    let wait = FIRST_WAIT.saturating_mul(1 << attempts.min(10)).min(LONGEST_WAIT);
    wait.mul_f64(1.0 + jitter / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_and_are_bounded() {
        assert!(backoff(0, 0.0) == FIRST_WAIT && backoff(0, 1.0) <= FIRST_WAIT * 2);
        assert!(backoff(3, 0.0) > backoff(0, 1.0));
        assert_eq!(backoff(60, 0.0), LONGEST_WAIT);
    }

    #[test]
    fn a_commit_belongs_to_its_newest_build() {
        let (older, newer) = (BuildId(1), BuildId(2));
        assert_eq!(Fate::of_word(older, None), Fate::Due);
        assert_eq!(Fate::of_word(older, Some(older)), Fate::Due);
        assert_eq!(Fate::of_word(older, Some(newer)), Fate::Dropped);
        assert_eq!(Fate::of_word(newer, Some(older)), Fate::Due);
    }

    #[test]
    fn what_the_forge_asks_for_is_heeded_and_a_day_is_the_end() {
        let minute = Duration::from_secs(60);
        let later = Rejection::Later { after: Some(minute) };
        let again = AfterRejection::Again { wait: minute, pause: Some(minute) };
        assert_eq!(later.means(5, minute, 0.5), again);
        assert_eq!(later.means(5, GIVE_UP + minute, 0.5), AfterRejection::TooOld);
        assert_eq!(Rejection::Never.means(0, Duration::ZERO, 0.0), AfterRejection::Refused);
        let own = Rejection::Later { after: None }.means(0, minute, 0.0);
        assert_eq!(own, AfterRejection::Again { wait: FIRST_WAIT, pause: None });
    }
}

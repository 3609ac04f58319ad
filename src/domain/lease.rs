//! What follows from a lease: for the holder that renews it, and for a build whose holder is gone.
//!
//! Nothing here asks a clock or a database. The worker and the store do, and act on what these functions say; a
//! simulation hands in times and answers of its own.

use std::time::Duration;

use super::build::BuildId;
use super::outcome::{Outcome, Verdict};
use super::rule::Rule;

/// How soon a renewal that came to nothing is tried again, at most.
const AGAIN: Duration = Duration::from_secs(2);
/// How long the answer to one renewal is waited for, at most; the next one may find a better connection.
const PATIENCE: Duration = Duration::from_secs(10);
/// After so many claims whose lease was lost, a build ends broken.
pub const MAX_CLAIMS: u32 = 3;

/// What a holder learns when it renews.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lease {
    /// Go on.
    Held,
    /// Go on only to end it: stop the steps and finish it as cancelled, with these words.
    CancelRequested {
        /// The build's reason: `cancelled by jane`, `superseded by #13`.
        reason: String,
        /// Its status' sentence.
        sentence: String,
        /// The newer build, if one took its place.
        superseded_by: Option<BuildId>,
    },
    /// Somebody else has it, or it is finished: kill its steps and write nothing.
    Lost,
}

impl Lease {
    /// Of a build whose claim holds, by what was asked of its holder.
    pub fn held(reason: Option<String>, sentence: Option<String>, superseded_by: Option<BuildId>) -> Self {
        match reason {
            None => Lease::Held,
            Some(reason) => {
                Lease::CancelRequested { sentence: sentence.unwrap_or_else(|| reason.clone()), reason, superseded_by }
            }
        }
    }
}

/// A holder's own account of its lease. Times are since whatever moment the holder counts from, by a clock that nobody
/// turns; the lease counts from when it was *asked* for, since nobody knows how long the answer took. It is taken for
/// over some time before its end: what is cut off then has ended when somebody else may begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hold {
    lease: Duration,
    until: Duration,
    next_beat: Duration,
}

impl Hold {
    /// Of a claim for so long a `lease` that was asked for at `asked`.
    pub fn since(asked: Duration, lease: Duration) -> Self {
        Self { lease, until: asked + lease - lease / 6, next_beat: asked + lease / 3 }
    }

    /// How long the claim holds without a word.
    pub fn lease(&self) -> Duration {
        self.lease
    }

    /// Whether somebody else may have the build by `now`: it is not begun, not renewed, and nothing is written for it.
    pub fn is_over(&self, now: Duration) -> bool {
        now >= self.until
    }

    /// When to renew next.
    pub fn next_beat(&self) -> Duration {
        self.next_beat
    }

    /// How long an answer to what is asked at `asked` is waited for.
    pub fn patience(&self, asked: Duration) -> Duration {
        self.until.saturating_sub(asked).min(PATIENCE)
    }

    /// The renewal that was asked for at `asked` was answered.
    pub fn answered(&mut self, asked: Duration, answer: &Lease) {
        match answer {
            Lease::Held => *self = Self::since(asked, self.lease),
            Lease::CancelRequested { .. } => {}
            Lease::Lost => self.until = Duration::ZERO,
        }
    }

    /// A renewal came to nothing, and it is `now`: the store may come back before the lease is over.
    pub fn unanswered(&mut self, now: Duration) {
        self.next_beat = now + AGAIN.min(self.lease / 6);
    }
}

/// How a build lost its holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// Without a word: the claim counts.
    Lost,
    /// It gave the build back, since it stops: the claim does not count.
    Drained,
}

/// What becomes of a build that lost its holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Afterwards {
    /// It goes back into the queue.
    Again {
        /// The rule that says so.
        rule: Rule,
        /// Its status' sentence.
        sentence: &'static str,
    },
    /// It ends.
    Ended {
        /// The rule that says so.
        rule: Rule,
        /// How.
        verdict: Verdict,
        /// Its status' sentence.
        sentence: String,
    },
}

/// Decides on a build that lost its holder after so many `claims`: it is queued again, unless it was to be cancelled or
/// was lost too often.
pub fn afterwards(lease: Lease, claims: u32, gone: Gone) -> Afterwards {
    if let Lease::CancelRequested { reason, sentence, .. } = lease {
        let verdict = Verdict::new(Outcome::Cancelled, reason);
        return Afterwards::Ended { rule: Rule::CancelledWithItsAgent, verdict, sentence };
    }
    match gone {
        Gone::Drained => {
            Afterwards::Again { rule: Rule::AgentDrains, sentence: "Queued again: the agent that ran it is restarting" }
        }
        Gone::Lost if claims < MAX_CLAIMS => {
            Afterwards::Again { rule: Rule::AgentLost, sentence: "Queued again: the agent that ran it was lost" }
        }
        Gone::Lost => Afterwards::Ended {
            rule: Rule::AgentLostTooOften,
            verdict: Verdict::new(Outcome::Broken, "agent lost"),
            sentence: format!("Not your commit: the agent was lost {claims} times while it ran this build"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    const LEASE: Duration = at(60);

    #[test]
    fn a_holder_that_hears_nothing_stops_before_its_lease_is_over() {
        let mut hold = Hold::since(at(100), LEASE);
        assert_eq!(hold.next_beat(), at(120));
        hold.unanswered(at(130));
        assert_eq!(hold.next_beat(), at(132));
        assert_eq!((hold.patience(at(132)), hold.patience(at(145))), (PATIENCE, at(5)));
        assert!(!hold.is_over(at(149)) && hold.is_over(at(150)));
    }

    #[test]
    fn a_late_answer_is_worth_only_what_is_left_of_the_lease_that_was_asked_for() {
        let mut hold = Hold::since(at(0), LEASE);
        hold.answered(at(20), &Lease::Held);
        assert_eq!(hold, Hold::since(at(20), LEASE));
        assert!(hold.is_over(at(70)), "an answer that comes then is worth nothing");
        hold.answered(at(40), &Lease::Lost);
        assert!(hold.is_over(at(41)), "the store knows better");
    }

    #[test]
    fn lost_three_times_is_broken_and_given_back_never_is() {
        let again = |claims, gone| matches!(afterwards(Lease::Held, claims, gone), Afterwards::Again { .. });
        assert!(again(1, Gone::Lost) && again(2, Gone::Lost) && !again(3, Gone::Lost));
        assert!(again(3, Gone::Drained));
        let asked = Lease::held(Some("cancelled by jane".into()), None, None);
        for gone in [Gone::Lost, Gone::Drained] {
            let Afterwards::Ended { verdict, sentence, .. } = afterwards(asked.clone(), 1, gone) else {
                panic!("who asked for its end does not want it again")
            };
            assert_eq!((verdict.outcome, sentence.as_str()), (Outcome::Cancelled, "cancelled by jane"));
        }
    }
}

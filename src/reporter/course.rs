//! What an answer means for its status and for everything else that waits for the same forge. No clock and no I/O.

use std::time::{Duration, Instant};

use crate::config::server::Forge;
use crate::domain::budget::Budget;
use crate::domain::repo::CommitId;
use crate::forge::api::{self, Accepted, PostError, Scope};
use crate::store::{ForgeNews, OutboxItem, RowNews, Settled};

/// How patient the sender is.
#[derive(Debug, Clone)]
pub struct Pace {
    /// The first wait after a failure; doubled each time, up to the longest.
    pub first_wait: Duration,
    /// A forge that is away is asked at least so often, so that it hears everything within a minute of its return.
    pub longest_wait: Duration,
    /// The first wait after a token was refused; doubled each time, up to the longest.
    pub refused_wait: Duration,
    /// The longest wait between two attempts with a token that is refused.
    pub longest_refused_wait: Duration,
    /// So long after nobody answered a request the forge may still act on it: no newer word of the commit is sent before.
    pub lingers: Duration,
    /// After this long a status is given up: nobody looks at that commit any more.
    pub give_up: Duration,
    /// How long to sleep when nothing says that there is something to send.
    pub poll: Duration,
    /// The host behind a forge, and what it may be sent.
    pub budget: fn(&Forge) -> (String, Budget),
}

impl Default for Pace {
    fn default() -> Self {
        Pace {
            first_wait: Duration::from_secs(2),
            longest_wait: Duration::from_secs(30),
            refused_wait: Duration::from_secs(30),
            longest_refused_wait: Duration::from_secs(5 * 60),
            lingers: Duration::from_secs(15),
            give_up: Duration::from_secs(24 * 60 * 60),
            poll: Duration::from_secs(5),
            budget: api::budget,
        }
    }
}

/// When a request was under way.
#[derive(Debug, Clone, Copy)]
pub struct Asked {
    /// When it was begun.
    pub at: Instant,
    /// When its answer came, or was not waited for any longer.
    pub answered: Instant,
    /// From 0 to 1, drawn for each request: many senders don't knock at once.
    pub luck: f64,
}

impl Asked {
    pub(super) fn answered_now(at: Instant) -> Self {
        let luck = f64::from(getrandom::u32().unwrap_or(0)) / f64::from(u32::MAX);
        Self { at, answered: Instant::now(), luck }
    }

    /// Doubled for each failure before, up to `longest`, less up to a quarter at random.
    fn doubled(&self, first: Duration, before: u32, longest: Duration) -> Duration {
        first.saturating_mul(1 << before.min(20)).min(longest).mul_f64(1.0 - self.luck / 4.0)
    }
}

/// How it went with one forge lately.
#[derive(Debug, Default)]
pub struct Course {
    /// Failures in a row, and when the request of the last one was begun: those that were under way beside it say
    /// nothing new.
    away: Streak,
    /// The same for tokens that were refused.
    refused: Streak,
    /// The commit of the last request that the API failed at. Two different ones in a row are the forge's fault.
    suspect: Option<CommitId>,
}

#[derive(Debug, Default)]
struct Streak {
    length: u32,
    counted: Option<Instant>,
}

impl Streak {
    /// One more, unless it was asked before the last one was counted; answers with the length before.
    fn grow(&mut self, asked: Asked) -> u32 {
        if self.counted.is_none_or(|counted| asked.at > counted) {
            self.length = self.length.saturating_add(1);
            self.counted = Some(asked.answered);
        }
        self.length.saturating_sub(1)
    }
}

impl Course {
    /// For a status that was not even sent.
    pub(super) fn untried(pace: &Pace) -> Settled {
        Settled { row: RowNews::Back, forge: ForgeNews::Nothing, why: String::new(), give_up: pace.give_up }
    }

    /// What follows from the answer to a request, or from there being none.
    pub fn judge(
        &mut self,
        item: &OutboxItem,
        result: &Result<Accepted, PostError>,
        asked: Asked,
        pace: &Pace,
    ) -> Settled {
        let why = result.as_ref().err().map(ToString::to_string).unwrap_or_default();
        let settled = |row, forge| Settled { row, forge, why: why.clone(), give_up: pace.give_up };
        match result {
            Ok(Accepted { pause, .. }) => {
                *self = Course::default();
                let news = pause.map_or(ForgeNews::Answers, ForgeNews::Asked);
                let mut settled = settled(RowNews::Sent, news);
                if pause.is_some() {
                    settled.why = "the rate limit is used up".to_owned();
                }
                settled
            }
            // It knows us and answers: what it says is about this status only.
            Err(PostError::Refused { .. }) => {
                *self = Course::default();
                settled(RowNews::Dead, ForgeNews::Answers)
            }
            Err(PostError::Unauthorized { .. }) => {
                let wait = asked.doubled(pace.refused_wait, self.refused.grow(asked), pace.longest_refused_wait);
                settled(RowNews::Later(Duration::ZERO), ForgeNews::Careful(wait))
            }
            Err(PostError::Retry { after: Some(after), .. }) => {
                // "Now" is no time to wait for: a forge that says it again and again is asked less too.
                let wait = asked.doubled(pace.first_wait, self.away.grow(asked), pace.longest_wait).max(*after);
                settled(RowNews::Later(wait), ForgeNews::Asked(wait))
            }
            Err(PostError::Retry { after: None, scope, .. }) => {
                let news = self.failed(item, *scope, asked, pace);
                // While the forge is away, its pause is what everything waits for.
                let wait = match news {
                    ForgeNews::Nothing => asked.doubled(pace.first_wait, item.attempts, pace.longest_wait),
                    _ => Duration::ZERO,
                };
                let row = match scope {
                    Scope::Forge => RowNews::Unanswered { again: wait, lingers: pace.lingers },
                    Scope::Request | Scope::Unheard => RowNews::Later(wait),
                };
                settled(row, news)
            }
        }
    }

    fn failed(&mut self, item: &OutboxItem, scope: Scope, asked: Asked, pace: &Pace) -> ForgeNews {
        let is_first_of_its_kind = self.suspect.as_ref().is_none_or(|suspect| *suspect == item.sha);
        self.suspect = Some(item.sha.clone());
        if scope == Scope::Request && is_first_of_its_kind && self.away.length == 0 {
            return ForgeNews::Nothing;
        }
        let streak = self.away.grow(asked);
        ForgeNews::Careful(asked.doubled(pace.first_wait, streak, pace.longest_wait))
    }
}

/// A failure of our own.
pub(super) fn ours(why: String) -> PostError {
    PostError::Retry { after: None, scope: Scope::Request, why }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::build::BuildId;
    use crate::domain::status::{Status, StatusState};

    fn item(commit: &str, attempts: u32) -> OutboxItem {
        OutboxItem {
            id: 1,
            build: BuildId(1),
            repo: "github/acme/shop".parse().expect("legal"),
            sha: commit.repeat(40).parse().expect("legal"),
            status: Status { context: "hookmill".into(), state: StatusState::Success, sentence: "Passed".into() },
            attempts,
            age: Duration::ZERO,
            unclear_until: None,
        }
    }

    fn now() -> Asked {
        Asked::answered_now(Instant::now())
    }

    fn retry(scope: Scope) -> Result<Accepted, PostError> {
        Err(PostError::Retry { after: None, scope, why: "502".into() })
    }

    /// Between three quarters of a wait and all of it.
    fn is_about(wait: Duration, seconds: u64) -> bool {
        let whole = Duration::from_secs(seconds);
        wait <= whole && wait >= whole.mul_f64(0.74)
    }

    fn careful(settled: &Settled) -> Duration {
        match settled.forge {
            ForgeNews::Careful(wait) => wait,
            ref other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_forge_that_is_away_is_asked_ever_less_and_at_least_every_half_minute() {
        let (mut course, pace) = (Course::default(), Pace::default());
        for seconds in [2, 4, 8, 16, 30, 30, 30] {
            let settled = course.judge(&item("a", 3), &retry(Scope::Forge), now(), &pace);
            assert!(is_about(careful(&settled), seconds), "{settled:?} instead of {seconds}");
            let again = Duration::ZERO;
            let unanswered = RowNews::Unanswered { again, lingers: pace.lingers };
            assert_eq!(settled.row, unanswered, "the forge's pause is enough; the request may still be heard");
        }
        let settled = course.judge(&item("a", 3), &retry(Scope::Unheard), now(), &pace);
        assert!(is_about(careful(&settled), 30), "as away as ever: {settled:?}");
        assert_eq!(settled.row, RowNews::Later(Duration::ZERO), "what was not sent keeps no newer word waiting");
        let settled = course.judge(&item("a", 9), &Ok(Accepted::default()), now(), &pace);
        assert_eq!((settled.row, settled.forge), (RowNews::Sent, ForgeNews::Answers));
        let settled = course.judge(&item("a", 0), &retry(Scope::Forge), now(), &pace);
        assert!(is_about(careful(&settled), 2), "it begins anew: {settled:?}");
    }

    #[test]
    fn failures_that_were_under_way_side_by_side_count_once() {
        let (mut course, pace, asked_at) = (Course::default(), Pace::default(), Instant::now());
        for _ in 0..4 {
            let settled = course.judge(&item("a", 0), &retry(Scope::Forge), Asked::answered_now(asked_at), &pace);
            assert!(is_about(careful(&settled), 2), "{settled:?}");
        }
    }

    #[test]
    fn one_commit_that_the_api_fails_at_stops_no_other_and_two_are_the_forge() {
        let (mut course, pace) = (Course::default(), Pace::default());
        for attempts in [0, 1, 2, 12] {
            let settled = course.judge(&item("a", attempts), &retry(Scope::Request), now(), &pace);
            let RowNews::Later(wait) = settled.row else { panic!("{settled:?}") };
            assert!(is_about(wait, [2, 4, 8, 30][attempts.min(3) as usize]), "{settled:?}");
            assert_eq!(settled.forge, ForgeNews::Nothing);
        }
        let settled = course.judge(&item("b", 0), &retry(Scope::Request), now(), &pace);
        assert!(is_about(careful(&settled), 2), "{settled:?}");
        let settled = course.judge(&item("b", 1), &retry(Scope::Request), now(), &pace);
        assert!(is_about(careful(&settled), 4), "still away: {settled:?}");
    }

    #[test]
    fn a_refused_token_is_tried_less_than_ten_times_a_minute() {
        let (mut course, pace) = (Course::default(), Pace::default());
        let refused = Err(PostError::Unauthorized { why: "401".into() });
        for seconds in [30, 60, 120, 240, 300, 300] {
            let settled = course.judge(&item("a", 0), &refused, now(), &pace);
            assert!(is_about(careful(&settled), seconds), "{settled:?} instead of {seconds}");
        }
    }

    #[test]
    fn the_forges_own_word_is_taken_as_it_is() {
        let (mut course, pace) = (Course::default(), Pace::default());
        let after = Duration::from_secs(61);
        let asked = Err(PostError::Retry { after: Some(after), scope: Scope::Forge, why: "429".into() });
        let settled = course.judge(&item("a", 0), &asked, now(), &pace);
        assert_eq!((settled.row, settled.forge), (RowNews::Later(after), ForgeNews::Asked(after)));
        let at_once = Err(PostError::Retry { after: Some(Duration::ZERO), scope: Scope::Forge, why: "429".into() });
        let settled = course.judge(&item("a", 0), &at_once, now(), &pace);
        let ForgeNews::Asked(wait) = settled.forge else { panic!("{settled:?}") };
        assert!(is_about(wait, 4), "no hot loop: {wait:?}");
        let last = Ok(Accepted { pause: Some(after), ..Accepted::default() });
        let settled = course.judge(&item("a", 0), &last, now(), &pace);
        assert_eq!((settled.row, settled.forge), (RowNews::Sent, ForgeNews::Asked(after)));
        let refused = Err(PostError::Refused { status: 422, why: "422".into() });
        let settled = course.judge(&item("a", 0), &refused, now(), &pace);
        assert_eq!((settled.row, settled.forge), (RowNews::Dead, ForgeNews::Answers), "it stops no other");
    }
}

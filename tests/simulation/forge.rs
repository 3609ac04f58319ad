//! The forge: what it was told, and the ways in which it answers.

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;
use hookmill::domain::build::BuildId;
use hookmill::domain::status::StatusState;
use hookmill::forge::api::{Accepted, PostError, Scope};
use hookmill::store::OutboxItem;

use super::tables::Key;

/// How the forge behaves for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    Fine,
    /// The API fails at everything with 500; now and then what it refused was done all the same.
    Failing,
    /// A proxy answers in its place.
    Away,
    /// Nobody listens: what is sent does not even leave.
    Shut,
    /// 429 with `Retry-After`.
    Limiting,
    /// The token is revoked.
    Locked,
    /// It does what it is asked, and the answer is lost.
    Mute,
    /// It does what it is asked long after the sender gave up.
    Late,
}

pub(crate) const MOODS: [Mood; 7] =
    [Mood::Failing, Mood::Away, Mood::Shut, Mood::Limiting, Mood::Locked, Mood::Mute, Mood::Late];

/// What becomes of one request.
#[derive(Debug, Clone)]
pub(crate) struct Fortune {
    /// After how long the status is listed, if it ever is.
    pub(crate) listed: Option<Duration>,
    /// The answer, and after how long it comes, if it does.
    pub(crate) answer: Option<(Duration, Result<Accepted, PostError>)>,
}

/// A status as the forge lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) build: BuildId,
    pub(crate) state: StatusState,
}

/// The forge's memory.
#[derive(Debug)]
pub(crate) struct Forge {
    pub(crate) mood: Mood,
    /// Of each commit and context, in the order of listing; the last one is what people see.
    pub(crate) listed: BTreeMap<Key, Vec<Listed>>,
}

impl Forge {
    pub(crate) fn new() -> Self {
        Self { mood: Mood::Fine, listed: BTreeMap::new() }
    }

    /// What becomes of a request that arrives now. `late`: the longest that it is kept before it is listed.
    pub(crate) fn fortune(&self, rng: &mut Rng, late: Duration) -> Fortune {
        let soon = Duration::from_millis(rng.u64(5..2_000));
        let rejected = |error| Fortune { listed: None, answer: Some((soon, Err(error))) };
        let retry = |after, scope| PostError::Retry { after, scope, why: format!("the forge is {:?}", self.mood) };
        match self.mood {
            Mood::Fine => Fortune { listed: Some(soon / 2), answer: Some((soon, Ok(Accepted::default()))) },
            Mood::Failing => {
                let listed = (rng.u8(..10) == 0).then_some(soon / 2);
                Fortune { listed, ..rejected(retry(None, Scope::Request)) }
            }
            Mood::Away => rejected(retry(None, Scope::Forge)),
            Mood::Shut => rejected(retry(None, Scope::Unheard)),
            Mood::Limiting => rejected(retry(Some(Duration::from_secs(rng.u64(1..90))), Scope::Forge)),
            Mood::Locked => rejected(PostError::Unauthorized { why: "401".to_owned() }),
            Mood::Mute => Fortune { listed: Some(soon), answer: None },
            Mood::Late => Fortune { listed: Some(late.mul_f64(rng.f64())), answer: None },
        }
    }

    pub(crate) fn list(&mut self, item: &OutboxItem) {
        let listed = self.listed.entry(Key::of(item)).or_default();
        listed.push(Listed { build: item.build, state: item.status.state });
    }
}

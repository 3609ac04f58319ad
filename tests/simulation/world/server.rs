//! A server: takes deliveries, looks at leases, sends statuses.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hookmill::forge::api::{Accepted, PostError, Scope};
use hookmill::reporter::{Asked, Course, Pace};
use hookmill::store::OutboxItem;

use super::super::ledger::Broken;
use super::super::tables::Without;
use super::database::{Answer, Op};
use super::{Event, Note, SERVERS, World, millis, name, words};

/// Statuses under way at once.
const AT_ONCE: usize = 4;
/// How long one request to the forge may take.
const WHOLE: Duration = Duration::from_secs(20);
/// For how long a sender takes a status. Its request is begun so soon that it has ended by then, even where the forge lists
/// it after the sender gave up.
pub(super) const SENDING: Duration = Duration::from_secs(45);
const POLL: u64 = 5_000;
const SWEEP: u64 = 15_000;
/// How long a door or a sender waits for the database.
const PATIENCE: u64 = 10_000;

/// Why a server asked.
#[derive(Debug, Clone)]
enum Purpose {
    Door(usize),
    /// And when that was asked.
    Take(u64),
    Settle,
    Nothing,
}

/// A request to the forge.
#[derive(Debug)]
struct Post {
    item: OutboxItem,
    begun: Instant,
}

/// What a server knows.
#[derive(Debug, Default)]
pub(super) struct Server {
    asks: BTreeMap<u64, Purpose>,
    /// It asked for statuses.
    taking: bool,
    /// Requests to the forge that were not answered yet.
    posts: BTreeMap<u64, Post>,
    /// Of how many statuses the database was not told yet what became of them.
    under_way: usize,
    /// How it went with the forge lately.
    course: Course,
}

impl World {
    pub(super) fn server(&mut self, who: usize, note: Note) -> Result<(), Broken> {
        match note {
            Note::Delivery(delivery) => {
                if self.lacks(Without::CommitBeforeAnswer) {
                    let now = self.now();
                    let answer = self.tables.clone().accept(&self.deliveries[delivery].arrival, now);
                    self.acknowledge(delivery, &answer)?;
                }
                self.server_asks(who, Op::Accept(delivery), Purpose::Door(delivery));
            }
            Note::Woken => self.take_statuses(who),
            Note::Poll => {
                self.take_statuses(who);
                self.note_in(who, POLL, Note::Poll);
            }
            Note::Sweep => {
                self.server_asks(who, Op::Expire, Purpose::Nothing);
                self.note_in(who, SWEEP, Note::Sweep);
            }
            Note::Answer(ask, answer) => self.answered(who, ask, answer)?,
            Note::Overdue(ask) => match self.servers[who].asks.remove(&ask) {
                Some(Purpose::Take(_)) => self.servers[who].taking = false,
                Some(Purpose::Settle) => self.settled(who),
                // The door answers 503; whoever wants the build sends it again.
                Some(Purpose::Door(_) | Purpose::Nothing) | None => {}
            },
            Note::Judged(post, judgement) => self.judged(who, post, judgement),
            Note::Beat(_) | Note::Step(_) | Note::Through(_) | Note::Again(_) | Note::Drain => {}
        }
        Ok(())
    }

    fn server_asks(&mut self, who: usize, op: Op, purpose: Purpose) {
        let ask = self.ask(who, op, PATIENCE);
        self.servers[who].asks.insert(ask, purpose);
    }

    fn answered(&mut self, who: usize, ask: u64, answer: Answer) -> Result<(), Broken> {
        let Some(purpose) = self.servers[who].asks.remove(&ask) else { return Ok(()) };
        match (purpose, answer) {
            // The word to the forge may be lost as well.
            (Purpose::Door(_), _) if self.lacks(Without::CommitBeforeAnswer) || self.rng.u8(..20) == 0 => {}
            (Purpose::Door(delivery), Answer::Accepted(answer)) => self.acknowledge(delivery, &answer)?,
            (Purpose::Take(asked), Answer::Taken(items)) => {
                self.servers[who].taking = false;
                // Nothing was due: it looks again when something changes, or after a while.
                let more = !items.is_empty();
                for item in items {
                    self.post(who, item, asked);
                }
                if more {
                    self.take_statuses(who);
                }
            }
            (Purpose::Settle, _) => self.settled(who),
            _ => {}
        }
        Ok(())
    }

    fn take_statuses(&mut self, who: usize) {
        let free = AT_ONCE.saturating_sub(self.servers[who].under_way);
        if !self.servers[who].taking && free > 0 {
            self.servers[who].taking = true;
            self.server_asks(who, Op::Take(free), Purpose::Take(self.time));
        }
    }

    /// By a clock that nobody turns.
    fn instant(&self) -> Instant {
        self.began + Duration::from_millis(self.time)
    }

    /// Sends a status that was taken by a question at `asked`, unless that is too long ago.
    fn post(&mut self, who: usize, item: OutboxItem, asked: u64) {
        let begin = SENDING - WHOLE - Pace::default().lingers;
        if self.time > asked + millis(begin) && !self.lacks(Without::CareAfterLateRequests) {
            return;
        }
        self.tell(|| format!("{} posts {}", name(who), words(&item)));
        self.asks += 1;
        let (post, way, epoch) = (self.asks, self.rng.u64(1..100), self.processes[who].epoch);
        let begun = self.instant();
        self.servers[who].under_way += 1;
        self.servers[who].posts.insert(post, Post { item: item.clone(), begun });
        self.later(way, Event::Posted { who, epoch, post, item });
        self.note_in(who, millis(WHOLE), Note::Judged(post, None));
    }

    /// A status reached the forge, whatever became of its sender since.
    pub(super) fn posted(&mut self, who: usize, epoch: u32, post: u64, item: OutboxItem) {
        // It may act on a request until somewhat after its sender gave that up.
        let latest = WHOLE + Pace::default().lingers - Duration::from_secs(1);
        let fortune = self.forge.fortune(&mut self.rng, latest);
        if let Some(listed) = fortune.listed {
            self.later(millis(listed), Event::Listed { item });
        }
        if let Some((after, judgement)) = fortune.answer {
            self.later(millis(after), Event::To { who, epoch, note: Note::Judged(post, Some(judgement)) });
        }
    }

    /// `None`: no answer came in time.
    fn judged(&mut self, who: usize, post: u64, judgement: Option<Result<Accepted, PostError>>) {
        let Some(Post { item, begun }) = self.servers[who].posts.remove(&post) else { return };
        // Silence says nothing of whether it was heard.
        let silence = if self.lacks(Without::DoubtAfterSilence) { Scope::Unheard } else { Scope::Forge };
        let nothing = || PostError::Retry { after: None, scope: silence, why: "no answer in time".to_owned() };
        let result = judgement.unwrap_or_else(|| Err(nothing()));
        let asked = Asked { at: begun, answered: self.instant(), luck: self.rng.f64() };
        let settled = self.servers[who].course.judge(&item, &result, asked, &Pace::default());
        self.server_asks(who, Op::Settle(item, settled), Purpose::Settle);
    }

    fn settled(&mut self, who: usize) {
        self.servers[who].under_way = self.servers[who].under_way.saturating_sub(1);
        self.take_statuses(who);
    }

    /// A delivery knocks: at any server that listens.
    pub(super) fn knock(&mut self, delivery: usize) {
        let who = self.rng.usize(..SERVERS);
        if self.processes[who].alive {
            self.note_in(who, 1, Note::Delivery(delivery));
        }
    }
}

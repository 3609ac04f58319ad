//! A server: takes deliveries, looks at leases, sends statuses.

use std::collections::BTreeMap;
use std::time::Duration;

use hookmill::domain::outbox::{AfterRejection, Rejection};

use super::super::ledger::Broken;
use super::super::tables::{Said, Settled, Without};
use super::database::{Answer, Op};
use super::{Event, Note, SERVERS, World, millis, name};

/// Statuses under way at once.
pub(super) const AT_ONCE: usize = 8;
/// How long one request to the forge may take.
const WHOLE: Duration = Duration::from_secs(20);
/// For how long a sender takes a status: its request is begun within the first half, so that it has ended by then even
/// where the forge lists it after the sender gave up.
pub(super) const SENDING: Duration = Duration::from_secs(60);
const BEGIN: Duration = Duration::from_secs(30);
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

/// What a server knows.
#[derive(Debug, Default)]
pub(super) struct Server {
    asks: BTreeMap<u64, Purpose>,
    /// It asked for statuses.
    taking: bool,
    /// Requests to the forge that were not answered yet.
    posts: BTreeMap<u64, Said>,
    /// Of how many statuses the database was not told yet what became of them.
    under_way: usize,
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
                for said in items {
                    self.post(who, said, asked);
                }
            }
            (Purpose::Settle, _) => self.settled(who),
            _ => {}
        }
        Ok(())
    }

    fn take_statuses(&mut self, who: usize) {
        if !self.servers[who].taking && self.servers[who].under_way == 0 {
            self.servers[who].taking = true;
            self.server_asks(who, Op::Take, Purpose::Take(self.time));
        }
    }

    /// Sends a status that was taken by a question at `asked`, unless that is too long ago.
    fn post(&mut self, who: usize, said: Said, asked: u64) {
        if self.time > asked + millis(BEGIN) && !self.lacks(Without::CareAfterLateRequests) {
            return;
        }
        self.tell(|| format!("{} posts build {} {:?} {}", name(who), said.build, said.state, said.key.context));
        self.asks += 1;
        let (post, way, epoch) = (self.asks, self.rng.u64(1..100), self.processes[who].epoch);
        self.servers[who].under_way += 1;
        self.servers[who].posts.insert(post, said.clone());
        self.later(way, Event::Posted { who, epoch, post, said });
        self.note_in(who, millis(WHOLE), Note::Judged(post, None));
    }

    /// A status reached the forge, whatever became of its sender since.
    pub(super) fn posted(&mut self, who: usize, epoch: u32, post: u64, said: Said) {
        let fortune = self.forge.fortune(&mut self.rng, SENDING.saturating_sub(BEGIN) - Duration::from_secs(1));
        if let Some(listed) = fortune.listed {
            self.later(millis(listed), Event::Listed { said });
        }
        if let Some((after, judgement)) = fortune.answer {
            self.later(millis(after), Event::To { who, epoch, note: Note::Judged(post, Some(judgement)) });
        }
    }

    /// `None`: no answer came in time.
    fn judged(&mut self, who: usize, post: u64, judgement: Option<Result<(), Rejection>>) {
        let Some(said) = self.servers[who].posts.remove(&post) else { return };
        let (settled, pause) = match judgement {
            Some(Ok(())) => (Settled::Sent, None),
            None => (Settled::Unknown, None),
            Some(Err(rejection)) => {
                let age = self.now().steady.since(said.created_at);
                match rejection.means(said.attempts, age, self.rng.f64()) {
                    AfterRejection::Again { wait, pause } => (Settled::Later(wait), pause),
                    AfterRejection::Refused | AfterRejection::TooOld => unreachable!("no world lasts a day"),
                }
            }
        };
        self.server_asks(who, Op::Settle(said, settled, pause), Purpose::Settle);
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

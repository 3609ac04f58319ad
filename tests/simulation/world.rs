//! Everything at once: servers, agents, a database, a forge, a developer, and trouble. One seed decides all of it.
//!
//! Time is a number that jumps from one happening to the next. A process is its epoch: what was under way when it died
//! reaches nobody. A stopped process (SIGSTOP) learns later what it was told meanwhile, all at once. A cut one neither
//! reaches the database nor hears of it.

mod agent;
mod database;
mod developer;
mod server;
mod trouble;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use agent::Agent;
use database::{Answer, Op};
use developer::Developer;
use fastrand::Rng;
use hookmill::config::server::Supersede;
use hookmill::domain::build::State;
use hookmill::domain::outbox::Fate;
use hookmill::domain::time::Timestamp;
use hookmill::forge::api::{self, PostError};
use hookmill::intake::Arrival;
use hookmill::store::{Accepted, OutboxItem};
use server::Server;

use super::forge::{Forge, Mood};
use super::ledger::{Broken, Ledger};
use super::tables::{Now, Tables, Without};

pub(crate) const SERVERS: usize = 2;
pub(crate) const AGENTS: usize = 3;
/// How long there is trouble; afterwards everything is mended and must come to rest.
const TROUBLE: Duration = Duration::from_secs(10 * 60);
/// How long coming to rest may take at most.
const REST: Duration = Duration::from_secs(3 * 60 * 60);
/// How long a fork's build waits for a maintainer.
const WAITING: Duration = Duration::from_secs(14 * 24 * 60 * 60);
/// The wall clock's reading when a world begins.
const MORNING: i64 = 1_763_820_000_000;

/// What happens.
#[derive(Debug, Clone)]
enum Event {
    /// The developer does something.
    Develop,
    /// Something breaks.
    Trouble,
    /// A delivery knocks at a server.
    Knock { delivery: usize },
    /// A request reaches the database.
    Asked { who: usize, epoch: u32, ask: u64, op: Op },
    /// A request reaches the forge.
    Posted { who: usize, epoch: u32, post: u64, item: OutboxItem },
    /// The forge lists a status.
    Listed { item: OutboxItem },
    /// The forge behaves again.
    Cheered,
    /// Something reaches a process.
    To { who: usize, epoch: u32, note: Note },
    /// A process begins again.
    Started { who: usize },
}

/// What a process notices.
#[derive(Debug, Clone)]
enum Note {
    /// A delivery.
    Delivery(usize),
    /// The database's answer.
    Answer(u64, Answer),
    /// It is not worth waiting for an answer any longer.
    Overdue(u64),
    /// The forge's answer to a request; none: it is not worth waiting for.
    Judged(u64, Option<Result<api::Accepted, PostError>>),
    /// Something changed.
    Woken,
    /// Time to look for work, or for statuses that are due.
    Poll,
    /// Time to look at leases.
    Sweep,
    /// Time to renew the lease of this claim.
    Beat(hookmill::store::Claim),
    /// A step of this claim's build begins.
    Step(hookmill::store::Claim),
    /// This claim's steps are through, or were made to end.
    Through(hookmill::store::Claim),
    /// Time to try once more to write this claim's end.
    Again(hookmill::store::Claim),
    /// SIGTERM: what runs is given back.
    Drain,
}

/// What every process has.
#[derive(Debug, Default)]
struct Process {
    epoch: u32,
    alive: bool,
    stopped_until: u64,
    cut_until: u64,
    /// It was stopped since it last began to run a build.
    was_stopped: bool,
}

/// A delivery as the forge keeps it.
struct Sent {
    arrival: Arrival,
    acknowledged: bool,
}

/// The world of one seed.
pub(crate) struct World {
    rng: Rng,
    /// Milliseconds since the world began.
    time: u64,
    /// What clocks that nobody turns said then. Only how long ago something was is ever looked at.
    began: Instant,
    happenings: BTreeMap<(u64, u64), Event>,
    happened: u64,
    asks: u64,
    pub(crate) tables: Tables,
    ledger: Ledger,
    forge: Forge,
    deliveries: Vec<Sent>,
    developer: Developer,
    processes: Vec<Process>,
    servers: Vec<Server>,
    agents: Vec<Agent>,
    database_back_at: u64,
    /// How far the wall clocks were turned, and how far the database's clock jumped ahead.
    wall_turned: i64,
    database_ahead: u64,
    trouble_until: u64,
    trace: Option<Vec<String>>,
}

/// Runs the world of a seed until it has come to rest.
pub(crate) fn run(seed: u64, without: Without) -> Result<World, Broken> {
    let mut world = World::new(seed, without, false);
    world.live().map(|()| world)
}

/// Runs it again and tells what happened.
pub(crate) fn replay(seed: u64, without: Without) -> (Result<(), Broken>, Vec<String>) {
    let mut world = World::new(seed, without, true);
    let end = world.live();
    (end, world.trace.unwrap_or_default())
}

impl World {
    fn new(seed: u64, without: Without, traced: bool) -> Self {
        let mut rng = Rng::with_seed(seed);
        let supersede = [Supersede::Branches, Supersede::All, Supersede::None][rng.usize(..3)];
        let mut world = Self {
            developer: Developer::new(supersede),
            rng,
            time: 0,
            began: Instant::now(),
            happenings: BTreeMap::new(),
            happened: 0,
            asks: 0,
            tables: Tables::new(without),
            ledger: Ledger::default(),
            forge: Forge::new(),
            deliveries: Vec::new(),
            processes: (0..SERVERS + AGENTS).map(|_| Process::default()).collect(),
            servers: (0..SERVERS).map(|_| Server::default()).collect(),
            agents: (0..AGENTS).map(|_| Agent::default()).collect(),
            database_back_at: 0,
            wall_turned: 0,
            database_ahead: 0,
            trouble_until: millis(TROUBLE),
            trace: traced.then(Vec::new),
        };
        for who in 0..SERVERS + AGENTS {
            world.at(0, Event::Started { who });
        }
        world.at(0, Event::Develop);
        world.at(0, Event::Trouble);
        world
    }

    fn live(&mut self) -> Result<(), Broken> {
        let latest = self.trouble_until + millis(REST);
        let mut lapsed = false;
        while let Some(((time, _), event)) = self.happenings.pop_first() {
            self.time = self.time.max(time);
            self.happen(event)?;
            if self.time < self.trouble_until {
                continue;
            }
            if self.is_at_rest() {
                if lapsed || !self.tables.builds.values().any(|row| row.state == State::Waiting) {
                    return self.ledger.at_rest(&self.tables, &self.forge);
                }
                // Nobody approved what is left. A sweeper finds that out, wherever the wall clock was turned to.
                self.tell(|| "two months pass".to_owned());
                self.wall_turned += 4 * to_i64(millis(WAITING));
                let now = self.now();
                self.tables.lapse_waiting(WAITING, now);
                lapsed = true;
            }
            if self.time > latest {
                return Err(self.unrest());
            }
        }
        Err("nothing happens any more".to_owned())
    }

    fn is_at_rest(&self) -> bool {
        let ended = |state| matches!(state, State::Finished | State::Waiting);
        self.tables.builds.values().all(|row| ended(row.state))
            && self.tables.outbox.values().all(|said| said.fate != Fate::Due)
            && !self.happenings.values().any(changes_something)
    }

    fn unrest(&self) -> Broken {
        let open: Vec<_> = self.tables.builds.values().filter(|row| row.state != State::Finished).collect();
        let due: Vec<_> = self.tables.outbox.values().filter(|said| said.fate == Fate::Due).collect();
        format!("no rest within {REST:?}: open {open:?}, to be sent {due:?}")
    }

    fn happen(&mut self, event: Event) -> Result<(), Broken> {
        match event {
            Event::Develop => self.develop(),
            Event::Trouble => self.trouble(),
            Event::Knock { delivery } => self.knock(delivery),
            Event::Asked { who, epoch, ask, op } => self.asked(who, epoch, ask, op)?,
            Event::Posted { who, epoch, post, item } => self.posted(who, epoch, post, item),
            Event::Listed { item } => {
                self.tell(|| format!("forge lists {}", words(&item)));
                self.forge.list(&item);
            }
            Event::Cheered => {
                self.tell(|| "the forge is fine".to_owned());
                self.forge.mood = Mood::Fine;
            }
            Event::Started { who } => self.start(who),
            Event::To { who, epoch, note } => self.noticed(who, epoch, note)?,
        }
        Ok(())
    }

    fn noticed(&mut self, who: usize, epoch: u32, note: Note) -> Result<(), Broken> {
        let process = &self.processes[who];
        if !process.alive || process.epoch != epoch {
            return Ok(());
        }
        if process.stopped_until > self.time {
            let wakes = process.stopped_until;
            self.at(wakes, Event::To { who, epoch, note });
            return Ok(());
        }
        if who < SERVERS { self.server(who, note) } else { self.agent(who, note) }
    }

    fn start(&mut self, who: usize) {
        let process = &mut self.processes[who];
        process.epoch += 1;
        process.alive = true;
        process.was_stopped = false;
        self.tell(|| format!("{} starts", name(who)));
        if who < SERVERS {
            self.servers[who] = Server::default();
            self.soon(who, Note::Sweep, 1..1_000);
        } else {
            self.agents[who - SERVERS] = Agent::default();
        }
        self.soon(who, Note::Poll, 1..1_000);
    }

    /// kill -9, or the end of a drain: nothing of it runs any more.
    fn kill(&mut self, who: usize, back_in: u64) {
        if !self.processes[who].alive {
            return;
        }
        self.processes[who].alive = false;
        self.processes[who].stopped_until = 0;
        if who >= SERVERS {
            for build in self.agents[who - SERVERS].builds() {
                self.ledger.ended(build, who);
            }
        }
        self.later(back_in, Event::Started { who });
    }

    /// What a clock of the database says.
    fn now(&self) -> Now {
        let steady = MORNING + to_i64(self.time + self.database_ahead);
        Now { wall: Timestamp(steady + self.wall_turned), steady: Timestamp(steady) }
    }

    fn at(&mut self, time: u64, event: Event) {
        self.happened += 1;
        self.happenings.insert((time, self.happened), event);
    }

    fn later(&mut self, millis: u64, event: Event) {
        self.at(self.time + millis, event);
    }

    fn note_in(&mut self, who: usize, millis: u64, note: Note) {
        let epoch = self.processes[who].epoch;
        self.later(millis, Event::To { who, epoch, note });
    }

    fn soon(&mut self, who: usize, note: Note, within: std::ops::Range<u64>) {
        let millis = self.rng.u64(within);
        self.note_in(who, millis, note);
    }

    /// Wakes every process that waits for changes, as far as the word reaches it.
    fn wake_all(&mut self) {
        for who in 0..SERVERS + AGENTS {
            if self.rng.u8(..10) < 8 {
                self.soon(who, Note::Woken, 1..50);
            }
        }
    }

    fn is_troubled(&self) -> bool {
        self.time < self.trouble_until
    }

    fn tell(&mut self, what: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            let (seconds, millis) = (self.time / 1000, self.time % 1000);
            trace.push(format!("{seconds:>6}.{millis:03} {}", what()));
        }
    }

    fn acknowledge(&mut self, delivery: usize, answer: &Accepted) -> Result<(), Broken> {
        self.tell(|| format!("forge hears 2xx to {}: builds {:?}", answer.delivery, answer.builds));
        self.deliveries[delivery].acknowledged = true;
        self.ledger.acknowledged(answer)
    }
}

/// What is under way and will make work, or be heard by people.
fn changes_something(event: &Event) -> bool {
    match event {
        Event::Listed { .. } | Event::Posted { .. } | Event::Knock { .. } => true,
        Event::Asked { op, .. } => !matches!(op, Op::Claim | Op::Take(_) | Op::Expire | Op::Look(_)),
        Event::To { note, .. } => matches!(note, Note::Delivery(_)),
        Event::Develop | Event::Trouble | Event::Cheered | Event::Started { .. } => false,
    }
}

/// `server-0`, `agent-2`.
fn name(who: usize) -> String {
    if who < SERVERS { format!("server-{who}") } else { format!("agent-{}", who - SERVERS) }
}

/// `build 7 Success hookmill/npm`.
fn words(item: &OutboxItem) -> String {
    format!("build {} {:?} {}", item.build, item.status.state, item.status.context)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).expect("some hours")
}

fn to_i64(millis: u64) -> i64 {
    i64::try_from(millis).expect("some weeks")
}

//! The model is the store's: the same operations give the same answers and leave the same visible state in both.
//!
//! Leases and waits are none or an hour: the store's deadlines follow a clock that nobody turns.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use hookmill::config::server::{Forks, RepoRules, StoreUrl, Supersede};
use hookmill::domain::audit::{Actor, Via};
use hookmill::domain::build::{Build, BuildId, State};
use hookmill::domain::event::Event;
use hookmill::domain::outbox::Fate;
use hookmill::domain::outcome::{Outcome, Verdict};
use hookmill::domain::repo::{CommitId, ForgeName, RefName};
use hookmill::domain::status::{Status, StatusState};
use hookmill::domain::time::Timestamp;
use hookmill::intake;
use hookmill::store::{
    Claim, Filter, ForgeNews, Options, OutboxItem, Rerun, Returned, RowNews, Settled, Store, WallClock,
};

use super::payloads::{CONTEXT, FORGE, arrival, branch, commit, push, request, rules};
use super::tables::{Claimed, Now, Row, Tables, Without};
use crate::support::postgres::Cluster;

const SEQUENCES: u64 = 16;
const OPERATIONS: usize = 100;
const MORNING: i64 = 1_763_820_000_000;
const HOUR: Duration = Duration::from_secs(3600);
const DAYS: Duration = Duration::from_secs(14 * 24 * 3600);
const DAY: i64 = 86_400_000;

/// Store and model, side by side.
struct Pair {
    rng: Rng,
    store: Store,
    tables: Tables,
    wall: Arc<AtomicI64>,
    /// The model's steady time: a millisecond for each operation.
    steady: i64,
    rules: Arc<RepoRules>,
    /// Every claim that was ever given.
    claims: Vec<Claim>,
    /// Every status that was ever taken: by whom, and as either side gave it.
    taken: Vec<(&'static str, OutboxItem, OutboxItem)>,
    done: Vec<String>,
}

#[tokio::test]
async fn the_model_answers_as_the_store_does() {
    for seed in 0..SEQUENCES {
        let folder = tempfile::tempdir().expect("a folder");
        let same = compare(seed, (&folder.path().join("hookmill.db")).into(), Without::Nothing).await;
        same.unwrap_or_else(|difference| panic!("on SQLite: {difference}"));
    }
}

#[tokio::test]
async fn the_model_answers_as_the_store_on_postgresql_does() {
    let cluster = Cluster::start();
    for seed in 0..SEQUENCES {
        let url = cluster.url(&cluster.make_database().await);
        let same = compare(seed, StoreUrl::Postgres(url.parse().expect("legal")), Without::Nothing).await;
        same.unwrap_or_else(|difference| panic!("on PostgreSQL: {difference}"));
    }
}

#[tokio::test]
async fn a_model_that_lacks_a_rule_is_found_out() {
    for rule in [Without::Fence, Without::NewestOwnsTheCommit, Without::Settling, Without::UniqueDeliveries] {
        let mut seed = 0;
        loop {
            let folder = tempfile::tempdir().expect("a folder");
            if compare(seed, (&folder.path().join("hookmill.db")).into(), rule).await.is_err() {
                break;
            }
            seed += 1;
            assert!(seed < SEQUENCES, "the model without {rule:?} answered as the store in {seed} sequences");
        }
    }
}

/// Does one sequence of operations on both.
async fn compare(seed: u64, url: StoreUrl, without: Without) -> Result<(), String> {
    let wall = Arc::new(AtomicI64::new(MORNING));
    let read = Arc::clone(&wall);
    let wall_clock = WallClock::new(move || Timestamp(read.load(Ordering::Relaxed)));
    let store = Store::open(url, Options { wall_clock, ..Options::default() }).await.expect("opens");
    let mut pair = Pair::new(seed, store, wall, without);
    let mut same = Ok(());
    for _ in 0..OPERATIONS {
        same = pair.step().await;
        if same.is_ok() {
            same = pair.looks_the_same().await;
        }
        if same.is_err() {
            break;
        }
    }
    pair.store.close().await;
    same.map_err(|difference| format!("{}\nsequence {seed}: {difference}", pair.done.join("\n")))
}

fn jane() -> Actor {
    Actor { who: "jane".into(), via: Via::Token, from: None }
}

fn same<T: PartialEq + Debug>(what: &str, store: &T, model: &T) -> Result<(), String> {
    if store == model {
        return Ok(());
    }
    Err(format!("{what}\n  of the store: {store:?}\n  of the model: {model:?}"))
}

impl Pair {
    fn new(seed: u64, store: Store, wall: Arc<AtomicI64>, without: Without) -> Self {
        let mut rng = Rng::with_seed(seed);
        let supersede = [Supersede::Branches, Supersede::All, Supersede::None][rng.usize(..3)];
        let (tables, rules) = (Tables::new(without), rules(supersede));
        Self {
            rng,
            store,
            tables,
            wall,
            steady: MORNING,
            rules,
            claims: Vec::new(),
            taken: Vec::new(),
            done: Vec::new(),
        }
    }

    fn now(&self) -> Now {
        Now { wall: Timestamp(self.wall.load(Ordering::Relaxed)), steady: Timestamp(self.steady) }
    }

    fn wait(&mut self) -> Duration {
        if self.rng.bool() { Duration::ZERO } else { HOUR }
    }

    /// One operation on both.
    async fn step(&mut self) -> Result<(), String> {
        self.steady += 1;
        self.wall.fetch_add(self.rng.i64(1..5_000), Ordering::Relaxed);
        match self.rng.u8(..37) {
            0..9 => self.accept().await,
            9..13 => self.claim().await,
            13..15 => self.renew().await,
            15 => self.report().await,
            16..19 => self.finish().await,
            19 => self.release().await,
            20..22 => self.expire().await,
            22 => self.cancel().await,
            23..25 => self.rerun().await,
            25 => self.lapse().await,
            26 => self.pause().await,
            27..30 => self.take().await,
            30..33 => self.approve().await,
            _ => self.settle_one().await,
        }
    }

    async fn accept(&mut self) -> Result<(), String> {
        let id = format!("d{}", self.rng.u8(..60));
        let event = self.event();
        self.done.push(format!("accept {id} {event:?}"));
        let arrival = arrival(&id, self.now().wall, event, &self.rules);
        let store = intake::take(&self.store, arrival.clone()).await.expect("taken");
        same("the answer", &store, &self.tables.accept(&arrival, self.now()))
    }

    fn event(&mut self) -> Event {
        let name = ["main", "topic", "other"][self.rng.usize(..3)];
        let head = self.rng.u64(1..8);
        let number = self.rng.u64(1..3);
        let fork = self.rng.bool();
        let of_request = if fork { RefName::pull_request(number) } else { branch(name) };
        match self.rng.u8(..10) {
            0..6 => {
                let before = self.rng.bool().then(|| self.rng.u64(1..8));
                let git_ref = if self.rng.u8(..6) == 0 { RefName::tag("v1").expect("legal") } else { branch(name) };
                push(git_ref, before, head, self.rng.u8(..5) == 0)
            }
            6..8 => request(number, of_request, head, fork),
            8 => Event::PullRequestClosed { number, git_ref: of_request, fork },
            _ => Event::Deleted { git_ref: branch(name), tip: None, pushed_at: None },
        }
    }

    async fn claim(&mut self) -> Result<(), String> {
        let lease = self.wait();
        self.done.push(format!("claim for {lease:?}"));
        let store = self.store.claim("agent", lease).await.expect("store");
        let store =
            store.map(|claimed| Claimed { claim: claimed.claim, context: claimed.context, claims: claimed.claims });
        let model = self.tables.claim(lease, self.now());
        self.claims.extend(model.iter().map(|claimed| claimed.claim));
        same("the claim", &store, &model)
    }

    /// A claim that was given: often the last, often an old one. Before the first, one that nobody has.
    fn some_claim(&mut self) -> Claim {
        let last = self.claims.last().copied().unwrap_or(Claim { build: BuildId(1), fence: 1 });
        let any = self.rng.choice(self.claims.clone()).unwrap_or(last);
        if self.rng.bool() { last } else { any }
    }

    async fn renew(&mut self) -> Result<(), String> {
        let (claim, lease) = (self.some_claim(), self.wait());
        self.done.push(format!("renew {claim:?} for {lease:?}"));
        let looked = self.store.lease(&claim).await.expect("store");
        same("the lease", &looked, &self.tables.lease(&claim))?;
        let store = self.store.renew(&claim, lease).await.expect("store");
        same("the renewal", &store, &self.tables.renew(&claim, lease, self.now()))
    }

    async fn report(&mut self) -> Result<(), String> {
        let claim = self.some_claim();
        self.done.push(format!("report {claim:?}"));
        let context = format!("{CONTEXT}/npm");
        let said = [Status { context, state: StatusState::Pending, sentence: "npm is running".into() }];
        let store = self.store.report(&claim, &said).await.expect("store");
        same("the report", &store, &self.tables.report(&claim, &said, self.now()))
    }

    async fn finish(&mut self) -> Result<(), String> {
        let claim = self.some_claim();
        let outcome = [Outcome::Passed, Outcome::Failed, Outcome::Broken, Outcome::Cancelled][self.rng.usize(..4)];
        let verdict = Verdict::new(outcome, format!("{} under {}", outcome.as_str(), claim.fence));
        self.done.push(format!("finish {claim:?} {outcome:?}"));
        let said = [Status { context: CONTEXT.into(), state: outcome.into(), sentence: verdict.reason.clone() }];
        let store = self.store.finish(&claim, &verdict, &said).await.expect("store");
        same("the end", &store, &self.tables.finish(&claim, &verdict, &said, self.now()))
    }

    async fn release(&mut self) -> Result<(), String> {
        let claim = self.some_claim();
        self.done.push(format!("release {claim:?}"));
        let store = self.store.release(&claim).await.expect("store");
        same("what was given back", &store, &self.tables.release(&claim, self.now()))
    }

    async fn expire(&mut self) -> Result<(), String> {
        self.done.push("expire".into());
        let model = self.tables.expire_leases(self.now());
        let mut store: Vec<Returned> = self.store.expire_leases().await.expect("store");
        // A lease of nothing is over a millisecond later.
        let patience = Instant::now() + Duration::from_secs(5);
        while store.len() < model.len() && Instant::now() < patience {
            tokio::task::yield_now().await;
            store.extend(self.store.expire_leases().await.expect("store"));
        }
        store.sort_by_key(|returned| match returned {
            Returned::Queued(id) | Returned::Finished(id, _) => *id,
        });
        same("what was taken back", &store, &model)
    }

    fn some_build(&mut self) -> BuildId {
        BuildId(self.rng.i64(1..20))
    }

    async fn cancel(&mut self) -> Result<(), String> {
        let build = self.some_build();
        self.done.push(format!("cancel {build}"));
        let store = self.store.cancel(build, &jane()).await.expect("store");
        same("the cancelling", &store, &self.tables.cancel(build, "jane", self.now()))
    }

    async fn rerun(&mut self) -> Result<(), String> {
        let forks = if self.rng.u8(..4) == 0 { Forks::Build } else { Forks::Approve };
        let (build, asked) = (self.some_build(), Rerun { use_cache: self.rng.bool(), forks });
        self.done.push(format!("rerun {build} {asked:?}"));
        let store = self.store.rerun(build, asked, &jane()).await.expect("store");
        same("the repetition", &store, &self.tables.rerun(build, asked, "jane", self.now()))
    }

    /// Often one that waits, and now and then with a commit that may be another one's.
    async fn approve(&mut self) -> Result<(), String> {
        let waiting: Vec<BuildId> =
            self.tables.builds.values().filter(|row| row.state == State::Waiting).map(|row| row.id).collect();
        let any = self.some_build();
        let build = self.rng.choice(waiting).filter(|_| self.rng.u8(..4) > 0).unwrap_or(any);
        let sha = (self.rng.u8(..4) == 0).then(|| commit(self.rng.u64(1..8)));
        self.done.push(format!("approve {build} {sha:?}"));
        let store = self.store.approve(build, sha.clone(), &jane()).await.expect("store");
        same("the approval", &store, &self.tables.approve(build, sha.as_ref(), "jane", self.now()))
    }

    async fn lapse(&mut self) -> Result<(), String> {
        self.done.push("lapse".into());
        if self.rng.u8(..4) == 0 {
            self.wall.fetch_add(15 * DAY, Ordering::Relaxed);
        }
        let store = self.store.lapse_waiting(DAYS).await.expect("store");
        same("what lapsed", &store, &self.tables.lapse_waiting(DAYS, self.now()))
    }

    async fn pause(&mut self) -> Result<(), String> {
        let forge = forge();
        if self.rng.bool() {
            let wait = self.wait();
            self.done.push(format!("pause for {wait:?}"));
            self.store.pause_forge(&forge, wait, "busy").await.expect("store");
            self.tables.pause(FORGE, wait, self.now().steady);
        } else {
            self.done.push("resume".into());
            self.store.resume_forge(&forge).await.expect("store");
            self.tables.resume(FORGE, self.now().steady);
        }
        Ok(())
    }

    fn some_sender(&mut self) -> &'static str {
        ["one", "two"][self.rng.usize(..2)]
    }

    async fn take(&mut self) -> Result<(), String> {
        let (sender, limit, lease) = (self.some_sender(), self.rng.usize(1..4), self.wait());
        self.done.push(format!("{sender} takes {limit} for {lease:?}"));
        let asked = u32::try_from(limit).expect("small");
        let store = self.store.take(&forge(), sender, asked, lease, None).await.expect("store");
        let model = self.tables.take(FORGE, sender, limit, lease, self.now().steady);
        let seen = |items: &[OutboxItem]| items.iter().map(seen_of_item).collect::<Vec<_>>();
        same("what was taken", &seen(&store.items), &seen(&model))?;
        // The two steady times have nothing to do with each other, and an item goes back to where it came from.
        self.taken.extend(store.items.into_iter().zip(model).map(|(store, model)| (sender, store, model)));
        Ok(())
    }

    /// Mostly the last that was taken, mostly by who took it.
    async fn settle_one(&mut self) -> Result<(), String> {
        let Some(last) = self.taken.len().checked_sub(1) else { return Ok(()) };
        let which = if self.rng.bool() { last } else { self.rng.usize(..=last) };
        let (taker, of_store, of_model) = self.taken[which].clone();
        let sender = if self.rng.u8(..5) == 0 { self.some_sender() } else { taker };
        let row = match self.rng.u8(..8) {
            0..3 => RowNews::Sent,
            3..5 => RowNews::Later(self.wait()),
            5 => RowNews::Unanswered { again: self.wait(), lingers: self.wait() },
            6 => RowNews::Dead,
            _ => RowNews::Back,
        };
        let forge = match self.rng.u8(..8) {
            0..3 => ForgeNews::Answers,
            3..6 => ForgeNews::Nothing,
            6 => ForgeNews::Careful(self.wait()),
            _ => ForgeNews::Asked(self.wait()),
        };
        let give_up = Duration::from_secs(24 * 3600);
        let settled = Settled { row, forge, why: "as it was drawn".into(), give_up };
        self.done.push(format!("{sender} settles {}: {:?}, {:?}", of_store.id, settled.row, settled.forge));
        self.store.settle(sender, &of_store, settled.clone()).await.expect("store");
        self.tables.settle(sender, &of_model, &settled, self.now().steady);
        Ok(())
    }

    /// What anybody can see of both.
    async fn looks_the_same(&self) -> Result<(), String> {
        let builds = self.store.builds(&Filter { limit: 1000, ..Filter::default() }).await.expect("store");
        let builds: Vec<_> = builds.iter().rev().map(seen_of_build).collect();
        let rows: Vec<_> = self.tables.builds.values().map(seen_of_row).collect();
        for (store, model) in builds.iter().zip(&rows) {
            same("a build", store, model)?;
        }
        same("how many builds there are", &builds.len(), &rows.len())?;

        let due: Vec<_> = self.store.due(1000).await.expect("store").iter().map(seen_of_item).collect();
        let model = self.tables.due(self.now().steady);
        let model = model.map(|said| (said.id, said.build, said.key.sha.clone(), said.status(), said.attempts));
        same("what is due", &due, &model.collect())?;

        let health = self.store.outbox_health().await.expect("store");
        let of = |fate| self.tables.outbox.values().filter(|said| said.fate == fate).count() as u64;
        same("how many are unsent and dead", &(health.unsent, health.dead), &(of(Fate::Due), of(Fate::Dead)))?;

        let answers = self.store.deliveries(1000).await.expect("store").into_iter();
        let answers: BTreeMap<_, _> = answers.map(|record| (record.delivery.id, record.answer)).collect();
        let model = self.tables.deliveries.iter().map(|((_, _, id), answer)| (id.clone(), answer.clone()));
        same("what deliveries were answered", &answers, &model.collect())
    }
}

fn forge() -> ForgeName {
    FORGE.parse().expect("legal")
}

/// A status, but for times.
fn seen_of_item(item: &OutboxItem) -> (i64, BuildId, CommitId, Status, u32) {
    (item.id, item.build, item.sha.clone(), item.status.clone(), item.attempts)
}

/// A build, as far as the model has it.
#[derive(Debug, PartialEq)]
struct Seen {
    id: BuildId,
    git_ref: RefName,
    commit: String,
    attempt: u32,
    state: State,
    outcome: Option<Outcome>,
    reason: Option<String>,
    superseded_by: Option<BuildId>,
    rerun_of: Option<BuildId>,
    use_cache: bool,
    times: (Timestamp, Option<Timestamp>, Option<Timestamp>),
}

fn seen_of_build(build: &Build) -> Seen {
    Seen {
        id: build.id,
        git_ref: build.git_ref.clone(),
        commit: build.sha.to_string(),
        attempt: build.attempt,
        state: build.state,
        outcome: build.outcome,
        reason: build.reason.clone(),
        superseded_by: build.superseded_by,
        rerun_of: build.rerun_of,
        use_cache: build.use_cache,
        times: (build.created_at, build.started_at, build.finished_at),
    }
}

fn seen_of_row(row: &Row) -> Seen {
    Seen {
        id: row.id,
        git_ref: row.new.git_ref.clone(),
        commit: row.new.sha.to_string(),
        attempt: row.attempt,
        state: row.state,
        outcome: row.outcome,
        reason: row.reason.clone(),
        superseded_by: row.superseded_by,
        rerun_of: row.new.rerun_of,
        use_cache: row.new.use_cache,
        times: (row.created_at, row.started_at, row.finished_at),
    }
}

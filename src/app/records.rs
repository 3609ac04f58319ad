//! The store in the words of the doors.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::SystemTime;

use tokio::sync::watch;

use crate::config::root::Root;
use crate::config::server::{Forges, Forks};
use crate::confine::Layers;
use crate::disk::{Disk, Level};
use crate::domain::agent::{Agent, Order, Standing};
use crate::domain::audit::{Actor, AuditEntry};
use crate::domain::build::{Build, BuildId, State};
use crate::domain::repo::CommitId;
use crate::domain::rule::Ruling;
use crate::domain::spec::Explanation;
use crate::intake::Arrival;
use crate::live::cache_tally::CacheTally;
use crate::store::{
    self, Accepted, ApproveAnswer, AuditFilter, CancelAnswer, Filter, HeadMoved, Rerun, RerunAnswer, Store, StoreError,
};
use crate::sweeper::missed::SweepTally;
use crate::web::hook::{self, Taken};
use crate::web::{self, Answer, BuildFilter, ChangeRefused, Counts, Delivery, Part, Records, Refusal, Unavailable};

mod outbox;

/// The store and the state of this process, as pages and API ask for them.
pub(super) struct StoreRecords {
    pub(super) store: Store,
    /// What becomes of forks is asked of them.
    pub(super) forges: watch::Receiver<Arc<Forges>>,
    pub(super) layers: Arc<Layers>,
    pub(super) slots: usize,
    pub(super) busy: Arc<AtomicUsize>,
    /// The agent in this process, if there is one.
    pub(super) agent: Option<String>,
    pub(super) answers: Arc<Answers>,
    pub(super) disk: Disk,
    pub(super) caches: CacheTally,
    pub(super) sweeps: SweepTally,
}

/// How deliveries were answered since the start.
#[derive(Debug, Default)]
pub(super) struct Answers {
    made: AtomicU64,
    other: AtomicU64,
    unavailable: AtomicU64,
}

impl Answers {
    pub(super) fn count(&self, answered: &Result<Accepted, StoreError>) {
        let counter = match answered {
            Ok(accepted) if accepted.made => &self.made,
            Ok(_) => &self.other,
            Err(_) => &self.unavailable,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// What the intake keeps of a delivery that the door took.
pub(super) fn arrival(taken: Taken, context: String) -> Arrival {
    Arrival {
        delivery: store::Delivery {
            forge: taken.forge,
            repo: taken.repo.map(|repo| repo.path),
            id: taken.delivery_id,
            event: taken.event_name,
            received_at: taken.received_at,
            body_bytes: taken.body_bytes as u64,
            body_sha256: taken.body_sha256,
        },
        heard: taken.heard,
        rules: taken.rules.map(Arc::new),
        context,
        found: None,
    }
}

/// What the door answers.
pub(super) fn answer(accepted: Accepted) -> hook::Answer {
    hook::Answer {
        delivery: accepted.delivery,
        builds: accepted.builds,
        ignored: accepted.ignored,
        cancelled: accepted.cancelled,
        rule: accepted.rule,
    }
}

/// A refusal as the API lists it.
pub(super) fn refusal(refusal: hook::Refusal) -> Refusal {
    let path = refusal.path.map_or_else(String::new, |path| format!("/{path}"));
    Refusal {
        at: refusal.at,
        from: refusal.from,
        path: format!("/hooks/{}{path}", refusal.forge),
        status: refusal.status,
        reason: refusal.reason,
        headers: refusal.headers,
    }
}

fn unavailable(error: StoreError) -> Unavailable {
    Unavailable(error.to_string())
}

impl Records for StoreRecords {
    fn build(&self, id: BuildId) -> Answer<'_, Option<Build>> {
        Box::pin(async move { self.store.build(id).await.map_err(unavailable) })
    }

    fn explanation(&self, id: BuildId) -> Answer<'_, Option<Explanation>> {
        Box::pin(async move { self.store.explanation(id).await.map_err(unavailable) })
    }

    fn rulings(&self, id: BuildId) -> Answer<'_, Vec<Ruling>> {
        Box::pin(async move { self.store.rulings(id).await.map_err(unavailable) })
    }

    fn builds(&self, filter: BuildFilter) -> Answer<'_, Vec<Build>> {
        let BuildFilter { repo, branch, state, outcome, before, limit } = filter;
        let filter = Filter { repo, branch, state, outcome, before, limit };
        Box::pin(async move { self.store.builds(&filter).await.map_err(unavailable) })
    }

    fn deliveries(&self, limit: u32) -> Answer<'_, Vec<Delivery>> {
        Box::pin(async move {
            let records = self.store.deliveries(limit).await.map_err(unavailable)?;
            Ok(records.into_iter().map(delivery).collect())
        })
    }

    fn cancel(&self, id: BuildId, by: Actor) -> Answer<'_, Result<(), ChangeRefused>> {
        Box::pin(async move {
            Ok(match self.store.cancel(id, &by).await.map_err(unavailable)? {
                CancelAnswer::Cancelled | CancelAnswer::Requested => Ok(()),
                CancelAnswer::AlreadyFinished => Err(ChangeRefused::AlreadyFinished),
                CancelAnswer::NotFound => Err(ChangeRefused::NoSuchBuild),
            })
        })
    }

    fn approve(&self, id: BuildId, sha: Option<CommitId>, by: Actor) -> Answer<'_, Result<CommitId, ChangeRefused>> {
        Box::pin(async move {
            Ok(match self.store.approve(id, sha, &by).await.map_err(unavailable)? {
                ApproveAnswer::Approved(sha) => Ok(sha),
                ApproveAnswer::NotNeeded => Err(ChangeRefused::NoApprovalNeeded),
                ApproveAnswer::HeadMoved(moved) => Err(head_moved(&moved, "approved")),
                ApproveAnswer::OtherCommit(sha) => Err(ChangeRefused::OtherCommit(sha)),
                ApproveAnswer::NotFound => Err(ChangeRefused::NoSuchBuild),
            })
        })
    }

    fn rerun(&self, id: BuildId, cache: bool, by: Actor) -> Answer<'_, Result<BuildId, ChangeRefused>> {
        Box::pin(async move {
            let Some(old) = self.store.build(id).await.map_err(unavailable)? else {
                return Ok(Err(ChangeRefused::NoSuchBuild));
            };
            // What is no longer configured is built for nobody: its forks wait as everywhere.
            let rules = self.forges.borrow().rules(&old.repo);
            let forks = rules.map_or(Forks::Approve, |rules| rules.forks);
            let asked = Rerun { use_cache: cache, forks };
            Ok(match self.store.rerun(id, asked, &by).await.map_err(unavailable)? {
                RerunAnswer::Made(id) => Ok(id),
                RerunAnswer::NotFinished => Err(ChangeRefused::NotFinished),
                RerunAnswer::HeadMoved(moved) => Err(head_moved(&moved, "built again")),
                RerunAnswer::NotFound => Err(ChangeRefused::NoSuchBuild),
            })
        })
    }

    fn outbox(&self) -> Answer<'_, web::Outbox> {
        Box::pin(async move { outbox::document(&self.store).await.map_err(unavailable) })
    }

    fn told(&self, id: BuildId) -> Answer<'_, Vec<web::Told>> {
        Box::pin(async move {
            let told = self.store.told(id).await.map_err(unavailable)?;
            Ok(told.into_iter().map(outbox::told).collect())
        })
    }

    fn resend(&self, id: BuildId, by: Actor) -> Answer<'_, Result<(), ChangeRefused>> {
        Box::pin(async move {
            if self.store.build(id).await.map_err(unavailable)?.is_none() {
                return Ok(Err(ChangeRefused::NoSuchBuild));
            }
            let sent_again = self.store.resend(id, &by).await.map_err(unavailable)?;
            Ok(if sent_again > 0 { Ok(()) } else { Err(ChangeRefused::NothingToSend) })
        })
    }

    fn agents(&self) -> Answer<'_, Vec<Agent>> {
        Box::pin(async move { self.store.agents().await.map_err(unavailable) })
    }

    fn order_agent<'a>(&'a self, name: &'a str, order: Order, by: Actor) -> Answer<'a, bool> {
        Box::pin(async move { self.store.order_agent(name, order, &by).await.map_err(unavailable) })
    }

    fn audit(&self, filter: web::AuditFilter) -> Answer<'_, Vec<AuditEntry>> {
        let web::AuditFilter { repo, since, before, limit } = filter;
        let filter = AuditFilter { repo, since, before, limit };
        Box::pin(async move { self.store.audit(&filter).await.map_err(unavailable) })
    }

    fn own_agent(&self) -> Option<&str> {
        self.agent.as_deref()
    }

    fn parts(&self) -> Pin<Box<dyn Future<Output = Vec<Part>> + Send + '_>> {
        Box::pin(async move {
            // Side by side: each waits for a database that is away, and who asks must not wait for all of them.
            let (store, agents, outbox, sandbox) =
                tokio::join!(self.store_part(), self.agents_part(), self.outbox_part(), self.sandbox_part());
            vec![store, agents, outbox, sandbox, self.disk(), self.sweep()]
        })
    }

    fn waits(&self) -> Option<String> {
        // What another machine's agent waits for is not this disk.
        let agent = self.agent.as_deref()?;
        self.disk.holds_back().map(|words| format!("the disk of agent {agent} has {words}"))
    }

    fn counts(&self) -> Answer<'_, Counts> {
        Box::pin(async move {
            let builds = self.store.counts().await.map_err(unavailable)?;
            let outbox = self.store.outbox_health().await.map_err(unavailable)?;
            let mut by_state = vec![
                (State::Waiting, None, builds.waiting),
                (State::Queued, None, builds.queued),
                (State::Running, None, builds.running),
            ];
            by_state.extend(builds.finished.iter().map(|(outcome, count)| (State::Finished, Some(*outcome), *count)));
            let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
            let sweeps = self.sweeps.counts();
            Ok(Counts {
                builds: by_state,
                deliveries: vec![
                    ("202", read(&self.answers.made)),
                    ("200", read(&self.answers.other)),
                    ("503", read(&self.answers.unavailable)),
                ],
                outbox_pending: outbox.unsent,
                outbox_dead: outbox.dead,
                paused: outbox.paused.iter().map(|(forge, wait, _)| (forge.to_string(), wait.as_secs())).collect(),
                token_ends: outbox.tokens.iter().map(|(forge, ends)| (forge.to_string(), *ends)).collect(),
                queued: builds.queued,
                slots: self.slots as u64,
                slots_busy: self.busy.load(Ordering::Relaxed) as u64,
                caches: self.caches.levels().iter().map(|of| (of.level, of.hits, of.misses)).collect(),
                snapshot_bytes: self.caches.kept_bytes(),
                disk_free: self.disk.look().ok().map(|look| (look.room.bytes_free, look.room.inodes_free)),
                looks: sweeps.looks.into_iter().collect(),
                missed: sweeps.found.into_iter().collect(),
                sent_again: sweeps.sent_again,
            })
        })
    }
}

impl StoreRecords {
    async fn store_part(&self) -> Part {
        let checked = self.store.check().await;
        let detail = checked.as_ref().err().map_or_else(|| "reads and writes".to_owned(), ToString::to_string);
        Part { name: "store", ok: checked.is_ok(), needed: true, detail }
    }

    /// Those of all processes; a server whose builds nobody runs is still one that takes deliveries.
    async fn agents_part(&self) -> Part {
        let (ok, detail) = match self.store.agents().await {
            Ok(agents) => {
                let works = |agent: &Agent| agent.standing == Standing::Working && !agent.is_held_back();
                (agents.iter().any(works), agents_in_words(&agents))
            }
            Err(error) => (false, error.to_string()),
        };
        Part { name: "agent", ok, needed: false, detail }
    }

    async fn outbox_part(&self) -> Part {
        let (ok, detail) = match self.store.outbox_health().await {
            Err(error) => (false, error.to_string()),
            Ok(health) => outbox::in_words(&health, SystemTime::now().into()),
        };
        Part { name: "outbox", ok, needed: false, detail }
    }

    /// The layers, the roots that steps of this process's agent are to see, and what keeps builds from running there.
    async fn sandbox_part(&self) -> Part {
        let mut words = vec![self.layers.name()];
        let mut wrong = Vec::new();
        match self.layers.admit(false, None) {
            Err(why) => wrong.push(why),
            Ok(()) if self.agent.is_none() => {}
            Ok(()) => {
                for root in self.opened_roots().await {
                    let admitted = root.and_then(|root| self.layers.admit(false, Some(root.dir())).map(|()| root));
                    match admitted {
                        Ok(root) => words.push(root.to_string()),
                        Err(why) => wrong.push(format!("{why}; none of its builds is run")),
                    }
                }
            }
        }
        let ok = self.layers.is_sound() && wrong.is_empty();
        let detail = [vec![words.join(", ")], wrong].concat().join("; ");
        Part { name: "sandbox", ok, needed: false, detail }
    }

    /// Each root of the configuration, or why it is none any more: its operator may have taken it away meanwhile.
    async fn opened_roots(&self) -> Vec<Result<Root, String>> {
        let roots = self.forges.borrow().roots();
        let open = |root: &Root| Root::open(root.dir().to_owned()).map_err(|error| error.to_string());
        // A disk may hang, and with it who looks.
        tokio::task::spawn_blocking(move || roots.iter().map(open).collect()).await.unwrap_or_default()
    }

    fn sweep(&self) -> Part {
        let (ok, detail) = self.sweeps.health();
        Part { name: "sweep", ok, needed: false, detail }
    }

    fn disk(&self) -> Part {
        let (ok, detail) = match self.disk.look() {
            Err(error) => (false, error.to_string()),
            Ok(look) => (look.level == Level::Fine, look.words),
        };
        Part { name: "disk", ok, needed: false, detail }
    }
}

/// `3 of 8 slots busy; build-2 is paused; build-3: disk low since 2026-11-29T10:00:00Z: 5 MiB left`.
fn agents_in_words(agents: &[Agent]) -> String {
    let working = agents.iter().filter(|agent| agent.standing == Standing::Working);
    let (busy, slots) = working.fold((0, 0), |(busy, slots), agent| (busy + agent.busy, slots + agent.slots));
    let mut words = vec![format!("{busy} of {slots} slots busy")];
    let others = agents.iter().filter(|agent| agent.standing != Standing::Working);
    words.extend(others.map(|agent| format!("{} is {}", agent.name, agent.standing.as_str())));
    for agent in agents.iter().filter(|agent| agent.is_held_back()) {
        let (since, low) =
            (agent.disk_low_since.unwrap_or(agent.seen_at), agent.disk_low.as_deref().unwrap_or_default());
        words.push(format!("{}: disk low since {since}: {low}", agent.name));
    }
    words.join("; ")
}

fn head_moved(moved: &HeadMoved, asked: &str) -> ChangeRefused {
    ChangeRefused::HeadMoved(match moved {
        HeadMoved::To(sha) => format!(
            "the pull request is at commit {} by now, and only its head can be {asked}: that has a build of its own",
            sha.short()
        ),
        HeadMoved::Closed => format!("the pull request is closed, and only the head of an open one can be {asked}"),
    })
}

fn delivery(record: store::DeliveryRecord) -> Delivery {
    let store::DeliveryRecord { delivery, answer } = record;
    Delivery {
        delivery: delivery.id,
        forge: delivery.forge.to_string(),
        repo: delivery.repo.map(String::from),
        event: delivery.event,
        at: delivery.received_at,
        status: if answer.made { 202 } else { 200 },
        builds: answer.builds,
        ignored: answer.ignored,
        rule: answer.rule,
    }
}

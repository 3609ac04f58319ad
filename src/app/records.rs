//! The store in the words of the doors.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use crate::confine::Layers;
use crate::disk::{Disk, Level};
use crate::domain::build::{Build, BuildId, State};
use crate::domain::rule::Ruling;
use crate::domain::spec::Explanation;
use crate::intake::Arrival;
use crate::live::cache_tally::CacheTally;
use crate::store::{self, Accepted, CancelAnswer, Filter, RerunAnswer, Store, StoreError};
use crate::web::hook::{self, Taken};
use crate::web::{Answer, BuildFilter, ChangeRefused, Counts, Delivery, Part, Records, Refusal, Unavailable};

/// The store and the state of this process, as pages and API ask for them.
pub(super) struct StoreRecords {
    pub(super) store: Store,
    pub(super) layers: Arc<Layers>,
    pub(super) slots: usize,
    pub(super) busy: Arc<AtomicUsize>,
    pub(super) answers: Arc<Answers>,
    pub(super) agent: String,
    pub(super) disk: Disk,
    pub(super) caches: CacheTally,
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

    fn cancel(&self, id: BuildId, by: &'static str) -> Answer<'_, Result<(), ChangeRefused>> {
        Box::pin(async move {
            Ok(match self.store.cancel(id, by).await.map_err(unavailable)? {
                CancelAnswer::Cancelled | CancelAnswer::Requested => Ok(()),
                CancelAnswer::AlreadyFinished => Err(ChangeRefused::AlreadyFinished),
                CancelAnswer::NotFound => Err(ChangeRefused::NoSuchBuild),
            })
        })
    }

    fn rerun(&self, id: BuildId, cache: bool, by: &'static str) -> Answer<'_, Result<BuildId, ChangeRefused>> {
        Box::pin(async move {
            Ok(match self.store.rerun(id, cache, by).await.map_err(unavailable)? {
                RerunAnswer::Made(id) => Ok(id),
                RerunAnswer::NotFinished => Err(ChangeRefused::NotFinished),
                RerunAnswer::NotFound => Err(ChangeRefused::NoSuchBuild),
            })
        })
    }

    fn parts(&self) -> Pin<Box<dyn Future<Output = Vec<Part>> + Send + '_>> {
        Box::pin(async move {
            vec![self.store_part().await, self.agent(), self.outbox().await, self.sandbox(), self.disk()]
        })
    }

    fn waits(&self) -> Option<String> {
        self.disk.holds_back().map(|words| format!("the disk of agent {} has {words}", self.agent))
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
            Ok(Counts {
                builds: by_state,
                deliveries: vec![
                    ("202", read(&self.answers.made)),
                    ("200", read(&self.answers.other)),
                    ("503", read(&self.answers.unavailable)),
                ],
                outbox_pending: outbox.unsent,
                outbox_dead: outbox.dead,
                queued: builds.queued,
                slots: self.slots as u64,
                slots_busy: self.busy.load(Ordering::Relaxed) as u64,
                caches: self.caches.levels().iter().map(|of| (of.level, of.hits, of.misses)).collect(),
                snapshot_bytes: self.caches.kept_bytes(),
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

    fn agent(&self) -> Part {
        let busy = self.busy.load(Ordering::Relaxed);
        Part { name: "agent", ok: true, needed: false, detail: format!("{busy} of {} slots busy", self.slots) }
    }

    async fn outbox(&self) -> Part {
        let (ok, detail) = match self.store.outbox_health().await {
            Err(error) => (false, error.to_string()),
            Ok(health) => match (health.paused.first(), &health.last_error, health.failing) {
                (Some((forge, wait, why)), ..) => {
                    (false, format!("{forge} is left alone for {}s: {why}", wait.as_secs()))
                }
                (None, Some(error), failing) if failing > 0 => {
                    (false, format!("{failing} of {} statuses not accepted yet: {error}", health.unsent))
                }
                _ => (true, format!("{} statuses to be sent", health.unsent)),
            },
        };
        Part { name: "outbox", ok, needed: false, detail }
    }

    fn sandbox(&self) -> Part {
        Part { name: "sandbox", ok: self.layers.is_full(), needed: false, detail: self.layers.name() }
    }

    fn disk(&self) -> Part {
        let (ok, detail) = match self.disk.look() {
            Err(error) => (false, error.to_string()),
            Ok(look) => (look.level == Level::Fine, look.words),
        };
        Part { name: "disk", ok, needed: false, detail }
    }
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

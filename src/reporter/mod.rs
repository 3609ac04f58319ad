//! Sends statuses from the outbox to the forge until they are accepted.
//!
//! A status row is written in the transaction of the move that causes it; this loop only sends. Each forge has a lane of
//! its own, so that one that hangs or asks for patience delays no other. A row is *taken* before it is sent
//! ([`Store::take`]): never two requests of one commit and context at a time, whoever sends, and final words first where
//! the host's budget is short. What an answer means is decided in `course`; a forge that is away is asked one
//! question every half minute, and hears everything else as soon as it answers one.

mod course;
mod token;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::server::{Forge, Forges, Web};
use crate::domain::link::InstanceKey;
use crate::domain::repo::ForgeName;
use crate::forge::api::{Accepted, Client, DEADLINE, PostError};
use crate::store::{HostBudget, OutboxItem, RowNews, Store, StoreError};

pub use course::{Asked, Course, Pace};
use token::TokenWatch;

/// Requests that one forge is sent at a time. GitHub asks for few.
const AT_ONCE: u32 = 4;
/// A row that was taken is sent within the difference to [`DEADLINE`] and [`Pace::lingers`], or not at all: when the lease
/// is over, its request has ended.
const LEASE: Duration = Duration::from_secs(45);
/// How long to wait when the store can't be used.
const STORE_AGAIN: Duration = Duration::from_secs(2);
/// Between two attempts to spend a budget that is short.
const BUDGET_AGAIN: Duration = Duration::from_millis(300);
/// How long, after the end was asked for, new requests are still begun.
const LAST_WORDS: Duration = Duration::from_secs(10);

/// The sender of statuses.
#[derive(Clone)]
pub struct Reporter {
    /// Where statuses wait.
    pub store: Store,
    /// Where they go.
    pub forges: watch::Receiver<Arc<Forges>>,
    /// How they get there.
    pub client: Arc<Client>,
    /// The address that the link in a status begins with.
    pub web: Arc<Web>,
    /// Makes the links' keys.
    pub links: InstanceKey,
    /// Who sends, as rows are marked with it: another one for each process.
    pub sender: String,
    /// How patient it is.
    pub pace: Pace,
}

/// What is remembered of one forge.
struct Lane {
    slots: Arc<Semaphore>,
    course: Arc<Mutex<Course>>,
    /// Its budget was short: not asked for again before.
    not_before: Option<Instant>,
}

impl Default for Lane {
    fn default() -> Self {
        let slots = Arc::new(Semaphore::new(AT_ONCE as usize));
        Lane { slots, course: Arc::default(), not_before: None }
    }
}

/// What is under way.
#[derive(Default)]
struct Sending {
    lanes: HashMap<ForgeName, Lane>,
    requests: JoinSet<()>,
    tokens: Arc<TokenWatch>,
}

impl Reporter {
    /// Sends until `stop`, then what is due then, so that a drained build's final word goes out.
    pub async fn run(self, stop: CancellationToken) {
        let mut changes = self.store.outbox_changes();
        let mut sending = Sending::default();
        if !self.begin(&sending, &stop).await {
            return;
        }
        while !stop.is_cancelled() {
            let wait = self.round(&mut sending).await;
            tokio::select! {
                () = changes.next() => {}
                Some(_) = sending.requests.join_next(), if !sending.requests.is_empty() => {}
                () = tokio::time::sleep(wait) => {}
                () = stop.cancelled() => {}
            }
            sending.tokens.warn(&self.store).await;
        }
        let ends = Instant::now() + LAST_WORDS;
        loop {
            if Instant::now() < ends {
                self.round(&mut sending).await;
            }
            if sending.requests.join_next().await.is_none() {
                return;
            }
        }
    }

    /// Takes back what an earlier process was sending; false when it was stopped before it could.
    async fn begin(&self, sending: &Sending, stop: &CancellationToken) -> bool {
        loop {
            match self.store.take_back().await {
                Ok(_) => break,
                Err(error) => tracing::error!(%error, "the outbox can't be used yet"),
            }
            tokio::select! {
                () = tokio::time::sleep(STORE_AGAIN) => {}
                () = stop.cancelled() => return false,
            }
        }
        sending.tokens.load(&self.store).await;
        true
    }

    /// Begins as many requests as may be; answers with how long until something may be due.
    async fn round(&self, sending: &mut Sending) -> Duration {
        let mut wait = self.pace.poll;
        let result = async {
            for forge in self.store.due_forges().await? {
                let again = self.begin_requests(sending, &forge).await?;
                wait = wait.min(again.unwrap_or(wait));
            }
            Ok::<(), StoreError>(())
        };
        if let Err(error) = result.await {
            tracing::error!(%error, "the outbox can't be used");
            tokio::time::sleep(STORE_AGAIN).await;
        }
        wait
    }

    async fn begin_requests(&self, sending: &mut Sending, forge: &ForgeName) -> Result<Option<Duration>, StoreError> {
        let lane = sending.lanes.entry(forge.clone()).or_default();
        let begun = Instant::now();
        if let Some(early) = lane.not_before.and_then(|at| at.checked_duration_since(begun)).filter(|d| !d.is_zero()) {
            return Ok(Some(early));
        }
        let free = u32::try_from(lane.slots.available_permits()).unwrap_or(AT_ONCE);
        if free == 0 {
            return Ok(None);
        }
        let configured = self.forges.borrow().by_name.get(forge).cloned();
        let host = configured.as_ref().map(|forge| {
            let (host, budget) = (self.pace.budget)(forge);
            HostBudget { host, budget }
        });
        let taken = self.store.take(forge, &self.sender, free, LEASE, host).await?;
        let again = taken.wait.map(|wait| wait.min(BUDGET_AGAIN));
        lane.not_before = again.map(|again| begun + again);
        for item in taken.items {
            let Ok(slot) = Arc::clone(&lane.slots).try_acquire_owned() else { break };
            let request = Request {
                reporter: self.clone(),
                forge: configured.clone(),
                item,
                begun,
                course: Arc::clone(&lane.course),
                tokens: Arc::clone(&sending.tokens),
            };
            sending.requests.spawn(async move {
                request.send().await;
                drop(slot);
            });
        }
        Ok(again)
    }
}

/// One status on its way.
struct Request {
    reporter: Reporter,
    forge: Option<Arc<Forge>>,
    item: OutboxItem,
    /// Before it was taken.
    begun: Instant,
    course: Arc<Mutex<Course>>,
    tokens: Arc<TokenWatch>,
}

impl Request {
    async fn send(self) {
        let (item, reporter) = (&self.item, &self.reporter);
        let asked_at = Instant::now();
        // Its lease would be over before its request.
        if asked_at.duration_since(self.begun) + DEADLINE + reporter.pace.lingers > LEASE {
            self.settle(Course::untried(&reporter.pace)).await;
            return;
        }
        let result = self.post().await;
        match &result {
            Ok(accepted) => {
                tracing::info!(
                    build = item.build.0, repo = %item.repo, sha = item.sha.short(), context = item.status.context,
                    state = item.status.state.as_str(), sentence = item.status.sentence, "status posted"
                );
                self.tokens.heard(&reporter.store, &item.repo.forge, accepted.token_ends).await;
            }
            Err(error) => tracing::warn!(
                build = item.build.0, repo = %item.repo, context = item.status.context, attempts = item.attempts,
                %error, "status not accepted"
            ),
        }
        let settled = {
            let mut course = self.course.lock().unwrap_or_else(PoisonError::into_inner);
            course.judge(item, &result, Asked::answered_now(asked_at), &reporter.pace)
        };
        if settled.row == RowNews::Dead {
            tracing::error!(
                build = item.build.0, repo = %item.repo, context = item.status.context, why = settled.why,
                "status given up; `hookmill builds resend` sends it again"
            );
        }
        let is_given_up = settled.row == RowNews::Dead;
        let is_unknown = matches!(result, Err(PostError::Unauthorized { .. }));
        self.settle(settled).await;
        if (is_given_up || is_unknown)
            && self.is_outdated()
            && let Err(error) = self.ask_anew(is_given_up).await
        {
            tracing::warn!(%error, forge = %self.item.repo.forge, "what was refused is not asked for again yet");
        }
    }

    /// Whether the forge is asked otherwise by now, as after its token was replaced. To be looked at once the end was
    /// written: who reads the configuration again mends what was refused by then, and does not see what is refused later.
    fn is_outdated(&self) -> bool {
        let forges = self.reporter.forges.borrow();
        match (&self.forge, forges.by_name.get(&self.item.repo.forge)) {
            (Some(asked), Some(now)) => !asked.is_asked_like(now),
            (asked, now) => asked.is_none() && now.is_some(),
        }
    }

    /// What the forge was asked with may have been why it refused: nobody waits out the pause for the old token, and what
    /// was given up is sent again.
    async fn ask_anew(&self, is_given_up: bool) -> Result<(), StoreError> {
        let (store, forge) = (&self.reporter.store, &self.item.repo.forge);
        store.resume_forge(forge).await?;
        if is_given_up {
            let count = store.resend_all(forge).await?;
            tracing::info!(%forge, count, "statuses that were given up are sent again");
        }
        Ok(())
    }

    async fn post(&self) -> Result<Accepted, PostError> {
        let (item, reporter) = (self.item.clone(), &self.reporter);
        let Some(forge) = self.forge.clone() else {
            let why = format!("forge {:?} is no longer configured", item.repo.forge.as_str());
            return Err(PostError::Refused { status: 0, why });
        };
        let key = reporter.links.link_key(item.build);
        let target = format!("{}/builds/{}?key={key}", reporter.web.base(), item.build);
        let client = Arc::clone(&reporter.client);
        let posting = tokio::task::spawn_blocking(move || {
            client.post_status(&forge, &item.repo.path, &item.sha, &item.status, &target)
        });
        posting.await.unwrap_or_else(|panic| Err(course::ours(format!("the sender failed: {panic}"))))
    }

    /// Writes what became of it, again and again while its lease lasts: a disk may be full. Left undone, it is sent once
    /// more after the lease, which is harmless.
    async fn settle(&self, settled: crate::store::Settled) {
        loop {
            let written = self.reporter.store.settle(&self.reporter.sender, &self.item, settled.clone()).await;
            let Err(error) = written else { return };
            tracing::error!(%error, build = self.item.build.0, "the outbox could not be updated");
            if self.begun.elapsed() + STORE_AGAIN > LEASE || error == StoreError::Closed {
                return;
            }
            tokio::time::sleep(STORE_AGAIN).await;
        }
    }
}

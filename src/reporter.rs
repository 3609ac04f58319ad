//! Sends statuses from the outbox to the forge until they are accepted.
//!
//! A status row is written in the transaction of the move that causes it; this loop only sends. One request at a time
//! for each (repository, commit, context), several of them side by side; what fails is put off with jitter, for a day
//! at most; a forge that says "later" is left alone until then, also across restarts.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::server::{Forges, Web};
use crate::domain::link::InstanceKey;
use crate::domain::outbox::{AfterRejection, FIRST_WAIT};
use crate::forge::api::{Client, PostError};
use crate::store::{OutboxItem, Store};

/// How many requests may be under way at once. Forges ask for few.
const AT_ONCE: u32 = 8;
/// How long to sleep when nothing says that there is something to send.
const POLL: Duration = Duration::from_secs(5);

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
}

impl Reporter {
    /// Sends until `stop`, then sends what is due once more, so that a drained build's final word goes out.
    pub async fn run(self, stop: CancellationToken) {
        let mut changes = self.store.outbox_changes();
        while !stop.is_cancelled() {
            let sent = self.send_due().await;
            if sent == 0 {
                tokio::select! {
                    () = changes.next() => {}
                    () = tokio::time::sleep(POLL) => {}
                    () = stop.cancelled() => {}
                }
            }
        }
        self.send_due().await;
    }

    /// Sends everything that is due now; says how many statuses it tried.
    async fn send_due(&self) -> usize {
        let due = match self.store.due(AT_ONCE).await {
            Ok(due) => due,
            Err(error) => {
                tracing::error!(%error, "the outbox could not be read");
                tokio::time::sleep(FIRST_WAIT).await;
                return 0;
            }
        };
        let tried = due.len();
        let tasks = TaskTracker::new();
        for item in due {
            let reporter = self.clone();
            tasks.spawn(async move { reporter.send(item).await });
        }
        tasks.close();
        tasks.wait().await;
        tried
    }

    async fn send(&self, item: OutboxItem) {
        let result = self.post(&item).await;
        let settled = match &result {
            Ok(()) => {
                tracing::info!(
                    build = item.build.0, repo = %item.repo, sha = item.sha.short(), context = item.status.context,
                    state = item.status.state.as_str(), sentence = item.status.sentence, "status posted"
                );
                self.store.sent(item.id).await
            }
            Err(error) => self.put_off(&item, error).await,
        };
        if let Err(error) = settled {
            // Sent twice is harmless; the row is found again by the next round.
            tracing::error!(%error, build = item.build.0, "the outbox could not be updated");
            // The forge is not told the same thing again and again while the disk is full.
            tokio::time::sleep(FIRST_WAIT).await;
        }
    }

    async fn post(&self, item: &OutboxItem) -> Result<(), PostError> {
        let forges = self.forges.borrow().clone();
        let Some(forge) = forges.by_name.get(&item.repo.forge).cloned() else {
            let why = format!("forge {:?} is no longer configured", item.repo.forge.as_str());
            return Err(PostError::Refused { status: 0, why });
        };
        let target = format!("{}/builds/{}?key={}", self.web.base(), item.build, self.links.link_key(item.build));
        let (client, item) = (Arc::clone(&self.client), item.clone());
        tokio::task::spawn_blocking(move || {
            client.post_status(&forge, &item.repo.path, &item.sha, &item.status, &target)
        })
        .await
        .unwrap_or_else(|panic| Err(PostError::Retry { after: None, why: format!("the sender failed: {panic}") }))
    }

    async fn put_off(&self, item: &OutboxItem, error: &PostError) -> Result<(), crate::store::StoreError> {
        tracing::warn!(build = item.build.0, repo = %item.repo, context = item.status.context, attempts = item.attempts, %error, "status not accepted");
        let jitter = f64::from(getrandom::u32().unwrap_or(0)) / f64::from(u32::MAX);
        match error.rejection().means(item.attempts, item.age, jitter) {
            AfterRejection::Refused => self.store.dead(item.id, &error.to_string()).await,
            AfterRejection::TooOld => self.store.dead(item.id, &format!("given up after a day: {error}")).await,
            AfterRejection::Again { wait, pause } => {
                if let Some(pause) = pause {
                    self.store.pause_forge(&item.repo.forge, pause, &error.to_string()).await?;
                }
                self.store.postpone(item.id, wait, &error.to_string()).await
            }
        }
    }
}

//! Puts right what was left behind: by a crash at start, by time every few seconds. What no delivery told of is found by
//! [`missed`].

pub mod missed;

mod disk;
mod mirrors;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use crate::blobs::{Artifacts, Depot, Logs};
use crate::cache::Cache;
use crate::checkout;
use crate::config::server::Retention;
use crate::disk::Disk;
use crate::domain::build::BuildId;
use crate::domain::time::Timestamp;
use crate::domain::trust::APPROVAL_HOLDS;
use crate::live::cache_tally::CacheTally;
use crate::store::{Returned, Store, StoreError};
use crate::toolchain;
use crate::tree;

/// How often leases and waiting builds are looked at.
const ROUND: Duration = Duration::from_secs(15);
/// How many rounds pass between two looks for what is too old to keep.
const ROUNDS_PER_RETENTION: u64 = 240;
/// A snapshot that nobody used for so long goes, whatever room there is.
pub const UNUSED_SNAPSHOT: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// How far back the ends of pull requests and branches are looked at now and then: an agent may have been away.
const ENDED: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// How far back in every round.
const ENDED_LATELY: Duration = Duration::from_secs(10 * 60);

/// The part that repairs.
#[derive(Clone)]
pub struct Sweeper {
    /// The agent in this process, if there is one.
    pub agent: Option<String>,
    /// Our own binary, for child processes.
    pub exe: PathBuf,
    /// What is looked at.
    pub store: Store,
    /// The data directory: its trash is emptied, its slots' leftovers are moved there.
    pub data_dir: PathBuf,
    /// Step output.
    pub logs: Logs,
    /// What else builds left to be kept.
    pub artifacts: Artifacts,
    /// Where both lie for every machine.
    pub depot: Option<Depot>,
    /// What is kept for later builds.
    pub cache: Cache,
    /// Told how much that is.
    pub tally: CacheTally,
    /// How much room there is on the disk of the data directory.
    pub disk: Disk,
    /// Told when a build's fetch left a mirror crowded.
    pub crowded: Arc<Notify>,
    /// How long things are kept.
    pub retention: watch::Receiver<Arc<Retention>>,
}

impl Sweeper {
    /// Before the first claim, again until it succeeds: builds that this agent held when it ended go back to the queue
    /// (or end *broken* after the third time), and what they left on disk goes to the trash.
    ///
    /// # Errors
    /// When the store can't be read or written.
    pub async fn at_start(&self) -> Result<(), StoreError> {
        // Before the store is written: these may be what fills its disk.
        self.clear_leftovers().await;
        self.relieve();
        for returned in self.left_behind().await? {
            match returned {
                Returned::Queued(build) => {
                    tracing::warn!(build = build.0, "the agent ended while it ran; queued again")
                }
                Returned::Finished(build, outcome) => {
                    tracing::warn!(
                        build = build.0,
                        outcome = outcome.as_str(),
                        "the agent ended while it ran; finished"
                    );
                }
            }
        }
        Ok(())
    }

    /// The builds that this process ran when it ended. Without an agent it ran none, unless it had one before: in a store
    /// that nobody else uses, whatever runs was its.
    async fn left_behind(&self) -> Result<Vec<Returned>, StoreError> {
        match &self.agent {
            Some(agent) => self.store.recover(agent).await,
            None if self.store.is_shared() => Ok(Vec::new()),
            None => self.store.recover("").await,
        }
    }

    /// Moves what builds of an earlier process left on disk to the trash.
    pub async fn clear_leftovers(&self) {
        let (data_dir, artifacts, cache) = (self.data_dir.clone(), self.artifacts.clone(), self.cache.clone());
        let cleared = tokio::task::spawn_blocking(move || {
            cache.clear_unfinished();
            artifacts.remove_unfinished()?;
            clear_leftovers(&data_dir)
        })
        .await;
        match cleared {
            Ok(Ok(0)) => {}
            Ok(Ok(count)) => tracing::info!(count, "left-over build directories moved to the trash"),
            Ok(Err(error)) => tracing::warn!(%error, "left-over build directories could not be moved away"),
            Err(panic) => tracing::error!(%panic, "clearing left-over build directories failed"),
        }
    }

    /// Looks after leases, waiting builds, old records and the trash until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let mut round: u64 = 0;
        loop {
            if let Err(error) = self.round(round.is_multiple_of(ROUNDS_PER_RETENTION)).await {
                tracing::error!(%error, "the sweep could not be finished");
            }
            round += 1;
            tokio::select! {
                () = tokio::time::sleep(ROUND) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    async fn round(&self, look_for_old: bool) -> Result<(), StoreError> {
        // First: a store on a full disk can't be written until there is room.
        let trash = self.data_dir.join("trash");
        let emptied = tokio::task::spawn_blocking(move || tree::empty_trash(&trash)).await;
        if let Ok(Err(error)) = emptied {
            tracing::warn!(%error, "the trash could not be emptied");
        }
        let now = Timestamp::from(SystemTime::now());
        self.store.expire_leases().await?;
        self.store.lapse_waiting(APPROVAL_HOLDS).await?;
        self.drop_scopes(now, if look_for_old { ENDED } else { ENDED_LATELY }).await?;
        if look_for_old {
            self.collect_tools(toolchain::UNUSED).await;
            let retention = self.retention.borrow().clone();
            self.collect_snapshots(retention.snapshots).await;
            self.collect_mirrors(retention.mirrors).await;
            self.remove_old(now).await?;
        }
        Ok(())
    }

    /// Brings mirrors under a quota: the least recently used go.
    async fn collect_mirrors(&self, quota: u64) {
        let (mirrors, trash) = (self.data_dir.join("mirrors"), self.data_dir.join("trash"));
        match tokio::task::spawn_blocking(move || checkout::collect(&mirrors, quota, &trash)).await {
            Ok(Ok(collected)) if collected.mirrors == 0 => {}
            Ok(Ok(collected)) => {
                tracing::info!(
                    mirrors = collected.mirrors,
                    bytes = collected.bytes,
                    "mirrors over their quota removed"
                );
            }
            Ok(Err(error)) => tracing::warn!(%error, "mirrors could not be brought under their quota"),
            Err(panic) => tracing::error!(%panic, "collecting mirrors failed"),
        }
    }

    async fn collect_tools(&self, unused: Duration) {
        let (tools, trash) = (self.data_dir.join("tools"), self.data_dir.join("trash"));
        let collected = tokio::task::spawn_blocking(move || toolchain::collect(&tools, unused, &trash)).await;
        match collected {
            Ok(names) if names.is_empty() => {}
            Ok(names) => tracing::info!(tools = names.join(" "), "tools that were not used for long removed"),
            Err(panic) => tracing::error!(%panic, "collecting unused tools failed"),
        }
    }

    /// Removes what builds of closed pull requests and deleted branches left.
    async fn drop_scopes(&self, now: Timestamp, age: Duration) -> Result<(), StoreError> {
        let since = Timestamp(now.0.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX)));
        let dropped = self.store.dropped_scopes(since).await?;
        let cache = self.cache.clone();
        let removed = tokio::task::spawn_blocking(move || {
            dropped.iter().try_for_each(|dropped| cache.drop_scope(&dropped.scope, dropped.last_build))
        });
        if let Ok(Err(error)) = removed.await {
            tracing::warn!(%error, "what builds of a closed pull request left could not be removed yet");
        }
        Ok(())
    }

    /// Brings snapshots under their quota: what was not used for long goes, then the least recently used.
    async fn collect_snapshots(&self, quota: u64) {
        let cache = self.cache.clone();
        let collected = tokio::task::spawn_blocking(move || cache.collect(quota, UNUSED_SNAPSHOT)).await;
        if let Ok(Ok(collected)) = &collected {
            self.tally.set_kept_bytes(collected.kept_bytes);
        }
        match collected {
            Ok(Ok(collected)) if collected.bytes == 0 => {}
            Ok(Ok(collected)) => tracing::info!(
                old = collected.old.len(),
                over_quota = collected.over_quota.len(),
                bytes = collected.bytes,
                "snapshots that were unused for long, or too many, removed"
            ),
            Ok(Err(error)) => tracing::warn!(%error, "snapshots could not be brought under their quota"),
            Err(panic) => tracing::error!(%panic, "collecting snapshots failed"),
        }
    }

    async fn remove_old(&self, now: Timestamp) -> Result<(), StoreError> {
        let retention = self.retention.borrow().clone();
        let before =
            |age: Duration| Timestamp(now.0.saturating_sub(i64::try_from(age.as_millis()).unwrap_or(i64::MAX)));
        let forgotten = self.store.forget(before(retention.builds), before(retention.deliveries)).await?;
        if !forgotten.builds.is_empty() || forgotten.deliveries > 0 {
            tracing::info!(builds = forgotten.builds.len(), deliveries = forgotten.deliveries, "old records removed");
        }
        let entries = self.store.forget_audit(before(retention.audit)).await?;
        if entries > 0 {
            tracing::info!(entries, "old entries of the audit removed");
        }
        for build in self.logs.builds().unwrap_or_default() {
            if self.is_old(build, before(retention.logs)).await?
                && let Err(error) = self.logs.remove(build)
            {
                tracing::warn!(build = build.0, %error, "a build's log could not be removed");
            }
        }
        for build in self.artifacts.builds().unwrap_or_default() {
            if self.is_old(build, before(retention.artifacts)).await?
                && let Err(error) = self.artifacts.remove(build)
            {
                tracing::warn!(build = build.0, %error, "a build's artifacts could not be removed");
            }
        }
        self.remove_shared(before(retention.logs), before(retention.artifacts)).await
    }

    /// Every process does this for all of them: none can know that another still lives.
    async fn remove_shared(&self, logs_before: Timestamp, artifacts_before: Timestamp) -> Result<(), StoreError> {
        let Some(depot) = self.depot.clone() else { return Ok(()) };
        let there = depot.clone();
        let builds = match tokio::task::spawn_blocking(move || there.builds()).await {
            Ok(Ok(builds)) => builds,
            Ok(Err(error)) => {
                tracing::warn!(%error, "what is old in the blob store could not be looked for");
                return Ok(());
            }
            Err(_stopping) => return Ok(()),
        };
        for build in builds {
            let (logs, artifacts) =
                (self.is_old(build, logs_before).await?, self.is_old(build, artifacts_before).await?);
            let depot = depot.clone();
            let forgotten = tokio::task::spawn_blocking(move || depot.forget(build, logs, artifacts)).await;
            if let Ok(Err(error)) = forgotten {
                tracing::warn!(build = build.0, %error, "a build's old objects could not be removed");
            }
        }
        Ok(())
    }

    /// Whether a build ended before `before`, or is forgotten.
    async fn is_old(&self, build: BuildId, before: Timestamp) -> Result<bool, StoreError> {
        Ok(match self.store.build(build).await? {
            Some(build) => build.finished_at.is_some_and(|at| at <= before),
            None => true,
        })
    }
}

/// Moves every build directory of every slot to the trash; at start no build runs.
fn clear_leftovers(data_dir: &std::path::Path) -> std::io::Result<usize> {
    let slots = data_dir.join("slots");
    let trash = data_dir.join("trash");
    std::fs::create_dir_all(&trash)?;
    let mut count = 0;
    for slot in std::fs::read_dir(&slots).into_iter().flatten() {
        for build in std::fs::read_dir(slot?.path().join("builds")).into_iter().flatten() {
            tree::rename_away(&build?.path(), &trash).map_err(std::io::Error::other)?;
            count += 1;
        }
    }
    Ok(count)
}

//! The hub of one process: who follows a build is woken when something new about it can be read.
//!
//! The hub carries no words. They are on disk before it is told, and each reader takes them from
//! there at its own pace, by sequence number: so a slow reader holds nothing in memory, misses
//! nothing, and nobody waits for it.

pub mod cache_tally;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::domain::build::BuildId;

/// Wakes readers. Cheap to clone; clones are the same hub.
#[derive(Debug, Clone)]
pub struct Hub {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    builds: Mutex<HashMap<BuildId, watch::Sender<()>>>,
    readers: Arc<Semaphore>,
}

/// The hub has as many readers as it may have (or the server is stopping): come back later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many readers follow builds at this moment")]
pub struct TooManyReaders;

/// A reader's place in the hub; dropping it makes room for another.
#[derive(Debug)]
pub struct Subscription {
    hub: Hub,
    build: BuildId,
    news: watch::Receiver<()>,
    _place: OwnedSemaphorePermit,
}

impl Hub {
    /// A hub for at most `readers` at once.
    pub fn new(readers: usize) -> Self {
        Hub { shared: Arc::new(Shared { builds: Mutex::default(), readers: Arc::new(Semaphore::new(readers)) }) }
    }

    /// Wakes everybody who follows the build. To be called after the news can be read, not before.
    pub fn publish(&self, build: BuildId) {
        if let Some(readers) = self.shared.builds().get(&build) {
            readers.send_replace(());
        }
    }

    /// Wakes everybody: any build may have moved.
    pub fn publish_all(&self) {
        for readers in self.shared.builds().values() {
            readers.send_replace(());
        }
    }

    /// Begins to follow a build. News published from now on is not missed.
    pub fn subscribe(&self, build: BuildId) -> Result<Subscription, TooManyReaders> {
        let place = Arc::clone(&self.shared.readers).try_acquire_owned().map_err(|_| TooManyReaders)?;
        let mut builds = self.shared.builds();
        let news = builds.entry(build).or_insert_with(|| watch::Sender::new(())).subscribe();
        Ok(Subscription { hub: self.clone(), build, news, _place: place })
    }

    /// Ends every subscription and takes no new one: the server is stopping.
    pub fn close(&self) {
        self.shared.readers.close();
        self.shared.builds().clear();
    }
}

impl Shared {
    // Held for a look-up only, never while anything is read or sent.
    fn builds(&self) -> MutexGuard<'_, HashMap<BuildId, watch::Sender<()>>> {
        self.builds.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Subscription {
    /// Waits for news since the last call; at once when there was some meanwhile. False: the hub was closed.
    pub async fn news(&mut self) -> bool {
        self.news.changed().await.is_ok()
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut builds = self.hub.shared.builds();
        // This one's own receiver still counts.
        if builds.get(&self.build).is_some_and(|readers| readers.receiver_count() <= 1) {
            builds.remove(&self.build);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn news_between_two_looks_is_not_missed() {
        let hub = Hub::new(1);
        hub.publish(BuildId(1));
        let mut reader = hub.subscribe(BuildId(1)).expect("a place is free");
        hub.publish(BuildId(2));
        hub.publish(BuildId(1));
        hub.publish(BuildId(1));
        assert!(reader.news().await, "two publications are one waking");
        assert_eq!(hub.subscribe(BuildId(2)).err(), Some(TooManyReaders));
        drop(reader);
        assert!(hub.shared.builds().is_empty(), "nobody follows, nothing is kept");
        let mut reader = hub.subscribe(BuildId(2)).expect("the place is free again");
        hub.close();
        assert!(!reader.news().await);
        assert!(hub.subscribe(BuildId(2)).is_err());
    }
}

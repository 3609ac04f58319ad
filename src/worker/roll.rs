//! An agent's place among all of them: it says that it is there, and hears what is asked of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::disk::Disk;
use crate::domain::agent::Order;
use crate::store::{AgentCard, Registered, Store, StoreError};

/// How soon others see that a slot became busy or free.
const LOOK: Duration = Duration::from_secs(1);
/// After news, further ones are gathered so long before the store is asked again.
const GATHER: Duration = Duration::from_millis(100);
/// How often a name that is taken is tried.
const NAME_AGAIN: Duration = Duration::from_secs(1);

/// One agent's entry.
#[derive(Debug, Clone)]
pub struct Roll {
    store: Store,
    card: AgentCard,
    /// How long it counts as alive without a word.
    alive: Duration,
    busy: Arc<AtomicUsize>,
    disk: Disk,
    orders: watch::Sender<Order>,
}

/// Why an agent can't work under its name.
#[derive(Debug, thiserror::Error)]
pub enum RollError {
    /// Another one bears it.
    #[error("an agent named {name:?} is at work with another data directory: give this one an [agent] name of its own")]
    Taken {
        /// The name.
        name: String,
    },
    /// The store does not say.
    #[error("the agent could not register: {0}")]
    Store(#[from] StoreError),
}

impl Roll {
    /// The entry of `card`, which counts as alive for `alive` after each word. With it are told `busy` slots, and when
    /// the disk holds builds back.
    pub fn new(store: Store, card: AgentCard, alive: Duration, busy: Arc<AtomicUsize>, disk: Disk) -> Self {
        Roll { store, card, alive, busy, disk, orders: watch::Sender::new(Order::Run) }
    }

    /// What is asked of the agent, as far as it has heard.
    pub fn orders(&self) -> watch::Receiver<Order> {
        self.orders.subscribe()
    }

    /// Takes the name. One of an agent that is gone is free once its last word is old enough, which is waited for.
    ///
    /// # Errors
    /// When another agent bears the name all the while, and when the store can't be written.
    pub async fn register(&self) -> Result<(), RollError> {
        let patience = tokio::time::Instant::now() + self.alive;
        let mut is_told = false;
        loop {
            match self.store.register_agent(&self.card, self.alive).await? {
                Registered::Known(order) => {
                    self.orders.send_replace(order);
                    return Ok(());
                }
                Registered::Taken if tokio::time::Instant::now() >= patience => {
                    return Err(RollError::Taken { name: self.card.name.clone() });
                }
                Registered::Taken => {
                    if !std::mem::replace(&mut is_told, true) {
                        tracing::warn!(
                            name = self.card.name,
                            "an agent of this name was at work lately: waiting for its end"
                        );
                    }
                    tokio::time::sleep(NAME_AGAIN).await;
                }
            }
        }
    }

    /// Says that the agent is there and hears what is asked of it, until `gone`.
    pub async fn run(self, gone: CancellationToken) {
        let mut changes = self.store.changes();
        let mut told = (0, false);
        let mut next_beat = tokio::time::Instant::now() + self.alive / 3;
        loop {
            let is_told = tokio::select! {
                () = tokio::time::sleep(LOOK.min(self.alive / 3)) => false,
                () = changes.next() => true,
                () = gone.cancelled() => break,
            };
            let (busy, disk_low) = (self.busy.load(Ordering::Relaxed), self.disk.holds_back());
            let is_due = (busy, disk_low.is_some()) != told || tokio::time::Instant::now() >= next_beat;
            if !is_due && !is_told {
                continue;
            }
            let heard = if is_due {
                next_beat = tokio::time::Instant::now() + self.alive / 3;
                told = (busy, disk_low.is_some());
                self.store.beat(&self.card, busy, disk_low, self.alive).await
            } else {
                self.store.order_of(&self.card.name).await
            };
            match heard {
                Ok(Some(order)) => self.hear(order),
                // A database that was restored from a backup does not know us.
                Ok(None) => {
                    if let Err(error) = self.store.register_agent(&self.card, self.alive).await {
                        tracing::warn!(%error, "the agent could not register again yet");
                    }
                }
                Err(error) => tracing::warn!(%error, "the agent's heartbeat could not be written"),
            }
            tokio::time::sleep(GATHER).await;
        }
        // By itself it would count as away only after some time.
        if let Err(error) = self.store.leave(&self.card).await {
            tracing::warn!(%error, "the agent's end could not be written down");
        }
    }

    fn hear(&self, order: Order) {
        let is_news = self.orders.send_if_modified(|heard| std::mem::replace(heard, order) != order);
        if is_news {
            tracing::info!(order = order.as_str(), "this is asked of the agent now");
        }
    }
}

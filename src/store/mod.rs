//! What must not be lost: deliveries, builds, their steps, and the statuses that are still to be sent.
//!
//! Everything that writes goes through one task (`writer`) that commits many requests with one sync; what was
//! answered is on disk. Every move of a build is one conditional update: a holder whose claim was taken over
//! changes no row, and is told so. The rules (what a delivery means for the queue) are not here: they are handed
//! in as a pure function and asked within the transaction, so that no other delivery comes between question and
//! answer. Logs are files and live elsewhere.
//!
//! The statements are those that SQLite and PostgreSQL both understand, said through `sql`; what differs is in `sqlite` and
//! `postgres`.

mod agents;
mod builds;
mod clock;
mod deliveries;
mod examine;
mod explanations;
mod facts;
mod open;
mod outbox;
mod postgres;
mod queue;
mod requests;
mod retention;
mod row;
mod schema;
mod scopes;
mod sql;
mod sqlite;
mod steps;
mod writer;

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

pub use agents::{AgentCard, Registered};
pub use builds::{Counts, Filter, Seen};
pub use clock::WallClock;
pub use deliveries::{About, Accepted, Decide, Decision, Delivery, DeliveryRecord, Ending, NewBuild};
pub use examine::{Found, examine};
pub use facts::{Facts, Known};
pub use open::OpenError;
pub use outbox::{OutboxHealth, OutboxItem};
pub use postgres::PostgresError;
pub use queue::{Claim, Claimed, Returned};
pub use requests::{CancelAnswer, RerunAnswer};
pub use retention::Forgotten;
pub use scopes::DroppedScope;

use crate::config::server::StoreUrl;
use clock::Clock;
use sql::Readers;
use writer::Writer;

/// Why the store did not do what it was asked. Nothing of the request was written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// No space, a failing disk, a lock that was not given: may pass by itself. The door answers 503.
    #[error("the store can't be used: {0}")]
    Unavailable(String),
    /// The database refused this one request.
    #[error("the store refused: {0}")]
    Refused(String),
    /// A stored value can't be read back.
    #[error("the store holds {column} = {value:?}, which this version can't read")]
    Unreadable {
        /// The column.
        column: &'static str,
        /// What it holds.
        value: String,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        if sql::is_outage(&error) {
            StoreError::Unavailable(error.to_string())
        } else {
            StoreError::Refused(error.to_string())
        }
    }
}

/// How a store is opened.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The wall clock of stored times; [`WallClock::default`] is the system's. Deadlines never follow its jumps.
    pub wall_clock: WallClock,
    /// The most pages the database may have; `None` is the engine's own bound. What is beyond answers as a full disk.
    pub max_pages: Option<u32>,
}

/// The store. A cheap handle: every part that needs it has its own.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    writer: Writer,
    readers: Readers,
    changes: watch::Sender<u64>,
    clock: Clock,
    link_key: [u8; 32],
    is_shared: bool,
    outage: Arc<Mutex<Option<String>>>,
}

impl Store {
    /// Opens the database at an address (a path is a SQLite file, which is made when it is missing, folders too), brings
    /// its schema up, and starts the writing task on the current tokio runtime.
    pub async fn open(at: impl Into<StoreUrl>, options: Options) -> Result<Store, OpenError> {
        let at = at.into();
        let is_shared = matches!(at, StoreUrl::Postgres(_));
        let opened = open::open(&at, options.max_pages).await?;
        let outage = Arc::default();
        let changes = watch::Sender::new(0);
        let clock = Clock::start(options.wall_clock);
        let writer = Writer::start(opened.connection, opened.lock, clock.clone(), changes.clone(), Arc::clone(&outage));
        let (readers, link_key) = (opened.readers, opened.link_key);
        Ok(Store { inner: Arc::new(Inner { writer, readers, changes, clock, link_key, is_shared, outage }) })
    }

    /// Whether other processes may use it at the same time.
    pub fn is_shared(&self) -> bool {
        self.inner.is_shared
    }

    /// The key of status links (an HMAC key), made once for each database.
    pub fn link_key(&self) -> [u8; 32] {
        self.inner.link_key
    }

    /// Whether the store can be read, and (after a write failed) written again: for readiness.
    pub async fn check(&self) -> Result<(), StoreError> {
        sql::query("SELECT 1").execute(&self.inner.readers).await?;
        let failing = self.inner.outage.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        if !failing {
            return Ok(());
        }
        // A blob of some pages, so that a disk with a few bytes left is not taken for one with space.
        self.write(false, |connection| {
            Box::pin(async move {
                let write = "INSERT INTO meta (name, value) VALUES ('probe', $1) \
                             ON CONFLICT (name) DO UPDATE SET value = excluded.value";
                sql::query(write).bind(vec![0_u8; 16_384]).execute(&mut *connection).await?;
                sql::query("DELETE FROM meta WHERE name = 'probe'").execute(connection).await?;
                Ok(())
            })
        })
        .await
    }

    /// Tells when something was queued, cancelled, finished, or is due to be sent. Whoever waits polls too, now and
    /// then: a retry becomes due by time alone.
    pub fn changes(&self) -> Changes {
        Changes(self.inner.changes.subscribe())
    }

    /// Commits what was asked before, refuses what is asked after, and gives the database back.
    pub async fn close(&self) {
        self.inner.readers.close().await;
        self.inner.writer.close().await;
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store(…)")
    }
}

/// A reader's place in the run of changes. Changes while nobody waits are not lost, only joined into one.
#[derive(Debug)]
pub struct Changes(watch::Receiver<u64>);

impl Changes {
    /// Returns at once when something changed since the last call, else waits for it. Never returns after the
    /// store is gone.
    pub async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod plans;

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
mod approval;
mod audit;
pub mod backup;
mod builds;
mod clock;
mod deletions;
mod deliveries;
mod effects;
mod examine;
mod explanations;
mod facts;
mod heads;
pub mod inspect;
mod locks;
mod news;
mod open;
mod outbox;
mod postgres;
mod queue;
mod requests;
mod retention;
mod row;
mod rulings;
mod schema;
mod scopes;
mod sql;
mod sqlite;
mod steps;
mod sweeps;
mod turns;
mod writer;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio_util::task::AbortOnDropHandle;

pub use agents::{AgentCard, Registered};
pub use approval::{Approval, ApproveAnswer, Moved as HeadMoved};
pub use audit::AuditFilter;
pub use builds::{Counts, Filter, Seen};
pub use clock::WallClock;
pub use deletions::{Deletion, Gone};
pub use deliveries::{About, Accepted, Decide, Decision, Delivery, DeliveryRecord, Ending, NewBuild, Superseded};
pub use examine::{Found, examine};
pub use facts::{Facts, Known};
pub use heads::Head;
pub use news::{BuildChanges, Changes, Moved};
pub use open::OpenError;
pub use outbox::{ForgeNews, HostBudget, OutboxHealth, OutboxItem, RowNews, Settled, Taken, Told, Undelivered};
pub use postgres::PostgresError;
pub use queue::{Claim, Claimed, Returned};
pub use requests::{CancelAnswer, Rerun, RerunAnswer};
pub use retention::Forgotten;
pub use scopes::DroppedScope;
pub use sweeps::LookedAt;

use crate::config::server::StoreUrl;
use crate::domain::build::BuildId;
use clock::Clock;
use news::{News, Topic};
use open::Opened;
use sql::Readers;
use writer::{Outage, Shared, Writer};

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
        if sql::is_full(&error) {
            StoreError::Unavailable("no space left on the disk of the database".to_owned())
        } else if sql::is_outage(&error) {
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
    news: News,
    clock: Clock,
    link_key: [u8; 32],
    outage: Outage,
    /// Done once for each opened store: see [`Store::take_back`].
    taken_back: OnceCell<u64>,
    _listener: Option<AbortOnDropHandle<()>>,
}

impl Store {
    /// Opens the database at an address (a path is a SQLite file, which is made when it is missing, folders too), brings
    /// its schema up, and starts the writing task on the current tokio runtime.
    pub async fn open(at: impl Into<StoreUrl>, options: Options) -> Result<Store, OpenError> {
        let (clock, news, outage) = (Clock::start(options.wall_clock), News::new(), Outage::default());
        let shared = Shared { clock: clock.clone(), news: news.clone(), outage: outage.clone() };
        let Opened { readers, writer, link_key, listener } = open::open(&at.into(), options.max_pages, &shared).await?;
        let taken_back = OnceCell::new();
        let inner = Inner { writer, readers, news, clock, link_key, outage, taken_back, _listener: listener };
        Ok(Store { inner: Arc::new(inner) })
    }

    /// Whether other processes may use it at the same time.
    pub fn is_shared(&self) -> bool {
        matches!(self.inner.readers, Readers::Postgres(_))
    }

    /// The key of status links (an HMAC key), made once for each database.
    pub fn link_key(&self) -> [u8; 32] {
        self.inner.link_key
    }

    /// Whether the store can be read, and (after a write failed) written again: for readiness.
    pub async fn check(&self) -> Result<(), StoreError> {
        sql::query("SELECT 1").execute(&self.inner.readers).await?;
        if !self.is_failing() {
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

    /// Whether the last write failed, as on a full disk. It is known to be over with the next one that succeeds.
    pub fn is_failing(&self) -> bool {
        self.inner.outage.is_on()
    }

    /// Tells when something was queued, cancelled, finished, or is due to be sent; here or, on a shared database, by
    /// another process. Whoever waits polls too, now and then: a retry becomes due by time alone, and what another
    /// process tells may be lost with a connection.
    pub fn changes(&self) -> Changes {
        self.inner.news.any()
    }

    /// As [`Store::changes`], for whoever waits for a build to claim.
    pub fn queue_changes(&self) -> Changes {
        self.inner.news.queue()
    }

    /// As [`Store::changes`], for whoever waits for a status to send.
    pub fn outbox_changes(&self) -> Changes {
        self.inner.news.outbox()
    }

    /// Tells which builds moved: began, ended, were asked to end, or said something ([`Store::tell_build`]).
    pub fn build_changes(&self) -> BuildChanges {
        self.inner.news.builds()
    }

    /// Tells those who follow a build, in every process, that there is more to be seen of it than its row: a log that
    /// grew. Costs a transaction on a shared database, nothing otherwise; gather what comes fast.
    pub async fn tell_build(&self, id: BuildId) -> Result<(), StoreError> {
        if let Readers::Sqlite(_) = self.inner.readers {
            self.inner.news.tell(&BTreeSet::from([Topic::Build(id)]));
            return Ok(());
        }
        self.write(false, move |connection| {
            Box::pin(async move {
                connection.tell(Topic::Build(id));
                Ok(())
            })
        })
        .await
    }

    /// How long an outage is worth waiting for in the middle of a build. A server restarts or another takes its place; a
    /// file on a full disk stays as it is while the build waits that may be what fills it.
    pub fn patience(&self) -> Duration {
        match self.inner.readers {
            Readers::Sqlite(_) => Duration::ZERO,
            Readers::Postgres(_) => Duration::from_secs(45),
        }
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

#[cfg(test)]
mod plans;

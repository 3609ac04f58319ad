//! What must not be lost: deliveries, builds, their steps, and the statuses that are still to be sent.
//!
//! Everything that writes goes through one task (`writer`) that commits many requests with one sync; what was
//! answered is on disk. Every move of a build is one conditional update: a holder whose claim was taken over
//! changes no row, and is told so. The rules (what a delivery means for the queue) are not here: they are handed
//! in as a pure function and asked within the transaction, so that no other delivery comes between question and
//! answer. Logs are files and live elsewhere.
//!
//! The statements are those that SQLite and PostgreSQL both understand; what differs is in `sqlite`.

mod builds;
mod clock;
mod deletions;
mod deliveries;
mod effects;
mod examine;
mod explanations;
mod facts;
mod outbox;
mod queue;
mod requests;
mod retention;
mod row;
mod rulings;
mod schema;
mod scopes;
mod sqlite;
mod steps;
mod turns;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

pub use builds::{Counts, Filter, Seen};
pub use clock::WallClock;
pub use deletions::{Deletion, Gone};
pub use deliveries::{About, Accepted, Decide, Decision, Delivery, DeliveryRecord, Ending, NewBuild, Superseded};
pub use examine::{Found, examine};
pub use facts::{Facts, Known};
pub use outbox::{OutboxHealth, OutboxItem};
pub use queue::{Claim, Claimed, Lease, MAX_CLAIMS, Returned};
pub use requests::{CancelAnswer, RerunAnswer};
pub use retention::Forgotten;
pub use scopes::DroppedScope;

use clock::Clock;
use sqlite::lock::ProcessLock;
use sqlite::{MIGRATIONS, Readers};
use writer::Writer;

/// Why a store could not be opened. The server ends with exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error(
        "{} is in use by {}; a SQLite store belongs to one process: stop that one, or give this one another [store] url",
        path.display(),
        pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
    )]
    Held {
        /// The database.
        path: PathBuf,
        /// The holder, if it wrote its id down.
        pid: Option<u32>,
    },
    /// A newer binary made it.
    #[error(
        "{} has schema version {found}, and this hookmill knows up to version {known}: run a newer hookmill, \
         or restore the backup made before the upgrade",
        path.display()
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// This binary's version.
        known: i64,
    },
    /// A SQLite database that is not ours.
    #[error("{} is a database of another program: give [store] url a path of its own", path.display())]
    Foreign {
        /// The database.
        path: PathBuf,
    },
    /// Its folder can't be made.
    #[error("the folder of {} can't be made: {source}", path.display())]
    Folder {
        /// The database.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// The lock file beside it can't be written.
    #[error("{} can't be locked: {source}", path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// The database can't be read or written.
    #[error("{} can't be opened: {source}", path.display())]
    Database {
        /// The database.
        path: PathBuf,
        /// The engine's word.
        source: sqlx::Error,
    },
    /// The system gave no random bytes.
    #[error("the system gave no random bytes for the key of status links: {0}")]
    Random(getrandom::Error),
}

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
        if sqlite::is_outage(&error) {
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
    outage: Arc<Mutex<Option<String>>>,
}

impl Store {
    /// Opens the SQLite database at `path`, which is made when it is missing (folders too), brings its schema up,
    /// and starts the writing task on the current tokio runtime.
    pub async fn open(path: &Path, options: Options) -> Result<Store, OpenError> {
        let opening = |source| OpenError::Database { path: path.to_owned(), source };
        prepare(path)?;
        let lock = ProcessLock::take(path)?;
        let mut connection = sqlite::writer(path).await.map_err(opening)?;
        schema::migrate(&mut connection, path, MIGRATIONS).await?;
        if let Some(pages) = options.max_pages {
            sqlite::limit_pages(&mut connection, pages).await.map_err(opening)?;
        }
        let link_key = make_link_key(&mut connection, path).await?;
        let readers = sqlite::readers(path).await.map_err(opening)?;
        let outage = Arc::default();
        let changes = watch::Sender::new(0);
        let clock = Clock::start(options.wall_clock);
        let writer = Writer::start(connection, lock, clock.clone(), changes.clone(), Arc::clone(&outage));
        Ok(Store { inner: Arc::new(Inner { writer, readers, changes, clock, link_key, outage }) })
    }

    /// The key of status links (an HMAC key), made once for each database.
    pub fn link_key(&self) -> [u8; 32] {
        self.inner.link_key
    }

    /// Whether the store can be read, and (after a write failed) written again: for readiness.
    pub async fn check(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT 1").execute(&self.inner.readers).await?;
        let failing = self.inner.outage.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        if !failing {
            return Ok(());
        }
        // A blob of some pages, so that a disk with a few bytes left is not taken for one with space.
        self.write(false, |connection| {
            Box::pin(async move {
                let write = "INSERT INTO meta (name, value) VALUES ('probe', $1) \
                             ON CONFLICT (name) DO UPDATE SET value = excluded.value";
                sqlx::query(write).bind(vec![0_u8; 16_384]).execute(&mut *connection).await?;
                sqlx::query("DELETE FROM meta WHERE name = 'probe'").execute(connection).await?;
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

/// Makes the folder and an empty file that only we may read: it will hold the key of status links. SQLite gives its
/// side files the same rights.
fn prepare(path: &Path) -> Result<(), OpenError> {
    let failed = |source| OpenError::Folder { path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(false);
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path).map_err(failed)?;
    Ok(())
}

async fn make_link_key(connection: &mut sqlite::Connection, path: &Path) -> Result<[u8; 32], OpenError> {
    let opening = |source| OpenError::Database { path: path.to_owned(), source };
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(OpenError::Random)?;
    sqlx::query("INSERT INTO meta (name, value) VALUES ('link_key', $1) ON CONFLICT (name) DO NOTHING")
        .bind(key.as_slice())
        .execute(&mut *connection)
        .await
        .map_err(opening)?;
    let stored: Vec<u8> = sqlx::query_scalar("SELECT value FROM meta WHERE name = 'link_key'")
        .fetch_one(connection)
        .await
        .map_err(opening)?;
    stored.try_into().map_err(|_| opening(sqlx::Error::Decode("the key of status links has not 32 bytes".into())))
}

#[cfg(test)]
mod plans;

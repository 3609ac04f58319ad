//! What is SQLite's own: how it is opened, locked and asked to be durable, and which of its errors pass.

pub(super) mod lock;
mod task;

use std::path::Path;
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use lock::ProcessLock;
pub(super) use task::start;

use super::OpenError;
use super::schema::{self, Migration, SchemaError};
use super::sql::{self, Connection, Readers};

/// Begins a transaction that may write. A deferred one fails with "database is locked" at its first
/// write, without heeding the busy timeout.
pub(super) const BEGIN: &str = "BEGIN IMMEDIATE";

/// The schema's history, oldest first.
pub(super) const MIGRATIONS: &[Migration] = &[
    Migration { version: 1, sql: include_str!("migrations/0001_first.sql") },
    Migration { version: 2, sql: include_str!("migrations/0002_explanations.sql") },
    Migration { version: 3, sql: include_str!("migrations/0003_mend.sql") },
    Migration { version: 4, sql: include_str!("migrations/0004_caches.sql") },
    Migration { version: 5, sql: include_str!("migrations/0005_heads.sql") },
    Migration { version: 6, sql: include_str!("migrations/0006_outbox.sql") },
    Migration { version: 7, sql: include_str!("migrations/0007_rulings_and_turns.sql") },
    Migration { version: 8, sql: include_str!("migrations/0008_agents.sql") },
    Migration { version: 9, sql: include_str!("migrations/0009_audit.sql") },
    Migration { version: 11, sql: include_str!("migrations/0011_reached.sql") },
    Migration { version: 13, sql: include_str!("migrations/0013_agents_disk.sql") },
];

/// Whether the database holds tables at all, ours or somebody else's.
pub(super) const COUNT_TABLES: &str = "SELECT count(*) FROM sqlite_schema WHERE type = 'table'";

/// Holds the version of the schema.
pub(super) const CREATE_VERSIONS: &str = "CREATE TABLE schema_version (version INTEGER PRIMARY KEY)";

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .busy_timeout(Duration::from_secs(5))
        .foreign_keys(true)
        // Negative: KiB instead of pages. Each connection has its own cache; the system's page cache does the rest.
        .pragma("cache_size", "-256")
        // A statement of many rows keeps the pages it changes until it is through; in memory, not in a file under /tmp.
        .pragma("temp_store", "memory")
        .statement_cache_capacity(64)
        .disable_statement_logging()
}

/// The one connection that writes.
pub(super) async fn writer(path: &Path) -> Result<Connection, sqlx::Error> {
    options(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        // In WAL mode NORMAL does not sync at a commit, so a power cut would take back what was answered 202.
        .synchronous(SqliteSynchronous::Full)
        .pragma("journal_size_limit", "16777216")
        .thread_name(|_| "store-writer".to_owned())
        .connect()
        .await
        .map(Connection::from)
}

/// The connections that read.
pub(super) async fn readers(path: &Path) -> Result<Readers, sqlx::Error> {
    SqlitePoolOptions::new()
        .max_connections(2)
        .idle_timeout(Duration::from_secs(60))
        .acquire_timeout(Duration::from_secs(10))
        .connect_with(options(path).read_only(true).thread_name(|_| "store-reader".to_owned()))
        .await
        .map(Readers::Sqlite)
}

const FULL: i32 = 13;

/// True for errors that are the machine's and may pass: no space, a failing disk, a lock that was not given.
/// SQLite may have rolled the whole transaction back when one of them is reported
/// (<https://www.sqlite.org/lang_transaction.html>, section 2.4).
pub(super) fn is_outage(error: &dyn sqlx::error::DatabaseError) -> bool {
    const BUSY: i32 = 5;
    const LOCKED: i32 = 6;
    const NOMEM: i32 = 7;
    const READONLY: i32 = 8;
    const INTERRUPT: i32 = 9;
    const IOERR: i32 = 10;
    const CORRUPT: i32 = 11;
    const CANTOPEN: i32 = 14;
    const NOTADB: i32 = 26;
    let code = primary_code(error);
    [BUSY, LOCKED, NOMEM, READONLY, INTERRUPT, IOERR, CORRUPT, FULL, CANTOPEN, NOTADB].contains(&code)
}

/// True where there is no room for it on the disk.
pub(super) fn is_full(error: &dyn sqlx::error::DatabaseError) -> bool {
    primary_code(error) == FULL
}

/// The extended code carries the primary one in its low byte.
fn primary_code(error: &dyn sqlx::error::DatabaseError) -> i32 {
    error.code().and_then(|code| code.parse::<i32>().ok()).unwrap_or(0) & 0xff
}

/// Bounds the database's size; beyond it, writes answer as if the disk were full.
async fn limit_pages(connection: &mut Connection, pages: u32) -> Result<(), sqlx::Error> {
    // A pragma takes no parameters; a number needs no quoting.
    let pragma = sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {pages}"));
    sql::query(pragma).fetch_all(connection).await.map(drop)
}

/// Opens the database at `path`, which is made when it is missing (folders too), and brings its schema up. The lock is
/// held by whoever writes.
pub(super) async fn prepare(path: &Path, max_pages: Option<u32>) -> Result<(Connection, ProcessLock), OpenError> {
    let opening = |source| OpenError::Database { path: path.to_owned(), source };
    make_file(path)?;
    let lock = ProcessLock::take(path)?;
    let mut connection = writer(path).await.map_err(opening)?;
    schema::migrate(&mut connection, MIGRATIONS).await.map_err(|error| schema_error(path, error))?;
    if let Some(pages) = max_pages {
        limit_pages(&mut connection, pages).await.map_err(opening)?;
    }
    Ok((connection, lock))
}

pub(super) fn schema_error(path: &Path, error: SchemaError) -> OpenError {
    let path = path.to_owned();
    match error {
        SchemaError::Newer { found, known } => OpenError::Newer { path, found, known },
        SchemaError::Foreign => OpenError::Foreign { path },
        SchemaError::Engine(source) => OpenError::Database { path, source },
    }
}

/// Makes the folder and an empty file that only we may read: it will hold the key of status links. SQLite gives its
/// side files the same rights.
fn make_file(path: &Path) -> Result<(), OpenError> {
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

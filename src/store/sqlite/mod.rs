//! What is SQLite's own: how it is opened, locked and asked to be durable, and which of its errors pass.

pub(super) mod lock;

use std::path::Path;
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous};

use super::schema::Migration;

/// A connection of this database.
pub(super) type Connection = sqlx::SqliteConnection;
/// A row of this database.
pub(super) type Row = sqlx::sqlite::SqliteRow;
/// This database, for statements that are put together at run time.
pub(super) type Database = sqlx::Sqlite;
/// Connections that only read.
pub(super) type Readers = sqlx::SqlitePool;

/// Begins a transaction that may write. A deferred one fails with "database is locked" at its first
/// write, without heeding the busy timeout.
pub(super) const BEGIN: &str = "BEGIN IMMEDIATE";

/// Rows of one multi-row statement, so that the widest table stays below SQLite's 32 766 parameters.
pub(super) const MAX_ROWS: usize = 512;

/// The schema's history, oldest first.
pub(super) const MIGRATIONS: &[Migration] = &[
    Migration { version: 1, sql: include_str!("migrations/0001_first.sql") },
    Migration { version: 2, sql: include_str!("migrations/0002_explanations.sql") },
    Migration { version: 3, sql: include_str!("migrations/0003_mend.sql") },
    Migration { version: 4, sql: include_str!("migrations/0004_caches.sql") },
    Migration { version: 7, sql: include_str!("migrations/0007_rulings_and_turns.sql") },
];

/// Whether the database holds tables at all, ours or somebody else's.
pub(super) const COUNT_TABLES: &str = "SELECT count(*) FROM sqlite_schema WHERE type = 'table'";

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
}

/// The connections that read.
pub(super) async fn readers(path: &Path) -> Result<Readers, sqlx::Error> {
    SqlitePoolOptions::new()
        .max_connections(2)
        .idle_timeout(Duration::from_secs(60))
        .acquire_timeout(Duration::from_secs(10))
        .connect_with(options(path).read_only(true).thread_name(|_| "store-reader".to_owned()))
        .await
}

/// True for errors that are the machine's and may pass: no space, a failing disk, a lock that was not given.
/// SQLite may have rolled the whole transaction back when one of them is reported
/// (<https://www.sqlite.org/lang_transaction.html>, section 2.4).
pub(super) fn is_outage(error: &sqlx::Error) -> bool {
    const BUSY: i32 = 5;
    const LOCKED: i32 = 6;
    const NOMEM: i32 = 7;
    const READONLY: i32 = 8;
    const INTERRUPT: i32 = 9;
    const IOERR: i32 = 10;
    const CORRUPT: i32 = 11;
    const FULL: i32 = 13;
    const CANTOPEN: i32 = 14;
    const NOTADB: i32 = 26;
    match error {
        sqlx::Error::Database(database) => {
            // The extended code carries the primary one in its low byte.
            let code = database.code().and_then(|code| code.parse::<i32>().ok()).unwrap_or(0) & 0xff;
            [BUSY, LOCKED, NOMEM, READONLY, INTERRUPT, IOERR, CORRUPT, FULL, CANTOPEN, NOTADB].contains(&code)
        }
        sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => true,
        _ => false,
    }
}

/// Bounds the database's size; beyond it, writes answer as if the disk were full.
pub(super) async fn limit_pages(connection: &mut Connection, pages: u32) -> Result<(), sqlx::Error> {
    // A pragma takes no parameters; a number needs no quoting.
    let pragma = sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {pages}"));
    sqlx::query(pragma).fetch_all(connection).await.map(drop)
}

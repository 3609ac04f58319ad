//! A look at a database that changes nothing in it: neither its schema nor a row.

use std::path::Path;

use super::postgres::{self, PostgresError};
use super::sqlite::lock::ProcessLock;
use super::{OpenError, schema, sql, sqlite};
use crate::config::server::{PostgresUrl, StoreUrl};

/// What is at a store's address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// No database yet; the first start makes it.
    Nothing,
    /// One of ours.
    Database {
        /// Its schema's version.
        version: i64,
        /// This program's; the next start brings an older one up to it.
        known: i64,
    },
    /// A database on a server, which others may use at the same time.
    Shared {
        /// Its schema's version; 0 when there are no tables yet.
        version: i64,
        /// This program's.
        known: i64,
        /// The server's version.
        server: u32,
        /// By how much its clock is ahead of ours, in milliseconds; negative when it is behind.
        clock_ahead: i64,
    },
}

/// Looks at the database at an address: a SQLite file is opened for reading, under its lock, and checked; a PostgreSQL
/// server is asked for what we need of it.
///
/// # Errors
/// As for opening it: held by another process, newer than this program, not ours, not reachable, not permitted.
pub async fn examine(at: impl Into<StoreUrl>) -> Result<Found, OpenError> {
    match at.into() {
        StoreUrl::Sqlite(path) => file(&path).await,
        StoreUrl::Postgres(url) => Ok(server(&url).await?),
    }
}

async fn file(path: &Path) -> Result<Found, OpenError> {
    if !path.exists() {
        return Ok(Found::Nothing);
    }
    let opening = |source| OpenError::Database { path: path.to_owned(), source };
    let _lock = ProcessLock::take(path)?;
    let readers = sqlite::readers(path).await.map_err(opening)?;
    let mut connection = readers.acquire().await.map_err(opening)?;
    let migrations = sqlite::MIGRATIONS;
    let found =
        schema::version(&mut connection, migrations).await.map_err(|error| sqlite::schema_error(path, error))?;
    let Some(version) = found else { return Ok(Found::Nothing) };
    let check = sql::query_scalar("PRAGMA quick_check(1)").fetch_one(&mut *connection).await;
    let said: String = check.map_err(opening)?;
    drop(connection);
    readers.close().await;
    if said != "ok" {
        return Err(opening(sqlx::Error::Protocol(format!("it is damaged: {said}"))));
    }
    Ok(Found::Database { version, known: newest(migrations) })
}

async fn server(url: &PostgresUrl) -> Result<Found, PostgresError> {
    let failed = |source| PostgresError::telling(url, source);
    let connector = postgres::Connector::new(url)?;
    let (mut connection, look) = postgres::look(&connector).await?;
    let migrations = postgres::MIGRATIONS;
    let version = schema::version(&mut connection, migrations).await;
    let version = version.map_err(|error| postgres::schema_error(&connector, error))?;
    let missing: Vec<String> =
        sql::query_scalar(postgres::MISSING_RIGHTS).fetch_all(&mut connection).await.map_err(failed)?;
    if !missing.is_empty() {
        return Err(PostgresError::NoRights { url: url.clone(), why: format!("missing: {}", missing.join(", ")) });
    }
    // What it told is gone, whether the connection ends well or not.
    let _ = connection.close().await;
    Ok(Found::Shared {
        version: version.unwrap_or(0),
        known: newest(migrations),
        server: look.version,
        clock_ahead: look.clock_ahead,
    })
}

fn newest(migrations: &[schema::Migration]) -> i64 {
    migrations.last().map_or(0, |migration| migration.version)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Options, Store};

    #[tokio::test]
    async fn what_may_be_found() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.db");
        assert_eq!(examine(&path).await.expect("no fault"), Found::Nothing);
        assert!(!path.exists(), "looking makes nothing");
        let store = Store::open(&path, Options::default()).await.expect("opens");
        assert!(matches!(examine(&path).await, Err(OpenError::Held { pid: Some(_), .. })));
        store.close().await;
        drop(store);
        assert!(matches!(examine(&path).await, Ok(Found::Database { version, known }) if version == known));
        let other = folder.path().join("b.db");
        std::fs::write(&other, "no database at all, but long enough to be looked at").expect("a file");
        assert!(matches!(examine(&other).await, Err(OpenError::Database { .. })));
    }
}

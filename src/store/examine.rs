//! A look at a database that changes nothing in it: neither its schema nor a row.

use std::path::Path;

use sqlx::Row as _;

use super::OpenError;
use super::sqlite::lock::ProcessLock;
use super::sqlite::{self, COUNT_TABLES, MIGRATIONS};

/// What is at a store's path.
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
}

/// Opens the database at `path` for reading, under its lock, and lets SQLite check it.
///
/// # Errors
/// As for opening it: held by another process, newer than this program, not ours, not readable.
pub async fn examine(path: &Path) -> Result<Found, OpenError> {
    if !path.exists() {
        return Ok(Found::Nothing);
    }
    let opening = |source| OpenError::Database { path: path.to_owned(), source };
    let _lock = ProcessLock::take(path)?;
    let readers = sqlite::readers(path).await.map_err(opening)?;
    let tables: i64 = sqlx::query_scalar(COUNT_TABLES).fetch_one(&readers).await.map_err(opening)?;
    if tables == 0 {
        return Ok(Found::Nothing);
    }
    let row = sqlx::query("SELECT coalesce(max(version), 0) FROM schema_version").fetch_one(&readers).await;
    let found: i64 = match row {
        Ok(row) => row.try_get(0).map_err(opening)?,
        Err(error) if sqlite::is_outage(&error) => return Err(opening(error)),
        Err(_) => return Err(OpenError::Foreign { path: path.to_owned() }),
    };
    let known = MIGRATIONS.last().map_or(0, |migration| migration.version);
    if found > known {
        return Err(OpenError::Newer { path: path.to_owned(), found, known });
    }
    let said: String = sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(&readers).await.map_err(opening)?;
    readers.close().await;
    if said != "ok" {
        return Err(opening(sqlx::Error::Protocol(format!("it is damaged: {said}"))));
    }
    Ok(Found::Database { version: found, known })
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

//! The schema's versions: an older database is brought up, a newer one is refused.

use std::path::Path;

use sqlx::{Connection as _, Row as _};

use super::OpenError;
use super::sqlite::{BEGIN, COUNT_TABLES, Connection};

/// One step of the schema's history.
#[derive(Debug, Clone, Copy)]
pub(super) struct Migration {
    /// The version that the schema has afterwards; consecutive, from 1.
    pub(super) version: i64,
    /// What makes it so.
    pub(super) sql: &'static str,
}

/// Brings the schema to the newest of `migrations`, each in a transaction of its own: what was interrupted is
/// either wholly there or not at all.
pub(super) async fn migrate(
    connection: &mut Connection,
    path: &Path,
    migrations: &[Migration],
) -> Result<(), OpenError> {
    let opening = |source| OpenError::Database { path: path.to_owned(), source };
    let known = migrations.last().map_or(0, |migration| migration.version);
    let found = version(connection, path).await?;
    if found > known {
        return Err(OpenError::Newer { path: path.to_owned(), found, known });
    }
    for migration in migrations.iter().filter(|migration| migration.version > found) {
        let mut transaction = connection.begin_with(BEGIN).await.map_err(opening)?;
        sqlx::raw_sql(migration.sql).execute(&mut *transaction).await.map_err(opening)?;
        sqlx::query("INSERT INTO schema_version (version) VALUES ($1)")
            .bind(migration.version)
            .execute(&mut *transaction)
            .await
            .map_err(opening)?;
        transaction.commit().await.map_err(opening)?;
    }
    Ok(())
}

/// The version of the schema that is there, 0 for a new database.
async fn version(connection: &mut Connection, path: &Path) -> Result<i64, OpenError> {
    let opening = |source| OpenError::Database { path: path.to_owned(), source };
    let tables: i64 = sqlx::query_scalar(COUNT_TABLES).fetch_one(&mut *connection).await.map_err(opening)?;
    if tables == 0 {
        sqlx::raw_sql("CREATE TABLE schema_version (version INTEGER PRIMARY KEY)")
            .execute(&mut *connection)
            .await
            .map_err(opening)?;
        return Ok(0);
    }
    match sqlx::query("SELECT coalesce(max(version), 0) FROM schema_version").fetch_one(connection).await {
        Ok(row) => row.try_get(0).map_err(opening),
        Err(error) if super::sqlite::is_outage(&error) => Err(opening(error)),
        Err(_) => Err(OpenError::Foreign { path: path.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite::{MIGRATIONS, writer};

    const NEWEST: i64 = MIGRATIONS.len() as i64;
    const NEXT: Migration = Migration { version: NEWEST + 1, sql: "ALTER TABLE builds ADD COLUMN mood TEXT" };
    const BROKEN: Migration =
        Migration { version: NEWEST + 1, sql: "CREATE TABLE half (a TEXT); CREATE TABLE half (b TEXT)" };

    fn with(extra: Migration) -> Vec<Migration> {
        MIGRATIONS.iter().copied().chain([extra]).collect()
    }

    #[tokio::test]
    async fn an_older_database_is_brought_up_and_a_newer_one_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.db");
        let mut connection = writer(&path).await.expect("opens");
        migrate(&mut connection, &path, MIGRATIONS).await.expect("first");
        migrate(&mut connection, &path, &with(NEXT)).await.expect("second");
        migrate(&mut connection, &path, &with(NEXT)).await.expect("nothing left to do");
        sqlx::query("SELECT mood FROM builds").fetch_all(&mut connection).await.expect("the new column");
        let refusal = migrate(&mut connection, &path, MIGRATIONS).await.expect_err("refused").to_string();
        let named = |version: i64| refusal.contains(&format!("version {version}"));
        assert!(named(NEWEST + 1) && named(NEWEST), "{refusal}");
    }

    #[tokio::test]
    async fn a_migration_that_fails_leaves_the_version_before_it_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.db");
        let mut connection = writer(&path).await.expect("opens");
        migrate(&mut connection, &path, MIGRATIONS).await.expect("first");
        migrate(&mut connection, &path, &with(BROKEN)).await.expect_err("fails in its second statement");
        assert_eq!(version(&mut connection, &path).await.expect("readable"), NEWEST);
        sqlx::query("SELECT a FROM half").fetch_all(&mut connection).await.expect_err("nothing of it is left");
        migrate(&mut connection, &path, &with(NEXT)).await.expect("a mended one still applies");
    }
}

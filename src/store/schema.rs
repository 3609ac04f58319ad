//! The schema's versions: an older database is brought up, a newer one is refused.

use super::sql::{self, Connection};
use super::{postgres, sqlite};

/// One step of the schema's history.
#[derive(Debug, Clone, Copy)]
pub(super) struct Migration {
    /// The version that the schema has afterwards; rising, from 1.
    pub(super) version: i64,
    /// What makes it so.
    pub(super) sql: &'static str,
}

/// Why a schema can't be used; whoever opens the database knows what it is called.
#[derive(Debug)]
pub(super) enum SchemaError {
    /// A newer binary made it.
    Newer {
        /// Its version.
        found: i64,
        /// This binary's version.
        known: i64,
    },
    /// It is another program's.
    Foreign,
    /// The engine failed.
    Engine(sqlx::Error),
}

impl From<sqlx::Error> for SchemaError {
    fn from(error: sqlx::Error) -> Self {
        SchemaError::Engine(error)
    }
}

/// Brings the schema to the newest of `migrations`, each in a transaction of its own: what was interrupted is
/// either wholly there or not at all.
pub(super) async fn migrate(connection: &mut Connection, migrations: &[Migration]) -> Result<(), SchemaError> {
    let found = match version(connection, migrations).await? {
        Some(found) => found,
        None => {
            let create = if connection.is_shared() { postgres::CREATE_VERSIONS } else { sqlite::CREATE_VERSIONS };
            connection.run_all(create).await?;
            0
        }
    };
    for migration in migrations.iter().filter(|migration| migration.version > found) {
        connection.begin().await?;
        if let Err(error) = step(connection, migration).await {
            // What failed is told; whether it is taken back now or when the connection ends makes no difference.
            let _ = connection.say("ROLLBACK").await;
            return Err(error.into());
        }
    }
    Ok(())
}

async fn step(connection: &mut Connection, migration: &Migration) -> Result<(), sqlx::Error> {
    connection.run_all(migration.sql).await?;
    let insert = sql::query("INSERT INTO schema_version (version) VALUES ($1)").bind(migration.version);
    insert.execute(&mut *connection).await?;
    connection.say("COMMIT").await
}

/// The version of the schema that is there, no newer than the newest of `migrations`. `None`: there are no tables.
pub(super) async fn version(connection: &mut Connection, migrations: &[Migration]) -> Result<Option<i64>, SchemaError> {
    let count = if connection.is_shared() { postgres::COUNT_TABLES } else { sqlite::COUNT_TABLES };
    let tables: i64 = sql::query_scalar(count).fetch_one(&mut *connection).await?;
    if tables == 0 {
        return Ok(None);
    }
    let newest = sql::query("SELECT coalesce(max(version), 0) FROM schema_version").fetch_one(connection).await;
    let found = match newest.and_then(|row| row.try_get(0)) {
        Ok(found) => found,
        Err(error) if sql::is_outage(&error) => return Err(error.into()),
        Err(_) => return Err(SchemaError::Foreign),
    };
    let known = migrations.last().map_or(0, |migration| migration.version);
    if found > known { Err(SchemaError::Newer { found, known }) } else { Ok(Some(found)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::sqlite::{MIGRATIONS, writer};

    const NEXT: &str = "ALTER TABLE builds ADD COLUMN mood TEXT";
    const BROKEN: &str = "CREATE TABLE half (a TEXT); CREATE TABLE half (b TEXT)";

    fn newest() -> i64 {
        MIGRATIONS.last().expect("there is a first").version
    }

    fn with(sql: &'static str) -> Vec<Migration> {
        MIGRATIONS.iter().copied().chain([Migration { version: newest() + 1, sql }]).collect()
    }

    #[tokio::test]
    async fn an_older_database_is_brought_up_and_a_newer_one_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.db");
        let mut connection = writer(&path).await.expect("opens");
        migrate(&mut connection, MIGRATIONS).await.expect("first");
        migrate(&mut connection, &with(NEXT)).await.expect("second");
        migrate(&mut connection, &with(NEXT)).await.expect("nothing left to do");
        sql::query("SELECT mood FROM builds").fetch_all(&mut connection).await.expect("the new column");
        let refusal = migrate(&mut connection, MIGRATIONS).await.expect_err("refused");
        let (newer, ours) = (newest() + 1, newest());
        assert!(
            matches!(refusal, SchemaError::Newer { found, known } if found == newer && known == ours),
            "{refusal:?}"
        );
    }

    #[tokio::test]
    async fn a_migration_that_fails_leaves_the_version_before_it_whole() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.db");
        let mut connection = writer(&path).await.expect("opens");
        migrate(&mut connection, MIGRATIONS).await.expect("first");
        migrate(&mut connection, &with(BROKEN)).await.expect_err("fails in its second statement");
        assert_eq!(version(&mut connection, MIGRATIONS).await.expect("readable"), Some(newest()));
        sql::query("SELECT a FROM half").fetch_all(&mut connection).await.expect_err("nothing of it is left");
        migrate(&mut connection, &with(NEXT)).await.expect("a mended one still applies");
    }
}

//! Looks at a database before it is used, and brings its schema up.

use std::time::SystemTime;

use super::{Connector, MIGRATIONS, OLDEST, PostgresError};
use crate::domain::time::Timestamp;
use crate::store::schema::{self, SchemaError};
use crate::store::sql::{self, Connection};

/// Names the lock under which the schema is changed. Any number does that no other program takes in this database.
const SCHEMA_LOCK: i64 = 0x686f_6f6b_6d69_6c6c;

/// Looks at the database and brings its schema up. Several processes may do so at once: one does, the others wait.
pub(in crate::store) async fn prepare(connector: &Connector) -> Result<(Connection, Timestamp), PostgresError> {
    let url = connector.url();
    let (mut connection, look) = look(connector).await?;
    let failed = |source| PostgresError::telling(url, source);
    // As long as it takes: the one who holds it may have much to change.
    connection.run_all("SET lock_timeout = 0").await.map_err(failed)?;
    sql::query("SELECT pg_advisory_lock($1)").bind(SCHEMA_LOCK).execute(&mut connection).await.map_err(failed)?;
    let migrated = schema::migrate(&mut connection, MIGRATIONS).await;
    migrated.map_err(|error| schema_error(connector, error))?;
    sql::query("SELECT pg_advisory_unlock($1)").bind(SCHEMA_LOCK).execute(&mut connection).await.map_err(failed)?;
    connection.run_all("RESET lock_timeout").await.map_err(failed)?;
    Ok((connection, look.time))
}

/// What a look at a server told.
pub(in crate::store) struct Look {
    /// Its version: 15.
    pub(in crate::store) version: u32,
    /// What its clock says.
    pub(in crate::store) time: Timestamp,
    /// By how much that is ahead of ours, in milliseconds.
    pub(in crate::store) clock_ahead: i64,
}

/// Connects, and sees that the server can be what we need. Changes nothing.
pub(in crate::store) async fn look(connector: &Connector) -> Result<(Connection, Look), PostgresError> {
    let url = connector.url();
    let failed = |source| PostgresError::telling(url, source);
    let mut connection = connector.connect().await.map_err(failed)?;
    let row = sql::query(
        "SELECT current_setting('server_version_num')::bigint AS version, current_setting('server_encoding') AS encoding, \
         pg_is_in_recovery() AS standby, current_schema() IS NULL AS homeless, \
         (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS time",
    )
    .fetch_one(&mut connection)
    .await
    .map_err(failed)?;
    let version: i64 = row.try_get("version").map_err(failed)?;
    let found = u32::try_from(version / 10_000).unwrap_or(0);
    let encoding: String = row.try_get("encoding").map_err(failed)?;
    if found < OLDEST {
        return Err(PostgresError::TooOld { url: url.clone(), found });
    }
    if encoding != "UTF8" {
        return Err(PostgresError::Encoding { url: url.clone(), found: encoding });
    }
    if row.try_get("standby").map_err(failed)? {
        return Err(PostgresError::Standby { url: url.clone() });
    }
    if row.try_get("homeless").map_err(failed)? {
        return Err(PostgresError::NoSchema { url: url.clone() });
    }
    let time: i64 = row.try_get("time").map_err(failed)?;
    let ours: Timestamp = SystemTime::now().into();
    Ok((connection, Look { version: found, time: Timestamp(time), clock_ahead: time - ours.0 }))
}

pub(in crate::store) fn schema_error(connector: &Connector, error: SchemaError) -> PostgresError {
    let url = connector.url();
    match error {
        SchemaError::Newer { found, known } => PostgresError::Newer { url: url.clone(), found, known },
        SchemaError::Foreign => PostgresError::Foreign { url: url.clone() },
        SchemaError::Engine(source) => PostgresError::telling(url, source),
    }
}

//! What is PostgreSQL's own: how it is reached and asked to be durable, and which of its errors pass.

mod errors;
mod lanes;
mod listener;
mod prepare;

use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{ConnectOptions as _, PgConnection};

pub use errors::PostgresError;
pub(super) use errors::is_outage;
pub(super) use lanes::start;
pub(super) use listener::listen;
pub(super) use prepare::{look, prepare, schema_error};

use super::schema::Migration;
use super::sql::{Connection, Readers};
use crate::config::server::PostgresUrl;

/// Begins a transaction. Rows that it changes are locked as it goes; nobody else waits for it.
pub(super) const BEGIN: &str = "BEGIN";

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

/// Whether the schema that we write to holds tables at all, ours or somebody else's.
pub(super) const COUNT_TABLES: &str =
    "SELECT count(*) FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = current_schema()::regnamespace";

/// The rights that this user lacks: to make tables, to change those that are there, to read and write them.
pub(super) const MISSING_RIGHTS: &str = "\
    SELECT 'CREATE on schema ' || current_schema() WHERE NOT has_schema_privilege(current_schema(), 'CREATE') \
    UNION ALL SELECT what || ' on table ' || relname \
    FROM pg_class CROSS JOIN (VALUES ('SELECT'), ('INSERT'), ('UPDATE'), ('DELETE')) AS asked (what) \
    WHERE relkind IN ('r', 'p') AND relnamespace = current_schema()::regnamespace \
    AND NOT has_table_privilege(pg_class.oid, what) \
    UNION ALL SELECT 'ownership of table ' || relname FROM pg_class \
    WHERE relkind IN ('r', 'p') AND relnamespace = current_schema()::regnamespace \
    AND NOT pg_has_role(relowner, 'USAGE')";

/// Holds the version of the schema.
pub(super) const CREATE_VERSIONS: &str = "CREATE TABLE schema_version (version BIGINT PRIMARY KEY)";

/// The oldest server that is known to do what is asked of it.
pub(super) const OLDEST: u32 = 13;

/// How long a server may take to answer a knock.
const PATIENCE: Duration = Duration::from_secs(10);

/// The most connections that read at once.
const READERS: u32 = 4;

/// Makes connections to one database.
#[derive(Clone)]
pub(super) struct Connector {
    url: PostgresUrl,
    options: PgConnectOptions,
}

impl Connector {
    /// Reads the address. Certificates that it names are read at each connection.
    pub(super) fn new(url: &PostgresUrl) -> Result<Self, PostgresError> {
        let options = PgConnectOptions::from_str(url.expose())
            .map_err(|source| PostgresError::telling(url, source))?
            .application_name("hookmill")
            .options([
                // A row or a repository that stays locked for so long has a holder that hangs: tell whoever waits.
                ("lock_timeout", "10s"),
                // A machine that went away in the middle of a transaction must not keep its locks.
                ("idle_in_transaction_session_timeout", "20s"),
                ("tcp_keepalives_idle", "30"),
                ("tcp_keepalives_interval", "10"),
                ("tcp_keepalives_count", "3"),
            ])
            .statement_cache_capacity(256)
            .disable_statement_logging();
        Ok(Self { url: url.clone(), options })
    }

    /// The address, without its password.
    pub(super) fn url(&self) -> &PostgresUrl {
        &self.url
    }

    /// One connection that writes; what it commits is on disk.
    pub(super) async fn connect(&self) -> Result<Connection, sqlx::Error> {
        let mut connection = self.knock().await?;
        // A server or a role may be set to answer before the disk has it; an answer of 202 means more than that.
        let durable = "SELECT set_config('synchronous_commit', 'on', false) \
                       WHERE current_setting('synchronous_commit') = 'off'";
        sqlx::query(durable).execute(&mut connection).await?;
        Ok(connection.into())
    }

    /// A connection as the server gives it.
    async fn knock(&self) -> Result<PgConnection, sqlx::Error> {
        tokio::time::timeout(PATIENCE, self.options.connect())
            .await
            .unwrap_or_else(|_| Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()))
    }

    /// The one connection that hears of changes.
    fn listening(&self) -> PgPool {
        let pool = PgPoolOptions::new().max_connections(1).acquire_timeout(PATIENCE);
        pool.connect_lazy_with(self.options.clone())
    }

    /// Connections that only read; they are made when they are needed.
    pub(super) fn readers(&self) -> Readers {
        let options = self.options.clone().options([("default_transaction_read_only", "on")]);
        let pool = PgPoolOptions::new()
            .max_connections(READERS)
            .idle_timeout(Duration::from_secs(60))
            .acquire_timeout(PATIENCE)
            .connect_lazy_with(options);
        Readers::Postgres(pool)
    }
}

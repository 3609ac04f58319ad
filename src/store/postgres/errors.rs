//! What PostgreSQL says when it will not, in words that name the fix.

use sqlx::postgres::PgDatabaseError;

use super::OLDEST;
use crate::config::server::PostgresUrl;

/// Why a PostgreSQL database can't be used. Addresses show without their password.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// Nobody answers.
    #[error(
        "{url} can't be reached: {source}; is PostgreSQL running there, does it listen for this machine \
         (listen_addresses, firewall), and is [store] url right?"
    )]
    Unreachable {
        /// Its address.
        url: PostgresUrl,
        /// What failed.
        source: sqlx::Error,
    },
    /// It does not know us.
    #[error(
        "{url} refuses this user: {source}; correct the password (best in a file that [store] url_file names), or \
         what pg_hba.conf says of this user"
    )]
    Denied {
        /// Its address.
        url: PostgresUrl,
        /// The server's word.
        source: sqlx::Error,
    },
    /// The database is not there.
    #[error("{url}: {source}; make it: createdb --encoding UTF8 --template template0 --owner USER DATABASE")]
    Missing {
        /// Its address.
        url: PostgresUrl,
        /// The server's word.
        source: sqlx::Error,
    },
    /// Encryption could not be agreed on.
    #[error(
        "{url} can't be trusted: {source}; name the authority of its certificate (sslrootcert=FILE after ? in [store] \
         url), or ask for less (sslmode=require encrypts without asking who answers)"
    )]
    Untrusted {
        /// Its address.
        url: PostgresUrl,
        /// What failed.
        source: sqlx::Error,
    },
    /// The role may not do what we need.
    #[error(
        "{url}: this user may not make or change tables there ({why}); make it the owner: ALTER DATABASE database OWNER \
         TO user; ALTER SCHEMA public OWNER TO user"
    )]
    NoRights {
        /// Its address.
        url: PostgresUrl,
        /// The server's word, or the rights that are missing.
        why: String,
    },
    /// The role has no schema to write to.
    #[error("{url}: no schema of this user's search_path is there; make one: CREATE SCHEMA AUTHORIZATION user")]
    NoSchema {
        /// Its address.
        url: PostgresUrl,
    },
    /// It only repeats what another server writes.
    #[error("{url} is a standby, which only reads: give [store] url the address of its primary")]
    Standby {
        /// Its address.
        url: PostgresUrl,
    },
    /// The server is too old.
    #[error("{url} is PostgreSQL {found}; hookmill needs {OLDEST} or newer")]
    TooOld {
        /// Its address.
        url: PostgresUrl,
        /// Its version.
        found: u32,
    },
    /// The database can't hold every character.
    #[error(
        "{url} holds text as {found}, which can't hold every commit's title; make a new database: createdb --encoding \
         UTF8 --template template0 --owner USER DATABASE"
    )]
    Encoding {
        /// Its address.
        url: PostgresUrl,
        /// Its encoding.
        found: String,
    },
    /// A newer binary made it.
    #[error(
        "{url} has schema version {found}, and this hookmill knows up to version {known}: run a newer hookmill, or \
         restore the backup made before the upgrade"
    )]
    Newer {
        /// Its address.
        url: PostgresUrl,
        /// Its version.
        found: i64,
        /// This binary's version.
        known: i64,
    },
    /// The tables are not ours.
    #[error("{url} holds tables of another program: give hookmill a database of its own")]
    Foreign {
        /// Its address.
        url: PostgresUrl,
    },
    /// Anything else.
    #[error("{url} can't be used: {source}")]
    Failed {
        /// Its address.
        url: PostgresUrl,
        /// The server's word.
        source: sqlx::Error,
    },
}

impl PostgresError {
    /// Sorts an error by what mends it. Codes: <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
    pub(in crate::store) fn telling(url: &PostgresUrl, source: sqlx::Error) -> Self {
        let url = url.clone();
        match &source {
            sqlx::Error::Database(database) => match database.code().as_deref() {
                Some("28P01" | "28000") => Self::Denied { url, source },
                Some("3D000") => Self::Missing { url, source },
                Some("42501") => Self::NoRights { url, why: database.message().to_owned() },
                Some(code) if code.starts_with("57P") || code.starts_with("53") => Self::Unreachable { url, source },
                _ => Self::Failed { url, source },
            },
            sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut => Self::Unreachable { url, source },
            sqlx::Error::Tls(_) => Self::Untrusted { url, source },
            _ => Self::Failed { url, source },
        }
    }
}

/// True for errors that are not the statement's own: they may pass by themselves or by somebody's hand, and the same
/// request will do then.
pub(in crate::store) fn is_outage(error: &PgDatabaseError) -> bool {
    let code = error.code();
    // Connection, resources, operator, system, internal; 42501: rights that somebody took away.
    const CLASSES: [&str; 5] = ["08", "53", "57", "58", "XX"];
    // A standby after a failover; a transaction that lost against another; a lock not given in time; the database gone.
    const CODES: [&str; 8] = ["25006", "40001", "40P01", "55P03", "42501", "3D000", "28P01", "28000"];
    CLASSES.iter().any(|class| code.starts_with(class)) || code == "25P02" || CODES.contains(&code)
}

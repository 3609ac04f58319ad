//! What PostgreSQL says when it will not, in words that name the fix.

use std::fs::File;
use std::io;
use std::path::PathBuf;

use sqlx::postgres::PgDatabaseError;

use super::OLDEST;
use crate::config::server::PostgresUrl;

/// Why a PostgreSQL database can't be used. Shows as what is wrong and what mends it, addresses without their password.
#[derive(Debug)]
pub enum PostgresError {
    /// Nobody answers.
    Unreachable {
        /// Its address.
        url: PostgresUrl,
        /// What failed.
        source: sqlx::Error,
    },
    /// It does not know us.
    Denied {
        /// Its address.
        url: PostgresUrl,
        /// The server's word.
        source: sqlx::Error,
    },
    /// The database is not there.
    Missing {
        /// Its address.
        url: PostgresUrl,
        /// The server's word.
        source: sqlx::Error,
    },
    /// Encryption could not be agreed on.
    Untrusted {
        /// Its address.
        url: PostgresUrl,
        /// What failed.
        source: sqlx::Error,
    },
    /// A certificate or key that its address names can't be read.
    NoFile {
        /// Its address.
        url: PostgresUrl,
        /// The file.
        file: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// The role may not do what we need.
    NoRights {
        /// Its address.
        url: PostgresUrl,
        /// The server's word, or the rights that are missing.
        why: String,
    },
    /// The role has no schema to write to.
    NoSchema {
        /// Its address.
        url: PostgresUrl,
    },
    /// It only repeats what another server writes.
    Standby {
        /// Its address.
        url: PostgresUrl,
    },
    /// The server is too old.
    TooOld {
        /// Its address.
        url: PostgresUrl,
        /// Its version.
        found: u32,
    },
    /// The database can't hold every character.
    Encoding {
        /// Its address.
        url: PostgresUrl,
        /// Its encoding.
        found: String,
    },
    /// A newer binary made it.
    Newer {
        /// Its address.
        url: PostgresUrl,
        /// Its version.
        found: i64,
        /// This binary's version.
        known: i64,
    },
    /// The tables are not ours.
    Foreign {
        /// Its address.
        url: PostgresUrl,
    },
    /// Anything else.
    Failed {
        /// Its address.
        url: PostgresUrl,
        /// The server's word.
        source: sqlx::Error,
    },
}

impl std::fmt::Display for PostgresError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}; {}", self.fault(), self.fix())
    }
}

impl std::error::Error for PostgresError {}

impl PostgresError {
    /// What is wrong.
    pub fn fault(&self) -> String {
        match self {
            Self::Unreachable { url, source } => format!("{url} can't be reached: {source}"),
            Self::Denied { url, source } => format!("{url} refuses this user: {source}"),
            Self::Missing { url, source } => format!("{url}: {source}"),
            Self::Untrusted { url, source } => format!("{url} can't be trusted: {source}"),
            Self::NoFile { url, file, source } => format!("{} of {url} can't be read: {source}", file.display()),
            Self::NoRights { url, why } => format!("{url}: this user may not make or change tables there ({why})"),
            Self::NoSchema { url } => format!("{url}: no schema of this user's search_path is there"),
            Self::Standby { url } => format!("{url} is a standby, which only reads"),
            Self::TooOld { url, found } => format!("{url} is PostgreSQL {found}"),
            Self::Encoding { url, found } => {
                format!("{url} holds text as {found}, which can't hold every commit's title")
            }
            Self::Newer { url, found, known } => {
                format!("{url} has schema version {found}, and this hookmill knows up to version {known}")
            }
            Self::Foreign { url } => format!("{url} holds tables of another program"),
            Self::Failed { url, source } => format!("{url} can't be used: {source}"),
        }
    }

    /// What mends it.
    pub fn fix(&self) -> String {
        let fix = match self {
            Self::Unreachable { .. } => {
                "see that PostgreSQL runs there and listens for this machine (listen_addresses, firewall), and that \
                 [store] url is right"
            }
            Self::Denied { .. } => {
                "correct the password (best in a file that [store] url_file names), or what pg_hba.conf says of this user"
            }
            Self::Missing { .. } => "make it: createdb --encoding UTF8 --template template0 --owner USER DATABASE",
            Self::Untrusted { .. } => {
                "name the authority of its certificate (sslrootcert=FILE after ? in [store] url), or ask for less \
                 (sslmode=require encrypts without asking who answers)"
            }
            Self::NoFile { .. } => "correct sslrootcert, sslcert or sslkey in [store] url, or who may read the file",
            Self::NoRights { .. } => {
                "make it the owner: ALTER DATABASE database OWNER TO user, ALTER SCHEMA public OWNER TO user"
            }
            Self::NoSchema { .. } => "make one: CREATE SCHEMA AUTHORIZATION user",
            Self::Standby { .. } => "give [store] url the address of its primary",
            Self::TooOld { .. } => return format!("hookmill needs PostgreSQL {OLDEST} or newer"),
            Self::Encoding { .. } => {
                "make a new database: createdb --encoding UTF8 --template template0 --owner USER DATABASE"
            }
            Self::Newer { .. } => "run a newer hookmill, or restore the backup made before the upgrade",
            Self::Foreign { .. } => "give hookmill a database of its own",
            Self::Failed { .. } => "the server's log says more",
        };
        fix.to_owned()
    }

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
            sqlx::Error::Io(error) if error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) => {
                Self::Untrusted { url, source }
            }
            sqlx::Error::Io(_) => match unreadable(&url) {
                Some((file, source)) => Self::NoFile { url, file, source },
                None => Self::Unreachable { url, source },
            },
            sqlx::Error::PoolTimedOut => Self::Unreachable { url, source },
            sqlx::Error::Tls(_) => Self::Untrusted { url, source },
            _ => Self::Failed { url, source },
        }
    }
}

/// sqlx does not say whose file it could not read.
fn unreadable(url: &PostgresUrl) -> Option<(PathBuf, io::Error)> {
    url.files().into_iter().find_map(|file| File::open(&file).err().map(|error| (file, error)))
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

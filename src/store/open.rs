//! Opening: what is at the address is made ready, or it is said why it can't be.

use std::path::PathBuf;

use tokio_util::task::AbortOnDropHandle;

use super::postgres::PostgresError;
use super::sql::{self, Connection, Readers};
use super::writer::{Shared, Writer};
use super::{postgres, sqlite};
use crate::config::server::StoreUrl;

/// Why a store could not be opened. The server ends with exit code 2.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error(
        "{} is in use by {}; a SQLite store belongs to one process: stop that one, or give this one another [store] url",
        path.display(),
        pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
    )]
    Held {
        /// The database.
        path: PathBuf,
        /// The holder, if it wrote its id down.
        pid: Option<u32>,
    },
    /// A newer binary made it.
    #[error(
        "{} has schema version {found}, and this hookmill knows up to version {known}: run a newer hookmill, \
         or restore the backup made before the upgrade",
        path.display()
    )]
    Newer {
        /// The database.
        path: PathBuf,
        /// Its version.
        found: i64,
        /// This binary's version.
        known: i64,
    },
    /// A SQLite database that is not ours.
    #[error("{} is a database of another program: give [store] url a path of its own", path.display())]
    Foreign {
        /// The database.
        path: PathBuf,
    },
    /// Its folder can't be made.
    #[error("the folder of {} can't be made: {source}", path.display())]
    Folder {
        /// The database.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// The lock file beside it can't be written.
    #[error("{} can't be locked: {source}", path.display())]
    Lock {
        /// The lock file.
        path: PathBuf,
        /// The system's word.
        source: std::io::Error,
    },
    /// The database can't be read or written.
    #[error("{} can't be opened: {source}", path.display())]
    Database {
        /// The database.
        path: PathBuf,
        /// The engine's word.
        source: sqlx::Error,
    },
    /// The PostgreSQL database can't be used.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// The system gave no random bytes.
    #[error("the system gave no random bytes for the key of status links: {0}")]
    Random(getrandom::Error),
}

/// A database that is ready.
pub(super) struct Opened {
    pub(super) readers: Readers,
    pub(super) writer: Writer,
    pub(super) link_key: [u8; 32],
    /// Hears what other processes tell; ends with the store.
    pub(super) listener: Option<AbortOnDropHandle<()>>,
}

/// Opens the database at `at`, makes it ready, and starts the tasks that write it.
pub(super) async fn open(at: &StoreUrl, max_pages: Option<u32>, shared: &Shared) -> Result<Opened, OpenError> {
    match at {
        StoreUrl::Sqlite(path) => {
            let opening = |source| OpenError::Database { path: path.clone(), source };
            let (mut connection, lock) = sqlite::prepare(path, max_pages).await?;
            let link_key = make_link_key(&mut connection).await.map_err(|error| error.told(opening))?;
            let readers = sqlite::readers(path).await.map_err(opening)?;
            let writer = sqlite::start(connection, lock, shared.clone());
            Ok(Opened { readers, writer, link_key, listener: None })
        }
        StoreUrl::Postgres(url) => {
            let connector = postgres::Connector::new(url)?;
            let (mut connection, time) = postgres::prepare(&connector).await?;
            let failed = |source| PostgresError::telling(url, source).into();
            let link_key = make_link_key(&mut connection).await.map_err(|error| error.told(failed))?;
            shared.clock.set(time);
            let readers = connector.readers();
            let us = make_sender().map_err(OpenError::Random)?;
            let writer = postgres::start(&connector, connection, shared, us);
            let listening = tokio::spawn(postgres::listen(connector, shared.news.clone(), us));
            Ok(Opened { readers, writer, link_key, listener: Some(AbortOnDropHandle::new(listening)) })
        }
    }
}

/// A name for this process among those that tell each other of changes.
fn make_sender() -> Result<u32, getrandom::Error> {
    let mut bytes = [0; 4];
    getrandom::fill(&mut bytes)?;
    Ok(u32::from_ne_bytes(bytes))
}

/// Why the key of status links can't be had.
enum KeyError {
    Random(getrandom::Error),
    Engine(sqlx::Error),
}

impl From<sqlx::Error> for KeyError {
    fn from(error: sqlx::Error) -> Self {
        KeyError::Engine(error)
    }
}

impl KeyError {
    fn told(self, engine: impl FnOnce(sqlx::Error) -> OpenError) -> OpenError {
        match self {
            KeyError::Random(source) => OpenError::Random(source),
            KeyError::Engine(source) => engine(source),
        }
    }
}

/// The key of status links, made by whoever opens the database first.
async fn make_link_key(connection: &mut Connection) -> Result<[u8; 32], KeyError> {
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(KeyError::Random)?;
    sql::query("INSERT INTO meta (name, value) VALUES ('link_key', $1) ON CONFLICT (name) DO NOTHING")
        .bind(key.as_slice())
        .execute(&mut *connection)
        .await?;
    let stored: Vec<u8> =
        sql::query_scalar("SELECT value FROM meta WHERE name = 'link_key'").fetch_one(connection).await?;
    let wrong = |_| KeyError::Engine(sqlx::Error::Decode("the key of status links has not 32 bytes".into()));
    stored.try_into().map_err(wrong)
}

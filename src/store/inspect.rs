//! What is so in every database of ours, whatever died when: looked at beside those who work on it, without changing
//! anything.

use std::path::Path;

use super::postgres::{self, PostgresError};
use super::sql::{self, Connection};
use super::{OpenError, schema, sqlite};
use crate::config::server::{PostgresUrl, StoreUrl};

/// Broken places of one promise that are told by name.
const EXAMPLES: usize = 5;

/// What is always so, and the question for what is not.
struct Promise {
    words: &'static str,
    /// Answers with one text for each place where it is broken.
    broken: &'static str,
}

const PROMISES: [Promise; 7] = [
    Promise {
        words: "a finished build has a final word in each of its contexts",
        broken: "SELECT 'build ' || b.id || ', ' || o.context FROM outbox o JOIN builds b ON b.id = o.build_id \
                 WHERE b.state = 'finished' AND o.state = 'pending' AND NOT EXISTS (SELECT 1 FROM outbox l \
                 WHERE l.build_id = o.build_id AND l.context = o.context AND l.id > o.id) ORDER BY b.id",
    },
    Promise {
        words: "no build speaks after a newer one of its commit and context",
        broken: "SELECT 'build ' || o.build_id || ' after build ' || n.build_id || ', ' || o.context \
                 FROM outbox o JOIN outbox n ON n.sha = o.sha AND n.forge = o.forge AND n.repo = o.repo \
                 AND n.context = o.context AND n.id < o.id AND n.build_id > o.build_id \
                 WHERE o.fate IN ('due', 'sent') AND n.fate IN ('due', 'sent') ORDER BY o.id",
    },
    Promise {
        words: "a status speaks of its build's commit",
        broken: "SELECT 'build ' || b.id || ', status ' || o.id FROM outbox o JOIN builds b ON b.id = o.build_id \
                 WHERE o.sha <> b.sha OR o.forge <> b.forge OR o.repo <> b.repo ORDER BY o.id",
    },
    Promise {
        words: "who runs a build is known",
        broken: "SELECT 'build ' || id FROM builds WHERE finished_at IS NULL AND state = 'running' AND agent IS NULL \
                 ORDER BY id",
    },
    Promise {
        words: "what supersedes a build is newer",
        broken: "SELECT 'build ' || id || ' by build ' || superseded_by FROM builds WHERE superseded_by <= id ORDER BY id",
    },
    Promise {
        words: "no build's number is given twice",
        broken: "SELECT 'build ' || id FROM builds WHERE id > (SELECT value FROM counters WHERE name = 'build') ORDER BY id",
    },
    Promise {
        words: "the key of status links is there",
        broken: "SELECT 'it has ' || length(value) || ' bytes' FROM meta WHERE name = 'link_key' AND length(value) <> 32 \
                 UNION ALL SELECT 'it is missing' WHERE NOT EXISTS (SELECT 1 FROM meta WHERE name = 'link_key')",
    },
];

/// What was found in a database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// Its schema's version.
    pub version: i64,
    /// This program's.
    pub known: i64,
    /// How many builds it has.
    pub builds: i64,
    /// How many deliveries.
    pub deliveries: i64,
    /// How many promises were looked at: none of an older schema.
    pub looked_at: usize,
    /// What is not as it must be.
    pub broken: Vec<Broken>,
}

/// A promise that is not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Which.
    pub promise: String,
    /// How often.
    pub count: usize,
    /// Where: the first of them.
    pub examples: Vec<String>,
}

/// Looks at all of a database; `None` where there is none yet.
///
/// # Errors
/// As for opening it, but that another process may have it.
pub async fn inspect(at: &StoreUrl) -> Result<Option<Inspection>, OpenError> {
    match at {
        StoreUrl::Sqlite(path) => file(path).await,
        StoreUrl::Postgres(url) => Ok(server(url).await?),
    }
}

async fn file(path: &Path) -> Result<Option<Inspection>, OpenError> {
    if !path.exists() {
        return Ok(None);
    }
    let opening = |source| OpenError::Database { path: path.to_owned(), source };
    let readers = sqlite::readers(path).await.map_err(opening)?;
    let mut connection = readers.acquire().await.map_err(opening)?;
    let found = schema::version(&mut connection, sqlite::MIGRATIONS).await;
    let Some(version) = found.map_err(|error| sqlite::schema_error(path, error))? else { return Ok(None) };
    let known = sqlite::MIGRATIONS.last().map_or(0, |migration| migration.version);
    let mut inspection = look(&mut connection, version, known).await.map_err(opening)?;
    let whole = texts(&mut connection, "PRAGMA integrity_check").await.map_err(opening)?;
    let faults: Vec<String> = whole.into_iter().filter(|said| said != "ok").collect();
    inspection.note("the file is whole", faults);
    let dangling =
        "SELECT \"table\" || ' row ' || coalesce(rowid, 0) || ' without its ' || parent FROM pragma_foreign_key_check";
    let dangling = texts(&mut connection, dangling).await.map_err(opening)?;
    inspection.note("what a row refers to is there", dangling);
    inspection.looked_at += 2;
    drop(connection);
    readers.close().await;
    Ok(Some(inspection))
}

async fn server(url: &PostgresUrl) -> Result<Option<Inspection>, PostgresError> {
    let connector = postgres::Connector::new(url)?;
    let (mut connection, _) = postgres::look(&connector).await?;
    let found = schema::version(&mut connection, postgres::MIGRATIONS).await;
    let found = found.map_err(|error| postgres::schema_error(&connector, error))?;
    let Some(version) = found else { return Ok(None) };
    let known = postgres::MIGRATIONS.last().map_or(0, |migration| migration.version);
    let looked = look(&mut connection, version, known).await;
    let inspection = looked.map_err(|source| PostgresError::telling(url, source))?;
    // What it told is gone, whether the connection ends well or not.
    let _ = connection.close().await;
    Ok(Some(inspection))
}

/// An older schema lacks columns that the promises name; the next start brings it up.
async fn look(connection: &mut Connection, version: i64, known: i64) -> Result<Inspection, sqlx::Error> {
    let builds = sql::query_scalar("SELECT count(*) FROM builds").fetch_one(&mut *connection).await?;
    let deliveries = sql::query_scalar("SELECT count(*) FROM deliveries").fetch_one(&mut *connection).await?;
    let mut inspection = Inspection { version, known, builds, deliveries, looked_at: 0, broken: Vec::new() };
    for promise in PROMISES.iter().filter(|_| version == known) {
        let broken = texts(connection, promise.broken).await?;
        inspection.note(promise.words, broken);
        inspection.looked_at += 1;
    }
    Ok(inspection)
}

async fn texts(connection: &mut Connection, question: &'static str) -> Result<Vec<String>, sqlx::Error> {
    sql::query_scalar(question).fetch_all(connection).await
}

impl Inspection {
    fn note(&mut self, promise: &str, mut places: Vec<String>) {
        if places.is_empty() {
            return;
        }
        let count = places.len();
        places.truncate(EXAMPLES);
        self.broken.push(Broken { promise: promise.to_owned(), count, examples: places });
    }
}

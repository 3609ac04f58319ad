//! A SQLite store as one file, and a store made of such a file. The copy is SQLite's own (`VACUUM INTO`): it is as the
//! database was at one moment, also while others write, and holds nothing of a `-wal`.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::sqlite::lock::ProcessLock;
use super::{OpenError, schema, sql, sqlite};

/// Why there is no copy, or no store of it. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// As for opening a store.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// There is no database at that path.
    #[error("{} is no database of hookmill's: there is nothing in it", path.display())]
    Nothing {
        /// The path.
        path: PathBuf,
    },
    /// Something is there already.
    #[error("{} is there already: name a file that is not", path.display())]
    Exists {
        /// The path.
        path: PathBuf,
    },
    /// A database that can't be trusted.
    #[error("{} is damaged: {why}", path.display())]
    Damaged {
        /// The path.
        path: PathBuf,
        /// SQLite's word.
        why: String,
    },
    /// A file can't be written, moved or read.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
}

/// A copy that was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Copied {
    /// Its schema's version.
    pub version: i64,
    /// How many builds it has.
    pub builds: i64,
    /// Its size.
    pub bytes: u64,
}

/// A store that was made of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// What it was made of.
    pub copied: Copied,
    /// Where what was there before is now.
    pub aside: Option<PathBuf>,
    /// The last build's number that counts as given.
    pub last_build: i64,
}

/// Copies the database at `from` to a file that must not be there, beside whoever works on it.
///
/// # Errors
/// [`BackupError`]; then there is no such file.
pub async fn backup(from: &Path, to: &Path) -> Result<Copied, BackupError> {
    if to.exists() {
        return Err(BackupError::Exists { path: to.to_owned() });
    }
    let part = beside(to, ".part");
    let copied = copy(from, &part).await?;
    move_to(&part, to)?;
    Ok(copied)
}

/// Makes the database at `to` what the copy `from` is. What is at `to` is moved aside, whole. Numbers of builds go on above
/// `last_build` and above those of the store that was there: nobody else's log is under them.
///
/// # Errors
/// [`BackupError`]: among others, a process has the store. Then it is as it was.
pub async fn restore(from: &Path, to: &Path, last_build: i64) -> Result<Restored, BackupError> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).map_err(failing(folder))?;
    }
    let _lock = ProcessLock::take(to)?;
    let part = beside(to, ".restored");
    let copied = copy(from, &part).await?;
    // One that can't be read is no reason not to put a good one in its place.
    let there = last_number(to).await.unwrap_or(0);
    let last_build = raise(&part, last_build.max(there)).await?;
    let aside = if to.exists() { Some(move_aside(to)?) } else { None };
    move_to(&part, to)?;
    Ok(Restored { copied, aside, last_build })
}

/// Copies what is at `from`, looks at the copy, and has it on disk.
async fn copy(from: &Path, part: &Path) -> Result<Copied, BackupError> {
    if !from.exists() {
        return Err(BackupError::Nothing { path: from.to_owned() });
    }
    match fs::remove_file(part) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failing(part)(error)),
        _ => {}
    }
    // Only its owner may read it: it holds the key of status links.
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(part).map_err(failing(part))?;
    let copied = copy_into(from, part).await;
    if copied.is_err() {
        let _ = fs::remove_file(part);
    }
    let (version, builds) = copied?;
    file.sync_all().map_err(failing(part))?;
    let bytes = file.metadata().map_err(failing(part))?.len();
    Ok(Copied { version, builds, bytes })
}

async fn copy_into(from: &Path, part: &Path) -> Result<(i64, i64), BackupError> {
    let opening = |source| OpenError::Database { path: from.to_owned(), source };
    let Some(name) = part.to_str() else {
        return Err(failing(part)(io::Error::new(io::ErrorKind::InvalidInput, "its name is not UTF-8")));
    };
    let readers = sqlite::readers(from).await.map_err(opening)?;
    let mut connection = readers.acquire().await.map_err(opening)?;
    let version = schema::version(&mut connection, sqlite::MIGRATIONS).await;
    let version = version.map_err(|error| sqlite::schema_error(from, error))?;
    let version = version.ok_or_else(|| BackupError::Nothing { path: from.to_owned() })?;
    sql::query("VACUUM INTO $1").bind(name.to_owned()).execute(&mut *connection).await.map_err(opening)?;
    drop(connection);
    readers.close().await;

    let readers = sqlite::readers(part).await.map_err(opening)?;
    let mut connection = readers.acquire().await.map_err(opening)?;
    let check = sql::query_scalar("PRAGMA integrity_check(1)").fetch_one(&mut *connection).await;
    let said: String = check.map_err(opening)?;
    let builds = sql::query_scalar("SELECT count(*) FROM builds").fetch_one(&mut *connection).await.map_err(opening)?;
    drop(connection);
    readers.close().await;
    if said != "ok" {
        return Err(BackupError::Damaged { path: from.to_owned(), why: said });
    }
    Ok((version, builds))
}

/// The number that was given last.
async fn last_number(path: &Path) -> Option<i64> {
    if !path.exists() {
        return None;
    }
    let readers = sqlite::readers(path).await.ok()?;
    let mut connection = readers.acquire().await.ok()?;
    let last = sql::query_scalar("SELECT value FROM counters WHERE name = 'build'").fetch_one(&mut *connection).await;
    drop(connection);
    readers.close().await;
    last.ok()
}

/// Has numbers go on above `last`; answers with what counts as given.
async fn raise(path: &Path, last: i64) -> Result<i64, BackupError> {
    let opening = |source| OpenError::Database { path: path.to_owned(), source };
    let mut connection = sqlite::writer(path).await.map_err(opening)?;
    sql::query("UPDATE counters SET value = $1 WHERE name = 'build' AND value < $1")
        .bind(last)
        .execute(&mut connection)
        .await
        .map_err(opening)?;
    let last = sql::query_scalar("SELECT value FROM counters WHERE name = 'build'");
    let last = last.fetch_one(&mut connection).await.map_err(opening)?;
    // With its last connection SQLite empties the `-wal` and removes it.
    connection.close().await.map_err(opening)?;
    Ok(last)
}

/// Moves a database away, with what SQLite keeps beside it.
fn move_aside(path: &Path) -> Result<PathBuf, BackupError> {
    let aside = (1..).map(|n| beside(path, &format!(".before-restore-{n}"))).find(|aside| !aside.exists());
    let aside = aside.unwrap_or_else(|| beside(path, ".before-restore"));
    // The `-wal` first: beside another database it would be taken for that one's.
    for suffix in ["-wal", "-shm", ""] {
        match fs::rename(beside(path, suffix), beside(&aside, suffix)) {
            Err(error) if suffix.is_empty() || error.kind() != io::ErrorKind::NotFound => {
                return Err(failing(&beside(path, suffix))(error));
            }
            _ => {}
        }
    }
    Ok(aside)
}

fn move_to(part: &Path, to: &Path) -> Result<(), BackupError> {
    fs::rename(part, to).map_err(failing(to))?;
    let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failing(folder))
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn failing(path: &Path) -> impl FnOnce(io::Error) -> BackupError {
    let path = path.to_owned();
    move |source| BackupError::File { path, source }
}

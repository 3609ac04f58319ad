//! `hookmill store`: the database by itself.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::output::Out;
use super::{REFUSED, USAGE, refuse};
use crate::config::load;
use crate::config::server::{PostgresUrl, Server, StoreUrl};
use crate::config::surroundings::Surroundings;
use crate::domain::sentence;
use crate::store::OpenError;
use crate::store::backup::{self, BackupError};
use crate::store::inspect::{self, Inspection};

/// `hookmill store`.
#[derive(Debug, Args)]
#[command(
    after_help = "A copy holds the key of status links, as the database does: keep it where nobody else reads. Logs and artifacts \
                  are files under [data] dir (or in blobs_url), and are not in it.\n\n\
                  Examples:\n  hookmill store check                        beside a running server too\n  \
                  hookmill store backup /backup/hookmill.db    beside a running server too\n  \
                  hookmill store restore /backup/hookmill.db   while none runs; what was there is kept beside it\n\n\
                  Exit codes: 0; 1 refused, or something is not as it must be; 2 usage or configuration."
)]
pub struct StoreArgs {
    /// The server's configuration file; else the one that `serve` would find.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: StoreCommand,
}

#[derive(Debug, Subcommand)]
enum StoreCommand {
    /// Looks whether the database is whole and keeps what it promises; changes nothing.
    Check,
    /// Copies a SQLite store to a file that is not there yet.
    Backup {
        /// The copy.
        #[arg(value_name = "FILE")]
        to: PathBuf,
    },
    /// Makes the SQLite store what such a file is.
    Restore {
        /// The copy.
        #[arg(value_name = "FILE")]
        from: PathBuf,
    },
}

/// Why a command did nothing.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("{0}")]
    Surroundings(io::Error),
    #[error(transparent)]
    Config(#[from] load::LoadError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Backup(#[from] BackupError),
    #[error(
        "{url} is a PostgreSQL, which has its own tools:\n  pg_dump --format=custom --file={} '{url}'",
        to.display()
    )]
    Dump { url: PostgresUrl, to: PathBuf },
    #[error(
        "{url} is a PostgreSQL, which has its own tools; stop every `hookmill serve` and `hookmill agent` first:\n  \
         pg_restore --clean --if-exists --no-owner --exit-on-error --single-transaction --dbname='{url}' {}",
        from.display()
    )]
    Undump { url: PostgresUrl, from: PathBuf },
}

pub(super) fn run(args: &StoreArgs, out: &mut Out) -> ExitCode {
    match done(args, out) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(REFUSED),
        Err(Refusal::Config(error)) => refuse(&error),
        Err(refusal @ Refusal::Surroundings(_)) => {
            eprintln!("hookmill: {refusal}");
            ExitCode::from(USAGE)
        }
        Err(refusal) => {
            eprintln!("hookmill: {refusal}");
            ExitCode::from(REFUSED)
        }
    }
}

fn done(args: &StoreArgs, out: &mut Out) -> Result<bool, Refusal> {
    let around = Surroundings::of_this_process().map_err(Refusal::Surroundings)?;
    let server = load::load(args.config.as_deref(), &around)?.server;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Refusal::Surroundings)?;
    runtime.block_on(async {
        match (&args.command, &*server.store) {
            (StoreCommand::Check, at) => {
                let found = inspect::inspect(at).await?;
                Ok(tell(found.as_ref(), at, out))
            }
            (StoreCommand::Backup { to }, StoreUrl::Sqlite(path)) => {
                let copied = backup::backup(path, to).await?;
                let size = sentence::size(copied.bytes);
                out.line(format_args!("{}: {} of {}, {size}", to.display(), builds(copied.builds), path.display()));
                Ok(true)
            }
            (StoreCommand::Restore { from }, StoreUrl::Sqlite(path)) => restore(from, path, &server, out).await,
            (StoreCommand::Backup { to }, StoreUrl::Postgres(url)) => {
                Err(Refusal::Dump { url: url.clone(), to: to.clone() })
            }
            (StoreCommand::Restore { from }, StoreUrl::Postgres(url)) => {
                Err(Refusal::Undump { url: url.clone(), from: from.clone() })
            }
        }
    })
}

async fn restore(from: &Path, path: &Path, server: &Server, out: &mut Out) -> Result<bool, Refusal> {
    let restored = backup::restore(from, path, last_log(&server.data_dir)).await?;
    let builds = builds(restored.copied.builds);
    out.line(format_args!(
        "{}: {builds} of {}; the next one is {}",
        path.display(),
        from.display(),
        restored.last_build + 1
    ));
    if let Some(aside) = restored.aside {
        out.line(format_args!("what was there is {}", aside.display()));
    }
    out.line("pushes since that copy are found by the sweep of the next start ([server] sweep)");
    Ok(true)
}

/// The highest number of a build that has a log here: one that is made after a restore must not write into it.
fn last_log(data_dir: &Path) -> i64 {
    let entries = std::fs::read_dir(data_dir.join("logs")).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).max().unwrap_or(0)
}

/// Prints what was found; false when something is not as it must be.
fn tell(found: Option<&Inspection>, at: &StoreUrl, out: &mut Out) -> bool {
    let Some(found) = found else {
        out.line(format_args!("{at}: no database yet; the first start makes it"));
        return true;
    };
    for broken in &found.broken {
        let more = broken.count - broken.examples.len();
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        out.line(format_args!("not so: {}: {}{more}", broken.promise, broken.examples.join("; ").escape_debug()));
    }
    let version = if found.version == found.known {
        String::new()
    } else {
        let (version, known) = (found.version, found.known);
        format!(
            "; schema version {version}, which the next start brings up to {known}: what that promises was not looked at"
        )
    };
    let verdict = match found.broken.len() {
        0 => format!("good ({} looked at)", count(found.looked_at, "promise", "promises")),
        n => format!("{} of {} not kept", n, count(found.looked_at, "promise", "promises")),
    };
    let deliveries = count(usize::try_from(found.deliveries).unwrap_or(0), "delivery", "deliveries");
    out.line(format_args!("{at}: {}, {deliveries}{version}: {verdict}", builds(found.builds)));
    found.broken.is_empty()
}

fn builds(number: i64) -> String {
    count(usize::try_from(number).unwrap_or(0), "build", "builds")
}

fn count(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

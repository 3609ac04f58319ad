//! `hookmill cache`: what is kept from build to build on this machine.
//!
//! It works on the files, beside a running server: what a build uses is leased, and nothing that is leased is removed.

mod explain;
mod list;
mod remove;
mod verify;

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};

use super::output::Out;
use super::{REFUSED, USAGE, folder, refuse};
use crate::cache::{Cache, CacheError};
use crate::config::load;
use crate::config::surroundings::Surroundings;
use crate::domain::repo::{RefName, RepoId};
use crate::domain::snapshot::{Level, Scope};
use crate::domain::trust::Trust;
use crate::tree;

/// `hookmill cache`.
#[derive(Debug, Args)]
#[command(
    after_help = "It works beside a running server, as the user that runs it, and removes nothing that a build is using.\n\n\
                  Examples:\n  hookmill cache ls                               what is kept, and of how much room\n  \
                  hookmill cache explain acme/shop --ref main     of which inputs, and why the last build missed\n  \
                  hookmill cache rm acme/shop --ref topic         forgets a branch\n  \
                  hookmill cache --local ls                       what `hookmill run` keeps for you\n\n\
                  Exit codes: 0; 1 refused, not found, or damage that is still there; 2 usage or configuration."
)]
pub struct CacheArgs {
    /// The server's configuration file; else the one that `serve` would find.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// What `hookmill run` keeps in your own cache folder, instead of what a server keeps.
    #[arg(long, global = true, conflicts_with = "config")]
    local: bool,
    #[command(subcommand)]
    command: CacheCommand,
}

#[derive(Debug, Subcommand)]
enum CacheCommand {
    /// Lists snapshots, the last used first.
    Ls {
        /// Only of this repository: github/acme/shop, or acme/shop where there is one of that name.
        #[arg(long, value_name = "REPO")]
        repo: Option<String>,
        /// Prints one JSON document.
        #[arg(long)]
        json: bool,
    },
    /// Prints of which inputs snapshots are, and in which of them the last miss differed.
    Explain {
        /// The repository: github/acme/shop, or acme/shop where there is one of that name.
        #[arg(value_name = "REPO")]
        repo: String,
        /// Only of this branch, or of this pull request (#7).
        #[arg(long = "ref", value_name = "REF")]
        git_ref: Option<String>,
        /// Prints one JSON document.
        #[arg(long)]
        json: bool,
    },
    /// Reads everything that is kept and compares it with what was sealed.
    Verify {
        /// Removes what is damaged; the next build makes it anew.
        #[arg(long)]
        repair: bool,
    },
    /// Removes snapshots; the next builds start without them.
    Rm(RmArgs),
    /// Removes what was not used for 30 days, then the least recently used beyond `retention.snapshots`.
    Gc,
}

#[derive(Debug, Args)]
struct RmArgs {
    /// Of this repository: github/acme/shop, or acme/shop where there is one of that name.
    #[arg(value_name = "REPO", required_unless_present = "all", conflicts_with = "all")]
    repo: Option<String>,
    /// Only of this branch, or of this pull request (#7).
    #[arg(long = "ref", value_name = "REF", requires = "repo")]
    git_ref: Option<String>,
    /// Only of this kind.
    #[arg(long, value_name = "LEVEL")]
    level: Option<LevelName>,
    /// Of all repositories.
    #[arg(long)]
    all: bool,
}

/// [`Level`], as it is typed.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum LevelName {
    /// What npm, yarn, pnpm or bun installed.
    Packages,
    /// What bower installed.
    Bower,
    /// What webpack and its like keep for their next run.
    Work,
    /// What package managers downloaded.
    Downloads,
    /// That a tree passed.
    Verdict,
}

impl From<LevelName> for Level {
    fn from(name: LevelName) -> Self {
        match name {
            LevelName::Packages => Level::Packages,
            LevelName::Bower => Level::Bower,
            LevelName::Work => Level::Work,
            LevelName::Downloads => Level::Downloads,
            LevelName::Verdict => Level::Verdict,
        }
    }
}

/// What the commands work on.
struct Kept {
    cache: Cache,
    data_dir: PathBuf,
    quota: u64,
}

/// Why a command did nothing.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("the current directory can't be read: {0}")]
    Surroundings(io::Error),
    #[error(transparent)]
    Config(#[from] load::LoadError),
    #[error(transparent)]
    Folder(#[from] folder::FolderError),
    #[error("{} can't be read: {source}\n  help: run this as the user that runs `hookmill serve`", path.display())]
    Unreadable { path: PathBuf, source: io::Error },
    #[error("nothing is kept of {repo}{known}")]
    Unknown { repo: String, known: String },
    #[error("{text} may be {}\n  help: name the one that you mean", candidates.join(" or "))]
    Ambiguous { text: String, candidates: Vec<String> },
    #[error(transparent)]
    Cache(#[from] CacheError),
}

pub(super) fn run(args: &CacheArgs, out: &mut Out) -> ExitCode {
    let done = Kept::open(args).and_then(|kept| match &args.command {
        CacheCommand::Ls { repo, json } => list::run(&kept, repo.as_deref(), *json, out),
        CacheCommand::Explain { repo, git_ref, json } => explain::run(&kept, repo, git_ref.as_deref(), *json, out),
        CacheCommand::Verify { repair } => verify::run(&kept, *repair, out),
        CacheCommand::Rm(args) => remove::run(&kept, args, out),
        CacheCommand::Gc => remove::collect(&kept, out),
    });
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(REFUSED),
        Err(Refusal::Config(error)) => refuse(&error),
        Err(refusal @ (Refusal::Surroundings(_) | Refusal::Folder(_))) => {
            eprintln!("hookmill: {refusal}");
            ExitCode::from(USAGE)
        }
        Err(refusal) => {
            eprintln!("hookmill: {refusal}");
            ExitCode::from(REFUSED)
        }
    }
}

impl Kept {
    fn open(args: &CacheArgs) -> Result<Self, Refusal> {
        let around = Surroundings::of_this_process().map_err(Refusal::Surroundings)?;
        let (data_dir, quota) = if args.local {
            (folder::cache_dir()?, load::defaults(&around)?.server.retention.snapshots)
        } else {
            let server = load::load(args.config.as_deref(), &around)?.server;
            (server.data_dir, server.retention.snapshots)
        };
        // What may not be read would look like nothing.
        for path in [&data_dir, &data_dir.join("snapshots"), &data_dir.join("snapshots/scopes")] {
            match std::fs::read_dir(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Refusal::Unreadable { path: path.clone(), source: error });
                }
                _ => {}
            }
        }
        Ok(Self { cache: Cache::new(&data_dir), data_dir, quota })
    }

    /// What is kept, where it is nothing.
    fn nothing(&self) -> String {
        format!("nothing is kept under {} yet: the first build that passes leaves something", self.data_dir.display())
    }

    /// The repository that a person means, of those that something is known of.
    fn repo(&self, text: &str) -> Result<RepoId, Refusal> {
        let mut known: Vec<RepoId> = self.cache.list().into_iter().map(|listed| listed.record.scope.repo).collect();
        known.extend(self.cache.last_misses().into_iter().map(|miss| miss.scope.repo));
        known.sort_by_key(ToString::to_string);
        known.dedup();
        if let Some(repo) = text.parse::<RepoId>().ok().filter(|repo| known.contains(repo)) {
            return Ok(repo);
        }
        let end = format!("/{}", text.to_lowercase());
        let of_name: Vec<&RepoId> =
            known.iter().filter(|repo| repo.to_string().to_lowercase().ends_with(&end)).collect();
        match of_name.as_slice() {
            [] => {
                let names: Vec<String> = known.iter().map(ToString::to_string).collect();
                let known =
                    if names.is_empty() { String::new() } else { format!("\n  help: kept are {}", names.join(", ")) };
                Err(Refusal::Unknown { repo: text.to_owned(), known })
            }
            [repo] => Ok((*repo).clone()),
            several => Err(Refusal::Ambiguous {
                text: text.to_owned(),
                candidates: several.iter().map(ToString::to_string).collect(),
            }),
        }
    }

    /// Gives the room of what was removed back at once.
    fn empty_trash(&self) -> Result<(), Refusal> {
        Ok(tree::empty_trash(&self.data_dir.join("trash")).map_err(CacheError::from)?)
    }
}

/// Whether a person means this ref: `main`, `refs/heads/main`, `#7`.
fn is_meant(git_ref: &RefName, text: &str) -> bool {
    let number = text.strip_prefix('#').and_then(|number| number.parse().ok());
    git_ref.as_str() == text || git_ref.short() == text || number.map(RefName::pull_request).as_ref() == Some(git_ref)
}

/// A scope's ref, and whose code it is where that is not the repository's own.
fn ref_of(scope: &Scope) -> String {
    match scope.trust {
        Trust::Trusted => scope.git_ref.short(),
        other => format!("{} ({})", scope.git_ref.short(), other.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refs_as_people_say_them() {
        let check = |git_ref: &str, text, meant| {
            assert_eq!(is_meant(&git_ref.parse().expect("legal"), text), meant, "{git_ref} {text}");
        };
        check("refs/heads/main", "main", true);
        check("refs/heads/main", "refs/heads/main", true);
        check("refs/heads/main", "mai", false);
        check("refs/pull/7/head", "#7", true);
        check("refs/pull/7/head", "pull request 7", true);
        check("refs/heads/7", "#7", false);
    }
}

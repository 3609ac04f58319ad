//! `hookmill builds`: the builds of a running server, over its API.

mod event_stream;
mod follow;
pub(super) mod screen;
mod show;

use std::io::{BufRead, BufReader, Read};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde::Deserialize;

use super::output::Out;
use super::server::{CallError, Reach, Server};
use crate::domain::build::{Build, BuildId, State};
use crate::domain::outcome::Outcome;
use crate::domain::repo::{CommitId, RepoId};
use crate::domain::rule::Ruling;
use crate::domain::spec::Explanation;
use screen::Screen;

/// `hookmill builds`.
#[derive(Debug, Args)]
#[command(
    after_help = "The token is the server's admin token: --token-file, else $HOOKMILL_TOKEN. Reading needs none where \
                  the server is open.\n\nExit codes: 0; 1 refused or not found; 2 usage; 3 the server can't be reached. \
                  `log -f` ends as the build did: 0 passed, 1 failed or timed out, 3 broken, 130 cancelled."
)]
pub struct BuildsArgs {
    #[command(flatten)]
    reach: Reach,
    #[command(subcommand)]
    command: BuildsCommand,
}

#[derive(Debug, Subcommand)]
enum BuildsCommand {
    /// Lists builds, the newest first.
    List(ListArgs),
    /// Shows one build and its steps.
    Show {
        /// The build's number.
        #[arg(value_parser = clap::value_parser!(i64).range(1..))]
        id: i64,
        /// Prints the server's JSON document.
        #[arg(long)]
        json: bool,
    },
    /// Prints what a build's steps wrote.
    Log {
        /// The build's number.
        #[arg(value_parser = clap::value_parser!(i64).range(1..))]
        id: i64,
        /// Only this step: npm, bundle.
        #[arg(long)]
        step: Option<String>,
        /// Goes on until the build has ended, and ends with its exit code.
        #[arg(short = 'f', long)]
        follow: bool,
    },
    /// Stops a build that has not ended.
    Cancel {
        /// The build's number.
        #[arg(value_parser = clap::value_parser!(i64).range(1..))]
        id: i64,
    },
    /// Builds the same commit again, as a new build.
    Rerun {
        /// The number of the build to repeat.
        #[arg(value_parser = clap::value_parser!(i64).range(1..))]
        id: i64,
        /// Without anything kept from other builds.
        #[arg(long)]
        no_cache: bool,
    },
    /// Sends the forge again what it did not take of a build's statuses.
    Resend {
        /// The build's number.
        #[arg(value_parser = clap::value_parser!(i64).range(1..))]
        id: i64,
    },
    /// Lets a fork's build that waits go on. The approval is for its one commit: look at what that changes first.
    Approve {
        /// The build's number.
        #[arg(value_parser = clap::value_parser!(i64).range(1..))]
        id: i64,
        /// The commit that was looked at, by its whole name; the build must be of that one.
        #[arg(long, value_name = "COMMIT")]
        sha: Option<CommitId>,
    },
    /// Says why a build is there and did what it did: which rules moved it, what was seen, what follows.
    Explain {
        /// The build's number.
        #[arg(value_parser = clap::value_parser!(i64).range(1..))]
        id: i64,
        /// Prints the server's JSON document.
        #[arg(long)]
        json: bool,
    },
}

/// `hookmill builds list`.
#[derive(Debug, Args)]
struct ListArgs {
    /// Only of this repository: github/acme/shop.
    #[arg(long, value_name = "FORGE/OWNER/NAME")]
    repo: Option<RepoId>,
    /// Only of this branch.
    #[arg(long)]
    branch: Option<String>,
    /// Only in this state: waiting, queued, running or finished.
    #[arg(long)]
    state: Option<State>,
    /// Only with this outcome: passed, skipped, failed, `timed_out`, cancelled or broken.
    #[arg(long)]
    outcome: Option<Outcome>,
    /// How many.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=200))]
    limit: u16,
    /// Only builds older than this one.
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(i64).range(1..))]
    before: Option<i64>,
    /// Prints the server's JSON document.
    #[arg(long)]
    json: bool,
}

/// The document of a build's account.
#[derive(Deserialize)]
struct Account {
    #[serde(default)]
    rulings: Vec<Ruling>,
    #[serde(flatten)]
    explanation: Explanation,
}

/// The document of a list.
#[derive(Deserialize)]
struct Listing {
    builds: Vec<Build>,
    next: Option<BuildId>,
    /// Why queued builds are not started.
    #[serde(default)]
    waits: Option<String>,
}

/// What the document of one build says of its statuses; older servers say nothing.
#[derive(Deserialize)]
struct Statuses {
    #[serde(default)]
    statuses: Vec<show::Told>,
}

pub(super) fn run(args: BuildsArgs, out: &mut Out) -> ExitCode {
    args.reach.speak(|server| obey(server, args.command, out))
}

fn obey(server: &Server, command: BuildsCommand, out: &mut Out) -> Result<u8, CallError> {
    match command {
        BuildsCommand::List(args) => list(server, &args, out)?,
        BuildsCommand::Show { id, json } => show_one(server, id, json, out)?,
        BuildsCommand::Log { id, step, follow: true } => return follow::follow(server, id, step.as_deref(), out),
        BuildsCommand::Log { id, step, follow: false } => log(server, id, step, out)?,
        BuildsCommand::Cancel { id } => {
            let id = server.change(id, "cancel", "")?;
            out.line(format_args!("build {id} is being stopped"));
        }
        BuildsCommand::Rerun { id, no_cache } => {
            let body = serde_json::json!({ "cache": !no_cache }).to_string();
            let new = server.change(id, "rerun", &body)?;
            out.line(format_args!("build {new}: {}", server.page(new)));
        }
        BuildsCommand::Approve { id, sha } => approve(server, id, sha.as_ref(), out)?,
        BuildsCommand::Resend { id } => {
            let id = server.change(id, "resend", "")?;
            out.line(format_args!("the statuses of build {id} are sent again"));
        }
        BuildsCommand::Explain { id, json } => explain(server, id, json, out)?,
    }
    Ok(0)
}

fn list(server: &Server, args: &ListArgs, out: &mut Out) -> Result<(), CallError> {
    let given = [
        ("repo", args.repo.as_ref().map(RepoId::to_string)),
        ("branch", args.branch.clone()),
        ("state", args.state.map(|state| state.as_str().to_owned())),
        ("outcome", args.outcome.map(|outcome| outcome.as_str().to_owned())),
        ("limit", Some(args.limit.to_string())),
        ("before", args.before.map(|id| id.to_string())),
    ];
    let query: Vec<(&str, String)> = given.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    let document = server.document(&["api", "v1", "builds"], &query)?;
    if args.json {
        print_document(&document, out);
        return Ok(());
    }
    let Listing { builds, next, waits } = server.parse(&document)?;
    let screen = Screen::of_this_process();
    for line in show::list(&builds, screen) {
        out.line(line);
    }
    if let Some(waits) = waits.filter(|_| screen != Screen::Raw) {
        out.line(format_args!("queued builds wait: {}", screen::one_line(&waits)));
    }
    if let Some(next) = next.filter(|_| screen != Screen::Raw) {
        out.line(format_args!("… and older ones: --before {next}"));
    }
    Ok(())
}

fn show_one(server: &Server, id: i64, json: bool, out: &mut Out) -> Result<(), CallError> {
    let document = server.document(&["api", "v1", "builds", &id.to_string()], &[])?;
    if json {
        print_document(&document, out);
        return Ok(());
    }
    let build = server.parse(&document)?;
    let Statuses { statuses } = server.parse(&document)?;
    for line in show::build(&build, server.page(id).as_str()) {
        out.line(line);
    }
    for line in show::not_told(id, &statuses) {
        out.line(line);
    }
    Ok(())
}

fn approve(server: &Server, id: i64, sha: Option<&CommitId>, out: &mut Out) -> Result<(), CallError> {
    #[derive(Deserialize)]
    struct Approved {
        sha: CommitId,
    }
    let body = sha.map(|sha| serde_json::json!({ "sha": sha }).to_string()).unwrap_or_default();
    let answer = server.post(&["api", "v1", "builds", &id.to_string(), "approve"], &body)?;
    let Approved { sha } = server.parse(&answer)?;
    out.line(format_args!("build {id} is queued; approved is commit {sha} and no other"));
    Ok(())
}

fn explain(server: &Server, id: i64, json: bool, out: &mut Out) -> Result<(), CallError> {
    let document = server.document(&["api", "v1", "builds", &id.to_string(), "plan"], &[])?;
    if json {
        print_document(&document, out);
        return Ok(());
    }
    let Account { rulings, explanation } = server.parse(&document)?;
    for line in super::account::history(&rulings) {
        out.line(line);
    }
    if explanation == Explanation::default() {
        out.line("no plan is kept for this build: it was not planned yet, or by an older version");
        return Ok(());
    }
    for line in super::account::explanation(&explanation) {
        out.line(line);
    }
    Ok(())
}

fn print_document(document: &[u8], out: &mut Out) {
    out.write(document);
    if !document.ends_with(b"\n") {
        out.write(b"\n");
    }
}

fn log(server: &Server, id: i64, step: Option<String>, out: &mut Out) -> Result<(), CallError> {
    /// A line of a terminal is tamed in pieces of at most so many bytes.
    const PIECE: u64 = 64 * 1024;
    let query: Vec<(&str, String)> = step.into_iter().map(|step| ("step", step)).collect();
    let mut body = BufReader::new(server.stream(&["api", "v1", "builds", &id.to_string(), "log"], &query)?);
    let screen = Screen::of_this_process();
    let mut piece = Vec::new();
    while !out.is_closed() {
        piece.clear();
        let read = match screen {
            Screen::Raw => body.by_ref().take(PIECE).read_to_end(&mut piece),
            Screen::Colours | Screen::Plain => body.by_ref().take(PIECE).read_until(b'\n', &mut piece),
        };
        if read.map_err(|error| server.broken_off(&error))? == 0 {
            break;
        }
        match screen {
            Screen::Raw => out.write(&piece),
            _ => out.write(screen.tame(&String::from_utf8_lossy(&piece)).as_bytes()),
        }
    }
    Ok(())
}

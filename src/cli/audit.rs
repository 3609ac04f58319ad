//! `hookmill audit`: who changed what, over a running server's API.

use std::process::ExitCode;
use std::time::SystemTime;

use clap::Args;
use serde::Deserialize;

use super::builds::screen::{Screen, one_line};
use super::output::Out;
use super::server::{CallError, Reach, Server};
use super::table::{age, aligned, headings, width};
use crate::domain::audit::Actor;
use crate::domain::build::BuildId;
use crate::domain::repo::RepoId;
use crate::domain::time::Timestamp;

/// `hookmill audit`.
#[derive(Debug, Args)]
#[command(
    after_help = "It lists who approved, cancelled and repeated builds, paused and drained agents and had statuses sent again, \
                  which configuration was read and what changed in it (names of settings, never a value), and which secret \
                  was given to which step of which build; the newest first, for as long as retention.audit keeps it. \
                  FROM is the address of the connection, which behind a reverse proxy is the proxy's.\n\n\
                  The token is the server's admin token: --token-file, else $HOOKMILL_TOKEN.\n\nExamples:\n  \
                  hookmill audit --since 7d\n  hookmill audit --repo github/acme/shop --json\n\n\
                  Exit codes: 0; 1 refused; 2 usage; 3 the server can't be reached."
)]
pub struct AuditArgs {
    #[command(flatten)]
    reach: Reach,
    /// Only what was done to builds of this repository: github/acme/shop.
    #[arg(long, value_name = "FORGE/OWNER/NAME")]
    repo: Option<RepoId>,
    /// Only what was done since: 7d, 12h, or 2026-01-31T00:00:00Z.
    #[arg(long, value_name = "WHEN", value_parser = since)]
    since: Option<Timestamp>,
    /// How many.
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=200))]
    limit: u16,
    /// Only entries older than this one.
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(i64).range(1..))]
    before: Option<i64>,
    /// Prints the server's JSON document.
    #[arg(long)]
    json: bool,
}

/// A time ago, or a moment.
fn since(text: &str) -> Result<Timestamp, String> {
    if let Ok(ago) = humantime::parse_duration(text) {
        return Ok(SystemTime::now().checked_sub(ago).unwrap_or(SystemTime::UNIX_EPOCH).into());
    }
    let moment = humantime::parse_rfc3339(text);
    moment.map(Timestamp::from).map_err(|_| "write 7d, 12h, or 2026-01-31T00:00:00Z".to_owned())
}

/// The document of a list.
#[derive(Deserialize)]
struct Listing {
    entries: Vec<Entry>,
    next: Option<i64>,
}

/// An entry; what a newer server knows of it is in its sentence.
#[derive(Deserialize)]
struct Entry {
    at: Timestamp,
    #[serde(flatten)]
    actor: Actor,
    repo: Option<String>,
    build: Option<BuildId>,
    says: String,
}

pub(super) fn run(args: &AuditArgs, out: &mut Out) -> ExitCode {
    args.reach.speak(|server| list(server, args, out).map(|()| 0))
}

fn list(server: &Server, args: &AuditArgs, out: &mut Out) -> Result<(), CallError> {
    let given = [
        ("repo", args.repo.as_ref().map(RepoId::to_string)),
        ("since", args.since.map(|since| since.to_string())),
        ("limit", Some(args.limit.to_string())),
        ("before", args.before.map(|id| id.to_string())),
    ];
    let query: Vec<(&str, String)> = given.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    let document = server.document(&["api", "v1", "audit"], &query)?;
    if args.json {
        out.write(&document);
        out.write(b"\n");
        return Ok(());
    }
    let Listing { entries, next } = server.parse(&document)?;
    let screen = Screen::of_this_process();
    if entries.is_empty() && screen != Screen::Raw {
        out.line("nothing was changed by anybody, as far as that is kept");
    }
    for line in rows(&entries, screen) {
        out.line(line);
    }
    if let Some(next) = next.filter(|_| screen != Screen::Raw) {
        out.line(format_args!("… and older ones: --before {next}"));
    }
    Ok(())
}

/// Aligned and cut to the terminal, or columns with tabs between for another program.
fn rows(entries: &[Entry], screen: Screen) -> Vec<String> {
    let now = Timestamp::from(SystemTime::now());
    let on_terminal = screen != Screen::Raw;
    let mut rows: Vec<Vec<String>> = Vec::new();
    if on_terminal && !entries.is_empty() {
        rows.push(headings(&["AGE", "WHO", "VIA", "FROM", "BUILD", "REPOSITORY", "DID"]));
    }
    rows.extend(entries.iter().map(|entry| {
        vec![
            if on_terminal { age(entry.at, now) } else { entry.at.to_string() },
            one_line(&entry.actor.who),
            entry.actor.via.as_str().to_owned(),
            one_line(entry.actor.from.as_deref().unwrap_or_default()),
            entry.build.map(|id| id.to_string()).unwrap_or_default(),
            one_line(entry.repo.as_deref().unwrap_or_default()),
            one_line(&entry.says),
        ]
    }));
    if on_terminal { aligned(&rows, width()) } else { rows.iter().map(|row| row.join("\t")).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_when() {
        let week = since("7d").expect("a time ago");
        assert_eq!(Timestamp::from(SystemTime::now()).since(week).as_secs() / 3600, 7 * 24);
        assert_eq!(since("2026-01-31T00:00:00Z").map(|at| at.to_string()), Ok("2026-01-31T00:00:00.000Z".to_owned()));
        assert_eq!(since("9999999999y"), Ok(Timestamp(0)), "since ever");
        for bad in ["yesterday", "7", ""] {
            assert!(since(bad).is_err(), "{bad}");
        }
    }
}

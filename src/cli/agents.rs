//! `hookmill agents`: who runs builds, over a running server's API.

use std::process::ExitCode;
use std::time::SystemTime;

use clap::{Args, Subcommand};
use serde::Deserialize;

use super::builds::screen::one_line;
use super::output::Out;
use super::server::{CallError, Reach, Server};
use super::table::{age, aligned, headings, width};
use crate::domain::agent::Agent;
use crate::domain::time::Timestamp;

/// `hookmill agents`.
#[derive(Debug, Args)]
#[command(
    after_help = "The token is the server's admin token: --token-file, else $HOOKMILL_TOKEN.\n\nAn agent that is paused or \
                  drained claims nothing; what it runs ends as it would. `drain` also ends a `hookmill agent` once nothing \
                  runs, with exit code 0; a `hookmill serve` goes on without its agent. A pause outlives restarts.\n\n\
                  Exit codes: 0; 1 refused or not found; 2 usage; 3 the server can't be reached."
)]
pub struct AgentsArgs {
    #[command(flatten)]
    reach: Reach,
    #[command(subcommand)]
    command: AgentsCommand,
}

#[derive(Debug, Subcommand)]
enum AgentsCommand {
    /// Lists every agent that was heard of within a day.
    List {
        /// Prints the server's JSON document.
        #[arg(long)]
        json: bool,
    },
    /// Lets an agent claim nothing more.
    Pause {
        /// The agent's name.
        name: String,
    },
    /// Lets an agent claim builds again.
    Resume {
        /// The agent's name.
        name: String,
    },
    /// Lets an agent claim nothing more, and its process end once nothing runs.
    Drain {
        /// The agent's name.
        name: String,
    },
}

/// The document of the list.
#[derive(Deserialize)]
struct Listing {
    agents: Vec<Agent>,
}

pub(super) fn run(args: AgentsArgs, out: &mut Out) -> ExitCode {
    args.reach.speak(|server| obey(server, args.command, out).map(|()| 0))
}

fn obey(server: &Server, command: AgentsCommand, out: &mut Out) -> Result<(), CallError> {
    match command {
        AgentsCommand::List { json } => list(server, json, out),
        AgentsCommand::Pause { name } => order(server, &name, "pause", "claims nothing more; what runs ends", out),
        AgentsCommand::Resume { name } => order(server, &name, "resume", "claims builds again", out),
        AgentsCommand::Drain { name } => order(server, &name, "drain", "ends once nothing runs", out),
    }
}

fn order(server: &Server, name: &str, verb: &str, told: &str, out: &mut Out) -> Result<(), CallError> {
    server.post(&["api", "v1", "agents", name, verb], "")?;
    out.line(format_args!("{name} {told}"));
    Ok(())
}

fn list(server: &Server, json: bool, out: &mut Out) -> Result<(), CallError> {
    let document = server.document(&["api", "v1", "agents"], &[])?;
    if json {
        out.write(&document);
        out.write(b"\n");
        return Ok(());
    }
    let Listing { agents } = server.parse(&document)?;
    if agents.is_empty() {
        out.line("no agent was heard of within a day: start `hookmill agent`, or set agent.slots above 0");
        return Ok(());
    }
    let now = Timestamp::from(SystemTime::now());
    let mut rows = vec![headings(&["AGENT", "IS", "BUSY", "HEARD", "VERSION", "SANDBOX"])];
    rows.extend(agents.iter().map(|agent| {
        vec![
            one_line(&agent.name),
            if agent.is_held_back() { "disk low".to_owned() } else { agent.standing.as_str().to_owned() },
            format!("{} of {}", agent.busy, agent.slots),
            format!("{} ago", age(agent.seen_at, now)),
            one_line(&agent.version),
            one_line(&agent.sandbox),
        ]
    }));
    for line in aligned(&rows, width()) {
        out.line(line);
    }
    Ok(())
}

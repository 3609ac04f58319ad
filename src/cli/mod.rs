//! The command line: what may be typed, and a file for each command.
//!
//! Exit codes: 0; 1 refused or not found; 2 usage or configuration; those of a build are
//! [`Outcome::exit_code`](crate::domain::outcome::Outcome::exit_code).

mod account;
mod agents;
mod audit;
mod builds;
mod cache;
mod check;
mod completions;
pub mod demo;
mod doctor;
mod fields;
mod folder;
mod hook;
mod init;
mod lanes;
mod man;
pub mod output;
mod run;
mod server;
mod store;
mod table;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::load::LoadError;
use output::Out;

/// Usage or configuration: nothing was tried.
pub const USAGE: u8 = 2;

/// Refused, or not found.
pub const REFUSED: u8 = 1;

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "hookmill",
    version,
    about = "A self-hosted CI agent for front-end repositories: a signed push becomes concurrent installs, a bundle \
             and a commit status",
    after_help = "Begin here:\n  hookmill demo    the whole of it on a sample repository, with nothing set up\n  \
                  hookmill run     builds the folder you are in, as the agent would\n  \
                  hookmill init    writes a configuration for your own repository"
)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Every command.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Writes a configuration for a repository and says what to click at the forge.
    Init(init::InitArgs),
    /// Listens for webhooks, shows pages, reports statuses and, unless agent.slots is 0, runs builds.
    Serve(ServeArgs),
    /// Builds a local folder exactly as the agent would; never writes into it.
    Run(RunArgs),
    /// Shows a signed push become installs, a bundle and a status, with nothing set up.
    Demo(demo::Args),
    /// Validates configuration and repository files; names file, line, key and fix.
    Check(check::CheckArgs),
    /// Tries everything that builds need and names a fix for each fault.
    Doctor(doctor::DoctorArgs),
    /// Webhooks of the configured repositories.
    Hook(hook::HookArgs),
    /// Lists, shows and steers builds of a running server.
    Builds(builds::BuildsArgs),
    /// Lists, pauses and drains those who run builds.
    Agents(agents::AgentsArgs),
    /// Lists who changed what on a running server.
    Audit(audit::AuditArgs),
    /// What is kept from build to build on this machine: lists, explains, verifies and removes it.
    Cache(cache::CacheArgs),
    /// Prints a completion script for a shell.
    Completions(completions::CompletionsArgs),
    /// Prints the manual page.
    Man(man::ManArgs),
    /// The same binary on the other side of a fence.
    #[command(hide = true)]
    Internal(InternalArgs),
    /// Runs builds of a store that several processes share; takes no webhooks and shows no pages.
    Agent(AgentArgs),
    /// Not built yet.
    #[command(hide = true, disable_help_flag = true)]
    Forge(Unbuilt),
    /// Not built yet.
    #[command(hide = true, disable_help_flag = true)]
    /// The database by itself: checks it, copies it, makes it of a copy.
    Store(store::StoreArgs),
}

/// `hookmill serve`.
#[derive(Debug, Args)]
#[command(after_help = "The configuration is --config, else $HOOKMILL_CONFIG, else ./hookmill.toml, else \
                  /etc/hookmill/hookmill.toml.\nSIGHUP reads it again; SIGTERM lets running builds end, a second one \
                  stops at once.")]
pub struct ServeArgs {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// `hookmill agent`.
#[derive(Debug, Args)]
#[command(
    after_help = "It needs [store] url = \"postgres://…\", which any number of `hookmill serve` and `hookmill agent` share, and \
                  of the rest what builds need: forges with their tokens, [[repo]], [[registry]]; no hook secrets.\nSIGHUP reads \
                  the configuration again; SIGTERM lets running builds end, a second one stops at once; \
                  `hookmill agents drain NAME` ends it when nothing runs.\n\nExit codes: 0 after a drain, 2 configuration, \
                  3 a part failed, 130 stopped at once."
)]
pub struct AgentArgs {
    /// The configuration file, found as `hookmill serve` finds it.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// `hookmill run`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  hookmill run                    the tracked and not ignored files of this folder\n  \
                  hookmill run --commit HEAD~1    a commit of it\n  hookmill run --explain          what would be done, and why\n\n\
                  Exit codes: 0 passed, 1 failed or timed out, 2 usage, 3 broken, 130 cancelled."
)]
pub struct RunArgs {
    /// The folder to build.
    #[arg(value_name = "DIR", default_value = ".")]
    pub dir: PathBuf,
    /// Builds a commit of the folder's repository instead of its files.
    #[arg(long, value_name = "REV")]
    pub commit: Option<String>,
    /// Prints one JSON document at the end, also for a failed build; progress goes to standard error.
    #[arg(long)]
    pub json: bool,
    /// Neither reads nor keeps anything of other builds.
    #[arg(long)]
    pub no_cache: bool,
    /// Prints what was seen and what follows from it, and runs nothing.
    #[arg(long)]
    pub explain: bool,
    /// A host with its port that installs may reach beside the package registries, as a server's install hosts are.
    /// May be given several times.
    #[arg(long = "install-host", value_name = "HOST:PORT")]
    pub install_hosts: Vec<String>,
    /// Another root file system, which steps see instead of this machine's programs, as `[sandbox] root` of a server is.
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
}

/// `hookmill internal`: how the program starts itself. Not for people, and not stable.
#[derive(Debug, Args)]
pub struct InternalArgs {
    /// Which side of which fence: holder, checkout.
    pub part: String,
    /// What that part is given.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub args: Vec<OsString>,
}

/// A command of the documentation that this version does not have; whatever follows is not looked at.
#[derive(Debug, Args)]
pub struct Unbuilt {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    rest: Vec<OsString>,
}

impl Command {
    /// Runs a command that needs nothing but files, the terminal and a server's API.
    ///
    /// # Errors
    /// Gives back, untouched, a command that needs a store, a runtime or a sandbox: that is for whoever joins them.
    pub fn run_alone(self) -> Result<ExitCode, Box<Command>> {
        let mut out = Out::stdout();
        Ok(match self {
            Command::Init(args) => init::run(args, &mut out),
            Command::Check(args) => check::run(&args, &mut out),
            Command::Doctor(args) => doctor::run(&args, &mut out),
            Command::Hook(args) => hook::run(args, &mut out),
            Command::Builds(args) => builds::run(args, &mut out),
            Command::Agents(args) => agents::run(args, &mut out),
            Command::Audit(args) => audit::run(&args, &mut out),
            Command::Cache(args) => cache::run(&args, &mut out),
            Command::Completions(args) => completions::run(&args, &mut out),
            Command::Man(args) => man::run(&args, &mut out),
            Command::Run(args) => {
                drop(out);
                run::run(&args)
            }
            Command::Demo(args) => {
                drop(out);
                demo::run(&args)
            }
            Command::Forge(_) => unbuilt("forge"),
            Command::Store(args) => store::run(&args, &mut out),
            other @ (Command::Serve(_) | Command::Agent(_) | Command::Internal(_)) => return Err(Box::new(other)),
        })
    }
}

/// Says that a documented command is not there yet.
fn unbuilt(command: &str) -> ExitCode {
    eprintln!("hookmill: not built yet: `hookmill {command}` comes with a later version");
    ExitCode::from(USAGE)
}

/// Tells a person why there is no configuration to work with; the exit code is [`USAGE`].
pub fn refuse(error: &LoadError) -> ExitCode {
    match error {
        LoadError::NothingConfigured { .. } => eprintln!(
            "hookmill: {error}\n\n  hookmill init    writes a configuration for your repository and says what to click at the \
             forge\n  hookmill demo    shows the whole of it on a sample repository, with nothing set up"
        ),
        LoadError::Wrong(problems) => eprintln!("{}", problems.render(output::coloured_errors())),
    }
    ExitCode::from(USAGE)
}

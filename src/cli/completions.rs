//! `hookmill completions`.

use std::process::ExitCode;

use clap::{Args, CommandFactory};

use super::Cli;
use super::output::Out;

/// `hookmill completions`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  hookmill completions bash > ~/.local/share/bash-completion/completions/hookmill")]
pub struct CompletionsArgs {
    /// Which shell.
    shell: clap_complete::Shell,
}

pub(super) fn run(args: &CompletionsArgs, out: &mut Out) -> ExitCode {
    // Into memory first: the generator panics when its output is closed.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "hookmill", &mut script);
    out.write(&script);
    ExitCode::SUCCESS
}

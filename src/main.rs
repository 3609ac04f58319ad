//! The binary: parses the command line and hands it on.

use std::process::ExitCode;

use clap::Parser;
use hookmill::cli::{Cli, USAGE};

fn main() -> ExitCode {
    Cli::parse().command.run_alone().unwrap_or_else(|command| {
        eprintln!("hookmill: not joined yet: {command:?}");
        ExitCode::from(USAGE)
    })
}

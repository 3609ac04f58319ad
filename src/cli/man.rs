//! `hookmill man`.

use std::process::ExitCode;

use clap::CommandFactory;

use super::Cli;
use super::output::Out;

pub(super) fn run(out: &mut Out) -> ExitCode {
    let mut page = Vec::new();
    match clap_mangen::Man::new(Cli::command()).render(&mut page) {
        Ok(()) => {
            out.write(&page);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("hookmill: the manual page can't be made: {error}");
            ExitCode::FAILURE
        }
    }
}

//! `hookmill man`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory};

use super::output::Out;
use super::{Cli, REFUSED};

/// `hookmill man`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  hookmill man | man -l -\n  \
                  sudo hookmill man --into /usr/local/share/man/man1    then: man hookmill, man hookmill-init")]
pub struct ManArgs {
    /// Writes a page for each command into this folder instead.
    #[arg(long, value_name = "DIR")]
    into: Option<PathBuf>,
}

pub(super) fn run(args: &ManArgs, out: &mut Out) -> ExitCode {
    let written = match &args.into {
        Some(folder) => std::fs::create_dir_all(folder)
            .and_then(|()| clap_mangen::generate_to(Cli::command(), folder))
            .map_err(|error| format!("the manual pages can't be written into {}: {error}", folder.display())),
        None => {
            let mut page = Vec::new();
            let rendered = clap_mangen::Man::new(Cli::command()).render(&mut page);
            out.write(&page);
            rendered.map_err(|error| format!("the manual page can't be made: {error}"))
        }
    };
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("hookmill: {why}");
            ExitCode::from(REFUSED)
        }
    }
}

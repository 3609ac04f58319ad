//! The binary: says which part of the library this process is.

use std::process::ExitCode;

use clap::Parser;
use hookmill::app::{self, Ended};
use hookmill::cli::{self, Cli, Command, USAGE};
use hookmill::{inside, process, telemetry};

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|word| word == "internal") {
        // The other side of a fence: before a runtime, a configuration or a secret is near.
        return inside::enter(&args.collect::<Vec<_>>());
    }
    match Cli::parse().command.run_alone() {
        Ok(code) => code,
        Err(command) => match *command {
            Command::Serve(args) => serve(app::serve(args.config.as_deref())),
            Command::Agent(args) => serve(app::agent(args.config.as_deref())),
            // `internal` was taken above.
            _ => ExitCode::from(USAGE),
        },
    }
}

/// Runs a part of the library that works until somebody ends it.
fn serve(work: impl Future<Output = Result<Ended, app::ServeError>>) -> ExitCode {
    if let Err(why) = telemetry::init() {
        eprintln!("hookmill: {why}");
        return ExitCode::from(USAGE);
    }
    if let Err(error) = process::harden() {
        tracing::warn!(%error, "this process could not be closed to others of its user");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let ended = match runtime {
        Ok(runtime) => {
            let ended = runtime.block_on(work);
            // A request to a slow forge on a thread of its own must not hold up who was asked to end at once.
            runtime.shutdown_background();
            ended
        }
        Err(source) => Err(app::ServeError::Part { what: "the runtime could not be started", source }),
    };
    match ended {
        Ok(Ended::Drained) => ExitCode::SUCCESS,
        Ok(Ended::AtOnce) => ExitCode::from(130),
        Err(app::ServeError::Config(error)) => cli::refuse(&error),
        Err(error) => {
            eprintln!("hookmill: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

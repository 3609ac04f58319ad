//! The same binary on the other side of a fence: `hookmill internal …`, never typed by a person.
//!
//! Entered by `main` before anything else: no runtime, no configuration, no logging.

mod checkout;

use std::ffi::OsString;
use std::process::ExitCode;

/// Runs the job named by the arguments after `internal`.
pub fn enter(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    match args.next().as_deref().and_then(|job| job.to_str()) {
        Some("checkout") => checkout::main(),
        other => {
            eprintln!("hookmill internal: there is no job {other:?}; this is not for people to call");
            ExitCode::from(2)
        }
    }
}

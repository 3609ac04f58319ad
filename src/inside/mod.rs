//! The same binary on the other side of a fence: `hookmill internal …`, called by ourselves only.
//!
//! Entered before anything else: one thread, no runtime, no configuration, no secret.

mod checkout;
mod consolidate;
mod heads;
#[cfg(target_os = "linux")]
mod holder;
#[cfg(target_os = "linux")]
mod launch;

use std::ffi::OsString;
use std::process::ExitCode;

/// Does what the words after `internal` name.
pub fn enter(args: &[OsString]) -> ExitCode {
    match args.split_first() {
        Some((word, _)) if word == "checkout" => checkout::main(),
        Some((word, _)) if word == "heads" => heads::main(),
        Some((word, [mirror])) if word == "consolidate" => consolidate::main(mirror.as_ref()),
        #[cfg(target_os = "linux")]
        Some((word, rest)) if word == "holder" => holder::enter(rest),
        #[cfg(target_os = "linux")]
        Some((word, [job, refusal])) if word == "launch" => launch::main(job, refusal),
        _ => {
            eprintln!("hookmill: `internal` is for hookmill itself");
            ExitCode::from(2)
        }
    }
}

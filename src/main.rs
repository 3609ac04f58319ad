//! The `hookmill` binary.

use std::ffi::OsString;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    match args.split_first() {
        // Before anything else: no runtime, no thread, no configuration on the other side of a fence.
        Some((first, rest)) if first == "internal" => hookmill::inside::enter(rest),
        _ => ExitCode::from(2),
    }
}

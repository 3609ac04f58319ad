//! The binary: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1).peekable();
    if args.next_if(|arg| arg == "internal").is_some() {
        return hookmill::inside::enter(args);
    }
    ExitCode::SUCCESS
}

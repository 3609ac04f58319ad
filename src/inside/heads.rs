//! The child process that asks where a repository's refs stand: the question on standard input, the answer on standard output.

use std::io::{self, Write};
use std::process::ExitCode;

use super::checkout::{end_with_parent, read_line};
use crate::checkout::{self, AskHeads, Refusal, RefusalKind};

pub(super) fn main() -> ExitCode {
    let ask: AskHeads = match read_line() {
        Ok(ask) => ask,
        Err(error) => {
            eprintln!("hookmill internal heads: the question on standard input can't be read: {error}");
            return ExitCode::from(2);
        }
    };
    end_with_parent();
    let answer = checkout::prepare_unattended()
        .map_err(|error| Refusal::new(RefusalKind::Broken, error.message()))
        .and_then(|()| checkout::heads(&ask));
    let text = serde_json::to_vec(&answer).expect("texts and structs of them are JSON");
    match io::stdout().lock().write_all(&text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

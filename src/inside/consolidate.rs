//! The child process that makes one pack of a mirror's many: the mirror's path is its argument, the answer on standard
//! output is the number of packs that became one, or why not.

use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use super::checkout::end_with_parent;
use crate::checkout::{self, Refusal, RefusalKind};

pub(super) fn main(mirror: &Path) -> ExitCode {
    end_with_parent();
    let answer = checkout::prepare_unattended()
        .map_err(|error| Refusal::new(RefusalKind::Broken, error.message()))
        .and_then(|()| checkout::consolidate(mirror));
    let text = serde_json::to_vec(&answer).expect("a number or a struct of strings is JSON");
    match io::stdout().lock().write_all(&text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

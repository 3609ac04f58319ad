//! The child process of a checkout: one job on standard input, one answer on standard output.

use std::io::{self, BufRead, Read, Write};
use std::process::{ExitCode, exit};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::checkout::{self, Answer, Job, Refusal, RefusalKind};
use crate::domain::time::brief;

/// No job of ours is longer.
const MAX_JOB: u64 = 1 << 20;

/// Held by whoever answers; never given back, so that there is one answer.
static ANSWERING: Mutex<()> = Mutex::new(());

pub(super) fn main() -> ExitCode {
    let job: Job = match read_line() {
        Ok(job) => job,
        Err(error) => {
            eprintln!("hookmill internal checkout: the job on standard input can't be read: {error}");
            return ExitCode::from(2);
        }
    };
    give_up_after(job.deadline);
    end_with_parent();
    let answer = match checkout::prepare(&job.source) {
        Ok(()) => match checkout::run(&job) {
            Ok(done) => Answer::Done(Box::new(done)),
            Err(refusal) => Answer::Refused(refusal),
        },
        Err(error) => Answer::Refused(Refusal::new(RefusalKind::Broken, error.message())),
    };
    tell(&answer)
}

/// What the parent asks: one line of JSON.
pub(super) fn read_line<T: DeserializeOwned>() -> io::Result<T> {
    let mut line = Vec::new();
    io::stdin().lock().take(MAX_JOB).read_until(b'\n', &mut line)?;
    Ok(serde_json::from_slice(&line)?)
}

/// libgit2 can't be interrupted, so the process ends under it.
fn give_up_after(deadline: Duration) {
    std::thread::spawn(move || {
        std::thread::sleep(deadline);
        let text = format!("the checkout took longer than {}", brief(deadline));
        tell(&Answer::Refused(Refusal::new(RefusalKind::TimedOut, text)))
    });
}

/// The agent holds the other end of standard input for as long as it wants the answer.
pub(super) fn end_with_parent() {
    std::thread::spawn(|| {
        let mut byte = [0];
        while matches!(io::stdin().read(&mut byte), Ok(1)) {}
        exit(1)
    });
}

fn tell(answer: &Answer) -> ! {
    let _held = ANSWERING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut line = serde_json::to_vec(answer).expect("a struct of strings and numbers is JSON");
    line.push(b'\n');
    let written = io::stdout().lock().write_all(&line);
    exit(if written.is_ok() { 0 } else { 1 })
}

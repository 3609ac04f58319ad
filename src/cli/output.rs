//! Standard output that may be closed early, as by `| head`, and whether colour is welcome.

use std::fmt::Display;
use std::io::{self, IsTerminal, StdoutLock, Write};

/// Standard output, locked. What can't be written because nobody reads any more is dropped;
/// `println!` would panic then.
pub struct Out {
    stdout: StdoutLock<'static>,
    closed: bool,
}

impl Out {
    /// Locks standard output for as long as this lives.
    pub fn stdout() -> Self {
        Self { stdout: io::stdout().lock(), closed: false }
    }

    /// Writes one line.
    pub fn line(&mut self, text: impl Display) {
        self.write(format!("{text}\n").as_bytes());
    }

    /// Writes bytes as they are.
    pub fn write(&mut self, bytes: &[u8]) {
        if self.closed {
            return;
        }
        if let Err(error) = self.stdout.write_all(bytes).and_then(|()| self.stdout.flush()) {
            self.closed = true;
            if error.kind() != io::ErrorKind::BrokenPipe {
                eprintln!("hookmill: standard output can't be written: {error}");
            }
        }
    }

    /// Whether nothing that is written arrives any more; who would go on for long can stop.
    pub fn is_closed(&self) -> bool {
        self.closed
    }
}

/// Whether standard error is a terminal that wants colour (<https://no-color.org>).
pub fn coloured_errors() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    io::stderr().is_terminal() && !refused
}

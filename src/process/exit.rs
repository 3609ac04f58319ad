//! How a process ended, in the words of wait(2).

use rustix::process::Signal;
use serde::{Deserialize, Serialize};

/// A bound of a step, for the passing of which it was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// `limits.memory`.
    Memory,
    /// `limits.processes`.
    Processes,
}

/// How the command of a step ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It exited with this status, 0 to 255.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
    /// It passed this bound and was ended for it, or ended because it was given no more.
    Over(Bound),
    /// It never began: the fence around it could not be built, and its output says why.
    NotStarted,
}

impl Exit {
    /// Exited with status 0.
    pub fn is_success(self) -> bool {
        self == Exit::Code(0)
    }

    /// The exit status, if there is one.
    pub fn code(self) -> Option<i32> {
        match self {
            Exit::Code(code) => Some(code),
            Exit::Signal(_) | Exit::Over(_) | Exit::NotStarted => None,
        }
    }

    /// The name of the signal that ended it, without `SIG`: `KILL`. A number for the nameless ones.
    pub fn signal_name(self) -> Option<String> {
        match self {
            Exit::Signal(number) => Some(signal_name(number).map_or_else(|| number.to_string(), str::to_owned)),
            Exit::Over(_) => signal_name(Signal::KILL.as_raw()).map(str::to_owned),
            Exit::Code(_) | Exit::NotStarted => None,
        }
    }

    /// Reads the status of a process that passes on the end of another one, as shells and
    /// bubblewrap do: `128 + n` stands for signal `n`.
    ///
    /// A program that exits with such a status by itself is told as killed; nothing that passes
    /// statuses on can tell the two apart.
    pub fn from_passed_on(code: i32) -> Exit {
        match code - 128 {
            number @ 1..=31 => Exit::Signal(number),
            _ => Exit::Code(code),
        }
    }
}

impl From<std::process::ExitStatus> for Exit {
    fn from(status: std::process::ExitStatus) -> Self {
        use std::os::unix::process::ExitStatusExt;
        match (status.code(), status.signal()) {
            (Some(code), _) => Exit::Code(code),
            (None, Some(number)) => Exit::Signal(number),
            (None, None) => Exit::NotStarted,
        }
    }
}

impl std::fmt::Display for Exit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Exit::Code(code) => write!(f, "exit status {code}"),
            Exit::Signal(number) => match signal_name(*number) {
                Some(name) => write!(f, "killed by SIG{name}"),
                None => write!(f, "killed by signal {number}"),
            },
            Exit::Over(Bound::Memory) => f.write_str("ended because it passed its bound of memory"),
            Exit::Over(Bound::Processes) => f.write_str("ended because it passed its bound of processes"),
            Exit::NotStarted => f.write_str("not started"),
        }
    }
}

fn signal_name(number: i32) -> Option<&'static str> {
    const NAMES: [(Signal, &str); 23] = [
        (Signal::HUP, "HUP"),
        (Signal::INT, "INT"),
        (Signal::QUIT, "QUIT"),
        (Signal::ILL, "ILL"),
        (Signal::TRAP, "TRAP"),
        (Signal::ABORT, "ABRT"),
        (Signal::BUS, "BUS"),
        (Signal::FPE, "FPE"),
        (Signal::KILL, "KILL"),
        (Signal::USR1, "USR1"),
        (Signal::SEGV, "SEGV"),
        (Signal::USR2, "USR2"),
        (Signal::PIPE, "PIPE"),
        (Signal::ALARM, "ALRM"),
        (Signal::TERM, "TERM"),
        (Signal::XCPU, "XCPU"),
        (Signal::XFSZ, "XFSZ"),
        (Signal::VTALARM, "VTALRM"),
        (Signal::PROF, "PROF"),
        (Signal::IO, "IO"),
        (Signal::SYS, "SYS"),
        (Signal::TTIN, "TTIN"),
        (Signal::TTOU, "TTOU"),
    ];
    NAMES.iter().find(|(signal, _)| signal.as_raw() == number).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::Exit;

    #[test]
    fn a_passed_on_status_above_128_is_a_signal() {
        let check = |code, expected| assert_eq!(Exit::from_passed_on(code), expected, "{code}");
        check(0, Exit::Code(0));
        check(1, Exit::Code(1));
        check(127, Exit::Code(127));
        check(128, Exit::Code(128));
        check(137, Exit::Signal(9));
        check(143, Exit::Signal(15));
        check(255, Exit::Code(255));
    }

    #[test]
    fn signals_have_their_names() {
        let check = |number, expected: &str| assert_eq!(Exit::Signal(number).signal_name().as_deref(), Some(expected));
        check(9, "KILL");
        check(15, "TERM");
        check(6, "ABRT");
        check(64, "64");
        assert_eq!(Exit::Code(1).signal_name(), None);
        assert_eq!(Exit::Signal(9).to_string(), "killed by SIGKILL");
    }
}

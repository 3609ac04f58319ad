//! Why there is no checkout, in words for the person who reads the status.

use std::fmt;
use std::path::Path;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::domain::outcome::{Outcome, Verdict};
use crate::domain::time::brief;

/// Bytes of a path that are shown: the sentence goes to a forge, which takes 140 characters.
const SHOWN: usize = 48;

/// What kind of trouble it was; decides whose fault it is and whether to try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefusalKind {
    /// The forge answers, but no longer has the commit.
    CommitGone,
    /// No connection, no answer in time, or an answer that says "later".
    Unreachable,
    /// The forge answered 401, 403 or 404.
    Forbidden,
    /// The forge's certificate, redirect or protocol is not acceptable; an operator has to look.
    Untrusted,
    /// The commit's tree (or its size) breaks a rule of ours.
    Unacceptable,
    /// `run --commit REV` names nothing that the folder's repository has.
    UnknownRevision,
    /// No space left on our disk.
    DiskFull,
    /// It ran longer than it may.
    TimedOut,
    /// Our own fault, or that of our disk.
    Broken,
}

/// A checkout that did not come about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// What kind of trouble.
    pub kind: RefusalKind,
    /// One line for people. Never a credential.
    pub message: String,
}

impl Refusal {
    /// A refusal from its two parts; the message becomes one line.
    pub fn new(kind: RefusalKind, message: impl fmt::Display) -> Self {
        let message = message.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
        Refusal { kind, message }
    }

    /// True when the same job may succeed a little later.
    pub fn may_retry(&self) -> bool {
        use RefusalKind::{Broken, Unreachable};
        matches!(self.kind, Unreachable | RefusalKind::TimedOut | Broken)
    }

    /// Whose fault it is: a tree that is not acceptable fails the commit, everything else is not the commit's fault.
    pub fn verdict(&self) -> Verdict {
        let outcome = match self.kind {
            RefusalKind::Unacceptable | RefusalKind::UnknownRevision => Outcome::Failed,
            _ => Outcome::Broken,
        };
        Verdict::new(outcome, self.message.clone())
    }

    pub(super) fn gone(id: git2::Oid) -> Self {
        let text = format!("commit {:.7} is no longer at the forge (force-pushed away?)", id.to_string());
        Refusal::new(RefusalKind::CommitGone, text)
    }

    /// The same, said of a submodule. A submodule that can't be had is the commit's fault, an outage is nobody's.
    pub(super) fn of_submodule(self, path: &str) -> Self {
        let kind = match self.kind {
            RefusalKind::Forbidden | RefusalKind::Untrusted | RefusalKind::CommitGone => RefusalKind::Unacceptable,
            kind => kind,
        };
        Refusal::new(kind, format!("submodule {}: {}", path.escape_debug(), self.message))
    }

    pub(super) fn tree(path: &[u8], rule: impl fmt::Display) -> Self {
        // A path may hold anything; shown so that it can't be mistaken for our own words, and leaves room for the rule.
        let path = match path.len() {
            0..=SHOWN => path.escape_ascii().to_string(),
            long => format!("{}…{}", path[..SHOWN / 3].escape_ascii(), path[long - SHOWN / 3 * 2..].escape_ascii()),
        };
        Refusal::new(RefusalKind::Unacceptable, format!("the commit's tree is not acceptable: \"{path}\" {rule}"))
    }

    pub(super) fn too_much(what: impl fmt::Display) -> Self {
        Refusal::new(RefusalKind::Unacceptable, format!("the commit is too large: {what}"))
    }

    pub(super) fn timed_out(after: Duration) -> Self {
        Refusal::new(RefusalKind::TimedOut, format!("the checkout took longer than {}", brief(after)))
    }

    pub(super) fn disk(path: &Path, error: &std::io::Error) -> Self {
        use std::io::ErrorKind::{QuotaExceeded, StorageFull};
        match error.kind() {
            StorageFull | QuotaExceeded => Refusal::disk_full(),
            _ => Refusal::new(RefusalKind::Broken, format!("the agent could not write {}: {error}", path.display())),
        }
    }

    /// What a tree or a pack was made to do; a repository that a browser's tools can build needs a tenth.
    pub(super) fn too_much_memory() -> Self {
        let most = super::guard::MAX_MEMORY >> 20;
        let text = format!("the checkout needed more memory than a checkout may use ({most} MiB)");
        Refusal::new(RefusalKind::Unacceptable, text)
    }

    pub(super) fn too_much_computing() -> Self {
        let text = "the repository takes too long to unpack for its size: it may hold differences to differences \
                    that unpack to more than anybody could check out";
        Refusal::new(RefusalKind::Unacceptable, text)
    }

    /// Without the path: the sentence goes to the forge, and the operator knows the disk.
    fn disk_full() -> Self {
        Refusal::new(RefusalKind::DiskFull, "no space left on the agent's disk")
    }
}

/// What may end a checkout from within.
#[derive(Debug)]
pub(super) enum Stop {
    /// A refusal, as it will be told.
    Refused(Refusal),
    /// git can't read what the mirror should hold; a fresh mirror may mend it.
    Unsound(git2::Error),
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Stop::Refused(refusal)
    }
}

impl From<git2::Error> for Stop {
    fn from(error: git2::Error) -> Self {
        if error.class() == git2::ErrorClass::NoMemory {
            return Stop::Refused(Refusal::too_much_memory());
        }
        // libgit2 gives the system's words and keeps no errno.
        if error.message().contains("No space left") || error.message().contains("quota exceeded") {
            return Stop::Refused(Refusal::disk_full());
        }
        Stop::Unsound(error)
    }
}

impl From<crate::tree::TreeError> for Stop {
    fn from(error: crate::tree::TreeError) -> Self {
        if error.is_disk_full() {
            return Stop::Refused(Refusal::disk_full());
        }
        let text = format!("the agent could not write its workspace: {error}");
        Stop::Refused(Refusal::new(RefusalKind::Broken, text))
    }
}

impl Stop {
    /// The refusal that is told when nothing more can be tried.
    pub(super) fn refusal(self) -> Refusal {
        match self {
            Stop::Refused(refusal) => refusal,
            Stop::Unsound(error) => {
                Refusal::new(RefusalKind::Broken, format!("the agent's mirror can't be read: {}", error.message()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_nobodys_commit() {
        let full = || std::io::Error::from(std::io::ErrorKind::StorageFull);
        let path = std::path::PathBuf::from("src/a.js");
        let from_git = git2::Error::from_str("cannot extend packfile 'x': No space left on device");
        for refusal in [
            Refusal::disk(&path, &full()),
            Stop::from(crate::tree::TreeError::Io { path: path.clone(), source: full() }).refusal(),
            Stop::from(from_git).refusal(),
        ] {
            assert_eq!(refusal.kind, RefusalKind::DiskFull);
            assert_eq!(refusal.verdict(), Verdict::new(Outcome::Broken, "no space left on the agent's disk"));
        }
    }

    #[test]
    fn messages_are_one_line_and_paths_can_not_speak() {
        let refusal = Refusal::tree(b"a\x1b[31m\nPassed\xff", "is bad");
        let words = "the commit's tree is not acceptable: \"a\\x1b[31m\\nPassed\\xff\" is bad";
        assert_eq!(refusal.message, words);
        assert_eq!(Refusal::new(RefusalKind::Broken, " a\n b ").message, "a b");
    }
}

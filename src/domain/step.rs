//! A step of a build: what is stored, shown and sent.

use serde::{Deserialize, Serialize};

use super::outcome::Outcome;
use super::repo::BadName;
use super::sentence::size;
use super::time::Timestamp;

/// What kind of work a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StepKind {
    /// Getting the commit into the workspace.
    Checkout,
    /// A package manager.
    Install,
    /// webpack, or the repository's build script.
    Bundle,
    /// A command named in the repository file.
    Check,
}

impl StepKind {
    /// The word in the store and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            StepKind::Checkout => "checkout",
            StepKind::Install => "install",
            StepKind::Bundle => "bundle",
            StepKind::Check => "check",
        }
    }
}

impl std::str::FromStr for StepKind {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "checkout" => Ok(StepKind::Checkout),
            "install" => Ok(StepKind::Install),
            "bundle" => Ok(StepKind::Bundle),
            "check" => Ok(StepKind::Check),
            _ => Err(BadName(format!("{text:?} is not a step kind"))),
        }
    }
}

/// What a step's cache did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CacheUse {
    /// Restored; the work was not done again.
    Hit,
    /// Looked for and not there.
    Miss,
    /// Not looked for.
    Off,
}

impl CacheUse {
    /// The word in the store and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            CacheUse::Hit => "hit",
            CacheUse::Miss => "miss",
            CacheUse::Off => "off",
        }
    }
}

impl std::str::FromStr for CacheUse {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "hit" => Ok(CacheUse::Hit),
            "miss" => Ok(CacheUse::Miss),
            "off" => Ok(CacheUse::Off),
            _ => Err(BadName(format!("{text:?} is not a cache use"))),
        }
    }
}

/// Where a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StepState {
    /// Planned.
    Queued,
    /// Its process was started.
    Running,
    /// It has an outcome.
    Finished,
}

impl StepState {
    /// The word in the store and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            StepState::Queued => "queued",
            StepState::Running => "running",
            StepState::Finished => "finished",
        }
    }
}

impl std::str::FromStr for StepState {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "queued" => Ok(StepState::Queued),
            "running" => Ok(StepState::Running),
            "finished" => Ok(StepState::Finished),
            _ => Err(BadName(format!("{text:?} is not a step state"))),
        }
    }
}

/// One step of a build, as the API shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Unique in its build: `checkout`, `npm`, `npm:client`, `bundle`, a check's name.
    pub name: String,
    /// What it does.
    pub kind: StepKind,
    /// Where it stands.
    pub state: StepState,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// The process's exit status, if it exited.
    pub exit_code: Option<i32>,
    /// The signal that ended it, without `SIG`: `KILL`.
    pub signal: Option<String>,
    /// What its cache did.
    pub cache: CacheUse,
    /// Why its cache did that, a phrase: `unchanged since build 12`, `package-lock.json changed since build 12`. Hostile text.
    #[serde(default)]
    pub cache_note: Option<String>,
    /// When its process was started.
    pub started_at: Option<Timestamp>,
    /// When its outcome was known.
    pub finished_at: Option<Timestamp>,
    /// The first useful line of a failure, one line. Hostile text.
    pub reason: Option<String>,
    /// What mends it, where the cause is a known one: lines to paste, with the file that they belong into as a comment.
    #[serde(default)]
    pub mend: Option<String>,
    /// The hosts that it asked for where only some are open to it, by name.
    #[serde(default)]
    pub reached: Vec<Reached>,
}

/// A host that a step asked for. Hostile text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reached {
    /// `host:port`.
    pub host: String,
    /// Bytes in both directions.
    pub bytes: u64,
    /// It is closed to this step: refused, or with bytes let through because that is only reported.
    pub closed: bool,
}

/// `registry.example:443 4.2 MB`; `cdn.example:443 closed`.
impl std::fmt::Display for Reached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self.bytes, self.closed) {
            (0, true) => write!(f, "{} closed", self.host),
            (bytes, false) => write!(f, "{} {}", self.host, size(bytes)),
            (bytes, true) => write!(f, "{} {}, closed and only reported", self.host, size(bytes)),
        }
    }
}

impl Step {
    /// An install whose inputs were unchanged: no package manager was started.
    pub fn is_restored(&self) -> bool {
        self.kind == StepKind::Install && self.cache == CacheUse::Hit
    }

    /// A planned step that has not begun.
    pub fn queued(name: impl Into<String>, kind: StepKind) -> Self {
        Step {
            name: name.into(),
            kind,
            state: StepState::Queued,
            outcome: None,
            exit_code: None,
            signal: None,
            cache: CacheUse::Off,
            cache_note: None,
            started_at: None,
            finished_at: None,
            reason: None,
            mend: None,
            reached: Vec::new(),
        }
    }

    /// Adds what one try reached to what earlier ones did.
    pub fn has_reached(&mut self, more: impl IntoIterator<Item = Reached>) {
        for new in more {
            match self.reached.iter_mut().find(|known| known.host == new.host) {
                Some(known) => (known.bytes, known.closed) = (known.bytes + new.bytes, known.closed | new.closed),
                None => self.reached.push(new),
            }
        }
        self.reached.sort_by(|one, other| one.host.cmp(&other.host));
    }

    /// The hosts in one line; empty where there is none to tell of.
    pub fn reached_in_words(&self) -> String {
        self.reached.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }
}

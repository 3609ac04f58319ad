//! Who changed what: the lines of `hookmill audit`.

use serde::{Deserialize, Serialize};

use super::agent::Order;
use super::build::BuildId;
use super::repo::{CommitId, RepoId};
use super::time::Timestamp;

/// How somebody showed who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Via {
    /// The request bore the admin token: `hookmill builds`, or a program of somebody's.
    Token,
    /// The browser was signed in, and asked from our own pages.
    Session,
    /// Nobody asked over the network: a process of ours did it by itself.
    Process,
}

impl Via {
    /// The word in the store and the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Via::Token => "token",
            Via::Session => "session",
            Via::Process => "process",
        }
    }

    /// The same for people.
    pub fn words(self) -> &'static str {
        match self {
            Via::Token => "admin token",
            Via::Session => "signed in",
            Via::Process => "by itself",
        }
    }
}

impl std::str::FromStr for Via {
    type Err = super::repo::BadName;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let found = [Via::Token, Via::Session, Via::Process].into_iter().find(|via| via.as_str() == text);
        found.ok_or_else(|| super::repo::BadName(format!("{text:?} is no way to come in")))
    }
}

/// Who changes something, as far as that is known. Nothing of it comes from a payload or from what a commit says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// A name: `admin` for whoever has the admin token, an agent's.
    pub who: String,
    /// How they showed it.
    pub via: Via,
    /// The address that the request came from, as the listener saw it: behind a reverse proxy it is the proxy's.
    pub from: Option<String>,
}

impl Actor {
    /// A process of ours, by its name.
    pub fn process(who: impl Into<String>) -> Self {
        Self { who: who.into(), via: Via::Process, from: None }
    }
}

/// `admin (signed in, from 10.0.0.7)`
impl std::fmt::Display for Actor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({}", self.who, self.via.words())?;
        if let Some(from) = &self.from {
            write!(f, ", from {from}")?;
        }
        f.write_str(")")
    }
}

/// When a configuration is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Occasion {
    /// The process started.
    Start,
    /// SIGHUP.
    Reload,
}

/// A file of the configuration, as it was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadFile {
    /// Its path.
    pub path: String,
    /// The SHA-256 of its bytes, in hex.
    pub sha256: String,
}

/// What was done, with what else is known of it. Never a value of a setting or of a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Act {
    /// A fork's build was approved.
    Approved {
        /// The one commit that was.
        sha: CommitId,
        /// Its pull request.
        pull_request: Option<u64>,
    },
    /// A build was ended before it had an outcome of its own.
    Cancelled,
    /// A finished commit was asked for again.
    Rerun {
        /// The build that is repeated; the entry's is the new one.
        of: BuildId,
        /// False: nothing that other builds left is read.
        cache: bool,
    },
    /// Statuses that the forge had not taken are sent again.
    Resent {
        /// How many.
        statuses: u64,
    },
    /// Something was asked of an agent.
    AgentOrdered {
        /// The agent.
        agent: String,
        /// What.
        order: Order,
    },
    /// A configuration was read and is used from now on.
    ConfigurationLoaded {
        /// When.
        occasion: Occasion,
        /// The files, in the order in which they were read.
        files: Vec<ReadFile>,
        /// What is not as it was before: settings by their names at a reload, files by their paths at a start.
        changed: Vec<String>,
    },
    /// A step was given a secret of the configuration.
    SecretGiven {
        /// The step, by its name in the plan.
        step: String,
        /// The secret's name.
        name: String,
    },
}

impl Act {
    /// The word in the API, on pages and in the terminal.
    pub fn word(&self) -> &'static str {
        match self {
            Act::Approved { .. } => "approved",
            Act::Cancelled => "cancelled",
            Act::Rerun { .. } => "rerun",
            Act::Resent { .. } => "resent",
            Act::AgentOrdered { .. } => "agent_ordered",
            Act::ConfigurationLoaded { .. } => "configuration_loaded",
            Act::SecretGiven { .. } => "secret_given",
        }
    }
}

/// Something that somebody did. `build` and `repo` say to what, where it was done to a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deed {
    /// Who did it.
    pub actor: Actor,
    /// What.
    pub act: Act,
    /// The build that it was done to, or that came of it.
    pub build: Option<BuildId>,
    /// That build's repository.
    pub repo: Option<RepoId>,
}

impl Deed {
    /// What it was, in one sentence for people: `approved a1b2c3d of pull request 7`. Names in it are hostile text.
    pub fn says(&self) -> String {
        let of_build = self.build.map(|id| format!(" #{id}")).unwrap_or_default();
        match &self.act {
            Act::Approved { sha, pull_request: Some(number) } => {
                format!("approved commit {} of pull request {number}", sha.short())
            }
            Act::Approved { sha, pull_request: None } => format!("approved commit {}", sha.short()),
            Act::Cancelled => format!("cancelled{of_build}"),
            Act::Rerun { of, cache: true } => format!("had #{of} built again"),
            Act::Rerun { of, cache: false } => format!("had #{of} built again without caches"),
            Act::Resent { statuses: 1 } => format!("had a status of{of_build} sent again"),
            Act::Resent { statuses } => format!("had {statuses} statuses of{of_build} sent again"),
            Act::AgentOrdered { agent, order: Order::Pause } => format!("paused agent {agent}"),
            Act::AgentOrdered { agent, order: Order::Drain } => format!("let agent {agent} drain"),
            Act::AgentOrdered { agent, order: Order::Run } => format!("let agent {agent} go on"),
            Act::ConfigurationLoaded { occasion, files, changed } => loaded(*occasion, files, changed),
            Act::SecretGiven { step, name } => format!("gave {name} to step {step}"),
        }
    }
}

fn loaded(occasion: Occasion, files: &[ReadFile], changed: &[String]) -> String {
    let from = match files {
        [] => "the environment alone".to_owned(),
        [one] => one.path.clone(),
        [first, more @ ..] => format!("{} and {} more", first.path, more.len()),
    };
    let news = match (occasion, changed) {
        (Occasion::Start, []) => "as at the last start".to_owned(),
        (Occasion::Start, changed) if changed.len() == files.len() => "new or changed".to_owned(),
        (Occasion::Start, changed) => format!("new or changed: {}", some(changed)),
        (Occasion::Reload, []) => "nothing changed".to_owned(),
        (Occasion::Reload, changed) => format!("changed: {}", some(changed)),
    };
    let when = match occasion {
        Occasion::Start => "started with",
        Occasion::Reload => "read again",
    };
    format!("{when} {from}; {news}")
}

/// The first of some names, and how many more there are.
fn some(names: &[String]) -> String {
    const SHOWN: usize = 12;
    match names.len().checked_sub(SHOWN) {
        None | Some(0) => names.join(", "),
        Some(more) => format!("{} and {more} more", names[..SHOWN].join(", ")),
    }
}

/// A deed as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// Its number: rising, never given again.
    pub id: i64,
    /// When it was done.
    pub at: Timestamp,
    /// What was done by whom.
    pub deed: Deed,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deed(act: Act) -> Deed {
        Deed { actor: Actor::process("build-1"), act, build: Some(BuildId(12)), repo: None }
    }

    #[test]
    fn deeds_in_words() {
        let file = |path: &str| ReadFile { path: path.to_owned(), sha256: "00".repeat(32) };
        let load = |occasion, files: &[&str], changed: &[&str]| Act::ConfigurationLoaded {
            occasion,
            files: files.iter().map(|path| file(path)).collect(),
            changed: changed.iter().map(|&key| key.to_owned()).collect(),
        };
        let check = |act: Act, said: &str| {
            let json = serde_json::to_value(&act).expect("an act has a JSON form");
            assert_eq!(json["what"], act.word());
            assert_eq!(serde_json::from_value::<Act>(json).expect("the same form"), act);
            assert_eq!(deed(act).says(), said);
        };
        let sha = || "a1b2c3d4".repeat(5).parse().expect("hex");
        check(Act::Approved { sha: sha(), pull_request: Some(7) }, "approved commit a1b2c3d of pull request 7");
        check(Act::Approved { sha: sha(), pull_request: None }, "approved commit a1b2c3d");
        check(Act::Cancelled, "cancelled #12");
        check(Act::Rerun { of: BuildId(3), cache: true }, "had #3 built again");
        check(Act::Rerun { of: BuildId(3), cache: false }, "had #3 built again without caches");
        check(Act::Resent { statuses: 1 }, "had a status of #12 sent again");
        check(Act::Resent { statuses: 2 }, "had 2 statuses of #12 sent again");
        let order = |order| Act::AgentOrdered { agent: "build-2".to_owned(), order };
        check(order(Order::Pause), "paused agent build-2");
        check(order(Order::Drain), "let agent build-2 drain");
        check(order(Order::Run), "let agent build-2 go on");
        let (start, reload) = (Occasion::Start, Occasion::Reload);
        check(load(start, &["a.toml"], &[]), "started with a.toml; as at the last start");
        check(
            load(start, &["a.toml", "b.toml"], &["b.toml"]),
            "started with a.toml and 1 more; new or changed: b.toml",
        );
        check(load(start, &["a.toml"], &["a.toml"]), "started with a.toml; new or changed");
        check(load(reload, &["a.toml"], &[]), "read again a.toml; nothing changed");
        check(load(reload, &[], &["server.read"]), "read again the environment alone; changed: server.read");
        let given = Act::SecretGiven { step: "bundle".to_owned(), name: "SENTRY_AUTH_TOKEN".to_owned() };
        check(given, "gave SENTRY_AUTH_TOKEN to step bundle");
    }

    #[test]
    fn who_it_was() {
        let who = |via, from: Option<&str>| Actor { who: "admin".to_owned(), via, from: from.map(str::to_owned) };
        assert_eq!(who(Via::Token, Some("10.0.0.7")).to_string(), "admin (admin token, from 10.0.0.7)");
        assert_eq!(who(Via::Session, None).to_string(), "admin (signed in)");
        assert_eq!(Actor::process("build-1").to_string(), "build-1 (by itself)");
        assert_eq!("token".parse(), Ok(Via::Token));
        assert!("ssh".parse::<Via>().is_err());
    }
}

//! One build from its checkout to its verdict.
//!
//! [`build`](build::build) is the story; `stage` runs steps side by side; [`environment`] is the one place where a
//! step's environment is made; [`diagnosis`] says whose fault a failure is. The runner knows no store and no HTTP: it
//! tells what [happens](Happening) and whoever listens keeps it.

mod artifacts;
mod budget;
pub mod build;
mod checkout;
mod course;
pub mod diagnosis;
pub mod downloads;
pub mod environment;
pub mod flat;
pub mod follow;
mod keeping;
pub mod observer;
mod pending;
mod phases;
mod planning;
mod reach;
mod remains;
mod restore;
mod secrets;
mod stage;
mod tools;
mod workspace;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use crate::blobs::Artifacts;
use crate::cache::Cache;
use crate::config::root::Root;
use crate::config::secret::Secret;
use crate::config::server::{self, Network, Registry};
use crate::confine::Layers;
use crate::domain::build::{Build, BuildId};
use crate::domain::mask::Mask;
use crate::domain::repo::CommitId;
use crate::domain::scripts::Scripts;
use crate::domain::spec::{Decision, Limits};
use crate::domain::step::Step;
use crate::live::cache_tally::CacheTally;

pub use environment::home::GitAccess;
pub use pending::Pending;
pub use secrets::StepSecret;
pub use tools::Toolbox;

/// What is to be built.
#[derive(Debug, Clone)]
pub struct Job {
    /// The build, as it was claimed (or made up, for a local folder).
    pub build: Build,
    /// Where its tree comes from.
    pub source: Source,
    /// The repository's bounds.
    pub limits: Limits,
    /// Whose install scripts run.
    pub scripts: Scripts,
    /// Whether the bundle may reach the network.
    pub bundle_network: bool,
    /// What its installs may reach, and whether what is closed is only reported.
    pub sandbox: Arc<server::Sandbox>,
    /// What its steps see instead of this machine's programs.
    pub root: Option<Root>,
    /// The package registries for it; a fork's without their tokens.
    pub registries: Vec<Registry>,
    /// How its installs read private git dependencies; never for a fork.
    pub git: Option<GitAccess>,
    /// Whether anything is kept from build to build of this repository.
    pub cache: bool,
    /// The server's additions to every step's environment.
    pub env: BTreeMap<String, String>,
    /// What some of its steps are given, and what they would be if it were another build.
    pub secrets: Vec<StepSecret>,
    /// Hides every secret that anybody here knows, in all that is told of the build.
    pub mask: Mask,
    /// Commits of the repository that passed, newest first; see [`checkout::Remote`](crate::checkout::Remote). Empty for
    /// a build that somebody asked for by hand.
    pub passed: Vec<CommitId>,
    /// The build's page, without a key; `CI_BUILD_URL`.
    pub url: String,
}

impl Job {
    /// What confines its steps, in one line for its page and log.
    fn sandbox_line(&self, layers: &Layers) -> String {
        self.root.as_ref().map_or_else(|| layers.name(), |root| format!("{}, {root}", layers.name()))
    }
}

/// Where a tree comes from.
#[derive(Debug, Clone)]
pub enum Source {
    /// A forge, through the repository's mirror.
    Forge {
        /// From the configuration, never from a payload.
        clone_url: url::Url,
        /// Sent to that address's scheme, host and port only.
        token: Option<Secret>,
    },
    /// A folder of this machine: its tracked and not ignored files, or one of its commits.
    Folder {
        /// The folder; never written to.
        dir: PathBuf,
        /// The commit, if one was asked for.
        rev: Option<String>,
    },
}

/// What every build of an agent shares.
#[derive(Debug, Clone)]
pub struct Parts {
    /// This program, which is also the checkout's and the holder's.
    pub exe: PathBuf,
    /// Mirrors, slots, tools and trash.
    pub data_dir: PathBuf,
    /// What the host gives for confinement.
    pub layers: Arc<Layers>,
    /// Proxy and certificate authorities.
    pub network: Arc<Network>,
    /// node, npm and the others, as this machine has them.
    pub tools: Toolbox,
    /// Where node comes from when `PATH` has none that fits.
    pub toolchain: Arc<server::Toolchain>,
    /// Where the agent's own tools are installed, if not under `data_dir`: `run` and `demo` share theirs.
    pub shared_tools: Option<PathBuf>,
    /// Where files that builds wrote are kept; `None` keeps none.
    pub artifacts: Option<Artifacts>,
    /// What is kept from build to build.
    pub cache: Cache,
    /// What caches did, for `/metrics`.
    pub tally: CacheTally,
    /// Who keeps something of which repository just now.
    pub pending: Pending,
    /// Told when a fetch left the mirror of a repository with so many packs that they should become one.
    pub crowded: Arc<Notify>,
    /// Bounds the steps that run at once, over all builds of this agent.
    pub permits: Arc<Semaphore>,
}

impl Parts {
    fn tools_dir(&self) -> PathBuf {
        self.shared_tools.as_ref().unwrap_or(&self.data_dir).join("tools")
    }
}

/// What happens in a build, told as it happens.
#[derive(Debug)]
pub enum Happening {
    /// The layers that confine it, by name.
    Sandbox(String),
    /// A sentence for people: two lockfiles, LFS pointers.
    Notice(String),
    /// A decision that could only be taken after the plan: which version of a tool its steps have.
    Decided(Decision),
    /// The build's verdict is another one's, which had the same files: nothing of it runs.
    SameAs(BuildId),
    /// What was checked out.
    CheckedOut(CommitId),
    /// Every step, the checkout first, and the account of the plan.
    Planned {
        /// In plan order.
        steps: Vec<Step>,
        /// For `--explain`.
        decisions: Vec<Decision>,
    },
    /// A step moved. The number is its place in the plan, 0 for the checkout.
    Step(usize, Step),
    /// A step is given these secrets, by their names.
    Given {
        /// The step's name.
        step: String,
        /// The variables, never their values.
        names: Vec<String>,
    },
    /// A step wrote this.
    Output(usize, Bytes),
}

/// Tells what happens. Waits when the listener is slow, so that nothing piles up.
#[derive(Debug, Clone)]
pub struct Tell {
    listener: mpsc::Sender<Happening>,
    mask: Mask,
}

impl Tell {
    /// How many happenings wait for a slow listener before steps do.
    const BACKLOG: usize = 64;

    /// A teller and its listener's end.
    pub fn channel() -> (Tell, mpsc::Receiver<Happening>) {
        let (sender, receiver) = mpsc::channel(Self::BACKLOG);
        (Tell { listener: sender, mask: Mask::default() }, receiver)
    }

    /// The same, with every secret hidden in what it tells.
    fn hiding(self, mask: &Mask) -> Tell {
        Tell { mask: mask.clone(), ..self }
    }

    /// Tells one thing. A listener that went away is no fault of the build's.
    pub async fn that(&self, happening: Happening) {
        let happening = if self.mask.is_empty() { happening } else { self.masked(happening) };
        let _ = self.listener.send(happening).await;
    }

    /// Tells what a step wrote, which came through [`Mask::stream`].
    async fn output(&self, place: usize, bytes: Bytes) {
        if !bytes.is_empty() {
            let _ = self.listener.send(Happening::Output(place, bytes)).await;
        }
    }

    /// What we say ourselves repeats what programs, registries and forges said.
    fn masked(&self, happening: Happening) -> Happening {
        let text = |text: String| self.mask.text(text);
        let decision = |Decision { seen, decided, because }| Decision {
            seen: text(seen),
            decided: text(decided),
            because: text(because),
        };
        let step = |step: Step| Step {
            reason: step.reason.map(text),
            mend: step.mend.map(text),
            cache_note: step.cache_note.map(text),
            ..step
        };
        match happening {
            Happening::Notice(notice) => Happening::Notice(text(notice)),
            Happening::Decided(one) => Happening::Decided(decision(one)),
            Happening::Planned { steps, decisions } => Happening::Planned {
                steps: steps.into_iter().map(step).collect(),
                decisions: decisions.into_iter().map(decision).collect(),
            },
            Happening::Step(place, one) => Happening::Step(place, step(one)),
            Happening::Output(place, bytes) => {
                Happening::Output(place, self.mask.bytes(&bytes).map_or(bytes, Bytes::from))
            }
            other @ (Happening::Sandbox(_)
            | Happening::SameAs(_)
            | Happening::CheckedOut(_)
            | Happening::Given { .. }) => other,
        }
    }
}

/// Asks a build to stop: its steps are ended by the stop protocol and the verdict is *cancelled*.
pub type Stop = CancellationToken;

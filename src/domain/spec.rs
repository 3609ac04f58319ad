//! A step as data, and the plan that orders steps.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::cpus::Cpus;
use super::step::StepKind;

/// What a step may reach over the network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// The host's network as it is.
    Open,
    /// Only its own loopback.
    Closed,
    /// What installs need: package registries, and what else the server lists for them.
    Registries,
    /// Only these, as `host:port` or `*.host:port`.
    Hosts(Vec<String>),
}

/// [`Wanted::asked_by`] where no file says anything: the agent's own tool, or the usual one.
pub const NOBODY: &str = "no file";

/// A tool that a step needs, in the version that somebody asked for.
///
/// Made by the plan from what the repository says, fulfilled by the toolchain.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Wanted {
    /// `node`, `npm`, `yarn`, `pnpm`, `bun` or `bower`.
    pub tool: String,
    /// A version or range as npm reads them (`20.11.1`, `>=18 <21`, `22`, `*`); for node also `lts/*`, `lts/iron`, `latest`.
    /// `*` for a manager is the one that fits the node beside it.
    pub version: String,
    /// Who asked, for messages: `.nvmrc`, `package.json packageManager`, `[toolchain] node`.
    pub asked_by: String,
    /// What the repository says its archive hashes to, as in `packageManager`: `sha512.<hex>`, `sha224.<hex>`.
    pub hash: Option<String>,
}

/// One command of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepSpec {
    /// Unique in its plan: `npm`, `bower:client`, `bundle`, a check's name.
    pub name: String,
    /// The tool in the status context: `npm`, `bower`, `bundle`, a check's name.
    pub tool: String,
    /// What it does.
    pub kind: StepKind,
    /// Program and arguments. Never passed through a shell, unless the program is one.
    pub argv: Vec<String>,
    /// Where it runs, relative to the tree's root; `.` is the root.
    pub dir: String,
    /// What runs after it within the same step, one after another, each if all before it succeeded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub then: Vec<FollowUp>,
    /// What the repository file adds to the environment for this step.
    pub env: BTreeMap<String, String>,
    /// What must be on its `PATH` beside the system's folders: at most one node and one of each manager.
    /// Empty for a step that starts nothing of ours.
    pub tools: Vec<Wanted>,
    /// What it may reach.
    pub network: Network,
    /// After this time it is stopped and the build has timed out.
    pub timeout: Duration,
    /// A failure is shown but does not fail the build.
    pub allow_failure: bool,
    /// How often a failure (not an outage) is tried again.
    pub retry: u32,
}

/// One more program of a step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowUp {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Where it runs, relative to the tree's root.
    pub dir: String,
}

impl StepSpec {
    /// Its programs with their folders, in order.
    pub fn programs(&self) -> impl Iterator<Item = (&[String], &str)> {
        let then = self.then.iter().map(|then| (then.argv.as_slice(), then.dir.as_str()));
        std::iter::once((self.argv.as_slice(), self.dir.as_str())).chain(then)
    }
}

/// Steps that run side by side.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// In the order of the plan; that is also the order of pages and logs.
    pub steps: Vec<StepSpec>,
}

/// What a build will do: stages in order.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// May be empty: nothing to do is a pass that says so.
    pub stages: Vec<Stage>,
    /// Things a person should know: two lockfiles, LFS pointers. One sentence each.
    pub notices: Vec<String>,
    /// The account of `--explain`: files seen → decision → reason.
    pub decisions: Vec<Decision>,
}

impl Plan {
    /// Every step in plan order.
    pub fn steps(&self) -> impl Iterator<Item = &StepSpec> {
        self.stages.iter().flat_map(|stage| &stage.steps)
    }
}

/// How a plan came about, as it is kept with its build: what a person should know, and every decision.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// The notices of checkout, plan and run, one sentence each, in the order in which they were given.
    pub notices: Vec<String>,
    /// Files seen → decision → reason, in the order of the plan.
    pub decisions: Vec<Decision>,
}

/// One line of the account of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// What was seen: `package-lock.json`.
    pub seen: String,
    /// What follows: `npm ci`.
    pub decided: String,
    /// The rule: `a package-lock.json belongs to npm`.
    pub because: String,
}

/// The bounds of a build. The repository file may lower them, never raise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// For one step.
    pub step_timeout: Duration,
    /// For the whole build, checkout included.
    pub build_timeout: Duration,
    /// Bytes of memory a step may use.
    pub memory: u64,
    /// Processes a step may have.
    pub processes: u64,
    /// Processors a step may use; `None` is all of them, each step's share alike.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<Cpus>,
    /// Bytes kept of a step's output.
    pub log_per_step: u64,
    /// Files that a commit may bring.
    pub checkout_files: u64,
    /// Bytes that a commit may bring.
    pub checkout_bytes: u64,
}

/// A step's command with everything that its process needs, as the runner hands it to the holder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepCommand {
    /// Program and arguments; the program is looked up on the step's own `PATH`.
    pub argv: Vec<String>,
    /// The whole environment; nothing is inherited.
    pub env: BTreeMap<String, String>,
    /// Where it runs, relative to the tree's root; `.` is the root.
    pub dir: String,
    /// What it may reach.
    pub network: Network,
    /// How many processes it may have.
    pub processes: u64,
    /// How many bytes of memory all of them may use.
    pub memory: u64,
    /// How much of the processors, if that is bounded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpus: Option<Cpus>,
}

//! From the files of a tree to what a build will do. Pure: no disk, no process, no clock.
//!
//! What the repository file asks for wins, what it leaves open is detected, and every file that
//! was looked at leaves a line in [`Plan::decisions`], so that `--explain` can tell the whole story.
//! Stages: the installs side by side; then what bundles, stage by stage, the first beside the checks
//! that need only the dependencies; then the checks that need the bundle.

mod account;
mod bower;
mod bundle;
mod freshness;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod installs;
mod javascript;
mod listed;
mod manifest;
mod nested;
mod roots;
mod scripts;
mod versions;
mod wishes;
mod workspaces;

use std::collections::BTreeSet;
use std::time::Duration;

use crate::domain::listing::Listing;
use crate::domain::scripts::Scripts;
use crate::domain::spec::{Network, Plan, Stage, StepSpec, Wanted};
use crate::domain::step::StepKind;

pub use wishes::{After, BundleWish, CheckWish, InstallWish, Wishes};

use account::Account;
use roots::Project;

/// What the server has to say about plans.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanSettings {
    /// The longest that a step may run; a repository may ask for less.
    pub step_timeout: Duration,
    /// Whose install scripts run.
    pub scripts: Scripts,
    /// The node for repositories that ask for none.
    pub node: Wanted,
    /// Whether bundle and checks may reach the network without asking.
    pub network: bool,
}

/// Why no plan could be made. The repository's fault: the build fails with this text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPlan {
    /// A manifest that can't be read.
    #[error("{file} is not JSON: {why}")]
    NotJson {
        /// The manifest's path.
        file: String,
        /// What the parser says, with line and column.
        why: String,
    },
    /// A manifest that is a link, and leads to no file of the tree.
    #[error("{file} is a link to {target:?}, which is no file of the repository; commit the file itself")]
    Dangling {
        /// The manifest's path.
        file: String,
        /// Where the link points.
        target: String,
    },
    /// A version that no tool has.
    #[error("{place}: {version:?} is no version of {tool}; write one like {example}")]
    BadVersion {
        /// The file, and where in it.
        place: String,
        /// The tool.
        tool: String,
        /// What was written.
        version: String,
        /// One that would be understood.
        example: &'static str,
    },
    /// A manifest that was not read because of its size.
    #[error("{file} is larger than 2 MiB; a manifest of that size is not read")]
    TooLarge {
        /// The manifest's path.
        file: String,
    },
    /// A folder outside the tree.
    #[error(".hookmill.toml: dir = {dir:?} of {step} leaves the repository; write a folder inside it")]
    BadDir {
        /// The step that asks for it.
        step: String,
        /// What was written.
        dir: String,
    },
    /// A folder without the manifest that its tool needs.
    #[error(".hookmill.toml: [[install]] {tool} in {dir:?}, but there is no {manifest}; correct dir or give a command")]
    NoManifest {
        /// The tool.
        tool: String,
        /// The folder.
        dir: String,
        /// What is missing.
        manifest: String,
    },
    /// A tool that we have no command for.
    #[error(".hookmill.toml: [[install]] tool = {tool:?} needs a command (npm, yarn, pnpm, bun and bower have one)")]
    NoCommand {
        /// What was written.
        tool: String,
    },
    /// `command = []`.
    #[error(".hookmill.toml: the command of {step} is empty")]
    EmptyCommand {
        /// The step.
        step: String,
    },
    /// Two steps of one name, or a check that takes another step's name.
    #[error(".hookmill.toml: two steps are called {name:?}; give the check or install another name or folder")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// Scripts of some packages, where a manager keeps packages in archives.
    #[error(
        "the server runs install scripts of listed packages only, and none can be run with Yarn's Plug'n'Play; write nodeLinker: node-modules into {file}"
    )]
    ScriptsOfArchives {
        /// The settings that would have to say so.
        file: String,
    },
    /// A command that would run everybody's install scripts.
    #[error(
        "the server runs install scripts of listed packages only; add --ignore-scripts (yarn 2 and later: --mode=skip-build) to the command of [[install]] {tool}: {command}"
    )]
    ScriptsOfCommand {
        /// The tool.
        tool: String,
        /// What was written.
        command: String,
    },
    /// A check whose name does not fit a status context.
    #[error(".hookmill.toml: {name:?} is no name for a check: 1 to 60 characters, no control characters")]
    BadName {
        /// What was written.
        name: String,
    },
}

/// Decides what a build of this tree will do.
///
/// # Errors
/// The repository's own: a manifest that is not JSON, or wishes that can't be fulfilled.
pub fn plan(listing: &Listing, wishes: &Wishes, settings: &PlanSettings) -> Result<Plan, BadPlan> {
    let mut account = Account::default();
    let steps = Steps { wishes, settings };
    let projects = roots::projects(listing, &steps, &mut account)?;
    let installs = installs::plan(listing, &steps, &projects, &mut account)?;
    let bundles = bundle::plan(listing, &steps, &projects, &installs, &mut account)?;
    if installs.is_empty() && bundles.iter().all(Vec::is_empty) {
        roots::tell_what_was_left(&mut account);
    }
    let mut bundles = bundles.into_iter();
    let mut beside = bundles.next().unwrap_or_default();
    let mut after = Vec::new();
    for check in &wishes.checks {
        let step = steps.check(listing, check, &projects, &mut account)?;
        match check.after {
            After::Install => beside.push(step),
            After::Bundle => after.push(step),
        }
    }
    account.rest_of(listing, wishes)?;
    let stages = [installs, beside].into_iter().chain(bundles).chain([after]);
    let plan = Plan {
        stages: stages.filter(|steps| !steps.is_empty()).map(|steps| Stage { steps }).collect(),
        notices: account.notices,
        decisions: account.decisions,
    };
    names_are_unique(&plan)?;
    Ok(plan)
}

fn names_are_unique(plan: &Plan) -> Result<(), BadPlan> {
    let mut names = BTreeSet::from(["checkout"]);
    match plan.steps().find(|step| !names.insert(&step.name)) {
        Some(step) => Err(BadPlan::Duplicate { name: step.name.clone() }),
        None => Ok(()),
    }
}

/// What every step takes from the wishes and the settings.
struct Steps<'a> {
    wishes: &'a Wishes,
    settings: &'a PlanSettings,
}

impl Steps<'_> {
    /// A step with nothing of its own yet.
    fn step(&self, kind: StepKind, tool: &str, dir: &str, argv: Vec<String>) -> StepSpec {
        let name = match kind {
            StepKind::Install if dir != "." => format!("{tool}:{dir}"),
            _ => tool.to_owned(),
        };
        let network = match (kind, self.settings.network) {
            (StepKind::Install, _) => Network::Registries,
            (_, true) => Network::Open,
            (_, false) => Network::Closed,
        };
        StepSpec {
            name,
            tool: tool.to_owned(),
            kind,
            argv,
            dir: dir.to_owned(),
            then: Vec::new(),
            tools: Vec::new(),
            env: self.wishes.env.clone(),
            network,
            timeout: self.settings.step_timeout,
            allow_failure: false,
            retry: 0,
        }
    }

    /// A wish's timeout, which can only lower the server's.
    fn timeout(&self, step: &str, wished: Option<Duration>, account: &mut Account) -> Duration {
        let longest = self.settings.step_timeout;
        match wished {
            Some(wished) if wished > longest => {
                let (wished, longest) = (humantime::format_duration(wished), humantime::format_duration(longest));
                account.notice(format!("timeout = {wished} of {step} is over the server's {longest}, which holds"));
                self.settings.step_timeout
            }
            Some(wished) => wished,
            None => longest,
        }
    }

    fn check(
        &self,
        listing: &Listing,
        wish: &CheckWish,
        projects: &[Project],
        account: &mut Account,
    ) -> Result<StepSpec, BadPlan> {
        let name = wish.name.as_str();
        if name.trim().is_empty() || name.chars().count() > 60 || name.contains(char::is_control) {
            return Err(BadPlan::BadName { name: name.to_owned() });
        }
        if wish.command.is_empty() {
            return Err(BadPlan::EmptyCommand { step: format!("check {name:?}") });
        }
        let dir = wishes::folder(&format!("check {name:?}"), wish.dir.as_deref())?;
        let mut step = self.step(StepKind::Check, name, &dir, wish.command.clone());
        step.tools = roots::tools_for(listing, self, projects, &dir, &wish.command[0], account)?;
        step.env.extend(wish.env.clone());
        step.timeout = self.timeout(name, wish.timeout, account);
        step.allow_failure = wish.allow_failure;
        step.retry = wish.retry;
        step.network = wish.network.clone().unwrap_or(step.network);
        let because = match wish.after {
            After::Install => "it needs the dependencies, so it runs beside the bundle",
            After::Bundle => "it needs the bundle",
        };
        account.decide(format!(".hookmill.toml [[check]] {name}"), step.argv.join(" "), because);
        Ok(step)
    }
}

/// A path inside a folder of the tree; `.` is the root.
fn inside(dir: &str, file: &str) -> String {
    if dir == "." { file.to_owned() } else { format!("{dir}/{file}") }
}

/// A command's words.
fn words(command: &str) -> Vec<String> {
    command.split(' ').map(str::to_owned).collect()
}

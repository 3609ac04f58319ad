//! What bundles, once the installs are through: the repository's own command, else for every project what its
//! `package.json` and its files speak for.

mod build_script;
mod configuration;
mod package;
mod tools;
mod workspace;

use super::account::Account;
use super::roots::{self, Project};
use super::wishes::folder;
use super::{BadPlan, BundleWish, Steps, inside, words};
use crate::domain::listing::Listing;
use crate::domain::spec::StepSpec;
use crate::domain::step::StepKind;

/// A command that bundles, and where it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Bundle {
    /// From the tree's root.
    dir: String,
    argv: Vec<String>,
}

/// What a rule has to say about a folder.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    /// This bundles it.
    Run(Vec<String>),
    /// Nothing is to be run: something else does it already.
    Done,
    /// The next rule is asked.
    Unknown,
}

/// What every rule looks at.
struct Scene<'a> {
    listing: &'a Listing,
    steps: &'a Steps<'a>,
    projects: &'a [Project],
    installs: &'a [StepSpec],
}

/// What bundles, as stages: those of one stage run side by side, after those of the stages before it.
pub(super) fn plan(
    listing: &Listing,
    steps: &Steps<'_>,
    projects: &[Project],
    installs: &[StepSpec],
    account: &mut Account,
) -> Result<Vec<Vec<StepSpec>>, BadPlan> {
    let nothing_wished = BundleWish::default();
    let wish = steps.wishes.bundle.as_ref().unwrap_or(&nothing_wished);
    let scene = Scene { listing, steps, projects, installs };
    let stages = match (&wish.command, &wish.dir) {
        (Some(command), _) if command.is_empty() => {
            return Err(BadPlan::EmptyCommand { step: "[bundle]".to_owned() });
        }
        (Some(command), dir) => {
            account.decide(".hookmill.toml [bundle]", command.join(" "), "the repository says so");
            vec![vec![Bundle { dir: folder("[bundle]", dir.as_deref())?, argv: command.clone() }]]
        }
        (None, Some(dir)) => scene.folder(&folder("[bundle]", Some(dir))?, account)?,
        (None, None) => scene.every_project(account)?,
    };
    let alone = stages.iter().map(Vec::len).sum::<usize>() == 1;
    let mut planned = Vec::new();
    for stage in stages {
        let steps = stage.into_iter().map(|bundle| step(bundle, alone, wish, &scene, account));
        planned.push(steps.collect::<Result<Vec<_>, _>>()?);
    }
    Ok(planned)
}

/// The step of a bundle: `bundle` for the tree's root and for the only one, else with its folder.
fn step(
    bundle: Bundle,
    alone: bool,
    wish: &BundleWish,
    scene: &Scene<'_>,
    account: &mut Account,
) -> Result<StepSpec, BadPlan> {
    let Bundle { dir, argv } = bundle;
    let mut step = scene.steps.step(StepKind::Bundle, "bundle", &dir, argv);
    if dir != "." && !alone {
        step.name = format!("bundle:{dir}");
    }
    step.tools = roots::tools_for(scene.listing, scene.steps, scene.projects, &dir, &step.argv[0], account)?;
    step.env.extend(wish.env.clone());
    step.timeout = scene.steps.timeout(&step.name, wish.timeout, account);
    step.network = wish.network.clone().unwrap_or(step.network);
    Ok(step)
}

impl Scene<'_> {
    /// The projects side by side; the stages of each in its own order.
    fn every_project(&self, account: &mut Account) -> Result<Vec<Vec<Bundle>>, BadPlan> {
        if self.projects.is_empty() {
            return self.folder(".", account);
        }
        let mut all: Vec<Vec<Bundle>> = Vec::new();
        for project in self.projects {
            if let Some(because) = &project.built_by {
                account.decide(inside(&project.dir, "package.json scripts"), "not built by itself", because);
                continue;
            }
            for (number, stage) in self.folder(&project.dir, account)?.into_iter().enumerate() {
                match all.get_mut(number) {
                    Some(beside) => beside.extend(stage),
                    None => all.push(stage),
                }
            }
        }
        Ok(all)
    }

    /// What bundles a folder: its own build script or configuration, else its workspace, else what its tools do
    /// without being told.
    fn folder(&self, dir: &str, account: &mut Account) -> Result<Vec<Vec<Bundle>>, BadPlan> {
        let package = package::Package::read(self, dir)?;
        let one = |argv| vec![vec![Bundle { dir: dir.to_owned(), argv }]];
        match package.by_itself(account) {
            Answer::Run(argv) => return Ok(one(argv)),
            Answer::Done => return Ok(Vec::new()),
            Answer::Unknown => {}
        }
        let project = self.projects.iter().find(|project| project.dir == dir);
        if let Some(project) = project.filter(|project| !project.members.is_empty()) {
            let stages = workspace::plan(self, project, &package, account)?;
            if !stages.is_empty() {
                return Ok(stages);
            }
        }
        Ok(match package.by_its_tools(account) {
            Answer::Run(argv) => one(argv),
            Answer::Done | Answer::Unknown => {
                package.tell_what_was_not_run(account);
                Vec::new()
            }
        })
    }
}

/// A path as it is written from a folder; `None` for what is not in it.
fn relative<'p>(dir: &str, path: &'p str) -> Option<&'p str> {
    if dir == "." { Some(path) } else { path.strip_prefix(dir)?.strip_prefix('/') }
}

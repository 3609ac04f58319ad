//! The first stage: package managers, side by side.

use std::collections::BTreeSet;

use super::account::Account;
use super::bower;
use super::javascript::{self, Choice};
use super::listed;
use super::manifest::Manifest;
use super::roots::{self, Project};
use super::wishes::folder;
use super::{BadPlan, InstallWish, Steps, inside};
use crate::domain::listing::Listing;
use crate::domain::lockfile::Format;
use crate::domain::scripts::Scripts;
use crate::domain::spec::StepSpec;
use crate::domain::step::StepKind;

/// An install for each project, then lets the wishes replace and add.
pub(super) fn plan(
    listing: &Listing,
    steps: &Steps<'_>,
    projects: &[Project],
    account: &mut Account,
) -> Result<Vec<StepSpec>, BadPlan> {
    let mut planned = Vec::new();
    let taken = wished(steps, |tool| tool != "bower")?;
    for project in projects.iter().filter(|project| !taken.contains(&project.dir)) {
        if project.installs {
            planned.push(javascript_step(listing, project, &project.choice, steps, account)?);
        } else if let Some(sentence) = &project.installed_by {
            account.decide(inside(&project.dir, "package.json"), "no step of its own", sentence);
        } else {
            let because = "it names no dependency and no install script";
            account.decide(inside(&project.dir, "package.json"), "nothing to install", because);
        }
    }
    for wish in steps.wishes.installs.iter().filter(|wish| wish.tool != "bower") {
        planned.extend(fulfil(listing, wish, steps, projects, account)?);
    }
    let taken = wished(steps, |tool| tool == "bower")?;
    planned.extend(bower::plan(listing, steps, projects, &taken, account)?);
    for wish in steps.wishes.installs.iter().filter(|wish| wish.tool == "bower") {
        planned.extend(fulfil(listing, wish, steps, projects, account)?);
    }
    Ok(planned)
}

/// The folders in which the repository file itself decides about such a tool.
fn wished(steps: &Steps<'_>, tool: impl Fn(&str) -> bool) -> Result<BTreeSet<String>, BadPlan> {
    let wishes = steps.wishes.installs.iter().filter(|wish| tool(&wish.tool));
    wishes.map(|wish| folder(&format!("[[install]] {}", wish.tool), wish.dir.as_deref())).collect()
}

fn javascript_step(
    listing: &Listing,
    project: &Project,
    choice: &Choice,
    steps: &Steps<'_>,
    account: &mut Account,
) -> Result<StepSpec, BadPlan> {
    let tool = choice.manager.tool();
    let locked = choice.lockfile.is_some() && choice.stale.is_none();
    let command = choice.manager.install(locked, &steps.settings.scripts);
    match (&choice.lockfile, &choice.stale) {
        (Some(lockfile), None) => {
            account.decide(lockfile, command.join(" "), format!("this lockfile belongs to {tool}"));
            if let Some(old) = listing.lockfiles.get(lockfile).and_then(|lockfile| old_format(lockfile.format)) {
                account.notice(format!("{lockfile} has an old format, {old}"));
            }
        }
        (Some(lockfile), Some(why)) => {
            account.notice(format!("{lockfile} is out of date: {why}; run {tool} install and commit {lockfile}"));
            account.decide(lockfile, command.join(" "), format!("it is out of date: {why}"));
        }
        (None, _) => {
            let manifest = inside(&project.dir, "package.json");
            let because = match script_alone(listing, project) {
                Some(script) => format!("it names no dependency, and its {script} script is part of an install"),
                None => {
                    account.notice(format!(
                        "{manifest} has no lockfile for {tool}: every build may get other versions; commit one"
                    ));
                    "it names dependencies and has no lockfile".to_owned()
                }
            };
            account.decide(manifest, command.join(" "), because);
        }
    }
    let step = steps.step(StepKind::Install, tool, &project.dir, command);
    let then = match &steps.settings.scripts {
        Scripts::Listed(packages) => listed::then(listing, project, choice.manager, packages, account)?,
        Scripts::All | Scripts::None => Vec::new(),
    };
    Ok(StepSpec { tools: project.tools.clone(), then, ..step })
}

/// The script for which a project without any dependency is installed.
fn script_alone(listing: &Listing, project: &Project) -> Option<&'static str> {
    let package = Manifest::read(listing, &project.dir, "package.json").ok()??;
    let nothing_asked = !package.has_dependencies() && project.members.is_empty();
    package.lifecycle_script().filter(|_| nothing_asked)
}

/// What is wrong with a format that today's managers no longer write, and what mends it.
fn old_format(format: Format) -> Option<&'static str> {
    Some(match format {
        Format::Npm(0 | 1) => {
            "lockfileVersion 1 of npm 5 and 6, for which npm asks the registry about every package; run npm install with npm 7 or newer and commit it"
        }
        Format::Pnpm(..=5, _) => "of pnpm 7 and before; run pnpm install with pnpm 9 or newer and commit it",
        Format::YarnModern(..=5) => "of yarn before 3.2; run yarn install with yarn 4 and commit it",
        Format::BunBinary => "bun.lockb; run bun install --save-text-lockfile, commit bun.lock and delete bun.lockb",
        _ => return None,
    })
}

/// The step that an `[[install]]` asks for; `None` for one that is skipped.
fn fulfil(
    listing: &Listing,
    wish: &InstallWish,
    steps: &Steps<'_>,
    projects: &[Project],
    account: &mut Account,
) -> Result<Option<StepSpec>, BadPlan> {
    let tool = wish.tool.as_str();
    let dir = folder(&format!("[[install]] {tool}"), wish.dir.as_deref())?;
    let seen = format!(".hookmill.toml [[install]] {tool} in {dir}");
    if wish.skip {
        account.decide(seen, "not installed", "skip = true");
        return Ok(None);
    }
    let mut step = match &wish.command {
        Some(command) if command.is_empty() => {
            return Err(BadPlan::EmptyCommand { step: format!("[[install]] {tool}") });
        }
        Some(command) => {
            account.decide(seen, command.join(" "), "the repository says so");
            let tools = match tool {
                "bower" => bower::tools(listing, steps, projects, &dir, account)?,
                _ => roots::tools_for(listing, steps, projects, &dir, tool, account)?,
            };
            let then = match &steps.settings.scripts {
                Scripts::Listed(packages) if tool != "bower" => {
                    listed::check_command(wish, command)?;
                    let project = projects.iter().find(|project| project.dir == dir);
                    let project = project.filter(|project| project.choice.manager.tool() == tool);
                    let follow =
                        |project: &Project| listed::then(listing, project, project.choice.manager, packages, account);
                    project.map(follow).transpose()?.unwrap_or_default()
                }
                _ => Vec::new(),
            };
            StepSpec { tools, then, ..steps.step(StepKind::Install, tool, &dir, command.clone()) }
        }
        None => usual(listing, tool, &dir, steps, projects, account)?,
    };
    step.env.extend(wish.env.clone());
    step.timeout = steps.timeout(&step.name, wish.timeout, account);
    Ok(Some(step))
}

/// The usual command of a tool in a folder that the repository file names.
fn usual(
    listing: &Listing,
    tool: &str,
    dir: &str,
    steps: &Steps<'_>,
    projects: &[Project],
    account: &mut Account,
) -> Result<StepSpec, BadPlan> {
    let missing = |manifest: &str| BadPlan::NoManifest {
        tool: tool.to_owned(),
        dir: dir.to_owned(),
        manifest: inside(dir, manifest),
    };
    if tool == "bower" {
        Manifest::read(listing, dir, "bower.json")?.ok_or_else(|| missing("bower.json"))?;
        return bower::install(listing, steps, projects, dir, account);
    }
    let package = Manifest::read(listing, dir, "package.json")?;
    let named = javascript::named(listing, dir, tool, package.as_ref())
        .ok_or_else(|| BadPlan::NoCommand { tool: tool.to_owned() })?;
    // Another wish for the same folder may have given the project its manager; the names of two steps tell then.
    let project = projects.iter().find(|project| project.dir == dir).ok_or_else(|| missing("package.json"))?;
    let choice = if project.choice.manager == named.manager { &project.choice } else { &named };
    javascript_step(listing, project, choice, steps, account)
}

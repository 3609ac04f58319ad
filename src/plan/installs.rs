//! The first stage: package managers, side by side.

use super::account::Account;
use super::javascript::{self, Choice};
use super::manifest::Manifest;
use super::roots::Project;
use super::wishes::folder;
use super::{BadPlan, InstallWish, Steps, inside, words};
use crate::domain::build::StepKind;
use crate::domain::listing::Listing;
use crate::domain::spec::StepSpec;

/// Detects at the root, then lets the wishes replace and add.
pub(super) fn plan(
    listing: &Listing,
    steps: &Steps<'_>,
    projects: &[Project],
    account: &mut Account,
) -> Result<Vec<StepSpec>, BadPlan> {
    let mut planned = Vec::new();
    let package = Manifest::read(listing, ".", "package.json")?;
    let root = projects.iter().find(|project| project.dir == ".");
    if let Some((package, root)) = package.as_ref().zip(root)
        && !wished(steps, &["npm", "yarn", "pnpm", "bun"])?
        && let Some(step) = detect_javascript(package, root, steps, account)
    {
        planned.push(step);
    }
    for wish in steps.wishes.installs.iter().filter(|wish| wish.tool != "bower") {
        planned.extend(fulfil(listing, wish, steps, account)?);
    }
    // Whether package.json runs bower itself matters only when its scripts will run.
    let runs_scripts = steps.settings.scripts && planned.iter().any(|step| step.dir == ".");
    let scripts = package.as_ref().filter(|_| runs_scripts);
    if !wished(steps, &["bower"])?
        && let Some(step) = detect_bower(listing, scripts, steps, account)?
    {
        planned.push(step);
    }
    for wish in steps.wishes.installs.iter().filter(|wish| wish.tool == "bower") {
        planned.extend(fulfil(listing, wish, steps, account)?);
    }
    Ok(planned)
}

/// True when the repository file itself decides about one of these tools at the root.
fn wished(steps: &Steps<'_>, tools: &[&str]) -> Result<bool, BadPlan> {
    for wish in steps.wishes.installs.iter().filter(|wish| tools.contains(&wish.tool.as_str())) {
        if folder(&wish.tool, wish.dir.as_deref())? == "." {
            return Ok(true);
        }
    }
    Ok(false)
}

fn detect_javascript(
    package: &Manifest,
    project: &Project,
    steps: &Steps<'_>,
    account: &mut Account,
) -> Option<StepSpec> {
    let script = package.lifecycle_script().filter(|_| steps.settings.scripts);
    if !package.has_dependencies() && package.workspaces().is_empty() && script.is_none() {
        account.decide("package.json", "nothing to install", "it names no dependency and no install script");
        return None;
    }
    let step = javascript_step(&project.dir, &project.choice, steps, account);
    Some(StepSpec { tools: project.tools.clone(), ..step })
}

fn javascript_step(dir: &str, choice: &Choice, steps: &Steps<'_>, account: &mut Account) -> StepSpec {
    let tool = choice.manager.tool();
    let command = choice.manager.install(choice.lockfile.is_some(), steps.settings.scripts);
    match &choice.lockfile {
        Some(lockfile) => account.decide(lockfile, command.join(" "), format!("this lockfile belongs to {tool}")),
        None => {
            let manifest = inside(dir, "package.json");
            account.notice(format!(
                "{manifest} has no lockfile for {tool}: every build may get other versions; commit one"
            ));
            account.decide(manifest, command.join(" "), "it names dependencies and has no lockfile");
        }
    }
    steps.step(StepKind::Install, tool, dir, command)
}

fn detect_bower(
    listing: &Listing,
    scripts: Option<&Manifest>,
    steps: &Steps<'_>,
    account: &mut Account,
) -> Result<Option<StepSpec>, BadPlan> {
    let Some(bower) = Manifest::read(listing, ".", "bower.json")? else { return Ok(None) };
    if !bower.has_dependencies() {
        account.decide("bower.json", "nothing to install", "it names no dependency");
        return Ok(None);
    }
    if let Some(script) = scripts.and_then(|package| package.lifecycle_script_running("bower")) {
        account.notice(format!("bower runs inside npm's install: the {script} script of package.json starts it; without that script it would run beside npm"));
        account.decide("bower.json", "no step of its own", format!("the {script} script of package.json runs bower"));
        return Ok(None);
    }
    let command = bower_install(steps);
    account.decide(
        "bower.json",
        command.join(" "),
        "bower is the agent's own, so it need not wait for another install",
    );
    Ok(Some(steps.step(StepKind::Install, "bower", ".", command)))
}

/// bower refuses root without being told (inside a sandbox its user is root only in name), asks
/// about statistics on a first run, and prints JSON for a log where a `.bowerrc` has `"json"`.
fn bower_install(steps: &Steps<'_>) -> Vec<String> {
    let mut command =
        words("bower install --allow-root --config.interactive=false --config.analytics=false --config.json=false");
    if !steps.settings.scripts {
        command.push("--config.scripts=false".to_owned());
    }
    command
}

/// The step that an `[[install]]` asks for; `None` for one that is skipped.
fn fulfil(
    listing: &Listing,
    wish: &InstallWish,
    steps: &Steps<'_>,
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
            steps.step(StepKind::Install, tool, &dir, command.clone())
        }
        None => usual(listing, tool, &dir, steps, account)?,
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
    account: &mut Account,
) -> Result<StepSpec, BadPlan> {
    let missing = |manifest: &str| BadPlan::NoManifest {
        tool: tool.to_owned(),
        dir: dir.to_owned(),
        manifest: inside(dir, manifest),
    };
    if tool == "bower" {
        Manifest::read(listing, dir, "bower.json")?.ok_or_else(|| missing("bower.json"))?;
        let command = bower_install(steps);
        account.decide(inside(dir, "bower.json"), command.join(" "), "the repository file names bower in this folder");
        return Ok(steps.step(StepKind::Install, tool, dir, command));
    }
    let package = Manifest::read(listing, dir, "package.json")?;
    let choice = javascript::named(listing, dir, tool, package.as_ref())
        .ok_or_else(|| BadPlan::NoCommand { tool: tool.to_owned() })?;
    package.ok_or_else(|| missing("package.json"))?;
    Ok(javascript_step(dir, &choice, steps, account))
}

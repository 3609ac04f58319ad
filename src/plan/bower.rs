//! bower: beside the other installs, unless one of them runs it by itself.

use std::collections::BTreeSet;

use super::account::Account;
use super::manifest::{LIFECYCLE, Manifest};
use super::roots::{self, Project, install_lines};
use super::{BadPlan, Steps, inside, scripts, versions, words};
use crate::domain::listing::Listing;
use crate::domain::spec::{StepSpec, Wanted};
use crate::domain::step::StepKind;

/// Resolvers that the agent can bring along. Another one is found only where the repository holds it.
const RESOLVERS: [&str; 4] =
    ["bower-npm-resolver", "bower-art-resolver", "bower-nexus3-resolver", "bower-shrinkwrap-resolver-ext"];

/// The installs of every `bower.json` at the root, in a project, or beside a `.bowerrc`; those that `taken` names are
/// somebody else's.
pub(super) fn plan(
    listing: &Listing,
    steps: &Steps<'_>,
    projects: &[Project],
    taken: &BTreeSet<String>,
    account: &mut Account,
) -> Result<Vec<StepSpec>, BadPlan> {
    let mut dirs = BTreeSet::from(["."]);
    dirs.extend(projects.iter().map(|project| project.dir.as_str()));
    dirs.extend(
        listing.paths.iter().filter_map(|path| path.strip_suffix("/.bowerrc")).filter(|dir| roots::may_be(dir)),
    );
    let mut planned = Vec::new();
    let mut seen = BTreeSet::new();
    for dir in dirs.into_iter().filter(|dir| !taken.contains(*dir)) {
        let settings = Settings::read(listing, dir);
        let Some(bower) = Manifest::read(listing, &settings.cwd, "bower.json")? else { continue };
        if !seen.insert(settings.cwd.clone()) || taken.contains(&settings.cwd) {
            continue;
        }
        let file = inside(&settings.cwd, "bower.json");
        if !bower.has_dependencies() {
            account.decide(file, "nothing to install", "it names no dependency");
        } else if let Some((package, script, tool)) = run_by(listing, steps, projects, [dir, &settings.cwd]) {
            account.notice(format!("bower runs inside {tool}'s install: the {script} script of {package} starts it; without that script it would run beside {tool}"));
            account.decide(file, "no step of its own", format!("the {script} script of {package} runs bower"));
        } else {
            planned.push(install(listing, steps, projects, dir, account)?);
        }
    }
    leave_out(listing, projects, &seen, taken, account);
    Ok(planned)
}

/// The step that installs in a folder. Its `bower.json` was looked at.
pub(super) fn install(
    listing: &Listing,
    steps: &Steps<'_>,
    projects: &[Project],
    dir: &str,
    account: &mut Account,
) -> Result<StepSpec, BadPlan> {
    let settings = Settings::read(listing, dir);
    // bower refuses root without being told (inside a sandbox its user is root only in name), asks about statistics
    // on a first run, and prints JSON for a log where a `.bowerrc` has `"json"`.
    let mut command =
        words("bower install --allow-root --config.interactive=false --config.analytics=false --config.json=false");
    if !steps.settings.scripts.run_own() {
        command.push("--config.scripts=false".to_owned());
    }
    let place = settings.directory.as_ref().map(|place| format!("; .bowerrc sends it to {place}"));
    account.decide(
        inside(&settings.cwd, "bower.json"),
        command.join(" "),
        format!("bower is the agent's own, so it need not wait for another install{}", place.unwrap_or_default()),
    );
    let mut step = steps.step(StepKind::Install, "bower", dir, command);
    step.tools = tools(listing, steps, projects, dir, account)?;
    Ok(step)
}

/// What bower needs on its `PATH` in a folder, resolvers included.
pub(super) fn tools(
    listing: &Listing,
    steps: &Steps<'_>,
    projects: &[Project],
    dir: &str,
    account: &mut Account,
) -> Result<Vec<Wanted>, BadPlan> {
    let mut tools = roots::tools_for(listing, steps, projects, dir, "bower", account)?;
    let file = inside(dir, ".bowerrc");
    if !tools.iter().any(|tool| tool.tool == "bower") {
        tools.push(versions::any("bower", &inside(dir, "bower.json")));
    }
    for resolver in Settings::read(listing, dir).resolvers {
        // A path is the repository's own code, which runs in the step.
        if RESOLVERS.contains(&resolver.as_str()) {
            tools.push(versions::any(&resolver, &format!("{file} resolvers")));
        } else if !resolver.starts_with(['.', '/']) {
            account.notice_once(format!(
                "{file} asks for the resolver {resolver}, which the agent does not have; it knows {}: commit it and write \"./path\", or run bower in a postinstall script of package.json",
                RESOLVERS.join(", ")
            ));
        }
    }
    Ok(tools)
}

/// What `.bowerrc` says, as far as a plan needs it. One that can't be read is bower's to complain about.
struct Settings {
    /// Where `bower.json` is.
    cwd: String,
    directory: Option<String>,
    resolvers: Vec<String>,
}

impl Settings {
    fn read(listing: &Listing, dir: &str) -> Self {
        let file = Manifest::read(listing, dir, ".bowerrc").ok().flatten();
        let text = |field: &str| file.as_ref().and_then(|file| file.text(field)).map(str::to_owned);
        let resolvers = file.iter().flat_map(|file| file.texts("resolvers")).map(str::to_owned).collect();
        let cwd = text("cwd").and_then(|cwd| scripts::joined(dir, &cwd)).unwrap_or_else(|| dir.to_owned());
        Self { cwd, directory: text("directory"), resolvers }
    }
}

/// The script of an install that runs bower in one of these folders: its manifest, its name, its manager.
fn run_by(
    listing: &Listing,
    steps: &Steps<'_>,
    projects: &[Project],
    dirs: [&str; 2],
) -> Option<(String, &'static str, &'static str)> {
    // Whether package.json runs bower itself matters only when its scripts will run.
    projects.iter().filter(|project| project.is_installed() && steps.settings.scripts.run_own()).find_map(|project| {
        let package = Manifest::read(listing, &project.dir, "package.json").ok()??;
        let script = LIFECYCLE.into_iter().find(|script| {
            let commands = scripts::commands(&package, &project.dir, script);
            commands.iter().any(|command| command.installs("bower").is_some_and(|dir| dirs.contains(&dir.as_str())))
        })?;
        Some((inside(&project.dir, "package.json"), script, project.choice.manager.tool()))
    })
}

/// Accounts for every other `bower.json`, of which a tree with committed components has many.
fn leave_out(
    listing: &Listing,
    projects: &[Project],
    seen: &BTreeSet<String>,
    taken: &BTreeSet<String>,
    account: &mut Account,
) {
    const LISTED: usize = 5;
    let others = listing.paths.iter().filter_map(|path| path.strip_suffix("/bower.json"));
    let others = others.filter(|dir| roots::may_be(dir) && !seen.contains(*dir) && !taken.contains(*dir));
    let others: Vec<&str> = others.collect();
    for dir in others.iter().take(LISTED) {
        let reason = match roots::covering(projects, dir) {
            Some(_) => "neither a project nor a .bowerrc is in its folder",
            None => "no .bowerrc is in its folder",
        };
        account.leave_out(&inside(dir, "bower.json"), reason, &install_lines(dir, "bower"));
    }
    if others.len() > LISTED {
        account.decide(
            format!("{} more bower.json in sub-folders", others.len() - LISTED),
            "not installed",
            "neither a project nor a .bowerrc is in their folders",
        );
    }
}

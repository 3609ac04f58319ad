//! What the scripts that a build runs do beyond their own project's install: folders that they install or build, and
//! package managers that they start.

use super::account::Account;
use super::manifest::{LIFECYCLE, Manifest};
use super::roots::Project;
use super::{BadPlan, Steps, inside, javascript, scripts, versions};
use crate::domain::listing::Listing;
use crate::domain::spec::{NOBODY, Network, Wanted};

const MANAGERS: [&str; 4] = ["npm", "yarn", "pnpm", "bun"];

/// The sentence that a script of an install, or of a build that may reach the network, installs this folder.
pub(super) fn installed_by(listing: &Listing, steps: &Steps<'_>, projects: &[Project], dir: &str) -> Option<String> {
    projects.iter().find_map(|project| {
        let package = Manifest::read(listing, &project.dir, "package.json").ok()??;
        // Without network a build's own install could only fail, unless all is there before it.
        let bundle = steps.wishes.bundle.as_ref();
        let open = bundle
            .and_then(|bundle| bundle.network.as_ref())
            .map_or(steps.settings.network, |network| !matches!(network, Network::Closed));
        let build = ["build"].iter().filter(|_| open && bundle.is_none_or(|bundle| bundle.command.is_none()));
        let mut names = lifecycle(steps, project).chain(build.copied());
        names.find_map(|script| {
            let commands = scripts::commands(&package, &project.dir, script);
            let installs = |tool: &&str| commands.iter().any(|command| command.installs(tool).as_deref() == Some(dir));
            let file = inside(&project.dir, "package.json");
            MANAGERS.iter().any(installs).then(|| format!("the {script} script of {file} installs it"))
        })
    })
}

/// The `build` script of another project that works in `dir`, or a script of its install that builds there, in words.
pub(super) fn built_by(listing: &Listing, steps: &Steps<'_>, projects: &[Project], dir: &str) -> Option<String> {
    projects.iter().filter(|project| project.dir != dir).find_map(|project| {
        let package = Manifest::read(listing, &project.dir, "package.json").ok()??;
        let builds_there = |script: &str| {
            scripts::commands(&package, &project.dir, script).iter().any(|command| {
                let builds = script == "build" || command.words().iter().any(|word| word.contains("build"));
                builds && command.folder().as_deref() == Some(dir)
            })
        };
        let script = ["build"].into_iter().chain(lifecycle(steps, project)).find(|script| builds_there(script))?;
        Some(format!("the {script} script of {} works in this folder", inside(&project.dir, "package.json")))
    })
}

/// The scripts that the install of a project runs by itself.
fn lifecycle(steps: &Steps<'_>, project: &Project) -> impl Iterator<Item = &'static str> {
    let run = steps.settings.scripts.run_own() && project.is_installed();
    LIFECYCLE.into_iter().filter(move |_| run)
}

/// The managers beside a project's own that its scripts start: an npm project whose `prepare` enters a folder of yarn's.
/// Each in the version that the folder speaks for in which it starts.
pub(super) fn managers(
    listing: &Listing,
    steps: &Steps<'_>,
    dir: &str,
    package: &Manifest,
    known: &[Wanted],
    account: &mut Account,
) -> Result<Vec<Wanted>, BadPlan> {
    let mut found: Vec<Wanted> = Vec::new();
    for script in run_by_a_build(steps, package) {
        for command in scripts::commands(package, dir, script) {
            for tool in MANAGERS.iter().filter(|tool| command.starts(tool) && package.dependency(tool).is_none()) {
                let has = |wanted: &Wanted| wanted.tool == *tool;
                let (Some(folder), false) = (command.folder(), known.iter().chain(&found).any(has)) else { continue };
                let manifest = Manifest::read(listing, &folder, "package.json").ok().flatten();
                let Some(choice) = javascript::named(listing, &folder, tool, manifest.as_ref()) else { continue };
                let wanted = versions::manager(listing, steps, &folder, &choice, account)?;
                let asked_by = match wanted.asked_by.as_str() {
                    NOBODY => inside(dir, &format!("package.json scripts.{script}")),
                    asked_by => asked_by.to_owned(),
                };
                found.push(Wanted { asked_by, ..wanted });
            }
        }
    }
    Ok(found)
}

/// The scripts that a build of this project may run. What only a person starts (`release`, `dev`) needs no tool here.
fn run_by_a_build<'a>(steps: &'a Steps<'_>, package: &'a Manifest) -> impl Iterator<Item = &'a str> {
    let lifecycle = LIFECYCLE.into_iter().filter(|_| steps.settings.scripts.run_own());
    let named = |name: &&str| {
        let bundle = steps.wishes.bundle.iter().filter_map(|bundle| bundle.command.as_ref());
        let mut commands = steps.wishes.checks.iter().map(|check| &check.command).chain(bundle);
        commands.any(|command| command.iter().any(|word| word == name))
    };
    let builds = |name: &&str| match package.script("build") {
        Some(_) => *name == "build",
        None => name.contains("build") || name.contains("prod"),
    };
    lifecycle.chain(package.script_names().filter(move |name| named(name) || builds(name)))
}

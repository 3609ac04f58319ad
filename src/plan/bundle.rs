//! The bundle: the repository's own command, else webpack by its configuration, else the build script.

use super::account::Account;
use super::javascript::{self, Manager};
use super::manifest::{Manifest, major};
use super::roots::{self, Project};
use super::wishes::folder;
use super::{BadPlan, BundleWish, Steps, inside, words};
use crate::domain::build::StepKind;
use crate::domain::listing::Listing;
use crate::domain::spec::StepSpec;

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
    let dir = folder("[bundle]", wish.dir.as_deref())?;
    let command = match &wish.command {
        Some(command) if command.is_empty() => return Err(BadPlan::EmptyCommand { step: "[bundle]".to_owned() }),
        Some(command) => {
            account.decide(".hookmill.toml [bundle]", command.join(" "), "the repository says so");
            Some(command.clone())
        }
        None => detect(listing, &dir, installs, account)?,
    };
    let Some(command) = command else { return Ok(Vec::new()) };
    let mut step = steps.step(StepKind::Bundle, "bundle", &dir, command);
    step.tools = roots::tools_for(listing, steps, projects, &dir, &step.argv[0], account)?;
    step.env.extend(wish.env.clone());
    step.timeout = steps.timeout("bundle", wish.timeout, account);
    step.network = wish.network.clone().unwrap_or(step.network);
    Ok(vec![vec![step]])
}

fn detect(
    listing: &Listing,
    dir: &str,
    installs: &[StepSpec],
    account: &mut Account,
) -> Result<Option<Vec<String>>, BadPlan> {
    let package = Manifest::read(listing, dir, "package.json")?;
    // In a workspace the bundler is often a dependency of the root.
    let root = if dir == "." { None } else { Manifest::read(listing, ".", "package.json")? };
    let manager = manager(listing, dir, package.as_ref(), installs);
    let build = package.as_ref().and_then(|package| package.script("build"));
    if let Some(config) = configuration(listing, dir) {
        match webpack(listing, &config, dir, [package.as_ref(), root.as_ref()], manager) {
            Ok(command) => {
                account.decide(config, command.join(" "), "a webpack configuration, and webpack is a dependency");
                if let Some(build) = build {
                    let because = format!(
                        "webpack's configuration goes first; to run it ({build}), write it as [bundle] command"
                    );
                    account.decide(inside(dir, "package.json scripts.build"), "not run", because);
                }
                return Ok(Some(command));
            }
            Err(because) => {
                if build.is_none() {
                    account.notice(format!("{config} is there, but webpack was not run: {because}"));
                }
                account.decide(config, "not run by itself", because);
            }
        }
    }
    let Some(build) = build else { return Ok(None) };
    let command = manager.run("build");
    account.decide(inside(dir, "package.json scripts.build"), command.join(" "), format!("the build script: {build}"));
    Ok(Some(command))
}

/// The manager that installs this folder, or the one that its lockfiles speak for.
fn manager(listing: &Listing, dir: &str, package: Option<&Manifest>, installs: &[StepSpec]) -> Manager {
    let at = |dir: &str| {
        let mut here = installs.iter().filter(|step| step.dir == dir);
        here.find_map(|step| Some(javascript::named(listing, dir, &step.tool, package)?.manager))
    };
    // What it would notice about lockfiles was noticed by the installs already.
    let by_lockfile = || Some(javascript::detect(listing, dir, package?, &mut Account::default()).manager);
    at(dir).or_else(|| at(".")).or_else(by_lockfile).unwrap_or(Manager::Npm)
}

/// The configuration that webpack's own command finds, else the one for production.
fn configuration(listing: &Listing, dir: &str) -> Option<String> {
    let names = |prefix: &'static str| {
        let here = listing.paths.iter().filter(move |path| {
            let name =
                if dir == "." { Some(path.as_str()) } else { path.strip_prefix(dir).and_then(|p| p.strip_prefix('/')) };
            name.is_some_and(|name| name.strip_prefix(prefix).is_some_and(|rest| EXTENSIONS.contains(&rest)))
        });
        here.min_by_key(|path| EXTENSIONS.iter().position(|extension| path.ends_with(extension)))
    };
    ["webpack.config.", "webpackfile.", "webpack.config.prod.", "webpack.config.production."]
        .into_iter()
        .find_map(names)
        .cloned()
}

/// Extensions that webpack-cli loads, the likely ones first.
const EXTENSIONS: [&str; 10] = ["js", "cjs", "mjs", "ts", "cts", "mts", "babel.js", "coffee", "ls", "json"];

/// webpack's command, or why it can't be run directly.
///
/// It is started by its name from `node_modules/.bin`, which is first on a step's PATH: `npx` would
/// find the same file 0.3 s later, and could ask the registry for one that is not there.
fn webpack(
    listing: &Listing,
    config: &str,
    dir: &str,
    manifests: [Option<&Manifest>; 2],
    manager: Manager,
) -> Result<Vec<String>, String> {
    let asked = |name: &str| manifests.into_iter().flatten().find_map(|manifest| manifest.dependency(name));
    let (webpack, cli) = (asked("webpack"), asked("webpack-cli"));
    if webpack.is_none() && cli.is_none() {
        return Err("neither webpack nor webpack-cli is a dependency in package.json".to_owned());
    }
    // Before webpack 4 its own command did what webpack-cli does since, and knew no --mode.
    let old = webpack.and_then(major).is_some_and(|major| major < 4);
    if cli.is_none() && !old {
        return Err("webpack needs webpack-cli, which is not a dependency in package.json".to_owned());
    }
    let mut command = words(if old { "webpack -p" } else { "webpack --mode production" });
    let file = if dir == "." { config } else { config.strip_prefix(dir).unwrap_or(config).trim_start_matches('/') };
    let found_by_itself = file.strip_prefix("webpack.config.").is_some_and(|rest| EXTENSIONS.contains(&rest));
    if !found_by_itself {
        command.extend(["--config".to_owned(), file.to_owned()]);
    }
    // Plug'n'Play has no node_modules/.bin: there only yarn knows where webpack is.
    if manager == Manager::YarnModern && listing.has(".yarnrc.yml") {
        command.splice(0..0, words("yarn run"));
    }
    Ok(command)
}

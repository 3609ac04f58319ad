//! `scripts = "listed"`: an install runs nobody's scripts, then those of the packages that the server lists and the
//! repository's own.
//!
//! Each manager has a list of its own in the repository (`onlyBuiltDependencies`, `trustedDependencies`, `allowScripts`,
//! `dependenciesMeta`). None of them counts here: whoever writes a pull request writes them too.

use std::collections::BTreeSet;

use super::account::Account;
use super::javascript::Manager;
use super::manifest::Manifest;
use super::roots::Project;
use super::{BadPlan, InstallWish, inside, words};
use crate::domain::listing::Listing;
use crate::domain::spec::FollowUp;

/// The repository's own scripts that belong to an install, in the order in which npm 7 and later run them, after it.
const OWN: [&str; 7] = ["preinstall", "install", "postinstall", "prepublish", "preprepare", "prepare", "postprepare"];

/// What keeps an install from running scripts; one of these is in every command of ours.
const IGNORES: [&str; 3] = ["--ignore-scripts", "--ignore-scripts=true", "--mode=skip-build"];

/// What follows an install that ran nothing.
pub(super) fn then(
    listing: &Listing,
    project: &Project,
    manager: Manager,
    packages: &BTreeSet<String>,
    account: &mut Account,
) -> Result<Vec<FollowUp>, BadPlan> {
    let mut then = Vec::new();
    if !packages.is_empty() {
        if manager == Manager::YarnModern && !has_node_modules(listing, &project.dir) {
            return Err(BadPlan::ScriptsOfArchives { file: inside(&project.dir, ".yarnrc.yml") });
        }
        // What only a member of a pnpm workspace asks for is linked there alone.
        let members = project.members.iter().filter(|_| manager == Manager::Pnpm).map(|member| member.dir.clone());
        let dirs = std::iter::once(project.dir.clone()).chain(members);
        then.extend(dirs.map(|dir| FollowUp { argv: rebuild(packages), dir }));
    }
    // Members first, as managers do: the root's may use what they made.
    let members = project.members.iter().map(|member| member.dir.as_str());
    for dir in members.chain([project.dir.as_str()]) {
        let Some(manifest) = Manifest::read(listing, dir, "package.json")? else { continue };
        // yarn 2 and later run `prepare` when they pack, not when they install.
        let own = if manager == Manager::YarnModern { &OWN[..3] } else { &OWN[..] };
        for script in own.iter().filter(|script| manifest.script(script).is_some()) {
            let argv = vec![manager.tool().to_owned(), "run".to_owned(), (*script).to_owned()];
            then.push(FollowUp { argv, dir: dir.to_owned() });
        }
    }
    for FollowUp { argv, dir } in &then {
        let because =
            "the server runs install scripts of listed packages and the repository's own (scripts = \"listed\")";
        account.decide(inside(dir, "package.json"), format!("then {}", argv.join(" ")), because);
    }
    Ok(then)
}

/// The command that runs the scripts of these packages, wherever they are in the tree, and of no others. No manager but npm
/// has one that does not ask the repository's own lists first; npm reads what any of them installed.
fn rebuild(packages: &BTreeSet<String>) -> Vec<String> {
    let mut command = words("npm rebuild --ignore-scripts=false --foreground-scripts");
    command.extend(packages.iter().cloned());
    command
}

/// Whether Berry installs into `node_modules`; its own default are archives that nothing else can open.
fn has_node_modules(listing: &Listing, dir: &str) -> bool {
    let text = listing.text(&inside(dir, ".yarnrc.yml")).unwrap_or_default();
    let mut linkers = text.lines().filter_map(|line| line.strip_prefix("nodeLinker:"));
    linkers.next_back().is_some_and(|linker| linker.trim().trim_matches(['"', '\'']) == "node-modules")
}

/// A repository's own command must leave scripts alone by itself: not every manager heeds a variable that says so.
pub(super) fn check_command(wish: &InstallWish, command: &[String]) -> Result<(), BadPlan> {
    if command.iter().any(|word| IGNORES.contains(&word.as_str())) {
        return Ok(());
    }
    Err(BadPlan::ScriptsOfCommand { tool: wish.tool.clone(), command: command.join(" ") })
}

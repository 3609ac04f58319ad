//! Which of npm, yarn, pnpm and bun a folder belongs to, and their commands.

use super::account::Account;
use super::manifest::{Manifest, major};
use super::{inside, versions, words};
use crate::domain::listing::Listing;
use crate::domain::lockfile::{self, Format};
use crate::domain::scripts::Scripts;

/// A package manager that reads `package.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Manager {
    Npm,
    /// Version 1.
    Yarn,
    /// Version 2 and later, with other options.
    YarnModern,
    Pnpm,
    Bun,
}

/// The manager of a lockfile, by its name. The order of [`lockfile::NAMES`] decides where there are several, nothing
/// names a manager and no history tells which one is kept up.
fn owner(lockfile: &str) -> Manager {
    match lockfile {
        "pnpm-lock.yaml" => Manager::Pnpm,
        "yarn.lock" => Manager::Yarn,
        "bun.lock" | "bun.lockb" => Manager::Bun,
        _ => Manager::Npm,
    }
}

/// The manager of a folder, and its lockfile there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) manager: Manager,
    pub(super) lockfile: Option<String>,
    /// Why the lockfile can't be installed as it is: `package.json asks for react ^18, and it has ^17`.
    pub(super) stale: Option<String>,
}

impl Manager {
    pub(super) fn tool(self) -> &'static str {
        match self {
            Manager::Npm => "npm",
            Manager::Yarn | Manager::YarnModern => "yarn",
            Manager::Pnpm => "pnpm",
            Manager::Bun => "bun",
        }
    }

    fn from_tool(tool: &str) -> Option<Self> {
        [Manager::Npm, Manager::Yarn, Manager::Pnpm, Manager::Bun].into_iter().find(|manager| manager.tool() == tool)
    }

    /// The install command. With a lockfile it installs exactly that, or fails.
    pub(super) fn install(self, locked: bool, scripts: &Scripts) -> Vec<String> {
        let mut command = words(match (self, locked) {
            (Manager::Npm, true) => "npm ci",
            (Manager::Npm, false) => "npm install",
            (Manager::Yarn, true) => "yarn install --frozen-lockfile",
            (Manager::Yarn, false) => "yarn install",
            (Manager::YarnModern, true) => "yarn install --immutable",
            // With CI=true yarn 2 and pnpm would insist on a lockfile that is not there.
            (Manager::YarnModern, false) => "yarn install --no-immutable",
            (Manager::Pnpm, true) => "pnpm install --frozen-lockfile",
            (Manager::Pnpm, false) => "pnpm install --no-frozen-lockfile",
            (Manager::Bun, true) => "bun install --frozen-lockfile",
            (Manager::Bun, false) => "bun install",
        });
        if !scripts.run_all() {
            command.push(if self == Manager::YarnModern { "--mode=skip-build" } else { "--ignore-scripts" }.to_owned());
        }
        command
    }

    /// The command that runs a script of `package.json`.
    pub(super) fn run(self, script: &str) -> Vec<String> {
        match (self, script) {
            (Manager::Npm, "test") => words("npm test"),
            _ => vec![self.tool().to_owned(), "run".to_owned(), script.to_owned()],
        }
    }
}

/// The tool's own choice in a folder: it was asked for by name.
pub(super) fn named(listing: &Listing, dir: &str, tool: &str, manifest: Option<&Manifest>) -> Option<Choice> {
    let manager = modern(Manager::from_tool(tool)?, listing, dir, manifest);
    Some(Choice { manager, lockfile: lockfile_of(listing, dir, manager), stale: None })
}

/// The manager that a folder's lockfiles and `packageManager` speak for; npm when nothing does.
pub(super) fn detect(listing: &Listing, dir: &str, manifest: &Manifest, account: &mut Account) -> Choice {
    let present: Vec<(&str, Manager)> = lockfile::NAMES
        .into_iter()
        .filter(|file| listing.has(&inside(dir, file)))
        .map(|file| (file, owner(file)))
        .collect();
    let (manager, rule) = match by_field(manifest) {
        Some((manager, field)) => (manager, format!("{field} says so")),
        None => by_lockfile(listing, dir, &present)
            .or_else(|| Some((by_settings(listing, dir, manifest)?, String::new())))
            .unwrap_or((Manager::Npm, String::new())),
    };
    let others: Vec<String> =
        present.iter().filter(|(_, other)| *other != manager).map(|(file, _)| inside(dir, file)).collect();
    let lockfile = lockfile_of(listing, dir, manager);
    if !others.is_empty() {
        let tool = manager.tool();
        account.notice(match &lockfile {
            Some(_) => format!("several lockfiles: {tool} is used ({rule}); delete {}", others.join(" and ")),
            None => format!(
                "{} belongs to another package manager than {tool} ({rule}) and is not used; delete it and commit {tool}'s lockfile",
                others.join(" and ")
            ),
        });
        for other in others {
            account.decide(other, "not used", format!("{tool} is used: {rule}"));
        }
    }
    Choice { manager: modern(manager, listing, dir, Some(manifest)), lockfile, stale: None }
}

/// The manager that `package.json` names, and where.
fn by_field(manifest: &Manifest) -> Option<(Manager, &'static str)> {
    let corepack = manifest.text("packageManager").and_then(|text| Manager::from_tool(text.trim().split('@').next()?));
    let engines = || Manager::from_tool(&versions::named(manifest.at(&["devEngines", "packageManager"]), "")?.0);
    let field = corepack.map(|manager| (manager, "packageManager"));
    field.or_else(|| engines().map(|manager| (manager, "devEngines.packageManager")))
}

/// The manager whose lockfile was changed last, else the first in the order.
fn by_lockfile(listing: &Listing, dir: &str, present: &[(&str, Manager)]) -> Option<(Manager, String)> {
    let newest =
        present.iter().filter_map(|(file, manager)| Some((listing.changed.get(&inside(dir, file))?, file, manager)));
    let newest: Vec<_> = newest.collect();
    let time = newest.iter().map(|(time, ..)| *time).max();
    let mut last = newest.iter().filter(|(at, ..)| Some(*at) == time);
    if let (Some((_, file, manager)), None) = (last.next(), last.next()) {
        return Some((**manager, format!("{} was changed last", inside(dir, file))));
    }
    present.first().map(|(_, manager)| (*manager, "pnpm goes before yarn, bun and npm".to_owned()))
}

/// Without a lockfile: the manager whose settings lie there, or that `only-allow` lets pass.
fn by_settings(listing: &Listing, dir: &str, manifest: &Manifest) -> Option<Manager> {
    let allowed =
        manifest.script("preinstall").and_then(|script| script.split("only-allow ").nth(1)?.split_whitespace().next());
    let files = [
        ("pnpm-workspace.yaml", Manager::Pnpm),
        (".yarnrc.yml", Manager::Yarn),
        (".yarnrc", Manager::Yarn),
        ("bunfig.toml", Manager::Bun),
    ];
    let settings = || files.into_iter().find(|(file, _)| listing.has(&inside(dir, file))).map(|(_, manager)| manager);
    allowed.and_then(Manager::from_tool).or_else(settings)
}

/// yarn 2 and later write another lockfile and read `.yarnrc.yml`, which yarn 1 never wrote.
fn modern(manager: Manager, listing: &Listing, dir: &str, manifest: Option<&Manifest>) -> Manager {
    let field = manifest.and_then(|manifest| manifest.text("packageManager"));
    let version = field.and_then(|text| text.trim().strip_prefix("yarn@")).and_then(major);
    let format = listing.lockfiles.get(&inside(dir, "yarn.lock")).map(|lockfile| lockfile.format);
    let modern = match (version, format) {
        (Some(major), _) => major >= 2,
        (None, Some(format)) => matches!(format, Format::YarnModern(_)),
        (None, None) => listing.has(&inside(dir, ".yarnrc.yml")),
    };
    if manager == Manager::Yarn && modern { Manager::YarnModern } else { manager }
}

fn lockfile_of(listing: &Listing, dir: &str, manager: Manager) -> Option<String> {
    // npm reads its shrinkwrap before its lockfile, and bun the text before the binary.
    let mut own = lockfile::NAMES.into_iter().filter(|file| owner(file).tool() == manager.tool());
    own.find_map(|file| Some(inside(dir, file)).filter(|path| listing.has(path)))
}

/// True for file names that this module decides on.
pub(super) fn is_lockfile(name: &str) -> bool {
    lockfile::NAMES.contains(&name)
}

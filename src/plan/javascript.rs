//! Which of npm, yarn, pnpm and bun a folder belongs to, and their commands.

use super::account::Account;
use super::manifest::{Manifest, major};
use super::{inside, words};
use crate::domain::listing::Listing;

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

/// Lockfiles in the order that decides where there are several and `packageManager` is silent.
const LOCKFILES: [(&str, Manager); 6] = [
    ("pnpm-lock.yaml", Manager::Pnpm),
    ("yarn.lock", Manager::Yarn),
    ("bun.lock", Manager::Bun),
    ("bun.lockb", Manager::Bun),
    ("npm-shrinkwrap.json", Manager::Npm),
    ("package-lock.json", Manager::Npm),
];

/// The manager of a folder, and its lockfile there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) manager: Manager,
    pub(super) lockfile: Option<String>,
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
    pub(super) fn install(self, locked: bool, scripts: bool) -> Vec<String> {
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
        if !scripts {
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
    Some(Choice { manager, lockfile: lockfile_of(listing, dir, manager) })
}

/// The manager that a folder's lockfiles and `packageManager` speak for; npm when nothing does.
pub(super) fn detect(listing: &Listing, dir: &str, manifest: &Manifest, account: &mut Account) -> Choice {
    let present: Vec<(&str, Manager)> =
        LOCKFILES.into_iter().filter(|(file, _)| listing.has(&inside(dir, file))).collect();
    let field = manifest.text("packageManager").and_then(|text| Manager::from_tool(text.split('@').next()?));
    let manager = field.or(present.first().map(|(_, manager)| *manager)).unwrap_or(Manager::Npm);
    let others: Vec<String> =
        present.iter().filter(|(_, other)| *other != manager).map(|(file, _)| inside(dir, file)).collect();
    if !others.is_empty() {
        let rule = if field.is_some() { "packageManager says so" } else { "pnpm goes before yarn, bun and npm" };
        account.notice(format!(
            "several lockfiles: {} is used ({rule}); delete {}",
            manager.tool(),
            others.join(" and ")
        ));
        for other in others {
            account.decide(other, "not used", format!("{} is used: {rule}", manager.tool()));
        }
    }
    let manager = modern(manager, listing, dir, Some(manifest));
    Choice { manager, lockfile: lockfile_of(listing, dir, manager) }
}

/// yarn 2 and later read `.yarnrc.yml`, which yarn 1 never wrote.
fn modern(manager: Manager, listing: &Listing, dir: &str, manifest: Option<&Manifest>) -> Manager {
    let field = manifest.and_then(|manifest| manifest.text("packageManager"));
    let version = field.and_then(|text| text.strip_prefix("yarn@")).and_then(major);
    let modern = version.map_or(listing.has(&inside(dir, ".yarnrc.yml")), |major| major >= 2);
    if manager == Manager::Yarn && modern { Manager::YarnModern } else { manager }
}

fn lockfile_of(listing: &Listing, dir: &str, manager: Manager) -> Option<String> {
    let mut own = LOCKFILES.into_iter().filter(|(_, owner)| owner.tool() == manager.tool());
    own.find_map(|(file, _)| Some(inside(dir, file)).filter(|path| listing.has(path)))
}

/// True for file names that this module decides on.
pub(super) fn is_lockfile(name: &str) -> bool {
    LOCKFILES.iter().any(|(file, _)| *file == name)
}

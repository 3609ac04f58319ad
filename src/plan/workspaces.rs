//! The packages that one install takes care of: workspaces of npm, yarn, bun and pnpm, and lerna's packages.

use std::collections::BTreeSet;

use saphyr::{LoadableYamlNode, Yaml};

use super::account::Account;
use super::inside;
use super::manifest::{DEPENDENCIES, Manifest};
use super::roots::Member;
use super::scripts;
use crate::domain::listing::Listing;

/// The workspace at a folder, if it is one.
pub(super) struct Workspace {
    /// In the order of their folders.
    pub(super) members: Vec<Member>,
    /// The file that makes it one, for accounts: `pnpm-workspace.yaml`.
    pub(super) said_by: String,
}

/// The workspace whose root is `dir`.
pub(super) fn of(listing: &Listing, dir: &str, package: &Manifest, account: &mut Account) -> Option<Workspace> {
    let (file, patterns) = patterns(listing, dir, package, account)?;
    let folders = listing.paths.iter().filter_map(|path| path.strip_suffix("/package.json"));
    let mut members: Vec<(Member, Vec<String>)> = Vec::new();
    for folder in folders {
        let below =
            if dir == "." { Some(folder) } else { folder.strip_prefix(dir).and_then(|rest| rest.strip_prefix('/')) };
        if !below.is_some_and(|below| matches(&patterns, below)) {
            continue;
        }
        // One that can't be read is still installed by the root, which says what is wrong with it.
        let package = Manifest::read(listing, folder, "package.json").ok().flatten();
        let name = package.as_ref().and_then(|package| package.text("name")).unwrap_or(folder).to_owned();
        let asked = package.iter().flat_map(|package| package.asked(&DEPENDENCIES)).map(|(name, _)| name.to_owned());
        let asked = asked.collect();
        members.push((Member { dir: folder.to_owned(), name, needs: Vec::new() }, asked));
    }
    let names: BTreeSet<String> = members.iter().map(|(member, _)| member.name.clone()).collect();
    let members = members.into_iter().map(|(member, asked)| {
        let needs: BTreeSet<String> =
            asked.into_iter().filter(|name| names.contains(name) && *name != member.name).collect();
        Member { needs: needs.into_iter().collect(), ..member }
    });
    Some(Workspace { members: members.collect(), said_by: file })
}

/// The patterns of a workspace and the file that has them.
fn patterns(listing: &Listing, dir: &str, package: &Manifest, account: &mut Account) -> Option<(String, Vec<String>)> {
    let owned = |patterns: Vec<&str>| patterns.into_iter().map(str::to_owned).collect::<Vec<_>>();
    let file = inside(dir, "pnpm-workspace.yaml");
    if listing.has(&file) {
        match pnpm_packages(listing, &file) {
            // Since pnpm 10 the file may hold settings alone.
            Some(patterns) if !patterns.is_empty() => return Some((file, patterns)),
            Some(_) => {}
            None => account.notice(format!("{file} is not YAML that can be read; pnpm will say what is wrong with it")),
        }
    }
    let own = package.workspaces();
    if !own.is_empty() {
        return Some((inside(dir, "package.json workspaces"), owned(own)));
    }
    let lerna = Manifest::read(listing, dir, "lerna.json").ok().flatten()?;
    let file = inside(dir, "lerna.json");
    let listed = lerna.texts("packages");
    let patterns = if listed.is_empty() { vec!["packages/*"] } else { listed };
    let mut install = super::manifest::LIFECYCLE.iter().flat_map(|script| scripts::commands(package, dir, script));
    if !install.any(|command| command.bootstraps()) {
        account.notice(format!(
            "the packages of {file} are installed only by `lerna bootstrap`, which no script of an install runs; write them as \"workspaces\" into {}",
            inside(dir, "package.json")
        ));
    }
    Some((file, owned(patterns)))
}

/// `packages` of a `pnpm-workspace.yaml`; `None` for what is not YAML.
fn pnpm_packages(listing: &Listing, file: &str) -> Option<Vec<String>> {
    let text = listing.text(file)?;
    let documents = Yaml::load_from_str(text.trim_start_matches('\u{feff}')).ok()?;
    let packages = documents.first().and_then(|yaml| yaml.as_mapping_get("packages")?.as_vec());
    Some(packages.into_iter().flatten().filter_map(Yaml::as_str).map(str::to_owned).collect())
}

/// Whether a folder is a package of the workspace: the last pattern that fits decides, and `!` takes out.
fn matches(patterns: &[String], folder: &str) -> bool {
    let mut member = false;
    for pattern in patterns {
        let (takes, glob) = match pattern.trim().strip_prefix('!') {
            Some(glob) => (false, glob),
            None => (true, pattern.trim()),
        };
        let glob = glob.trim_start_matches("./").trim_start_matches('/').trim_end_matches('/');
        let glob = glob.strip_suffix("/package.json").unwrap_or(glob);
        if fast_glob::glob_match(glob, folder) {
            member = takes;
        }
    }
    member
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_of_workspaces() {
        let check = |patterns: &[&str], folder: &str, expected: bool| {
            let patterns: Vec<String> = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
            assert_eq!(matches(&patterns, folder), expected, "{patterns:?} {folder}");
        };
        check(&["packages/*"], "packages/a", true);
        check(&["packages/*"], "packages/a/b", false);
        check(&["./packages/*/"], "packages/a", true);
        check(&["packages/**"], "packages/a/b", true);
        check(&["packages/**"], "packages/a", true);
        check(&["packages/*", "!packages/old"], "packages/old", false);
        check(&["packages/*", "!packages/old"], "packages/new", true);
        check(&["!**/test/**", "packages/**"], "packages/test/x", true);
        check(&["packages/**", "!**/test/**"], "packages/a/test/x", false);
        check(&["{apps,libs}/*"], "libs/b", true);
        check(&["client"], "client", true);
        check(&["client"], "client2", false);
    }
}

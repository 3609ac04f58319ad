//! The packages that one install takes care of: workspaces of npm, yarn, bun and pnpm, and lerna's packages.

use std::collections::BTreeSet;

use super::account::Account;
use super::inside;
use super::manifest::{DEPENDENCIES, Manifest};
use super::roots::Member;
use super::scripts;
use crate::domain::listing::Listing;
use crate::domain::workspaces::{is_member, pnpm_packages};

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
        if !below.is_some_and(|below| is_member(&patterns, below)) {
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
        match listing.text(&file).and_then(pnpm_packages) {
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

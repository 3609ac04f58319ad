//! The paths that matter to a plan, from the git tree: never from a disk that a build has seen.

use std::collections::BTreeMap;
use std::path::Path;

use git2::{Commit, ObjectType, Oid, Repository};
use serde::{Deserialize, Serialize};

use super::diff::{Difference, Kind};
use super::history;
use super::refusal::Stop;
use crate::domain::listing::Listing;
use crate::domain::lockfile::{self, Lockfile};

/// Folders deeper than this hold no project of their own.
const MAX_FOLDERS: usize = 6;
/// A manifest larger than this is not read.
const MAX_MANIFEST: usize = 2 << 20;
/// A lockfile larger than this is taken as it is.
const MAX_LOCKFILE: usize = 32 << 20;
/// Folders whose contents belong to somebody else.
const FOREIGN: [&str; 3] = ["node_modules", "bower_components", ".git"];
/// Links that lead to links: more than these are a circle.
const MAX_LINKS: usize = 5;

/// Paths that matter, with the id of their contents; kept with a workspace and carried on by each difference.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Watched {
    files: BTreeMap<String, String>,
    links: BTreeMap<String, String>,
}

/// Carries `watched` on to the next tree.
pub(super) fn carry_on(watched: &mut Watched, difference: &Difference) {
    for path in &difference.gone {
        if let Ok(path) = std::str::from_utf8(path) {
            watched.files.remove(path);
            watched.links.remove(path);
        }
    }
    for item in &difference.put {
        let kept = match item.kind {
            Kind::File { .. } => &mut watched.files,
            Kind::Link => &mut watched.links,
            Kind::Submodule | Kind::Folder => continue,
        };
        if let Ok(path) = std::str::from_utf8(&item.path)
            && matters(path)
        {
            kept.insert(path.to_owned(), item.id.to_string());
        }
    }
}

fn matters(path: &str) -> bool {
    let mut parts: Vec<&str> = path.split('/').collect();
    let name = parts.pop().unwrap_or_default();
    (Listing::matters(name) || Listing::is_setting(name))
        && parts.len() <= MAX_FOLDERS
        && !parts.iter().any(|part| FOREIGN.contains(part))
}

/// Reads the manifests of what is watched in a tree, and the history of its lockfiles.
pub(super) fn read(
    repo: &Repository,
    tree: Oid,
    watched: &Watched,
    commit: Option<&Commit<'_>>,
) -> Result<Listing, Stop> {
    let mut listing = Listing::default();
    let mut lockfiles = BTreeMap::new();
    for (path, id) in &watched.files {
        let id = Oid::from_str(id)?;
        add(repo, path, id, &mut listing)?;
        if lockfile::NAMES.contains(&name_of(path)) {
            lockfiles.insert(path.clone(), id);
        }
    }
    for (path, id) in &watched.links {
        match follow(repo, tree, path, Oid::from_str(id)?)? {
            Ok(id) => add(repo, path, id, &mut listing)?,
            Err(target) => {
                listing.dangling.insert(path.clone(), target);
            }
        }
    }
    if let Some(commit) = commit {
        listing.changed = history::newest_changes(repo, commit, lockfiles);
    }
    Ok(listing)
}

fn name_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

fn add(repo: &Repository, path: &str, id: Oid, listing: &mut Listing) -> Result<(), Stop> {
    let name = name_of(path);
    if !Listing::matters(name) {
        listing.settings.insert(path.to_owned());
        return Ok(());
    }
    listing.paths.insert(path.to_owned());
    let (manifest, lock) = (Listing::is_read(name), lockfile::NAMES.contains(&name));
    if !manifest && !lock {
        return Ok(());
    }
    let odb = repo.odb()?;
    let most = if lock { MAX_LOCKFILE } else { MAX_MANIFEST };
    if odb.read_header(id)?.0 > most {
        return Ok(());
    }
    let object = odb.read(id)?;
    if lock {
        listing.lockfiles.extend(Lockfile::read(name, object.data()).map(|lockfile| (path.to_owned(), lockfile)));
    } else {
        listing.manifests.insert(path.to_owned(), object.data().to_vec());
    }
    Ok(())
}

/// The file of the same tree that a link leads to, or where it leads instead.
fn follow(repo: &Repository, tree: Oid, path: &str, link: Oid) -> Result<Result<Oid, String>, Stop> {
    let tree = repo.find_tree(tree)?;
    let (mut from, mut link) = (path.to_owned(), link);
    for _ in 0..MAX_LINKS {
        let target = String::from_utf8_lossy(repo.find_blob(link)?.content()).into_owned();
        let Some(inside) = joined(&from, &target) else { return Ok(Err(target)) };
        match tree.get_path(Path::new(&inside)) {
            Ok(entry) if entry.filemode() == 0o120_000 => (from, link) = (inside, entry.id()),
            Ok(entry) if entry.kind() == Some(ObjectType::Blob) => return Ok(Ok(entry.id())),
            Ok(_) | Err(_) => return Ok(Err(target)),
        }
    }
    Ok(Err(path.to_owned()))
}

/// Where a link in the tree points; `None` outside.
fn joined(link: &str, target: &str) -> Option<String> {
    let mut parts: Vec<&str> = link.split('/').collect();
    parts.pop();
    for part in target.split('/') {
        match part {
            "." => {}
            // A leading slash, or two in the middle.
            "" if target.starts_with('/') => return None,
            "" => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(parts.join("/")).filter(|path| !path.is_empty())
}

#[cfg(test)]
mod tests {
    use super::{joined, matters};

    #[test]
    fn which_paths_matter() {
        for good in ["package.json", "client/package.json", "a/b/c/d/e/f/package.json", "webpack.config.ts"] {
            assert!(matters(good), "{good}");
        }
        for bad in ["node_modules/x/package.json", "a/b/c/d/e/f/g/package.json", "src/index.js", "package.json/x"] {
            assert!(!matters(bad), "{bad}");
        }
    }

    #[test]
    fn where_links_lead() {
        let check = |link: &str, target: &str, expected: Option<&str>| {
            assert_eq!(joined(link, target).as_deref(), expected, "{link} -> {target}");
        };
        check("package.json", "config/package.json", Some("config/package.json"));
        check("a/b/package.json", "../../package.json", Some("package.json"));
        check("a/package.json", "./../b//package.json", Some("b/package.json"));
        check("package.json", "../package.json", None);
        check("package.json", "/etc/passwd", None);
        check("package.json", ".", None);
    }
}

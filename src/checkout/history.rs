//! When a folder's lockfiles were changed last: where there are two, the older one was forgotten.

use std::collections::BTreeMap;
use std::path::Path;

use git2::{Commit, Oid, Repository, Sort, Tree};

use crate::domain::time::Timestamp;

/// A lockfile that no commit changed for longer than this has no newest change.
const MAX_COMMITS: usize = 10_000;

/// For each folder of `lockfiles` (path and contents now) with several of them: those that the newest commit changed
/// among all that changed any, with its time. A history that ends early, as a shallow one does, just tells less.
pub(super) fn newest_changes(
    repo: &Repository,
    commit: &Commit<'_>,
    lockfiles: BTreeMap<String, Oid>,
) -> BTreeMap<String, Timestamp> {
    let mut folders: BTreeMap<String, Vec<(String, Oid)>> = BTreeMap::new();
    for (path, id) in lockfiles {
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
        folders.entry(folder).or_default().push((path, id));
    }
    folders.retain(|_, files| files.len() > 1);
    let mut found = BTreeMap::new();
    if !folders.is_empty() {
        // An object that is missing ends the search; the order of the design then decides.
        let _ = search(repo, commit, folders, &mut found);
    }
    found
}

fn search(
    repo: &Repository,
    head: &Commit<'_>,
    mut open: BTreeMap<String, Vec<(String, Oid)>>,
    found: &mut BTreeMap<String, Timestamp>,
) -> Result<(), git2::Error> {
    // A person's folder may hold a lockfile that is not committed yet: nothing is newer.
    settle(&mut open, found, head, |path, id| at(&head.tree()?, path).map(|then| then != Some(id)))?;
    let mut walk = repo.revwalk()?;
    walk.set_sorting(Sort::TOPOLOGICAL | Sort::TIME)?;
    walk.push(head.id())?;
    for id in walk.take(MAX_COMMITS) {
        if open.is_empty() {
            break;
        }
        let commit = repo.find_commit(id?)?;
        let tree = commit.tree()?;
        let parents = commit.parents().map(|parent| parent.tree()).collect::<Result<Vec<_>, _>>()?;
        // A merge that took one side's lockfile changed nothing.
        settle(&mut open, found, &commit, |path, _| {
            let now = at(&tree, path)?;
            for parent in &parents {
                if at(parent, path)? == now {
                    return Ok(false);
                }
            }
            Ok(true)
        })?;
    }
    Ok(())
}

/// Takes the folders out of `open` in which `changed` finds a lockfile.
fn settle(
    open: &mut BTreeMap<String, Vec<(String, Oid)>>,
    found: &mut BTreeMap<String, Timestamp>,
    commit: &Commit<'_>,
    changed: impl Fn(&str, Oid) -> Result<bool, git2::Error>,
) -> Result<(), git2::Error> {
    let time = Timestamp(commit.time().seconds().saturating_mul(1000));
    let mut settled = Vec::new();
    for (folder, files) in open.iter() {
        for (path, id) in files {
            if changed(path, *id)? {
                found.insert(path.clone(), time);
                settled.push(folder.clone());
            }
        }
    }
    open.retain(|folder, _| !settled.contains(folder));
    Ok(())
}

fn at(tree: &Tree<'_>, path: &str) -> Result<Option<Oid>, git2::Error> {
    match tree.get_path(Path::new(path)) {
        Ok(entry) => Ok(Some(entry.id())),
        Err(error) if error.code() == git2::ErrorCode::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use git2::{Signature, Time};

    /// Commits in order, each with what its tree holds; the time is the commit's number in seconds.
    fn newest(commits: &[&[(&str, &str)]]) -> Vec<(String, i64)> {
        let dir = tempfile::tempdir().expect("a folder");
        let repo = Repository::init_bare(dir.path()).expect("a repository");
        let mut parent: Option<Oid> = None;
        let mut now = BTreeMap::new();
        for (at, files) in (1..).zip(commits) {
            let mut tree = repo.treebuilder(None).expect("a tree");
            now.clear();
            for (name, text) in *files {
                let id = repo.blob(text.as_bytes()).expect("a blob");
                tree.insert(name, id, 0o100_644).expect("an entry");
                now.insert((*name).to_owned(), id);
            }
            let tree = repo.find_tree(tree.write().expect("written")).expect("there");
            let who = Signature::new("a", "a@example.com", &Time::new(at, 0)).expect("a name");
            let before: Vec<_> = parent.iter().map(|id| repo.find_commit(*id).expect("there")).collect();
            let before: Vec<_> = before.iter().collect();
            parent = Some(repo.commit(None, &who, &who, "x", &tree, &before).expect("a commit"));
        }
        let head = repo.find_commit(parent.expect("a commit")).expect("there");
        newest_changes(&repo, &head, now).into_iter().map(|(path, time)| (path, time.0 / 1000)).collect()
    }

    #[test]
    fn the_newest_commit_that_changed_one_of_them() {
        let both = |npm, yarn| [("package-lock.json", npm), ("yarn.lock", yarn)];
        let check = |commits: &[&[(&str, &str)]], expected: &[(&str, i64)]| {
            let found = newest(commits);
            let found: Vec<(&str, i64)> = found.iter().map(|(path, time)| (path.as_str(), *time)).collect();
            assert_eq!(found, expected);
        };
        check(&[&both("1", "1"), &both("2", "1"), &both("2", "1")], &[("package-lock.json", 2)]);
        check(&[&both("1", "1")[..1], &both("1", "1")], &[("yarn.lock", 2)]);
        check(&[&both("1", "1")], &[("package-lock.json", 1), ("yarn.lock", 1)]);
        check(&[&both("1", "1")[..1]], &[]);
    }
}

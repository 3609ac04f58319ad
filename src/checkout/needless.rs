//! Whether anything changed that a build would see: a commit's tree against those of commits that passed.
//!
//! What a payload lists as changed is never asked: it leaves out what a force push or a merge brought.

use git2::{Oid, Repository};

use super::budget::{Budget, Meter, Totals};
use super::diff::{self, Side, Trees};
use super::job::Needless;
use crate::config::repo_file;
use crate::domain::repo::CommitId;

/// The first of `passed` whose tree differs from `tree` in ignored paths and in nothing else.
///
/// A tree that differs in nothing is built: somebody pushed it to have it built again. So is one that can't be
/// compared, for what the mirror lacks.
pub(super) fn since(
    repo: &Repository,
    tree: Oid,
    passed: &[CommitId],
    globs: &[String],
    budget: Budget,
) -> Option<Needless> {
    if globs.is_empty() {
        return None;
    }
    passed.iter().find_map(|since| {
        let id = Oid::from_str(since.as_str()).ok()?;
        let old = repo.find_object(id, None).ok()?.peel_to_tree().ok()?.id();
        let globs = only_ignored(repo, old, tree, globs, budget)?;
        Some(Needless { since: since.clone(), globs })
    })
}

/// The globs under which all of the changed paths fall; `None` where one falls under none, or nothing changed.
fn only_ignored(repo: &Repository, old: Oid, new: Oid, globs: &[String], budget: Budget) -> Option<Vec<String>> {
    // What the old tree holds does not matter here, and the new one is measured when it is checked out.
    let unmeasured = Budget { files: u64::MAX, bytes: u64::MAX, ..budget };
    let none = Trees::new();
    let side = |tree| Side { tree, submodules: &none };
    let meter = Meter::new(unmeasured, Totals::default());
    let difference = diff::compare(&repo.odb().ok()?, Some(side(old)), side(new), meter).ok()?;
    let mut used = vec![false; globs.len()];
    for path in difference.gone.iter().chain(difference.put.iter().map(|item| &item.path)) {
        // What decides is decided anew when it changes.
        let path = std::str::from_utf8(path).ok().filter(|path| *path != repo_file::FILE_NAME)?;
        let at = globs.iter().position(|glob| fast_glob::glob_match(glob, path))?;
        used[at] = true;
    }
    let used: Vec<String> = globs.iter().zip(used).filter(|(_, used)| *used).map(|(glob, _)| glob.clone()).collect();
    (!used.is_empty()).then_some(used)
}

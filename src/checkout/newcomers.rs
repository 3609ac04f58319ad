//! What a pull request's lockfiles bring that those of its base did not have.

use std::path::Path;

use git2::{Oid, Repository};

use crate::domain::listing::Listing;
use crate::domain::{lockfile, newcomers};

/// The largest lockfile that is read, in bytes.
const LARGEST: usize = 32 << 20;
/// So many lockfiles are compared.
const MOST: usize = 20;

/// One sentence a lockfile that brings something. Where the base is not at hand there is none: it is a hint, and no
/// reason to fetch or to fail.
pub(super) fn notices(repo: &Repository, base: &str, tree: Oid, listing: &Listing) -> Vec<String> {
    let base = Oid::from_str(base).and_then(|id| repo.find_object(id, None)).and_then(|object| object.peel_to_tree());
    let (Ok(base), Ok(tree)) = (base, repo.find_tree(tree)) else { return Vec::new() };
    let is_lockfile = |path: &&String| lockfile::NAMES.contains(&path.rsplit('/').next().unwrap_or(path));
    let of_path = |path: &String| {
        let entry = |tree: &git2::Tree<'_>| tree.get_path(Path::new(path)).ok();
        let (before, now) = (entry(&base), entry(&tree)?);
        if before.as_ref().is_some_and(|before| before.id() == now.id()) {
            return None;
        }
        let blob = |id: Oid| repo.find_blob(id).ok().filter(|blob| blob.size() <= LARGEST);
        let before = before.and_then(|before| blob(before.id()));
        newcomers::notice(path, before.as_ref().map(|blob| blob.content()), blob(now.id())?.content())
    };
    listing.paths.iter().filter(is_lockfile).take(MOST).filter_map(of_path).collect()
}

//! The paths that matter to a plan, from the git tree: never from a disk that a build has seen.

use std::collections::BTreeMap;

use git2::{Odb, Oid};

use super::diff::{Difference, Kind};
use super::refusal::Stop;
use crate::domain::listing::Listing;

/// Folders deeper than this hold no project of their own.
const MAX_FOLDERS: usize = 6;
/// A manifest larger than this is not read.
const MAX_MANIFEST: usize = 2 << 20;
/// Folders whose contents belong to somebody else.
const FOREIGN: [&str; 3] = ["node_modules", "bower_components", ".git"];

/// Paths that matter, with the id of their contents; kept with a workspace and carried on by each difference.
pub(super) type Watched = BTreeMap<String, String>;

/// Carries `watched` on to the next tree.
pub(super) fn carry_on(watched: &mut Watched, difference: &Difference) {
    for path in &difference.gone {
        if let Ok(path) = std::str::from_utf8(path) {
            watched.remove(path);
        }
    }
    for item in &difference.put {
        if matches!(item.kind, Kind::File { .. })
            && let Ok(path) = std::str::from_utf8(&item.path)
            && matters(path)
        {
            watched.insert(path.to_owned(), item.id.to_string());
        }
    }
}

fn matters(path: &str) -> bool {
    let mut parts: Vec<&str> = path.split('/').collect();
    let name = parts.pop().unwrap_or_default();
    Listing::matters(name) && parts.len() <= MAX_FOLDERS && !parts.iter().any(|part| FOREIGN.contains(part))
}

/// Reads the manifests of what is watched.
pub(super) fn read(odb: &Odb<'_>, watched: &Watched) -> Result<Listing, Stop> {
    let mut listing = Listing::default();
    for (path, id) in watched {
        listing.paths.insert(path.clone());
        let name = path.rsplit('/').next().unwrap_or(path);
        if !Listing::is_read(name) {
            continue;
        }
        let object = odb.read(Oid::from_str(id)?)?;
        if object.len() <= MAX_MANIFEST {
            listing.manifests.insert(path.clone(), object.data().to_vec());
        }
    }
    Ok(listing)
}

#[cfg(test)]
mod tests {
    use super::matters;

    #[test]
    fn which_paths_matter() {
        for good in ["package.json", "client/package.json", "a/b/c/d/e/f/package.json", "webpack.config.ts"] {
            assert!(matters(good), "{good}");
        }
        for bad in ["node_modules/x/package.json", "a/b/c/d/e/f/g/package.json", "src/index.js", "package.json/x"] {
            assert!(!matters(bad), "{bad}");
        }
    }
}

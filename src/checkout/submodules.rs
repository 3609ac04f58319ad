//! Submodules: other repositories at fixed commits within a tree, fetched into mirrors of their own.
//!
//! Their addresses come from whoever wrote the commit. So the credential goes to the forge's own origin only, and for a
//! fork only to repositories that the base commit names as well: else anybody could have a build print a private
//! repository. What is fetched without it goes to a mirror that only such fetches use, for the same reason.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use git2::{Oid, Repository};
use serde::{Deserialize, Serialize};
use url::Url;

use super::diff::Trees;
use super::gitdir::{self, Head};
use super::gitmodules::{self, Entry};
use super::job::Remote;
use super::mirror::{self, Mirror, Wanted};
use super::refusal::{Refusal, RefusalKind, Stop};
use super::settings::blob_at;
use super::transport::{Link, Switchboard, Traffic};

/// Submodules of one commit, nested ones counted.
const MOST: usize = 200;
/// Submodules within submodules.
const MAX_NESTING: usize = 8;
const FILE_NAME: &str = ".gitmodules";
/// The mode of a tree's entry that is another repository's commit.
pub(super) const GITLINK: u32 = 0o160_000;

/// A submodule that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Module {
    /// Its commit's tree.
    pub(super) tree: String,
    /// The `.git` that it gets.
    pub(super) head: Head,
}

/// Submodules by their paths from the root of the checkout.
pub(super) type Modules = BTreeMap<String, Module>;

/// The trees at which they stand.
pub(super) fn trees(modules: &Modules) -> Trees {
    modules.iter().filter_map(|(path, module)| Some((path.clone(), Oid::from_str(&module.tree).ok()?))).collect()
}

/// The submodule that holds `path` (nested ones before those around them), with `/` at its end; empty for the root.
pub(super) fn top_of<'p>(modules: &Modules, path: &'p str) -> &'p str {
    let folders = path.match_indices('/').map(|(at, _)| at).rev();
    folders
        .map(|at| (&path[..at], &path[..=at]))
        .find(|(name, _)| modules.contains_key(*name))
        .map_or("", |(_, top)| top)
}

/// What was fetched.
#[derive(Default)]
pub(super) struct Fetched {
    pub(super) modules: Modules,
    /// Names and addresses of those at the root, for its configuration.
    pub(super) named: BTreeMap<String, String>,
    /// Folders of their objects.
    pub(super) objects: Vec<PathBuf>,
    /// The way to each, for its Git LFS.
    pub(super) ways: BTreeMap<String, (PathBuf, Arc<Link>)>,
    /// False when a request was needed.
    pub(super) all_there: bool,
}

/// How submodules are fetched in one checkout.
pub(super) struct Fetcher<'a> {
    pub(super) remote: &'a Remote,
    /// The folder of mirrors.
    pub(super) mirrors: &'a Path,
    pub(super) switchboard: &'a Switchboard,
    pub(super) traffic: &'a Arc<Traffic>,
    pub(super) depth: u32,
    /// For a fork's build: the tree of the base commit, if that is known.
    pub(super) fork_of: Option<Option<Oid>>,
}

/// A tree in which submodules are looked for.
struct Place {
    mirror: PathBuf,
    tree: Oid,
    /// With `/` at its end; empty for the root.
    prefix: String,
    url: Url,
    nesting: usize,
    credential: bool,
}

impl Fetcher<'_> {
    /// Fetches the submodules of `tree`, and theirs. `mirror` holds the tree.
    pub(super) fn fetch(&self, mirror: &Path, tree: Oid) -> Result<Fetched, Stop> {
        let mut fetched = Fetched { all_there: true, ..Fetched::default() };
        let url = super::transport::address(&self.remote.clone_url)?;
        let known = match self.fork_of {
            None => None,
            Some(None) => Some(BTreeSet::new()),
            Some(Some(base)) => Some(named_in(&Repository::open_bare(mirror)?, base, &url)),
        };
        let place = Place { mirror: mirror.to_owned(), tree, prefix: String::new(), url, nesting: 0, credential: true };
        let mut waiting = VecDeque::from([place]);
        while let Some(place) = waiting.pop_front() {
            let repo = Repository::open_bare(&place.mirror)?;
            for (entry, id) in linked(&repo, place.tree) {
                let path = format!("{}{}", place.prefix, entry.path);
                if fetched.modules.len() == MOST || place.nesting == MAX_NESTING {
                    let text = format!("has more than {MOST} submodules, or {MAX_NESTING} within each other");
                    return Err(Refusal::tree(path.as_bytes(), text).into());
                }
                let next = self.one(&place, &entry, id, &path, known.as_ref(), &mut fetched);
                waiting.push_back(next.map_err(|stop| said_of(&path, stop))?);
            }
        }
        Ok(fetched)
    }

    fn one(
        &self,
        place: &Place,
        entry: &Entry,
        id: Oid,
        path: &str,
        known: Option<&BTreeSet<Url>>,
        fetched: &mut Fetched,
    ) -> Result<Place, Stop> {
        let unacceptable = |text: String| Refusal::new(RefusalKind::Unacceptable, text);
        let url = gitmodules::resolve(&entry.url, &place.url)
            .map_err(|why| unacceptable(format!("{} {why}", entry.url.escape_debug())))?;
        let ours = super::transport::address(&self.remote.clone_url)?;
        if is_this_machine(&url) && !is_this_machine(&ours) {
            return Err(unacceptable(format!("{url} is the agent's own machine")).into());
        }
        let credential = self.remote.credential.as_ref().filter(|_| {
            let named = known.is_none_or(|known| place.nesting == 0 && known.contains(&url));
            url.origin() == ours.origin() && named && place.credential
        });
        let folder = self.mirrors.join(match credential {
            Some(_) => mirror::folder_name(&url),
            None => format!("anonymous-{}", mirror::folder_name(&url)),
        });
        let link = Link::new(&url, credential, &self.remote.network, self.traffic)?;
        mirror::used(&folder);
        let mirror = match Mirror::open(&folder).filter(|mirror| mirror.holds(id)) {
            Some(mirror) => mirror,
            None => {
                fetched.all_there = false;
                let locked = mirror::lock(&folder)?;
                let mirror = mirror::open_or_make(&folder, &locked)?;
                if !mirror.holds(id) {
                    self.switchboard.connect(&link);
                    mirror::fetch(&mirror, Wanted { url: &url, id, git_ref: None }, &link)
                        .map_err(|stop| words(stop, &url, id, credential.is_some()))?;
                }
                mirror
            }
        };
        let commit = mirror.repo.find_commit(id).map_err(|_| unacceptable(format!("{id} in {url} is no commit")))?;
        let objects = mirror.objects();
        let head = Head {
            commit: id.to_string(),
            origin: Some(url.to_string()),
            alternates: vec![objects.clone()],
            shallow: gitdir::cut_off(&mirror.repo, id, self.depth)?,
            ..Head::default()
        };
        let around = place.prefix.strip_suffix('/').and_then(|path| fetched.modules.get_mut(path));
        let named = around.map_or(&mut fetched.named, |module| &mut module.head.submodules);
        named.insert(entry.name.clone(), url.to_string());
        fetched.modules.insert(path.to_owned(), Module { tree: commit.tree_id().to_string(), head });
        fetched.objects.push(objects);
        fetched.ways.insert(path.to_owned(), (folder.clone(), link));
        Ok(Place {
            mirror: folder,
            tree: commit.tree_id(),
            prefix: format!("{path}/"),
            url,
            nesting: place.nesting + 1,
            credential: credential.is_some(),
        })
    }
}

/// The entries of a tree's `.gitmodules` that stand at a commit of that tree. A path without an entry stays empty.
fn linked(repo: &Repository, tree: Oid) -> Vec<(Entry, Oid)> {
    let Some(text) = blob_at(repo, tree, FILE_NAME) else { return Vec::new() };
    let Ok(tree) = repo.find_tree(tree) else { return Vec::new() };
    let at = |path: &str| tree.get_path(Path::new(path)).ok().filter(|entry| entry.filemode() == GITLINK as i32);
    gitmodules::parse(&String::from_utf8_lossy(&text))
        .into_iter()
        .filter_map(|entry| at(&entry.path).map(|found| (entry, found.id())))
        .collect()
}

/// The addresses that a tree's `.gitmodules` names.
fn named_in(repo: &Repository, tree: Oid, url: &Url) -> BTreeSet<Url> {
    linked(repo, tree).iter().filter_map(|(entry, _)| gitmodules::resolve(&entry.url, url).ok()).collect()
}

/// True for addresses that only this machine answers; a forge may be one, and then its neighbours may be too.
fn is_this_machine(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(ip)) => ip.is_loopback() || ip.is_link_local() || ip.is_unspecified(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback() || ip.is_unicast_link_local() || ip.is_unspecified(),
        None => true,
    }
}

/// What a fetch was refused for, in a submodule's words.
fn words(stop: Stop, url: &Url, id: Oid, credential: bool) -> Stop {
    let Stop::Refused(refusal) = stop else { return stop };
    let text = match refusal.kind {
        RefusalKind::CommitGone => format!("commit {:.7} is not in {url}", id.to_string()),
        RefusalKind::Forbidden if credential => format!("{url} does not exist, or the forge's token may not read it"),
        RefusalKind::Forbidden => format!("{url} does not exist, or may not be read without a token"),
        _ => return refusal.into(),
    };
    Refusal::new(refusal.kind, text).into()
}

fn said_of(path: &str, stop: Stop) -> Stop {
    match stop {
        Stop::Refused(refusal) => refusal.of_submodule(path).into(),
        // A new mirror of the repository around it would mend nothing.
        Stop::Unsound(error) => {
            let text = format!("its mirror can't be read: {}", error.message());
            Refusal::new(RefusalKind::Broken, text).of_submodule(path).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_submodule_a_path_belongs_to() {
        let module = Module { tree: String::new(), head: Head::default() };
        let modules = Modules::from([("a/b".to_owned(), module.clone()), ("a/b/c".to_owned(), module)]);
        for (path, top) in
            [("x", ""), ("a/x", ""), ("a/b", ""), ("a/b/x", "a/b/"), ("a/b/c", "a/b/"), ("a/b/c/d/e", "a/b/c/")]
        {
            assert_eq!(top_of(&modules, path), top, "{path}");
        }
    }
}

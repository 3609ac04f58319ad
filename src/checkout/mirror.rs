//! One bare mirror for each repository: asked first, fetched into when it lacks the commit.
//!
//! It holds whole history. A shallow mirror would make the first fetch smaller and every later one
//! dearer: libgit2 asks twice when it deepens, and the boundary moves with each commit.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use git2::{
    AutotagOption, Direction, ErrorClass, FetchOptions, Oid, RemoteRedirect, Repository, RepositoryInitOptions,
};
use sha2::{Digest, Sha256};

use super::refusal::Stop;
use super::transport::Link;
use super::{Refusal, RefusalKind, guard};
use crate::domain::repo::RefName;
use crate::tree::{self, Visit};

/// The name of a repository's mirror in the folder of mirrors.
pub fn folder_name(clone_url: &url::Url) -> String {
    // The address without credentials: a new token must not mean a new clone.
    let plain = super::transport::address(clone_url).unwrap_or_else(|_| clone_url.clone());
    format!("{}.git", &hex(&Sha256::digest(plain.as_str().trim_end_matches('/')))[..32])
}

/// Bytes in hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An open mirror.
pub(super) struct Mirror {
    pub(super) repo: Repository,
}

impl Mirror {
    /// Opens what is there, without waiting for anybody; `None` when it can't be used.
    pub(super) fn open(path: &Path) -> Option<Mirror> {
        Repository::open_bare(path).ok().map(|repo| Mirror { repo })
    }

    /// True when the object is there. Packs appear whole, so what it needs is there too, unless the
    /// disk lost it: then reading fails, and the caller starts a new mirror.
    pub(super) fn holds(&self, id: Oid) -> bool {
        self.repo.odb().is_ok_and(|odb| odb.exists(id))
    }

    /// Where its objects are.
    pub(super) fn objects(&self) -> PathBuf {
        self.repo.path().join("objects")
    }
}

/// Keeps other processes from writing into a mirror, until it is dropped or the process ends.
pub(super) struct Locked(#[expect(dead_code, reason = "held for its lock")] File);

/// Waits for the mirror and clears what a killed fetch left: a stale lock would block its ref for ever.
pub(super) fn lock(path: &Path) -> Result<Locked, Refusal> {
    let file = lock_file(path)?;
    file.lock().map_err(|error| Refusal::disk(path, &error))?;
    clear_leftovers(path);
    Ok(Locked(file))
}

/// The same without waiting; `None` while somebody else has it.
pub(super) fn lock_if_free(path: &Path) -> Result<Option<Locked>, Refusal> {
    let file = lock_file(path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Ok(None),
        Err(TryLockError::Error(error)) => return Err(Refusal::disk(path, &error)),
    }
    clear_leftovers(path);
    Ok(Some(Locked(file)))
}

/// Notes that a mirror is used now: it will not be collected as long as a build may read from it. The time is that of its
/// lock file.
pub(super) fn used(path: &Path) {
    // At worst it is fetched anew later.
    let _ = lock_file(path)
        .and_then(|file| file.set_modified(std::time::SystemTime::now()).map_err(|error| Refusal::disk(path, &error)));
}

/// When a mirror was used last; `None` for one that has no lock file.
pub(super) fn last_used(path: &Path) -> Option<std::time::SystemTime> {
    std::fs::metadata(path.with_extension("lock")).and_then(|data| data.modified()).ok()
}

fn lock_file(path: &Path) -> Result<File, Refusal> {
    let beside = path.with_extension("lock");
    let failed = |error: std::io::Error| Refusal::disk(&beside, &error);
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(failed)?;
    }
    // Not truncated: somebody else may hold it. It stays; a lock file that is removed guards nothing.
    OpenOptions::new().write(true).create(true).truncate(false).open(&beside).map_err(failed)
}

/// Opens the mirror, makes it where it is missing. With the lock held.
pub(super) fn open_or_make(path: &Path, _locked: &Locked) -> Result<Mirror, git2::Error> {
    if let Some(mirror) = Mirror::open(path) {
        return Ok(mirror);
    }
    let mut options = RepositoryInitOptions::new();
    options.bare(true).mkpath(true).external_template(false);
    Ok(Mirror { repo: Repository::init_opts(path, &options)? })
}

/// Moves a mirror that can't be read out of the way. With the lock held.
pub(super) fn discard(path: &Path, trash: &Path, _locked: &Locked) -> Result<(), Stop> {
    Ok(tree::rename_away(path, trash)?)
}

fn clear_leftovers(path: &Path) {
    let mut leftovers = Vec::new();
    // A pack without its index, or the other way round, which nobody can read.
    let mut halves = BTreeSet::new();
    // No mirror yet is no trouble, and one that can't be walked will say so when it is opened.
    let _ = tree::walk(path, |entry| {
        let name = entry.path.file_name().unwrap_or_default().to_string_lossy();
        if name.ends_with(".lock") || name.starts_with("tmp_") || name.contains("_git2_") {
            leftovers.push(entry.path.clone());
        } else if entry.path.starts_with("objects/pack") && (name.ends_with(".pack") || name.ends_with(".idx")) {
            let other = entry.path.with_extension(if name.ends_with(".idx") { "pack" } else { "idx" });
            if !halves.remove(&other) {
                halves.insert(entry.path.clone());
            }
        }
        // Loose objects lie in folders of two hex digits; their leftovers lie beside those.
        if name.len() == 2 { Visit::Skip } else { Visit::Continue }
    });
    for rel in leftovers.into_iter().chain(halves) {
        let _ = tree::remove(&path.join(rel));
    }
}

/// What is to be fetched.
#[derive(Clone, Copy)]
pub(super) struct Wanted<'a> {
    /// The repository, `http` or `https`.
    pub(super) url: &'a url::Url,
    /// The commit or tag.
    pub(super) id: Oid,
    /// The ref that it was pushed to; `None` where only the commit is known, as of a submodule.
    pub(super) git_ref: Option<&'a str>,
}

/// Fetches an object and all that leads to it. The mirror's lock is held, and `link` leads to the repository.
pub(super) fn fetch(mirror: &Mirror, wanted: Wanted<'_>, link: &Link) -> Result<(), Stop> {
    if let Err(error) = fetch_by_id(mirror, wanted)
        && !gives_no_such_id(&error, link)
    {
        return Err(words(error, wanted, link));
    }
    if !mirror.holds(wanted.id) {
        fetch_refs(mirror, wanted).map_err(|error| words(error, wanted, link))?;
    }
    if !mirror.holds(wanted.id) {
        return Err(Refusal::gone(wanted.id).into());
    }
    // One ref for each ref of the forge: what the next fetch says we have. Never the forge's own
    // names: one may be a folder of another.
    let name = format!("refs/hookmill/{}", &hex(&Sha256::digest(wanted.git_ref.unwrap_or_default()))[..32]);
    mirror.repo.reference(&name, wanted.id, true, "")?;
    Ok(())
}

/// The wanted object only: by the name of a ref that stands at it (every server gives those), else
/// by its id, which GitHub, Gitea and Forgejo give.
fn fetch_by_id(mirror: &Mirror, Wanted { url, id, git_ref }: Wanted<'_>) -> Result<(), git2::Error> {
    let mut origin = mirror.repo.remote_anonymous(url.as_str())?;
    let mut connection = origin.connect_auth(Direction::Fetch, None, None)?;
    let at_it: Vec<&str> = connection.list()?.iter().filter(|head| head.oid() == id).map(|head| head.name()).collect();
    let named = at_it.iter().find(|name| Some(**name) == git_ref);
    let source = match named.or_else(|| at_it.iter().find(|name| !name.ends_with("^{}"))) {
        Some(name) => (*name).to_owned(),
        None => id.to_string(),
    };
    download(connection.remote(), &[source])
}

/// For servers that do not give commits by their id: the ref (every branch and tag, where none is known), with all
/// that leads to it.
fn fetch_refs(mirror: &Mirror, Wanted { url, git_ref, .. }: Wanted<'_>) -> Result<(), git2::Error> {
    let mut origin = mirror.repo.remote_anonymous(url.as_str())?;
    let mut connection = origin.connect_auth(Direction::Fetch, None, None)?;
    let fits = |name: &str| match git_ref {
        Some(git_ref) => name == git_ref,
        None => (name.starts_with("refs/heads/") || name.starts_with("refs/tags/")) && !name.ends_with("^{}"),
    };
    let sources: Vec<String> =
        connection.list()?.iter().map(|head| head.name()).filter(|name| fits(name)).map(str::to_owned).collect();
    if sources.is_empty() {
        // The ref is gone too: the caller will not find the commit and say so.
        return Ok(());
    }
    download(connection.remote(), &sources)
}

/// Fetches every tag of the repository that the mirror does not know yet, and forgets those that are gone; answers
/// with their names and ids. The mirror's lock is held.
pub(super) fn fetch_tags(mirror: &Mirror, url: &url::Url, link: &Link) -> Result<BTreeMap<String, String>, Stop> {
    let told = |error| words(error, Wanted { url, id: Oid::ZERO_SHA1, git_ref: None }, link);
    let mut origin = mirror.repo.remote_anonymous(url.as_str())?;
    let mut connection = origin.connect_auth(Direction::Fetch, None, None).map_err(told)?;
    let tags: BTreeMap<String, Oid> = connection
        .list()
        .map_err(told)?
        .iter()
        .filter(|head| head.name().starts_with("refs/tags/") && !head.name().ends_with("^{}"))
        .map(|head| (head.name().to_owned(), head.oid()))
        .collect();
    let missing: Vec<String> =
        tags.iter().filter(|(_, id)| !mirror.holds(**id)).map(|(name, _)| name.clone()).collect();
    if !missing.is_empty() {
        download(connection.remote(), &missing).map_err(told)?;
    }
    let legal = |name: &str| name.parse::<RefName>().is_ok();
    Ok(tags.into_iter().filter(|(name, _)| legal(name)).map(|(name, id)| (name, id.to_string())).collect())
}

fn download(remote: &mut git2::Remote<'_>, sources: &[String]) -> Result<(), git2::Error> {
    let mut options = FetchOptions::new();
    // Nor does our transport follow them; should another be used, it gives no token to a host that it was led to.
    options.follow_redirects(RemoteRedirect::None);
    options.download_tags(AutotagOption::None).update_fetchhead(false);
    // The refs are written by `fetch`, once the commit is known to be there.
    let specs: Vec<String> = sources.iter().map(|source| format!("+{source}:refs/hookmill/wanted")).collect();
    let done = remote.download(&specs, Some(&mut options));
    guard::bound_computing(None);
    done
}

/// True when the server speaks to us and does not give this object by its id: it never does, or
/// the commit is not (or no longer) reachable from one of its refs.
fn gives_no_such_id(error: &git2::Error, link: &Link) -> bool {
    // libgit2's own words where the server announced neither allow-tip- nor allow-reachable-sha1-in-want.
    error.message().contains("cannot fetch a specific object")
        || link.take_complaint().is_some_and(|text| text.contains("not our ref"))
}

fn words(error: git2::Error, wanted: Wanted<'_>, link: &Link) -> Stop {
    if let Some(refusal) = link.take_fault() {
        return refusal.into();
    }
    let said = link.take_complaint();
    if said.is_none() && !matches!(error.class(), ErrorClass::Net | ErrorClass::Http) {
        return error.into();
    }
    let host = wanted.url.host_str().unwrap_or_default();
    let text = format!("the fetch from {host} failed: {}", said.as_deref().unwrap_or(error.message()));
    Refusal::new(RefusalKind::Unreachable, text).into()
}

#[cfg(test)]
mod tests {
    use super::folder_name;

    #[test]
    fn a_new_token_is_the_same_mirror() {
        let name = |url: &str| folder_name(&url::Url::parse(url).expect("an address"));
        assert_eq!(name("https://a:b@git.lan/x/y.git"), name("https://git.lan/x/y.git/"));
        assert_ne!(name("https://git.lan/x/y.git"), name("https://git.lan:444/x/y.git"));
    }
}

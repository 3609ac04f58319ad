//! `hookmill run`: a person's folder as if it were a commit.
//!
//! Its tracked and not ignored files become a tree in a mirror of our own, which borrows the
//! folder's objects; from there on it is a checkout like any other. The folder is only read.

use std::path::{Path, PathBuf};

use git2::{ErrorCode, Index, IndexEntry, IndexTime, Oid, Repository, RepositoryOpenFlags, Status, StatusOptions};
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;

use super::budget::{Budget, MAX_FILE};
use super::contents::LfsSources;
use super::gitdir::{self, Head};
use super::mirror::{self, Mirror};
use super::refusal::{Refusal, RefusalKind, Stop};
use super::run::{Filled, fill};
use super::settings::{self, Settings};
use super::submodules::{GITLINK, Modules};
use super::workspace::Workspace;
use super::{Done, Job, Local, lfs};
use crate::tree::{self, Dir, Kind, TreeError, Visit};

/// Not part of a folder's own files, where no `.gitignore` says so.
const LEFT_OUT: [&str; 3] = ["node_modules", "bower_components", ".git"];

pub(super) fn from_folder(job: &Job, local: &Local) -> Result<Done, Stop> {
    let dir = std::fs::canonicalize(&local.dir)
        .map_err(|error| Refusal::new(RefusalKind::UnknownRevision, format!("{}: {error}", local.dir.display())))?;
    let theirs = repository_of(&dir)?;
    let locked = mirror::lock(&job.mirror)?;
    let mirror = mirror::open_or_make(&job.mirror, &locked)?;
    let borrowed = theirs.as_ref().map(|repo| repo.commondir().join("objects"));
    let own = without_borrowed(job, &mirror)?;
    let mirror = borrow_objects(job, mirror, borrowed.as_deref())?;

    let prefix = match &theirs {
        Some(repo) => inside(repo, &dir),
        None => PathBuf::new(),
    };
    let commit = match (&theirs, &local.rev) {
        (Some(repo), Some(rev)) => Some(revision(repo, rev)?),
        (None, Some(rev)) => {
            let text = format!("{} is no git repository, so there is no {rev:?} in it", dir.display());
            return Err(Refusal::new(RefusalKind::UnknownRevision, text).into());
        }
        // A repository without a commit yet has files, and no HEAD to show.
        (Some(repo), None) => repo.head().ok().and_then(|head| head.peel_to_commit().ok()).map(|commit| commit.id()),
        (None, None) => None,
    };
    let tree = match (&theirs, &local.rev, commit) {
        (_, Some(_), Some(commit)) => tree_of(&mirror.repo, commit, &prefix)?,
        (Some(repo), ..) => tree_of_worktree(repo, &own, &dir, &prefix, job.budget)?,
        (None, ..) => tree_of_folder(&own, &dir, job.budget)?,
    };
    drop(locked);

    let mut workspace = Workspace::open(&job.slot)?;
    let objects: Vec<PathBuf> = std::iter::once(mirror.objects()).chain(borrowed).collect();
    // In a part of a repository git would look for the rest of it.
    let shown = commit.filter(|_| prefix.as_os_str().is_empty());
    let settings = Settings::read(settings::file_of(&mirror.repo, tree).as_deref());
    let head = match (shown, &theirs) {
        (Some(id), Some(repo)) => {
            let mut shallow = gitdir::cut_off(&mirror.repo, id, settings.checkout.depth)?;
            // A shallow clone stays one, whatever depth was asked for.
            let cut = std::fs::read_to_string(repo.commondir().join("shallow")).unwrap_or_default();
            shallow.extend(cut.lines().map(str::to_owned));
            let tags = if settings.checkout.tags { tags_of(repo)? } else { BTreeMap::new() };
            let commit = mirror.repo.find_commit(id)?;
            let head = Head { commit: id.to_string(), alternates: objects.clone(), shallow, tags, ..Head::default() };
            Some((commit, head))
        }
        _ => None,
    };
    let head = head.as_ref().map(|(commit, head)| (commit, head.clone()));
    let mut lfs = LfsSources::new();
    if let Some(repo) = theirs.as_ref().filter(|_| settings.checkout.lfs) {
        let objects = repo.commondir().join("lfs/objects");
        lfs.insert(String::new(), lfs::Source::Folder { objects, dir: dir.clone() });
    }
    let filled = Filled { tree, head, objects, modules: Modules::new(), lfs, settings };
    let done = fill(job, &mut workspace, &mirror.repo, filled)?;
    workspace.finish();
    Ok(done)
}

/// The tags of a person's repository, with the ids at which they stand.
fn tags_of(repo: &Repository) -> Result<BTreeMap<String, String>, Stop> {
    let mut tags = BTreeMap::new();
    for reference in repo.references_glob("refs/tags/*")?.flatten() {
        if let (Ok(name), Some(id)) = (reference.name(), reference.target()) {
            tags.insert(name.to_owned(), id.to_string());
        }
    }
    Ok(tags)
}

/// The repository that `dir` is (a part of), if it is one and does not ignore `dir`.
fn repository_of(dir: &Path) -> Result<Option<Repository>, Stop> {
    let none: [&str; 0] = [];
    let repo = match Repository::open_ext(dir, RepositoryOpenFlags::empty(), none) {
        Ok(repo) => repo,
        Err(error) if error.code() == ErrorCode::NotFound => return Ok(None),
        Err(error) if error.code() == ErrorCode::Owner => {
            let dir = dir.display();
            let text = format!(
                "{dir} belongs to another user; if you trust it: git config --global --add safe.directory {dir}"
            );
            return Err(Refusal::new(RefusalKind::Broken, text).into());
        }
        Err(error) => return Err(error.into()),
    };
    let ours = !repo.is_bare() && repo.workdir().is_some();
    let part = inside(&repo, dir);
    let ignored = !part.as_os_str().is_empty() && repo.is_path_ignored(&part).unwrap_or(false);
    Ok((ours && !ignored).then_some(repo))
}

/// Where in its repository `dir` lies; empty for the top.
fn inside(repo: &Repository, dir: &Path) -> PathBuf {
    let top = repo.workdir().and_then(|top| std::fs::canonicalize(top).ok());
    top.and_then(|top| dir.strip_prefix(top).map(Path::to_owned).ok()).unwrap_or_default()
}

/// The mirror with its own objects alone: new ones are written through this.
///
/// libgit2 sets the time of an object that is written and exists already, also where it is borrowed from, and nothing
/// in the person's folder may change.
fn without_borrowed(job: &Job, mirror: &Mirror) -> Result<Repository, Stop> {
    let file = alternates(mirror);
    match std::fs::remove_file(&file) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(Refusal::disk(&file, &error).into()),
        _ => {}
    }
    // A tree may name objects that are only borrowed, which this one can't see. Holds for the whole process, which
    // makes this one checkout.
    git2::opts::strict_object_creation(false);
    let own = Repository::open_bare(&job.mirror)?;
    // What is borrowed is read when the objects are first asked for: now, before there is anything.
    own.odb()?;
    Ok(own)
}

fn alternates(mirror: &Mirror) -> PathBuf {
    mirror.objects().join("info/alternates")
}

/// The mirror with the objects of the person's repository beside its own.
fn borrow_objects(job: &Job, mirror: Mirror, borrowed: Option<&Path>) -> Result<Mirror, Stop> {
    let Some(borrowed) = borrowed else { return Ok(mirror) };
    let file = alternates(&mirror);
    let mut line = borrowed.as_os_str().as_bytes().to_vec();
    line.push(b'\n');
    std::fs::create_dir_all(mirror.objects().join("info"))
        .and_then(|()| std::fs::write(&file, line))
        .map_err(|error| Refusal::disk(&file, &error))?;
    let repo = Repository::open_bare(&job.mirror)?;
    // They are read when the objects are first asked for: now, under the lock, for another run borrows from elsewhere.
    repo.odb()?;
    Ok(Mirror { repo })
}

fn revision(repo: &Repository, rev: &str) -> Result<Oid, Stop> {
    let unknown = |error: git2::Error| {
        Refusal::new(RefusalKind::UnknownRevision, format!("there is no commit {rev:?}: {}", error.message()))
    };
    Ok(repo.revparse_single(rev).and_then(|object| object.peel_to_commit()).map_err(unknown)?.id())
}

/// The tree of a commit, or of a part of it.
fn tree_of(repo: &Repository, commit: Oid, prefix: &Path) -> Result<Oid, Stop> {
    let tree = repo.find_commit(commit)?.tree()?;
    if prefix.as_os_str().is_empty() {
        return Ok(tree.id());
    }
    let missing = |_| {
        let text = format!("commit {commit} has no folder {}", prefix.display());
        Refusal::new(RefusalKind::UnknownRevision, text)
    };
    Ok(tree.get_path(prefix).map_err(missing)?.id())
}

/// The tree of what is tracked and of what is not ignored, as it lies in the folder now.
fn tree_of_worktree(
    theirs: &Repository,
    own: &Repository,
    dir: &Path,
    prefix: &Path,
    budget: Budget,
) -> Result<Oid, Stop> {
    let mut prefix = prefix.as_os_str().as_bytes().to_vec();
    if !prefix.is_empty() {
        prefix.push(b'/');
    }
    let within = |path: &[u8]| path.strip_prefix(prefix.as_slice()).map(<[u8]>::to_vec);
    let changed = changed_paths(theirs)?;
    let mut gathered = Gathered::new(own, dir, budget)?;
    for entry in theirs.index()?.iter() {
        let Some(path) = within(&entry.path) else { continue };
        if !changed.contains_key(&entry.path) {
            let its_own = (entry.mode == GITLINK).then(|| checked_out(dir, &path)).flatten();
            match its_own {
                Some(repo) => submodule(&mut gathered, &repo, &path, 0)?,
                None => gathered.known(path, entry.mode, entry.id)?,
            }
        }
    }
    for (path, status) in &changed {
        let gone = status.intersects(Status::WT_DELETED) && !status.intersects(Status::CONFLICTED);
        // A folder here is a repository within the repository; git leaves it out as well.
        let folder = path.ends_with(b"/");
        if let Some(path) = within(path)
            && !gone
            && !folder
        {
            gathered.read(path)?;
        }
    }
    gathered.tree()
}

/// The repository of a submodule that is checked out.
fn checked_out(dir: &Path, path: &[u8]) -> Option<Repository> {
    let dir = dir.join(std::ffi::OsStr::from_bytes(path));
    // Not a repository further up, which is what an empty folder is a part of.
    dir.join(".git").symlink_metadata().ok()?;
    Repository::open(dir).ok()
}

/// The files of a submodule as they lie there: its objects are elsewhere, so they are read one by one.
fn submodule(gathered: &mut Gathered<'_>, repo: &Repository, path: &[u8], nesting: usize) -> Result<(), Stop> {
    const MAX_NESTING: usize = 8;
    let at = |inner: &[u8]| [path, b"/", inner].concat();
    for entry in repo.index()?.iter() {
        let nested = repo.workdir().filter(|_| entry.mode == GITLINK && nesting < MAX_NESTING);
        match nested.and_then(|dir| checked_out(dir, &entry.path)) {
            Some(nested) => submodule(gathered, &nested, &at(&entry.path), nesting + 1)?,
            None if entry.mode == GITLINK => {}
            None => gathered.read(at(&entry.path))?,
        }
    }
    for (inner, status) in changed_paths(repo)? {
        if status.intersects(Status::WT_NEW) && !inner.ends_with(b"/") {
            gathered.read(at(&inner))?;
        }
    }
    Ok(())
}

/// Paths whose contents in the folder differ from the index, and those that are new.
fn changed_paths(repo: &Repository) -> Result<BTreeMap<Vec<u8>, Status>, Stop> {
    let mut options = StatusOptions::new();
    options
        .include_untracked(true)
        .recurse_untracked_dirs(true)
        .include_ignored(false)
        .exclude_submodules(true)
        .update_index(false)
        .show(git2::StatusShow::Workdir);
    let statuses = repo.statuses(Some(&mut options))?;
    Ok(statuses.iter().map(|entry| (entry.path_bytes().to_vec(), entry.status())).collect())
}

fn tree_of_folder(own: &Repository, dir: &Path, budget: Budget) -> Result<Oid, Stop> {
    let mut gathered = Gathered::new(own, dir, budget)?;
    let mut failed = None;
    tree::walk(dir, |entry| {
        let name = entry.path.file_name().unwrap_or_default();
        if LEFT_OUT.iter().any(|left| name == *left) {
            return Visit::Skip;
        }
        if matches!(entry.kind, Kind::File | Kind::Link)
            && let Err(stop) = gathered.read(entry.path.as_os_str().as_bytes().to_vec())
        {
            failed = Some(stop);
            return Visit::Stop;
        }
        Visit::Continue
    })?;
    match failed {
        Some(stop) => Err(stop),
        None => gathered.tree(),
    }
}

/// Files that become a tree.
struct Gathered<'a> {
    /// Where new objects go.
    own: &'a Repository,
    dir: Dir,
    index: Index,
    files: u64,
    budget: Budget,
}

impl<'a> Gathered<'a> {
    fn new(own: &'a Repository, dir: &Path, budget: Budget) -> Result<Self, Stop> {
        Ok(Gathered { own, dir: Dir::open(dir)?, index: Index::new()?, files: 0, budget })
    }

    /// A file whose contents the mirror can read already.
    fn known(&mut self, path: Vec<u8>, mode: u32, id: Oid) -> Result<(), Stop> {
        self.files += 1;
        if self.files > self.budget.files {
            let most = self.budget.files;
            return Err(Refusal::too_much(format_args!("more than {most} files (limits.checkout_files)")).into());
        }
        let zero = IndexTime::new(0, 0);
        let entry = IndexEntry {
            ctime: zero,
            mtime: zero,
            dev: 0,
            ino: 0,
            mode,
            uid: 0,
            gid: 0,
            file_size: 0,
            id,
            flags: 0,
            flags_extended: 0,
            path,
        };
        Ok(self.index.add(&entry)?)
    }

    /// A file or link as it lies in the folder. One that vanished meanwhile is left out.
    fn read(&mut self, path: Vec<u8>) -> Result<(), Stop> {
        use std::os::unix::fs::PermissionsExt;
        let rel = PathBuf::from(std::ffi::OsStr::from_bytes(&path));
        let (mode, bytes) = match self.dir.read_link(&rel) {
            Ok(target) => (0o120_000, target),
            Err(error) if error.is_not_found() => return Ok(()),
            Err(_) => {
                let file = self.dir.open_file(&rel)?;
                let permissions = file.metadata().map_err(|source| TreeError::Io { path: rel.clone(), source })?;
                let executable = permissions.permissions().mode() & 0o100 != 0;
                (if executable { 0o100_755 } else { 0o100_644 }, self.dir.read_file(&rel, MAX_FILE)?)
            }
        };
        let id = self.own.odb()?.write(git2::ObjectType::Blob, &bytes)?;
        self.known(path, mode, id)
    }

    fn tree(mut self) -> Result<Oid, Stop> {
        Ok(self.index.write_tree_to(self.own)?)
    }
}

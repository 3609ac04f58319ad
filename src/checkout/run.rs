//! One checkout from beginning to end, in the child process.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use git2::{Commit, ObjectType, Oid, Repository};

use super::contents::LfsSources;
use super::gitdir::{self, Head};
use super::mirror::{self, Mirror, Wanted};
use super::refusal::{Refusal, RefusalKind, Stop};
use super::settings::{self, Settings};
use super::submodules::{Fetched, Fetcher, Modules};
use super::transport::{self, Link, Switchboard, Traffic};
use super::workspace::{State, Target, Wishes, Workspace};
use super::{Done, Job, Needless, Remote, Source, lfs, listing, local, needless, newcomers};
use crate::config::repo_file::FILE_NAME;
use crate::domain::listing::Listing;
use crate::domain::repo::CommitId;
use crate::domain::time::Timestamp;

/// A repository's whole history, packed, may be this many times as large as one commit's files.
const HISTORY: u64 = 4;
/// The list of refs alone is megabytes in a repository with many pull requests.
const LEAST_TO_FETCH: u64 = 64 << 20;

/// Does the job. The caller has [`super::prepare`]d the process; one job is all it does.
pub fn run(job: &Job) -> Result<Done, Refusal> {
    match &job.source {
        Source::Remote(remote) => from_forge(job, remote),
        Source::Local(folder) => local::from_folder(job, folder).map_err(Stop::refusal),
    }
}

fn from_forge(job: &Job, remote: &Remote) -> Result<Done, Refusal> {
    let id = oid(&remote.sha)?;
    let traffic = Traffic::new(job.budget.bytes.saturating_mul(HISTORY).max(LEAST_TO_FETCH));
    let link = Link::new(&remote.clone_url, remote.credential.as_ref(), &remote.network, &traffic)?;
    let switchboard = Switchboard::register().map_err(|error| Stop::from(error).refusal())?;
    let way = Way { link, traffic, switchboard };
    let first = attempt(job, remote, id, &way, false);
    let answer = match first {
        // A disk that lost a part of a mirror is mended by a new mirror, once.
        Err(Stop::Unsound(_)) => attempt(job, remote, id, &way, true),
        answer => answer,
    };
    answer.map_err(Stop::refusal)
}

fn oid(sha: &CommitId) -> Result<Oid, Refusal> {
    if sha.as_str().len() != 40 {
        let text = format!("commit {} is of a SHA-256 repository, which this version can't read", sha.short());
        return Err(Refusal::new(RefusalKind::Unacceptable, text));
    }
    Oid::from_str(sha.as_str()).map_err(|error| Stop::from(error).refusal())
}

/// The way to the forge.
struct Way {
    link: Arc<Link>,
    traffic: Arc<Traffic>,
    switchboard: Switchboard,
}

fn attempt(job: &Job, remote: &Remote, id: Oid, way: &Way, anew: bool) -> Result<Done, Stop> {
    let mut workspace = Workspace::open(&job.slot)?;
    way.switchboard.connect(&way.link);
    let base = remote.base.as_ref().and_then(|base| base.sha.as_ref()).map(oid).transpose()?;
    let holds_all = |mirror: &Mirror| mirror.holds(id) && base.is_none_or(|base| mirror.holds(base));
    mirror::used(&job.mirror);
    let at_once = Mirror::open(&job.mirror).filter(|mirror| !anew && holds_all(mirror));
    let mut had_it = at_once.is_some();
    let mirror = match at_once {
        Some(mirror) => mirror,
        None => fetched(job, remote, id, way, anew, &workspace.trash())?,
    };
    let commit = commit_of(&mirror.repo, id)?;
    let base_tree = base.map(|base| Ok::<_, Stop>(commit_of(&mirror.repo, base)?.tree_id())).transpose()?;
    // Whoever may not change how a repository is built has no part in the file that says so.
    let file = match &remote.base {
        None => settings::file_of(&mirror.repo, commit.tree_id()),
        Some(_) => base_tree.and_then(|tree| settings::file_of(&mirror.repo, tree)),
    };
    let settings = Settings::read(file.as_deref());
    let known = needless::since(&mirror.repo, commit.tree_id(), &remote.passed, &settings.ignored, job.budget);
    if let Some(known) = known {
        workspace.finish();
        return Ok(left_alone(job, &commit, known, way.traffic.received()));
    }
    let mut tags = BTreeMap::new();
    if settings.checkout.tags {
        let _locked = mirror::lock(&job.mirror)?;
        tags = mirror::fetch_tags(&mirror, &remote.clone_url, &way.link)?;
        had_it = false;
    }
    let fetched = match settings.checkout.submodules {
        false => Fetched { all_there: true, ..Fetched::default() },
        true => Fetcher {
            remote,
            mirrors: job.mirror.parent().unwrap_or(Path::new(".")),
            switchboard: &way.switchboard,
            traffic: &way.traffic,
            depth: settings.checkout.depth,
            fork_of: remote.base.as_ref().map(|_| base_tree),
        }
        .fetch(&job.mirror, commit.tree_id())?,
    };
    let objects = mirror.objects();
    let head = Head {
        commit: commit.id().to_string(),
        origin: Some(transport::address(&remote.clone_url)?.into()),
        alternates: vec![job.objects_seen_at.clone().unwrap_or_else(|| objects.clone())],
        shallow: gitdir::cut_off(&mirror.repo, commit.id(), settings.checkout.depth)?,
        tags,
        submodules: fetched.named.clone(),
    };
    let all_there = fetched.all_there;
    let filled = Filled {
        tree: commit.tree_id(),
        head: Some((&commit, head)),
        objects: std::iter::once(objects).chain(fetched.objects.iter().cloned()).collect(),
        lfs: if settings.checkout.lfs { lfs_sources(job, remote, way, &fetched) } else { LfsSources::new() },
        modules: fetched.modules,
        settings,
    };
    let mut done = fill(job, &mut workspace, &mirror.repo, filled)?;
    if let Some(base) = &remote.compared_with {
        done.notices.extend(newcomers::notices(&mirror.repo, base.as_str(), commit.tree_id(), &done.listing));
    }
    if remote.base.is_some() {
        put_file(&mut done.listing, file);
        if base.is_none() {
            done.notices.push(format!("{FILE_NAME} is left out: the forge did not name the commit it is read from"));
        }
    }
    workspace.finish();
    Ok(Done { fetched_bytes: way.traffic.received(), mirror_had_it: had_it && all_there, ..done })
}

/// The mirror, with what was missing fetched into it.
fn fetched(job: &Job, remote: &Remote, id: Oid, way: &Way, anew: bool, trash: &Path) -> Result<Mirror, Stop> {
    let locked = mirror::lock(&job.mirror)?;
    if anew {
        mirror::discard(&job.mirror, trash, &locked)?;
    }
    let mirror = mirror::open_or_make(&job.mirror, &locked)?;
    let url = &remote.clone_url;
    // Whoever held the lock may have fetched it for us.
    if !mirror.holds(id) {
        mirror::fetch(&mirror, Wanted { url, id, git_ref: Some(remote.git_ref.as_str()) }, &way.link)?;
    }
    if let Some(base) = &remote.base
        && let Some(sha) = &base.sha
    {
        let id = oid(sha)?;
        if !mirror.holds(id) {
            mirror::fetch(&mirror, Wanted { url, id, git_ref: Some(base.git_ref.as_str()) }, &way.link)?;
        }
    }
    Ok(mirror)
}

fn lfs_sources(job: &Job, remote: &Remote, way: &Way, fetched: &Fetched) -> LfsSources {
    let source = |mirror: &Path, link: &Arc<Link>| lfs::Source::Forge {
        mirror: mirror.to_owned(),
        link: Arc::clone(link),
        network: remote.network.clone(),
        traffic: Arc::clone(&way.traffic),
    };
    let modules = fetched.ways.iter().map(|(path, (mirror, link))| (format!("{path}/"), source(mirror, link)));
    std::iter::once((String::new(), source(&job.mirror, &way.link))).chain(modules).collect()
}

/// Puts the repository file of the base in the place of the commit's own.
fn put_file(listing: &mut Listing, file: Option<Vec<u8>>) {
    listing.paths.remove(FILE_NAME);
    listing.manifests.remove(FILE_NAME);
    if let Some(bytes) = file {
        listing.paths.insert(FILE_NAME.to_owned());
        listing.manifests.insert(FILE_NAME.to_owned(), bytes);
    }
}

/// The answer for a tree that needs no build, and so no files either.
fn left_alone(job: &Job, commit: &Commit<'_>, needless: Needless, fetched_bytes: u64) -> Done {
    Done {
        src: job.slot.join("src"),
        needless: Some(needless),
        listing: Listing::default(),
        notices: Vec::new(),
        files: 0,
        bytes: 0,
        changed: 0,
        fetched_bytes,
        mirror_had_it: fetched_bytes == 0,
        objects: Vec::new(),
        ..told(Some(commit), commit.tree_id())
    }
}

/// The commit that `id` names: a tag's push names the tag.
fn commit_of(repo: &Repository, id: Oid) -> Result<Commit<'_>, Stop> {
    let object = repo.find_object(id, None)?;
    let kind = object.kind();
    object.peel_to_commit().map_err(|error| match kind {
        // Tags may stand at anything.
        Some(ObjectType::Tree | ObjectType::Blob | ObjectType::Tag) => {
            Refusal::new(RefusalKind::Unacceptable, format!("{id} names no commit")).into()
        }
        _ => error.into(),
    })
}

/// What a workspace is filled with.
pub(super) struct Filled<'a> {
    pub(super) tree: Oid,
    /// The commit and the `.git` that the steps see.
    pub(super) head: Option<(&'a Commit<'a>, Head)>,
    pub(super) objects: Vec<PathBuf>,
    pub(super) modules: Modules,
    pub(super) lfs: LfsSources,
    pub(super) settings: Settings,
}

/// The half that a forge's commit and a local folder share: from a tree in `repo` to the answer.
pub(super) fn fill(job: &Job, workspace: &mut Workspace, repo: &Repository, filled: Filled<'_>) -> Result<Done, Stop> {
    let odb = repo.odb()?;
    for objects in filled.objects.iter().skip(1).filter(|_| !filled.modules.is_empty()) {
        odb.add_disk_alternate(&objects.to_string_lossy())?;
    }
    let (commit, head) = filled.head.unzip();
    let wishes = Wishes { submodules: filled.settings.checkout.submodules, lfs: filled.settings.checkout.lfs };
    let modules = filled.modules.keys().cloned().collect();
    let target = Target { tree: filled.tree, head, modules: filled.modules, wishes, lfs: &filled.lfs };
    let (state, changed) = workspace.switch(&odb, target, job.budget)?;
    let mut listing = listing::read(repo, filled.tree, &state.watched, commit)?;
    listing.submodules = modules;
    Ok(Done {
        listing,
        notices: notices(&state, wishes),
        files: state.totals.files,
        bytes: state.totals.bytes,
        changed,
        src: workspace.src(),
        objects: filled.objects,
        ..told(commit, filled.tree)
    })
}

/// What is known of a commit before any file of it is written.
fn told(commit: Option<&Commit<'_>>, tree: Oid) -> Done {
    let text = |bytes: &[u8]| Some(String::from_utf8_lossy(bytes).into_owned()).filter(|text| !text.is_empty());
    Done {
        src: PathBuf::new(),
        commit: commit.map(|commit| commit.id().to_string().parse().expect("git's ids are 40 hex digits")),
        tree: tree.to_string(),
        title: commit.and_then(|commit| text(commit.summary_bytes().unwrap_or_default())),
        author: commit.and_then(|commit| text(commit.author().name_bytes())),
        committed_at: commit.map(|commit| Timestamp(commit.time().seconds().saturating_mul(1000))),
        listing: Listing::default(),
        needless: None,
        notices: Vec::new(),
        files: 0,
        bytes: 0,
        changed: 0,
        fetched_bytes: 0,
        mirror_had_it: true,
        objects: Vec::new(),
    }
}

fn notices(state: &State, wishes: Wishes) -> Vec<String> {
    let mut notices = Vec::new();
    let named = |paths: &BTreeSet<String>| {
        let first = paths.iter().next().map(String::as_str).unwrap_or_default();
        if paths.len() == 1 { first.to_owned() } else { format!("{first} and {} more", paths.len() - 1) }
    };
    if !state.lfs.is_empty() {
        let why = match () {
            () if !wishes.lfs => "checkout.lfs is false",
            () if state.no_lfs_server => "there is no Git LFS at the repository's address",
            () => ".gitattributes does not name them, or the folder lacks them",
        };
        let what = named(&state.lfs);
        notices.push(format!("Git LFS is not fetched: {what} hold pointers and not their contents; {why}"));
    }
    if !state.submodules.is_empty() {
        let why = if wishes.submodules {
            ".gitmodules does not name them, or the folder lacks them"
        } else {
            "checkout.submodules is false"
        };
        notices.push(format!("Submodules are not fetched: {} left empty; {why}", named(&state.submodules)));
    }
    if state.encoded {
        notices.push("working-tree-encoding in .gitattributes is not heeded: files are written in UTF-8".to_owned());
    }
    notices
}

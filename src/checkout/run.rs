//! One checkout from beginning to end, in the child process.

use std::path::PathBuf;

use git2::{Commit, ObjectType, Oid, Repository};

use super::gitdir::{self, Head};
use super::mirror::{self, Mirror};
use super::refusal::{Refusal, RefusalKind, Stop};
use super::transport::{self, Link};
use super::workspace::{State, Workspace};
use super::{Done, Job, Remote, Source, listing, local};
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
    if remote.sha.as_str().len() != 40 {
        let text = format!("commit {} is of a SHA-256 repository, which this version can't read", remote.sha.short());
        return Err(Refusal::new(RefusalKind::Unacceptable, text));
    }
    let id = Oid::from_str(remote.sha.as_str()).map_err(|error| Stop::from(error).refusal())?;
    let link = Link::new(remote, job.budget.bytes.saturating_mul(HISTORY).max(LEAST_TO_FETCH))?;
    link.register().map_err(|error| Stop::from(error).refusal())?;
    let first = attempt(job, remote, id, &link, false);
    let answer = match first {
        // A disk that lost a part of a mirror is mended by a new mirror, once.
        Err(Stop::Unsound(_)) => attempt(job, remote, id, &link, true),
        answer => answer,
    };
    answer.map_err(Stop::refusal)
}

fn attempt(job: &Job, remote: &Remote, id: Oid, link: &Link, anew: bool) -> Result<Done, Stop> {
    let mut workspace = Workspace::open(&job.slot)?;
    let at_once = Mirror::open(&job.mirror).filter(|mirror| !anew && mirror.holds(id));
    let mirror_had_it = at_once.is_some();
    let mirror = match at_once {
        Some(mirror) => mirror,
        None => {
            let locked = mirror::lock(&job.mirror)?;
            if anew {
                mirror::discard(&job.mirror, &workspace.trash(), &locked)?;
            }
            let mirror = mirror::open_or_make(&job.mirror, &locked)?;
            // Whoever held the lock may have fetched it for us.
            if !mirror.holds(id) {
                mirror::fetch(&mirror, remote, id, link)?;
            }
            mirror
        }
    };
    let commit = commit_of(&mirror.repo, id)?;
    let objects = mirror.objects();
    let head = Head {
        commit: commit.id().to_string(),
        origin: Some(transport::address(&remote.clone_url)?.into()),
        alternates: vec![job.objects_seen_at.clone().unwrap_or_else(|| objects.clone())],
        shallow: gitdir::cut_off(&mirror.repo, commit.id(), job.depth)?,
    };
    let done = fill(job, &mut workspace, &mirror.repo, commit.tree_id(), Some((&commit, head)), vec![objects])?;
    workspace.finish();
    Ok(Done { fetched_bytes: link.received(), mirror_had_it, ..done })
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

/// The half that a forge's commit and a local folder share: from a tree in `repo` to the answer.
pub(super) fn fill(
    job: &Job,
    workspace: &mut Workspace,
    repo: &Repository,
    tree: Oid,
    head: Option<(&Commit<'_>, Head)>,
    objects: Vec<PathBuf>,
) -> Result<Done, Stop> {
    let odb = repo.odb()?;
    let (commit, head) = head.unzip();
    let (state, changed) = workspace.switch(&odb, tree, head, job.budget)?;
    let text = |bytes: &[u8]| Some(String::from_utf8_lossy(bytes).into_owned()).filter(|text| !text.is_empty());
    Ok(Done {
        src: workspace.src(),
        commit: commit.map(|commit| commit.id().to_string().parse().expect("git's ids are 40 hex digits")),
        tree: tree.to_string(),
        title: commit.and_then(|commit| text(commit.summary_bytes().unwrap_or_default())),
        author: commit.and_then(|commit| text(commit.author().name_bytes())),
        committed_at: commit.map(|commit| Timestamp(commit.time().seconds().saturating_mul(1000))),
        listing: listing::read(repo, tree, &state.watched, commit)?,
        notices: notices(&state),
        files: state.totals.files,
        bytes: state.totals.bytes,
        changed,
        fetched_bytes: 0,
        mirror_had_it: true,
        objects,
    })
}

fn notices(state: &State) -> Vec<String> {
    let mut notices = Vec::new();
    let named = |paths: &std::collections::BTreeSet<String>| {
        let first = paths.iter().next().map(String::as_str).unwrap_or_default();
        if paths.len() == 1 { first.to_owned() } else { format!("{first} and {} more", paths.len() - 1) }
    };
    if !state.lfs.is_empty() {
        let what = named(&state.lfs);
        notices.push(format!("Git LFS is not fetched: {what} hold pointers and not their contents"));
    }
    if !state.submodules.is_empty() {
        notices.push(format!("Submodules are not fetched: {} left empty", named(&state.submodules)));
    }
    notices
}

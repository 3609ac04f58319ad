//! A folder on this machine, built or planned as the agent would: what `hookmill run` and `hookmill check` share.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{Semaphore, oneshot};

use crate::cache::Cache;
use crate::config::load;
use crate::config::root::NoRoot;
use crate::config::server::{InstallHost, Sandbox};
use crate::config::surroundings::Surroundings;
use crate::confine::{self, Layers};
use crate::domain::build::{Build, BuildId, Cause, State};
use crate::domain::mask::Mask;
use crate::domain::outcome::Verdict;
use crate::domain::repo::{CommitId, RefName, RepoId};
use crate::domain::scripts::Scripts;
use crate::domain::spec::Plan;
use crate::domain::time::Timestamp;
use crate::domain::trust::Trust;
use crate::live::cache_tally::CacheTally;
use crate::runner::{self, Job, Parts, Pending, Source, Stop, Tell, Toolbox};
use crate::sweeper::UNUSED_SNAPSHOT;
use crate::toolchain;
use crate::tree;

/// How many folders may be built at once by this user; each has a slot of its own.
const SLOTS: usize = 64;

/// Why a folder could not be built at all.
#[derive(Debug, thiserror::Error)]
pub(super) enum FolderError {
    #[error("{0} is not a folder; name the folder to build")]
    NoFolder(PathBuf),
    #[error("there is no folder for the cache: set XDG_CACHE_HOME or HOME")]
    NoCache,
    #[error("{}: {source}", path.display())]
    Cache { path: PathBuf, source: std::io::Error },
    #[error("all {SLOTS} slots under {0} are in use; wait for another `hookmill run` to end")]
    NoSlot(PathBuf),
    #[error("--install-host {text}: {why}")]
    InstallHost { text: String, why: String },
    #[error("--root: {0}")]
    Root(#[from] NoRoot),
    #[error(transparent)]
    Config(#[from] load::LoadError),
    #[error("this process can't be looked at: {0}")]
    Process(std::io::Error),
}

/// What confines the steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Confinement {
    /// Every layer that this host gives.
    AsTheHostGives,
    /// No step will run, so the host is not probed.
    NothingRuns,
}

/// A folder with everything that building it needs. The folder itself is only read.
pub(super) struct Folder {
    /// The build.
    pub(super) job: Job,
    /// What it is run with.
    pub(super) parts: Parts,
    slot: Slot,
    /// For what builds leave for later ones, in bytes.
    quota: u64,
}

impl Folder {
    /// The folder's files (what is tracked and what is not ignored), or a commit of its repository.
    pub(super) async fn open(
        dir: &Path,
        rev: Option<&str>,
        confinement: Confinement,
        install_hosts: &[String],
    ) -> Result<Self, FolderError> {
        let found = dir.canonicalize().ok().filter(|dir| dir.is_dir());
        let dir = found.ok_or_else(|| FolderError::NoFolder(dir.to_owned()))?;
        let around = Surroundings::of_this_process().map_err(FolderError::Process)?;
        let server = load::defaults(&around)?.server;
        let sandbox = sandbox(&server.sandbox, install_hosts)?;
        let cache = cache_dir()?;
        let slot = Slot::take(&cache)?;
        let quota = server.retention.snapshots;
        drop(tidy(&cache, quota));
        let exe = this_program().map_err(FolderError::Process)?;
        let layers = match confinement {
            Confinement::NothingRuns => Layers::none("nothing is run"),
            Confinement::AsTheHostGives => confine::probe(&exe, &cache)
                .await
                .unwrap_or_else(|error| Layers::none(&format!("the host could not be probed: {error}"))),
        };
        let parts = Parts {
            exe,
            data_dir: cache.clone(),
            layers: Arc::new(layers),
            network: Arc::clone(&server.network),
            tools: Toolbox::default(),
            toolchain: Arc::clone(&server.toolchain),
            shared_tools: None,
            // What it wrote is gone with its workspace: the folder is never written to, and a second place would be
            // searched in vain.
            artifacts: None,
            cache: Cache::new(&cache),
            tally: CacheTally::default(),
            pending: Pending::default(),
            crowded: Arc::default(),
            permits: Arc::new(Semaphore::new(around.cores.max(2))),
        };
        let job = Job {
            build: local_build(&dir),
            source: Source::Folder { dir, rev: rev.map(str::to_owned) },
            limits: server.agent.limits.clone(),
            scripts: Scripts::All,
            bundle_network: false,
            sandbox: Arc::new(sandbox),
            root: None,
            registries: Vec::new(),
            git: None,
            cache: true,
            env: BTreeMap::new(),
            secrets: Vec::new(),
            mask: Mask::default(),
            passed: Vec::new(),
            url: String::new(),
        };
        Ok(Self { job, parts, slot, quota })
    }

    /// The number of its slot.
    pub(super) fn slot(&self) -> usize {
        self.slot.number
    }

    /// What a build of it would do; nothing is run.
    pub(super) async fn plan(&self, stop: &Stop) -> Result<Plan, Verdict> {
        let (tell, mut happenings) = Tell::channel();
        let unheard = async { while happenings.recv().await.is_some() {} };
        let explained = runner::build::explain(&self.job, &self.parts, self.slot.number, tell, stop);
        tokio::join!(explained, unheard).0
    }

    /// Removes what the build left behind, and snapshots and tools that no build has used for long, as far as [`PATIENCE`]
    /// goes.
    pub(super) async fn close(self) {
        if let Ok(Ok(Err(error))) = tokio::time::timeout(PATIENCE, tidy(&self.parts.data_dir, self.quota)).await {
            eprintln!("hookmill: what the build left behind could not be removed: {error}");
        }
    }
}

/// Who has read the verdict waits no longer than this for the removal of a large `node_modules`: it can take longer
/// than the build, and the next build's beginning takes it up where it was left.
const PATIENCE: Duration = Duration::from_secs(2);

/// Brings snapshots under their quota and empties the trash, in a thread that the process's end ends: a task of the runtime would be waited for.
fn tidy(data_dir: &Path, quota: u64) -> oneshot::Receiver<Result<(), tree::TreeError>> {
    let (tools, trash) = (data_dir.join("tools"), data_dir.join("trash"));
    let snapshots = Cache::new(data_dir);
    let (done, removed) = oneshot::channel();
    std::thread::spawn(move || {
        toolchain::collect(&tools, toolchain::UNUSED, &trash);
        snapshots.clear_unfinished();
        if let Err(error) = snapshots.collect(quota, UNUSED_SNAPSHOT) {
            tracing::warn!(%error, "snapshots could not be brought under their quota");
        }
        // Nobody listens at the beginning of a build; what can't be removed then is told at its end.
        let _ = done.send(tree::empty_trash(&trash));
    });
    removed
}

/// The sandbox of an agent that nobody configured, with further hosts for installs.
fn sandbox(default: &Sandbox, install_hosts: &[String]) -> Result<Sandbox, FolderError> {
    let mut sandbox = default.clone();
    for text in install_hosts {
        let host = InstallHost::parse(text).map_err(|why| FolderError::InstallHost { text: text.clone(), why })?;
        sandbox.install_hosts.push(host);
    }
    Ok(sandbox)
}

/// A build of this folder as the API would show it.
fn local_build(dir: &Path) -> Build {
    let name: String = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let name: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' }).collect();
    let repo: RepoId = format!("local/folder/{name}")
        .parse()
        .unwrap_or_else(|_| "local/folder/root".parse().expect("a constant that parses"));
    let sha: CommitId = "0".repeat(40).parse().expect("forty zeros are a commit id");
    Build {
        id: BuildId(1),
        repo,
        sha,
        built_sha: None,
        base_sha: None,
        git_ref: RefName::branch("local").expect("a constant that parses"),
        branch: None,
        pull_request: None,
        cause: Cause::Local,
        trust: Trust::Trusted,
        attempt: 1,
        rerun_of: None,
        superseded_by: None,
        state: State::Running,
        outcome: None,
        reason: None,
        approved_by: None,
        approved_at: None,
        created_at: now(),
        started_at: Some(now()),
        finished_at: None,
        sandbox: String::new(),
        base_branch: None,
        default_branch: None,
        title: None,
        author: None,
        use_cache: true,
        same_as: None,
        agent: None,
        kept: Vec::new(),
        steps: Vec::new(),
    }
}

/// `$XDG_CACHE_HOME/hookmill`, else `~/.cache/hookmill` (XDG Base Directory Specification).
pub(super) fn cache_dir() -> Result<PathBuf, FolderError> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")));
    let cache = base.ok_or(FolderError::NoCache)?.join("hookmill");
    std::fs::create_dir_all(cache.join("slots"))
        .map_err(|source| FolderError::Cache { path: cache.clone(), source })?;
    Ok(cache)
}

/// A slot that no other `hookmill run` uses, as long as this lives.
struct Slot {
    number: usize,
    _lock: File,
}

impl Slot {
    fn take(cache: &Path) -> Result<Self, FolderError> {
        for number in 0..SLOTS {
            let path = cache.join("slots").join(format!("{number}.lock"));
            let lock = File::create(&path).map_err(|source| FolderError::Cache { path, source })?;
            if lock.try_lock().is_ok() {
                return Ok(Self { number, _lock: lock });
            }
        }
        Err(FolderError::NoSlot(cache.to_owned()))
    }
}

/// This program's file, as children can start it even after an upgrade replaced it.
fn this_program() -> std::io::Result<PathBuf> {
    if cfg!(target_os = "linux") { Ok(PathBuf::from("/proc/self/exe")) } else { std::env::current_exe() }
}

/// The time, by the wall clock.
pub(super) fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

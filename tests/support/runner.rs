//! One build by the runner itself, from a folder: for what no push can bring about, such as a fork's build.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hookmill::cache::Cache;
use hookmill::config::load;
use hookmill::config::server::{Network, Server};
use hookmill::config::surroundings::Surroundings;
use hookmill::confine;
use hookmill::domain::build::{Build, BuildId, Cause, State};
use hookmill::domain::mask::Mask;
use hookmill::domain::outcome::Verdict;
use hookmill::domain::repo::RefName;
use hookmill::domain::step::{Step, StepState};
use hookmill::domain::time::Timestamp;
use hookmill::domain::trust::Trust;
use hookmill::live::cache_tally::CacheTally;
use hookmill::runner::build::Built;
use hookmill::runner::{self, Happening, Job, Parts, Pending, Source, Stop, Tell, Toolbox};
use tokio::sync::Semaphore;

/// Builds these files as a commit of that trust after `change` had its way with the job; the verdict and the whole log,
/// in which a notice is a line of its own.
pub(crate) async fn build(files: &[(&str, &str)], trust: Trust, change: impl FnOnce(&mut Job)) -> (Verdict, String) {
    build_behind(None, files, trust, change).await
}

/// The same on a machine with this way out.
pub(crate) async fn build_behind(
    network: Option<Network>,
    files: &[(&str, &str)],
    trust: Trust,
    change: impl FnOnce(&mut Job),
) -> (Verdict, String) {
    let dir = tempfile::tempdir().expect("a folder");
    let ran = build_in(dir.path(), network, files, trust, change).await;
    (ran.built.verdict, ran.log)
}

/// A build that ended. What it leaves is not kept yet.
pub(crate) struct Ran {
    pub(crate) built: Built,
    /// The whole log, in which a notice is a line of its own, and so is what a finished step's cache did: `npm: hit: why`.
    pub(crate) log: String,
}

/// The same in a folder that may have been one of a build before, with whatever that one kept.
pub(crate) async fn build_in(
    dir: &Path,
    network: Option<Network>,
    files: &[(&str, &str)],
    trust: Trust,
    change: impl FnOnce(&mut Job),
) -> Ran {
    let (source, data) = (dir.join("source"), dir.join("data"));
    let _ = std::fs::remove_dir_all(&source);
    std::fs::create_dir_all(&data).expect("a folder");
    for (path, text) in files {
        let path = source.join(path);
        std::fs::create_dir_all(path.parent().expect("inside")).expect("a folder");
        std::fs::write(path, text).expect("a file");
    }
    let parts = parts_in(&data, network).await;
    let mut job = job_of(&source, trust);
    change(&mut job);
    let (tell, mut happenings) = Tell::channel();
    let stop = Stop::new();
    let hear = async {
        let mut log = Vec::new();
        while let Some(happening) = happenings.recv().await {
            match happening {
                Happening::Step(_, Step { name, cache, cache_note: Some(why), state: StepState::Finished, .. }) => {
                    log.extend_from_slice(format!("{name}: {}: {why}\n", cache.as_str()).as_bytes());
                }
                Happening::Output(_, bytes) => log.extend_from_slice(&bytes),
                Happening::Notice(notice) => log.extend_from_slice(format!("{notice}\n").as_bytes()),
                _ => {}
            }
        }
        String::from_utf8_lossy(&log).into_owned()
    };
    let (built, log) = tokio::join!(runner::build::build(&job, &parts, 0, tell, &stop), hear);
    Ran { built, log }
}

/// An agent's parts with this data directory, as this machine has them.
pub(crate) async fn parts_in(data: &Path, network: Option<Network>) -> Parts {
    let exe = PathBuf::from(env!("CARGO_BIN_EXE_hookmill"));
    let server = defaults();
    let layers = confine::probe(&exe, data).await.expect("a folder of ours");
    Parts {
        exe,
        data_dir: data.to_owned(),
        layers: Arc::new(layers),
        network: network.map_or_else(|| Arc::clone(&server.network), Arc::new),
        tools: Toolbox::default(),
        toolchain: Arc::clone(&server.toolchain),
        shared_tools: None,
        artifacts: None,
        cache: Cache::new(data),
        tally: CacheTally::default(),
        pending: Pending::default(),
        crowded: Arc::default(),
        permits: Arc::new(Semaphore::new(2)),
    }
}

/// What it takes to build a folder.
pub(crate) fn job_of(source: &Path, trust: Trust) -> Job {
    Job {
        build: build_of(trust),
        source: Source::Folder { dir: source.to_owned(), rev: None },
        limits: defaults().agent.limits.clone(),
        scripts: Default::default(),
        bundle_network: false,
        sandbox: Arc::clone(&defaults().sandbox),
        root: None,
        registries: Vec::new(),
        git: None,
        cache: true,
        env: BTreeMap::new(),
        secrets: Vec::new(),
        mask: Mask::default(),
        passed: Vec::new(),
        url: String::new(),
    }
}

fn defaults() -> Server {
    let around = Surroundings::of_this_process().expect("a current directory");
    load::defaults(&around).expect("the default is good").server
}

/// A local build of that trust.
pub(crate) fn build_of(trust: Trust) -> Build {
    Build {
        id: BuildId(1),
        repo: "github/acme/shop".parse().expect("legal"),
        sha: "0".repeat(40).parse().expect("hex"),
        built_sha: None,
        base_sha: None,
        git_ref: RefName::branch("main").expect("legal"),
        branch: Some("main".into()),
        pull_request: None,
        // Its words are those of a server: they name builds.
        cause: Cause::Push,
        trust,
        attempt: 1,
        rerun_of: None,
        superseded_by: None,
        state: State::Running,
        outcome: None,
        reason: None,
        approved_by: None,
        approved_at: None,
        created_at: Timestamp(0),
        started_at: None,
        finished_at: None,
        sandbox: String::new(),
        base_branch: None,
        default_branch: Some("main".into()),
        title: None,
        author: None,
        use_cache: false,
        same_as: None,
        agent: None,
        kept: Vec::new(),
        steps: Vec::new(),
    }
}

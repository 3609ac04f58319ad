//! What a fork's pull request leaves is read by no build but those of the same pull request. A fork's build waits for a
//! maintainer at the server, so these are the runner's own.

use std::sync::Arc;

use hookmill::config::server::InstallHost;
use hookmill::domain::build::BuildId;
use hookmill::domain::outcome::Outcome;
use hookmill::domain::repo::RefName;
use hookmill::domain::trust::Trust;
use tempfile::TempDir;

use crate::poisoning::shop::{Evil, files};
use crate::support::lockfiles::Manager;
use crate::support::registry::Registry;
use crate::support::runner::build_in;

/// A repository and the folder of the agent that builds it.
struct Bench {
    dir: TempDir,
    registry: Registry,
    files: Vec<(String, String)>,
    builds: i64,
}

/// What a build was made of.
#[derive(Debug, PartialEq, Eq)]
struct Made {
    /// Whether packages were installed, and why.
    cache: String,
    /// Whether anything in it was edited by whoever means ill.
    is_dirty: bool,
}

/// As it should be: `of` is the build whose packages are taken; with `None` they are installed.
fn made(of: Option<i64>, is_dirty: bool) -> Made {
    let missed = || "miss: nothing was kept before".to_owned();
    Made { cache: of.map_or_else(missed, |of| format!("hit: unchanged since build #{of}")), is_dirty }
}

impl Bench {
    fn new() -> Bench {
        let registry = Registry::start();
        let files = files(Manager::Npm, &registry, None);
        Bench { dir: tempfile::tempdir().expect("a folder"), registry, files, builds: 0 }
    }

    /// Builds a commit of a ref, and keeps what it leaves.
    async fn build(&mut self, trust: Trust, git_ref: &str, evil: Option<Evil>) -> Made {
        self.builds += 1;
        let id = self.builds;
        let words = format!("module.exports = 'source {id}';\n");
        let mut files: Vec<(&str, &str)> =
            self.files.iter().map(|(path, text)| (path.as_str(), text.as_str())).collect();
        files.push(("src/words.js", &words));
        files.extend(evil.map(|evil| ("evil", evil.word())));
        let git_ref: RefName = git_ref.parse().expect("legal");
        // The operator's word: a fork's own `.npmrc` opens no registry.
        let url = self.registry.url();
        let host = url.trim_start_matches("http://").trim_end_matches('/').to_owned();
        let ran = build_in(self.dir.path(), None, &files, trust, |job| {
            job.build.id = BuildId(id);
            job.build.branch = git_ref.as_branch().map(str::to_owned);
            job.build.git_ref = git_ref;
            job.build.base_branch = Some("main".to_owned());
            job.build.use_cache = true;
            Arc::make_mut(&mut job.sandbox).install_hosts.push(InstallHost::Host(host));
        })
        .await;
        assert_eq!(ran.built.verdict.outcome, Outcome::Passed, "{}: {}", ran.built.verdict.reason, ran.log);
        assert!(ran.log.contains(&format!("source {id}")), "{}", ran.log);
        let cache = ran.log.lines().find_map(|line| line.strip_prefix("npm: ")).expect("it installs").to_owned();
        let is_dirty = ["bundled: dirty alpha", "planted:"].iter().any(|sign| ran.log.contains(sign));
        assert!(!ran.built.keep().await.is_empty(), "nothing of build {id} was kept");
        Made { cache, is_dirty }
    }
}

const MAIN: &str = "refs/heads/main";
const FORK: &str = "refs/pull/7/head";

#[tokio::test]
async fn a_fork_starts_from_main_and_leaves_nothing_to_it() {
    let mut bench = Bench::new();
    assert_eq!(bench.build(Trust::Trusted, MAIN, None).await, made(None, false));
    assert_eq!(bench.build(Trust::Fork, FORK, Some(Evil::Passing)).await, made(Some(1), true));
    assert_eq!(bench.build(Trust::Trusted, MAIN, None).await, made(Some(1), false));
    assert_eq!(bench.build(Trust::Member, "refs/heads/topic", None).await, made(Some(1), false));
}

#[tokio::test]
async fn what_a_forks_install_script_edited_stays_with_its_pull_request() {
    let mut bench = Bench::new();
    assert_eq!(bench.build(Trust::Fork, FORK, Some(Evil::Passing)).await, made(None, true));
    assert_eq!(bench.build(Trust::Fork, FORK, None).await, made(Some(1), true));
    for (trust, git_ref) in
        [(Trust::Trusted, MAIN), (Trust::Member, "refs/heads/topic"), (Trust::Fork, "refs/pull/8/head")]
    {
        let first = made((git_ref != MAIN).then_some(3), false);
        assert_eq!(bench.build(trust, git_ref, None).await, first, "{git_ref}");
    }
}

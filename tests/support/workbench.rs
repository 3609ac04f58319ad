//! A repository at a forge, an agent's folder, and checkouts from one into the other through the
//! real child process.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use hookmill::checkout::client::{self, CheckoutError};
use hookmill::checkout::{Budget, Done, Job, Network, Refusal, Remote, Source, folder_name};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::support::git_http::GitServer;

/// The binary under test.
pub(crate) const EXE: &str = env!("CARGO_BIN_EXE_hookmill");

/// A forge with one repository, `shop.git`, and an empty data folder.
pub(crate) struct Workbench {
    pub(crate) dir: TempDir,
    pub(crate) server: GitServer,
}

impl Workbench {
    pub(crate) fn new() -> Workbench {
        let dir = tempfile::tempdir().expect("a folder");
        let forge = dir.path().join("forge");
        std::fs::create_dir_all(&forge).expect("a folder");
        let server = GitServer::start(&forge);
        let bench = Workbench { dir, server };
        bench.git_in(&forge, &["init", "-q", "--bare", "-b", "main", "shop.git"]);
        // As GitHub and Gitea do.
        bench.git_bare(&["config", "uploadpack.allowAnySHA1InWant", "true"]);
        bench.git_in(bench.dir.path(), &["clone", "-q", "forge/shop.git", "work"]);
        bench
    }

    /// The forge's repository.
    pub(crate) fn bare(&self) -> PathBuf {
        self.dir.path().join("forge/shop.git")
    }

    /// A developer's clone of it.
    pub(crate) fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    pub(crate) fn slot(&self) -> PathBuf {
        self.dir.path().join("data/slots/0")
    }

    pub(crate) fn src(&self) -> PathBuf {
        self.slot().join("src")
    }

    pub(crate) fn git_in(&self, dir: &Path, args: &[&str]) -> String {
        git(self.dir.path(), dir, args, b"")
    }

    pub(crate) fn git(&self, args: &[&str]) -> String {
        self.git_in(&self.work(), args)
    }

    pub(crate) fn git_bare(&self, args: &[&str]) -> String {
        self.git_in(&self.bare(), args)
    }

    /// Writes files, commits all and pushes `main`; answers with the commit.
    pub(crate) fn push(&self, files: &[(&str, &str)]) -> String {
        for (path, text) in files {
            let path = self.work().join(path);
            std::fs::create_dir_all(path.parent().expect("inside")).expect("a folder");
            std::fs::write(path, text).expect("a file");
        }
        self.commit()
    }

    /// Commits all that is there and pushes `main`.
    pub(crate) fn commit(&self) -> String {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", "a change"]);
        self.git(&["push", "-q", "-f", "origin", "HEAD:refs/heads/main"]);
        self.git(&["rev-parse", "HEAD"])
    }

    pub(crate) fn clone_url(&self) -> url::Url {
        format!("{}/shop.git", self.server.origin()).parse().expect("an address")
    }

    /// The job of checking out `sha`, which was pushed to `git_ref`.
    pub(crate) fn job(&self, sha: &str, git_ref: &str) -> Job {
        let clone_url = self.clone_url();
        Job {
            mirror: self.dir.path().join("data/mirrors").join(folder_name(&clone_url)),
            slot: self.slot(),
            source: Source::Remote(Box::new(Remote {
                clone_url,
                git_ref: git_ref.parse().expect("a ref"),
                sha: sha.parse().expect("a commit"),
                base: None,
                compared_with: None,
                passed: Vec::new(),
                credential: None,
                network: Network::default(),
            })),
            objects_seen_at: None,
            budget: Budget { files: 300_000, bytes: 4 << 30, depth: 100, path_bytes: 4000 },
            deadline: Duration::ZERO,
        }
    }

    /// Checks out `main` at `sha`.
    pub(crate) async fn checkout(&self, sha: &str) -> Result<Done, CheckoutError> {
        run(&self.job(sha, "refs/heads/main")).await
    }

    /// What `git status` says in `src`, and whether it had to say anything.
    pub(crate) fn status(&self) -> String {
        self.git_in(&self.src(), &["status", "--porcelain"])
    }
}

/// Runs a job in the child process.
pub(crate) async fn run(job: &Job) -> Result<Done, CheckoutError> {
    client::run(Path::new(EXE), job, Duration::from_secs(60), CancellationToken::new()).await
}

/// The refusal of a checkout that has to be refused.
pub(crate) fn refused(answer: Result<Done, CheckoutError>) -> Refusal {
    match answer {
        Err(CheckoutError::Refused(refusal)) => refusal,
        other => panic!("expected a refusal, not {other:?}"),
    }
}

/// The part of a job that speaks of the forge.
pub(crate) fn remote(job: &mut Job) -> &mut Remote {
    match &mut job.source {
        Source::Remote(remote) => remote,
        Source::Local(_) => panic!("a job of a folder"),
    }
}

/// git's command line with a configuration of its own.
pub(crate) fn git(home: &Path, dir: &Path, args: &[&str], input: &[u8]) -> String {
    let mut child = Command::new("git")
        .args(args)
        .current_dir(dir)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", home)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .envs([("GIT_AUTHOR_NAME", "Ada"), ("GIT_AUTHOR_EMAIL", "ada@acme.dev")])
        .envs([("GIT_COMMITTER_NAME", "Ada"), ("GIT_COMMITTER_EMAIL", "ada@acme.dev")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("git is installed");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(input).expect("git reads it");
    drop(stdin);
    let output = child.wait_with_output().expect("a child of ours");
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

//! A forge in the test's own process: repositories over git's smart HTTP, the statuses API of Gitea and of GitHub, and
//! the deliveries that they send. It remembers every request in order, and [`Forge::finish`] fails a test in which one
//! came that it had not to come.

mod lists;
mod statuses;

use std::collections::BTreeMap;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use lists::{Attempt, Hook, Lists, Pull};
use serde_json::{Value, json};
use sha2::Sha256;
use statuses::{Memory, held};
use tempfile::TempDir;

use crate::support::git_http::GitServer;
pub(crate) use statuses::{Posted, Status, Trouble};

/// What deliveries are signed with.
pub(crate) const HOOK_SECRET: &str = "a hook secret of enough bytes";
/// What statuses are posted with.
pub(crate) const TOKEN: &str = "t0ken-of-the-forge-5f1c8a";
/// How long anything may take before a test says that it never will.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks at something that is awaited.
pub(crate) const LOOK_AGAIN: Duration = Duration::from_millis(40);
/// The commit id that stands for none.
const NOTHING: &str = "0000000000000000000000000000000000000000";

/// Which forge's manners a repository has. The name is the forge's in the configuration too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Gitea,
    Github,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Gitea => "gitea",
            Kind::Github => "github",
        }
    }

    /// Where its API begins.
    fn api(self) -> &'static str {
        match self {
            Kind::Gitea => "/api/v1",
            Kind::Github => "/github",
        }
    }

    fn authorization(self) -> String {
        match self {
            Kind::Gitea => format!("token {TOKEN}"),
            Kind::Github => format!("Bearer {TOKEN}"),
        }
    }
}

/// The forge; it ends when it is dropped.
pub(crate) struct Forge {
    pub(crate) dir: TempDir,
    pub(crate) git: GitServer,
    address: SocketAddr,
    memory: Arc<Memory>,
    accepting: Option<thread::JoinHandle<()>>,
    numbers: AtomicUsize,
}

impl Forge {
    pub(crate) fn start() -> Forge {
        Forge::start_at("127.0.0.1")
    }

    /// Reached at this address of the machine's.
    pub(crate) fn start_at(host: &str) -> Forge {
        let dir = tempfile::tempdir().expect("a folder");
        let root = dir.path().join("repositories");
        std::fs::create_dir_all(&root).expect("a folder");
        let listener = TcpListener::bind((host, 0)).expect("an address of ours");
        let address = listener.local_addr().expect("bound");
        let memory = Arc::new(Memory {
            root: root.clone(),
            posted: Mutex::default(),
            wrong: Mutex::default(),
            trouble: Mutex::default(),
            under_way: Mutex::default(),
            also: Mutex::default(),
            late: Mutex::default(),
            released: Condvar::new(),
            open: Mutex::default(),
            ended: Mutex::new(false),
            lists: Lists::default(),
        });
        let served = Arc::clone(&memory);
        let accepting = thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if *held(&served.ended) {
                    return;
                }
                held(&served.open).push(stream.try_clone().expect("a handle"));
                let served = Arc::clone(&served);
                thread::spawn(move || served.connection(stream));
            }
        });
        let git = GitServer::start_at(&root, host);
        Forge { dir, git, address, memory, accepting: Some(accepting), numbers: AtomicUsize::new(1) }
    }

    /// `http://127.0.0.1:PORT` of the API.
    pub(crate) fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// `api_url` of the configuration.
    pub(crate) fn api_url(&self, kind: Kind) -> String {
        format!("{}{}", self.origin(), kind.api())
    }

    /// A new empty repository with Gitea's manners, and somebody's clone of it.
    pub(crate) fn repo(&self, name: &str) -> Repo {
        self.repo_of(Kind::Gitea, name)
    }

    /// A new empty repository, and somebody's clone of it.
    pub(crate) fn repo_of(&self, kind: Kind, name: &str) -> Repo {
        let bare = self.memory.root.join(format!("{name}.git"));
        let work = self.dir.path().join("clones").join(name);
        for folder in [&bare, &work] {
            std::fs::create_dir_all(folder).expect("a folder");
        }
        let repo = Repo {
            kind,
            name: name.to_owned(),
            id: self.numbers.fetch_add(1, Ordering::Relaxed),
            // A payload's address is nobody's to fetch from: whoever does is found out by `finish`.
            trap: format!("{}/trap/{name}.git", self.origin()),
            home: self.dir.path().to_owned(),
            bare,
            work,
        };
        repo.git_bare(&["init", "-q", "--bare", "-b", "main"]);
        // As GitHub and Gitea do.
        repo.git_bare(&["config", "uploadpack.allowAnySHA1InWant", "true"]);
        repo.git(&["init", "-q", "-b", "main"]);
        repo.git(&["remote", "add", "origin", repo.bare.to_str().expect("UTF-8")]);
        repo
    }

    /// Answers the next `count` requests to the API so, after those already told.
    pub(crate) fn trouble(&self, count: usize, trouble: Trouble) {
        held(&self.memory.trouble).extend(std::iter::repeat_n(trouble, count));
    }

    /// Answers as it should from now on.
    pub(crate) fn mend(&self) {
        held(&self.memory.trouble).clear();
    }

    /// Adds header lines, each with its CRLF, to every good answer from now on.
    pub(crate) fn also_say(&self, fields: &str) {
        fields.clone_into(&mut held(&self.memory.also));
    }

    /// Waits until a request is kept by [`Trouble::Late`] or [`Trouble::LateRefusal`].
    pub(crate) fn wait_for_late(&self) {
        self.wait(|| (held(&self.memory.late).1 > 0).then_some(()), || "no request is kept".to_owned());
    }

    /// Lets one late request be answered.
    pub(crate) fn release(&self) {
        held(&self.memory.late).0 += 1;
        self.memory.released.notify_one();
    }

    /// Fails if something came that had not to come.
    pub(crate) fn nothing_wrong(&self) {
        let wrong = held(&self.memory.wrong).clone();
        assert!(wrong.is_empty(), "the forge was asked what it must not be asked:\n{}", wrong.join("\n"));
    }

    /// Lists a pull request as open, or moves its head; nobody is told.
    pub(crate) fn opens(&self, repo: &Repo, number: u64, branch: &str, sha: &str, fork: bool) {
        self.closes(repo, number);
        let listed = repo.pull_request("opened", number, branch, sha, fork).payload["pull_request"].clone();
        held(&self.memory.lists.pulls).push(Pull { kind: repo.kind, repo: repo.name.clone(), number, listed });
    }

    /// Lists a pull request no more; nobody is told.
    pub(crate) fn closes(&self, repo: &Repo, number: u64) {
        held(&self.memory.lists.pulls).retain(|pull| (&pull.repo, pull.number) != (&repo.name, number));
    }

    /// Answers every question with this code, or as it should again. Statuses are taken all the same.
    pub(crate) fn answer_questions(&self, code: Option<u16>) {
        *held(&self.memory.lists.trouble) = code;
    }

    /// The questions that it was asked: pull requests, commits, hooks.
    pub(crate) fn questions(&self) -> Vec<String> {
        held(&self.memory.lists.asked).clone()
    }

    /// The repository's hook leads to this server.
    pub(crate) fn hook(&self, repo: &Repo, server: &str) {
        let address = format!("{server}/hooks/{}/{}", repo.kind.name(), repo.name);
        *held(&self.memory.lists.hook) = Some(Hook { repo: repo.name.clone(), address });
    }

    /// Notes in the account of deliveries how one was answered; 0 for not at all.
    pub(crate) fn delivered(&self, delivery: &Delivery, status: u16) {
        let attempt = Attempt { delivery: delivery.clone(), status, redelivery: false };
        held(&self.memory.lists.attempts).push(attempt);
    }

    /// How deliveries were answered that were sent again, in order: id and code.
    pub(crate) fn sent_again(&self) -> Vec<(String, u16)> {
        let attempts = held(&self.memory.lists.attempts);
        let again = attempts.iter().filter(|attempt| attempt.redelivery);
        again.map(|attempt| (attempt.delivery.id.clone(), attempt.status)).collect()
    }

    /// Every request to the statuses API so far, in order, whatever was answered.
    pub(crate) fn posted(&self) -> Vec<Posted> {
        held(&self.memory.posted).clone()
    }

    /// The statuses that it took so far, in order.
    pub(crate) fn statuses(&self) -> Vec<Status> {
        self.posted().into_iter().filter(|posted| posted.answered == 201).map(|posted| posted.status).collect()
    }

    /// The statuses of one commit that it took so far, in order.
    pub(crate) fn statuses_of(&self, sha: &str) -> Vec<Status> {
        self.statuses().into_iter().filter(|status| status.sha == sha).collect()
    }

    /// Waits for the final word on a commit in a context.
    pub(crate) fn final_status(&self, sha: &str, context: &str) -> Status {
        let mine = || self.statuses_of(sha).into_iter().filter(|status| status.context == context);
        self.wait(
            || mine().next_back().filter(|status| status.state != "pending"),
            || format!("no final {context} of {sha}"),
        )
    }

    /// Waits until a commit's newest status in the context `hookmill` is in this state.
    pub(crate) fn status_in(&self, sha: &str, state: &str) -> Status {
        let newest = || self.statuses_of(sha).into_iter().rfind(|status| status.context == "hookmill");
        self.wait(|| newest().filter(|status| status.state == state), || format!("{sha} never was {state}"))
    }

    /// The states that a commit had in the context `hookmill`, in order.
    pub(crate) fn states_of(&self, sha: &str) -> Vec<String> {
        let mine = self.statuses_of(sha).into_iter().filter(|status| status.context == "hookmill");
        mine.map(|status| status.state).collect()
    }

    /// Waits for something to be seen here.
    pub(crate) fn wait<T>(&self, mut look: impl FnMut() -> Option<T>, otherwise: impl Fn() -> String) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(seen) = look() {
                return seen;
            }
            assert!(Instant::now() < deadline, "{}; the forge took {:#?}", otherwise(), self.statuses());
            thread::sleep(LOOK_AGAIN);
        }
    }

    /// Fails on everything that came and had not to come, and on a `pending` without a final word. Call it last, while
    /// the server still runs: it waits for what is on its way.
    pub(crate) fn finish(&self) {
        let pending = || {
            let mut last = BTreeMap::new();
            for status in self.statuses() {
                last.insert((status.repo, status.sha, status.context), status.state);
            }
            last.retain(|_, state| state == "pending");
            last.into_keys().collect::<Vec<_>>()
        };
        self.wait(|| pending().is_empty().then_some(()), || format!("no final word on {:?}", pending()));
        self.nothing_wrong();
    }
}

impl Drop for Forge {
    fn drop(&mut self) {
        *held(&self.memory.ended) = true;
        for stream in held(&self.memory.open).drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        // Wakes the accepting thread, which then sees that it has ended.
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

/// git's command line with a configuration of its own; its output, or what it said against it.
fn git(home: &Path, dir: &Path, args: &[&str]) -> Result<String, String> {
    let output = Command::new("git")
        .args(args)
        .current_dir(dir)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", home)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .envs([("GIT_AUTHOR_NAME", "Ada"), ("GIT_AUTHOR_EMAIL", "ada@acme.dev")])
        .envs([("GIT_COMMITTER_NAME", "Ada"), ("GIT_COMMITTER_EMAIL", "ada@acme.dev")])
        .stdin(Stdio::null())
        .output()
        .expect("git is installed");
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// A repository at the forge, with somebody's clone of it.
pub(crate) struct Repo {
    pub(crate) kind: Kind,
    /// `acme/shop`.
    pub(crate) name: String,
    id: usize,
    trap: String,
    home: PathBuf,
    /// The forge's side.
    pub(crate) bare: PathBuf,
    /// Somebody's clone.
    pub(crate) work: PathBuf,
}

/// A ref that moved.
#[derive(Clone, Debug)]
pub(crate) struct Moved {
    pub(crate) git_ref: String,
    pub(crate) before: String,
    pub(crate) after: String,
    pub(crate) forced: bool,
    pub(crate) message: String,
}

/// What the forge sends for an event. Sent twice it is a repeat: the id stays.
#[derive(Clone, Debug)]
pub(crate) struct Delivery {
    pub(crate) kind: Kind,
    pub(crate) repo: String,
    pub(crate) event: &'static str,
    pub(crate) id: String,
    pub(crate) payload: Value,
}

impl Repo {
    pub(crate) fn git(&self, args: &[&str]) -> String {
        git(&self.home, &self.work, args).unwrap_or_else(|said| panic!("git {args:?}: {said}"))
    }

    pub(crate) fn git_bare(&self, args: &[&str]) -> String {
        git(&self.home, &self.bare, args).unwrap_or_else(|said| panic!("git {args:?}: {said}"))
    }

    /// Writes files into the clone.
    pub(crate) fn write(&self, files: &[(&str, &str)]) {
        for (path, text) in files {
            let path = self.work.join(path);
            std::fs::create_dir_all(path.parent().expect("inside")).expect("a folder");
            std::fs::write(path, text).expect("a file");
        }
    }

    /// Commits all that is in the clone; answers with the commit.
    pub(crate) fn commit(&self, message: &str) -> String {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", message]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// Writes files, commits, and pushes to a branch. Answers with what the forge says of it.
    pub(crate) fn push(&self, branch: &str, files: &[(&str, &str)]) -> Moved {
        self.write(files);
        self.commit("a change");
        self.push_head(&format!("refs/heads/{branch}"))
    }

    /// Pushes the clone's HEAD to a ref, whatever is there.
    pub(crate) fn push_head(&self, git_ref: &str) -> Moved {
        let tip = git(&self.home, &self.bare, &["rev-parse", "-q", "--verify", git_ref]);
        let before = tip.unwrap_or_else(|_| NOTHING.to_owned());
        let after = self.git(&["rev-parse", "HEAD"]);
        let forced = before != NOTHING
            && git(&self.home, &self.work, &["merge-base", "--is-ancestor", &before, &after]).is_err();
        self.git(&["push", "-q", "-f", "origin", &format!("HEAD:{git_ref}")]);
        let message = self.git(&["log", "-1", "--format=%B"]);
        Moved { git_ref: git_ref.to_owned(), before, after, forced, message }
    }

    /// Commits over these files, each on a branch of its own, pushed in one go.
    pub(crate) fn push_many(&self, files: &[(&str, &str)], count: usize) -> Vec<Moved> {
        self.write(files);
        let moved: Vec<Moved> = (0..count)
            .map(|number| {
                let after = self.commit(&format!("change {number}"));
                let git_ref = format!("refs/heads/push-{number}");
                self.git(&["update-ref", &git_ref, &after]);
                Moved { git_ref, before: NOTHING.to_owned(), after, forced: false, message: "a change".to_owned() }
            })
            .collect();
        self.git(&["push", "-q", "origin", "refs/heads/push-*:refs/heads/push-*"]);
        moved
    }

    /// Deletes a branch at the forge.
    pub(crate) fn delete(&self, branch: &str) -> Moved {
        let git_ref = format!("refs/heads/{branch}");
        let before = self.git_bare(&["rev-parse", &git_ref]);
        self.git_bare(&["update-ref", "-d", &git_ref]);
        Moved { git_ref, before, after: NOTHING.to_owned(), forced: false, message: String::new() }
    }

    /// The delivery of a push, or of the deletion that a push with nothing after it is.
    pub(crate) fn pushed(&self, moved: &Moved) -> Delivery {
        let head = (moved.after != NOTHING)
            .then(|| json!({"id": moved.after, "message": moved.message, "added": [], "modified": [], "removed": []}));
        self.delivery(
            "push",
            json!({
                "ref": moved.git_ref,
                "before": moved.before,
                "after": moved.after,
                "created": moved.before == NOTHING,
                "deleted": moved.after == NOTHING,
                "forced": moved.forced,
                "commits": head.iter().collect::<Vec<_>>(),
                "head_commit": head,
                "repository": self.as_payload(),
                "pusher": {"id": 2, "login": "ada", "name": "ada", "email": "ada@acme.dev"},
                "sender": {"id": 2, "login": "ada"},
            }),
        )
    }

    /// Gitea's and GitHub's event for a deleted branch, beside the push.
    pub(crate) fn deleted(&self, branch: &str) -> Delivery {
        self.delivery(
            "delete",
            json!({"ref": branch, "ref_type": "branch", "pusher_type": "user",
                   "repository": self.as_payload(), "sender": {"id": 2, "login": "ada"}}),
        )
    }

    /// Commits all that is in the clone and offers it as a build of that trust is: a push to `main` (`trusted`), a pull
    /// request from a branch (`member`), one of a fork (`fork`).
    pub(crate) fn offered(&self, trust: &str) -> Delivery {
        let sha = self.commit(trust);
        match trust {
            "trusted" => self.pushed(&self.push_head("refs/heads/main")),
            "member" => {
                self.push_head("refs/heads/topic");
                self.pull_request("opened", 6, "topic", &sha, false)
            }
            "fork" => {
                self.push_head("refs/pull/7/head");
                self.pull_request("opened", 7, "theirs", &sha, true)
            }
            other => panic!("{other} is no trust"),
        }
    }

    /// An event of a pull request into `main`: `opened`, `closed`, or the forge's word for a new commit. A fork's head
    /// is in another repository; its commit must be at the forge under `refs/pull/N/head`.
    pub(crate) fn pull_request(&self, action: &str, number: u64, branch: &str, sha: &str, fork: bool) -> Delivery {
        let head_repo = match fork {
            false => self.as_payload(),
            true => {
                let name = self.name.split_once('/').map_or("shop", |(_, name)| name);
                json!({"id": 9000 + self.id, "full_name": format!("eve/{name}"), "name": name, "fork": true,
                       "clone_url": self.trap, "default_branch": "main"})
            }
        };
        let base = self.git_bare(&["rev-parse", "refs/heads/main"]);
        self.delivery(
            "pull_request",
            json!({
                "action": action,
                "number": number,
                "pull_request": {
                    "id": number, "number": number, "title": "A pull request", "body": "",
                    "state": if action == "closed" { "closed" } else { "open" }, "merged": false,
                    "user": {"id": 3, "login": if fork { "eve" } else { "ada" }},
                    "head": {"label": branch, "ref": branch, "sha": sha, "repo": head_repo},
                    "base": {"label": "main", "ref": "main", "sha": base, "repo": self.as_payload()},
                },
                "repository": self.as_payload(),
                "sender": {"id": 3, "login": if fork { "eve" } else { "ada" }},
            }),
        )
    }

    /// The forge's word for "the head of a pull request moved".
    pub(crate) fn new_commits(&self) -> &'static str {
        match self.kind {
            Kind::Gitea => "synchronized",
            Kind::Github => "synchronize",
        }
    }

    /// A delivery with a fresh id.
    pub(crate) fn delivery(&self, event: &'static str, payload: Value) -> Delivery {
        Delivery { kind: self.kind, repo: self.name.clone(), event, id: fresh_id(), payload }
    }

    fn as_payload(&self) -> Value {
        let (owner, name) = self.name.split_once('/').expect("owner/name");
        json!({
            "id": self.id, "name": name, "full_name": self.name, "private": false, "fork": false,
            "owner": {"id": 1, "login": owner, "username": owner, "email": "acme@acme.dev"},
            "html_url": self.trap, "clone_url": self.trap, "git_url": "file:///etc", "ssh_url": "file:///etc",
            "url": self.trap, "default_branch": "main",
        })
    }
}

impl Delivery {
    /// The same event as a hook of its own sends it.
    pub(crate) fn again(&self) -> Delivery {
        Delivery { id: fresh_id(), ..self.clone() }
    }

    /// Where it goes, below the server's address.
    pub(crate) fn path(&self) -> String {
        format!("/hooks/{}/{}", self.kind.name(), self.repo)
    }

    /// The bytes, which the signature covers.
    pub(crate) fn body(&self) -> String {
        format!("{:#}", self.payload)
    }

    /// The headers for a body, as the forge sends them: Gitea adds Gogs' and GitHub's.
    pub(crate) fn headers(&self, body: &str) -> Vec<(String, String)> {
        let mut mac = Hmac::<Sha256>::new_from_slice(HOOK_SECRET.as_bytes()).expect("a key of any length");
        mac.update(body.as_bytes());
        let signature = in_hex(&mac.finalize().into_bytes());
        let brands: &[&str] = match self.kind {
            Kind::Gitea => &["Gitea", "Gogs", "GitHub"],
            Kind::Github => &["GitHub"],
        };
        let mut headers = vec![
            ("Content-Type".to_owned(), "application/json".to_owned()),
            ("X-Hub-Signature-256".to_owned(), format!("sha256={signature}")),
        ];
        for brand in brands {
            headers.push((format!("X-{brand}-Event"), self.event.to_owned()));
            headers.push((format!("X-{brand}-Delivery"), self.id.clone()));
        }
        if self.kind == Kind::Gitea {
            headers.push(("X-Gitea-Signature".to_owned(), signature.clone()));
            headers.push(("X-Gogs-Signature".to_owned(), signature));
        }
        headers
    }
}

/// Ids of deliveries look like UUIDs on every forge.
fn fresh_id() -> String {
    let mut random = [0; 16];
    getrandom::fill(&mut random).expect("the system has random numbers");
    let hex = in_hex(&random);
    format!("{}-{}-4{}-8{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..32])
}

fn in_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

//! Records in memory, and a real server over them.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use hookmill::blobs::{Artifacts, Logs};
use hookmill::config::secret::Secret;
use hookmill::config::server::{Listen, Read, Web};
use hookmill::domain::agent::{Agent, Order};
use hookmill::domain::audit::{Act, Actor, AuditEntry, Deed};
use hookmill::domain::build::{Build, BuildId, Cause, State};
use hookmill::domain::link::InstanceKey;
use hookmill::domain::outcome::Outcome;
use hookmill::domain::repo::{CommitId, RefName};
use hookmill::domain::rule::{Rule, Ruling};
use hookmill::domain::spec::Explanation;
use hookmill::domain::step::{CacheUse, Step, StepKind, StepState};
use hookmill::domain::time::Timestamp;
use hookmill::domain::trust::Trust;
use hookmill::live::Hub;
use hookmill::web::{
    Answer, AuditFilter, BuildFilter, ChangeRefused, Counts, Delivery, Kept, Outbox, Pages, Part, PausedForge, Records,
    Refusal, Site, TokenEnd, Told, Undelivered, router, under_public_path,
};

/// The admin token of every server here.
pub(crate) const TOKEN: &str = "correct horse battery staple";

/// 2026-01-02T03:04:05Z, the time at which everything here happens.
pub(crate) const NOON: i64 = 1_767_323_045_000;

/// A queued build of main.
pub(crate) fn build(id: i64) -> Build {
    Build {
        id: BuildId(id),
        repo: "github/acme/shop".parse().expect("legal"),
        sha: "a1b2c3d".repeat(6)[..40].parse().expect("legal"),
        built_sha: None,
        base_sha: None,
        git_ref: RefName::branch("main").expect("legal"),
        branch: Some("main".into()),
        pull_request: None,
        cause: Cause::Push,
        trust: Trust::Trusted,
        attempt: 1,
        rerun_of: None,
        superseded_by: None,
        state: State::Queued,
        outcome: None,
        reason: None,
        approved_by: None,
        approved_at: None,
        created_at: Timestamp(NOON),
        started_at: None,
        finished_at: None,
        sandbox: String::new(),
        base_branch: None,
        default_branch: Some("main".into()),
        title: Some("Round prices up".into()),
        author: Some("ada".into()),
        use_cache: true,
        same_as: None,
        agent: None,
        kept: Vec::new(),
        steps: Vec::new(),
    }
}

/// The same, ended.
pub(crate) fn finished(id: i64, outcome: Outcome) -> Build {
    Build {
        state: State::Finished,
        outcome: Some(outcome),
        started_at: Some(Timestamp(NOON + 100)),
        finished_at: Some(Timestamp(NOON + 9_100)),
        ..build(id)
    }
}

/// A step that ran from `start` to `end` (milliseconds after the build's creation).
pub(crate) fn step(name: &str, kind: StepKind, outcome: Option<Outcome>, start: i64, end: i64) -> Step {
    Step {
        state: if outcome.is_some() { StepState::Finished } else { StepState::Running },
        outcome,
        cache: CacheUse::Miss,
        started_at: Some(Timestamp(NOON + start)),
        finished_at: outcome.map(|_| Timestamp(NOON + end)),
        ..Step::queued(name, kind)
    }
}

/// Builds in memory.
#[derive(Default)]
pub(crate) struct Memory {
    builds: Mutex<BTreeMap<i64, Build>>,
    explanations: Mutex<BTreeMap<i64, Explanation>>,
    dead: Mutex<BTreeMap<i64, Undelivered>>,
    pub(crate) agents: Mutex<Vec<Agent>>,
    rulings: Mutex<BTreeMap<i64, Vec<Ruling>>>,
    /// What was done, oldest first.
    pub(crate) deeds: Mutex<Vec<Deed>>,
    /// Why no queued build is started.
    pub(crate) waits: Mutex<Option<String>>,
    /// How often anything was asked or changed.
    pub(crate) asked: Mutex<u32>,
}

impl Memory {
    pub(crate) fn put(&self, build: Build) {
        self.builds.lock().expect("no test panics while it holds this").insert(build.id.0, build);
    }

    pub(crate) fn explain(&self, id: i64, explanation: Explanation) {
        self.explanations.lock().expect("as above").insert(id, explanation);
    }

    /// A status of this build was given up.
    pub(crate) fn give_up(&self, id: i64) {
        let letter = Undelivered {
            build: BuildId(id),
            repo: "github/acme/shop".into(),
            sha: "a1b2c3d".repeat(6)[..40].to_owned(),
            context: "hookmill".into(),
            state: "failure",
            sentence: "Bundle failed: <script>".into(),
            attempts: 3,
            last_error: "the forge answered 422 Unprocessable Entity".into(),
            at: Timestamp(NOON),
        };
        self.dead.lock().expect("as above").insert(id, letter);
    }

    pub(crate) fn rule(&self, id: i64, rulings: Vec<Ruling>) {
        self.rulings.lock().expect("as above").insert(id, rulings);
    }

    fn get(&self, id: BuildId) -> Option<Build> {
        *self.asked.lock().expect("as above") += 1;
        self.builds.lock().expect("as above").get(&id.0).cloned()
    }
}

fn told(letter: Undelivered) -> Told {
    let Undelivered { context, state, sentence, attempts, last_error, .. } = letter;
    let last_error = Some(last_error);
    Told { context, state, sentence, fate: "dead".into(), attempts, last_error, sent_at: None }
}

fn now<'a, T: Send + 'a>(value: T) -> Answer<'a, T> {
    Box::pin(std::future::ready(Ok(value)))
}

impl Records for Memory {
    fn agents(&self) -> Answer<'_, Vec<Agent>> {
        now(self.agents.lock().expect("as above").clone())
    }

    fn order_agent<'a>(&'a self, name: &'a str, order: Order, _by: Actor) -> Answer<'a, bool> {
        let mut agents = self.agents.lock().expect("as above");
        let found = agents.iter_mut().find(|agent| agent.name == name);
        let is_there = found.is_some();
        if let Some(agent) = found {
            agent.order = order;
        }
        now(is_there)
    }

    fn own_agent(&self) -> Option<&str> {
        Some("here")
    }

    fn build(&self, id: BuildId) -> Answer<'_, Option<Build>> {
        now(self.get(id))
    }

    fn explanation(&self, id: BuildId) -> Answer<'_, Option<Explanation>> {
        now(self.explanations.lock().expect("as above").get(&id.0).cloned())
    }

    fn rulings(&self, id: BuildId) -> Answer<'_, Vec<Ruling>> {
        now(self.rulings.lock().expect("as above").get(&id.0).cloned().unwrap_or_default())
    }

    fn builds(&self, filter: BuildFilter) -> Answer<'_, Vec<Build>> {
        *self.asked.lock().expect("as above") += 1;
        let builds = self.builds.lock().expect("as above");
        let fits = |build: &&Build| {
            filter.repo.as_ref().is_none_or(|repo| build.repo == *repo)
                && filter.branch.as_ref().is_none_or(|branch| build.branch.as_ref() == Some(branch))
                && filter.state.is_none_or(|state| build.state == state)
                && filter.outcome.is_none_or(|outcome| build.outcome == Some(outcome))
                && filter.before.is_none_or(|before| build.id < before)
        };
        now(builds.values().rev().filter(fits).take(filter.limit as usize).cloned().collect())
    }

    fn deliveries(&self, _limit: u32) -> Answer<'_, Vec<Delivery>> {
        now(vec![Delivery {
            delivery: "72d3162e".into(),
            forge: "github".into(),
            repo: Some("acme/shop".into()),
            event: "push".into(),
            at: Timestamp(NOON),
            status: 202,
            builds: vec![BuildId(1)],
            ignored: None,
            rule: Some(Rule::PushIsBuilt),
        }])
    }

    fn cancel(&self, id: BuildId, by: Actor) -> Answer<'_, Result<(), ChangeRefused>> {
        now(match self.get(id) {
            None => Err(ChangeRefused::NoSuchBuild),
            Some(build) if build.state == State::Finished => Err(ChangeRefused::AlreadyFinished),
            Some(build) => {
                let reason = Some(format!("cancelled by {}", by.who));
                self.put(Build { state: State::Finished, outcome: Some(Outcome::Cancelled), reason, ..build });
                Ok(())
            }
        })
    }

    fn rerun(&self, id: BuildId, cache: bool, _by: Actor) -> Answer<'_, Result<BuildId, ChangeRefused>> {
        now(match self.get(id) {
            None => Err(ChangeRefused::NoSuchBuild),
            Some(build) if build.state != State::Finished => Err(ChangeRefused::NotFinished),
            Some(_) => {
                let new = BuildId(self.builds.lock().expect("as above").len() as i64 + 1);
                self.put(Build { use_cache: cache, rerun_of: Some(id), attempt: 2, ..self::build(new.0) });
                Ok(new)
            }
        })
    }

    fn approve(&self, id: BuildId, sha: Option<CommitId>, by: Actor) -> Answer<'_, Result<CommitId, ChangeRefused>> {
        now(match (self.get(id), sha) {
            (None, _) => Err(ChangeRefused::NoSuchBuild),
            (Some(build), Some(sha)) if build.sha != sha => Err(ChangeRefused::OtherCommit(build.sha)),
            (Some(build), _) if build.state != State::Waiting => Err(ChangeRefused::NoApprovalNeeded),
            (Some(build), _) => {
                let (sha, approved_by) = (build.sha.clone(), Some(by.who.clone()));
                self.put(Build { state: State::Queued, reason: None, approved_by, ..build });
                let act = Act::Approved { sha: sha.clone(), pull_request: Some(7) };
                let repo = Some("github/acme/shop".parse().expect("legal"));
                self.deeds.lock().expect("as above").push(Deed { actor: by, act, build: Some(id), repo });
                Ok(sha)
            }
        })
    }

    fn audit(&self, filter: AuditFilter) -> Answer<'_, Vec<AuditEntry>> {
        *self.asked.lock().expect("as above") += 1;
        let deeds = self.deeds.lock().expect("as above");
        let entries =
            (1..).zip(deeds.iter()).map(|(id, deed)| AuditEntry { id, at: Timestamp(NOON), deed: deed.clone() });
        let found: Vec<AuditEntry> =
            entries.filter(|entry| filter.before.is_none_or(|before| entry.id < before)).collect();
        now(found.into_iter().rev().take(filter.limit as usize).collect())
    }

    fn outbox(&self) -> Answer<'_, Outbox> {
        let dead: Vec<Undelivered> = self.dead.lock().expect("as above").values().cloned().collect();
        let paused = vec![PausedForge { forge: "gitea".into(), seconds: 61, reason: "<429>".into() }];
        let tokens = vec![TokenEnd { forge: "github".into(), expires_at: Timestamp(NOON) }];
        now(Outbox { dead_count: dead.len() as u64, dead, paused, tokens, ..Outbox::default() })
    }

    fn told(&self, id: BuildId) -> Answer<'_, Vec<Told>> {
        let dead = self.dead.lock().expect("as above").get(&id.0).cloned();
        now(dead.into_iter().map(told).collect())
    }

    fn resend(&self, id: BuildId, _by: Actor) -> Answer<'_, Result<(), ChangeRefused>> {
        let dead = self.dead.lock().expect("as above").remove(&id.0);
        now(dead.map(drop).ok_or(ChangeRefused::NothingToSend))
    }

    fn parts(&self) -> Pin<Box<dyn Future<Output = Vec<Part>> + Send + '_>> {
        let part = |name, ok, needed, detail: &str| Part { name, ok, needed, detail: detail.into() };
        Box::pin(std::future::ready(vec![
            part("store", true, true, "sqlite, 3 builds"),
            part("sandbox", false, false, "no user namespaces: builds are not confined"),
        ]))
    }

    fn waits(&self) -> Option<String> {
        self.waits.lock().expect("as above").clone()
    }

    fn counts(&self) -> Answer<'_, Counts> {
        now(Counts { queued: 3, slots: 2, ..Counts::default() })
    }
}

/// A server on loopback; dropping it ends it.
pub(crate) struct Server {
    pub(crate) memory: Arc<Memory>,
    pub(crate) logs: Logs,
    pub(crate) hub: Hub,
    pub(crate) key: InstanceKey,
    pub(crate) address: SocketAddr,
    runtime: Option<tokio::runtime::Runtime>,
}

/// What a test varies.
pub(crate) struct Setup<'a> {
    pub public_url: &'a str,
    pub(crate) read: Read,
    pub(crate) token: Option<&'a str>,
    pub(crate) readers: usize,
    pub(crate) artifacts: Artifacts,
}

impl Default for Setup<'_> {
    fn default() -> Self {
        Setup {
            public_url: "https://ci.acme.example",
            read: Read::Link,
            token: Some(TOKEN),
            readers: 16,
            artifacts: Artifacts::new("/nonexistent"),
        }
    }
}

impl Server {
    pub(crate) fn start(setup: Setup<'_>, memory: Arc<Memory>, logs: &Logs) -> Self {
        Self::start_on("127.0.0.1:0", setup, memory, logs)
    }

    pub(crate) fn start_on(listen: &str, setup: Setup<'_>, memory: Arc<Memory>, logs: &Logs) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
        let hub = Hub::new(setup.readers);
        let key = InstanceKey::new([7; 32]);
        let web = Web {
            listen: Listen::Tcp(([127, 0, 0, 1], 0).into()),
            public_url: setup.public_url.parse().expect("a URL"),
            admin_token: setup.token.map(Secret::new),
            read: setup.read,
        };
        let forges = [("github".parse().expect("legal"), "https://github.com".parse().expect("a URL"))];
        let site = Site::new(&web, key.clone(), forges.into());
        let refusals = || {
            vec![Refusal {
                at: Timestamp(NOON),
                from: "192.0.2.7:4711".into(),
                path: "/hooks/github/acme/shop".into(),
                status: 401,
                reason: "signature wrong".into(),
                headers: vec!["x-hub-signature-256".into()],
            }]
        };
        let pages = Pages::new(
            site.clone(),
            Arc::clone(&memory) as Arc<dyn Records>,
            Kept { logs: logs.clone(), artifacts: setup.artifacts, depot: None },
            hub.clone(),
            refusals,
        );
        let app = under_public_path(&site, router(Arc::new(pages)));
        let listener = runtime.block_on(tokio::net::TcpListener::bind(listen)).expect("a free port");
        let address = listener.local_addr().expect("bound");
        runtime.spawn(async move { axum::serve(listener, app).await });
        Server { memory, logs: logs.clone(), hub, key, address, runtime: Some(runtime) }
    }

    pub(crate) fn get(&self, path: &str) -> Got {
        self.send("GET", path, &[], "")
    }

    pub(crate) fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Got {
        self.send("GET", path, headers, "")
    }

    pub(crate) fn post(&self, path: &str, headers: &[(&str, &str)], body: &str) -> Got {
        self.send("POST", path, headers, body)
    }

    pub(crate) fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Got {
        let mut response = self.open(method, path, headers, body);
        let mut bytes = Vec::new();
        response.body_mut().as_reader().read_to_end(&mut bytes).expect("a whole answer");
        let (parts, _) = response.into_parts();
        Got { status: parts.status.as_u16(), headers: parts.headers, bytes }
    }

    /// The answer's head; its body is still to be read.
    pub(crate) fn open(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> http::Response<ureq::Body> {
        let config =
            ureq::Agent::config_builder().max_redirects(0).max_redirects_will_error(false).http_status_as_error(false);
        let agent: ureq::Agent = config.proxy(None).allow_non_standard_methods(true).build().into();
        let mut request = http::Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        agent.run(request.body(body.to_owned()).expect("a request")).expect("an answer")
    }

    /// Signs in and gives the session as a `Cookie` value.
    pub(crate) fn session(&self) -> String {
        let form = form_urlencoded::Serializer::new(String::new()).append_pair("token", TOKEN).finish();
        let got = self.post("/login", &[], &form);
        assert_eq!(got.status, 303, "{got}");
        got.cookie()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.hub.close();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// A whole answer.
pub(crate) struct Got {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) bytes: Vec<u8>,
}

impl Got {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.bytes).unwrap_or_else(|error| panic!("{error} in {self}"))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }

    /// `name=value` of the cookie that was set.
    pub(crate) fn cookie(&self) -> String {
        self.header("set-cookie").split(';').next().unwrap_or_default().to_owned()
    }
}

impl std::fmt::Display for Got {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {:?}\n{}", self.status, self.headers, self.text())
    }
}

/// The events of a stream as they come.
pub(crate) struct Events {
    body: std::io::BufReader<ureq::BodyReader<'static>>,
}

/// One event.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Event {
    pub(crate) kind: String,
    pub(crate) id: String,
    pub(crate) data: serde_json::Value,
}

impl Events {
    pub(crate) fn open(server: &Server, path: &str, last: Option<&str>) -> Self {
        let headers: Vec<(&str, &str)> = last.iter().map(|last| ("last-event-id", *last)).collect();
        let response = server.open("GET", path, &headers, "");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Events { body: std::io::BufReader::new(response.into_body().into_reader()) }
    }
}

impl Iterator for Events {
    type Item = Event;

    /// `None` when the stream ended, well or not.
    fn next(&mut self) -> Option<Event> {
        let (mut kind, mut id, mut data) = (String::new(), String::new(), String::new());
        loop {
            let mut line = String::new();
            if std::io::BufRead::read_line(&mut self.body, &mut line).unwrap_or(0) == 0 {
                return None;
            }
            match line.trim_end_matches('\n').split_once(": ") {
                Some(("event", value)) => kind = value.into(),
                Some(("id", value)) => id = value.into(),
                Some(("data", value)) => data = value.into(),
                _ if line == "\n" && !data.is_empty() => {
                    let data = serde_json::from_str(&data).expect("data is JSON");
                    return Some(Event { kind, id, data });
                }
                _ => assert!(line == "\n" || line.starts_with(':'), "{line:?}"),
            }
        }
    }
}

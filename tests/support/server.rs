//! The real program as a server in a folder of the test's own, and what a test asks of it.

use std::fs::{self, File, OpenOptions};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::support::forge::{Delivery, Forge, HOOK_SECRET, Kind, LOOK_AGAIN, PATIENCE, TOKEN};
use crate::support::port;

/// The program under test.
pub(crate) const EXE: &str = env!("CARGO_BIN_EXE_hookmill");
/// What changes are asked for with.
pub(crate) const ADMIN: &str = "an-admin-token-of-enough-bytes";
/// The bower that an operator would have.
const BOWER: &str = "1.8.14";
/// A request to the server on loopback; beyond it the server hangs.
const REQUEST: Duration = Duration::from_secs(30);

/// What a test's server has that others have not.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// How many builds run at once.
    pub(crate) slots: usize,
    /// `[server] sweep`. Off, so that what a test pushes is heard of by its deliveries alone.
    pub(crate) sweep: &'static str,
    /// Lines of the one `[[repo]]` block, which is for everything of `acme`.
    pub(crate) repo: String,
    /// Further lines of each `[[forge]]` block.
    pub(crate) forge: String,
    /// Further tables. Without a `[sandbox]` of theirs installs also reach the forge's git, where components of bower are.
    pub(crate) tables: String,
    /// The program's part: `serve` or `agent`.
    pub(crate) command: &'static str,
    /// `[store] url`, where it is not a SQLite file of its own.
    pub(crate) store: Option<String>,
    /// Further lines of `[data]`.
    pub(crate) data: String,
    /// Further lines of `[agent]`.
    pub(crate) agent: String,
    /// Variables of the server's own environment.
    pub(crate) env: Vec<(String, String)>,
    /// The server's `PATH`, where it is not the test's with bower before it.
    pub(crate) path: Option<String>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            slots: 1,
            sweep: "off",
            repo: String::new(),
            forge: String::new(),
            tables: String::new(),
            command: "serve",
            store: None,
            data: String::new(),
            agent: String::new(),
            env: Vec::new(),
            path: None,
        }
    }
}

/// A running server. Dropped it is killed; a failing test shows its log.
pub(crate) struct Server {
    pub(crate) dir: TempDir,
    settings: Settings,
    port: u16,
    child: Option<Child>,
    http: ureq::Agent,
}

/// An answer of the server.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    pub(crate) code: u16,
    pub(crate) headers: ureq::http::HeaderMap,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The build that a delivery made; every other answer fails.
    pub(crate) fn build(&self) -> i64 {
        assert_eq!(self.code, 202, "{self:?}");
        self.json()["build"].as_i64().unwrap_or_else(|| panic!("no build: {self:?}"))
    }
}

impl Server {
    /// With nothing special.
    pub(crate) fn start(forge: &Forge) -> Server {
        Server::start_with(forge, Settings::default())
    }

    /// Writes the configuration, starts the server and waits until it answers.
    pub(crate) fn start_with(forge: &Forge, settings: Settings) -> Server {
        let dir = tempfile::tempdir().expect("a folder");
        let port = port::free();
        fs::write(dir.path().join("hookmill.toml"), configuration(forge, &settings, port)).expect("written");
        let http = ureq::Agent::config_builder()
            .proxy(None)
            .http_status_as_error(false)
            .timeout_global(Some(REQUEST))
            .build()
            .new_agent();
        let mut server = Server { dir, settings, port, child: None, http };
        server.spawn();
        server
    }

    /// An agent has no address to knock at: it says that it is ready.
    fn is_up(&self, before: usize) -> bool {
        if self.settings.command == "agent" {
            return self.log_text().get(before..).is_some_and(|log| log.contains("\"ready\""));
        }
        let answered = self.http.get(format!("{}/healthz", self.url())).call();
        answered.is_ok_and(|answer| answer.status() == 200)
    }

    fn spawn(&mut self) {
        let before = self.log_text().len();
        let log = OpenOptions::new().create(true).append(true).open(self.log_file()).expect("a log");
        let path = self.settings.path.clone().unwrap_or_else(path_with_bower);
        let child = Command::new(EXE)
            .arg(self.settings.command)
            .arg("--config")
            .arg(self.config_file())
            .env("PATH", path)
            .env("HOOKMILL_LOG_FORMAT", "json")
            .envs(self.settings.env.iter().cloned())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("started");
        self.child = Some(child);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().expect("a child of ours"));
            assert!(ended.is_none(), "{} ended: {ended:?}\n{}", self.settings.command, self.log_text());
            if self.is_up(before) {
                return;
            }
            assert!(Instant::now() < deadline, "serve does not answer");
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Its address, without a slash at the end.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// `[data] dir`.
    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub(crate) fn config_file(&self) -> PathBuf {
        self.dir.path().join("hookmill.toml")
    }

    fn log_file(&self) -> PathBuf {
        self.dir.path().join("serve.log")
    }

    /// What it has logged so far: one JSON object a line.
    pub(crate) fn log_text(&self) -> String {
        fs::read(self.log_file()).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default()
    }

    /// The id of its process.
    pub(crate) fn pid(&self) -> Pid {
        Pid::from_child(self.child.as_ref().expect("it runs"))
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("it runs");
    }

    /// Waits until it ended by itself.
    pub(crate) fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        let child = self.child.as_mut().expect("it runs");
        loop {
            if let Some(status) = child.try_wait().expect("a child of ours") {
                self.child = None;
                return status;
            }
            assert!(Instant::now() < deadline, "serve does not end");
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// SIGTERM, and its exit code.
    pub(crate) fn stop(&mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        self.ended().code()
    }

    /// kill -9.
    pub(crate) fn kill9(&mut self) {
        self.signal(Signal::KILL);
        assert_eq!(self.ended().signal(), Some(9));
    }

    /// Starts it again, where it was; it must not run.
    pub(crate) fn restart(&mut self) {
        assert!(self.child.is_none(), "it still runs");
        self.spawn();
    }

    /// Delivers an event, signed.
    pub(crate) fn deliver(&self, delivery: &Delivery) -> Reply {
        let body = delivery.body();
        let mut request = self.http.post(format!("{}{}", self.url(), delivery.path()));
        for (name, value) in delivery.headers(&body) {
            request = request.header(name, value);
        }
        reply(request.send(&body))
    }

    pub(crate) fn get(&self, path: &str) -> Reply {
        self.get_with(path, &[])
    }

    pub(crate) fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Reply {
        let mut request = self.http.get(format!("{}{path}", self.url()));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        reply(request.call())
    }

    /// Posts JSON (or nothing) as the administrator.
    pub(crate) fn post(&self, path: &str, body: &str) -> Reply {
        let request =
            self.http.post(format!("{}{path}", self.url())).header("authorization", format!("Bearer {ADMIN}"));
        reply(request.content_type("application/json").send(body))
    }

    /// A build by the API.
    pub(crate) fn build(&self, id: i64) -> Value {
        let reply = self.get(&format!("/api/v1/builds/{id}"));
        assert_eq!(reply.code, 200, "{reply:?}");
        reply.json()
    }

    /// A figure of `/metrics`, by the beginning of its line.
    pub(crate) fn figure(&self, name: &str) -> u64 {
        let text = self.get("/metrics").body;
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.map_or(0, |count| count.trim().parse().unwrap_or_else(|_| panic!("{name} in {text}")))
    }

    /// Waits until the sweep has looked at so many repositories since the start.
    pub(crate) fn looked(&self, times: u64) {
        let deadline = Instant::now() + PATIENCE;
        while self.figure("hookmill_sweep_looks_total{result=\"ok\"}") < times {
            assert!(Instant::now() < deadline, "it did not look {times} times: {}", self.get("/readyz").body);
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Every build that there is, the newest first.
    pub(crate) fn builds(&self) -> Vec<Value> {
        self.get("/api/v1/builds?limit=200").json()["builds"].as_array().expect("a list").clone()
    }

    /// What a step wrote so far; an empty name is every step's.
    pub(crate) fn log(&self, id: i64, step: &str) -> String {
        let step = if step.is_empty() { String::new() } else { format!("?step={step}") };
        self.get(&format!("/api/v1/builds/{id}/log{step}")).body
    }

    /// Waits until a build is as it should be.
    pub(crate) fn wait_for(&self, id: i64, what: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let build = self.build(id);
            if what(&build) {
                return build;
            }
            assert!(Instant::now() < deadline, "it never came to that: {build:#}");
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    /// Waits until a build is finished.
    pub(crate) fn finished(&self, id: i64) -> Value {
        self.wait_for(id, |build| build["state"] == "finished")
    }

    /// Waits until a step has written this.
    pub(crate) fn wrote(&self, id: i64, step: &str, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let log = self.log(id, step);
            if log.contains(text) {
                return;
            }
            assert!(Instant::now() < deadline, "{step} of {id} never wrote {text:?}: {log}\n{:#}", self.build(id));
            std::thread::sleep(LOOK_AGAIN);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("the server's log:\n{}", self.log_text());
        }
    }
}

/// A step of a build as the API shows it.
pub(crate) fn step<'b>(build: &'b Value, name: &str) -> &'b Value {
    let steps = build["steps"].as_array().expect("steps");
    steps.iter().find(|step| step["name"] == name).unwrap_or_else(|| panic!("no step {name}: {build:#}"))
}

fn reply(answered: Result<ureq::http::Response<ureq::Body>, ureq::Error>) -> Reply {
    let mut answer = answered.unwrap_or_else(|error| panic!("the server does not answer: {error}"));
    // A log is as a step wrote it, which need not be text.
    let body = answer.body_mut().with_config().limit(256 << 20).read_to_vec().expect("a whole answer");
    Reply {
        code: answer.status().as_u16(),
        headers: answer.headers().clone(),
        body: String::from_utf8_lossy(&body).into_owned(),
    }
}

/// The configuration as anybody could have written it; git is where a forge's pages would be.
fn configuration(forge: &Forge, settings: &Settings, port: u16) -> String {
    let Settings { slots, sweep, repo, forge: keys, tables, data, agent, .. } = settings;
    let store = settings.store.as_deref().unwrap_or("sqlite://./data/hookmill.db");
    let mut text = format!(
        r#"[server]
listen = "127.0.0.1:{port}"
public_url = "http://127.0.0.1:{port}"
admin_token = "{ADMIN}"
sweep = "{sweep}"

[store]
url = "{store}"

[data]
dir = "./data"
{data}

[agent]
slots = {slots}
drain_timeout = "30s"
{agent}

{sandbox}
[toolchain]
node = "{node}"

{tables}
"#,
        node = node_major(),
        sandbox = if tables.contains("[sandbox]") { String::new() } else { reaching(&[forge.git.origin()]) },
    );
    for kind in [Kind::Gitea, Kind::Github] {
        text.push_str(&format!(
            r#"
[[forge]]
name = "{name}"
kind = "{name}"
web_url = "{git}"
api_url = "{api}"
token = "{TOKEN}"
{keys}

[[repo]]
forge = "{name}"
name = "acme/*"
hook_secret = "{HOOK_SECRET}"
{repo}
"#,
            name = kind.name(),
            git = forge.git.origin(),
            api = forge.api_url(kind),
        ));
    }
    text
}

/// `[sandbox]` of a server whose installs reach these, each `http://host:port`, beside where the tools go.
pub(crate) fn reaching(origins: &[String]) -> String {
    let hosts = origins.iter().map(|origin| format!(", {:?}", origin.trim_start_matches("http://")));
    format!("[sandbox]\ninstall_hosts = [\"npm\", \"yarn\", \"bower\", \"node\"{}]\n", hosts.collect::<String>())
}

/// The node of this machine: repositories here ask for none.
fn node_major() -> String {
    let output = Command::new("node").arg("--version").output().expect("node is installed");
    let version = String::from_utf8_lossy(&output.stdout).trim().trim_start_matches('v').to_owned();
    version.split('.').next().unwrap_or_default().to_owned()
}

/// This process's `PATH` with an operator's bower first. It is installed once for all tests.
pub(crate) fn path_with_bower() -> String {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("bower-{BOWER}"));
    let bin = home.join("node_modules/.bin");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").expect("set"));
    // Nobody but who made it can lock it; it came by a rename, and is whole.
    if home.exists() {
        return path;
    }
    // The lock is given back with the file, also when another test's process is killed.
    let lock = File::create(home.with_extension("lock")).expect("a lock");
    lock.lock().expect("locked");
    if !home.exists() {
        let staging = home.with_extension("new");
        let _ = fs::remove_dir_all(&staging);
        fs::create_dir_all(&staging).expect("a folder");
        let installed = Command::new("npm")
            .args(["install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix"])
            .arg(&staging)
            .arg(format!("bower@{BOWER}"))
            .stdin(Stdio::null())
            .output()
            .expect("npm is installed");
        assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
        fs::rename(&staging, &home).expect("renamed");
    }
    path
}

//! `hookmill run`: builds a local folder as the agent would, with its lanes live on the terminal.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::{Semaphore, mpsc};

use crate::config::load;
use crate::config::surroundings::Surroundings;
use crate::confine::{self, Layers};
use crate::domain::build::{Build, BuildId, Cause, State, StepState};
use crate::domain::outcome::{Outcome, Verdict};
use crate::domain::repo::{CommitId, RefName, RepoId};
use crate::domain::spec::{Decision, Plan};
use crate::domain::time::Timestamp;
use crate::domain::trust::Trust;
use crate::process::Lines;
use crate::runner::{self, Happening, Job, Parts, Source, Stop, Tell, Toolbox};
use crate::tree;

use super::lanes::{Lanes, harmless};
use super::output::Out;
use super::{RunArgs, USAGE};

/// How many of a failed step's last lines are shown again at the end.
const LAST_LINES: usize = 30;
/// How many folders may be built at once by this user; each has a slot of its own.
const SLOTS: usize = 64;

/// Why a folder could not be built at all.
#[derive(Debug, thiserror::Error)]
enum RunError {
    #[error("{0} is not a folder; name the folder to build")]
    NoFolder(PathBuf),
    #[error("there is no folder for the cache: set XDG_CACHE_HOME or HOME")]
    NoCache,
    #[error("{}: {source}", path.display())]
    Cache { path: PathBuf, source: std::io::Error },
    #[error("all {SLOTS} slots under {0} are in use; wait for another `hookmill run` to end")]
    NoSlot(PathBuf),
    #[error(transparent)]
    Config(#[from] load::LoadError),
    #[error("this process can't be looked at: {0}")]
    Process(std::io::Error),
}

/// Builds the folder; the exit code is the outcome's.
pub(super) fn run(args: &RunArgs) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("hookmill: no runtime: {error}");
            return ExitCode::from(Outcome::Broken.exit_code());
        }
    };
    match runtime.block_on(build_folder(args)) {
        Ok(outcome) => ExitCode::from(outcome.exit_code()),
        Err(error) => {
            eprintln!("hookmill: {error}");
            ExitCode::from(USAGE)
        }
    }
}

async fn build_folder(args: &RunArgs) -> Result<Outcome, RunError> {
    let dir = args.dir.canonicalize().ok().filter(|dir| dir.is_dir());
    let dir = dir.ok_or_else(|| RunError::NoFolder(args.dir.clone()))?;
    let around = Surroundings::of_this_process().map_err(RunError::Process)?;
    let server = load::defaults(&around)?.server;
    let cache = cache_dir()?;
    let slot = Slot::take(&cache)?;
    let exe = this_program().map_err(RunError::Process)?;
    let layers = confine::probe(&exe, &cache)
        .await
        .unwrap_or_else(|error| Layers::none(&format!("the host could not be probed: {error}")));
    let parts = Parts {
        exe,
        data_dir: cache.clone(),
        layers: Arc::new(layers),
        network: Arc::clone(&server.network),
        tools: Toolbox::default(),
        toolchain: Arc::clone(&server.toolchain),
        shared_tools: None,
        permits: Arc::new(Semaphore::new(around.cores.max(2))),
    };
    let job = Job {
        build: local_build(&dir, args),
        source: Source::Folder { dir, rev: args.commit.clone() },
        limits: server.agent.limits.clone(),
        scripts: true,
        bundle_network: false,
        env: BTreeMap::new(),
        url: String::new(),
    };
    let stop = stop_on_signals();
    let outcome = if args.explain {
        explain(&job, &parts, slot.number, &stop, args.json).await
    } else {
        build(&job, &parts, slot.number, &stop, args.json).await
    };
    let trash = cache.join("trash");
    let emptied = tokio::task::spawn_blocking(move || tree::empty_trash(&trash)).await;
    if let Ok(Err(error)) = emptied {
        eprintln!("hookmill: what the build left behind could not be removed: {error}");
    }
    Ok(outcome)
}

async fn build(job: &Job, parts: &Parts, slot: usize, stop: &Stop, json: bool) -> Outcome {
    let (tell, happenings) = Tell::channel();
    let mut watcher = Watcher::new(job.build.clone(), json);
    let (verdict, ()) = tokio::join!(runner::build::build(job, parts, slot, tell, stop), watcher.watch(happenings));
    watcher.end(&verdict);
    verdict.outcome
}

async fn explain(job: &Job, parts: &Parts, slot: usize, stop: &Stop, json: bool) -> Outcome {
    let (tell, happenings) = Tell::channel();
    let mut watcher = Watcher::silent(job.build.clone());
    let (planned, ()) = tokio::join!(runner::build::explain(job, parts, slot, tell, stop), watcher.watch(happenings));
    let mut out = Out::stdout();
    match planned {
        Ok(plan) if json => {
            out.line(serde_json::to_string_pretty(&plan).expect("a plan is strings, numbers and lists"));
            Outcome::Passed
        }
        Ok(plan) => {
            account(&plan, &mut out);
            Outcome::Passed
        }
        Err(verdict) => {
            eprintln!("hookmill: {}", harmless(&verdict.reason));
            verdict.outcome
        }
    }
}

/// Files seen → decision → reason, and what would run.
fn account(plan: &Plan, out: &mut Out) {
    out.line("seen → decided (because)");
    for Decision { seen, decided, because } in &plan.decisions {
        out.line(format!("  {} → {} ({})", harmless(seen), harmless(decided), harmless(because)));
    }
    for notice in &plan.notices {
        out.line(format!("note: {}", harmless(notice)));
    }
    for (number, stage) in plan.stages.iter().enumerate() {
        out.line(format!("stage {}", number + 1));
        for step in &stage.steps {
            out.line(format!("  {:10} {}   in {}", step.name, harmless(&step.argv.join(" ")), harmless(&step.dir)));
        }
    }
    if plan.stages.is_empty() {
        out.line("nothing would run");
    }
}

/// Shows a build while it runs and keeps what `--json` prints at the end.
struct Watcher {
    build: Build,
    json: bool,
    lanes: Option<Lanes>,
    drawn: bool,
    lines: BTreeMap<usize, (Lines, VecDeque<String>)>,
}

impl Watcher {
    fn new(build: Build, json: bool) -> Self {
        let drawn = if json { std::io::stderr().is_terminal() } else { std::io::stdout().is_terminal() };
        let lanes = if json { Lanes::on_stderr(drawn) } else { Lanes::new(drawn) };
        Self { build, json, lanes: Some(lanes), drawn, lines: BTreeMap::new() }
    }

    /// Shows nothing at all.
    fn silent(build: Build) -> Self {
        Self { build, json: false, lanes: None, drawn: false, lines: BTreeMap::new() }
    }

    async fn watch(&mut self, mut happenings: mpsc::Receiver<Happening>) {
        while let Some(happening) = happenings.recv().await {
            self.see(happening);
        }
    }

    fn see(&mut self, happening: Happening) {
        match happening {
            Happening::Sandbox(name) => {
                self.say(&format!("sandbox: {name}"));
                self.build.sandbox = name;
            }
            Happening::Notice(text) => self.say(&format!("note: {}", harmless(&text))),
            Happening::CheckedOut(sha) => {
                self.build.sha = sha.clone();
                self.build.built_sha = Some(sha);
            }
            Happening::Planned { steps, .. } => self.build.steps = steps,
            Happening::Step(place, step) => {
                if step.state == StepState::Finished {
                    self.last_line(place, &step.name);
                }
                if let Some(lanes) = &mut self.lanes {
                    lanes.step(&step);
                }
                if let Some(kept) = self.build.steps.get_mut(place) {
                    *kept = step;
                }
            }
            Happening::Output(place, bytes) => self.output(place, &bytes),
        }
    }

    fn output(&mut self, place: usize, bytes: &[u8]) {
        let name = self.build.steps.get(place).map_or("", |step| step.name.as_str());
        let (splitter, last) = self.lines.entry(place).or_insert_with(|| (Lines::new(), VecDeque::new()));
        splitter.push(bytes, |line| {
            if let Some(lanes) = &mut self.lanes {
                lanes.line(name, &line);
            }
            if last.len() == LAST_LINES {
                last.pop_front();
            }
            last.push_back(line);
        });
    }

    /// A step that ended without a line end leaves a line, too.
    fn last_line(&mut self, place: usize, name: &str) {
        if let Some((splitter, last)) = self.lines.get_mut(&place) {
            splitter.finish(|line| {
                if let Some(lanes) = &mut self.lanes {
                    lanes.line(name, &line);
                }
                last.push_back(line);
            });
        }
    }

    fn end(&mut self, verdict: &Verdict) {
        self.build.state = State::Finished;
        self.build.outcome = Some(verdict.outcome);
        self.build.reason = Some(verdict.reason.clone());
        self.build.finished_at = Some(now());
        if let Some(lanes) = &mut self.lanes {
            lanes.clear();
        }
        // Plain lines have been seen already; lanes show only the last one.
        if self.drawn {
            self.show_failed_step();
        }
        self.say(&format!("{}: {}", verdict.outcome.as_str(), harmless(&verdict.reason)));
        if self.json {
            let document = serde_json::to_string_pretty(&self.build).expect("a build is strings, numbers and lists");
            Out::stdout().line(document);
        }
    }

    fn show_failed_step(&self) {
        let failed = self
            .build
            .steps
            .iter()
            .position(|step| matches!(step.outcome, Some(Outcome::Failed | Outcome::Broken | Outcome::TimedOut)));
        let Some((_, last)) = failed.and_then(|place| self.lines.get(&place)) else { return };
        for line in last {
            self.say(&format!("    {}", harmless(line)));
        }
    }

    fn say(&self, line: &str) {
        if let Some(lanes) = &self.lanes {
            lanes.say(line);
        }
    }
}

/// A build of this folder as the API would show it.
fn local_build(dir: &Path, args: &RunArgs) -> Build {
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
        created_at: now(),
        started_at: Some(now()),
        finished_at: None,
        sandbox: String::new(),
        base_branch: None,
        default_branch: None,
        title: None,
        author: None,
        use_cache: !args.no_cache,
        steps: Vec::new(),
    }
}

/// `$XDG_CACHE_HOME/hookmill`, else `~/.cache/hookmill` (XDG Base Directory Specification).
fn cache_dir() -> Result<PathBuf, RunError> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CACHE_HOME").or_else(|| absolute("HOME").map(|home| home.join(".cache")));
    let cache = base.ok_or(RunError::NoCache)?.join("hookmill");
    std::fs::create_dir_all(cache.join("slots")).map_err(|source| RunError::Cache { path: cache.clone(), source })?;
    Ok(cache)
}

/// A slot that no other `hookmill run` uses, as long as this lives.
struct Slot {
    number: usize,
    _lock: File,
}

impl Slot {
    fn take(cache: &Path) -> Result<Self, RunError> {
        for number in 0..SLOTS {
            let path = cache.join("slots").join(format!("{number}.lock"));
            let lock = File::create(&path).map_err(|source| RunError::Cache { path, source })?;
            if lock.try_lock().is_ok() {
                return Ok(Self { number, _lock: lock });
            }
        }
        Err(RunError::NoSlot(cache.to_owned()))
    }
}

/// The first Ctrl-C (or SIGTERM) ends the build by the stop protocol, the second one at once.
fn stop_on_signals() -> Stop {
    use tokio::signal::unix::{SignalKind, signal};
    let stop = Stop::new();
    let asked = stop.clone();
    tokio::spawn(async move {
        let (Ok(mut int), Ok(mut term)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate())) else {
            return;
        };
        for again in [false, true] {
            tokio::select! {
                _ = int.recv() => {}
                _ = term.recv() => {}
            }
            if again {
                // The holder sees our end and ends everything inside.
                std::process::exit(i32::from(Outcome::Cancelled.exit_code()));
            }
            asked.cancel();
        }
    });
    stop
}

/// This program's file, as children can start it even after an upgrade replaced it.
fn this_program() -> std::io::Result<PathBuf> {
    if cfg!(target_os = "linux") { Ok(PathBuf::from("/proc/self/exe")) } else { std::env::current_exe() }
}

fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

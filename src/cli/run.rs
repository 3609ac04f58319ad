//! `hookmill run`: builds a local folder as the agent would, with its lanes live on the terminal.

use std::collections::{BTreeMap, VecDeque};
use std::io::IsTerminal;
use std::pin::pin;
use std::process::ExitCode;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::config::root::Root;
use crate::domain::build::{Build, State};
use crate::domain::outcome::{Outcome, Verdict};
use crate::domain::spec::{Decision, NOBODY, Plan};
use crate::domain::step::StepState;
use crate::process::Lines;
use crate::runner::build::Built;
use crate::runner::{self, Happening, Job, Parts, Stop, Tell};

use super::account;
use super::folder::{Confinement, Folder, FolderError, now};
use super::lanes::{Lanes, harmless};
use super::output::Out;
use super::{RunArgs, USAGE};

/// How many of a failed step's last lines are shown again at the end.
const LAST_LINES: usize = 30;
/// After this long without a word, a person wants to know what is still done.
const SILENCE: Duration = Duration::from_secs(1);

/// Builds the folder; the exit code is the outcome's.
pub(super) fn run(args: &RunArgs) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("hookmill: no runtime: {error}");
            return ExitCode::from(Outcome::Broken.exit_code());
        }
    };
    let built = runtime.block_on(build_folder(args));
    // What a person did not want to wait for is not waited for: half of it is removed by the next build.
    runtime.shutdown_background();
    match built {
        Ok(outcome) => ExitCode::from(outcome.exit_code()),
        Err(error) => {
            eprintln!("hookmill: {error}");
            ExitCode::from(USAGE)
        }
    }
}

async fn build_folder(args: &RunArgs) -> Result<Outcome, FolderError> {
    let rev = args.commit.as_deref();
    let stop = stop_on_signals();
    let root = match &args.root {
        Some(root) => Some(Root::open(std::path::absolute(root).map_err(FolderError::Process)?)?),
        None => None,
    };
    if args.explain {
        // What node there is in another root is asked in it.
        let confinement = if root.is_some() { Confinement::AsTheHostGives } else { Confinement::NothingRuns };
        let mut folder = Folder::open(&args.dir, rev, confinement, &args.install_hosts).await?;
        folder.job.root = root;
        let planned = folder.plan(&stop).await;
        folder.close().await;
        return Ok(explain(planned, args.json));
    }
    let mut folder = Folder::open(&args.dir, rev, Confinement::AsTheHostGives, &args.install_hosts).await?;
    folder.job.build.use_cache = !args.no_cache;
    folder.job.root = root;
    let (outcome, ended) = build(&folder.job, &folder.parts, folder.slot(), &stop, args.json).await;
    if ended == Ended::Whole {
        folder.close().await;
    }
    Ok(outcome)
}

/// Whether everything was done, after the verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// Everything.
    Whole,
    /// A person did not want to wait for what helps the next build.
    Early,
}

async fn build(job: &Job, parts: &Parts, slot: usize, stop: &Stop, json: bool) -> (Outcome, Ended) {
    let (tell, happenings) = Tell::channel();
    let mut watcher = Watcher::new(job.build.clone(), json);
    let (built, ()) = tokio::join!(runner::build::build(job, parts, slot, tell, stop), watcher.watch(happenings));
    watcher.end(&built.verdict);
    let outcome = built.verdict.outcome;
    (outcome, keep(built, stop, &watcher).await)
}

/// Keeps what the next build can use. Who does not want to wait for that presses Ctrl-C, and has the verdict.
async fn keep(built: Built, stop: &Stop, watcher: &Watcher) -> Ended {
    let mut kept = pin!(built.keep());
    tokio::select! {
        biased;
        _ = &mut kept => return Ended::Whole,
        () = stop.cancelled() => return Ended::Early,
        () = tokio::time::sleep(SILENCE) => {}
    }
    watcher.say("keeping what the next build can use; Ctrl-C ends that, and the verdict stays");
    tokio::select! {
        biased;
        _ = kept => Ended::Whole,
        () = stop.cancelled() => Ended::Early,
    }
}

fn explain(planned: Result<Plan, Verdict>, json: bool) -> Outcome {
    let mut out = Out::stdout();
    match planned {
        Ok(plan) if json => {
            out.line(serde_json::to_string_pretty(&plan).expect("a plan is strings, numbers and lists"));
            Outcome::Passed
        }
        Ok(plan) => {
            for line in account::plan(&plan) {
                out.line(line);
            }
            Outcome::Passed
        }
        Err(verdict) => {
            eprintln!("hookmill: {}", harmless(&verdict.reason));
            verdict.outcome
        }
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
            Happening::Decided(Decision { seen, decided, .. }) => {
                let who = if seen == NOBODY { String::new() } else { format!(", asked for by {seen}") };
                self.say(&harmless(&format!("with {decided}{who}")));
            }
            Happening::SameAs(build) => self.build.same_as = Some(build),
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
            // A folder has no secrets: they are the server's.
            Happening::Given { .. } => {}
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

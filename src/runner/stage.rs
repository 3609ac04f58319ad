//! Runs the steps of one stage side by side.
//!
//! One place starts them and the same place joins them. When one fails, its siblings are stopped and shown as
//! *cancelled*; what was stopped never counts as a failure of its own.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::future::join_all;
use tokio::time::Instant;

use crate::config::server::Registry;
use crate::confine::{Holder, HolderError};
use crate::domain::mask::Mask;
use crate::domain::outcome::{Outcome, Verdict};
use crate::domain::sentence;
use crate::domain::spec::{Limits, Network, StepCommand, StepSpec};
use crate::domain::step::{CacheUse, Reached, Step, StepState};
use crate::domain::time::Timestamp;
use crate::domain::trust::Trust;
use crate::egress::{Gate, Rules, Visit};
use crate::process::{Bound, Exit, Running};
use crate::tree::Dir;

use super::diagnosis::{self, Finished};
use super::reach::Reach;
use super::{Happening, Parts, Stop, Tell};

mod watch;

use watch::{Cut, watch};

/// How often an outage (never a failure of the repository's) is tried in all.
const TRIES: u32 = 3;

/// The waits between those tries, before jitter.
const BACKOFF: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(8)];

/// What a step needs beside its spec.
pub(super) struct Scene<'a> {
    pub(super) parts: &'a Parts,
    pub(super) holder: &'a Holder,
    pub(super) tell: &'a Tell,
    /// The build's own stop; a stage hangs its siblings' stop below it.
    pub(super) stop: &'a Stop,
    /// Makes the environment of a step.
    pub(super) environment: &'a (dyn Fn(&StepSpec) -> BTreeMap<String, String> + Sync),
    /// What the build may take.
    pub(super) limits: &'a Limits,
    /// The names of the secrets that a step is given.
    pub(super) secrets: &'a (dyn Fn(&StepSpec) -> Vec<String> + Sync),
    /// Hides secrets in what steps print.
    pub(super) mask: &'a Mask,
    /// Whose code it is.
    pub(super) trust: Trust,
    /// The tree's root as the steps see it.
    pub(super) root: &'a str,
    /// Registries whose tokens this build was not given.
    pub(super) withheld: &'a [&'a Registry],
    /// The sources on this machine, which no step changes.
    pub(super) sources: &'a Path,
    /// What the steps may reach.
    pub(super) reach: &'a Reach,
    /// `[sandbox] install_hosts` as it is written, for the line that would add to it.
    pub(super) install_hosts: &'a [String],
    /// A folder of this machine, built by hand.
    pub(super) is_local: bool,
    /// What is to be said at the end of a step's log.
    pub(super) last_word: &'a (dyn Fn(&StepSpec) -> Option<String> + Sync),
    /// What a step's cache did, and why.
    pub(super) cache: &'a (dyn Fn(&StepSpec) -> (CacheUse, Option<String>) + Sync),
}

/// A step of the stage with its place in the plan.
pub(super) struct Placed<'a> {
    pub(super) place: usize,
    pub(super) spec: &'a StepSpec,
}

/// How one step ended.
#[derive(Debug, Clone)]
pub(super) struct Ended {
    pub(super) step: Step,
    pub(super) allow_failure: bool,
    pub(super) verdict: Verdict,
}

/// Runs the steps and returns how each ended, in plan order.
pub(super) async fn run(scene: &Scene<'_>, steps: &[Placed<'_>]) -> Vec<Ended> {
    let siblings = scene.stop.child_token();
    join_all(steps.iter().map(async |placed| {
        let ended = run_step(scene, placed, &siblings).await;
        if !ended.verdict.outcome.is_success() && !ended.allow_failure {
            siblings.cancel();
        }
        ended
    }))
    .await
}

/// The verdict of a stage that did not succeed: its first real failure, not the siblings that fell with it.
pub(super) fn verdict(ended: &[Ended]) -> Option<Verdict> {
    let counts = |one: &&Ended| !one.verdict.outcome.is_success() && !one.allow_failure;
    let real = |one: &&Ended| one.verdict.outcome != Outcome::Cancelled;
    ended.iter().filter(counts).find(real).or_else(|| ended.iter().find(counts)).map(|one| one.verdict.clone())
}

async fn run_step(scene: &Scene<'_>, placed: &Placed<'_>, stop: &Stop) -> Ended {
    let spec = placed.spec;
    let mut step = Step::queued(&spec.name, spec.kind);
    (step.cache, step.cache_note) = (scene.cache)(spec);
    let permit = tokio::select! {
        permit = scene.parts.permits.acquire() => permit.ok(),
        () = stop.cancelled() => None,
    };
    let verdict = if permit.is_some() { try_step(scene, placed, stop, &mut step).await } else { stopped() };
    step.state = StepState::Finished;
    step.outcome = Some(verdict.outcome);
    step.finished_at = step.started_at.map(|_| now());
    let allowed = if spec.allow_failure { "; allow_failure lets it pass" } else { "" };
    step.reason = (!verdict.outcome.is_success()).then(|| format!("{}{allowed}", verdict.reason));
    scene.tell.that(Happening::Step(placed.place, step.clone())).await;
    Ended { step, allow_failure: spec.allow_failure, verdict }
}

/// Runs the command until it succeeds, fails for good, or was tried often enough.
async fn try_step(scene: &Scene<'_>, placed: &Placed<'_>, stop: &Stop, step: &mut Step) -> Verdict {
    let spec = placed.spec;
    let deadline = Instant::now() + spec.timeout;
    let (mut outages, mut failures) = (0, 0);
    loop {
        let verdict = match run_once(scene, placed, stop, deadline, step).await {
            Once::Ended(verdict) => return verdict,
            Once::Outage(reason) => {
                outages += 1;
                if outages >= TRIES {
                    return Verdict::new(Outcome::Broken, sentence::broken(&reason, outages));
                }
                Verdict::new(Outcome::Broken, reason)
            }
            Once::Failed(verdict) => {
                failures += 1;
                if failures > spec.retry {
                    return verdict;
                }
                verdict
            }
        };
        let wait = jittered(BACKOFF[(outages.max(1) as usize - 1).min(BACKOFF.len() - 1)]);
        let note = format!("\n== {}; trying again in {:.1} s ==\n", verdict.reason, wait.as_secs_f64());
        scene.tell.that(Happening::Output(placed.place, Bytes::from(note))).await;
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = stop.cancelled() => return stopped(),
        }
    }
}

/// How one run of the command ended.
enum Once {
    /// For good: passed, timed out, cancelled, or broken beyond repair.
    Ended(Verdict),
    /// The infrastructure's fault; worth another try.
    Outage(String),
    /// The repository's fault.
    Failed(Verdict),
}

async fn run_once(scene: &Scene<'_>, placed: &Placed<'_>, stop: &Stop, deadline: Instant, step: &mut Step) -> Once {
    // What would have mended an earlier try says nothing of this one.
    step.mend = None;
    for (at, (argv, dir)) in placed.spec.programs().enumerate() {
        if at > 0 {
            let line = format!("\n== {} ==\n", argv.join(" "));
            scene.tell.that(Happening::Output(placed.place, Bytes::from(line))).await;
        }
        if let Err(ended) = run_program(scene, placed, (argv, dir), stop, deadline, step).await {
            return ended;
        }
    }
    if let Some(line) = (scene.last_word)(placed.spec) {
        scene.tell.that(Happening::Output(placed.place, Bytes::from(line))).await;
    }
    Once::Ended(Verdict::new(Outcome::Passed, ""))
}

/// Runs one program of a step. `Err` is how the step ended: it did not succeed.
async fn run_program(
    scene: &Scene<'_>,
    placed: &Placed<'_>,
    (argv, dir): (&[String], &str),
    stop: &Stop,
    deadline: Instant,
    step: &mut Step,
) -> Result<(), Once> {
    let spec = placed.spec;
    let command = StepCommand {
        argv: argv.to_vec(),
        env: (scene.environment)(spec),
        dir: dir.to_owned(),
        network: spec.network.clone(),
        processes: scene.limits.processes,
        memory: scene.limits.memory,
        cpus: scene.limits.cpus,
    };
    let (mut running, gate) = start(scene, &command, scene.reach.rules(spec)).await.map_err(|error| {
        Once::Ended(Verdict::new(Outcome::Broken, sentence::broken(&format!("{}: {error}", spec.name), 1)))
    })?;
    if step.started_at.is_none() {
        let names = (scene.secrets)(spec);
        if !names.is_empty() {
            scene.tell.that(Happening::Given { step: spec.name.clone(), names }).await;
        }
        step.state = StepState::Running;
        step.started_at = Some(now());
        scene.tell.that(Happening::Step(placed.place, step.clone())).await;
    }
    let watched = watch(scene, placed.place, &mut running, stop, deadline).await;
    step.exit_code = watched.exit.and_then(Exit::code);
    step.signal = watched.exit.and_then(Exit::signal_name);
    let is_gated = gate.is_some();
    let visits = gate.map(|gate| gate.visits()).unwrap_or_default();
    step.has_reached(visits.iter().filter(|visit| visit.bytes > 0 || visit.closed.is_some()).map(reached));
    match watched.cut {
        Some(Cut::Timeout) => {
            let sentence = sentence::timed_out(spec.kind, &spec.name, spec.timeout);
            return Err(Once::Ended(Verdict::new(Outcome::TimedOut, sentence)));
        }
        Some(Cut::Stop) => return Err(Once::Ended(stopped())),
        None => {}
    }
    if let Some(line) = through_the_gate(&visits) {
        scene.tell.that(Happening::Output(placed.place, Bytes::from(line))).await;
    }
    if let Some(notice) = reported(scene, spec, &visits) {
        scene.tell.that(Happening::Notice(notice)).await;
    }
    if watched.exit == Some(Exit::Code(0)) {
        return Ok(());
    }
    if let Some(line) = (scene.last_word)(spec) {
        scene.tell.that(Happening::Output(placed.place, Bytes::from(line))).await;
    }
    let program = argv.first().map_or("", String::as_str);
    let visits = is_gated.then_some(&visits[..]);
    Err(diagnosed(scene, spec, program, watched.exit, &watched.output.text(), visits, step))
}

/// Starts the command, behind a gate if it may reach only some hosts.
async fn start(
    scene: &Scene<'_>,
    command: &StepCommand,
    rules: Option<Rules>,
) -> Result<(Running, Option<Gate>), HolderError> {
    if let Some(rules) = rules
        && let doors = rules.doors().into_iter().map(|(at, _)| at).collect::<Vec<_>>()
        && let Some((running, listeners)) = scene.holder.start_with_door(command, &doors).await?
    {
        return Ok((running, Some(Gate::open(listeners, rules, Arc::clone(&scene.parts.network))?)));
    }
    Ok((scene.holder.start(command).await?, None))
}

fn reached(visit: &Visit) -> Reached {
    Reached { host: visit.host.clone(), bytes: visit.bytes, closed: visit.closed.is_some() }
}

/// What a step reached and what it did not, as the last line of its log.
fn through_the_gate(visits: &[Visit]) -> Option<String> {
    let passed = visits.iter().filter(|visit| visit.bytes > 0);
    let passed = passed.map(|visit| format!("{} ({} bytes)", visit.host, visit.bytes));
    let not = visits.iter().filter(|visit| visit.bytes == 0).filter_map(|visit| match (visit.closed, &visit.away) {
        (Some(_), _) => Some(format!("{} (closed)", visit.host)),
        (None, Some(why)) => Some(format!("{} ({why})", visit.host)),
        (None, None) => None,
    });
    let hosts: Vec<String> = passed.chain(not).collect();
    (!hosts.is_empty()).then(|| format!("\n== network: {} ==\n", hosts.join(", ")))
}

/// What a trusted build was let through to only because that is reported and not enforced yet, with the line to add.
fn reported(scene: &Scene<'_>, spec: &StepSpec, visits: &[Visit]) -> Option<String> {
    let through = visits.iter().filter(|visit| visit.bytes > 0 && visit.closed.is_some());
    let hosts: Vec<String> = through.map(|visit| visit.host.clone()).collect();
    if hosts.is_empty() {
        return None;
    }
    let (line, place) = diagnosis::line_that_opens(spec, scene.install_hosts, &hosts);
    let name = &spec.name;
    Some(format!(
        "{name} reached {}, which sandbox.network = \"enforce\" would refuse; to keep it open: {line} in {place}",
        hosts.join(", ")
    ))
}

/// Whose fault a run was that did not end with status 0; what mends it goes into `step`.
fn diagnosed(
    scene: &Scene<'_>,
    spec: &StepSpec,
    program: &str,
    exit: Option<Exit>,
    output: &str,
    visits: Option<&[Visit]>,
    step: &mut Step,
) -> Once {
    let broken = |why: &str| Once::Ended(Verdict::new(Outcome::Broken, sentence::broken(why, 1)));
    let exit = match exit {
        Some(Exit::Code(code)) => diagnosis::Exit::Code(code),
        Some(exit @ Exit::Signal(_)) => diagnosis::Exit::Signal(exit.signal_name().unwrap_or_default()),
        Some(Exit::Over(bound)) => {
            step.mend = Some(diagnosis::mend_of(bound));
            let reason = match bound {
                Bound::Memory => sentence::out_of_memory(&spec.name, scene.limits.memory),
                Bound::Processes => sentence::too_many_processes(&spec.name, scene.limits.processes),
            };
            return Once::Failed(Verdict::new(Outcome::Failed, reason));
        }
        Some(Exit::NotStarted) => {
            return broken(&format!("the fence around {} could not be built: {output}", spec.name));
        }
        None => return broken(&format!("{} was lost", spec.name)),
    };
    let found = diagnosis::diagnose(&Finished {
        tool: &spec.tool,
        kind: spec.kind,
        program,
        // Without a gate an install had the machine's own network.
        network: match (&spec.network, visits) {
            (Network::Registries, None) => Network::Open,
            (network, _) => network.clone(),
        },
        install_hosts: scene.install_hosts,
        is_local: scene.is_local,
        trust: scene.trust,
        root: scene.root,
        names: &|folder| names(scene.sources, folder),
        exit,
        output,
        withheld: scene.withheld,
        visits: visits.unwrap_or_default(),
    });
    step.mend = found.mend;
    match (found.outcome, found.retry) {
        (Outcome::Broken, true) => Once::Outage(found.reason),
        (Outcome::Broken, false) => broken(&found.reason),
        (outcome, _) => {
            Once::Failed(Verdict::new(outcome, sentence::step_failed(spec.kind, &spec.name, &found.reason)))
        }
    }
}

/// The names in a folder of the sources; none where there is no such folder.
fn names(sources: &Path, folder: &str) -> Vec<String> {
    let names = Dir::open(sources).and_then(|root| root.open_dir(Path::new(folder))).and_then(|dir| dir.names());
    names.unwrap_or_default().into_iter().filter_map(|name| name.into_string().ok()).collect()
}

fn stopped() -> Verdict {
    Verdict::new(Outcome::Cancelled, "stopped")
}

fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

/// Up to half as long again, so that builds that failed together do not come back together.
pub(super) fn jittered(wait: Duration) -> Duration {
    let random = getrandom::u32().unwrap_or(0);
    wait.mul_f64(1.0 + f64::from(random) / f64::from(u32::MAX) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_fails_for_its_first_real_failure() {
        let ended = |name: &str, outcome, allow_failure| Ended {
            step: Step::queued(name, crate::domain::step::StepKind::Install),
            allow_failure,
            verdict: Verdict::new(outcome, name),
        };
        let verdict_of = |list: &[Ended]| verdict(list).map(|verdict| verdict.reason);
        let (passed, cancelled, failed) = (Outcome::Passed, Outcome::Cancelled, Outcome::Failed);
        assert_eq!(verdict_of(&[ended("npm", passed, false)]), None);
        assert_eq!(verdict_of(&[ended("npm", cancelled, false), ended("bower", failed, false)]), Some("bower".into()));
        assert_eq!(verdict_of(&[ended("lint", failed, true)]), None);
        assert_eq!(verdict_of(&[ended("npm", cancelled, false)]), Some("npm".into()));
    }
}

//! A build, from checkout to verdict.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::{Duration, Instant, SystemTime};

use crate::config::repo_file::RepoFile;
use crate::config::server::{Access, Registry};
use crate::confine::{DOOR, Holder, Joining, Seen};
use crate::domain::build::{Build, Cause, Step, StepKind, StepState};
use crate::domain::outcome::{Outcome, Verdict};
use crate::domain::sentence::{self, Good};
use crate::domain::spec::{Plan, StepSpec};
use crate::domain::time::Timestamp;
use crate::outside;
use crate::tree;

use super::checkout::{self, CheckedOut};
use super::downloads::Lockfiles;
use super::environment::committed;
use super::environment::home::Settings;
use super::flat::{Lent, Returned};
use super::planning::Planned;
use super::stage::{self, Ended, Placed, Scene};
use super::tools::Tools;
use super::workspace::Workspace;
use super::{Happening, Job, Parts, Stop, Tell, artifacts, budget, environment, planning};

/// Builds `job` in slot number `slot`. A failing build is a verdict like any other; so is one that we could not run.
///
/// Its processes are ended and its directory is on the way to the trash when this returns.
///
/// The teller goes with the build: when this returns, the listener hears that nothing more will come.
pub async fn build(job: &Job, parts: &Parts, slot: usize, tell: Tell, stop: &Stop) -> Verdict {
    let stop = stop.child_token();
    let mut story = pin!(story(job, parts, slot, &tell, &stop));
    tokio::select! {
        verdict = &mut story => verdict,
        () = tokio::time::sleep(job.limits.build_timeout) => {
            stop.cancel();
            story.await;
            Verdict::new(Outcome::TimedOut, sentence::build_timed_out(job.limits.build_timeout))
        }
    }
}

/// Plans `job` as [`build`] would, and runs nothing.
///
/// # Errors
/// The verdict of a build that would not come as far as a plan.
pub async fn explain(job: &Job, parts: &Parts, slot: usize, tell: Tell, stop: &Stop) -> Result<Plan, Verdict> {
    let workspace = Workspace::prepare(&parts.data_dir, slot, &job.build.repo, job.build.id).map_err(no_workspace)?;
    let tree = checkout::run(job, parts, &workspace, &tell, stop).await?;
    planning::plan(job, parts, &tree.done.listing).await.map(|planned| planned.plan)
}

async fn story(job: &Job, parts: &Parts, slot: usize, tell: &Tell, stop: &Stop) -> Verdict {
    match try_story(job, parts, slot, tell, stop).await {
        Ok(verdict) | Err(verdict) => verdict,
    }
}

/// `Err` is a verdict too: the one that ended the story early.
async fn try_story(job: &Job, parts: &Parts, slot: usize, tell: &Tell, stop: &Stop) -> Result<Verdict, Verdict> {
    let began = Instant::now();
    artifacts::forget(parts, job.build.id).await;
    let workspace = Workspace::prepare(&parts.data_dir, slot, &job.build.repo, job.build.id).map_err(no_workspace)?;
    // The holder's namespaces are made while the checkout runs.
    let (holder, tree) = tokio::join!(
        Holder::start_early(&parts.exe, &parts.layers),
        checkout::run(job, parts, &workspace, tell, stop),
    );
    let (tree, holder) = (tree?, holder.map_err(no_holder)?);
    if let Some(needless) = &tree.done.needless {
        left_alone(&tree, tell).await;
        return Ok(Verdict::new(Outcome::Skipped, sentence::needless(&needless.globs, &needless.since)));
    }
    let planned = planning::plan(job, parts, &tree.done.listing).await;
    announce(&tree, planned.as_ref().map(|planned| &planned.plan), tell).await;
    let Planned { plan, file } = planned?;
    if plan.stages.is_empty() {
        return Ok(Verdict::new(Outcome::Passed, sentence::nothing_to_do()));
    }

    let tools = Tools::gather(&plan, parts, &job.registries, tell).await?;
    let mut view = workspace.view(readable(&tools, &tree));
    let lent = lend(&workspace, parts).await.map_err(no_workspace)?;
    if let Some(lent) = &lent {
        view.tree = lent.stack();
    }
    let sources = lent.as_ref().map_or_else(|| workspace.sources(), |lent| lent.tree().to_owned());
    let place = parts.layers.seen(&view);
    let lockfiles = Lockfiles::read(&sources, plan.steps().map(|step| step.dir.as_str()));
    let settings = tools.settings(job, parts, &place.home, &lockfiles).map_err(no_settings)?;
    settings.write(&view.home.upper, false).map_err(no_home)?;
    holder.mount(&view).await.map_err(no_holder)?;
    let committed = |spec: &StepSpec| committed::variables(&sources, spec, &job.registries);
    let environment = |spec: &StepSpec| environment_of(job, parts, &tree, &tools, &place, spec, &committed(spec));
    let withheld: Vec<&Registry> = job.registries.iter().filter(|one| one.access == Access::Withheld).collect();
    let root = place.build.to_string_lossy();
    let scene = Scene {
        parts,
        holder: &holder,
        tell,
        stop,
        environment: &environment,
        processes: job.limits.processes,
        trust: job.build.trust,
        root: &root,
        withheld: &withheld,
        sources: &sources,
    };
    let ended = run_stages(&scene, &plan, &settings, &view.home.upper).await;
    holder.close().await;
    forget_tokens(&settings, &view.home.upper);
    // What the steps wrote, or the whole tree where nothing is stacked.
    let written = &view.tree.upper;
    let verdict = match ended {
        Ok(stages) => within_budget(written, &plan, &file, tell, began, &stages).await,
        Err(verdict) => verdict,
    };
    for notice in artifacts::keep(parts, job.build.id, written, &file.artifacts, verdict.outcome).await {
        tell.that(Happening::Notice(notice)).await;
    }
    if let Some(lent) = lent {
        give_back(lent).await;
    }
    Ok(verdict)
}

/// The verdict when every step was good: what they wrote may still be larger than the repository wants.
async fn within_budget(
    written: &Path,
    plan: &Plan,
    file: &RepoFile,
    tell: &Tell,
    began: Instant,
    stages: &[Vec<Ended>],
) -> Verdict {
    let judged = budget::judge(written, plan, file).await;
    for notice in judged.notices {
        tell.that(Happening::Notice(notice)).await;
    }
    judged.verdict.unwrap_or_else(|| {
        let passed = sentence::passed(began.elapsed(), &timings(stages));
        let reason = judged.figure.map_or(passed.clone(), |figure| sentence::with_figure(&passed, &figure));
        Verdict::new(Outcome::Passed, reason)
    })
}

fn environment_of(
    job: &Job,
    parts: &Parts,
    tree: &CheckedOut,
    tools: &Tools,
    place: &Seen,
    step: &StepSpec,
    committed: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut build = Build { built_sha: Some(tree.sha.clone()), ..job.build.clone() };
    if build.cause == Cause::Local {
        // Only the checkout knows the commit of a folder.
        build.sha = tree.sha.clone();
    }
    environment::make(&environment::Facts {
        build: &build,
        build_url: &job.url,
        commit_time: tree.done.committed_at,
        step,
        place: &environment::Place { build: place.build.clone(), home: place.home.clone(), tmp: place.tmp.clone() },
        outfit: tools.of(step),
        network: &parts.network,
        door: parts.layers.has_netns().then_some(DOOR),
        certificates: &tools.certificates,
        node_options: None,
        scripts: job.scripts,
        committed,
        registry_tokens: job.registries.iter().any(|one| matches!(one.access, Access::Token(_))),
        server_env: &job.env,
    })
}

fn readable(tools: &Tools, tree: &CheckedOut) -> Vec<PathBuf> {
    tools.readable.iter().chain(&tree.done.objects).cloned().collect()
}

/// Brings the sources into the build's own tree, where nothing can be stacked.
async fn lend(workspace: &Workspace, parts: &Parts) -> std::io::Result<Option<Lent>> {
    let Joining::Flat(files) = parts.layers.joining() else { return Ok(None) };
    let places = workspace.places();
    let lent = tokio::task::spawn_blocking(move || Lent::lend(places, files)).await.map_err(std::io::Error::other)?;
    lent.map(Some).map_err(std::io::Error::other)
}

/// Ends the tree of a build without stacks, after the last look into it.
async fn give_back(lent: Lent) {
    match tokio::task::spawn_blocking(|| lent.give_back()).await {
        Ok(Ok(Returned::GivenUp(changed))) => {
            tracing::info!(?changed, "the build wrote into its sources: they are checked out anew next time");
        }
        Ok(Ok(Returned::Back | Returned::Untouched)) => {}
        Ok(Err(error)) => tracing::warn!(%error, "the sources could not be taken back: they are checked out anew"),
        Err(error) => tracing::warn!(%error, "the sources could not be taken back: they are checked out anew"),
    }
}

/// Runs the stages in order; the first that does not succeed is the verdict, and nothing later starts.
async fn run_stages(
    scene: &Scene<'_>,
    plan: &Plan,
    settings: &Settings,
    home: &Path,
) -> Result<Vec<Vec<Ended>>, Verdict> {
    let mut ended = Vec::new();
    let mut place = 1;
    let mut with_tokens = false;
    for stage in &plan.stages {
        // All steps of a build see one HOME: its tokens are there while nothing but installs runs.
        let installs = stage.steps.iter().all(|step| step.kind == StepKind::Install);
        if settings.holds_tokens() && installs != with_tokens {
            settings.write(home, installs).map_err(no_home)?;
            with_tokens = installs;
        }
        let steps: Vec<Placed<'_>> =
            stage.steps.iter().enumerate().map(|(at, spec)| Placed { place: place + at, spec }).collect();
        let results = stage::run(scene, &steps).await;
        place += steps.len();
        if let Some(verdict) = stage::verdict(&results) {
            cancel_the_rest(scene.tell, plan, place).await;
            return Err(verdict);
        }
        ended.push(results);
    }
    Ok(ended)
}

/// A build that ended among its installs still has the tokens in its HOME, and the trash is emptied later.
fn forget_tokens(settings: &Settings, home: &Path) {
    if !settings.holds_tokens() {
        return;
    }
    if let Err(error) = settings.write(home, false) {
        tracing::warn!(home = %home.display(), %error, "tokens could not be removed before the trash is emptied");
    }
}

/// Shows the steps that were never started as what they are.
async fn cancel_the_rest(tell: &Tell, plan: &Plan, from: usize) {
    for (place, spec) in plan.steps().enumerate().map(|(at, spec)| (at + 1, spec)).filter(|(place, _)| *place >= from) {
        let mut step = Step::queued(&spec.name, spec.kind);
        step.state = StepState::Finished;
        step.outcome = Some(Outcome::Cancelled);
        step.reason = Some("not started: an earlier step did not succeed".to_owned());
        tell.that(Happening::Step(place, step)).await;
    }
}

/// Tells what was found and what will be done; the checkout is over with the plan.
async fn announce(tree: &CheckedOut, plan: Result<&Plan, &Verdict>, tell: &Tell) {
    tell.that(Happening::CheckedOut(tree.sha.clone())).await;
    let mut ended = Step { state: StepState::Finished, finished_at: Some(now()), ..tree.step.clone() };
    match plan {
        Ok(plan) => {
            for notice in tree.done.notices.iter().chain(&plan.notices) {
                tell.that(Happening::Notice(notice.clone())).await;
            }
            let planned = plan.steps().map(|spec| Step::queued(&spec.name, spec.kind));
            let steps = std::iter::once(tree.step.clone()).chain(planned).collect();
            tell.that(Happening::Planned { steps, decisions: plan.decisions.clone() }).await;
            ended.outcome = Some(Outcome::Passed);
        }
        Err(verdict) => {
            tell.that(Happening::Notice(verdict.reason.clone())).await;
            ended.outcome = Some(verdict.outcome);
            ended.reason = Some(verdict.reason.clone());
        }
    }
    tell.that(Happening::Step(0, ended)).await;
}

/// Ends a checkout after which nothing is planned.
async fn left_alone(tree: &CheckedOut, tell: &Tell) {
    tell.that(Happening::CheckedOut(tree.sha.clone())).await;
    let outcome = Some(Outcome::Passed);
    let ended = Step { state: StepState::Finished, finished_at: Some(now()), outcome, ..tree.step.clone() };
    tell.that(Happening::Step(0, ended)).await;
}

/// More bundles than this are counted in the build's sentence, not named.
const NAMED_BUNDLES: usize = 2;

/// Name and length of each finished step, stage by stage; of many bundles their number, and the time that they took
/// together.
fn timings(stages: &[Vec<Ended>]) -> Vec<Vec<Good>> {
    let length = |step: &Step| match (step.started_at, step.finished_at) {
        (Some(start), Some(end)) => end.since(start),
        _ => Duration::ZERO,
    };
    let is_bundle = |one: &&Ended| one.step.kind == StepKind::Bundle;
    let bundles: Vec<&Step> = stages.iter().flatten().filter(is_bundle).map(|one| &one.step).collect();
    let begun = bundles.iter().filter_map(|step| step.started_at).min();
    let ended = bundles.iter().filter_map(|step| step.finished_at).max();
    let mut together =
        begun.zip(ended).filter(|_| bundles.len() > NAMED_BUNDLES).map(|(begun, ended)| ended.since(begun));
    let are_counted = together.is_some();
    let mut timings = Vec::new();
    for stage in stages {
        let counted = if stage.iter().any(|one| is_bundle(&one)) { together.take() } else { None };
        let named = stage.iter().filter(|one| !(are_counted && is_bundle(one)));
        let named = named.map(|Ended { step, .. }| Good {
            name: step.name.clone(),
            kind: step.kind,
            took: (!step.is_restored()).then(|| length(step)),
        });
        let counted = counted.map(|took| Good {
            name: format!("{} bundles", bundles.len()),
            kind: StepKind::Bundle,
            took: Some(took),
        });
        timings.push(counted.into_iter().chain(named).collect());
    }
    timings
}

fn no_home(error: tree::TreeError) -> Verdict {
    Verdict::new(Outcome::Broken, sentence::broken(&format!("the build's HOME could not be written: {error}"), 1))
}

fn no_settings(error: outside::Unusable) -> Verdict {
    Verdict::new(Outcome::Broken, sentence::broken(&error.to_string(), 1))
}

fn no_workspace(error: std::io::Error) -> Verdict {
    let why = match error.kind() {
        std::io::ErrorKind::StorageFull => "no space left on the agent's disk".to_owned(),
        _ => format!("the workspace could not be made: {error}"),
    };
    Verdict::new(Outcome::Broken, sentence::broken(&why, 1))
}

fn no_holder(error: impl std::fmt::Display) -> Verdict {
    Verdict::new(Outcome::Broken, sentence::broken(&format!("the build's fence could not be put up: {error}"), 1))
}

pub(super) fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

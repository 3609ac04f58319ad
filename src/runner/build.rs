//! A build, from checkout to verdict.

use std::path::Path;
use std::pin::pin;
use std::time::{Duration, Instant, SystemTime};

use crate::config::repo_file::RepoFile;
use crate::confine::Holder;
use crate::domain::build::{Cause, KeptLevel};
use crate::domain::cache_note::{self, Earlier, Off};
use crate::domain::lockfile;
use crate::domain::outcome::{Outcome, Verdict};
use crate::domain::sentence::{self, Good};
use crate::domain::snapshot::Record;
use crate::domain::spec::{Plan, StepSpec};
use crate::domain::step::{CacheUse, Step, StepKind, StepState};
use crate::domain::time::Timestamp;
use crate::outside;
use crate::tree;

use super::checkout::{self, CheckedOut};
use super::course::Course;
use super::downloads::Lockfiles;
use super::keeping::Left;
use super::planning::Planned;
use super::remains::Caches;
use super::restore::{Lookup, Restored};
use super::stage::Ended;
use super::tools::Tools;
use super::workspace::Workspace;
use super::{Happening, Job, Parts, Stop, Tell, artifacts, budget, observer, phases, planning, secrets};

/// A build that came to its verdict.
///
/// Dropped, it leaves nothing. [`keep`](Built::keep) is for after the verdict was told: nobody waits for it but the next
/// build of the repository.
#[derive(Debug)]
pub struct Built {
    /// How it ended. A failing build is a verdict like any other; so is one that we could not run.
    pub verdict: Verdict,
    left: Option<Left>,
}

impl Built {
    /// Keeps what the next builds of its scope can use, if it passed. What can't be kept is told in the log of the agent.
    pub async fn keep(self) -> Vec<KeptLevel> {
        match self.left {
            Some(left) => left.keep().await,
            None => Vec::new(),
        }
    }
}

impl From<Verdict> for Built {
    fn from(verdict: Verdict) -> Self {
        Self { verdict, left: None }
    }
}

/// Builds `job` in slot number `slot`.
///
/// Its processes are ended when this returns, and its directory is on the way to the trash unless the build passed.
///
/// The teller goes with the build: when this returns, the listener hears that nothing more will come.
pub async fn build(job: &Job, parts: &Parts, slot: usize, tell: Tell, stop: &Stop) -> Built {
    let stop = stop.child_token();
    let tell = tell.hiding(&job.mask);
    let mut story = pin!(story(job, parts, slot, &tell, &stop));
    let mut built = tokio::select! {
        built = &mut story => built,
        () = tokio::time::sleep(job.limits.build_timeout) => {
            stop.cancel();
            let left = story.await.left.map(Left::of_no_pass);
            let verdict = Verdict::new(Outcome::TimedOut, sentence::build_timed_out(job.limits.build_timeout));
            Built { verdict, left }
        }
    };
    built.verdict.reason = job.mask.text(built.verdict.reason);
    built
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

async fn story(job: &Job, parts: &Parts, slot: usize, tell: &Tell, stop: &Stop) -> Built {
    match try_story(job, parts, slot, tell, stop).await {
        Ok(built) => built,
        Err(verdict) => verdict.into(),
    }
}

/// `Err` is a verdict too: the one that ended the story before any step.
async fn try_story(job: &Job, parts: &Parts, slot: usize, tell: &Tell, stop: &Stop) -> Result<Built, Verdict> {
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
        return Ok(Verdict::new(Outcome::Skipped, sentence::needless(&needless.globs, &needless.since)).into());
    }
    let mut planned = planning::plan(job, parts, &tree.done.listing).await;
    if let Ok(Planned { plan, .. }) = &mut planned {
        secrets::account(&job.secrets, plan);
    }
    announce(&tree, planned.as_ref().map(|planned| &planned.plan), tell).await;
    let Planned { plan, file } = planned?;
    if plan.stages.is_empty() {
        return Ok(Verdict::new(Outcome::Passed, sentence::nothing_to_do()).into());
    }
    let tools = Tools::gather(&plan, parts, &job.registries, tell).await?;
    let place = parts.layers.seen(workspace.host());
    let lockfiles = Lockfiles::read(&workspace.sources(), plan.steps().map(|step| step.dir.as_str()));
    let settings = tools.settings(job, parts, &place.home, &lockfiles).map_err(no_settings)?;
    let mut course = Course {
        job,
        parts,
        tell,
        stop,
        tree: &tree,
        plan: &plan,
        tools: &tools,
        settings: &settings,
        restored: Restored::default(),
        sources: workspace.sources(),
        place,
        observer: None,
    };
    course.restored = restore(&course, &file).await;
    course.observer = observer(&course);
    if let Some(same) = course.restored.same().filter(|same| still_has_artifacts(parts, &file, same)) {
        pass_as(&plan, same, job.build.cause, tell).await;
        let earlier = Earlier::of(same, job.build.cause);
        return Ok(Verdict::new(Outcome::Passed, sentence::same_files(earlier, &same.sha)).into());
    }
    let projects = plan.steps().map(|step| step.dir.clone()).collect();
    let caches = Caches { projects, paths: file.cache.paths.clone() };
    if let Some(notice) = job.limits.cpus.and_then(|cpus| parts.layers.unkept(cpus)) {
        tell.that(Happening::Notice(notice)).await;
    }
    let ran = phases::run(&mut course, &workspace, holder, &caches).await?;
    let written = ran.wrote.tree();
    let verdict = match &ran.ended {
        Ok(stages) => within_budget(written, &plan, &file, tell, began, stages).await,
        Err(verdict) => verdict.clone(),
    };
    for notice in artifacts::keep(parts, job.build.id, written, &file.artifacts, verdict.outcome).await {
        tell.that(Happening::Notice(notice)).await;
    }
    let passed = verdict.outcome == Outcome::Passed;
    // Before the slot is another's: what lies in it is taken out of it.
    let (remains, not_kept) = ran.wrote.end(&course.restored, passed).await;
    if let Some(why) = not_kept {
        tell.that(Happening::Notice(format!("what was installed is not kept: {why}"))).await;
    }
    let left = (passed || course.restored.takes_back()).then(|| Left {
        cache: parts.cache.clone(),
        build: job.build.id,
        sha: tree.sha.clone(),
        passed,
        remains,
        lockfiles,
        caches,
        restored: course.restored,
        workspace,
        _pending: parts.pending.begin(&job.build.repo),
    });
    Ok(Built { verdict, left })
}

/// Looks up what earlier builds left: once nobody keeps anything of the repository any more.
async fn restore(course: &Course<'_>, file: &RepoFile) -> Restored {
    let Course { job, parts, tree, plan, tools, .. } = course;
    if !job.cache {
        return Restored::off(Off::Server);
    }
    parts.pending.settled(&job.build.repo).await;
    let versions =
        |spec: &StepSpec| tools.of(spec).given.iter().map(|given| (given.tool.clone(), given.version.clone()));
    let registries = job.registries.iter().map(|one| (one.url.to_string(), one.scopes.clone()));
    let lookup = Lookup {
        cache: parts.cache.clone(),
        tally: parts.tally.clone(),
        build: job.build.clone(),
        plan: Plan::clone(plan),
        listing: tree.done.listing.clone(),
        tree: tree.done.tree.clone(),
        sources: course.sources.clone(),
        tools: plan.steps().map(|spec| (spec.name.clone(), versions(spec).collect())).collect(),
        registry: tools.registry.clone(),
        registries: registries.collect(),
        place: course.place.clone(),
        env: job.env.clone(),
        scripts: job.scripts.clone(),
        secrets: secrets::names(&job.secrets, plan),
        wishes: file.cache.clone(),
        bounds: bounds(course, file),
    };
    tokio::task::spawn_blocking(move || lookup.look()).await.unwrap_or_else(|panic| {
        tracing::error!(%panic, "what earlier builds left could not be looked up");
        Restored::default()
    })
}

/// What bundlers are given, where what they keep is kept.
fn observer(course: &Course<'_>) -> Option<observer::Settings> {
    let key = course.restored.work.as_ref()?.key()?;
    let listing = &course.tree.done.listing;
    let is_lockfile = |path: &&String| lockfile::NAMES.contains(&path.rsplit('/').next().unwrap_or(path));
    let files = listing.paths.iter().filter(is_lockfile).chain(&listing.settings);
    Some(observer::Settings {
        cache_dir: observer::cache_dir(&course.place.home),
        managed: course.restored.trusts_dependencies(),
        tree: course.place.build.clone(),
        ready: SystemTime::now(),
        build_dependencies: files.map(|path| course.place.build.join(path)).collect(),
        version: key.key(),
    })
}

/// What a verdict depends on that no step shows.
fn bounds(course: &Course<'_>, file: &RepoFile) -> Vec<(String, String)> {
    let Course { job, parts, .. } = course;
    let text = |value: &dyn std::fmt::Debug| format!("{value:?}");
    [
        ("sandbox", parts.layers.name()),
        ("what may be reached", text(&(&job.sandbox.install_hosts, job.sandbox.reports))),
        ("limits", text(&job.limits)),
        ("[budget]", text(&file.budget)),
        ("[artifacts]", text(&file.artifacts)),
        ("branch", job.build.branch.clone().unwrap_or_default()),
        ("base branch", job.build.base_branch.clone().unwrap_or_default()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// What a repository wants to have of a build must be there with its verdict; artifacts are kept for a shorter time.
fn still_has_artifacts(parts: &Parts, file: &RepoFile, same: &Record) -> bool {
    let Some(artifacts) = parts.artifacts.as_ref().filter(|_| !file.artifacts.paths.is_empty()) else { return true };
    artifacts.list(same.build).is_ok_and(|kept| !kept.is_empty())
}

/// Shows every step as good without having run: it was, in another build with the same files.
async fn pass_as(plan: &Plan, same: &Record, cause: Cause, tell: &Tell) {
    if let Earlier::Build(build) = Earlier::of(same, cause) {
        tell.that(Happening::SameAs(build)).await;
    }
    for (place, spec) in plan.steps().enumerate().map(|(at, spec)| (at + 1, spec)) {
        let mut step = Step::queued(&spec.name, spec.kind);
        (step.state, step.outcome, step.cache) = (StepState::Finished, Some(Outcome::Passed), CacheUse::Hit);
        step.cache_note = Some(cache_note::passed(same, cause));
        tell.that(Happening::Step(place, step)).await;
    }
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

pub(super) fn no_home(error: tree::TreeError) -> Verdict {
    Verdict::new(Outcome::Broken, sentence::broken(&format!("the build's HOME could not be written: {error}"), 1))
}

fn no_settings(error: outside::Unusable) -> Verdict {
    Verdict::new(Outcome::Broken, sentence::broken(&error.to_string(), 1))
}

pub(super) fn no_workspace(error: std::io::Error) -> Verdict {
    let why = match error.kind() {
        std::io::ErrorKind::StorageFull => "no space left on the agent's disk".to_owned(),
        _ => format!("the workspace could not be made: {error}"),
    };
    Verdict::new(Outcome::Broken, sentence::broken(&why, 1))
}

pub(super) fn no_holder(error: impl std::fmt::Display) -> Verdict {
    Verdict::new(Outcome::Broken, sentence::broken(&format!("the build's fence could not be put up: {error}"), 1))
}

pub(super) fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

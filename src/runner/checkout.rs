//! The checkout as a step: the first of every build, in a child process of its own.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::checkout::client;
use crate::checkout::{self, Base, Budget, Credential, Done, Local, Remote};
use crate::config::root::Root;
use crate::domain::outcome::{Outcome, Verdict};
use crate::domain::repo::{CommitId, RefName};
use crate::domain::sentence;
use crate::domain::step::{Step, StepKind, StepState};
use crate::domain::time::brief;
use crate::domain::trust::Trust;

use super::build::now;
use super::stage::jittered;
use super::workspace::Workspace;
use super::{Happening, Job, Parts, Source, Stop, Tell};

/// How often a forge that does not answer is asked in all.
const TRIES: u32 = 3;
/// The waits between, before jitter.
const BACKOFF: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(8)];

/// A tree in the workspace.
pub(super) struct CheckedOut {
    /// What the child told.
    pub(super) done: Done,
    /// The commit that was checked out; for a folder without git, the one that was asked for.
    pub(super) sha: CommitId,
    /// The step, still running: it ends when the plan is made.
    pub(super) step: Step,
}

/// Gets the tree into the workspace, or says why there is none.
pub(super) async fn run(
    job: &Job,
    parts: &Parts,
    workspace: &Workspace,
    tell: &Tell,
    stop: &Stop,
) -> Result<CheckedOut, Verdict> {
    let mut step = Step::queued("checkout", StepKind::Checkout);
    step.state = StepState::Running;
    step.started_at = Some(now());
    tell.that(Happening::Planned { steps: vec![step.clone()], decisions: Vec::new() }).await;
    tell.that(Happening::Step(0, step.clone())).await;
    tell.that(Happening::Sandbox(job.sandbox_line(&parts.layers))).await;
    let admitted = parts.layers.admit(job.build.trust == Trust::Fork, job.root.as_ref().map(Root::dir));
    let done = match admitted {
        Ok(()) => attempts(job, parts, workspace, tell, stop).await,
        Err(why) => Err(Verdict::new(Outcome::Broken, sentence::broken(&why, 1))),
    };
    match done {
        Ok(done) => {
            say(tell, &account(&done)).await;
            if !parts.layers.stacks() {
                say(tell, &format!("without an overlay, sources and snapshots are {}", parts.layers.joining())).await;
            }
            let sha = done.commit.clone().unwrap_or_else(|| job.build.sha.clone());
            Ok(CheckedOut { done, sha, step })
        }
        Err(verdict) => {
            say(tell, &verdict.reason).await;
            step.state = StepState::Finished;
            step.outcome = Some(verdict.outcome);
            step.finished_at = Some(now());
            step.reason = Some(verdict.reason.clone());
            tell.that(Happening::Step(0, step)).await;
            Err(verdict)
        }
    }
}

async fn attempts(job: &Job, parts: &Parts, workspace: &Workspace, tell: &Tell, stop: &Stop) -> Result<Done, Verdict> {
    let order = order(job, parts, workspace);
    let mut tries = 0;
    loop {
        let error = match client::run(&parts.exe, &order, job.limits.step_timeout, stop.clone()).await {
            Ok(done) => {
                if !done.mirror_had_it {
                    tell_if_crowded(order.mirror, parts);
                }
                return Ok(done);
            }
            Err(error) => error,
        };
        tries += 1;
        let verdict = error.verdict();
        if !error.may_retry() || tries == TRIES {
            let reason = match verdict.outcome {
                Outcome::Broken => sentence::broken(&verdict.reason, tries),
                Outcome::Cancelled => verdict.reason,
                _ => sentence::step_failed(StepKind::Checkout, "checkout", &verdict.reason),
            };
            return Err(Verdict::new(verdict.outcome, reason));
        }
        let wait = jittered(BACKOFF[tries as usize - 1]);
        say(tell, &format!("{}; trying again in {:.1} s", verdict.reason, wait.as_secs_f64())).await;
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = stop.cancelled() => return Err(Verdict::new(Outcome::Cancelled, "stopped")),
        }
    }
}

/// Every fetch leaves a pack, and many of them make the next checkout slower. The build does not wait for the look.
fn tell_if_crowded(mirror: PathBuf, parts: &Parts) {
    let crowded = Arc::clone(&parts.crowded);
    tokio::task::spawn_blocking(move || {
        if checkout::is_crowded(&mirror) {
            crowded.notify_one();
        }
    });
}

fn order(job: &Job, parts: &Parts, workspace: &Workspace) -> checkout::Job {
    let source = match &job.source {
        Source::Forge { clone_url, token } => checkout::Source::Remote(Box::new(Remote {
            clone_url: clone_url.clone(),
            git_ref: job.build.git_ref.clone(),
            sha: job.build.sha.clone(),
            base: base(job),
            compared_with: job.build.pull_request.and(job.build.base_sha.clone()),
            passed: job.passed.clone(),
            credential: token.as_ref().map(|token| Credential::of_token(token.expose(), clone_url)),
            network: checkout::Network::from(&*parts.network),
        })),
        Source::Folder { dir, rev } => checkout::Source::Local(Local { dir: dir.clone(), rev: rev.clone() }),
    };
    checkout::Job {
        source,
        slot: workspace.slot.clone(),
        mirror: mirror_dir(job, parts),
        objects_seen_at: None,
        budget: Budget::from(&job.limits),
        deadline: job.limits.step_timeout,
    }
}

/// Where a fork's build reads the repository file.
fn base(job: &Job) -> Option<Base> {
    let branch = job.build.base_branch.as_deref().and_then(|name| RefName::branch(name).ok());
    let git_ref = branch.unwrap_or_else(|| job.build.git_ref.clone());
    (job.build.trust == Trust::Fork).then(|| Base { sha: job.build.base_sha.clone(), git_ref })
}

fn mirror_dir(job: &Job, parts: &Parts) -> PathBuf {
    let name = match &job.source {
        Source::Forge { clone_url, .. } => checkout::folder_name(clone_url),
        Source::Folder { .. } => "local".to_owned(),
    };
    parts.data_dir.join("mirrors").join(name)
}

/// One line on where the tree came from and how much of it changed.
fn account(done: &Done) -> String {
    let from = if done.mirror_had_it {
        "from the mirror".to_owned()
    } else {
        format!("{} fetched", bytes(done.fetched_bytes))
    };
    let commit = done.commit.as_ref().map_or("the folder", |sha| sha.short());
    let age = done.committed_at.map_or_else(String::new, |at| format!(", committed {} ago", brief(now().since(at))));
    if let Some(needless) = &done.needless {
        let globs = needless.globs.join(", ");
        return format!("{commit}{age}: only {globs} changed since {}, {from}", needless.since.short());
    }
    format!("{commit}{age}: {} files, {} changed in the workspace, {from}", done.files, done.changed)
}

fn bytes(count: u64) -> String {
    match count {
        0..10_000 => format!("{count} bytes"),
        10_000..10_000_000 => format!("{} kB", count / 1000),
        _ => format!("{} MB", count / 1_000_000),
    }
}

async fn say(tell: &Tell, text: &str) {
    tell.that(Happening::Output(0, Bytes::from(format!("{text}\n")))).await;
}

//! Keeps what one claimed build tells: in the store, in its log, for who looks on. And settles it, once.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::blobs::{BuildLog, StepLog};
use crate::config::server::StatusMode;
use crate::domain::audit::{Act, Actor, Deed};
use crate::domain::build::{Build, State};
use crate::domain::outcome::{Outcome, Verdict};
use crate::domain::sentence;
use crate::domain::spec::Explanation;
use crate::domain::status::{Status, StatusState};
use crate::domain::step::{Step, StepKind, StepState};
use crate::runner::Happening;
use crate::store::{Claim, Claimed, StoreError};

use super::Worker;
use super::lease::{Held, Reins};

/// How often a store that is away is tried.
const AGAIN: Duration = Duration::from_millis(500);

/// The listener of one claimed build.
pub(super) struct Keeper<'a> {
    worker: &'a Worker,
    claim: Claim,
    /// Whether it is ours still: asked before anything is written.
    held: Held,
    /// The context of the build's status.
    context: String,
    /// The build as it stands now.
    build: Build,
    /// Why its plan is as it is; kept with it.
    explanation: Explanation,
    /// Logs of running steps, by their place in the plan.
    open: BTreeMap<usize, StepLog>,
}

impl<'a> Keeper<'a> {
    pub(super) fn new(worker: &'a Worker, claimed: Claimed, held: Held) -> Self {
        let Claimed { claim, build, context, .. } = claimed;
        Self { worker, claim, held, context, build, explanation: Explanation::default(), open: BTreeMap::new() }
    }

    /// Writes down what happens until the teller is gone. What can't be kept stops the build and is its verdict; what is
    /// not ours any more is cut off at once.
    pub(super) async fn keep(
        &mut self,
        mut happenings: mpsc::Receiver<Happening>,
        reins: &Reins,
    ) -> Result<(), Verdict> {
        let mut log = self.open_log();
        if log.is_err() {
            reins.stop.cancel();
        }
        while let Some(happening) = happenings.recv().await {
            let Ok(into) = &log else { continue };
            if self.held.is_over() {
                log = Err(not_ours());
                reins.cut.cancel();
                continue;
            }
            if let Err(verdict) = self.keep_one(into, happening).await {
                log = Err(verdict);
                if self.held.is_over() { reins.cut.cancel() } else { reins.stop.cancel() }
            }
        }
        log.map(|_| ())
    }

    fn open_log(&self) -> Result<BuildLog, Verdict> {
        let (hub, id) = (self.worker.hub.clone(), self.build.id);
        let log = self
            .worker
            .logs
            .create(
                id,
                u64::try_from(self.claim.fence).unwrap_or_default(),
                self.worker.agent.limits.log_per_step,
                move || hub.publish(id),
            )
            .and_then(|log| log.state(&self.build).map(|()| log));
        log.map_err(|error| cannot_keep(&error))
    }

    async fn keep_one(&mut self, log: &BuildLog, happening: Happening) -> Result<(), Verdict> {
        let (store, claim) = (&self.worker.store, self.claim);
        match happening {
            Happening::Sandbox(name) => {
                self.stored(|| store.set_sandbox(&claim, &name)).await?;
                let line = format!("sandbox: {name}\n");
                self.build.sandbox = name;
                written(log.state(&self.build))?;
                self.say(&line)
            }
            Happening::CheckedOut(sha) => {
                self.stored(|| store.set_built_sha(&claim, &sha)).await?;
                self.build.built_sha = Some(sha);
                written(log.state(&self.build))
            }
            Happening::SameAs(other) => {
                self.stored(|| store.set_same_as(&claim, other)).await?;
                self.build.same_as = Some(other);
                written(log.state(&self.build))
            }
            Happening::Notice(text) => self.keep_notice(text).await,
            Happening::Decided(decision) => {
                self.explanation.decisions.push(decision);
                self.stored(|| store.set_explanation(&claim, &self.explanation)).await
            }
            Happening::Planned { steps, decisions } => {
                self.explanation.decisions = decisions;
                self.stored(|| store.set_plan(&claim, &steps, &self.explanation)).await?;
                self.build.steps = steps;
                written(log.state(&self.build))
            }
            Happening::Step(place, step) => self.keep_step(log, place, step).await,
            Happening::Given { step, names } => {
                let deeds: Vec<Deed> = names.into_iter().map(|name| self.gave(&step, name)).collect();
                self.stored(|| async { store.record(deeds.clone()).await.map(|()| true) }).await
            }
            Happening::Output(place, bytes) => match self.open.get_mut(&place) {
                Some(step) => written(step.append(&bytes)),
                None => Ok(()),
            },
        }
    }

    /// Writes to the store. One that several processes share may be away for a moment, as when it is restarted: it is
    /// tried for as long as the build is ours.
    async fn stored<W>(&self, mut write: impl FnMut() -> W) -> Result<(), Verdict>
    where
        W: Future<Output = Result<bool, StoreError>>,
    {
        let patience = Instant::now() + self.worker.store.patience();
        loop {
            match write().await {
                Ok(true) => return Ok(()),
                Ok(false) => {
                    self.held.lose();
                    return Err(not_ours());
                }
                Err(StoreError::Unavailable(why)) if Instant::now() < patience && !self.held.is_over() => {
                    tracing::warn!(why, build = self.build.id.0, "what happened can't be written down yet");
                    tokio::time::sleep(AGAIN).await;
                }
                Err(error) => return Err(Verdict::new(Outcome::Broken, sentence::broken(&error.to_string(), 1))),
            }
        }
    }

    /// A notice stands in the log and on the page. Those before the plan are written with it.
    async fn keep_notice(&mut self, text: String) -> Result<(), Verdict> {
        self.say(&format!("note: {text}\n"))?;
        self.explanation.notices.push(text);
        let is_planned = self.build.steps.iter().any(|step| step.kind != StepKind::Checkout);
        if !is_planned {
            return Ok(());
        }
        self.stored(|| self.worker.store.set_explanation(&self.claim, &self.explanation)).await
    }

    /// That a step of this build was given a secret, for the audit.
    fn gave(&self, step: &str, name: String) -> Deed {
        Deed {
            actor: Actor::process(self.worker.agent.name.clone()),
            act: Act::SecretGiven { step: step.to_owned(), name },
            build: Some(self.build.id),
            repo: Some(self.build.repo.clone()),
        }
    }

    /// A line of our own in the checkout's log, which is the first of every build.
    fn say(&mut self, line: &str) -> Result<(), Verdict> {
        match self.open.get_mut(&0) {
            Some(checkout) => written(checkout.append(line.as_bytes())),
            None => Ok(()),
        }
    }

    async fn keep_step(&mut self, log: &BuildLog, place: usize, step: Step) -> Result<(), Verdict> {
        let index = u16::try_from(place).unwrap_or(u16::MAX);
        if step.state == StepState::Finished {
            match self.open.remove(&place) {
                Some(file) => written(file.finish(&step))?,
                None => written(log.step(index, &step))?,
            }
            tracing::info!(
                build = self.build.id.0,
                step = step.name,
                outcome = step.outcome.map_or("", Outcome::as_str),
                exit = step.exit_code,
                "step finished"
            );
        } else if step.state == StepState::Running && !self.open.contains_key(&place) {
            self.open.insert(place, written(log.begin(index, &step))?);
            tracing::info!(build = self.build.id.0, step = step.name, "step started");
        }
        self.stored(|| self.worker.store.update_step(&self.claim, &step)).await?;
        if let Some(status) = self.step_status(&step) {
            self.stored(|| self.worker.store.report(&self.claim, std::slice::from_ref(&status))).await?;
        }
        if let Some(kept) = self.build.steps.get_mut(place) {
            *kept = step;
        }
        Ok(())
    }

    /// The status of a step, where the configuration asks for one a step. The checkout has none.
    fn step_status(&self, step: &Step) -> Option<Status> {
        if self.worker.statuses.borrow().mode != StatusMode::Steps || step.kind == StepKind::Checkout {
            return None;
        }
        let state = step.outcome.map_or(StatusState::Pending, StatusState::from);
        let sentence = match (&step.reason, step.outcome, step.started_at, step.finished_at) {
            (Some(reason), ..) => sentence::one_line(reason, sentence::MAX_CHARS),
            (None, Some(_), ..) if step.is_restored() => sentence::restored(step.cache_note.as_deref()),
            (None, Some(_), Some(start), Some(end)) => sentence::passed(end.since(start), &[]),
            _ => sentence::running(&[&step.name]),
        };
        Some(Status { context: sentence::step_context(&self.context, step.kind, &step.name), state, sentence })
    }

    /// Writes the build's end with its status, in one transaction; zero rows mean that the build is not ours any more.
    ///
    /// `sentence` is the status'; the verdict's reason where there is none of its own.
    pub(super) async fn settle(&mut self, verdict: Verdict, sentence: Option<String>) {
        let status = Status {
            context: self.context.clone(),
            state: StatusState::from(verdict.outcome),
            sentence: sentence::one_line(sentence.as_deref().unwrap_or(&verdict.reason), sentence::MAX_CHARS),
        };
        let mut wait = Duration::from_millis(200);
        loop {
            if self.held.is_over() {
                tracing::warn!(build = self.build.id.0, "the lease ended; the build's end is not ours to write");
                return;
            }
            match self.worker.store.finish(&self.claim, &verdict, std::slice::from_ref(&status)).await {
                Ok(true) => break,
                Ok(false) => {
                    tracing::warn!(build = self.build.id.0, "the build was taken over; its end is not ours to write");
                    return;
                }
                // A full disk or a locked database may pass; the lease says until when it is worth waiting.
                Err(error) => {
                    tracing::error!(%error, build = self.build.id.0, "the build's end could not be written yet");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(Duration::from_secs(5));
                }
            }
        }
        tracing::info!(
            build = self.build.id.0, repo = %self.build.repo, outcome = verdict.outcome.as_str(), reason = verdict.reason,
            "build finished"
        );
        self.worker.hub.publish(self.build.id);
    }

    /// Gives the build back to the queue: we stop, another claim runs it again from the start.
    pub(super) async fn give_back(&mut self) {
        match self.worker.store.release(&self.claim).await {
            Ok(_) => tracing::info!(build = self.build.id.0, "build given back to the queue"),
            // The lease runs out by itself, or our next start finds it.
            Err(error) => tracing::error!(%error, build = self.build.id.0, "the build could not be given back"),
        }
        self.build.state = State::Queued;
        self.worker.hub.publish(self.build.id);
    }
}

/// Said to nobody: what is not ours any more is not settled by us.
fn not_ours() -> Verdict {
    Verdict::new(Outcome::Broken, "another agent has the build")
}

fn written<T>(result: std::io::Result<T>) -> Result<T, Verdict> {
    result.map_err(|error| cannot_keep(&error))
}

fn cannot_keep(error: &std::io::Error) -> Verdict {
    let why = match error.kind() {
        std::io::ErrorKind::StorageFull => "no space left on the agent's disk for the log".to_owned(),
        _ => format!("the log could not be written: {error}"),
    };
    Verdict::new(Outcome::Broken, sentence::broken(&why, 1))
}

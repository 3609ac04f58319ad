//! Claims builds, runs them under a lease, and keeps what happens.
//!
//! A claim is one conditional update with a fence. While a build runs its lease is renewed; a lost lease ends the build
//! and writes nothing. What the [`runner`] tells goes three ways: to the store (steps), to the log files
//! and to the live hub.

mod keeper;
mod lease;
mod roll;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::blobs::Logs;
use crate::config::secret::Secret;
use crate::config::server::{Agent, Forges, Forks, Sandbox, Statuses, Web};
use crate::disk::Disk;
use crate::domain::agent::Order;
use crate::domain::build::{Build, Cause};
use crate::domain::mask::Mask;
use crate::domain::outcome::{Outcome, Verdict};
use crate::domain::repo::{CommitId, RefName};
use crate::domain::sentence;
use crate::domain::snapshot::Lineage;
use crate::domain::trust::Trust;
use crate::live::Hub;
use crate::runner::build::Built;
use crate::runner::{self, GitAccess, Job, Parts, Source, StepSecret, Tell};
use crate::store::{Claimed, Store};
use crate::tree;

use keeper::Keeper;
use lease::{Held, LeaseEnd, Moment, Reins};

pub use roll::{Roll, RollError};

/// How long to sleep when nothing says that a build was queued.
const POLL: Duration = Duration::from_secs(5);

/// How long to wait before the disk is looked at again.
const NO_ROOM: Duration = Duration::from_secs(1);

/// The part that claims and runs builds.
#[derive(Clone)]
pub struct Worker {
    /// Where builds wait.
    pub store: Store,
    /// Slots, drain time, name, limits.
    pub agent: Arc<Agent>,
    /// What a repository may do.
    pub forges: watch::Receiver<Arc<Forges>>,
    /// Secrets that are no repository's and no forge's, to be hidden in logs like theirs.
    pub secrets: watch::Receiver<Arc<[Secret]>>,
    /// Contexts and mode of statuses.
    pub statuses: watch::Receiver<Arc<Statuses>>,
    /// What installs may reach.
    pub sandbox: watch::Receiver<Arc<Sandbox>>,
    /// For `CI_BUILD_URL`.
    pub web: Arc<Web>,
    /// What all builds share.
    pub parts: Parts,
    /// Where step output is kept.
    pub logs: Logs,
    /// How much room there is.
    pub disk: Disk,
    /// Who looks at running builds.
    pub hub: Hub,
    /// How many slots hold a build.
    pub busy: Arc<AtomicUsize>,
    /// What operators ask of this agent.
    pub orders: watch::Receiver<Order>,
    /// Whether the worker ends when it was asked to drain, and its process with it; else it only claims nothing.
    pub ends_when_drained: bool,
}

/// How a worker is asked to end.
#[derive(Debug, Clone, Default)]
pub struct Ending {
    /// No new claims; running builds may finish.
    pub drain: CancellationToken,
    /// Running builds are stopped and given back.
    pub now: CancellationToken,
}

impl Worker {
    /// Claims and runs builds until `ending`, or until it was asked to drain and nothing runs. True when every build
    /// finished in time, false when some were given back.
    pub async fn run(mut self, ending: Ending) -> bool {
        let slots = Slots::new(self.agent.slots);
        let builds = TaskTracker::new();
        let mut changes = self.store.queue_changes();
        while !ending.drain.is_cancelled() {
            if *self.orders.borrow_and_update() != Order::Run {
                if self.is_drained(&builds, &ending).await {
                    return true;
                }
                continue;
            }
            let slot = tokio::select! {
                slot = slots.take() => slot,
                () = ending.drain.cancelled() => break,
            };
            // What waits says why: the pages ask the disk too.
            if self.disk.holds_back().is_some() {
                drop(slot);
                self.disk.ask();
                tokio::select! {
                    () = tokio::time::sleep(NO_ROOM) => {}
                    () = ending.drain.cancelled() => {}
                }
                continue;
            }
            let asked = Moment::now();
            match self.store.claim(&self.agent.name, self.agent.lease).await {
                Ok(Some(claimed)) => {
                    let held = Held::since(asked, self.agent.lease);
                    builds.spawn(self.clone().run_in(slot, claimed, held, ending.now.clone()));
                    continue;
                }
                Ok(None) => {}
                Err(error) => tracing::error!(%error, "no build could be claimed"),
            }
            drop(slot);
            tokio::select! {
                () = changes.next() => {}
                () = tokio::time::sleep(POLL) => {}
                _ = self.orders.changed() => {}
                () = ending.drain.cancelled() => {}
            }
        }
        builds.close();
        let in_time = tokio::select! {
            () = builds.wait() => true,
            () = tokio::time::sleep(self.agent.drain_timeout) => false,
            () = ending.now.cancelled() => false,
        };
        if !in_time {
            ending.now.cancel();
            builds.wait().await;
        }
        in_time
    }

    /// Waits while nothing may be claimed. True: it was asked to drain, and nothing runs any more. Builds take as long as
    /// they take: nobody waits for this process to end.
    async fn is_drained(&mut self, builds: &TaskTracker, ending: &Ending) -> bool {
        let drains = self.ends_when_drained && *self.orders.borrow() == Order::Drain;
        let idle = async {
            if !drains {
                std::future::pending::<()>().await;
            }
            builds.close();
            builds.wait().await;
        };
        let is_idle = tokio::select! {
            biased;
            () = idle => true,
            changed = self.orders.changed() => {
                if changed.is_err() {
                    // Nobody can ask for anything any more: the process ends.
                    ending.drain.cancelled().await;
                }
                false
            }
            () = ending.drain.cancelled() => false,
        };
        builds.reopen();
        is_idle
    }

    /// Runs a claimed build in its slot, and keeps what it left once the slot is free.
    async fn run_in(self, slot: Slot, claimed: Claimed, held: Held, now: CancellationToken) {
        self.busy.fetch_add(1, Ordering::Relaxed);
        let left = self.run_claimed(claimed.clone(), slot.number, held, now.clone()).await;
        self.busy.fetch_sub(1, Ordering::Relaxed);
        drop(slot);
        if let Some(left) = left {
            self.keep(&claimed, left, &now).await;
        }
    }

    /// Keeps what a build left that is settled. An agent that is told to end at once leaves it.
    async fn keep(&self, claimed: &Claimed, built: Built, now: &CancellationToken) {
        let id = claimed.build.id;
        let dropped = match Lineage::of(&claimed.build) {
            Some(lineage) => self.store.is_dropped(&lineage.own, id).await,
            None => return,
        };
        match dropped {
            Ok(false) => {}
            Ok(true) => return tracing::info!(build = id.0, "its branch or pull request is gone; nothing is kept"),
            // It would be kept for ever if that was what could not be read.
            Err(error) => return tracing::warn!(build = id.0, %error, "nothing of the build is kept"),
        }
        let kept = tokio::select! {
            kept = built.keep() => kept,
            () = now.cancelled() => return,
        };
        if let Err(error) = self.store.set_kept(&claimed.claim, &kept).await {
            tracing::warn!(build = id.0, %error, "what is kept of the build can't be shown on its page");
        }
        self.hub.publish(id);
    }

    /// Runs one claimed build in its slot and settles it, once. What it left is to be kept by the caller.
    async fn run_claimed(&self, claimed: Claimed, slot: usize, held: Held, now: CancellationToken) -> Option<Built> {
        let Claimed { build, claim, .. } = claimed.clone();
        if held.is_over() {
            tracing::warn!(build = build.id.0, "the store's answer came so late that somebody else may have the build");
            return None;
        }
        tracing::info!(build = build.id.0, repo = %build.repo, sha = build.sha.short(), slot, "build started");
        let reins = Reins { stop: CancellationToken::new(), cut: now.child_token(), now };
        let (tell, happenings) = Tell::channel();
        let mut keeper = Keeper::new(self, claimed, held.clone());
        let folder = self.parts.data_dir.join(format!("slots/{slot}/builds/{}", build.id));
        let writer = self.disk.enter(folder, reins.stop.clone());
        let running = async {
            match self.job(&build).await {
                Ok(job) => tokio::select! {
                    built = runner::build::build(&job, &self.parts, slot, tell, &reins.stop) => built,
                    // What runs again from its start is not asked to end: with the future goes the holder, and with
                    // the holder every step, also one that does not heed TERM.
                    () = reins.cut.cancelled() => Verdict::new(Outcome::Cancelled, "cut off").into(),
                },
                Err(verdict) => verdict.into(),
            }
        };
        let kept_and_ran = async { tokio::join!(running, keeper.keep(happenings, &reins)) };
        let ((built, kept), lease_end) = lease::hold_while(&self.store, &claim, &held, &reins, kept_and_ran).await;
        let is_told = kept.is_ok() && lease_end.is_none();
        let mut verdict = kept.err().unwrap_or_else(|| built.verdict.clone());
        if writer.was_stopped() && !verdict.outcome.is_success() {
            verdict = Verdict::new(Outcome::Broken, sentence::broken("no space left on the agent's disk", 1));
        }
        drop(writer);
        // What nobody will keep goes at once: it may be what fills the disk.
        let left = is_told.then_some(built);
        if verdict.outcome == Outcome::Broken {
            self.make_room().await;
        }
        match lease_end {
            Some(LeaseEnd::Lost) => {
                tracing::warn!(build = build.id.0, "the lease was lost; nothing more is written");
            }
            Some(LeaseEnd::GiveBack) => keeper.give_back().await,
            Some(LeaseEnd::Cancelled { reason, sentence }) if !verdict.outcome.is_success() => {
                keeper.settle(Verdict::new(Outcome::Cancelled, reason), Some(sentence)).await;
            }
            _ => keeper.settle(verdict, None).await,
        }
        left
    }

    /// Removes what ended builds left on disk, which otherwise happens later. A build that filled the disk must neither
    /// break those behind it in the queue nor keep the store from taking its own end.
    async fn make_room(&self) {
        let trash = self.parts.data_dir.join("trash");
        if let Ok(Err(error)) = tokio::task::spawn_blocking(move || tree::empty_trash(&trash)).await {
            tracing::warn!(%error, "the trash could not be emptied yet");
        }
    }

    /// The commits with which a build's tree is compared under `[paths] ignore`: the newest of its own ref that passed, and
    /// those of the branch that it came from or wants to go into. Nothing for a tag, from which things are published,
    /// and for what somebody asked for by hand.
    async fn passed(&self, build: &Build) -> Vec<CommitId> {
        /// A branch begins at a commit of its base that is at most so many builds old, or is built once.
        const OF_THE_BASE: u32 = 20;
        if !matches!(build.cause, Cause::Push | Cause::PullRequest | Cause::MergeGroup | Cause::Sweep) {
            return Vec::new();
        }
        let base = build.base_branch.as_deref().or(build.default_branch.as_deref());
        let base = base.and_then(|name| RefName::branch(name).ok()).filter(|base| *base != build.git_ref);
        let mut passed = Vec::new();
        for (git_ref, most) in [(Some(build.git_ref.clone()), 1), (base, OF_THE_BASE)] {
            let Some(git_ref) = git_ref else { continue };
            match self.store.passed_commits(&build.repo, &git_ref, most).await {
                Ok(found) => passed.extend(found),
                // It is built then, which is never wrong.
                Err(error) => tracing::warn!(%error, "what passed before could not be read"),
            }
        }
        passed
    }

    /// What the runner needs to know of a claimed build; a verdict when its repository is not configured any more, or not
    /// so that it would have been queued.
    async fn job(&self, build: &Build) -> Result<Job, Verdict> {
        let forges = self.forges.borrow().clone();
        let sandbox = self.sandbox.borrow().clone();
        let gone = || {
            let why = format!("{} is no longer in the server's configuration", build.repo);
            Verdict::new(Outcome::Broken, sentence::broken(&why, 1))
        };
        let rules = forges.rules(&build.repo).ok_or_else(gone)?;
        let forge = forges.by_name.get(&build.repo.forge).ok_or_else(gone)?;
        // Nothing that runs a fork's build holds a token that it must not have.
        let fork = build.trust == Trust::Fork;
        if fork && build.approved_by.is_none() && rules.forks != Forks::Build {
            let why = "nobody approved this fork's commit, and since it was queued that is asked for again";
            return Err(Verdict::new(Outcome::Cancelled, why));
        }
        let registries = rules.registries.iter().map(|one| if fork { one.without_token() } else { one.clone() });
        let known = self.secrets.borrow().clone();
        let known = known.iter().chain(forge.secrets()).chain(rules.known_secrets());
        let mask = Mask::of(known.map(Secret::expose));
        let secrets = rules.secrets.iter().map(|secret| StepSecret {
            name: secret.name.clone(),
            value: secret.withheld(build).map_or_else(|| Ok(secret.value.clone()), Err),
            steps: secret.steps.clone(),
        });
        let git_token = forge.read_token.as_ref().or(forge.token.as_ref()).filter(|_| rules.git_dependencies && !fork);
        Ok(Job {
            build: build.clone(),
            source: Source::Forge { clone_url: rules.clone_url, token: forge.token.clone() },
            limits: rules.limits,
            scripts: rules.scripts,
            bundle_network: rules.network,
            sandbox,
            root: rules.root,
            registries: registries.collect(),
            git: git_token.map(|token| GitAccess { web_url: forge.web_url.clone(), token: token.clone() }),
            cache: rules.cache,
            env: rules.env,
            secrets: secrets.collect(),
            mask,
            passed: self.passed(build).await,
            url: format!("{}/builds/{}", self.web.base(), build.id),
        })
    }
}

/// The numbers of free slots: a build keeps its slot's sources warm for the next one.
#[derive(Clone)]
struct Slots {
    give: mpsc::UnboundedSender<usize>,
    free: Arc<tokio::sync::Mutex<mpsc::UnboundedReceiver<usize>>>,
}

/// A slot in use; free again when dropped.
struct Slot {
    number: usize,
    give: mpsc::UnboundedSender<usize>,
}

impl Slots {
    fn new(count: usize) -> Self {
        let (give, free) = mpsc::unbounded_channel();
        for number in 0..count {
            give.send(number).expect("the receiver lives in the same value");
        }
        Self { give, free: Arc::new(tokio::sync::Mutex::new(free)) }
    }

    async fn take(&self) -> Slot {
        let number = self.free.lock().await.recv().await.expect("the sender lives in the same value");
        Slot { number, give: self.give.clone() }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // Fails only when the worker is gone too.
        let _ = self.give.send(self.number);
    }
}

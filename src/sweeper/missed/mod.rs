//! Finds what no delivery told of: forges do not deliver again by themselves what failed while we were away.
//!
//! Every few minutes (`[server] sweep`; `poll` of a repository more often), at start, after SIGHUP and once the store can be
//! written again after a delivery had to be refused, each repository is looked at: git lists its branches and tags, the forge's API its
//! open pull requests. What differs from the last word on a head (`store/heads.rs`) goes through the intake as a delivery
//! would. Only heads: what a branch went through meanwhile is not in the list.
//!
//! `agenda` says when, `look` does it, `compare` tells what differs, `again` has GitHub send what it could not deliver, `origin`
//! spares a server that is away.

mod again;
mod agenda;
mod compare;
mod look;
mod origin;
mod tally;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::config::server::{Forges, Network, RepoRules, Statuses, Web};
use crate::domain::repo::RepoId;
use crate::forge::api::Client;
use crate::store::{Store, StoreError};

use agenda::{Agenda, Due, Ended};
use look::{Memory, Trouble};
use origin::Origins;
pub use tally::{SweepCounts, SweepTally};

/// How often it is seen whose time has come.
const TICK: Duration = Duration::from_secs(1);
/// How often it is seen which repositories there are. A new one is looked at soon: what it has by then is not built, and what
/// comes later is missed no more.
const FOLLOW: Duration = Duration::from_secs(5);
/// For one look. As long the repository is this process's alone.
const LOOK: Duration = Duration::from_secs(180);

/// The part that finds what was missed.
#[derive(Clone)]
pub struct Missed {
    /// Our own binary, for child processes.
    pub exe: PathBuf,
    /// What was heard.
    pub store: Store,
    /// Whom to ask, and by which rules; a change of it begins a sweep.
    pub forges: watch::Receiver<Arc<Forges>>,
    /// The context of the builds' statuses.
    pub statuses: watch::Receiver<Arc<Statuses>>,
    /// How git reaches the outside.
    pub network: Arc<Network>,
    /// Speaks to the forges' APIs.
    pub client: Arc<Client>,
    /// Our own address, by which a forge's hook is known to be ours.
    pub web: Arc<Web>,
    /// `[server] sweep`; `None` looks only at what is polled.
    pub every: Option<Duration>,
    /// Set by the door when it could not take a delivery: nobody delivers it again.
    pub refused: Arc<AtomicBool>,
    /// This process's name among those that share the store.
    pub holder: String,
    /// Told what it does.
    pub tally: SweepTally,
}

/// A look that has ended.
struct Looked {
    memory: Memory,
    ended: Ended,
}

impl Missed {
    /// Looks until `stop`; what is under way then is broken off, which loses nothing.
    pub async fn run(mut self, stop: CancellationToken) {
        let (mut agenda, origins) = (Agenda::default(), Origins::default());
        let (mut looks, mut under_way) = (JoinSet::new(), HashMap::new());
        let (mut follow_at, mut at_once) = (Instant::now(), false);
        loop {
            let now = Instant::now();
            at_once |= !self.store.is_failing() && self.refused.swap(false, Ordering::Relaxed);
            if at_once || now >= follow_at {
                match self.repositories().await {
                    Ok(repositories) => {
                        agenda.follow(repositories, now);
                        self.tally.follows(agenda.len());
                        if std::mem::take(&mut at_once) {
                            agenda.hurry();
                            origins.forgive();
                        }
                    }
                    Err(error) => tracing::warn!(%error, "which repositories there are could not be read"),
                }
                follow_at = now + FOLLOW;
            }
            for due in agenda.take_due(now) {
                let (part, origins, repo) = (self.clone(), origins.clone(), due.repo.clone());
                let look = looks.spawn(async move { part.attend(due, &origins).await });
                under_way.insert(look.id(), repo);
            }
            tokio::select! {
                () = tokio::time::sleep(TICK) => {}
                Some(ended) = looks.join_next_with_id() => {
                    let (id, looked) = match ended {
                        Ok((id, looked)) => (id, looked),
                        Err(panic) => {
                            tracing::error!(%panic, "a look at a repository failed");
                            (panic.id(), Looked { memory: Memory::default(), ended: Ended::Failed })
                        }
                    };
                    if let Some(repo) = under_way.remove(&id) {
                        agenda.settle(&repo, looked.memory, looked.ended, Instant::now());
                    }
                },
                changed = self.forges.changed() => match changed {
                    Ok(()) => at_once = true,
                    // Whoever reads the configuration is gone, and so are we soon.
                    Err(_) => return,
                },
                () = stop.cancelled() => return,
            }
        }
    }

    /// Those that are named whole and those that were heard of, with how often each is looked at.
    async fn repositories(&self) -> Result<Vec<(RepoId, Duration)>, StoreError> {
        let forges = self.forges.borrow().clone();
        let named = forges.named().into_iter().map(|(forge, path)| RepoId { forge, path });
        let all: HashSet<RepoId> = named.chain(self.store.repositories_heard_of().await?).collect();
        let every = |repo: RepoId| {
            let rules = forges.rules(&repo)?;
            Some((repo, self.interval(&rules)?))
        };
        let followed: Vec<_> = all.into_iter().filter_map(every).collect();
        self.tally.forget(|repo| followed.iter().any(|(followed, _)| followed.to_string() == repo));
        Ok(followed)
    }

    /// How often a repository is looked at; `None` never.
    fn interval(&self, rules: &RepoRules) -> Option<Duration> {
        rules.poll.or(self.every)
    }

    /// One look, in its turn.
    async fn attend(&self, due: Due, origins: &Origins) -> Looked {
        let Due { repo, at_once, mut memory } = due;
        let settled = |memory, ended| Looked { memory, ended };
        let Some(rules) = self.forges.borrow().rules(&repo) else { return settled(memory, Ended::Well) };
        let origin = origins.of(&rules.clone_url);
        let _turn = origin.turn().await;
        if let Some(left) = origin.away() {
            return settled(memory, Ended::PutOff(left));
        }
        let looked = match self.claim_and_look(&repo, rules, at_once, &mut memory).await {
            Ok(true) => Ok(()),
            // Another process does it.
            Ok(false) => return settled(memory, Ended::Well),
            Err(trouble) => Err(trouble),
        };
        if !looked.as_ref().is_err_and(Trouble::is_away) {
            origin.answers();
        } else if origin.is_silent_again() {
            tracing::warn!(origin = origin.name(), "does not answer; none of its repositories is asked for a while");
        }
        // Again as soon as the store can be written.
        let unwritten = matches!(&looked, Err(Trouble::Store(_))) && self.store.is_failing();
        self.refused.fetch_or(unwritten, Ordering::Relaxed);
        let why = looked.as_ref().err().map(ToString::to_string);
        if let Some(why) = &why {
            tracing::warn!(repo = %repo, "could not be asked for what was missed: {why}");
        }
        self.tally.looked(&repo, why);
        settled(memory, if looked.is_ok() { Ended::Well } else { Ended::Failed })
    }

    /// Looks while nobody else does; false where another process has looked or is looking.
    async fn claim_and_look(
        &self,
        repo: &RepoId,
        rules: RepoRules,
        at_once: bool,
        memory: &mut Memory,
    ) -> Result<bool, Trouble> {
        let Some(before) = self.store.begin_sweep(repo, &self.holder, LOOK, at_once).await? else { return Ok(false) };
        let every = self.interval(&rules).unwrap_or(LOOK);
        let look = self.look(repo, Arc::new(rules), before, at_once, memory);
        let looked = tokio::time::timeout(LOOK, look).await.unwrap_or(Err(Trouble::Late(LOOK)));
        let now_looked_at = looked.as_ref().map_or(before, |looked| *looked);
        // A little less than our own rest, so that it is not ourselves who are kept from it.
        self.store.end_sweep(repo, &self.holder, now_looked_at, every.mul_f64(0.8)).await?;
        looked.map(|_| true)
    }
}

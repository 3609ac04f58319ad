//! What the sweep did since the start, for those who look on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::domain::event::Event;
use crate::domain::repo::RepoId;
use crate::domain::time::{Timestamp, brief};

/// Shared between the sweeper and the doors.
#[derive(Debug, Clone, Default)]
pub struct SweepTally(Arc<Mutex<Inner>>);

/// Figures.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SweepCounts {
    /// Looks at a repository, by how they ended: `ok`, `failed`.
    pub looks: BTreeMap<&'static str, u64>,
    /// What no delivery told of: `push`, `tag`, `pull_request`, `deleted`, `closed`.
    pub found: BTreeMap<&'static str, u64>,
    /// Deliveries that a forge was asked to send again.
    pub sent_again: u64,
}

#[derive(Debug, Default)]
struct Inner {
    counts: SweepCounts,
    repositories: usize,
    last: Option<Timestamp>,
    /// Repositories that can't be looked at, with why.
    troubles: BTreeMap<String, String>,
    /// What of a repository can't be asked for, with why: it is done without. By forge and what, then by repository.
    without: BTreeMap<(String, &'static str), BTreeMap<String, String>>,
}

impl SweepTally {
    /// The figures so far.
    pub fn counts(&self) -> SweepCounts {
        self.held().counts.clone()
    }

    /// Whether all can be looked at, and one line on it.
    pub fn health(&self) -> (bool, String) {
        let inner = self.held();
        let mut words = match (inner.troubles.iter().next(), inner.last) {
            (Some((repo, why)), _) => {
                format!("{} of {} repositories can't be asked, {repo}: {why}", inner.troubles.len(), inner.repositories)
            }
            (None, Some(last)) => {
                let ago = brief(Timestamp::from(SystemTime::now()).since(last));
                format!("{} repositories, one asked {ago} ago", inner.repositories)
            }
            (None, None) => format!("{} repositories, none asked yet", inner.repositories),
        };
        for ((_, what), repositories) in &inner.without {
            if let Some((repo, why)) = repositories.iter().next() {
                words.push_str(&format!("; without {what} of {}, {repo}: {why}", repositories.len()));
            }
        }
        (inner.troubles.is_empty(), words)
    }

    pub(super) fn follows(&self, repositories: usize) {
        self.held().repositories = repositories;
    }

    pub(super) fn looked(&self, repo: &RepoId, trouble: Option<String>) {
        let mut inner = self.held();
        *inner.counts.looks.entry(if trouble.is_none() { "ok" } else { "failed" }).or_default() += 1;
        inner.last = Some(SystemTime::now().into());
        match trouble {
            Some(why) => inner.troubles.insert(repo.to_string(), why),
            None => inner.troubles.remove(&repo.to_string()),
        };
    }

    /// Forgets what was noted of repositories that are looked at no more.
    pub(super) fn forget(&self, is_followed: impl Fn(&str) -> bool) {
        let mut inner = self.held();
        inner.troubles.retain(|repo, _| is_followed(repo));
        inner.without.values_mut().for_each(|repositories| repositories.retain(|repo, _| is_followed(repo)));
    }

    pub(super) fn found(&self, event: &Event) {
        let what = match event {
            Event::Push(push) if push.git_ref.as_tag().is_some() => "tag",
            Event::Push(_) => "push",
            Event::PullRequest(_) => "pull_request",
            Event::Deleted { .. } => "deleted",
            Event::PullRequestClosed { .. } => "closed",
            Event::Ignored { .. } => return,
        };
        *self.held().counts.found.entry(what).or_default() += 1;
    }

    pub(super) fn sent_again(&self) {
        self.held().counts.sent_again += 1;
    }

    /// Notes that something of a repository can't be asked for, or can; true when that is news of its forge.
    pub(super) fn does_without(&self, repo: &RepoId, what: &'static str, why: Option<String>) -> bool {
        let mut inner = self.held();
        let known = inner.without.entry((repo.forge.to_string(), what)).or_default();
        let before = known.is_empty();
        match why {
            Some(why) => known.insert(repo.to_string(), why),
            None => known.remove(&repo.to_string()),
        };
        before != known.is_empty()
    }

    fn held(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

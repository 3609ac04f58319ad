//! What differs between what was heard and what the forge lists. Pure.

use std::collections::BTreeMap;

use crate::checkout::Heads;
use crate::domain::event::{Event, PullRequest, Push};
use crate::domain::repo::{CommitId, RefName};
use crate::store::{Head, LookedAt};

/// What the forge lists.
pub(super) struct Listing<'l> {
    /// By git.
    pub(super) heads: &'l Heads,
    /// By the API; `None` where it did not answer, or nothing changed.
    pub(super) pulls: Option<&'l [PullRequest]>,
}

/// How a repository is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Manner {
    /// What was looked at before. The first look builds nothing that is there already.
    pub(super) before: LookedAt,
    /// Whether tags are built; else they are no concern.
    pub(super) tags: bool,
    /// No webhook tells of anything, so the first look builds the default branch's head.
    pub(super) polls: bool,
}

/// One thing that happened and that nobody told.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Difference {
    pub(super) event: Event,
    /// What it was compared with, as [`crate::intake::Found::stands_on`].
    pub(super) stands_on: Vec<(RefName, Option<i64>)>,
}

/// All that differs.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Compared {
    /// There at the first look: the name, the ref of its builds, the commit. It is known from now on.
    pub(super) noted: Vec<(RefName, RefName, CommitId)>,
    /// What happened, in the order in which it is to be taken.
    pub(super) found: Vec<Difference>,
    /// Pull requests that are not listed any more. A list over several pages may miss one that is open: ask for each.
    pub(super) vanished: Vec<Difference>,
    /// The two lists do not agree on a branch: one of them is older. The next look tells.
    pub(super) doubtful: bool,
}

/// Compares. Pull requests come before pushes: a build that a pull request asks for may be the push's too, and is then
/// known for both.
pub(super) fn compare(known: &[Head], listing: &Listing<'_>, manner: Manner) -> Compared {
    let known = Known(known.iter().map(|head| (&head.name, head)).collect());
    let mut compared = Compared::default();
    if let Some(pulls) = listing.pulls {
        known.compare_pulls(pulls, listing.heads, manner, &mut compared);
    }
    known.compare_refs(listing.heads, manner, &mut compared);
    compared
}

struct Known<'k>(BTreeMap<&'k RefName, &'k Head>);

impl Known<'_> {
    fn stands_on(&self, names: &[&RefName]) -> Vec<(RefName, Option<i64>)> {
        names.iter().map(|&name| (name.clone(), self.0.get(name).map(|head| head.changes))).collect()
    }

    fn compare_pulls(&self, pulls: &[PullRequest], heads: &Heads, manner: Manner, compared: &mut Compared) {
        for pull in pulls {
            let name = RefName::pull_request(pull.number);
            let known = self.0.get(&name);
            if known.is_some_and(|head| head.sha.as_ref() == Some(&pull.head)) {
                continue;
            }
            if known.is_none() && !manner.before.pulls {
                compared.noted.push((name, pull.git_ref.clone(), pull.head.clone()));
                continue;
            }
            let stands_on = match pull.fork {
                true => self.stands_on(&[&name]),
                false if heads.refs.get(&pull.git_ref) != Some(&pull.head) => {
                    compared.doubtful = true;
                    continue;
                }
                false => self.stands_on(&[&name, &pull.git_ref]),
            };
            compared.found.push(Difference { event: Event::PullRequest(pull.clone()), stands_on });
        }
        for head in self.0.values().filter(|head| head.sha.is_some()) {
            let Some(number) = head.name.as_pull_request() else { continue };
            if pulls.iter().all(|pull| pull.number != number) {
                let fork = head.git_ref == head.name;
                let event = Event::PullRequestClosed { number, git_ref: head.git_ref.clone(), fork };
                compared.vanished.push(Difference { event, stands_on: self.stands_on(&[&head.name]) });
            }
        }
    }

    fn compare_refs(&self, heads: &Heads, manner: Manner, compared: &mut Compared) {
        let is_concern = |name: &RefName| name.as_branch().is_some() || (manner.tags && name.as_tag().is_some());
        for (name, sha) in heads.refs.iter().filter(|(name, _)| is_concern(name)) {
            let known = self.0.get(name);
            if known.is_some_and(|head| head.sha.as_ref() == Some(sha)) {
                continue;
            }
            let before = if name.as_tag().is_some() { manner.before.tags } else { manner.before.branches };
            let begins = manner.polls && heads.default_branch.as_ref() == Some(name);
            if known.is_none() && !before && !begins {
                compared.noted.push((name.clone(), name.clone(), sha.clone()));
                continue;
            }
            let push = Push {
                git_ref: name.clone(),
                before: known.and_then(|head| head.sha.clone()),
                after: sha.clone(),
                pushed_at: None,
                forced: false,
                skip_ci: false,
                title: None,
                author: None,
            };
            compared.found.push(Difference { event: Event::Push(push), stands_on: self.stands_on(&[name]) });
        }
        // A repository without any branch is more likely a server in trouble than a team that deleted all its work.
        if !heads.refs.keys().any(|name| name.as_branch().is_some()) {
            return;
        }
        for head in self.0.values().filter(|head| head.sha.is_some() && is_concern(&head.name)) {
            if !heads.refs.contains_key(&head.name) {
                // What it pointed at when it went may be a commit that was never heard of.
                let event = Event::Deleted { git_ref: head.name.clone(), tip: None, pushed_at: None };
                compared.found.push(Difference { event, stands_on: self.stands_on(&[&head.name]) });
            }
        }
    }
}

/// Whether what a delivery told is still so.
pub(super) fn is_still_so(event: &Event, heads: &Heads, open: &BTreeMap<u64, CommitId>) -> bool {
    match event {
        Event::Push(push) => heads.refs.get(&push.git_ref) == Some(&push.after),
        Event::Deleted { git_ref, .. } => git_ref.as_branch().is_some() && !heads.refs.contains_key(git_ref),
        Event::PullRequest(pull) => open.get(&pull.number) == Some(&pull.head),
        Event::PullRequestClosed { number, .. } => !open.contains_key(number),
        Event::Ignored { .. } => false,
    }
}

#[cfg(test)]
mod tests;

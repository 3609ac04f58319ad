//! What becomes of a delivery: the rules of a repository, asked with what the store knows.
//!
//! [`decide`] is pure. [`take`] hands it to the store, which asks it within the transaction that then writes delivery,
//! build and pending status: no other delivery comes between.
//!
//! Each rule has a name ([`Rule`]), which the answer and the build's history bear, and a place: `order`, `place`,
//! `one_build` and `gone` have those that look at what is known, this file those that look at the event alone.
//!
//! One commit of one ref is one build. A push and the pull request of its branch both ask for it, and the
//! first one makes it: while it is unfinished the other is answered "already building", and after it finished "already
//! built". The same kind of event asking for a finished commit again (a reopened pull request, a ref that was
//! moved back) makes a new attempt.
//!
//! What the sweep found (a push whose delivery never came) obeys the same rules. It makes a build only while nothing newer was
//! heard of its ref, and whichever comes second, sweep or delivery, finds the build of the first.
//!
//! `branches` is matched against the branch that was pushed, and for a pull request against the branch it wants
//! to go into. The close of a pull request ends a fork's builds; on a branch of the repository itself it ends only those
//! that no push has asked for. With its pull request, or with its branch, what a scope's builds kept for later ones ends too.

mod gone;
mod one_build;
mod order;
mod place;

use std::sync::Arc;

use crate::config::server::{Forks, RepoRules};
use crate::domain::build::{Cause, State};
use crate::domain::event::{Event, Heard, PullRequest, Push};
use crate::domain::repo::{RefName, RepoId};
use crate::domain::rule::Rule;
use crate::domain::status::{Status, StatusState};
use crate::domain::trust::Trust;
use crate::store::{About, Accepted, Decision, Delivery, Facts, Known, NewBuild, Store, StoreError};

/// A delivery whose signature held, read, with the rules of its repository.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// What is kept of it.
    pub delivery: Delivery,
    /// What it means.
    pub heard: Heard,
    /// The rules of its repository; none when the repository is not configured.
    pub rules: Option<Arc<RepoRules>>,
    /// The context of the build's status, from `[statuses]`.
    pub context: String,
    /// Set when no delivery told it: the sweep found it by asking the forge.
    pub found: Option<Found>,
}

/// How something that was found is answered when a newer word came meanwhile: it is to be looked at again.
pub const OUTRUN: &str = "a newer delivery came while the forge was asked";

/// What the sweep found, and what it compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The heads that the forge's list was compared with, each with its number of changes at that moment, none where
    /// nothing was known of it. When one of them changed since, the list is older than what is known.
    pub stands_on: Vec<(RefName, Option<i64>)>,
}

/// Takes a delivery. When this returns, what it led to is on disk.
pub async fn take(store: &Store, arrival: Arrival) -> Result<Accepted, StoreError> {
    let (delivery, about) = (arrival.delivery.clone(), about(&arrival));
    store.accept(delivery, about, Box::new(move |facts| decide(&arrival, facts))).await
}

/// Which builds the decision needs to know about.
pub fn about(arrival: &Arrival) -> Option<About> {
    let repo = repo(arrival)?;
    let rules = arrival.rules.as_ref()?;
    let default_branch = arrival.heard.default_branch.as_deref();
    let stands_on = arrival.found.as_ref().map(|found| found.stands_on.clone()).unwrap_or_default();
    let pull_request = match &arrival.heard.event {
        Event::PullRequest(PullRequest { number, .. }) | Event::PullRequestClosed { number, .. } => {
            Some(RefName::pull_request(*number))
        }
        _ => None,
    };
    let about = |git_ref: RefName, sha, unfinished, order| {
        let head = pull_request.unwrap_or_else(|| git_ref.clone());
        // What was found must see the delivery before it, so it is taken as one that looks at the ref's builds.
        let unfinished = unfinished || arrival.found.is_some();
        Some(About { repo, git_ref, sha, unfinished, order, head, stands_on })
    };
    match &arrival.heard.event {
        event if gone::deletion(event).is_some() => about(gone::deletion(event)?.git_ref, None, true, false),
        Event::Push(push) => {
            let looks = place::ends_older(rules, &push.git_ref, default_branch, push.forced);
            about(push.git_ref.clone(), Some(push.after.clone()), looks, true)
        }
        Event::PullRequest(request) => {
            let looks = request.fork || place::ends_older(rules, &request.git_ref, default_branch, false);
            about(request.git_ref.clone(), Some(request.head.clone()), looks, false)
        }
        Event::PullRequestClosed { git_ref, .. } => about(git_ref.clone(), None, true, false),
        Event::Deleted { .. } | Event::Ignored { .. } => None,
    }
}

fn repo(arrival: &Arrival) -> Option<RepoId> {
    let path = arrival.delivery.repo.clone()?;
    Some(RepoId { forge: arrival.delivery.forge.clone(), path })
}

/// The rules: what becomes of a delivery, given what is known.
pub fn decide(arrival: &Arrival, facts: &Facts) -> Decision {
    if let Some(first) = &facts.first_answer {
        return Decision::Repeat {
            because: format!("repeat of delivery {}", arrival.delivery.id),
            first: first.clone(),
        };
    }
    if facts.outrun {
        return Decision::Outrun { because: OUTRUN.to_owned() };
    }
    if let Event::Ignored { because } = &arrival.heard.event {
        return ignore(Rule::NothingToBuild, because.clone());
    }
    let Some(repo) = repo(arrival) else {
        return ignore(Rule::NothingToBuild, "the event names no repository");
    };
    let Some(rules) = &arrival.rules else {
        let why = format!("{} is not configured here: it needs a [[repo]] block", repo.path);
        return ignore(Rule::UnknownRepository, why);
    };
    if let Some(gone) = gone::deletion(&arrival.heard.event) {
        return gone::deleted_ref_ends(&repo, gone, facts);
    }
    match &arrival.heard.event {
        Event::Push(push) => pushed(arrival, rules, repo, push, facts),
        Event::PullRequest(request) => requested(arrival, rules, repo, request, facts),
        Event::PullRequestClosed { number, git_ref, fork } => {
            gone::closed_pull_request_ends(repo, *number, git_ref, *fork, facts)
        }
        Event::Deleted { .. } | Event::Ignored { .. } => ignore(Rule::NothingToBuild, "nothing to build"),
    }
}

fn pushed(arrival: &Arrival, rules: &RepoRules, repo: RepoId, push: &Push, facts: &Facts) -> Decision {
    if push.before.as_ref() == Some(&push.after) {
        return ignore(Rule::RefNotMoved, "before and after are the same commit");
    }
    let (cause, rule) = if push.git_ref.as_tag().is_some() {
        if !rules.tags {
            return ignore(Rule::TagsAsConfigured, "tags are not built (tags = false)");
        }
        (Cause::Tag, Rule::TagsStandAlone)
    } else if let Some(branch) = push.git_ref.as_branch() {
        if !matches_any(&rules.branches, branch) {
            return ignore(Rule::BranchesAsConfigured, format!("branch {branch} is outside branches"));
        }
        (Cause::Push, Rule::PushIsBuilt)
    } else {
        return ignore(Rule::NothingToBuild, format!("{} is neither a branch nor a tag", push.git_ref));
    };
    if push.skip_ci {
        return ignore(Rule::SkipCi, "the commit's message asks for no build");
    }
    let default_branch = arrival.heard.default_branch.clone();
    let build = NewBuild {
        repo,
        sha: push.after.clone(),
        base_sha: None,
        before: push.before.clone(),
        pushed_at: push.pushed_at,
        git_ref: push.git_ref.clone(),
        pull_request: None,
        cause: cause_of(arrival, cause),
        pushed: true,
        trust: Trust::Trusted,
        state: State::Queued,
        reason: None,
        approval: None,
        rerun_of: None,
        base_branch: default_branch.clone(),
        default_branch,
        title: push.title.clone(),
        author: push.author.clone(),
        use_cache: true,
        status: pending(arrival, "Queued".to_owned()),
    };
    made(arrival, rules, rule, build, push.forced, facts)
}

fn requested(arrival: &Arrival, rules: &RepoRules, repo: RepoId, request: &PullRequest, facts: &Facts) -> Decision {
    if !matches_any(&rules.branches, &request.base_branch) {
        return ignore(Rule::BranchesAsConfigured, format!("branch {} is outside branches", request.base_branch));
    }
    if request.fork && rules.forks == Forks::Ignore {
        return ignore(Rule::ForksAsConfigured, "pull requests from forks are not built (forks = \"ignore\")");
    }
    let needs_approval = request.fork && rules.forks != Forks::Build;
    let waits =
        needs_approval.then(|| format!("first build of a fork's commit {} needs approval", request.head.short()));
    let build = NewBuild {
        repo,
        sha: request.head.clone(),
        base_sha: request.base.clone(),
        before: None,
        pushed_at: None,
        git_ref: request.git_ref.clone(),
        pull_request: Some(request.number),
        cause: cause_of(arrival, Cause::PullRequest),
        pushed: false,
        trust: if request.fork { Trust::Fork } else { Trust::Member },
        state: if needs_approval { State::Waiting } else { State::Queued },
        approval: None,
        rerun_of: None,
        base_branch: Some(request.base_branch.clone()),
        default_branch: arrival.heard.default_branch.clone(),
        title: request.title.clone(),
        author: request.author.clone(),
        use_cache: true,
        status: pending(
            arrival,
            waits.as_ref().map_or_else(|| "Queued".to_owned(), |why| format!("Waiting for a maintainer: {why}")),
        ),
        reason: waits,
    };
    let rule = match () {
        () if needs_approval => Rule::ForkWaits,
        () if request.fork => Rule::ForkIsBuilt,
        () => Rule::PullRequestIsBuilt,
    };
    made(arrival, rules, rule, build, false, facts)
}

/// Makes the build, unless there is one for the same commit of the same ref, or a later word on that ref.
fn made(arrival: &Arrival, rules: &RepoRules, rule: Rule, build: NewBuild, forced: bool, facts: &Facts) -> Decision {
    if let Some(same) = &facts.same
        && let Some(because) = one_build::serves(same, &build, tells_again(arrival, same, facts))
    {
        let pushed = build.pushed && !same.pushed;
        return Decision::Already { rule: Rule::OneBuildNotTwo, build: same.id, because, pushed };
    }
    // What the sweep found is where the ref stands now; the rules on late deliveries say nothing of it.
    let is_delivered_push = build.pushed && arrival.found.is_none();
    if is_delivered_push && order::deleted_before_push(&build, facts).is_some() {
        let because = format!("{} was deleted after this push, and that arrived first", build.git_ref.short());
        return Decision::Behind { rule: Rule::DeletedBeforePush, because, instead: None };
    }
    let ends_older = place::ends_older(rules, &build.git_ref, build.default_branch.as_deref(), forced);
    if is_delivered_push
        && ends_older
        && let Some(newer) = order::late_push_yields(&build, facts)
    {
        let because = format!("superseded by #{newer}: a later push of {} arrived first", build.git_ref.short());
        return Decision::Behind { rule: Rule::LatePushYields, because, instead: Some(newer) };
    }
    let rule = match rule {
        // What a fork waits for does not change with the second time, nor with who heard of it.
        Rule::ForkWaits => rule,
        _ if arrival.found.is_some() => Rule::SweepFindsHead,
        _ if facts.same.is_some() => Rule::AskedAgain,
        _ => rule,
    };
    let supersedes = place::superseded(arrival, rules, &build, forced, facts);
    Decision::Make { rule, build: Box::new(build), supersedes }
}

fn cause_of(arrival: &Arrival, delivered: Cause) -> Cause {
    if arrival.found.is_some() { Cause::Sweep } else { delivered }
}

/// Whether what is told was told before in another way: by the sweep where this is the late delivery of what it found, by a
/// delivery where this is the sweep. The ref has not moved between; else somebody moved it back and wants a build.
fn tells_again(arrival: &Arrival, same: &Known, facts: &Facts) -> bool {
    arrival.found.is_some() || (same.cause == Cause::Sweep && facts.same_is_head)
}

fn matches_any(patterns: &[String], branch: &str) -> bool {
    patterns.iter().any(|pattern| fast_glob::glob_match(pattern, branch))
}

fn ignore(rule: Rule, because: impl Into<String>) -> Decision {
    Decision::Ignore { rule, because: because.into(), instead: None }
}

fn pending(arrival: &Arrival, sentence: String) -> Status {
    Status { context: arrival.context.clone(), state: StatusState::Pending, sentence }
}

#[cfg(test)]
mod tests;

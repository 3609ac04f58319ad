//! What becomes of a delivery: the rules of a repository, asked with what the store knows.
//!
//! [`decide`] is pure. [`take`] hands it to the store, which asks it within the transaction that then writes delivery,
//! build and pending status: no other delivery comes between.
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

use std::sync::Arc;

use crate::config::server::{Forks, RepoRules, Supersede};
use crate::domain::build::{BuildId, Cause, State};
use crate::domain::event::{Event, Heard, PullRequest, Push};
use crate::domain::outcome::Outcome;
use crate::domain::repo::{RefName, RepoId};
use crate::domain::snapshot::Scope;
use crate::domain::status::{Status, StatusState};
use crate::domain::time::brief;
use crate::domain::trust::Trust;
use crate::store::{About, Accepted, Decision, Delivery, Ending, Facts, Known, NewBuild, Store, StoreError};

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
    let (git_ref, sha, unfinished) = match &arrival.heard.event {
        Event::Push(push) => {
            let gone = push.after.is_zero();
            let looks = gone || ends_older(rules, &push.git_ref, default_branch, push.forced);
            (&push.git_ref, (!gone).then(|| push.after.clone()), looks)
        }
        Event::PullRequest(request) => {
            let looks = request.fork || ends_older(rules, &request.git_ref, default_branch, false);
            (&request.git_ref, Some(request.head.clone()), looks)
        }
        Event::Deleted { git_ref } | Event::PullRequestClosed { git_ref, .. } => (git_ref, None, true),
        Event::Ignored { .. } => return None,
    };
    let head = match &arrival.heard.event {
        Event::PullRequest(PullRequest { number, .. }) | Event::PullRequestClosed { number, .. } => {
            RefName::pull_request(*number)
        }
        _ => git_ref.clone(),
    };
    let stands_on = arrival.found.as_ref().map(|found| found.stands_on.clone()).unwrap_or_default();
    // What was found must see the delivery before it, so it is taken as one that looks at the ref's builds.
    let unfinished = unfinished || arrival.found.is_some();
    Some(About { repo, git_ref: git_ref.clone(), sha, unfinished, head, stands_on })
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
        return ignore(because.clone());
    }
    let Some(repo) = repo(arrival) else {
        return ignore("the event names no repository");
    };
    let Some(rules) = &arrival.rules else {
        return ignore(format!("{} is not configured here: it needs a [[repo]] block", repo.path));
    };
    match &arrival.heard.event {
        Event::Ignored { because } => ignore(because.clone()),
        Event::Push(push) => pushed(arrival, rules, repo, push, facts),
        Event::PullRequest(request) => requested(arrival, rules, repo, request, facts),
        Event::Deleted { git_ref } => {
            let gone = format!("{} {} was deleted", kind(git_ref), git_ref.short());
            cancel(facts.unfinished.iter(), &gone, scopes_of(&repo, git_ref))
        }
        Event::PullRequestClosed { number, git_ref, fork } => {
            let mine = |build: &&Known| *fork || (build.pull_request == Some(*number) && !build.pushed);
            // A branch of the repository itself outlives its pull request, and so does what its pushes left.
            let trust = if *fork { Trust::Fork } else { Trust::Member };
            let scope = Scope { repo, trust, git_ref: git_ref.clone() };
            cancel(facts.unfinished.iter().filter(mine), &format!("pull request {number} was closed"), vec![scope])
        }
    }
}

fn pushed(arrival: &Arrival, rules: &RepoRules, repo: RepoId, push: &Push, facts: &Facts) -> Decision {
    if push.after.is_zero() {
        let gone = format!("{} {} was deleted", kind(&push.git_ref), push.git_ref.short());
        return cancel(facts.unfinished.iter(), &gone, scopes_of(&repo, &push.git_ref));
    }
    if push.before.as_ref() == Some(&push.after) {
        return ignore("before and after are the same commit");
    }
    let cause = if push.git_ref.as_tag().is_some() {
        if !rules.tags {
            return ignore("tags are not built (tags = false)");
        }
        Cause::Tag
    } else if let Some(branch) = push.git_ref.as_branch() {
        if !matches_any(&rules.branches, branch) {
            return ignore(format!("branch {branch} is outside branches"));
        }
        Cause::Push
    } else {
        return ignore(format!("{} is neither a branch nor a tag", push.git_ref));
    };
    if push.skip_ci {
        return ignore("the commit's message asks for no build");
    }
    let default_branch = arrival.heard.default_branch.clone();
    let build = NewBuild {
        repo,
        sha: push.after.clone(),
        base_sha: None,
        before: push.before.clone(),
        git_ref: push.git_ref.clone(),
        pull_request: None,
        cause: cause_of(arrival, cause),
        pushed: true,
        trust: Trust::Trusted,
        state: State::Queued,
        reason: None,
        approved_by: None,
        rerun_of: None,
        base_branch: default_branch.clone(),
        default_branch,
        title: push.title.clone(),
        author: push.author.clone(),
        use_cache: true,
        status: pending(arrival, "Queued".to_owned()),
    };
    one_build(arrival, rules, build, push.forced, facts)
}

fn requested(arrival: &Arrival, rules: &RepoRules, repo: RepoId, request: &PullRequest, facts: &Facts) -> Decision {
    if !matches_any(&rules.branches, &request.base_branch) {
        return ignore(format!("branch {} is outside branches", request.base_branch));
    }
    if request.fork && rules.forks == Forks::Ignore {
        return ignore("pull requests from forks are not built (forks = \"ignore\")");
    }
    let waits = request.fork.then(|| format!("first build of a fork's commit {} needs approval", request.head.short()));
    let build = NewBuild {
        repo,
        sha: request.head.clone(),
        base_sha: request.base.clone(),
        before: None,
        git_ref: request.git_ref.clone(),
        pull_request: Some(request.number),
        cause: cause_of(arrival, Cause::PullRequest),
        pushed: false,
        trust: if request.fork { Trust::Fork } else { Trust::Member },
        state: if request.fork { State::Waiting } else { State::Queued },
        approved_by: None,
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
    one_build(arrival, rules, build, false, facts)
}

/// Makes the build, unless there is one for the same commit of the same ref.
fn one_build(arrival: &Arrival, rules: &RepoRules, build: NewBuild, forced: bool, facts: &Facts) -> Decision {
    if let Some(same) = &facts.same
        && let Some(because) = serves(same, &build, tells_again(arrival, same, facts))
    {
        return Decision::Already { build: same.id, because, pushed: build.pushed && !same.pushed };
    }
    let ends_older = ends_older(rules, &build.git_ref, build.default_branch.as_deref(), forced);
    if ends_older && let Some(newer) = delivered_before(&build, facts) {
        let because = format!("superseded by #{newer}: a later push of {} arrived first", build.git_ref.short());
        return Decision::Behind { because };
    }
    let supersedes = facts
        .unfinished
        .iter()
        .filter(|older| !older.ending && (ends_older || older.state == State::Waiting))
        .map(|older| {
            let later = brief(arrival.delivery.received_at.since(older.created_at));
            (older.id, format!("Superseded by {}, pushed {later} later", build.sha.short()))
        })
        .collect();
    Decision::Make { build: Box::new(build), supersedes }
}

fn cause_of(arrival: &Arrival, delivered: Cause) -> Cause {
    if arrival.found.is_some() { Cause::Sweep } else { delivered }
}

/// Whether what is told was told before in another way: by the sweep where this is the late delivery of what it found, by a
/// delivery where this is the sweep. The ref has not moved between; else somebody moved it back and wants a build.
fn tells_again(arrival: &Arrival, same: &Known, facts: &Facts) -> bool {
    arrival.found.is_some() || (same.cause == Cause::Sweep && facts.same_is_head)
}

/// Why an existing build of the same commit and ref serves the one that is asked for, if it does.
fn serves(same: &Known, asked: &NewBuild, told_again: bool) -> Option<String> {
    if same.state != State::Finished {
        return (!same.ending).then(|| "already building".to_owned());
    }
    if same.pushed == asked.pushed && !told_again {
        return None;
    }
    match (same.outcome, same.superseded_by) {
        (_, Some(newer)) => Some(format!("superseded by #{newer}")),
        (Some(Outcome::Passed | Outcome::Skipped | Outcome::Failed | Outcome::TimedOut), None) => {
            Some("already built".to_owned())
        }
        // Whether a person or an outage ended it: another event may well ask for another try.
        (Some(Outcome::Cancelled | Outcome::Broken) | None, None) => None,
    }
}

/// Forges do not promise their order. A push whose commit is the one that an unfinished build's push started from came
/// before that push, however late it is delivered; unless it moves the ref back from there. A push that starts where the
/// sweep knew the ref to be is one of those that led to what the sweep found there.
fn delivered_before(build: &NewBuild, facts: &Facts) -> Option<BuildId> {
    let before = |known: &&Known| {
        let began_at_it = known.before.as_ref() == Some(&build.sha) && build.before.as_ref() != Some(&known.sha);
        let led_to_it = known.cause == Cause::Sweep && build.before.is_some() && known.before == build.before;
        began_at_it || (led_to_it && build.cause != Cause::Sweep)
    };
    facts.unfinished.iter().find(before).map(|known| known.id)
}

/// Whether a new build of a ref ends the older ones.
fn ends_older(rules: &RepoRules, git_ref: &RefName, default_branch: Option<&str>, forced: bool) -> bool {
    if git_ref.as_tag().is_some() {
        return false;
    }
    match rules.supersede {
        Supersede::None => false,
        Supersede::All => true,
        Supersede::Branches => forced || !may_be_default(git_ref, default_branch),
    }
}

/// True also when the default branch is not known: a build too many is better than one that was ended wrongly.
fn may_be_default(git_ref: &RefName, default_branch: Option<&str>) -> bool {
    git_ref.as_branch().is_some_and(|branch| default_branch.is_none_or(|default| default == branch))
}

fn matches_any(patterns: &[String], branch: &str) -> bool {
    patterns.iter().any(|pattern| fast_glob::glob_match(pattern, branch))
}

/// The scopes that end with a branch. Builds of a tag keep nothing.
fn scopes_of(repo: &RepoId, git_ref: &RefName) -> Vec<Scope> {
    let trusts: &[Trust] = if git_ref.as_branch().is_some() { &[Trust::Trusted, Trust::Member] } else { &[] };
    trusts.iter().map(|&trust| Scope { repo: repo.clone(), trust, git_ref: git_ref.clone() }).collect()
}

fn cancel<'k>(builds: impl Iterator<Item = &'k Known>, why: &str, drops: Vec<Scope>) -> Decision {
    let endings = builds
        .filter(|build| !build.ending)
        .map(|build| Ending { build: build.id, reason: why.to_owned(), sentence: format!("Cancelled: {why}") })
        .collect();
    Decision::Cancel { because: why.to_owned(), endings, drops }
}

fn ignore(because: impl Into<String>) -> Decision {
    Decision::Ignore { because: because.into() }
}

fn pending(arrival: &Arrival, sentence: String) -> Status {
    Status { context: arrival.context.clone(), state: StatusState::Pending, sentence }
}

fn kind(git_ref: &RefName) -> &'static str {
    if git_ref.as_tag().is_some() { "tag" } else { "branch" }
}

#[cfg(test)]
mod tests;

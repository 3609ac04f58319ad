//! Rules on what went: a branch, a tag, a pull request.

use crate::domain::event::Event;
use crate::domain::repo::{RefName, RepoId};
use crate::domain::rule::Rule;
use crate::domain::snapshot::Scope;
use crate::domain::trust::Trust;
use crate::store::{Decision, Ending, Facts, Gone, Known};

/// [`Rule::DeletedRefEnds`]: with a branch or tag its unfinished builds end. It is remembered, for pushes of it that are
/// delivered later.
pub(super) fn deleted_ref_ends(repo: &RepoId, gone: Gone, facts: &Facts) -> Decision {
    let kind = if gone.git_ref.as_tag().is_some() { "tag" } else { "branch" };
    let because = format!("{kind} {} was deleted", gone.git_ref.short());
    let drops = scopes_of(repo, &gone.git_ref);
    cancel(Rule::DeletedRefEnds, facts.unfinished.iter(), because, drops, Some(gone))
}

/// [`Rule::ClosedPullRequestEnds`]: a fork's builds end, and of a branch of the repository itself those that no push has
/// asked for: that branch outlives its pull request, and so does what its pushes left.
pub(super) fn closed_pull_request_ends(
    repo: RepoId,
    number: u64,
    git_ref: &RefName,
    fork: bool,
    facts: &Facts,
) -> Decision {
    let mine = |build: &&Known| fork || (build.pull_request == Some(number) && !build.pushed);
    let trust = if fork { Trust::Fork } else { Trust::Member };
    let scope = Scope { repo, trust, git_ref: git_ref.clone() };
    let builds = facts.unfinished.iter().filter(mine);
    cancel(Rule::ClosedPullRequestEnds, builds, format!("pull request {number} was closed"), vec![scope], None)
}

/// The deletion that an event is, if it is one.
pub(super) fn deletion(event: &Event) -> Option<Gone> {
    match event {
        Event::Deleted { git_ref, tip, pushed_at } => {
            Some(Gone { git_ref: git_ref.clone(), tip: tip.clone(), pushed_at: *pushed_at })
        }
        Event::Push(push) if push.after.is_zero() => {
            Some(Gone { git_ref: push.git_ref.clone(), tip: push.before.clone(), pushed_at: push.pushed_at })
        }
        _ => None,
    }
}

/// The scopes that end with a branch. Builds of a tag keep nothing.
fn scopes_of(repo: &RepoId, git_ref: &RefName) -> Vec<Scope> {
    let trusts: &[Trust] = if git_ref.as_branch().is_some() { &[Trust::Trusted, Trust::Member] } else { &[] };
    trusts.iter().map(|&trust| Scope { repo: repo.clone(), trust, git_ref: git_ref.clone() }).collect()
}

fn cancel<'k>(
    rule: Rule,
    builds: impl Iterator<Item = &'k Known>,
    because: String,
    drops: Vec<Scope>,
    gone: Option<Gone>,
) -> Decision {
    let endings = builds
        .filter(|build| !build.ending)
        .map(|build| Ending { build: build.id, reason: because.clone(), sentence: format!("Cancelled: {because}") })
        .collect();
    Decision::Cancel { rule, because, endings, drops, gone }
}

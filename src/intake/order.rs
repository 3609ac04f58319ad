//! Rules on the order of pushes. Forges do not promise that of their deliveries: what a push started from tells it, then
//! the forge's clock, then the arrival.

use std::collections::HashSet;

use crate::domain::build::{BuildId, Cause};
use crate::domain::time::Timestamp;
use crate::store::{Deletion, Facts, Known, NewBuild};

/// [`Rule::LatePushYields`](crate::domain::rule::Rule::LatePushYields): the build of a later push of the same ref.
///
/// A push came before every push that starts from its commit, also by way of others, unless it starts from one of
/// them itself and so moves the ref back. Where neither is known, the one with the earlier second came before. A push
/// whose commit a push had built before is a new one: it moves the ref back to there. A push that starts where the sweep
/// knew the ref to be is one of those that led to what the sweep found there, as long as no other push was heard since.
pub(super) fn late_push_yields(build: &NewBuild, facts: &Facts) -> Option<BuildId> {
    if facts.same.as_ref().is_some_and(|same| same.pushed) {
        return None;
    }
    let known = || facts.recent.iter().chain(&facts.unfinished).filter(|known| known.pushed);
    let mut after = HashSet::from([&build.sha]);
    loop {
        let before = after.len();
        after.extend(
            known()
                .filter(|k| k.before.as_ref().is_some_and(|sha| after.contains(sha)))
                .map(|k| &k.sha)
                .collect::<Vec<_>>(),
        );
        if after.len() == before {
            break;
        }
    }
    if build.before.as_ref().is_some_and(|sha| after.contains(sha)) {
        return None;
    }
    let starts_later = |known: &&Known| known.sha != build.sha && after.contains(&known.sha);
    let is_later =
        |known: &&Known| starts_later(known) || is_before(build.pushed_at, known.pushed_at) && !leads_to(build, known);
    let led_to =
        |newest: &&Known| newest.cause == Cause::Sweep && build.before.is_some() && newest.before == build.before;
    let found = known().max_by_key(|known| known.id).filter(led_to);
    known().filter(is_later).chain(found).map(|known| known.id).max()
}

/// Whether the push says itself that it started from that build's commit.
fn leads_to(build: &NewBuild, known: &Known) -> bool {
    build.before.as_ref() == Some(&known.sha)
}

fn is_before(one: Option<Timestamp>, other: Option<Timestamp>) -> bool {
    matches!((one, other), (Some(one), Some(other)) if one < other)
}

/// [`Rule::DeletedBeforePush`](crate::domain::rule::Rule::DeletedBeforePush): the deletion that came after this push,
/// although it was delivered before it.
///
/// A push whose commit was built before is a new one, which makes the branch again; so is one that makes it, unless it
/// is what was deleted. Where the forge names no commit of what it deleted, a push that moves the branch, when nothing
/// made it again since, moved it before it went.
pub(super) fn deleted_before_push<'f>(build: &NewBuild, facts: &'f Facts) -> Option<&'f Deletion> {
    if facts.same.is_some() {
        return None;
    }
    let newest = facts.deletions.last()?;
    if is_before(newest.pushed_at, build.pushed_at) {
        return None;
    }
    let again = facts.recent.iter().chain(&facts.unfinished).any(|known| known.created_at > newest.at);
    let came_before = match &newest.tip {
        Some(tip) => *tip == build.sha || is_before(build.pushed_at, newest.pushed_at),
        None => build.before.is_some() && !again,
    };
    came_before.then_some(newest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_two_known_times_that_differ_tell_an_order() {
        let at = |n| Some(Timestamp(n));
        let check = |one, other, expected| assert_eq!(is_before(one, other), expected, "{one:?} {other:?}");
        check(at(1), at(2), true);
        check(at(2), at(2), false);
        check(at(2), at(1), false);
        check(None, at(1), false);
        check(at(1), None, false);
    }
}

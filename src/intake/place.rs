//! Rules on whose place a new build takes.

use super::Arrival;
use crate::config::server::{RepoRules, Supersede};
use crate::domain::build::State;
use crate::domain::repo::RefName;
use crate::domain::rule::Rule;
use crate::domain::time::brief;
use crate::store::{Facts, Known, NewBuild, Superseded};

/// The unfinished builds whose place the new one takes, each with the rule. A fork's commit that nobody approved yet
/// always makes room for the next one.
pub(super) fn superseded(
    arrival: &Arrival,
    rules: &RepoRules,
    build: &NewBuild,
    forced: bool,
    facts: &Facts,
) -> Vec<Superseded> {
    let ends_older = ends_older(rules, &build.git_ref, build.default_branch.as_deref(), forced);
    let only_as_forced = forced && !self::ends_older(rules, &build.git_ref, build.default_branch.as_deref(), false);
    let rule = |older: &Known| {
        let same_second = build.pushed_at.is_some() && build.pushed_at == older.pushed_at;
        match () {
            () if only_as_forced => Rule::ForcePushWins,
            () if same_second && build.before.as_ref() != Some(&older.sha) => Rule::SameSecondByArrival,
            () => Rule::NewestPushWins,
        }
    };
    let ended = facts.unfinished.iter().filter(|older| !older.ending && (ends_older || older.state == State::Waiting));
    ended
        .map(|older| {
            let later = brief(arrival.delivery.received_at.since(older.created_at));
            let sentence = format!("Superseded by {}, pushed {later} later", build.sha.short());
            Superseded { build: older.id, rule: rule(older), sentence }
        })
        .collect()
}

/// Whether a new build of a ref ends the older ones.
pub(super) fn ends_older(rules: &RepoRules, git_ref: &RefName, default_branch: Option<&str>, forced: bool) -> bool {
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

//! One commit of one ref is one build, not two.

use crate::domain::build::State;
use crate::domain::outcome::Outcome;
use crate::store::{Known, NewBuild};

/// [`Rule::OneBuildNotTwo`](crate::domain::rule::Rule::OneBuildNotTwo): why an existing build of the same commit and ref
/// serves the one that is asked for, if it does; `told_again` where the sweep and a delivery tell the same.
pub(super) fn serves(same: &Known, asked: &NewBuild, told_again: bool) -> Option<String> {
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

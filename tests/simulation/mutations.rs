//! The simulation can fail: with any one rule taken away it finds a broken promise within some hundred seeds.

use super::tables::Without;
use super::world;

/// Among what breaks without a rule is the promise that it is there for.
fn is_missed(rule: Without, says: &str) {
    let mut others = Vec::new();
    for seed in 0..600 {
        match world::run(seed, rule) {
            Err(end) if end.contains(says) => return,
            Err(end) => others.push(end),
            Ok(_) => {}
        }
    }
    panic!("nobody misses {rule:?} in 600 seeds, but for:\n{}", others.join("\n"));
}

#[test]
fn the_fence() {
    is_missed(Without::Fence, "took a write under fence");
}

#[test]
fn rising_fences() {
    is_missed(Without::RisingFence, "handed out twice");
}

#[test]
fn the_newest_build_owns_the_commit() {
    is_missed(Without::NewestOwnsTheCommit, "has the last word");
}

#[test]
fn one_request_for_each_commit_and_context() {
    is_missed(Without::OneRequestAKey, "the forge's last word");
}

#[test]
fn care_after_requests_that_ended_late() {
    is_missed(Without::CareAfterLateRequests, "pending");
}

#[test]
fn doubt_after_requests_that_nobody_answered() {
    is_missed(Without::DoubtAfterSilence, "pending");
}

#[test]
fn final_words_for_what_was_left_pending() {
    is_missed(Without::Settling, "not one final word");
}

#[test]
fn unique_deliveries() {
    is_missed(Without::UniqueDeliveries, "was answered with builds");
}

#[test]
fn the_commit_before_the_answer() {
    is_missed(Without::CommitBeforeAnswer, "was answered with builds");
}

#[test]
fn taking_back_what_was_lost() {
    is_missed(Without::TakingBack, "no rest");
}

#[test]
fn holders_that_stop_in_time() {
    is_missed(Without::StoppingInTime, "agents run build");
}

//! Holds the lease of a running build.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::domain::lease::{Hold, LEASE, Lease};
use crate::store::{Claim, Store};

use super::Ending;

/// Why a build's lease ended before the build did.
pub(super) enum LeaseEnd {
    /// Somebody else has it, or may have it by now.
    Lost,
    /// A person or a newer push ended it.
    Cancelled {
        /// The build's reason.
        reason: String,
        /// The status' sentence.
        sentence: String,
    },
    /// We are stopping; another claim will run it again.
    GiveBack,
}

/// Renews the lease of what was claimed by a question at `asked`, until `work` is done. When something ends the lease first, `work` is asked to stop
/// (`ending.drain`) and still awaited; `ending.now` asks for the build to be given back.
pub(super) async fn hold_while<T>(
    store: &Store,
    claim: &Claim,
    asked: Instant,
    ending: &Ending,
    work: impl Future<Output = T>,
) -> (T, Option<LeaseEnd>) {
    let done = CancellationToken::new();
    let work = async {
        let result = work.await;
        done.cancel();
        result
    };
    let held = async {
        let end = hold(store, claim, asked, ending, &done).await;
        if end.is_some() {
            ending.drain.cancel();
        }
        end
    };
    tokio::join!(work, held)
}

async fn hold(
    store: &Store,
    claim: &Claim,
    asked: Instant,
    ending: &Ending,
    done: &CancellationToken,
) -> Option<LeaseEnd> {
    let mut changes = store.build_changes();
    let mut hold = Hold::since(Duration::ZERO);
    loop {
        tokio::select! {
            biased;
            // Before `done`: a build that is given back is cut off, and its work is done in the same moment.
            () = ending.now.cancelled() => return Some(LeaseEnd::GiveBack),
            () = done.cancelled() => return None,
            () = tokio::time::sleep_until(asked + hold.next_beat()) => {
                let beat = asked.elapsed();
                let answer = tokio::time::timeout(hold.patience(beat), store.renew(claim, LEASE)).await;
                let lease = match answer {
                    Ok(Ok(lease)) => hold.answered(beat, lease),
                    Ok(Err(error)) => {
                        tracing::warn!(%error, build = claim.build.0, "the lease could not be renewed yet");
                        hold.unanswered(asked.elapsed())
                    }
                    Err(_) => hold.unanswered(asked.elapsed()),
                };
                if lease != Lease::Held {
                    return end_of(lease);
                }
            }
            () = changes.of(claim.build) => {
                // A store that can't be read now is asked again by the next beat.
                if let Ok(lease) = store.lease(claim).await && lease != Lease::Held {
                    return end_of(lease);
                }
            }
        }
    }
}

fn end_of(lease: Lease) -> Option<LeaseEnd> {
    match lease {
        Lease::Held => None,
        Lease::CancelRequested { reason, sentence, .. } => Some(LeaseEnd::Cancelled { reason, sentence }),
        Lease::Lost => Some(LeaseEnd::Lost),
    }
}

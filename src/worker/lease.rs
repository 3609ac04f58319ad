//! Holds the lease of a running build.

use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::store::{Claim, Lease, Store};

use super::{Ending, HEARTBEAT, LEASE};

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

/// Renews the lease until `work` is done. When something ends the lease first, `work` is asked to stop
/// (`ending.drain`) and still awaited; `ending.now` asks for the build to be given back.
pub(super) async fn hold_while<T>(
    store: &Store,
    claim: &Claim,
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
        let end = hold(store, claim, ending, &done).await;
        if end.is_some() {
            ending.drain.cancel();
        }
        end
    };
    tokio::join!(work, held)
}

async fn hold(store: &Store, claim: &Claim, ending: &Ending, done: &CancellationToken) -> Option<LeaseEnd> {
    let mut changes = store.build_changes();
    let mut held_until = Instant::now() + LEASE;
    let mut next_beat = Instant::now() + HEARTBEAT;
    loop {
        tokio::select! {
            biased;
            // Before `done`: a build that is given back is cut off, and its work is done in the same moment.
            () = ending.now.cancelled() => return Some(LeaseEnd::GiveBack),
            () = done.cancelled() => return None,
            () = tokio::time::sleep_until(next_beat) => {
                next_beat = Instant::now() + HEARTBEAT;
                match store.renew(claim, LEASE).await {
                    Ok(Lease::Held) => held_until = Instant::now() + LEASE,
                    // The store may come back before the lease is over.
                    Err(error) if Instant::now() < held_until => {
                        tracing::warn!(%error, build = claim.build.0, "the lease could not be renewed yet");
                        next_beat = Instant::now() + Duration::from_secs(2);
                    }
                    Err(_) => return Some(LeaseEnd::Lost),
                    Ok(ended) => return end_of(ended),
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

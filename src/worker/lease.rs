//! Holds the lease of a running build, and knows without asking when it is over.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::store::{Claim, Lease, Store};

/// The store is asked again so soon after it did not answer.
const AGAIN: Duration = Duration::from_secs(2);

/// Why a build's lease ended before the build did.
#[derive(Debug, Clone, PartialEq, Eq)]
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

/// Until when a claim surely is ours: whoever writes for it looks here first. A process that was stopped for longer than
/// its lease wakes without knowing it, and somebody else may run the build by then.
#[derive(Debug, Clone)]
pub(super) struct Held {
    until: Arc<Mutex<Moment>>,
    lease: Duration,
}

impl Held {
    /// Held since the store was asked, which was at `asked`: it counts from a later moment.
    pub(super) fn since(asked: Moment, lease: Duration) -> Self {
        Held { until: Arc::new(Mutex::new(asked.plus(lease))), lease }
    }

    /// Whether somebody else may have the build by now.
    pub(super) fn is_over(&self) -> bool {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) <= Moment::now()
    }

    /// Renewed, as the store was asked at `asked`.
    fn renew(&self, asked: Moment) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = asked.plus(self.lease);
    }

    /// The store said that it is not ours any more.
    pub(super) fn lose(&self) {
        *self.until.lock().unwrap_or_else(PoisonError::into_inner) = Moment::default();
    }

    fn beat(&self) -> Duration {
        self.lease / 3
    }
}

/// A point of the time that nobody turns and that goes on while the machine sleeps (`CLOCK_BOOTTIME`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment(Duration);

impl Moment {
    pub(super) fn now() -> Self {
        #[cfg(target_os = "linux")]
        let clock = rustix::time::ClockId::Boottime;
        #[cfg(not(target_os = "linux"))]
        let clock = rustix::time::ClockId::Monotonic;
        let now = rustix::time::clock_gettime(clock);
        let (seconds, nanos) = (u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0));
        Moment(Duration::new(seconds, nanos))
    }

    fn plus(self, time: Duration) -> Self {
        Moment(self.0 + time)
    }
}

/// How a build may be ended before its own end.
pub(super) struct Reins {
    /// Its steps are asked to end, and it is settled.
    pub(super) stop: CancellationToken,
    /// It is cut off: its holder and with it every step is killed.
    pub(super) cut: CancellationToken,
    /// Our process ends at once: it is cut off and given back.
    pub(super) now: CancellationToken,
}

/// Renews the lease until `work` is done. What ends the lease first pulls the reins; `work` is still awaited.
pub(super) async fn hold_while<T>(
    store: &Store,
    claim: &Claim,
    held: &Held,
    reins: &Reins,
    work: impl Future<Output = T>,
) -> (T, Option<LeaseEnd>) {
    let done = CancellationToken::new();
    let work = async {
        let result = work.await;
        done.cancel();
        result
    };
    let holding = async {
        let end = hold(store, claim, held, reins, &done).await;
        match end {
            Some(LeaseEnd::Cancelled { .. }) => reins.stop.cancel(),
            Some(LeaseEnd::Lost | LeaseEnd::GiveBack) => reins.cut.cancel(),
            None => {}
        }
        end
    };
    let (result, end) = tokio::join!(work, holding);
    // Also when the build was done in the very moment in which the process woke.
    (result, if held.is_over() { Some(LeaseEnd::Lost) } else { end })
}

async fn hold(store: &Store, claim: &Claim, held: &Held, reins: &Reins, done: &CancellationToken) -> Option<LeaseEnd> {
    let mut changes = store.build_changes();
    let mut next_beat = Instant::now() + held.beat();
    loop {
        tokio::select! {
            biased;
            // Before `done`: a build that is given back is cut off, and its work is done in the same moment.
            () = reins.now.cancelled() => return Some(LeaseEnd::GiveBack),
            () = done.cancelled() => return None,
            () = tokio::time::sleep_until(next_beat) => {
                // Before the store is asked: it may take its time, and the build runs meanwhile.
                if held.is_over() {
                    return Some(LeaseEnd::Lost);
                }
                next_beat = Instant::now() + held.beat();
                let asked = Moment::now();
                match store.renew(claim, held.lease).await {
                    Ok(Lease::Held) => held.renew(asked),
                    // The store may come back before the lease is over.
                    Err(error) if !held.is_over() => {
                        tracing::warn!(%error, build = claim.build.0, "the lease could not be renewed yet");
                        next_beat = Instant::now() + AGAIN.min(held.beat());
                    }
                    Err(_) => return Some(LeaseEnd::Lost),
                    Ok(ended) => return end_of(ended, held),
                }
            }
            () = changes.of(claim.build) => {
                if held.is_over() {
                    return Some(LeaseEnd::Lost);
                }
                // A store that can't be read now is asked again by the next beat.
                if let Ok(lease) = store.lease(claim).await && lease != Lease::Held {
                    return end_of(lease, held);
                }
            }
        }
    }
}

fn end_of(lease: Lease, held: &Held) -> Option<LeaseEnd> {
    match lease {
        Lease::Held => None,
        Lease::CancelRequested { reason, sentence, .. } => Some(LeaseEnd::Cancelled { reason, sentence }),
        Lease::Lost => {
            held.lose();
            Some(LeaseEnd::Lost)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_counts_from_the_moment_of_asking() {
        let lease = Duration::from_secs(60);
        let now = Moment::now();
        let earlier = |seconds: u64| Moment(now.0.saturating_sub(Duration::from_secs(seconds)));
        assert!(!Held::since(now, lease).is_over());
        assert!(!Held::since(earlier(50), lease).is_over());
        let held = Held::since(earlier(61), lease);
        assert!(held.is_over(), "an answer that came after the lease had ended brings none");
        held.renew(now);
        assert!(!held.is_over());
        held.lose();
        assert!(held.is_over());
    }
}

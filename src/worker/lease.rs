//! Holds the lease of a running build, and knows without asking when it is over.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::domain::lease::{Hold, Lease};
use crate::store::{Claim, Store};

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
pub(super) struct Held(Arc<Mutex<Hold>>);

impl Held {
    /// Held since the store was asked, which was at `asked`: it counts from a later moment.
    pub(super) fn since(asked: Moment, lease: Duration) -> Self {
        Held(Arc::new(Mutex::new(Hold::since(asked.0, lease))))
    }

    /// Whether somebody else may have the build by now.
    pub(super) fn is_over(&self) -> bool {
        self.look().is_over(Moment::now().0)
    }

    /// The store said that it is not ours any more.
    pub(super) fn lose(&self) {
        self.change(|hold| hold.answered(Moment::now().0, &Lease::Lost));
    }

    fn look(&self) -> Hold {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Hold)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Asks for another lease. `None`: there was no answer in time, and it may be asked again.
    async fn renew(&self, store: &Store, claim: &Claim) -> Option<Lease> {
        let (hold, asked) = (self.look(), Moment::now().0);
        let answer = tokio::time::timeout(hold.patience(asked), store.renew(claim, hold.lease())).await;
        match answer {
            Ok(Ok(lease)) => {
                self.change(|hold| hold.answered(asked, &lease));
                return Some(lease);
            }
            Ok(Err(error)) => tracing::warn!(%error, build = claim.build.0, "the lease could not be renewed yet"),
            Err(_) => tracing::warn!(build = claim.build.0, "the lease could not be renewed yet: no answer"),
        }
        self.change(|hold| hold.unanswered(Moment::now().0));
        None
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
    loop {
        let beat = held.look().next_beat().saturating_sub(Moment::now().0);
        tokio::select! {
            biased;
            // Before `done`: a build that is given back is cut off, and its work is done in the same moment.
            () = reins.now.cancelled() => return Some(LeaseEnd::GiveBack),
            () = done.cancelled() => return None,
            () = tokio::time::sleep(beat) => {
                // Before the store is asked: it may take its time, and the build runs meanwhile.
                if held.is_over() {
                    return Some(LeaseEnd::Lost);
                }
                if let Some(lease) = held.renew(store, claim).await && lease != Lease::Held {
                    return end_of(lease, held);
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
        assert!(!Held::since(earlier(45), lease).is_over());
        let held = Held::since(earlier(51), lease);
        assert!(held.is_over(), "what is cut off now has ended when the lease has");
        held.change(|hold| hold.answered(now.0, &Lease::Held));
        assert!(!held.is_over());
        held.lose();
        assert!(held.is_over());
    }
}

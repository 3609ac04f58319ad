//! Which logs this process writes at this moment.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::domain::build::BuildId;

/// A claim of a build.
pub(super) type Claim = (BuildId, u64);

/// The claims whose logs were opened here. A log that is closed stays listed until it was shipped, where anybody ships.
#[derive(Debug, Default)]
pub(super) struct Writing {
    claims: Mutex<BTreeMap<Claim, Weak<Open>>>,
    shipped: std::sync::atomic::AtomicBool,
}

/// Lives as long as something can still be written to a log.
#[derive(Debug)]
pub(super) struct Open;

impl Writing {
    /// Somebody ships: what is closed is kept until [`Writing::forget`].
    pub(super) fn keep_closed(&self) {
        self.shipped.store(true, std::sync::atomic::Ordering::Relaxed);
    }

    pub(super) fn open(&self, claim: Claim) -> Arc<Open> {
        let open = Arc::new(Open);
        let mut claims = self.claims();
        if !self.shipped.load(std::sync::atomic::Ordering::Relaxed) {
            claims.retain(|_, open| open.strong_count() > 0);
        }
        claims.insert(claim, Arc::downgrade(&open));
        open
    }

    /// Whether a log of the build is open.
    pub(super) fn is_open(&self, build: BuildId) -> bool {
        self.claims().range((build, 0)..=(build, u64::MAX)).any(|(_, open)| open.strong_count() > 0)
    }

    /// Every claim, and whether its log is still open.
    pub(super) fn list(&self) -> Vec<(Claim, bool)> {
        self.claims().iter().map(|(claim, open)| (*claim, open.strong_count() > 0)).collect()
    }

    pub(super) fn forget(&self, claim: Claim) {
        self.claims().remove(&claim);
    }

    fn claims(&self) -> MutexGuard<'_, BTreeMap<Claim, Weak<Open>>> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

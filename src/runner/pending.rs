//! Who keeps something of a repository just now: the next build of it waits, and finds what was kept.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::domain::repo::RepoId;

/// The longest that a build waits for what another one leaves. Installing anew takes about as long.
const PATIENCE: Duration = Duration::from_secs(20);

/// How many builds of each repository are being kept. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub struct Pending(Arc<watch::Sender<HashMap<RepoId, usize>>>);

impl Pending {
    /// One more, until the answer is dropped.
    pub(super) fn begin(&self, repo: &RepoId) -> Keeping {
        self.0.send_modify(|counts| *counts.entry(repo.clone()).or_default() += 1);
        Keeping { pending: self.clone(), repo: repo.clone() }
    }

    /// Waits until nothing of the repository is being kept, or it takes too long.
    pub(super) async fn settled(&self, repo: &RepoId) {
        let mut counts = self.0.subscribe();
        let none = counts.wait_for(|counts| !counts.contains_key(repo));
        // Who gives up waiting finds less; the sender lives in `self`.
        let _ = tokio::time::timeout(PATIENCE, none).await;
    }
}

/// One build of a repository is being kept.
#[derive(Debug)]
pub(super) struct Keeping {
    pending: Pending,
    repo: RepoId,
}

impl Drop for Keeping {
    fn drop(&mut self) {
        self.pending.0.send_modify(|counts| {
            if let Some(count) = counts.get_mut(&self.repo) {
                *count -= 1;
                if *count == 0 {
                    counts.remove(&self.repo);
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_build_waits_for_its_own_repository_only() {
        let pending = Pending::default();
        let repo = |name: &str| -> RepoId { name.parse().expect("legal") };
        let (shop, other) = (repo("github/acme/shop"), repo("github/acme/other"));
        let (first, second) = (pending.begin(&shop), pending.begin(&repo("github/Acme/Shop")));
        assert!(pending.settled(&other).now_or_never().is_some());
        drop(first);
        assert!(pending.settled(&shop).now_or_never().is_none());
        let (_, ()) = tokio::join!(pending.settled(&shop), async { drop(second) });
        assert!(pending.settled(&shop).now_or_never().is_some());
    }
}

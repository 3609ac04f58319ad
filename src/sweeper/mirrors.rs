//! Mirrors that are made faster, beside the work of builds.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Sweeper;
use crate::checkout::{self, client};

/// How often all mirrors are looked at: in so long few get many packs, and who fetches into one that has tells.
const ROUND: Duration = Duration::from_secs(5 * 60);
/// How long the packs of one mirror may take; a fetch into it waits meanwhile.
const CONSOLIDATION: Duration = Duration::from_secs(60);

impl Sweeper {
    /// Makes one pack of the many of each crowded mirror, now and then and at once when a build tells of one, until
    /// `stop`. One mirror at a time: nobody waits for it but a fetch into that very one.
    pub async fn keep_mirrors(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            self.consolidate_mirrors().await;
            tokio::select! {
                () = tokio::time::sleep(ROUND) => {}
                () = self.crowded.notified() => {}
                () = stop.cancelled() => {}
            }
        }
    }

    async fn consolidate_mirrors(&self) {
        let mirrors = self.data_dir.join("mirrors");
        let crowded = tokio::task::spawn_blocking(move || checkout::crowded(&mirrors)).await.unwrap_or_default();
        for mirror in crowded {
            match client::consolidate(&self.exe, &mirror, CONSOLIDATION).await {
                // Somebody else is busy with it, and tells when it is still crowded then.
                Ok(0) => {}
                Ok(packs) => tracing::info!(mirror = %mirror.display(), packs, "packs of a mirror became one"),
                Err(error) => tracing::warn!(mirror = %mirror.display(), %error, "a mirror keeps its many packs"),
            }
        }
    }
}

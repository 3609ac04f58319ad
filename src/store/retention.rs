//! What is too old is forgotten.

use std::time::Duration;

use super::{Store, StoreError, deletions, heads, row, scopes, sql};
use crate::domain::build::BuildId;
use crate::domain::time::Timestamp;

/// The most builds of one transaction: a long one would let deliveries wait.
const AT_ONCE: i64 = 200;

/// What was forgotten.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forgotten {
    /// Builds, with their steps and statuses; their logs are the caller's to delete.
    pub builds: Vec<BuildId>,
    /// How many deliveries.
    pub deliveries: u64,
}

impl Store {
    /// Forgets builds that finished before `builds_before` (unless a status of theirs is still to be sent), and
    /// deliveries that were received before `deliveries_before`, and scopes and refs that ended more than 30 days ago. Numbers of builds are never given again.
    pub async fn forget(
        &self,
        builds_before: Timestamp,
        deliveries_before: Timestamp,
    ) -> Result<Forgotten, StoreError> {
        let mut forgotten = Forgotten::default();
        loop {
            let ids = self.forget_builds(builds_before).await?;
            if ids.is_empty() {
                break;
            }
            forgotten.builds.extend(ids.into_iter().map(BuildId));
        }
        self.forget_ended().await?;
        loop {
            let count = self.forget_deliveries(deliveries_before).await?;
            if count == 0 {
                return Ok(forgotten);
            }
            forgotten.deliveries += count;
        }
    }

    async fn forget_builds(&self, before: Timestamp) -> Result<Vec<i64>, StoreError> {
        self.write(false, move |connection| {
            Box::pin(async move {
                Ok(sql::query_scalar(
                    "DELETE FROM builds WHERE id IN (SELECT b.id FROM builds b \
                     WHERE b.finished_at IS NOT NULL AND b.finished_at < $1 AND NOT EXISTS \
                     (SELECT 1 FROM outbox o WHERE o.build_id = b.id AND o.fate = 'due') \
                     ORDER BY b.finished_at LIMIT $2 /*pg: FOR UPDATE SKIP LOCKED */) RETURNING id",
                )
                .bind(before.0)
                .bind(AT_ONCE)
                .fetch_all(connection)
                .await?)
            })
        })
        .await
    }

    async fn forget_ended(&self) -> Result<(), StoreError> {
        let now = self.inner.clock.wall().0;
        let before = |age: Duration| {
            Timestamp(now.saturating_sub(row::stored(u64::try_from(age.as_millis()).unwrap_or(u64::MAX))))
        };
        let (told, remembered) = (before(scopes::TOLD), before(deletions::REMEMBERED));
        self.write(false, move |connection| {
            Box::pin(async move {
                scopes::forget(connection, told).await?;
                heads::forget(connection, told).await?;
                deletions::forget(connection, remembered).await
            })
        })
        .await
    }

    async fn forget_deliveries(&self, before: Timestamp) -> Result<u64, StoreError> {
        self.write(false, move |connection| {
            Box::pin(async move {
                let deleted = sql::query(
                    "DELETE FROM deliveries WHERE id IN \
                     (SELECT id FROM deliveries WHERE received_at < $1 ORDER BY received_at LIMIT $2 \
                     /*pg: FOR UPDATE SKIP LOCKED */)",
                )
                .bind(before.0)
                .bind(AT_ONCE * 10)
                .execute(connection)
                .await?;
                Ok(deleted.rows_affected())
            })
        })
        .await
    }
}

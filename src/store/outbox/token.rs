//! When the forges' tokens end, as far as the forges say so. Dates of people: by the wall clock.

use std::time::Duration;

use crate::domain::repo::ForgeName;
use crate::domain::time::Timestamp;
use crate::store::sql;
use crate::store::{Store, StoreError, row};

/// Between two warnings of the same token.
const A_DAY: Duration = Duration::from_secs(24 * 60 * 60);

impl Store {
    /// When each forge's token ends; forges that did not say are not in it.
    pub async fn token_ends(&self) -> Result<Vec<(ForgeName, Timestamp)>, StoreError> {
        let rows = sql::query("SELECT forge, expires_at FROM forge_tokens ORDER BY forge")
            .fetch_all(&self.inner.readers)
            .await?;
        rows.iter().map(|from| Ok((row::parsed(from, "forge")?, row::time(from, "expires_at")?))).collect()
    }

    /// Keeps what a forge said of its token: `None` when it ends never, or nobody knows.
    pub async fn set_token_end(&self, forge: &ForgeName, ends: Option<Timestamp>) -> Result<(), StoreError> {
        let forge = forge.to_string();
        self.write(false, move |connection| {
            Box::pin(async move {
                let query = match ends {
                    None => sql::query("DELETE FROM forge_tokens WHERE forge = $1").bind(forge),
                    Some(ends) => sql::query(
                        "INSERT INTO forge_tokens (forge, expires_at) VALUES ($1, $2) ON CONFLICT (forge) DO UPDATE \
                         SET expires_at = excluded.expires_at, warned_at = 0 \
                         WHERE excluded.expires_at <> forge_tokens.expires_at",
                    )
                    .bind(forge)
                    .bind(ends.0),
                };
                query.execute(connection).await?;
                Ok(())
            })
        })
        .await
    }

    /// The tokens that end within `ahead` and were not warned of for a day: whoever is told of one must warn, nobody
    /// else will.
    pub async fn tokens_to_warn_of(&self, ahead: Duration) -> Result<Vec<(ForgeName, Timestamp)>, StoreError> {
        let now = self.inner.clock.wall();
        let ending = self.token_ends().await?.into_iter().any(|(_, ends)| ends <= now.plus(ahead));
        if !ending {
            return Ok(Vec::new());
        }
        self.write(false, move |connection| {
            Box::pin(async move {
                let rows = sql::query(
                    "UPDATE forge_tokens SET warned_at = $1 WHERE expires_at <= $2 AND warned_at <= $3 \
                     RETURNING forge, expires_at",
                )
                .bind(now.0)
                .bind(now.plus(ahead).0)
                .bind(now.0.saturating_sub(i64::try_from(A_DAY.as_millis()).unwrap_or(i64::MAX)))
                .fetch_all(connection)
                .await?;
                rows.iter().map(|from| Ok((row::parsed(from, "forge")?, row::time(from, "expires_at")?))).collect()
            })
        })
        .await
    }
}

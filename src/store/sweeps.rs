//! Who looks for what was missed in which repository, and when again.
//!
//! Several processes share one store and would all ask the forge at the same moment. Whoever begins a look has the
//! repository to itself for a while. That saves requests, no more: what two looks find at once is still taken once.

use std::time::Duration;

use super::{Store, StoreError, row, sql};
use crate::domain::repo::{ForgeName, RepoId};
use crate::domain::time::Timestamp;

/// What was looked at before; what was not is looked at for the first time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LookedAt {
    /// Branches.
    pub branches: bool,
    /// Tags.
    pub tags: bool,
    /// Pull requests.
    pub pulls: bool,
}

impl Store {
    /// Takes a repository for a look of at most `lease`; `None` while another process looks, and unless `at_once`, before
    /// it is time again. `holder` is this process's name, which after a crash gets its own look back.
    pub async fn begin_sweep(
        &self,
        repo: &RepoId,
        holder: &str,
        lease: Duration,
        at_once: bool,
    ) -> Result<Option<LookedAt>, StoreError> {
        let (repo, holder, now) = (repo.clone(), holder.to_owned(), self.inner.clock.steady());
        self.write(false, move |connection| {
            Box::pin(async move {
                let due = if at_once { i64::MAX } else { now.0 };
                let begun = sql::query(
                    "INSERT INTO sweeps (forge, repo, next_at, holder, lease_until) VALUES ($1, $2, 0, $3, $4) \
                     ON CONFLICT (forge, repo) DO UPDATE SET holder = excluded.holder, \
                     lease_until = excluded.lease_until WHERE sweeps.next_at <= $5 \
                     AND (sweeps.lease_until <= $6 OR sweeps.holder = excluded.holder) \
                     RETURNING branches_at, tags_at, pulls_at",
                )
                .bind(repo.forge.as_str())
                .bind(repo.path.folded())
                .bind(holder)
                .bind(now.plus(lease).0)
                .bind(due)
                .bind(now.0)
                .fetch_optional(connection)
                .await?;
                let Some(from) = begun else { return Ok(None) };
                Ok(Some(LookedAt {
                    branches: row::time_if(&from, "branches_at")?.is_some(),
                    tags: row::time_if(&from, "tags_at")?.is_some(),
                    pulls: row::time_if(&from, "pulls_at")?.is_some(),
                }))
            })
        })
        .await
    }

    /// Gives a repository back after a look: what has been looked at by now, and how long it rests.
    pub async fn end_sweep(
        &self,
        repo: &RepoId,
        holder: &str,
        looked_at: LookedAt,
        rest: Duration,
    ) -> Result<(), StoreError> {
        let (repo, holder) = (repo.clone(), holder.to_owned());
        let (at, next) = (self.inner.clock.wall(), self.inner.clock.steady().plus(rest));
        self.write(false, move |connection| {
            Box::pin(async move {
                sql::query(
                    "UPDATE sweeps SET branches_at = $1, tags_at = $2, pulls_at = $3, next_at = $4, lease_until = 0 \
                     WHERE forge = $5 AND repo = $6 AND holder = $7",
                )
                .bind(looked_at.branches.then_some(at.0))
                .bind(looked_at.tags.then_some(at.0))
                .bind(looked_at.pulls.then_some(at.0))
                .bind(next.0)
                .bind(repo.forge.as_str())
                .bind(repo.path.folded())
                .bind(holder)
                .execute(connection)
                .await?;
                Ok(())
            })
        })
        .await
    }

    /// How long a forge's API is still to be left alone, by its own word.
    pub async fn pause_of(&self, forge: &ForgeName) -> Result<Option<Duration>, StoreError> {
        let now = self.inner.clock.steady();
        let until = sql::query("SELECT until FROM pauses WHERE forge = $1 AND until > $2")
            .bind(forge.as_str())
            .bind(now.0)
            .fetch_optional(&self.inner.readers)
            .await?;
        until.map(|from| Ok(Timestamp(from.try_get("until")?).since(now))).transpose()
    }
}

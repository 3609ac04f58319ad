//! Scopes that ended: a pull request was closed, a branch was deleted.
//!
//! What was kept for them is on the agents' disks. Each agent asks here and removes it; the row is written in the
//! transaction that takes the delivery, so no crash loses it.

use std::time::Duration;

use super::sql::{self, Connection, Row};
use super::{Store, StoreError, row};
use crate::domain::build::BuildId;
use crate::domain::snapshot::Scope;
use crate::domain::time::Timestamp;

/// How long a dropped scope is told. An agent that was away for longer forgets what is unused by its age.
pub(super) const TOLD: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// A scope that ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DroppedScope {
    /// Whose snapshots go.
    pub scope: Scope,
    /// Those of builds up to this one. A later build's stay: the branch was pushed again, the pull request reopened.
    pub last_build: BuildId,
    /// When the delivery that ended it was received.
    pub at: Timestamp,
}

impl Store {
    /// The scopes that ended at `since` or later, in the order in which their ends were taken. Deliveries may be taken a
    /// little after the time that they bear: ask again for the last minutes, removing what is gone harms nothing.
    pub async fn dropped_scopes(&self, since: Timestamp) -> Result<Vec<DroppedScope>, StoreError> {
        let rows = sql::query("SELECT * FROM dropped_scopes WHERE at >= $1 ORDER BY id")
            .bind(since.0)
            .fetch_all(&self.inner.readers)
            .await?;
        rows.iter().map(dropped_scope).collect()
    }

    /// Whether the scope of a build ended since the build was made, so that it may leave nothing. A repetition counts as
    /// the build that it repeats: it brings no pull request back.
    pub async fn is_dropped(&self, scope: &Scope, build: BuildId) -> Result<bool, StoreError> {
        let dropped = sql::query_scalar(
            "WITH RECURSIVE repeated (id, rerun_of) AS (SELECT id, rerun_of FROM builds WHERE id = $1 \
             UNION ALL SELECT b.id, b.rerun_of FROM builds b JOIN repeated r ON b.id = r.rerun_of) \
             SELECT EXISTS (SELECT 1 FROM dropped_scopes WHERE forge = $2 AND repo = $3 AND git_ref = $4 AND trust = $5 \
             AND last_build >= coalesce((SELECT min(id) FROM repeated), $1))",
        )
        .bind(build.0)
        .bind(scope.repo.forge.to_string())
        .bind(scope.repo.path.folded())
        .bind(scope.git_ref.to_string())
        .bind(scope.trust.as_str());
        Ok(dropped.fetch_one(&self.inner.readers).await?)
    }
}

/// Writes down that scopes ended, each with the time at which that was heard.
pub(super) async fn drop(connection: &mut Connection, scopes: &[(&Scope, Timestamp)]) -> Result<(), StoreError> {
    for (scope, at) in scopes {
        sql::query(
            "INSERT INTO dropped_scopes (forge, repo, repo_shown, trust, git_ref, at, last_build) \
             SELECT $1, $2, $3, $4, $5, $6, value FROM counters WHERE name = 'build'",
        )
        .bind(scope.repo.forge.to_string())
        .bind(scope.repo.path.folded())
        .bind(scope.repo.path.to_string())
        .bind(scope.trust.as_str())
        .bind(scope.git_ref.to_string())
        .bind(at.0)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

/// Forgets the scopes that ended before `before`.
pub(super) async fn forget(connection: &mut Connection, before: Timestamp) -> Result<(), StoreError> {
    sql::query("DELETE FROM dropped_scopes WHERE at < $1").bind(before.0).execute(connection).await?;
    Ok(())
}

fn dropped_scope(from: &Row) -> Result<DroppedScope, StoreError> {
    let scope =
        Scope { repo: row::repo(from)?, trust: row::parsed(from, "trust")?, git_ref: row::parsed(from, "git_ref")? };
    Ok(DroppedScope { scope, last_build: BuildId(from.try_get("last_build")?), at: row::time(from, "at")? })
}

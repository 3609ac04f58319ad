//! How the outbox stands, for people.

use std::time::Duration;

use super::{OutboxItem, item};
use crate::domain::build::BuildId;
use crate::domain::repo::{CommitId, ForgeName, RepoId};
use crate::domain::status::{Status, StatusState};
use crate::domain::time::Timestamp;
use crate::store::sql::{self, Row};
use crate::store::{Store, StoreError, row};

/// How the outbox stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutboxHealth {
    /// Statuses that are still to be sent.
    pub unsent: u64,
    /// Of these, those that failed at least once.
    pub failing: u64,
    /// Statuses that were given up and are still kept.
    pub dead: u64,
    /// How long ago the oldest unsent one was written.
    pub oldest: Option<Duration>,
    /// What the last failing attempt was told.
    pub last_error: Option<String>,
    /// Forges that are left alone, with the time that is left and why.
    pub paused: Vec<(ForgeName, Duration, String)>,
    /// When forges' tokens end, where they say so.
    pub tokens: Vec<(ForgeName, Timestamp)>,
}

/// A status that was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undelivered {
    /// The build that it belongs to.
    pub build: BuildId,
    /// The repository.
    pub repo: RepoId,
    /// The commit.
    pub sha: CommitId,
    /// What was to be said.
    pub status: Status,
    /// How often it was tried.
    pub attempts: u32,
    /// The forge's last answer.
    pub last_error: String,
    /// When it was written.
    pub at: Timestamp,
}

/// What a forge was told of a build, in one context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The newest status.
    pub status: Status,
    /// `due`, `sent`, `dropped` (a newer build owns the commit) or `dead`.
    pub fate: String,
    /// How often it was tried.
    pub attempts: u32,
    /// What went wrong the last time that something did.
    pub last_error: Option<String>,
    /// When the forge took it.
    pub sent_at: Option<Timestamp>,
}

impl Store {
    /// The statuses that are due, oldest first, whoever sends them.
    pub async fn due(&self, limit: u32) -> Result<Vec<OutboxItem>, StoreError> {
        let now = self.inner.clock.steady();
        let rows = sql::query(
            "SELECT o.id, o.build_id, o.forge, b.repo_shown, o.sha, o.context, o.state, o.sentence, o.attempts, \
             o.created_at FROM outbox o JOIN builds b ON b.id = o.build_id \
             WHERE o.fate = 'due' AND o.next_attempt <= $1 \
             AND o.forge NOT IN (SELECT forge FROM pauses WHERE until > $1) ORDER BY o.id LIMIT $2",
        )
        .bind(now.0)
        .bind(i64::from(limit))
        .fetch_all(&self.inner.readers)
        .await?;
        rows.iter().map(|from| item(from, now)).collect()
    }

    /// What was given up, the newest first.
    pub async fn undelivered(&self, limit: u32) -> Result<Vec<Undelivered>, StoreError> {
        let rows = sql::query(
            "SELECT o.build_id, o.forge, b.repo_shown, o.sha, o.context, o.state, o.sentence, o.attempts, \
             o.last_error, o.created_at FROM outbox o JOIN builds b ON b.id = o.build_id \
             WHERE o.fate = 'dead' ORDER BY o.id DESC LIMIT $1",
        )
        .bind(i64::from(limit))
        .fetch_all(&self.inner.readers)
        .await?;
        let read = |from: &Row| {
            Ok(Undelivered {
                build: BuildId(from.try_get("build_id")?),
                repo: row::repo(from)?,
                sha: row::parsed(from, "sha")?,
                status: status(from)?,
                attempts: row::number(from, "attempts")?,
                last_error: from.try_get::<Option<String>, _>("last_error")?.unwrap_or_default(),
                at: row::time(from, "created_at")?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// What the forge was told of a build: the newest status of each context.
    pub async fn told(&self, build: BuildId) -> Result<Vec<Told>, StoreError> {
        let rows = sql::query(
            "SELECT context, state, sentence, fate, attempts, last_error, sent_at FROM outbox \
             WHERE id IN (SELECT max(id) FROM outbox WHERE build_id = $1 GROUP BY context) ORDER BY id",
        )
        .bind(build.0)
        .fetch_all(&self.inner.readers)
        .await?;
        let read = |from: &Row| {
            Ok(Told {
                status: status(from)?,
                fate: from.try_get("fate")?,
                attempts: row::number(from, "attempts")?,
                last_error: from.try_get("last_error")?,
                sent_at: row::time_if(from, "sent_at")?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// How the outbox stands.
    pub async fn outbox_health(&self) -> Result<OutboxHealth, StoreError> {
        let now = self.inner.clock.steady();
        let readers = &self.inner.readers;
        let unsent = sql::query(
            "SELECT count(*) AS unsent, \
             CAST(coalesce(sum(CASE WHEN attempts > 0 THEN 1 ELSE 0 END), 0) AS BIGINT) AS failing, \
             min(created_at) AS oldest FROM outbox WHERE fate = 'due'",
        )
        .fetch_one(readers)
        .await?;
        let dead = sql::query("SELECT count(*) AS dead FROM outbox WHERE fate = 'dead'").fetch_one(readers).await?;
        let last_error = sql::query_scalar(
            "SELECT last_error FROM outbox WHERE fate = 'due' AND last_error IS NOT NULL ORDER BY id DESC LIMIT 1",
        )
        .fetch_optional(readers)
        .await?;
        let pauses = sql::query("SELECT forge, until, reason FROM pauses WHERE until > $1 ORDER BY forge")
            .bind(now.0)
            .fetch_all(readers)
            .await?;
        let mut paused = Vec::with_capacity(pauses.len());
        for from in &pauses {
            paused.push((row::parsed(from, "forge")?, row::time(from, "until")?.since(now), from.try_get("reason")?));
        }
        Ok(OutboxHealth {
            unsent: row::number(&unsent, "unsent")?,
            failing: row::number(&unsent, "failing")?,
            dead: row::number(&dead, "dead")?,
            oldest: row::time_if(&unsent, "oldest")?.map(|oldest| now.since(oldest)),
            last_error,
            paused,
            tokens: self.token_ends().await?,
        })
    }
}

fn status(from: &Row) -> Result<Status, StoreError> {
    Ok(Status {
        context: from.try_get("context")?,
        state: row::parsed::<StatusState>(from, "state")?,
        sentence: from.try_get("sentence")?,
    })
}

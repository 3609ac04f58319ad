//! Statuses on their way to the forges.
//!
//! A status is written in the transaction of the move that causes it, and stays until it is sent or given up. For
//! each commit and context there is at most one unsent row: a newer status takes the place of an unsent older one.
//! Who may speak for a commit is decided in [`crate::domain::outbox`].

use std::time::Duration;

use super::builds::Numbered;
use super::news::Topic;
use super::sql::{self, Connection, MAX_ROWS, QueryBuilder, Row};
use super::{Store, StoreError, row};
use crate::domain::build::BuildId;
use crate::domain::outbox::{Fate, needs_final_word};
use crate::domain::repo::{CommitId, ForgeName, RepoId};
use crate::domain::status::{Status, StatusState};
use crate::domain::time::Timestamp;

/// A status that is to be sent now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboxItem {
    /// The row's number: rising in the order of writing.
    pub id: i64,
    /// The build that it belongs to.
    pub build: BuildId,
    /// The repository.
    pub repo: RepoId,
    /// The commit.
    pub sha: CommitId,
    /// What is to be said.
    pub status: Status,
    /// How often it was tried.
    pub attempts: u32,
    /// How long ago it was written.
    pub age: Duration,
}

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
    /// Forges that asked to be left alone, with the time that is left and why.
    pub paused: Vec<(ForgeName, Duration, String)>,
}

pub(super) const DUE: &str = "SELECT o.id, o.build_id, o.forge, b.repo_shown, o.sha, o.context, o.state, o.sentence, \
                   o.attempts, o.created_at FROM outbox o JOIN builds b ON b.id = o.build_id \
                   WHERE o.fate = 'due' AND o.next_attempt <= $1 \
                   AND o.forge NOT IN (SELECT forge FROM pauses WHERE until > $1) ORDER BY o.id LIMIT $2";

pub(super) const NEWEST_SPOKE: &str = "SELECT max(build_id) FROM outbox \
                            WHERE forge = $1 AND repo = $2 AND sha = $3 AND context = $4";

impl Store {
    /// The statuses that are due, oldest first: at most one for each commit and context, none for a paused forge.
    /// Who sends must not begin a second one of a commit and context while the first is under way.
    pub async fn due(&self, limit: u32) -> Result<Vec<OutboxItem>, StoreError> {
        let now = self.inner.clock.steady();
        let rows = sql::query(DUE).bind(now.0).bind(i64::from(limit)).fetch_all(&self.inner.readers).await?;
        rows.iter().map(|from| item(from, now)).collect()
    }

    /// The forge took it.
    pub async fn sent(&self, id: i64) -> Result<(), StoreError> {
        let now = self.inner.clock.wall();
        self.write(false, move |connection| {
            Box::pin(async move {
                sql::query("UPDATE outbox SET fate = 'sent', sent_at = $1, attempts = attempts + 1 WHERE id = $2")
                    .bind(now.0)
                    .bind(id)
                    .execute(connection)
                    .await?;
                Ok(())
            })
        })
        .await
    }

    /// It failed with `error`, and is due again after `wait`.
    pub async fn postpone(&self, id: i64, wait: Duration, error: &str) -> Result<(), StoreError> {
        let (due, error) = (self.inner.clock.steady().plus(wait), error.to_owned());
        self.write(false, move |connection| {
            Box::pin(async move {
                sql::query(
                    "UPDATE outbox SET next_attempt = $1, last_error = $2, attempts = attempts + 1 \
                     WHERE id = $3 AND fate = 'due'",
                )
                .bind(due.0)
                .bind(error)
                .bind(id)
                .execute(connection)
                .await?;
                Ok(())
            })
        })
        .await
    }

    /// It is given up for good, because of `error`.
    pub async fn dead(&self, id: i64, error: &str) -> Result<(), StoreError> {
        let error = error.to_owned();
        self.write(false, move |connection| {
            Box::pin(async move {
                sql::query(
                    "UPDATE outbox SET fate = 'dead', last_error = $1, attempts = attempts + 1 \
                     WHERE id = $2 AND fate = 'due'",
                )
                .bind(error)
                .bind(id)
                .execute(connection)
                .await?;
                Ok(())
            })
        })
        .await
    }

    /// Leaves a forge alone for `wait`, also across a restart; a shorter wait does not shorten a longer one.
    pub async fn pause_forge(&self, forge: &ForgeName, wait: Duration, reason: &str) -> Result<(), StoreError> {
        let (forge, until, reason) = (forge.to_string(), self.inner.clock.steady().plus(wait), reason.to_owned());
        self.write(false, move |connection| {
            Box::pin(async move {
                sql::query(
                    "INSERT INTO pauses (forge, until, reason) VALUES ($1, $2, $3) ON CONFLICT (forge) DO UPDATE \
                     SET until = excluded.until, reason = excluded.reason WHERE excluded.until > pauses.until",
                )
                .bind(forge)
                .bind(until.0)
                .bind(reason)
                .execute(connection)
                .await?;
                Ok(())
            })
        })
        .await
    }

    /// Ends a forge's pause: somebody mended what was wrong.
    pub async fn resume_forge(&self, forge: &ForgeName) -> Result<(), StoreError> {
        let forge = forge.to_string();
        self.write(false, move |connection| {
            Box::pin(async move {
                sql::query("DELETE FROM pauses WHERE forge = $1").bind(forge).execute(&mut *connection).await?;
                connection.tell(Topic::Outbox);
                Ok(())
            })
        })
        .await
    }

    /// How the outbox stands.
    pub async fn outbox_health(&self) -> Result<OutboxHealth, StoreError> {
        let now = self.inner.clock.steady();
        let readers = &self.inner.readers;
        let unsent = sql::query(
            "SELECT count(*) AS unsent, CAST(coalesce(sum(CASE WHEN attempts > 0 THEN 1 ELSE 0 END), 0) AS BIGINT) \
             AS failing, min(created_at) AS oldest FROM outbox WHERE fate = 'due'",
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
        })
    }
}

fn item(from: &Row, now: Timestamp) -> Result<OutboxItem, StoreError> {
    Ok(OutboxItem {
        id: from.try_get("id")?,
        build: BuildId(from.try_get("build_id")?),
        repo: row::repo(from)?,
        sha: row::parsed(from, "sha")?,
        status: Status {
            context: from.try_get("context")?,
            state: row::parsed(from, "state")?,
            sentence: from.try_get("sentence")?,
        },
        attempts: row::number(from, "attempts")?,
        age: now.since(row::time(from, "created_at")?),
    })
}

/// The commit that a build's statuses speak of, as stored.
#[derive(Debug, Clone)]
pub(super) struct Speaker {
    pub(super) build: BuildId,
    forge: String,
    repo: String,
    sha: String,
    /// The context of the build's own status.
    context: String,
}

/// The columns that [`Speaker::from_row`] reads.
macro_rules! speaker_columns {
    () => {
        "id, forge, repo, sha, context"
    };
}
pub(super) use speaker_columns;

impl Speaker {
    /// From a row with [`speaker_columns`].
    pub(super) fn from_row(from: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            build: BuildId(from.try_get("id")?),
            forge: from.try_get("forge")?,
            repo: from.try_get("repo")?,
            sha: from.try_get("sha")?,
            context: from.try_get("context")?,
        })
    }

    /// Writes one status.
    pub(super) async fn say(
        &self,
        connection: &mut Connection,
        status: &Status,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let newest: Option<i64> = sql::query_scalar(NEWEST_SPOKE)
            .bind(&self.forge)
            .bind(&self.repo)
            .bind(&self.sha)
            .bind(&status.context)
            .fetch_one(&mut *connection)
            .await?;
        let fate = Fate::of_word(self.build, newest.map(BuildId));
        if fate == Fate::Due {
            sql::query(
                "DELETE FROM outbox WHERE forge = $1 AND repo = $2 AND sha = $3 AND context = $4 AND fate = 'due'",
            )
            .bind(&self.forge)
            .bind(&self.repo)
            .bind(&self.sha)
            .bind(&status.context)
            .execute(&mut *connection)
            .await?;
        }
        sql::query(
            "INSERT INTO outbox (build_id, forge, repo, sha, context, state, sentence, fate, created_at, next_attempt) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9)",
        )
        .bind(self.build.0)
        .bind(&self.forge)
        .bind(&self.repo)
        .bind(&self.sha)
        .bind(&status.context)
        .bind(status.state.as_str())
        .bind(&status.sentence)
        .bind(fate.as_str())
        .bind(now.0)
        .execute(&mut *connection)
        .await?;
        connection.tell(Topic::Outbox);
        Ok(())
    }

    /// Writes the build's own status, in its own context.
    pub(super) async fn say_own(
        &self,
        connection: &mut Connection,
        state: StatusState,
        sentence: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let status = Status { context: self.context.clone(), state, sentence: sentence.to_owned() };
        self.say(connection, &status, now).await
    }

    /// Gives every context that the build left pending its final word.
    pub(super) async fn settle(
        &self,
        connection: &mut Connection,
        state: StatusState,
        sentence: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let last = sql::query(
            "SELECT context, state FROM outbox \
             WHERE id IN (SELECT max(id) FROM outbox WHERE build_id = $1 GROUP BY context) ORDER BY id",
        )
        .bind(self.build.0)
        .fetch_all(&mut *connection)
        .await?;
        for from in &last {
            if needs_final_word(row::parsed(from, "state")?) {
                let status = Status { context: from.try_get("context")?, state, sentence: sentence.to_owned() };
                self.say(connection, &status, now).await?;
            }
        }
        Ok(())
    }
}

pub(super) const REPLACE: &str = ") DELETE FROM outbox WHERE id IN (SELECT o.id FROM said CROSS JOIN outbox o \
                       WHERE o.sha = said.sha AND o.forge = said.forge AND o.repo = said.repo \
                       AND o.context = said.context AND o.fate = 'due')";

/// Writes the first statuses of new builds, many in one statement. Their builds are the newest of all, so nothing is
/// ever dropped; no two of them may share commit and context.
pub(super) async fn insert_first(
    connection: &mut Connection,
    new: &[Numbered<'_>],
    now: Timestamp,
) -> Result<(), StoreError> {
    for chunk in new.chunks(MAX_ROWS) {
        let mut replace = QueryBuilder::new("WITH said (forge, repo, sha, context) AS (");
        replace.push_values(chunk, |mut values, new| {
            let (repo, status) = (&new.build.repo, &new.build.status);
            values.push_bind(repo.forge.to_string()).push_bind(repo.path.folded());
            values.push_bind(new.build.sha.to_string()).push_bind(status.context.clone());
        });
        replace.push(REPLACE).build().execute(&mut *connection).await?;

        let mut insert = QueryBuilder::new(
            "INSERT INTO outbox \
             (build_id, forge, repo, sha, context, state, sentence, fate, created_at, next_attempt) ",
        );
        insert.push_values(chunk, |mut values, new| {
            let (repo, status) = (&new.build.repo, &new.build.status);
            values.push_bind(new.id.0).push_bind(repo.forge.to_string()).push_bind(repo.path.folded());
            values.push_bind(new.build.sha.to_string()).push_bind(status.context.clone());
            values.push_bind(status.state.as_str()).push_bind(status.sentence.clone()).push_bind("due");
            values.push_bind(now.0).push_bind(now.0);
        });
        insert.build().execute(&mut *connection).await?;
        connection.tell(Topic::Outbox);
    }
    Ok(())
}

//! Statuses on their way to the forges.
//!
//! A status is written in the transaction of the move that causes it, and stays until it is sent or given up. For
//! each commit and context (its *key*) there is at most one unsent row, and beside it at most one whose request is under
//! way: a newer status takes the place of an unsent older one, and waits for one that is being sent.
//! Who may speak for a commit is decided in [`crate::domain::outbox`].
//!
//! `taking` hands rows to senders, `settling` writes what became of them, `account` tells how all of it stands.

mod account;
mod settling;
mod taking;
mod token;

use std::time::Duration;

use super::builds::Numbered;
use super::news::Topic;
use super::sql::{self, Connection, MAX_ROWS, QueryBuilder, Row};
use super::{StoreError, row};
use crate::domain::build::BuildId;
use crate::domain::outbox::{Fate, needs_final_word};
use crate::domain::repo::{CommitId, RepoId};
use crate::domain::status::{Status, StatusState};
use crate::domain::time::Timestamp;

pub use account::{OutboxHealth, Told, Undelivered};
pub use settling::{ForgeNews, RowNews, Settled};
#[cfg(test)]
pub(super) use taking::{DUE_FORGES, NEXT};
pub use taking::{HostBudget, Taken};

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
    /// How long ago it was written, or last asked for by a person.
    pub age: Duration,
    /// Until when an earlier request for it may still be heard: one that nobody answered.
    pub unclear_until: Option<Timestamp>,
}

pub(super) const NEWEST_SPOKE: &str = "SELECT max(build_id) FROM outbox \
                            WHERE forge = $1 AND repo = $2 AND sha = $3 AND context = $4";

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
        unclear_until: None,
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

    /// Writes one status. An older one whose request is under way stays until that has ended: what became of it is
    /// not known yet.
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
                "DELETE FROM outbox WHERE forge = $1 AND repo = $2 AND sha = $3 AND context = $4 AND fate = 'due' \
                 AND coalesce(taken_until, 0) <= $5",
            )
            .bind(&self.forge)
            .bind(&self.repo)
            .bind(&self.sha)
            .bind(&status.context)
            .bind(now.0)
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
                       AND o.context = said.context AND o.fate = 'due' \
                       AND coalesce(o.taken_until, 0) <= ";

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
        replace.push(REPLACE).push_bind(now.0).push(")").build().execute(&mut *connection).await?;

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

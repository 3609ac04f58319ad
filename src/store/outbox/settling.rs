//! What became of a request, written in one transaction: for its row, for its key, and for the whole forge.

use std::time::Duration;

use super::OutboxItem;
use crate::domain::audit::{Act, Actor};
use crate::domain::build::BuildId;
use crate::domain::repo::ForgeName;
use crate::domain::time::Timestamp;
use crate::store::clock::Now;
use crate::store::sql::{self, Connection};
use crate::store::{Store, StoreError, audit};

/// What follows for the row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowNews {
    /// The forge took it.
    Sent,
    /// It is due again after so long.
    Later(Duration),
    /// Nobody answered, so nobody knows what became of it.
    Unanswered {
        /// It is due again after so long.
        again: Duration,
        /// For so long the forge may still act on it: no newer word of its key is sent before, which the old one would
        /// then replace.
        lingers: Duration,
    },
    /// It is given up.
    Dead,
    /// It was not tried at all: anybody may.
    Back,
}

/// What follows for the forge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ForgeNews {
    /// It answers and takes our token: whatever waits only out of caution is due now.
    Answers,
    /// Nothing.
    Nothing,
    /// It asked to be left alone for so long, which nothing shortens.
    Asked(Duration),
    /// It is left alone for so long out of caution.
    Careful(Duration),
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settled {
    /// For the row.
    pub row: RowNews,
    /// For the forge.
    pub forge: ForgeNews,
    /// What went wrong, for the operator; empty when nothing did.
    pub why: String,
    /// Rows of the forge that are older than this are given up, when the row was not accepted.
    pub give_up: Duration,
}

/// Makes what was given up due again, as if it were new; answers with the forges.
macro_rules! revive {
    ($column:literal) => {
        concat!(
            "UPDATE outbox SET fate = 'due', next_attempt = $2, created_at = $2, attempts = 0, taken_by = NULL, \
             taken_until = NULL WHERE ",
            $column,
            " = $1 AND fate = 'dead' RETURNING forge"
        )
    };
}

impl Store {
    /// Writes what became of a status that `sender` took. An older one that failed is not tried again once a newer one
    /// of its key is there. When the lease was over by then, a newer one may have been heard before it: that one is
    /// said once more, so that the newest is the last that the forge hears.
    pub async fn settle(&self, sender: &str, item: &OutboxItem, settled: Settled) -> Result<(), StoreError> {
        let (sender, item, clock) = (sender.to_owned(), item.clone(), self.inner.clock.clone());
        self.write(false, move |connection| {
            Box::pin(async move {
                let now = clock.now();
                let settling = Settling { sender, item, now };
                settling.row(connection, &settled).await?;
                settling.forge(connection, &settled).await
            })
        })
        .await
    }

    /// Leaves a forge alone for `wait` by its own word, also across a restart; a shorter wait does not shorten a longer
    /// one.
    pub async fn pause_forge(&self, forge: &ForgeName, wait: Duration, reason: &str) -> Result<(), StoreError> {
        let (forge, reason, clock) = (forge.to_string(), reason.to_owned(), self.inner.clock.clone());
        self.write(true, move |connection| {
            Box::pin(async move {
                let until = clock.steady().plus(wait);
                pause(connection, &forge, until, Some(until), &reason).await
            })
        })
        .await
    }

    /// Ends a forge's pause as far as it is our caution: somebody mended what was wrong. What the forge itself asked
    /// for stays.
    pub async fn resume_forge(&self, forge: &ForgeName) -> Result<(), StoreError> {
        let (forge, clock) = (forge.to_string(), self.inner.clock.clone());
        self.write(true, move |connection| {
            Box::pin(async move {
                let now = clock.steady();
                if !forgive(connection, &forge, now).await? {
                    sql::query("UPDATE pauses SET until = asked_until WHERE forge = $1")
                        .bind(&forge)
                        .execute(connection)
                        .await?;
                }
                Ok(())
            })
        })
        .await
    }

    /// Sends again what was given up of a build, in the name of `by`; says how many statuses that are.
    pub async fn resend(&self, build: BuildId, by: &Actor) -> Result<u64, StoreError> {
        let (by, clock) = (by.clone(), self.inner.clock.clone());
        self.write(true, move |connection| {
            Box::pin(async move {
                let now = clock.now();
                let query = sql::query_scalar(revive!("build_id")).bind(build.0).bind(now.steady.0);
                let forges: Vec<String> = query.fetch_all(&mut *connection).await?;
                let statuses = forges.len() as u64;
                if let Some(forge) = forges.first() {
                    forgive(connection, forge, now.steady).await?;
                    audit::write_of_build(connection, build, &by, &Act::Resent { statuses }, now).await?;
                }
                Ok(statuses)
            })
        })
        .await
    }

    /// Sends again what a forge was never told; says how many statuses that are.
    pub async fn resend_all(&self, forge: &ForgeName) -> Result<u64, StoreError> {
        let (forge, clock) = (forge.to_string(), self.inner.clock.clone());
        self.write(true, move |connection| {
            Box::pin(async move {
                let now = clock.steady();
                let query = sql::query_scalar(revive!("forge")).bind(&forge).bind(now.0);
                let forges: Vec<String> = query.fetch_all(&mut *connection).await?;
                forgive(connection, &forge, now).await?;
                Ok(forges.len() as u64)
            })
        })
        .await
    }
}

struct Settling {
    sender: String,
    item: OutboxItem,
    now: Now,
}

impl Settling {
    async fn row(&self, connection: &mut Connection, settled: &Settled) -> Result<(), StoreError> {
        let (fate, tried, due) = match settled.row {
            RowNews::Sent => ("sent", 1, self.now.steady),
            RowNews::Later(wait) | RowNews::Unanswered { again: wait, .. } => ("due", 1, self.now.steady.plus(wait)),
            RowNews::Dead => ("dead", 1, self.now.steady),
            RowNews::Back => ("due", 0, self.now.steady),
        };
        let sent_at = (settled.row == RowNews::Sent).then_some(self.now.wall.0);
        let ours: Option<Option<i64>> = sql::query_scalar(
            "UPDATE outbox SET fate = $1, attempts = attempts + $2, next_attempt = $3, sent_at = $4, \
             last_error = CASE WHEN $5 = '' THEN last_error ELSE $5 END, taken_by = NULL \
             WHERE id = $6 AND fate = 'due' AND taken_by = $7 RETURNING taken_until",
        )
        .bind(fate)
        .bind(i64::from(tried))
        .bind(due.0)
        .bind(sent_at)
        .bind(&settled.why)
        .bind(self.item.id)
        .bind(&self.sender)
        .fetch_optional(&mut *connection)
        .await?;
        if ours.is_some() {
            sql::query("UPDATE outbox SET taken_until = $2 WHERE id = $1")
                .bind(self.item.id)
                .bind(self.heard_until(&settled.row).map(|until| until.0))
                .execute(&mut *connection)
                .await?;
        }
        let in_time = ours.flatten().is_some_and(|until| until > self.now.steady.0);
        match settled.row {
            RowNews::Sent | RowNews::Dead => self.drop_older(connection).await?,
            RowNews::Later(_) | RowNews::Unanswered { .. } => self.drop_if_replaced(connection).await?,
            RowNews::Back => {}
        }
        let was_tried = matches!(settled.row, RowNews::Sent | RowNews::Later(_) | RowNews::Unanswered { .. });
        if !in_time && was_tried {
            self.repeat_newest(connection).await?;
        }
        Ok(())
    }

    /// Until when this request, or an earlier one for the same row, may still be heard.
    fn heard_until(&self, news: &RowNews) -> Option<Timestamp> {
        let this = match *news {
            RowNews::Unanswered { lingers, .. } => Some(self.now.steady.plus(lingers)),
            _ => None,
        };
        this.max(self.item.unclear_until).filter(|until| *until > self.now.steady)
    }

    /// What is older of the same key has nothing to say any more.
    async fn drop_older(&self, connection: &mut Connection) -> Result<(), StoreError> {
        let statement = "UPDATE outbox SET fate = 'dropped' WHERE sha = $1 AND forge = $2 AND repo = $3 \
                         AND context = $4 AND id < $5 AND (fate = 'dead' OR (fate = 'due' AND coalesce(taken_until, 0) <= $6))";
        self.of_key(connection, statement).await
    }

    /// What failed is not tried again once there is a newer word.
    async fn drop_if_replaced(&self, connection: &mut Connection) -> Result<(), StoreError> {
        let statement = "UPDATE outbox SET fate = 'dropped' WHERE id = $5 AND fate = 'due' \
                         AND (taken_by IS NULL OR coalesce(taken_until, 0) <= $6) \
                         AND EXISTS (SELECT 1 FROM outbox n WHERE n.sha = $1 AND n.forge = $2 AND n.repo = $3 \
                         AND n.context = $4 AND n.id > $5 AND n.fate <> 'dropped')";
        self.of_key(connection, statement).await
    }

    /// A newer word may have been heard before this one: it is said once more.
    async fn repeat_newest(&self, connection: &mut Connection) -> Result<(), StoreError> {
        let statement = "UPDATE outbox SET fate = 'due', next_attempt = $6 WHERE fate = 'sent' AND id = \
                         (SELECT max(n.id) FROM outbox n WHERE n.sha = $1 AND n.forge = $2 AND n.repo = $3 \
                         AND n.context = $4 AND n.id > $5 AND n.fate <> 'dropped')";
        self.of_key(connection, statement).await
    }

    async fn of_key(&self, connection: &mut Connection, statement: &'static str) -> Result<(), StoreError> {
        sql::query(statement)
            .bind(self.item.sha.as_str())
            .bind(self.item.repo.forge.as_str())
            .bind(self.item.repo.path.folded())
            .bind(&self.item.status.context)
            .bind(self.item.id)
            .bind(self.now.steady.0)
            .execute(connection)
            .await?;
        Ok(())
    }

    async fn forge(&self, connection: &mut Connection, settled: &Settled) -> Result<(), StoreError> {
        let (forge, now) = (self.item.repo.forge.as_str(), self.now.steady);
        match settled.forge {
            ForgeNews::Nothing => {}
            ForgeNews::Answers => {
                forgive(connection, forge, now).await?;
            }
            ForgeNews::Asked(wait) => {
                let until = now.plus(wait);
                pause(connection, forge, until, Some(until), &settled.why).await?;
            }
            ForgeNews::Careful(wait) => pause(connection, forge, now.plus(wait), None, &settled.why).await?,
        }
        if matches!(settled.row, RowNews::Later(_) | RowNews::Unanswered { .. }) {
            self.give_up_old(connection, settled).await?;
        }
        Ok(())
    }

    /// Nobody looks at so old a commit any more.
    async fn give_up_old(&self, connection: &mut Connection, settled: &Settled) -> Result<(), StoreError> {
        let long_ago = self.now.steady.0.saturating_sub(i64::try_from(settled.give_up.as_millis()).unwrap_or(i64::MAX));
        sql::query(
            "UPDATE outbox SET fate = 'dead', last_error = $1 WHERE forge = $2 AND fate = 'due' AND created_at < $3 \
             AND coalesce(taken_until, 0) <= $4",
        )
        .bind(format!("given up: the forge did not take it in time; last: {}", settled.why))
        .bind(self.item.repo.forge.as_str())
        .bind(long_ago)
        .bind(self.now.steady.0)
        .execute(connection)
        .await?;
        Ok(())
    }
}

/// Ends a pause that the forge did not ask for, and makes due what waits out of caution; false when there is none.
async fn forgive(connection: &mut Connection, forge: &str, now: Timestamp) -> Result<bool, StoreError> {
    let ended = sql::query("DELETE FROM pauses WHERE forge = $1 AND asked_until <= $2")
        .bind(forge)
        .bind(now.0)
        .execute(&mut *connection)
        .await?;
    if ended.rows_affected() == 0 {
        return Ok(false);
    }
    sql::query("UPDATE outbox SET next_attempt = $1 WHERE forge = $2 AND fate = 'due' AND next_attempt > $1")
        .bind(now.0)
        .bind(forge)
        .execute(connection)
        .await?;
    Ok(true)
}

/// `asked_until`: how long the forge itself asked for, if it did.
async fn pause(
    connection: &mut Connection,
    forge: &str,
    until: Timestamp,
    asked_until: Option<Timestamp>,
    reason: &str,
) -> Result<(), StoreError> {
    let asked_until = asked_until.map_or(0, |until| until.0);
    sql::query(
        "INSERT INTO pauses (forge, until, asked_until, reason) VALUES ($1, $2, $3, $4) ON CONFLICT (forge) DO UPDATE \
         SET until = CASE WHEN excluded.until > pauses.until THEN excluded.until ELSE pauses.until END, \
         asked_until = CASE WHEN excluded.asked_until > pauses.asked_until THEN excluded.asked_until \
         ELSE pauses.asked_until END, \
         reason = CASE WHEN excluded.until > pauses.until THEN excluded.reason ELSE pauses.reason END",
    )
    .bind(forge)
    .bind(until.0)
    .bind(asked_until)
    .bind(reason)
    .execute(connection)
    .await?;
    Ok(())
}

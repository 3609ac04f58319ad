//! Rows are *taken* before they are sent: under a sender's name and a short lease, in one transaction with the budget of
//! their host. So no key has two requests under way, whoever sends, and a sender that is gone delays its rows by a lease.
//!
//! A row that nobody has (`taken_by` is null) may still say in `taken_until` until when a request for it may be heard: one
//! that nobody answered. The same word may be sent again meanwhile, a newer one of the key must wait.

use std::time::Duration;

use super::{OutboxItem, item};
use crate::domain::budget::{Budget, Use};
use crate::domain::repo::ForgeName;
use crate::domain::status::StatusState;
use crate::domain::time::Timestamp;
use crate::store::sql::{self, Connection, Row};
use crate::store::{Store, StoreError, row};

/// Candidates that are looked at for one that may be sent: beyond final words there may be pendings that wait.
const LOOKED_AT: i64 = 32;
/// No request is heard later than this after it was begun. Across a start the wall clock may have been turned back.
const LONGEST_HEARD: Duration = Duration::from_secs(60);

/// Steps from forge to forge: there may be ten thousand rows of each.
pub(in crate::store) const DUE_FORGES: &str = "WITH RECURSIVE f (forge) AS ( \
     SELECT min(o.forge) FROM outbox o WHERE o.fate = 'due' UNION ALL \
     SELECT (SELECT min(o.forge) FROM outbox o WHERE o.fate = 'due' AND o.forge > f.forge) FROM f \
     WHERE f.forge IS NOT NULL) \
     SELECT f.forge FROM f WHERE f.forge IS NOT NULL AND f.forge NOT IN (SELECT forge FROM pauses WHERE until > $1) \
     AND EXISTS (SELECT 1 FROM outbox d WHERE d.forge = f.forge AND d.fate = 'due' AND d.next_attempt <= $1 \
     AND (d.taken_by IS NULL OR coalesce(d.taken_until, 0) <= $1))";

/// The rows of a forge that may be taken: due, not under way, the newest of their key, and no older row of the key under
/// way or perhaps still to be heard, whatever became of it; in this order.
macro_rules! takeable {
    ($order:literal) => {
        concat!(
            "SELECT o.id, o.build_id, o.forge, b.repo_shown, o.sha, o.context, o.state, o.sentence, o.attempts, \
             o.created_at, o.taken_until FROM outbox o JOIN builds b ON b.id = o.build_id \
             WHERE o.fate = 'due' AND o.forge = $1 AND o.next_attempt <= $2 \
             AND (o.taken_by IS NULL OR coalesce(o.taken_until, 0) <= $2) \
             AND NOT EXISTS (SELECT 1 FROM outbox k WHERE k.sha = o.sha AND k.forge = o.forge AND k.repo = o.repo \
             AND k.context = o.context AND ((k.id > o.id AND k.fate <> 'dropped') \
             OR (k.id < o.id AND k.taken_until > $2))) ORDER BY ",
            $order,
            "CASE WHEN o.state = 'pending' THEN 1 ELSE 0 END, o.id LIMIT $3"
        )
    };
}

/// Final words first.
pub(in crate::store) const NEXT: &str = takeable!("");

/// For the one question to a forge that is away: those first that were tried least, so that one bad row does not stand
/// before all others.
const LEAST_TRIED: &str = takeable!("o.attempts, ");

/// The bounds of the host behind a forge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostBudget {
    /// The host, with its port; forges that share one share its budget.
    pub host: String,
    /// What it may be sent.
    pub budget: Budget,
}

/// What a sender was given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Taken {
    /// To be sent now, within the lease.
    pub items: Vec<OutboxItem>,
    /// When the forge may be asked again, if that is not now: a pause, or its host's budget.
    pub wait: Option<Duration>,
}

impl Store {
    /// The forges for which something is due and which are not paused.
    pub async fn due_forges(&self) -> Result<Vec<ForgeName>, StoreError> {
        let now = self.inner.clock.steady();
        let rows = sql::query(DUE_FORGES).bind(now.0).fetch_all(&self.inner.readers).await?;
        rows.iter().map(|from| row::parsed(from, "forge")).collect()
    }

    /// Takes at most `limit` statuses of a forge for `sender`, final words first; a forge that did not answer well
    /// lately is sent one at a time. Nobody else sends a status of the same commit and context until they are settled
    /// or `lease` is over: their requests must have ended by then.
    pub async fn take(
        &self,
        forge: &ForgeName,
        sender: &str,
        limit: u32,
        lease: Duration,
        host: Option<HostBudget>,
    ) -> Result<Taken, StoreError> {
        let (forge, sender, clock) = (forge.to_string(), sender.to_owned(), self.inner.clock.clone());
        self.write(false, move |connection| {
            Box::pin(async move {
                let taking = Taking { forge, sender, now: clock.steady(), lease };
                taking.take(connection, limit, host.as_ref()).await
            })
        })
        .await
    }

    /// Takes back what earlier senders of this store were sending when they ended. Only a store that belongs to one
    /// process can know that they have; in a shared one their leases end by time. Every sender calls it before its first
    /// [`Store::take`]; it is done once. What they sent may still be heard, so newer words wait for the leases all the same.
    pub async fn take_back(&self) -> Result<u64, StoreError> {
        self.inner.taken_back.get_or_try_init(|| self.free_all()).await.copied()
    }

    async fn free_all(&self) -> Result<u64, StoreError> {
        let heard_by = self.inner.clock.steady().plus(LONGEST_HEARD);
        self.write(true, move |connection| {
            Box::pin(async move {
                if connection.is_shared() {
                    return Ok(0);
                }
                let returned =
                    sql::query("UPDATE outbox SET taken_by = NULL WHERE fate = 'due' AND taken_by IS NOT NULL")
                        .execute(&mut *connection)
                        .await?;
                sql::query("UPDATE outbox SET taken_until = $1 WHERE taken_until > $1")
                    .bind(heard_by.0)
                    .execute(connection)
                    .await?;
                Ok(returned.rows_affected())
            })
        })
        .await
    }
}

struct Taking {
    forge: String,
    sender: String,
    now: Timestamp,
    lease: Duration,
}

impl Taking {
    async fn take(
        &self,
        connection: &mut Connection,
        limit: u32,
        host: Option<&HostBudget>,
    ) -> Result<Taken, StoreError> {
        let paused_until: Option<i64> = sql::query_scalar("SELECT until FROM pauses WHERE forge = $1")
            .bind(&self.forge)
            .fetch_optional(&mut *connection)
            .await?;
        let mut limit = limit;
        if let Some(until) = paused_until {
            if until > self.now.0 {
                return Ok(Taken { wait: Some(Timestamp(until).since(self.now)), ..Taken::default() });
            }
            if self.is_asking(connection).await? {
                return Ok(Taken::default());
            }
            limit = limit.min(1);
        }
        let next = if paused_until.is_some() { LEAST_TRIED } else { NEXT };
        let candidates: Vec<Row> =
            sql::query(next).bind(&self.forge).bind(self.now.0).bind(LOOKED_AT).fetch_all(&mut *connection).await?;
        if candidates.is_empty() {
            return Ok(Taken::default());
        }
        let mut spent = match host {
            Some(host) => host.spent(connection, self.now).await?,
            None => Vec::new(),
        };
        let mut taken = Taken::default();
        for from in &candidates {
            if taken.items.len() >= limit as usize {
                break;
            }
            let mut item = item(from, self.now)?;
            item.unclear_until = row::time_if(from, "taken_until")?.filter(|until| *until > self.now);
            if let Some(wait) = host.and_then(|host| host.wait(&item, &spent, self.now)) {
                taken.wait = Some(taken.wait.map_or(wait, |other| other.min(wait)));
                continue;
            }
            if self.mark(connection, from.try_get("id")?).await? {
                spent.push(self.now);
                taken.items.push(item);
            }
        }
        if let Some(host) = host {
            host.spend(connection, taken.items.len(), self.now).await?;
        }
        Ok(taken)
    }

    /// Whether a request to the forge is under way, whoever sends it.
    async fn is_asking(&self, connection: &mut Connection) -> Result<bool, StoreError> {
        let asking: i64 = sql::query_scalar(
            "SELECT CAST(CASE WHEN EXISTS (SELECT 1 FROM outbox WHERE forge = $1 AND fate = 'due' \
             AND taken_by IS NOT NULL AND taken_until > $2) THEN 1 ELSE 0 END AS BIGINT)",
        )
        .bind(&self.forge)
        .bind(self.now.0)
        .fetch_one(connection)
        .await?;
        Ok(asking != 0)
    }

    /// Marks one row as ours; false when somebody else has it by now.
    async fn mark(&self, connection: &mut Connection, id: i64) -> Result<bool, StoreError> {
        let marked: Option<i64> = sql::query_scalar(
            "UPDATE outbox SET taken_by = $1, taken_until = $2 \
             WHERE id = $3 AND fate = 'due' AND (taken_by IS NULL OR coalesce(taken_until, 0) <= $4) RETURNING id",
        )
        .bind(&self.sender)
        .bind(self.now.plus(self.lease).0)
        .bind(id)
        .bind(self.now.0)
        .fetch_optional(connection)
        .await?;
        Ok(marked.is_some())
    }
}

impl HostBudget {
    /// When its host was sent something, as far as that still counts. Locks the host's row, so that two processes do
    /// not both spend what is left.
    async fn spent(&self, connection: &mut Connection, now: Timestamp) -> Result<Vec<Timestamp>, StoreError> {
        sql::query(
            "INSERT INTO hosts (host, requests) VALUES ($1, 0) \
             ON CONFLICT (host) DO UPDATE SET requests = hosts.requests",
        )
        .bind(&self.host)
        .execute(&mut *connection)
        .await?;
        // What lies far ahead was written before the wall clock was turned back.
        let memory = self.budget.memory();
        sql::query("DELETE FROM host_requests WHERE host = $1 AND (at <= $2 OR at > $3)")
            .bind(&self.host)
            .bind(now.0.saturating_sub(i64::try_from(memory.as_millis()).unwrap_or(i64::MAX)))
            .bind(now.plus(memory).0)
            .execute(&mut *connection)
            .await?;
        let spent: Vec<i64> = sql::query_scalar("SELECT at FROM host_requests WHERE host = $1 ORDER BY at")
            .bind(&self.host)
            .fetch_all(connection)
            .await?;
        Ok(spent.into_iter().map(Timestamp).collect())
    }

    /// How long a status has to wait for the budget, if it has to.
    fn wait(&self, item: &OutboxItem, spent: &[Timestamp], now: Timestamp) -> Option<Duration> {
        let wanted = if item.status.state == StatusState::Pending { Use::Pending } else { Use::Final };
        (self.budget.left(wanted, spent, now) == 0).then(|| self.budget.wait(wanted, spent, now))
    }

    async fn spend(&self, connection: &mut Connection, count: usize, now: Timestamp) -> Result<(), StoreError> {
        for _ in 0..count {
            sql::query("INSERT INTO host_requests (host, at) VALUES ($1, $2)")
                .bind(&self.host)
                .bind(now.0)
                .execute(&mut *connection)
                .await?;
        }
        sql::query("UPDATE hosts SET requests = requests + $1 WHERE host = $2")
            .bind(i64::try_from(count).unwrap_or(i64::MAX))
            .bind(&self.host)
            .execute(connection)
            .await?;
        Ok(())
    }
}

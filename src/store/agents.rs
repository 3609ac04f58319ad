//! Who runs builds: a row an agent, renewed with every heartbeat, and what operators ask of it.

use std::time::Duration;

use super::sql::{self, Row};
use super::{Store, StoreError, audit, row};
use crate::domain::agent::{Agent, Order, Standing};
use crate::domain::audit::{Act, Actor, Deed};
use crate::domain::time::Timestamp;

/// An agent that was not heard of for so long is no longer listed.
const FORGOTTEN: Duration = Duration::from_secs(24 * 60 * 60);

/// What an agent says of itself when it starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentCard {
    /// Its name, unique among those that live.
    pub name: String,
    /// Its data directory's.
    pub identity: String,
    /// Its program's version.
    pub version: String,
    /// What confines its builds.
    pub sandbox: String,
    /// How many builds it runs at once.
    pub slots: usize,
}

/// What became of an agent that presented itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Registered {
    /// It is known by its name now, and this is asked of it.
    Known(Order),
    /// An agent of another data directory bears the name and lives.
    Taken,
}

impl Store {
    /// Writes down that an agent is there, and holds its name for `alive`. A pause outlives restarts; a drain was for
    /// the process that is gone.
    pub async fn register_agent(&self, card: &AgentCard, alive: Duration) -> Result<Registered, StoreError> {
        let (card, clock) = (card.clone(), self.inner.clock.clone());
        self.write(false, move |connection| {
            Box::pin(async move {
                let now = clock.now();
                let row = sql::query(
                    "INSERT INTO agents (name, identity, version, sandbox, slots, busy, asked, started_at, seen_at, alive_until) \
                     VALUES ($1, $2, $3, $4, $5, 0, 'run', $6, $6, $7) ON CONFLICT (name) DO UPDATE SET \
                     identity = excluded.identity, version = excluded.version, sandbox = excluded.sandbox, \
                     slots = excluded.slots, busy = 0, started_at = excluded.started_at, seen_at = excluded.seen_at, \
                     alive_until = excluded.alive_until, disk_low = '', disk_low_since = NULL, \
                     asked = CASE WHEN agents.asked = 'drain' THEN 'run' ELSE agents.asked END \
                     WHERE agents.identity = excluded.identity OR agents.alive_until < $8 RETURNING asked",
                )
                .bind(card.name)
                .bind(card.identity)
                .bind(card.version)
                .bind(card.sandbox)
                .bind(row::stored(card.slots as u64))
                .bind(now.wall.0)
                .bind(now.steady.plus(alive).0)
                .bind(now.steady.0)
                .fetch_optional(connection)
                .await?;
                row.as_ref().map_or(Ok(Registered::Taken), |row| row::parsed(row, "asked").map(Registered::Known))
            })
        })
        .await
    }

    /// A heartbeat: what is asked of the agent now. `None`: its name was taken or forgotten; it has to register again.
    /// `disk_low`: why its disk holds builds back, if it does.
    pub async fn beat(
        &self,
        card: &AgentCard,
        busy: usize,
        disk_low: Option<String>,
        alive: Duration,
    ) -> Result<Option<Order>, StoreError> {
        let (name, identity, clock) = (card.name.clone(), card.identity.clone(), self.inner.clock.clone());
        self.write(false, move |connection| {
            Box::pin(async move {
                let now = clock.now();
                let row = sql::query(
                    "UPDATE agents SET busy = $1, seen_at = $2, alive_until = $3, disk_low = $6, \
                     disk_low_since = CASE WHEN $6 = '' THEN NULL ELSE coalesce(disk_low_since, $2) END \
                     WHERE name = $4 AND identity = $5 RETURNING asked",
                )
                .bind(row::stored(busy as u64))
                .bind(now.wall.0)
                .bind(now.steady.plus(alive).0)
                .bind(name)
                .bind(identity)
                .bind(disk_low.unwrap_or_default())
                .fetch_optional(connection)
                .await?;
                row.as_ref().map(|row| row::parsed(row, "asked")).transpose()
            })
        })
        .await
    }

    /// What is asked of an agent at this moment, without a heartbeat.
    pub async fn order_of(&self, name: &str) -> Result<Option<Order>, StoreError> {
        let row = sql::query("SELECT asked FROM agents WHERE name = $1")
            .bind(name.to_owned())
            .fetch_optional(&self.inner.readers)
            .await?;
        row.as_ref().map(|row| row::parsed(row, "asked")).transpose()
    }

    /// An agent ends by its own will: it is away at once, and its name is free.
    pub async fn leave(&self, card: &AgentCard) -> Result<(), StoreError> {
        let (name, identity) = (card.name.clone(), card.identity.clone());
        self.write(true, move |connection| {
            Box::pin(async move {
                sql::query("UPDATE agents SET busy = 0, alive_until = 0 WHERE name = $1 AND identity = $2")
                    .bind(name)
                    .bind(identity)
                    .execute(connection)
                    .await?;
                Ok(())
            })
        })
        .await
    }

    /// Asks something of an agent in the name of `by`. False: there is none of that name.
    pub async fn order_agent(&self, name: &str, order: Order, by: &Actor) -> Result<bool, StoreError> {
        let (name, by, clock) = (name.to_owned(), by.clone(), self.inner.clock.clone());
        self.write(true, move |connection| {
            Box::pin(async move {
                let ordered =
                    sql::query("UPDATE agents SET asked = $1 WHERE name = $2").bind(order.as_str()).bind(&name);
                if ordered.execute(&mut *connection).await?.rows_affected() == 0 {
                    return Ok(false);
                }
                let act = Act::AgentOrdered { agent: name, order };
                let deed = Deed { actor: by, act, build: None, repo: None };
                audit::write(connection, &[deed], clock.now()).await?;
                Ok(true)
            })
        })
        .await
    }

    /// Every agent that was heard of within a day, by name.
    pub async fn agents(&self) -> Result<Vec<Agent>, StoreError> {
        let now = self.inner.clock.now();
        let rows = sql::query("SELECT * FROM agents WHERE seen_at >= $1 ORDER BY name")
            .bind(Timestamp(now.wall.0.saturating_sub(row::stored(FORGOTTEN.as_millis() as u64))).0)
            .fetch_all(&self.inner.readers)
            .await?;
        rows.iter().map(|from| agent(from, now.steady)).collect()
    }
}

fn agent(from: &Row, steady: Timestamp) -> Result<Agent, StoreError> {
    let order = row::parsed(from, "asked")?;
    let standing = match order {
        _ if row::time(from, "alive_until")? < steady => Standing::Away,
        Order::Run => Standing::Working,
        Order::Pause => Standing::Paused,
        Order::Drain => Standing::Draining,
    };
    Ok(Agent {
        name: from.try_get("name")?,
        version: from.try_get("version")?,
        sandbox: from.try_get("sandbox")?,
        slots: row::number(from, "slots")?,
        busy: row::number(from, "busy")?,
        order,
        standing,
        started_at: row::time(from, "started_at")?,
        seen_at: row::time(from, "seen_at")?,
        disk_low: Some(from.try_get("disk_low")?).filter(|words: &String| !words.is_empty()),
        disk_low_since: row::time_if(from, "disk_low_since")?,
    })
}

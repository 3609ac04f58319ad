//! Who changed what: written in the transaction of the change, and kept for longer than what was changed.

use super::clock::Now;
use super::sql::{self, Connection, MAX_ROWS, QueryBuilder, Row};
use super::{Store, StoreError, row};
use crate::domain::audit::{Act, Actor, AuditEntry, Deed};
use crate::domain::build::BuildId;
use crate::domain::repo::RepoId;
use crate::domain::time::Timestamp;

/// The most entries of one transaction that forgets: a long one would let deliveries wait.
const AT_ONCE: i64 = 2000;

/// Which entries are listed, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Only of builds of this repository.
    pub repo: Option<RepoId>,
    /// Only from this moment on.
    pub since: Option<Timestamp>,
    /// Only older than this entry.
    pub before: Option<i64>,
    /// The most that are returned.
    pub limit: u32,
}

impl Store {
    /// Writes down what was done that is no change of the store's own: those are written with themselves. All or nothing.
    pub async fn record(&self, deeds: Vec<Deed>) -> Result<(), StoreError> {
        let clock = self.inner.clock.clone();
        self.write(false, move |connection| Box::pin(async move { write(connection, &deeds, clock.now()).await })).await
    }

    /// What was done, the newest first.
    pub async fn audit(&self, filter: &AuditFilter) -> Result<Vec<AuditEntry>, StoreError> {
        let rows = listing("SELECT * FROM audit", filter).build().fetch_all(&self.inner.readers).await?;
        rows.iter().map(entry).collect()
    }

    /// The newest entry of a process of ours on a configuration that it read.
    pub async fn last_configuration(&self, process: &str) -> Result<Option<AuditEntry>, StoreError> {
        let last = sql::query(
            "SELECT * FROM audit WHERE who = $1 AND via = 'process' AND act LIKE '{\"what\":\"configuration_loaded\"%' \
             ORDER BY id DESC LIMIT 1",
        );
        let last = last.bind(process).fetch_optional(&self.inner.readers).await?;
        last.as_ref().map(entry).transpose()
    }

    /// Forgets what was done before `before`; how many entries that were.
    pub async fn forget_audit(&self, before: Timestamp) -> Result<u64, StoreError> {
        let mut forgotten = 0;
        loop {
            let count = self.forget_some(before).await?;
            if count == 0 {
                return Ok(forgotten);
            }
            forgotten += count;
        }
    }

    async fn forget_some(&self, before: Timestamp) -> Result<u64, StoreError> {
        self.write(false, move |connection| {
            Box::pin(async move {
                let deleted = sql::query(
                    "DELETE FROM audit WHERE id IN (SELECT id FROM audit WHERE at < $1 ORDER BY at LIMIT $2 \
                     /*pg: FOR UPDATE SKIP LOCKED */)",
                );
                Ok(deleted.bind(before.0).bind(AT_ONCE).execute(connection).await?.rows_affected())
            })
        })
        .await
    }
}

/// Writes entries within the transaction that is open, many in one statement.
pub(super) async fn write(connection: &mut Connection, deeds: &[Deed], now: Now) -> Result<(), StoreError> {
    for chunk in deeds.chunks(MAX_ROWS) {
        let mut statement =
            QueryBuilder::new("INSERT INTO audit (at, who, via, address, forge, repo, repo_shown, build_id, act) ");
        statement.push_values(chunk, |mut values, deed| {
            values.push_bind(now.wall.0).push_bind(deed.actor.who.clone()).push_bind(deed.actor.via.as_str());
            values.push_bind(deed.actor.from.clone());
            values.push_bind(deed.repo.as_ref().map(|repo| repo.forge.to_string()));
            values.push_bind(deed.repo.as_ref().map(|repo| repo.path.folded()));
            values.push_bind(deed.repo.as_ref().map(|repo| repo.path.to_string()));
            values.push_bind(deed.build.map(|id| id.0)).push_bind(text(&deed.act));
        });
        statement.build().execute(&mut *connection).await?;
    }
    Ok(())
}

/// Writes what was done to a build, with its repository, within the transaction that is open.
pub(super) async fn write_of_build(
    connection: &mut Connection,
    build: BuildId,
    by: &Actor,
    act: &Act,
    now: Now,
) -> Result<(), StoreError> {
    sql::query(
        "INSERT INTO audit (at, who, via, address, act, forge, repo, repo_shown, build_id) \
         SELECT $1, $2, $3, $4, $5, forge, repo, repo_shown, id FROM builds WHERE id = $6",
    )
    .bind(now.wall.0)
    .bind(&by.who)
    .bind(by.via.as_str())
    .bind(by.from.as_deref())
    .bind(text(act))
    .bind(build.0)
    .execute(connection)
    .await?;
    Ok(())
}

fn text(act: &Act) -> String {
    serde_json::to_string(act).expect("texts and numbers always have a JSON form")
}

/// The statement of a listing.
pub(super) fn listing(select: &'static str, filter: &AuditFilter) -> QueryBuilder<'static> {
    let mut statement = QueryBuilder::new(select);
    statement.push(" WHERE id < ").push_bind(filter.before.unwrap_or(i64::MAX));
    if let Some(repo) = &filter.repo {
        statement.push(" AND forge = ").push_bind(repo.forge.to_string());
        statement.push(" AND repo = ").push_bind(repo.path.folded());
    }
    if let Some(since) = filter.since {
        statement.push(" AND at >= ").push_bind(since.0);
    }
    statement.push(" ORDER BY id DESC LIMIT ").push_bind(i64::from(filter.limit));
    statement
}

fn entry(from: &Row) -> Result<AuditEntry, StoreError> {
    let act: Act = row::json(from, "act")?;
    let actor = Actor { who: from.try_get("who")?, via: row::parsed(from, "via")?, from: from.try_get("address")? };
    let is_of_one: Option<&str> = from.try_get("forge")?;
    let repo = is_of_one.map(|_| row::repo(from)).transpose()?;
    let build: Option<BuildId> = row::build_if(from, "build_id")?;
    Ok(AuditEntry { id: from.try_get("id")?, at: row::time(from, "at")?, deed: Deed { actor, act, build, repo } })
}

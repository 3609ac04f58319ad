//! Branches and tags that went: remembered for the pushes of them that are delivered after their end.

use std::time::Duration;

use super::deliveries::Pending;
use super::facts::{self, Facts};
use super::sql::{self, Connection, Row};
use super::{StoreError, row};
use crate::domain::repo::{CommitId, RefName, RepoId};
use crate::domain::time::Timestamp;

/// How long a deletion is remembered: GitHub delivers again what is up to three days old, and nobody anything older.
pub(super) const REMEMBERED: Duration = Duration::from_secs(3 * 24 * 60 * 60);

/// The end of a branch or tag, as the forge tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gone {
    /// The ref.
    pub git_ref: RefName,
    /// What it pointed at, where the forge says so.
    pub tip: Option<CommitId>,
    /// When it went, by the forge's clock, where it says so.
    pub pushed_at: Option<Timestamp>,
}

/// The end of a ref that was heard lately.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deletion {
    /// What it pointed at, where the forge says so.
    pub tip: Option<CommitId>,
    /// When it went, by the forge's clock, where it says so.
    pub pushed_at: Option<Timestamp>,
    /// When it was heard.
    pub at: Timestamp,
}

pub(super) const DELETIONS: &str = ") SELECT asked.n, d.tip, d.pushed_at, d.at FROM asked CROSS JOIN deletions d \
                         WHERE d.forge = asked.forge AND d.repo = asked.repo AND d.git_ref = asked.git_ref \
                         ORDER BY d.id";

/// The deletions that each member of a round asks for.
pub(super) async fn load(
    connection: &mut Connection,
    round: &[&Pending],
    facts: &mut [Facts],
) -> Result<(), StoreError> {
    let asked: Vec<_> = facts::asked(round).filter(|(_, about)| about.order).collect();
    if asked.is_empty() {
        return Ok(());
    }
    let mut statement = facts::refs_asked(&asked);
    for from in &statement.push(DELETIONS).build().fetch_all(connection).await? {
        facts[row::number::<usize>(from, "n")?].deletions.push(deletion(from)?);
    }
    Ok(())
}

/// Remembers ends of refs, each with its repository and the time at which it was heard.
pub(super) async fn remember(
    connection: &mut Connection,
    gone: &[(&RepoId, &Gone, Timestamp)],
) -> Result<(), StoreError> {
    for (repo, gone, at) in gone {
        sql::query("INSERT INTO deletions (forge, repo, git_ref, tip, pushed_at, at) VALUES ($1, $2, $3, $4, $5, $6)")
            .bind(repo.forge.as_str())
            .bind(repo.path.folded())
            .bind(gone.git_ref.as_str())
            .bind(gone.tip.as_ref().map(CommitId::as_str))
            .bind(gone.pushed_at.map(|at| at.0))
            .bind(at.0)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// Forgets the deletions that were heard before `before`.
pub(super) async fn forget(connection: &mut Connection, before: Timestamp) -> Result<(), StoreError> {
    sql::query("DELETE FROM deletions WHERE at < $1").bind(before.0).execute(connection).await?;
    Ok(())
}

fn deletion(from: &Row) -> Result<Deletion, StoreError> {
    Ok(Deletion {
        tip: row::parsed_if(from, "tip")?,
        pushed_at: row::time_if(from, "pushed_at")?,
        at: row::time(from, "at")?,
    })
}

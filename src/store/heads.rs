//! Where branches, tags and pull requests stand, by the last word on each.
//!
//! A delivery writes its word in the transaction that takes it. The sweep compares these rows with the forge's list and
//! takes what differs through the same transaction; it names the rows that its list was compared with, so that a word
//! that came while it listed is newer and wins.

use std::collections::{BTreeMap, HashSet};

use super::deliveries::{Decision, Pending};
use super::sql::{self, Connection, MAX_ROWS, QueryBuilder};
use super::{Store, StoreError, row};
use crate::domain::repo::{CommitId, RefName, RepoId};
use crate::domain::time::Timestamp;

/// The last word on a branch, a tag or a pull request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// The branch or tag; `refs/pull/<n>/head` for every pull request.
    pub name: RefName,
    /// The ref under which its builds run: another one for a pull request of the repository's own branch.
    pub git_ref: RefName,
    /// Where it stands; `None` when it was deleted or closed.
    pub sha: Option<CommitId>,
    /// How many words on it came so far.
    pub changes: i64,
}

impl Store {
    /// The last word on everything of a repository.
    pub async fn heads(&self, repo: &RepoId) -> Result<Vec<Head>, StoreError> {
        let rows = sql::query("SELECT name, git_ref, sha, changes FROM heads WHERE forge = $1 AND repo = $2")
            .bind(repo.forge.as_str())
            .bind(repo.path.folded())
            .fetch_all(&self.inner.readers)
            .await?;
        let head = |from| {
            Ok(Head {
                name: row::parsed(from, "name")?,
                git_ref: row::parsed(from, "git_ref")?,
                sha: row::parsed_if(from, "sha")?,
                changes: from.try_get("changes")?,
            })
        };
        rows.iter().map(head).collect()
    }

    /// Every repository of which anything was heard.
    pub async fn repositories_heard_of(&self) -> Result<Vec<RepoId>, StoreError> {
        let rows = sql::query("SELECT forge, repo, max(repo_shown) AS repo_shown FROM heads GROUP BY forge, repo")
            .fetch_all(&self.inner.readers)
            .await?;
        rows.iter().map(row::repo).collect()
    }

    /// Writes down where refs stand that nothing was heard of yet, each with the ref of its builds, so that from now on
    /// it is known when they move. Where a word came meanwhile, that one stays.
    pub async fn note_heads(&self, repo: &RepoId, heads: Vec<(RefName, RefName, CommitId)>) -> Result<(), StoreError> {
        let (repo, at) = (repo.clone(), self.inner.clock.wall());
        self.write(false, move |connection| {
            Box::pin(async move {
                for chunk in heads.chunks(MAX_ROWS) {
                    let mut statement = QueryBuilder::new(INSERT);
                    statement.push_values(chunk, |mut values, (name, git_ref, sha)| {
                        values.push_bind(repo.forge.to_string()).push_bind(repo.path.folded());
                        values.push_bind(repo.path.to_string()).push_bind(name.to_string());
                        values.push_bind(git_ref.to_string()).push_bind(sha.to_string());
                        values.push_bind(1_i64).push_bind(at.0);
                    });
                    let statement = statement.push(" ON CONFLICT (forge, repo, name) DO NOTHING");
                    statement.build().execute(&mut *connection).await?;
                }
                Ok(())
            })
        })
        .await
    }

    /// Which of these deliveries of a repository, by the forge's ids, were taken.
    pub async fn taken(&self, repo: &RepoId, ids: &[String]) -> Result<HashSet<String>, StoreError> {
        let mut taken = HashSet::new();
        for chunk in ids.chunks(MAX_ROWS) {
            let mut statement = QueryBuilder::new("WITH asked (delivery) AS (");
            statement.push_values(chunk, |mut values, id| {
                values.push_bind(id.clone());
            });
            statement.push(") SELECT d.delivery FROM asked CROSS JOIN deliveries d WHERE d.delivery = asked.delivery");
            statement.push(" AND d.forge = ").push_bind(repo.forge.to_string());
            statement.push(" AND d.repo = ").push_bind(repo.path.folded());
            for from in &statement.build().fetch_all(&self.inner.readers).await? {
                taken.insert(from.try_get("delivery")?);
            }
        }
        Ok(taken)
    }
}

const INSERT: &str = "INSERT INTO heads (forge, repo, repo_shown, name, git_ref, sha, changes, seen_at) ";

/// Writes the words of deliveries, in their order; repeats and what came late are none.
pub(super) async fn heard(
    connection: &mut Connection,
    round: &[&Pending],
    decisions: &[Decision],
) -> Result<(), StoreError> {
    // Of several words on one head only the last counts, and a statement may change a row once only. In the order of the
    // key, so that two processes never wait for each other.
    let mut last = BTreeMap::new();
    for (one, decision) in round.iter().zip(decisions) {
        let Some(about) = &one.about else { continue };
        if matches!(decision, Decision::Repeat { .. } | Decision::Behind { .. } | Decision::Outrun { .. }) {
            continue;
        }
        let key = (about.repo.forge.as_str(), about.repo.path.folded(), about.head.as_str());
        last.insert(key, (about, one.delivery.received_at));
    }
    let words: Vec<_> = last.into_iter().collect();
    for chunk in words.chunks(MAX_ROWS) {
        let mut statement = QueryBuilder::new(INSERT);
        statement.push_values(chunk, |mut values, ((forge, repo, name), (about, at))| {
            values.push_bind((*forge).to_owned()).push_bind(repo.clone()).push_bind(about.repo.path.to_string());
            values.push_bind((*name).to_owned()).push_bind(about.git_ref.to_string());
            values.push_bind(about.sha.as_ref().map(ToString::to_string)).push_bind(1_i64).push_bind(at.0);
        });
        statement.push(
            " ON CONFLICT (forge, repo, name) DO UPDATE SET repo_shown = excluded.repo_shown, \
             git_ref = excluded.git_ref, sha = excluded.sha, seen_at = excluded.seen_at, changes = heads.changes + 1",
        );
        statement.build().execute(&mut *connection).await?;
    }
    Ok(())
}

/// Forgets what was deleted or closed before `before`.
pub(super) async fn forget(connection: &mut Connection, before: Timestamp) -> Result<(), StoreError> {
    sql::query("DELETE FROM heads WHERE sha IS NULL AND seen_at < $1").bind(before.0).execute(connection).await?;
    Ok(())
}

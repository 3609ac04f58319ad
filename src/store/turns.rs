//! Repositories take turns: one with hundreds of queued builds starves no other.
//!
//! The next build is that of the repository with the fewest running builds; of several, of the one that was served
//! longest ago; its oldest one. How many wait behind it makes no difference: the queue's index is asked for the first build
//! of each repository that has one, by a step from each to the next.

use super::StoreError;
use super::sql::{self, Connection, Row};

/// How a claim moves the build that it chose. An agent that was asked to pause claims nothing from that moment on. The
/// condition is said twice for databases with several writers; there, what another claim is about to take is passed by.
macro_rules! take {
    ($chosen:literal) => {
        concat!(
            "UPDATE builds SET state = 'running', agent = $1, ran_on = $1, lease_until = $2, started_at = $3, \
             fence = fence + 1, claims = claims + 1 WHERE id = (SELECT b.id FROM builds b WHERE ",
            $chosen,
            " ORDER BY b.id LIMIT 1 /*pg: FOR UPDATE OF b SKIP LOCKED */) AND state = 'queued' \
             AND NOT EXISTS (SELECT 1 FROM agents WHERE name = $1 AND asked <> 'run') RETURNING *"
        )
    };
}

/// Claims the oldest build of the repository whose turn it is.
pub(super) const CLAIM: &str = concat!(
    "WITH RECURSIVE firsts (id) AS (\
     SELECT id FROM (SELECT id FROM builds WHERE state = 'queued' ORDER BY forge, repo, id LIMIT 1) AS first \
     UNION ALL SELECT coalesce((SELECT n.id FROM builds n WHERE n.state = 'queued' \
     AND n.forge = h.forge AND n.repo > h.repo ORDER BY n.repo, n.id LIMIT 1), \
     (SELECT n.id FROM builds n WHERE n.state = 'queued' \
     AND n.forge > h.forge ORDER BY n.forge, n.repo, n.id LIMIT 1)) \
     FROM firsts q JOIN builds h ON h.id = q.id), \
     busy (forge, repo, running) AS (SELECT forge, repo, count(*) FROM builds \
     WHERE finished_at IS NULL AND state = 'running' GROUP BY forge, repo), \
     turn (forge, repo) AS (SELECT h.forge, h.repo FROM firsts q JOIN builds h ON h.id = q.id \
     LEFT JOIN busy ON busy.forge = h.forge AND busy.repo = h.repo \
     LEFT JOIN turns t ON t.forge = h.forge AND t.repo = h.repo \
     ORDER BY coalesce(busy.running, 0), coalesce(t.served, 0), h.id LIMIT 1) ",
    take!("b.state = 'queued' AND b.forge = (SELECT forge FROM turn) AND b.repo = (SELECT repo FROM turn)")
);

/// Claims the oldest build of all that no other claim holds: for a database with several writers, where another claim may
/// be about to take the only build of the repository whose turn it is.
pub(super) const CLAIM_ANY: &str = take!("b.finished_at IS NULL AND b.state = 'queued'");

/// Notes that the repository of a claimed build was served just now.
pub(super) async fn served(connection: &mut Connection, claimed: &Row) -> Result<(), StoreError> {
    sql::query(
        "INSERT INTO turns (forge, repo, served) VALUES ($1, $2, (SELECT coalesce(max(served), 0) + 1 FROM turns)) \
         ON CONFLICT (forge, repo) DO UPDATE SET served = excluded.served",
    )
    .bind(claimed.try_get::<&str, _>("forge")?)
    .bind(claimed.try_get::<&str, _>("repo")?)
    .execute(connection)
    .await?;
    Ok(())
}

#[cfg(test)]
mod tests;

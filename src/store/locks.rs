//! Who may decide at the same time: where several processes write, each repository's matters one after the other.
//!
//! SQLite has one writer, and its transaction is the lock. On PostgreSQL a transaction takes an advisory lock for each
//! repository whose builds or statuses it makes or ends, all of them in one order and before it touches a row: so what
//! the rules of the intake look at stays as it is until what they decided is written, and no two wait for each other. A
//! claim takes none: it moves one row, and whoever ends that build waits for the row.

use super::StoreError;
use super::deliveries::Pending;
use super::sql::{Connection, QueryBuilder};
use crate::domain::build::BuildId;

/// The lock of a pair of texts has a number made of both; two pairs with one number wait in vain, no more.
const LOCK: &str = "SELECT pg_advisory_xact_lock(key) FROM \
                    (SELECT DISTINCT hashtextextended(forge || ' ' || repo, 4665) AS key FROM ";
const IN_ORDER: &str = " ORDER BY key) AS keys";

/// Takes the locks of the repositories that deliveries speak of.
pub(super) async fn of_deliveries(connection: &mut Connection, pending: &[Pending]) -> Result<(), StoreError> {
    if !connection.is_shared() {
        return Ok(());
    }
    let mut pairs: Vec<(String, String)> = Vec::with_capacity(pending.len());
    for one in pending {
        let (forge, repo, _) = one.delivery.key();
        if let Some(about) = &one.about {
            pairs.push((about.repo.forge.to_string(), about.repo.path.folded()));
        }
        pairs.push((forge, repo));
    }
    pairs.sort();
    pairs.dedup();
    let mut statement = QueryBuilder::new(LOCK);
    statement.push("(").push_values(pairs, |mut values, (forge, repo)| {
        values.push_bind(forge).push_bind(repo);
    });
    statement.push(") AS asked (forge, repo)").push(IN_ORDER).build().fetch_all(connection).await?;
    Ok(())
}

/// Takes the locks of the repositories of builds, if they are there.
pub(super) async fn of_builds(connection: &mut Connection, builds: &[BuildId]) -> Result<(), StoreError> {
    if !connection.is_shared() || builds.is_empty() {
        return Ok(());
    }
    let mut statement = QueryBuilder::new(LOCK);
    let mut ids = statement.push("builds WHERE id IN (").separated(", ");
    for build in builds {
        ids.push_bind(build.0);
    }
    statement.push(")").push(IN_ORDER).build().fetch_all(connection).await?;
    Ok(())
}

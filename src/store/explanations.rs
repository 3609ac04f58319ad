//! Why a build's plan is as it is: kept beside the build, gone with it. Only the holder of the build's claim writes it.

use serde::Serialize;

use super::queue::Claim;
use super::sql::{self, Connection, Row};
use super::{Store, StoreError, row, steps};
use crate::domain::build::BuildId;
use crate::domain::spec::Explanation;

impl Store {
    /// Why a build's plan is as it is. `None`: it was not planned yet, or by a version that kept no explanations.
    pub async fn explanation(&self, build: BuildId) -> Result<Option<Explanation>, StoreError> {
        let row = sql::query("SELECT notices, decisions FROM explanations WHERE build_id = $1")
            .bind(build.0)
            .fetch_optional(&self.inner.readers)
            .await?;
        row.as_ref().map(explanation).transpose()
    }

    /// Writes an explanation that grew: a step gave a notice. False: the claim is lost, nothing was written.
    pub async fn set_explanation(&self, claim: &Claim, explanation: &Explanation) -> Result<bool, StoreError> {
        let (claim, explanation) = (*claim, explanation.clone());
        self.write(false, move |connection| {
            Box::pin(async move {
                let held = steps::is_held(connection, &claim).await?;
                if held {
                    put(connection, claim.build, &explanation).await?;
                }
                Ok(held)
            })
        })
        .await
    }
}

/// Puts an explanation in place of what was there.
pub(super) async fn put(
    connection: &mut Connection,
    build: BuildId,
    explanation: &Explanation,
) -> Result<(), StoreError> {
    sql::query(
        "INSERT INTO explanations (build_id, notices, decisions) VALUES ($1, $2, $3) \
         ON CONFLICT (build_id) DO UPDATE SET notices = excluded.notices, decisions = excluded.decisions",
    )
    .bind(build.0)
    .bind(json(&explanation.notices))
    .bind(json(&explanation.decisions))
    .execute(connection)
    .await?;
    Ok(())
}

/// Forgets it: the build will be planned anew.
pub(super) async fn delete(connection: &mut Connection, build: BuildId) -> Result<(), StoreError> {
    sql::query("DELETE FROM explanations WHERE build_id = $1").bind(build.0).execute(connection).await?;
    Ok(())
}

fn json<T: Serialize>(list: &[T]) -> String {
    serde_json::to_string(list).expect("lists of texts are always JSON")
}

fn explanation(from: &Row) -> Result<Explanation, StoreError> {
    Ok(Explanation { notices: row::json(from, "notices")?, decisions: row::json(from, "decisions")? })
}

//! A build's steps as rows. Only the holder of the build's claim writes them.

use super::news::Topic;
use super::queue::Claim;
use super::sql::{self, Connection, QueryBuilder, Row};
use super::{Store, StoreError, explanations, row};
use crate::domain::build::{Build, BuildId};
use crate::domain::spec::Explanation;
use crate::domain::step::{Reached, Step};

impl Store {
    /// Writes the plan's steps, in order, and why they are as they are, in place of what was there. False: the claim is
    /// lost, nothing was written.
    pub async fn set_plan(&self, claim: &Claim, steps: &[Step], explanation: &Explanation) -> Result<bool, StoreError> {
        let (claim, steps, explanation) = (*claim, steps.to_vec(), explanation.clone());
        self.write(false, move |connection| {
            Box::pin(async move {
                let held = is_held(connection, &claim).await?;
                if held {
                    delete(connection, claim.build).await?;
                    insert(connection, claim.build, &steps).await?;
                    explanations::put(connection, claim.build, &explanation).await?;
                    connection.tell(Topic::Build(claim.build));
                }
                Ok(held)
            })
        })
        .await
    }

    /// Writes what became of one step, found by its name. False: the claim is lost, nothing was written.
    pub async fn update_step(&self, claim: &Claim, step: &Step) -> Result<bool, StoreError> {
        let (claim, step) = (*claim, step.clone());
        self.write(false, move |connection| {
            Box::pin(async move {
                if !is_held(connection, &claim).await? {
                    return Ok(false);
                }
                let updated = sql::query(
                    "UPDATE steps SET state = $1, outcome = $2, exit_code = $3, signal = $4, cache = $5, \
                     started_at = $6, finished_at = $7, reason = $8, mend = $9, cache_note = $10, reached = $11 \
                     WHERE build_id = $12 AND name = $13",
                )
                .bind(step.state.as_str())
                .bind(step.outcome.map(|outcome| outcome.as_str()))
                .bind(step.exit_code)
                .bind(step.signal)
                .bind(step.cache.as_str())
                .bind(step.started_at.map(|at| at.0))
                .bind(step.finished_at.map(|at| at.0))
                .bind(step.reason)
                .bind(step.mend)
                .bind(step.cache_note)
                .bind(reached(&step.reached))
                .bind(claim.build.0)
                .bind(step.name)
                .execute(&mut *connection)
                .await?;
                connection.tell(Topic::Build(claim.build));
                Ok(updated.rows_affected() > 0)
            })
        })
        .await
    }
}

/// Whether nobody claimed the build since. Asked within the transaction that writes, which nobody overtakes.
pub(super) async fn is_held(connection: &mut Connection, claim: &Claim) -> Result<bool, StoreError> {
    let held = "SELECT id FROM builds WHERE id = $1 AND fence = $2 AND state = 'running' /*pg: FOR UPDATE */";
    let held = sql::query(held).bind(claim.build.0).bind(claim.fence);
    Ok(held.fetch_optional(connection).await?.is_some())
}

/// Fills in the steps of `builds`.
pub(super) async fn load(connection: &mut Connection, builds: &mut [Build]) -> Result<(), StoreError> {
    if builds.is_empty() {
        return Ok(());
    }
    let mut statement = QueryBuilder::new("SELECT * FROM steps WHERE build_id IN (");
    let mut ids = statement.separated(", ");
    for build in &*builds {
        ids.push_bind(build.id.0);
    }
    let rows = statement.push(") ORDER BY build_id, position").build().fetch_all(connection).await?;
    for from in &rows {
        let id = BuildId(from.try_get("build_id")?);
        if let Some(build) = builds.iter_mut().find(|build| build.id == id) {
            build.steps.push(step(from)?);
        }
    }
    Ok(())
}

/// Removes a build's steps and their explanation: it will be planned anew.
pub(super) async fn delete(connection: &mut Connection, build: BuildId) -> Result<(), StoreError> {
    sql::query("DELETE FROM steps WHERE build_id = $1").bind(build.0).execute(&mut *connection).await?;
    explanations::delete(connection, build).await
}

async fn insert(connection: &mut Connection, build: BuildId, steps: &[Step]) -> Result<(), StoreError> {
    if steps.is_empty() {
        return Ok(());
    }
    let mut statement = QueryBuilder::new(
        "INSERT INTO steps (build_id, position, name, kind, state, outcome, exit_code, signal, cache, started_at, \
         finished_at, reason, mend, cache_note, reached) ",
    );
    statement.push_values(steps.iter().zip(0_i64..), |mut values, (step, position)| {
        values.push_bind(build.0).push_bind(position).push_bind(step.name.clone());
        values.push_bind(step.kind.as_str()).push_bind(step.state.as_str());
        values.push_bind(step.outcome.map(|outcome| outcome.as_str())).push_bind(step.exit_code);
        values.push_bind(step.signal.clone()).push_bind(step.cache.as_str());
        values.push_bind(step.started_at.map(|at| at.0)).push_bind(step.finished_at.map(|at| at.0));
        values.push_bind(step.reason.clone()).push_bind(step.mend.clone()).push_bind(step.cache_note.clone());
        values.push_bind(reached(&step.reached));
    });
    statement.build().execute(connection).await?;
    Ok(())
}

/// As a column: a list of JSON, or nothing.
fn reached(hosts: &[Reached]) -> Option<String> {
    (!hosts.is_empty()).then(|| serde_json::to_string(hosts).expect("names and numbers"))
}

fn step(from: &Row) -> Result<Step, StoreError> {
    Ok(Step {
        name: from.try_get("name")?,
        kind: row::parsed(from, "kind")?,
        state: row::parsed(from, "state")?,
        outcome: row::parsed_if(from, "outcome")?,
        exit_code: row::number_if(from, "exit_code")?,
        signal: from.try_get("signal")?,
        cache: row::parsed(from, "cache")?,
        cache_note: from.try_get("cache_note")?,
        started_at: row::time_if(from, "started_at")?,
        finished_at: row::time_if(from, "finished_at")?,
        reason: from.try_get("reason")?,
        mend: from.try_get("mend")?,
        reached: row::json_if(from, "reached")?.unwrap_or_default(),
    })
}

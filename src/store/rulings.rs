//! Which rules moved a build, and why: written in the transaction of each move, gone with the build.

use super::sql::{self, Connection, MAX_ROWS, QueryBuilder, Row};
use super::{Store, StoreError, row};
use crate::domain::build::BuildId;
use crate::domain::rule::Ruling;

impl Store {
    /// The history of a build, oldest line first; empty for one that an older version made.
    pub async fn rulings(&self, build: BuildId) -> Result<Vec<Ruling>, StoreError> {
        let rows = sql::query("SELECT * FROM rulings WHERE build_id = $1 ORDER BY id")
            .bind(build.0)
            .fetch_all(&self.inner.readers)
            .await?;
        rows.iter().map(ruling).collect()
    }
}

/// Writes lines, each of the build before it, many in one statement.
pub(super) async fn write(connection: &mut Connection, lines: &[(BuildId, Ruling)]) -> Result<(), StoreError> {
    for chunk in lines.chunks(MAX_ROWS) {
        let mut statement =
            QueryBuilder::new("INSERT INTO rulings (build_id, at, rule, because, other_build, delivery) ");
        statement.push_values(chunk, |mut values, (build, ruling)| {
            values.push_bind(build.0).push_bind(ruling.at.0).push_bind(ruling.rule.as_str());
            values.push_bind(ruling.because.clone()).push_bind(ruling.other_build.map(|id| id.0));
            values.push_bind(ruling.delivery.clone());
        });
        statement.build().execute(&mut *connection).await?;
    }
    Ok(())
}

fn ruling(from: &Row) -> Result<Ruling, StoreError> {
    Ok(Ruling {
        at: row::time(from, "at")?,
        rule: row::parsed(from, "rule")?,
        because: from.try_get("because")?,
        other_build: row::build_if(from, "other_build")?,
        delivery: from.try_get("delivery")?,
    })
}

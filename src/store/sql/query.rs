//! A statement with its values, and what it is run on.

use std::future::Future;
use std::marker::PhantomData;

use sqlx::postgres::PgArguments;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Arguments, AssertSqlSafe, IntoArguments, Postgres, SqlSafeStr, SqlStr, Sqlite};

use super::{Connection, Field, Readers, Row, Through, Value};

/// A statement with its values. Its places are `$1`, `$2`, …
pub(in crate::store) struct Query<'q> {
    pub(super) sql: SqlStr,
    pub(super) values: Vec<Value<'q>>,
    /// Where a `?` of the text (written for SQLite) becomes a numbered place for PostgreSQL; empty when they are numbered.
    pub(super) places: Vec<usize>,
}

/// A statement of a text.
pub(in crate::store) fn query<'q>(sql: impl SqlSafeStr) -> Query<'q> {
    Query { sql: sql.into_sql_str(), values: Vec::new(), places: Vec::new() }
}

/// A statement whose rows are read as their first column.
pub(in crate::store) fn query_scalar<'q, T>(sql: impl SqlSafeStr) -> Scalar<'q, T> {
    Scalar { query: query(sql), read: PhantomData }
}

/// What a statement is run on: a connection, or any of those that read.
pub(in crate::store) trait Executor: Send + Sized {
    /// All rows.
    fn rows(self, query: Query<'_>) -> impl Future<Output = Result<Vec<Row>, sqlx::Error>> + Send;
    /// The first row, if there is one.
    fn row(self, query: Query<'_>) -> impl Future<Output = Result<Option<Row>, sqlx::Error>> + Send;
    /// How many rows it changed.
    fn run(self, query: Query<'_>) -> impl Future<Output = Result<u64, sqlx::Error>> + Send;
}

/// How many rows a statement changed.
pub(in crate::store) struct Done(u64);

impl Done {
    /// How many rows it changed.
    pub(in crate::store) fn rows_affected(&self) -> u64 {
        self.0
    }
}

impl<'q> Query<'q> {
    /// Gives the next place its value.
    pub(in crate::store) fn bind(mut self, value: impl Into<Value<'q>>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Runs it for what it changes.
    pub(in crate::store) async fn execute(self, on: impl Executor) -> Result<Done, sqlx::Error> {
        on.run(self).await.map(Done)
    }

    /// Runs it for all its rows.
    pub(in crate::store) async fn fetch_all(self, on: impl Executor) -> Result<Vec<Row>, sqlx::Error> {
        on.rows(self).await
    }

    /// Runs it for a row that may be there.
    pub(in crate::store) async fn fetch_optional(self, on: impl Executor) -> Result<Option<Row>, sqlx::Error> {
        on.row(self).await
    }

    /// Runs it for a row that must be there.
    pub(in crate::store) async fn fetch_one(self, on: impl Executor) -> Result<Row, sqlx::Error> {
        on.row(self).await?.ok_or(sqlx::Error::RowNotFound)
    }
}

/// A statement in PostgreSQL's words: its places numbered, its `/*pg: … */` said.
fn postgres_text(sql: SqlStr, places: &[usize]) -> SqlStr {
    const OPENS: &str = "/*pg:";
    if places.is_empty() && !sql.as_str().contains(OPENS) {
        return sql;
    }
    let text = sql.as_str();
    let mut numbered = String::with_capacity(text.len() + places.len() * 3);
    let mut from = 0;
    for (&place, number) in places.iter().zip(1_usize..) {
        numbered.push_str(&text[from..place]);
        numbered.push('$');
        numbered.push_str(&number.to_string());
        from = place + 1;
    }
    numbered.push_str(&text[from..]);
    while let Some(opens) = numbered.find(OPENS) {
        let closes = numbered[opens..].find("*/").map_or(numbered.len(), |closes| opens + closes);
        let said = numbered[opens + OPENS.len()..closes].to_owned();
        numbered.replace_range(opens..(closes + 2).min(numbered.len()), &said);
    }
    // Made of texts of ours and numbers.
    AssertSqlSafe(numbered).into_sql_str()
}

/// What sqlx has for each database by itself.
trait Side: sqlx::Database {
    fn prepare(query: Query<'_>) -> Result<(SqlStr, Self::Arguments), sqlx::Error>;
    fn row(row: Self::Row) -> Row;
    fn changed(result: &Self::QueryResult) -> u64;
}

impl Side for Sqlite {
    fn prepare(query: Query<'_>) -> Result<(SqlStr, SqliteArguments), sqlx::Error> {
        let mut arguments = SqliteArguments::default();
        for value in query.values {
            value.add_to_sqlite(&mut arguments).map_err(sqlx::Error::Encode)?;
        }
        Ok((query.sql, arguments))
    }

    fn row(row: Self::Row) -> Row {
        Row::Sqlite(row)
    }

    fn changed(result: &Self::QueryResult) -> u64 {
        result.rows_affected()
    }
}

impl Side for Postgres {
    fn prepare(query: Query<'_>) -> Result<(SqlStr, PgArguments), sqlx::Error> {
        let mut arguments = PgArguments::default();
        // A number takes eight bytes, a commit's name forty.
        arguments.reserve(query.values.len(), query.values.len() * 24);
        for value in query.values {
            value.add_to_postgres(&mut arguments).map_err(sqlx::Error::Encode)?;
        }
        Ok((postgres_text(query.sql, &query.places), arguments))
    }

    fn row(row: Self::Row) -> Row {
        Row::Postgres(row)
    }

    fn changed(result: &Self::QueryResult) -> u64 {
        result.rows_affected()
    }
}

async fn rows<'c, D: Side>(on: impl sqlx::Executor<'c, Database = D>, query: Query<'_>) -> Result<Vec<Row>, sqlx::Error>
where
    D::Arguments: IntoArguments<D>,
{
    let (sql, arguments) = D::prepare(query)?;
    let rows = sqlx::query_with::<D, _>(sql, arguments).fetch_all(on).await?;
    Ok(rows.into_iter().map(D::row).collect())
}

async fn row<'c, D: Side>(
    on: impl sqlx::Executor<'c, Database = D>,
    query: Query<'_>,
) -> Result<Option<Row>, sqlx::Error>
where
    D::Arguments: IntoArguments<D>,
{
    let (sql, arguments) = D::prepare(query)?;
    Ok(sqlx::query_with::<D, _>(sql, arguments).fetch_optional(on).await?.map(D::row))
}

async fn run<'c, D: Side>(on: impl sqlx::Executor<'c, Database = D>, query: Query<'_>) -> Result<u64, sqlx::Error>
where
    D::Arguments: IntoArguments<D>,
{
    let (sql, arguments) = D::prepare(query)?;
    Ok(D::changed(&sqlx::query_with::<D, _>(sql, arguments).execute(on).await?))
}

impl Executor for &mut Connection {
    async fn rows(self, query: Query<'_>) -> Result<Vec<Row>, sqlx::Error> {
        match self.through() {
            Through::Sqlite(on) => rows::<Sqlite>(on, query).await,
            Through::Postgres(on) => rows::<Postgres>(on, query).await,
        }
    }

    async fn row(self, query: Query<'_>) -> Result<Option<Row>, sqlx::Error> {
        match self.through() {
            Through::Sqlite(on) => row::<Sqlite>(on, query).await,
            Through::Postgres(on) => row::<Postgres>(on, query).await,
        }
    }

    async fn run(self, query: Query<'_>) -> Result<u64, sqlx::Error> {
        match self.through() {
            Through::Sqlite(on) => run::<Sqlite>(on, query).await,
            Through::Postgres(on) => run::<Postgres>(on, query).await,
        }
    }
}

impl Executor for &Readers {
    async fn rows(self, query: Query<'_>) -> Result<Vec<Row>, sqlx::Error> {
        match self {
            Readers::Sqlite(on) => rows::<Sqlite>(on, query).await,
            Readers::Postgres(on) => rows::<Postgres>(on, query).await,
        }
    }

    async fn row(self, query: Query<'_>) -> Result<Option<Row>, sqlx::Error> {
        match self {
            Readers::Sqlite(on) => row::<Sqlite>(on, query).await,
            Readers::Postgres(on) => row::<Postgres>(on, query).await,
        }
    }

    async fn run(self, query: Query<'_>) -> Result<u64, sqlx::Error> {
        match self {
            Readers::Sqlite(on) => run::<Sqlite>(on, query).await,
            Readers::Postgres(on) => run::<Postgres>(on, query).await,
        }
    }
}

/// A statement whose rows are read as their first column.
pub(in crate::store) struct Scalar<'q, T> {
    query: Query<'q>,
    read: PhantomData<fn() -> T>,
}

impl<'q, T: for<'r> Field<'r>> Scalar<'q, T> {
    /// Gives the next place its value.
    pub(in crate::store) fn bind(mut self, value: impl Into<Value<'q>>) -> Self {
        self.query = self.query.bind(value);
        self
    }

    /// The value of every row.
    pub(in crate::store) async fn fetch_all(self, on: impl Executor) -> Result<Vec<T>, sqlx::Error> {
        on.rows(self.query).await?.iter().map(|row| row.try_get(0)).collect()
    }

    /// The value of a row that may be there.
    pub(in crate::store) async fn fetch_optional(self, on: impl Executor) -> Result<Option<T>, sqlx::Error> {
        on.row(self.query).await?.map(|row| row.try_get(0)).transpose()
    }

    /// The value of a row that must be there.
    pub(in crate::store) async fn fetch_one(self, on: impl Executor) -> Result<T, sqlx::Error> {
        self.fetch_optional(on).await?.ok_or(sqlx::Error::RowNotFound)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_postgres_needs_is_said_there_and_places_are_numbered() {
        let claim = "UPDATE a WHERE id = (SELECT id LIMIT 1 /*pg: FOR UPDATE */) AND b = $1";
        let said = postgres_text(SqlStr::from_static(claim), &[]);
        assert_eq!(said.as_str(), "UPDATE a WHERE id = (SELECT id LIMIT 1  FOR UPDATE ) AND b = $1");
        let said = postgres_text(SqlStr::from_static("VALUES (?, ?), (?, '?')"), &[8, 11, 16]);
        assert_eq!(said.as_str(), "VALUES ($1, $2), ($3, '?')");
        assert_eq!(postgres_text(SqlStr::from_static("SELECT '?'"), &[]).as_str(), "SELECT '?'");
    }
}

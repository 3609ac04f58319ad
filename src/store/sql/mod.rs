//! One way to speak to either database: `query(text).bind(value).fetch_all(connection)`, as sqlx has it for one.
//!
//! A statement is one text for both. What only PostgreSQL needs (it has several writers, so rows have to be locked)
//! stands in it as a comment that begins with `/*pg:`; SQLite reads over it.

mod builder;
mod query;
mod value;

use std::collections::BTreeSet;
use std::ops::{Deref, DerefMut};

use sqlx::pool::PoolConnection;
use sqlx::postgres::{PgDatabaseError, PgRow};
use sqlx::sqlite::SqliteRow;
use sqlx::{Column as _, ColumnIndex, Connection as _, Decode, Row as _, Type, TypeInfo as _};
use sqlx::{PgConnection, PgPool, Postgres, Sqlite, SqliteConnection, SqlitePool};

pub(super) use builder::QueryBuilder;
pub(super) use query::{Query, query, query_scalar};
pub(super) use value::Value;

use super::news::Topic;
use super::{postgres, sqlite};

/// Rows of one multi-row statement, so that the widest table stays below SQLite's 32 766 parameters (and PostgreSQL's
/// 65 535).
pub(super) const MAX_ROWS: usize = 512;

/// A connection to either database, and what its transaction has to tell.
pub(super) struct Connection {
    engine: Engine,
    told: BTreeSet<Topic>,
}

enum Engine {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
    SqliteLent(PoolConnection<Sqlite>),
    PostgresLent(PoolConnection<Postgres>),
}

/// A connection as its engine knows it.
enum Through<'c> {
    Sqlite(&'c mut SqliteConnection),
    Postgres(&'c mut PgConnection),
}

impl From<SqliteConnection> for Connection {
    fn from(connection: SqliteConnection) -> Self {
        Engine::Sqlite(connection).into()
    }
}

impl From<PgConnection> for Connection {
    fn from(connection: PgConnection) -> Self {
        Engine::Postgres(connection).into()
    }
}

impl From<Engine> for Connection {
    fn from(engine: Engine) -> Self {
        Self { engine, told: BTreeSet::new() }
    }
}

impl Connection {
    fn through(&mut self) -> Through<'_> {
        match &mut self.engine {
            Engine::Sqlite(connection) => Through::Sqlite(connection),
            Engine::SqliteLent(connection) => Through::Sqlite(connection),
            Engine::Postgres(connection) => Through::Postgres(connection),
            Engine::PostgresLent(connection) => Through::Postgres(connection),
        }
    }

    /// Whether others write to this database at the same time.
    pub(super) fn is_shared(&self) -> bool {
        matches!(self.engine, Engine::Postgres(_) | Engine::PostgresLent(_))
    }

    /// Begins a transaction that may write.
    pub(super) async fn begin(&mut self) -> Result<(), sqlx::Error> {
        self.told.clear();
        let begin = if self.is_shared() { postgres::BEGIN } else { sqlite::BEGIN };
        self.say(begin).await
    }

    /// Says one of a transaction's own words.
    pub(super) async fn say(&mut self, statement: &'static str) -> Result<(), sqlx::Error> {
        match self.through() {
            Through::Sqlite(connection) => sqlx::query(statement).execute(connection).await.map(drop),
            // Without being prepared: one message there, one back.
            Through::Postgres(connection) => sqlx::raw_sql(statement).execute(connection).await.map(drop),
        }
    }

    /// Notes what whoever waits is to be told once the transaction is on disk.
    pub(super) fn tell(&mut self, topic: Topic) {
        self.told.insert(topic);
    }

    /// What is noted so far; and, given back, what was noted then.
    pub(super) fn told(&mut self) -> &mut BTreeSet<Topic> {
        &mut self.told
    }

    /// The connection, where it is one to PostgreSQL.
    pub(super) fn postgres(&mut self) -> Option<&mut PgConnection> {
        match self.through() {
            Through::Sqlite(_) => None,
            Through::Postgres(connection) => Some(connection),
        }
    }

    /// The connection of a test, which is one to SQLite.
    #[cfg(test)]
    pub(super) fn sqlite(&mut self) -> &mut SqliteConnection {
        match self.through() {
            Through::Sqlite(connection) => connection,
            Through::Postgres(_) => panic!("it is one to PostgreSQL"),
        }
    }

    /// Runs many statements that take no values.
    pub(super) async fn run_all(&mut self, statements: &'static str) -> Result<(), sqlx::Error> {
        match self.through() {
            Through::Sqlite(connection) => sqlx::raw_sql(statements).execute(connection).await.map(drop),
            Through::Postgres(connection) => sqlx::raw_sql(statements).execute(connection).await.map(drop),
        }
    }

    /// Ends the connection in order.
    pub(super) async fn close(self) -> Result<(), sqlx::Error> {
        match self.engine {
            Engine::Sqlite(connection) => connection.close().await,
            Engine::Postgres(connection) => connection.close().await,
            Engine::SqliteLent(connection) => connection.close().await,
            Engine::PostgresLent(connection) => connection.close().await,
        }
    }
}

/// Connections that only read.
#[derive(Clone)]
pub(super) enum Readers {
    /// To one file.
    Sqlite(SqlitePool),
    /// To a server.
    Postgres(PgPool),
}

impl Readers {
    /// Lends one of them for several statements.
    pub(super) async fn acquire(&self) -> Result<Lent, sqlx::Error> {
        Ok(Lent(match self {
            Readers::Sqlite(pool) => Engine::SqliteLent(pool.acquire().await?).into(),
            Readers::Postgres(pool) => Engine::PostgresLent(pool.acquire().await?).into(),
        }))
    }

    /// Ends all of them.
    pub(super) async fn close(&self) {
        match self {
            Readers::Sqlite(pool) => pool.close().await,
            Readers::Postgres(pool) => pool.close().await,
        }
    }
}

/// A connection of [`Readers`], which goes back to them when it is dropped.
pub(super) struct Lent(Connection);

impl Deref for Lent {
    type Target = Connection;
    fn deref(&self) -> &Connection {
        &self.0
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.0
    }
}

/// A row of either database.
#[derive(Debug)]
pub(super) enum Row {
    /// Of SQLite.
    Sqlite(SqliteRow),
    /// Of PostgreSQL.
    Postgres(PgRow),
}

impl Row {
    /// The value of a column, by its name or place.
    pub(super) fn try_get<'r, T, I>(&'r self, index: I) -> Result<T, sqlx::Error>
    where
        T: Field<'r>,
        I: ColumnIndex<SqliteRow> + ColumnIndex<PgRow>,
    {
        match self {
            Row::Sqlite(row) => row.try_get(index),
            Row::Postgres(row) => T::of_postgres(row, row.try_column(index)?.ordinal()),
        }
    }
}

/// What can be read from a column of either database.
pub(super) trait Field<'r>: Decode<'r, Sqlite> + Type<Sqlite> {
    /// From a row of PostgreSQL, by the column's place.
    fn of_postgres(row: &'r PgRow, place: usize) -> Result<Self, sqlx::Error>;
}

/// What is read as it is.
macro_rules! fields {
    ($($field:ty),*) => {$(
        impl<'r> Field<'r> for $field {
            fn of_postgres(row: &'r PgRow, place: usize) -> Result<Self, sqlx::Error> {
                row.try_get(place)
            }
        }
    )*};
}
fields!(bool, String, Option<String>, &'r str, Option<&'r str>, Vec<u8>, Option<Vec<u8>>);

/// Whole numbers are of one width here, while PostgreSQL counts in three; yes and no are 1 and 0.
impl<'r> Field<'r> for Option<i64> {
    fn of_postgres(row: &'r PgRow, place: usize) -> Result<Self, sqlx::Error> {
        Ok(match row.try_column(place)?.type_info().name() {
            "INT4" => row.try_get::<Option<i32>, _>(place)?.map(i64::from),
            "INT2" => row.try_get::<Option<i16>, _>(place)?.map(i64::from),
            "BOOL" => row.try_get::<Option<bool>, _>(place)?.map(i64::from),
            _ => row.try_get(place)?,
        })
    }
}

impl<'r> Field<'r> for i64 {
    fn of_postgres(row: &'r PgRow, place: usize) -> Result<Self, sqlx::Error> {
        let missing = || sqlx::Error::ColumnDecode {
            index: row.column(place).name().to_owned(),
            source: Box::new(sqlx::error::UnexpectedNullError),
        };
        Option::<i64>::of_postgres(row, place)?.ok_or_else(missing)
    }
}

/// True where it is the disk of the database that has no room.
pub(super) fn is_full(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(database) = error else { return false };
    match database.try_downcast_ref::<PgDatabaseError>() {
        Some(postgres) => postgres.code() == "53100",
        None => sqlite::is_full(&**database),
    }
}

/// True for errors that may pass, so that the same request will do another time.
pub(super) fn is_outage(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(database) => match database.try_downcast_ref::<PgDatabaseError>() {
            Some(postgres) => postgres::is_outage(postgres),
            None => sqlite::is_outage(&**database),
        },
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::Protocol(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => true,
        _ => false,
    }
}

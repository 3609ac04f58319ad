//! Statements that are put together at run time.

use sqlx::{AssertSqlSafe, SqlSafeStr};

use super::{Query, Value};

/// A statement that grows.
///
/// Its places are written `?`, since SQLite searches a list of all named places for each one that has a name or a
/// number, and a batch has thousands. Where they stand is remembered: for PostgreSQL they are numbered at the end.
pub(in crate::store) struct QueryBuilder<'q> {
    sql: String,
    values: Vec<Value<'q>>,
    places: Vec<usize>,
}

impl<'q> QueryBuilder<'q> {
    /// Begins with a text.
    pub(in crate::store) fn new(sql: &'static str) -> Self {
        Self { sql: sql.to_owned(), values: Vec::new(), places: Vec::new() }
    }

    /// Adds a text.
    pub(in crate::store) fn push(&mut self, sql: &'static str) -> &mut Self {
        self.sql.push_str(sql);
        self
    }

    /// Adds a place with its value.
    pub(in crate::store) fn push_bind(&mut self, value: impl Into<Value<'q>>) -> &mut Self {
        self.places.push(self.sql.len());
        self.sql.push('?');
        self.values.push(value.into());
        self
    }

    /// Adds `VALUES` with a row for each element.
    pub(in crate::store) fn push_values<T>(
        &mut self,
        rows: impl IntoIterator<Item = T>,
        mut push: impl FnMut(Separated<'_, 'q>, T),
    ) -> &mut Self {
        self.sql.push_str("VALUES ");
        for (row, place) in rows.into_iter().zip(0_usize..) {
            self.sql.push_str(if place == 0 { "(" } else { ", (" });
            push(self.separated(", "), row);
            self.sql.push(')');
        }
        self
    }

    /// Adds elements with a text between them.
    pub(in crate::store) fn separated(&mut self, separator: &'static str) -> Separated<'_, 'q> {
        Separated { builder: self, separator, is_first: true }
    }

    /// The statement; what was put together is gone from here.
    pub(in crate::store) fn build(&mut self) -> Query<'q> {
        let sql = std::mem::take(&mut self.sql);
        // Made of texts of ours; values are never in it.
        let sql = AssertSqlSafe(sql).into_sql_str();
        Query { sql, values: std::mem::take(&mut self.values), places: std::mem::take(&mut self.places) }
    }
}

/// Elements of a list within a statement.
pub(in crate::store) struct Separated<'b, 'q> {
    builder: &'b mut QueryBuilder<'q>,
    separator: &'static str,
    is_first: bool,
}

impl<'q> Separated<'_, 'q> {
    /// Adds a place with its value.
    pub(in crate::store) fn push_bind(&mut self, value: impl Into<Value<'q>>) -> &mut Self {
        if !self.is_first {
            self.builder.sql.push_str(self.separator);
        }
        self.is_first = false;
        self.builder.push_bind(value);
        self
    }
}

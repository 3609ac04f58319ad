//! Reading checked values back out of rows.

use std::str::FromStr;

use super::StoreError;
use super::sql::Row;
use crate::domain::build::BuildId;
use crate::domain::repo::RepoId;
use crate::domain::time::Timestamp;

/// A text that must parse.
pub(super) fn parsed<T: FromStr>(row: &Row, column: &'static str) -> Result<T, StoreError> {
    parse(row.try_get(column)?, column)
}

/// A text that must parse where there is one.
pub(super) fn parsed_if<T: FromStr>(row: &Row, column: &'static str) -> Result<Option<T>, StoreError> {
    row.try_get::<Option<&str>, _>(column)?.map(|text| parse(text, column)).transpose()
}

/// A whole number of a narrower kind than the database's.
pub(super) fn number<T: TryFrom<i64>>(row: &Row, column: &'static str) -> Result<T, StoreError> {
    narrow(row.try_get(column)?, column)
}

/// A whole number of a narrower kind, where there is one.
pub(super) fn number_if<T: TryFrom<i64>>(row: &Row, column: &'static str) -> Result<Option<T>, StoreError> {
    row.try_get::<Option<i64>, _>(column)?.map(|value| narrow(value, column)).transpose()
}

/// A yes (1) or no (0).
pub(super) fn yes(row: &Row, column: &'static str) -> Result<bool, StoreError> {
    Ok(row.try_get::<i64, _>(column)? != 0)
}

/// A point in time.
pub(super) fn time(row: &Row, column: &'static str) -> Result<Timestamp, StoreError> {
    Ok(Timestamp(row.try_get(column)?))
}

/// A point in time, where there is one.
pub(super) fn time_if(row: &Row, column: &'static str) -> Result<Option<Timestamp>, StoreError> {
    Ok(row.try_get::<Option<i64>, _>(column)?.map(Timestamp))
}

/// A build's number, where there is one.
pub(super) fn build_if(row: &Row, column: &'static str) -> Result<Option<BuildId>, StoreError> {
    Ok(row.try_get::<Option<i64>, _>(column)?.map(BuildId))
}

/// The repository as it is shown, from the columns `forge` and `repo_shown`.
pub(super) fn repo(row: &Row) -> Result<RepoId, StoreError> {
    Ok(RepoId { forge: parsed(row, "forge")?, path: parsed(row, "repo_shown")? })
}

/// A value of ours that was stored as JSON.
pub(super) fn json<T: serde::de::DeserializeOwned>(row: &Row, column: &'static str) -> Result<T, StoreError> {
    read_json(row.try_get(column)?, column)
}

/// A value of ours that was stored as JSON, where there is one.
pub(super) fn json_if<T: serde::de::DeserializeOwned>(
    row: &Row,
    column: &'static str,
) -> Result<Option<T>, StoreError> {
    let text: Option<&str> = row.try_get(column)?;
    text.map(|text| read_json(text, column)).transpose()
}

/// A number of ours as the database holds it. Counts of bytes and the like stay far below the bound.
pub(super) fn stored(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn parse<T: FromStr>(text: &str, column: &'static str) -> Result<T, StoreError> {
    text.parse().map_err(|_| StoreError::Unreadable { column, value: text.to_owned() })
}

fn read_json<T: serde::de::DeserializeOwned>(text: &str, column: &'static str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|_| StoreError::Unreadable { column, value: text.to_owned() })
}

fn narrow<T: TryFrom<i64>>(value: i64, column: &'static str) -> Result<T, StoreError> {
    T::try_from(value).map_err(|_| StoreError::Unreadable { column, value: value.to_string() })
}

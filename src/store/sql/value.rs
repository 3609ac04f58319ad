//! What a statement is given.

use std::borrow::Cow;

use sqlx::Arguments;
use sqlx::error::BoxDynError;
use sqlx::postgres::PgArguments;
use sqlx::sqlite::SqliteArguments;

/// A value in one of the few forms that both databases have.
pub(in crate::store) enum Value<'q> {
    /// A whole number; yes and no are 1 and 0.
    Integer(Option<i64>),
    /// A text.
    Text(Option<Cow<'q, str>>),
    /// Bytes.
    Blob(Option<Cow<'q, [u8]>>),
}

/// PostgreSQL holds no text with a zero byte, and a commit's title may have one: what stands in its place, on both
/// databases alike. Nothing that is looked up by can hold one: neither refs, commits, names nor ids.
const NO_ZERO: &str = "\u{fffd}";

fn without_zero(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.as_bytes().contains(&0) { Cow::Owned(text.replace('\0', NO_ZERO)) } else { text }
}

impl Value<'_> {
    pub(super) fn add_to_sqlite(self, arguments: &mut SqliteArguments) -> Result<(), BoxDynError> {
        match self {
            Value::Integer(value) => arguments.add(value),
            // Owned text moves as it is.
            Value::Text(Some(Cow::Owned(text))) => arguments.add(text),
            Value::Text(Some(Cow::Borrowed(text))) => arguments.add(text),
            Value::Text(None) => arguments.add(None::<&str>),
            Value::Blob(Some(Cow::Owned(bytes))) => arguments.add(bytes),
            Value::Blob(Some(Cow::Borrowed(bytes))) => arguments.add(bytes),
            Value::Blob(None) => arguments.add(None::<&[u8]>),
        }
    }

    pub(super) fn add_to_postgres(self, arguments: &mut PgArguments) -> Result<(), BoxDynError> {
        match self {
            Value::Integer(value) => arguments.add(value),
            Value::Text(text) => arguments.add(text.as_deref()),
            Value::Blob(bytes) => arguments.add(bytes.as_deref()),
        }
    }
}

/// From a number, in the one width that is stored.
macro_rules! from_numbers {
    ($($number:ty),*) => {$(
        impl From<$number> for Value<'_> {
            fn from(value: $number) -> Self {
                Value::Integer(Some(i64::from(value)))
            }
        }
        impl From<Option<$number>> for Value<'_> {
            fn from(value: Option<$number>) -> Self {
                Value::Integer(value.map(i64::from))
            }
        }
    )*};
}
from_numbers!(i64, i32, u32);

/// From a text and from one that may be missing, owned or not.
macro_rules! from_texts {
    ($($text:ty),*) => {$(
        impl<'q> From<$text> for Value<'q> {
            fn from(value: $text) -> Self {
                Value::Text(Some(without_zero(value.into())))
            }
        }
        impl<'q> From<Option<$text>> for Value<'q> {
            fn from(value: Option<$text>) -> Self {
                Value::Text(value.map(|text| without_zero(text.into())))
            }
        }
    )*};
}
from_texts!(&'q str, &'q String, String);

/// From bytes, owned or not.
macro_rules! from_bytes {
    ($($bytes:ty),*) => {$(
        impl<'q> From<$bytes> for Value<'q> {
            fn from(value: $bytes) -> Self {
                Value::Blob(Some(value.into()))
            }
        }
        impl<'q> From<Option<$bytes>> for Value<'q> {
            fn from(value: Option<$bytes>) -> Self {
                Value::Blob(value.map(Into::into))
            }
        }
    )*};
}
from_bytes!(&'q [u8], Vec<u8>);

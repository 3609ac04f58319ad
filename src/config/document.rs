//! A TOML text as a tree that remembers where each value stood, so that every later fault can point at it.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Kind, Place, Problem, Source};

/// Keys whose values are never shown. Their `_file` and `_env` forms hold no secret.
const SECRET_KEYS: [&str; 5] = ["admin_token", "token", "hook_secret", "blobs_key", "value"];

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) place: Place,
    pub(super) value: Value,
}

/// What a TOML value can be, and the untyped words of environment variables.
#[derive(Debug, Clone)]
pub(super) enum Value {
    Text(String),
    /// From the environment: whatever type the key wants.
    Word(String),
    Integer(i64),
    Fraction(f64),
    Bool(bool),
    List(Vec<Node>),
    Table(Table),
    /// A type that no setting has: a date.
    Other(&'static str),
}

impl Value {
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Value::Text(_) | Value::Word(_) => "a string",
            Value::Integer(_) => "an integer",
            Value::Fraction(_) => "a number with a fraction",
            Value::Bool(_) => "a boolean",
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
            Value::Other(name) => name,
        }
    }
}

/// A key's place and its value.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) key: Place,
    pub(super) node: Node,
}

/// Keys and values, and the place of the header.
#[derive(Debug, Clone)]
pub(super) struct Table {
    pub(super) place: Place,
    pub(super) entries: BTreeMap<String, Entry>,
}

impl Table {
    /// Puts a later layer on top. A layer that names one form of a setting (`token`, `token_file`,
    /// `token_env`) replaces every form of it: "exactly one" holds within a layer, not across layers.
    pub(super) fn overlay(&mut self, upper: Table) {
        self.entries.retain(|key, _| !upper.entries.keys().any(|above| stem(above) == stem(key)));
        self.entries.extend(upper.entries);
    }
}

/// A key without the ending that says where its value is kept.
fn stem(key: &str) -> &str {
    key.strip_suffix("_file").or_else(|| key.strip_suffix("_env")).unwrap_or(key)
}

/// Whether the value under this key is itself a secret.
pub(super) fn holds_secret(key: &str) -> bool {
    SECRET_KEYS.contains(&key)
}

/// Parses a text; the error names every fault of its syntax.
pub(super) fn parse(name: String, base: PathBuf, text: &str) -> Result<Table, Vec<Problem>> {
    let (root, errors) = DeTable::parse_recoverable(text);
    let mut shown = text.as_bytes().to_vec();
    mask_values(&mut shown, root.get_ref(), false);
    mask_credentials(&mut shown);
    if !errors.is_empty() {
        // What stands beside a fault may not be in the tree that was recovered.
        mask_lines(&mut shown);
    }
    let shown = String::from_utf8_lossy(&shown).into_owned();
    let source = Arc::new(Source { name, shown, base, variable: false });
    if errors.is_empty() {
        return Ok(convert_table(&source, root));
    }
    let place = |span: Option<Range<usize>>| Place { source: Arc::clone(&source), span: span.unwrap_or(0..0) };
    let problem = |error: &toml::de::Error| {
        let message = error.message().lines().collect::<Vec<_>>().join(", ");
        Problem::at(Kind::Wrong, &place(error.span()), message)
    };
    Err(errors.iter().map(problem).collect())
}

fn convert_table(source: &Arc<Source>, table: Spanned<DeTable<'_>>) -> Table {
    let place = Place { source: Arc::clone(source), span: table.span() };
    let entry = |(key, value): (Spanned<_>, Spanned<_>)| {
        let place = Place { source: Arc::clone(source), span: key.span() };
        let key: std::borrow::Cow<'_, str> = key.into_inner();
        (key.into_owned(), Entry { key: place, node: convert(source, value) })
    };
    Table { place, entries: table.into_inner().into_iter().map(entry).collect() }
}

fn convert(source: &Arc<Source>, value: Spanned<DeValue<'_>>) -> Node {
    let span = value.span();
    let value = match value.into_inner() {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Value::Integer(number),
            Err(_) => Value::Other("a number that is too large"),
        },
        DeValue::Boolean(flag) => Value::Bool(flag),
        DeValue::Array(items) => Value::List(items.into_iter().map(|item| convert(source, item)).collect()),
        DeValue::Table(table) => Value::Table(convert_table(source, Spanned::new(span.clone(), table))),
        // What is written can't fail to be one; `inf` and `nan` are left to whoever reads the key.
        DeValue::Float(number) => Value::Fraction(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Datetime(_) => Value::Other("a date"),
    };
    Node { place: Place { source: Arc::clone(source), span }, value }
}

/// One environment variable as a table of one entry.
pub(super) fn variable(name: &str, value: &str, key: &str, cwd: PathBuf) -> Table {
    let mut shown = format!("{name}={value}").into_bytes();
    if holds_secret(key) {
        blank(&mut shown[name.len() + 1..]);
    }
    mask_credentials(&mut shown);
    let shown = String::from_utf8_lossy(&shown).into_owned();
    let end = shown.len();
    let source = Arc::new(Source { name: "environment".to_owned(), shown, base: cwd, variable: true });
    let place = |span| Place { source: Arc::clone(&source), span };
    let node = Node { place: place(name.len() + 1..end), value: Value::Word(value.to_owned()) };
    let entry = Entry { key: place(0..name.len()), node };
    Table { place: place(0..end), entries: BTreeMap::from([(key.to_owned(), entry)]) }
}

/// Overwrites bytes with asterisks, one each, so that places stay right; line ends stay.
fn blank(bytes: &mut [u8]) {
    for byte in bytes.iter_mut().filter(|byte| !matches!(byte, b'\n' | b'\r')) {
        *byte = b'*';
    }
}

fn mask_values(shown: &mut [u8], table: &DeTable<'_>, secret: bool) {
    for (key, value) in table {
        mask_value(shown, value, secret || holds_secret(key.get_ref()));
    }
}

fn mask_value(shown: &mut [u8], value: &Spanned<DeValue<'_>>, secret: bool) {
    match value.get_ref() {
        DeValue::Table(table) => mask_values(shown, table, secret),
        DeValue::Array(items) => items.iter().for_each(|item| mask_value(shown, item, secret)),
        DeValue::Boolean(_) => {}
        _ if secret => blank(&mut shown[value.span()]),
        _ => {}
    }
}

/// Masks `user:password@` of addresses, and a `password=` after their `?`.
fn mask_credentials(shown: &mut [u8]) {
    let mut from = 0;
    while let Some(at) = shown[from..].windows(3).position(|window| window == b"://") {
        from += at + 3;
        let end = shown[from..].iter().position(|b| b"/\"' \t\r\n".contains(b)).map_or(shown.len(), |end| from + end);
        if let Some(at) = shown[from..end].iter().rposition(|b| *b == b'@') {
            blank(&mut shown[from..from + at]);
        }
    }
    const WORD: &[u8] = b"password=";
    let mut from = 0;
    while let Some(at) = shown[from..].windows(WORD.len()).position(|window| window == WORD) {
        from += at + WORD.len();
        let end = shown[from..].iter().position(|b| b"&\"' \t\r\n".contains(b)).map_or(shown.len(), |end| from + end);
        blank(&mut shown[from..end]);
    }
}

/// Masks the rest of every line on which a secret key is set.
fn mask_lines(shown: &mut [u8]) {
    for line in shown.split_mut(|byte| *byte == b'\n') {
        let Some(equals) = line.iter().position(|byte| *byte == b'=') else { continue };
        let key = String::from_utf8_lossy(&line[..equals]);
        let named = |part: &str| holds_secret(part.trim_matches(|c: char| !c.is_alphanumeric() && c != '_'));
        if key.split(['.', '{', ' ']).any(named) {
            blank(&mut line[equals + 1..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        match parse("x.toml".to_owned(), PathBuf::new(), text) {
            Ok(table) => table.place.source.shown.clone(),
            Err(problems) => problems.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn what_is_shown_holds_no_secret() {
        for text in [
            "token = \"hunter2\"",
            "[a]\nhook_secret = [\n \"hunter2\",\n \"x\"]",
            "a = { admin_token = \"\"\"hunter2\"\"\" }",
            "proxy = \"http://me:hunter2@proxy:3128\"",
            "token = \"hunter2",
            "  \"token\" = hunter2",
            "hook_secret = [\n \"hunter2\"\n \"second\"\n]",
        ] {
            let shown = shown(text);
            assert!(!shown.contains("hunter2"), "{shown}");
        }
        assert!(shown("token_file = \"visible\"").contains("visible"));
    }
}

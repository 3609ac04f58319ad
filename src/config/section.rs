//! Takes typed values out of a table and reports whatever does not fit: one reader for the server's
//! file and for the repository's. What counts something is in [`quantities`].

mod quantities;

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::document::{Entry, Node, Table, Value};
use super::problem::{Findings, Kind, Place, Problem};
use super::schema::Shape;
use super::values;

/// A value of a known type and where it stands.
#[derive(Debug, Clone)]
pub(super) struct Located<T> {
    pub(super) place: Place,
    pub(super) value: T,
}

/// The words a key accepts; `None` for one that this version does not do yet.
pub(super) type Words<'a, T> = &'a [(&'a str, Option<T>)];

/// One table while it is read. Every accessor remembers its key as known; [`Section::finish`]
/// reports the keys that nobody asked for. A value that does not fit is reported and read as absent.
pub(super) struct Section<'f> {
    table: Table,
    /// `server`, `repo`; empty for the whole text.
    name: String,
    /// The name among what was asked for, where names are the writer's own.
    noted_as: String,
    known: Vec<&'static str>,
    pub(super) findings: &'f mut Findings,
}

impl<'f> Section<'f> {
    pub(super) fn new(name: impl Into<String>, table: Table, findings: &'f mut Findings) -> Self {
        let name = name.into();
        Self { table, noted_as: name.clone(), name, known: Vec::new(), findings }
    }

    /// A table under a name of the writer's own; `noted_as` stands for all of its kind.
    pub(super) fn named(name: String, noted_as: &str, table: Table, findings: &'f mut Findings) -> Self {
        Self { noted_as: noted_as.to_owned(), ..Self::new(name, table, findings) }
    }

    /// The place of the table itself, for what is missing in it.
    pub(super) fn place(&self) -> Place {
        self.table.place.clone()
    }

    /// Where a key's value stands, if it is there.
    pub(super) fn place_of(&self, key: &str) -> Option<Place> {
        self.table.entries.get(key).map(|entry| entry.node.place.clone())
    }

    /// The full name of a key, as messages have it.
    pub(super) fn key(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.table.entries.contains_key(key)
    }

    /// The entry as it is, for values of more than one type.
    pub(super) fn take(&mut self, key: &'static str) -> Option<Entry> {
        self.take_as(key, Shape::Any)
    }

    /// The entry as it is, and what it must be.
    pub(super) fn take_as(&mut self, key: &'static str, shape: Shape) -> Option<Entry> {
        self.known.push(key);
        self.findings.asked.note(&self.noted_as, key, shape);
        self.table.entries.remove(key)
    }

    /// Says more of what a key must be than the accessor that took it.
    pub(super) fn refine(&mut self, key: &'static str, shape: Shape) {
        self.findings.asked.note(&self.noted_as, key, shape);
    }

    /// Reports that a key is missing which every such table has.
    pub(super) fn require(&mut self, key: &'static str, message: impl Into<String>, fix: impl Into<String>) {
        self.findings.asked.require(&self.noted_as, key);
        if !self.has(key) {
            let place = self.place();
            self.wrong(&place, message, fix);
        }
    }

    pub(super) fn wrong(&mut self, place: &Place, message: impl Into<String>, fix: impl Into<String>) {
        self.findings.push(Problem::at(Kind::Wrong, place, message).fix(fix));
    }

    pub(super) fn not_built(&mut self, place: &Place, what: &str, fix: impl Into<String>) {
        let message = format!("not built yet: {what}");
        self.findings.push(Problem::at(Kind::NotBuilt, place, message).fix(fix));
    }

    /// A key of the documentation that this version can't serve: refused wherever it stands.
    pub(super) fn refuse(&mut self, key: &'static str, why: &str) {
        if let Some(entry) = self.take_as(key, Shape::Refused) {
            let what = format!("`{}` ({why})", self.key(key));
            self.not_built(&entry.key, &what, "take it out until a later version");
        }
    }

    fn mismatch(&mut self, key: &str, node: &Node, wanted: &str) {
        let message = format!("`{}` must be {wanted}, not {}", self.key(key), node.value.type_name());
        self.findings.push(Problem::at(Kind::Wrong, &node.place, message));
    }

    /// What the environment can't express.
    fn compound(&mut self, key: &str, node: &Node, wanted: &str) {
        if let Value::Word(_) = node.value {
            let message = format!("`{}` is {wanted}, and a variable can only set a single value", self.key(key));
            self.wrong(&node.place, message, "write it in the configuration file");
        } else {
            self.mismatch(key, node, wanted);
        }
    }

    pub(super) fn text(&mut self, key: &'static str) -> Option<Located<String>> {
        let node = self.take_as(key, Shape::Text)?.node;
        match node.value {
            Value::Text(value) | Value::Word(value) => Some(Located { place: node.place, value }),
            Value::Integer(_) | Value::Fraction(_) | Value::Other(_) => {
                // `node = 20.10` would be 20.1 as a number.
                let message = format!("`{}` must be a string, not {}", self.key(key), node.value.type_name());
                self.wrong(&node.place, message, "put the value into quotes");
                None
            }
            _ => {
                self.mismatch(key, &node, "a string");
                None
            }
        }
    }

    pub(super) fn flag(&mut self, key: &'static str) -> Option<bool> {
        let node = self.take_as(key, Shape::Flag)?.node;
        match &node.value {
            Value::Bool(flag) => Some(*flag),
            Value::Word(word) if word == "true" => Some(true),
            Value::Word(word) if word == "false" => Some(false),
            _ => {
                self.mismatch(key, &node, "true or false");
                None
            }
        }
    }

    pub(super) fn path(&mut self, key: &'static str) -> Option<Located<PathBuf>> {
        let text = self.text(key)?;
        if text.value.is_empty() {
            self.wrong(&text.place, format!("`{}` is empty", self.key(key)), "name a path, or take the key out");
            return None;
        }
        let joined = text.place.source.base.join(&text.value);
        // Rebuilt from its components, which drops "./" in the middle.
        Some(Located { value: joined.components().collect(), place: text.place })
    }

    pub(super) fn word<T: Copy>(&mut self, key: &'static str, words: Words<'_, T>) -> Option<T> {
        let text = self.text(key);
        let built = words.iter().filter(|(_, meaning)| meaning.is_some()).map(|(word, _)| (*word).to_owned());
        self.refine(key, Shape::Word(built.collect()));
        let text = text?;
        if let Some((word, meaning)) = words.iter().find(|(word, _)| *word == text.value) {
            if meaning.is_none() {
                let built: Vec<&str> =
                    words.iter().filter(|(_, built)| built.is_some()).map(|(word, _)| *word).collect();
                let what = format!("`{} = {word:?}`", self.key(key));
                self.not_built(&text.place, &what, format!("built are: {}", listed(&built)));
            }
            return *meaning;
        }
        let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let message = format!("`{}` is {}, not {:?}", self.key(key), listed(&all), text.value);
        let fix = values::nearest(&text.value, all.iter().copied());
        let mut problem = Problem::at(Kind::Wrong, &text.place, message);
        problem.fix = fix.map(|word| format!("did you mean {word:?}?"));
        self.findings.push(problem);
        None
    }

    pub(super) fn texts(&mut self, key: &'static str) -> Option<Vec<Located<String>>> {
        let node = self.take_as(key, Shape::Texts)?.node;
        let Value::List(items) = node.value else {
            self.compound(key, &node, "a list of strings");
            return None;
        };
        let mut texts = Vec::with_capacity(items.len());
        for item in items {
            match item.value {
                Value::Text(value) => texts.push(Located { place: item.place, value }),
                _ => self.mismatch(key, &item, "a list of strings"),
            }
        }
        Some(texts)
    }

    pub(super) fn table(&mut self, key: &'static str) -> Option<Table> {
        let node = self.take_as(key, Shape::Table)?.node;
        match node.value {
            Value::Table(table) => Some(table),
            Value::List(_) => {
                self.wrong(
                    &node.place,
                    format!("`{key}` is one table, not a list"),
                    format!("write [{}]", self.key(key)),
                );
                None
            }
            _ => {
                self.compound(key, &node, "a table");
                None
            }
        }
    }

    /// An array of tables, `[[key]]`.
    pub(super) fn tables(&mut self, key: &'static str) -> Vec<Table> {
        let Some(Entry { key: place, node }) = self.take_as(key, Shape::Tables) else { return Vec::new() };
        let header = format!("[[{}]]", self.key(key));
        let Value::List(items) = node.value else {
            let message = format!("`{key}` is a list of tables, not {}", node.value.type_name());
            self.wrong(&place, message, format!("write {header}"));
            return Vec::new();
        };
        let mut tables = Vec::with_capacity(items.len());
        for item in items {
            match item.value {
                Value::Table(table) => tables.push(table),
                _ => self.mismatch(key, &item, "a list of tables"),
            }
        }
        tables
    }

    /// A table of environment variables. Names and values are such that a process can be given them.
    pub(super) fn variables(&mut self, key: &'static str) -> Option<BTreeMap<String, String>> {
        let table = self.table(key);
        self.refine(key, Shape::Variables);
        let table = table?;
        let mut variables = BTreeMap::new();
        for (name, entry) in table.entries {
            if name.is_empty() || name.contains(['=', '\0']) {
                let message = format!("{name:?} is not a name for an environment variable");
                self.wrong(&entry.key, message, "use letters, digits and _");
                continue;
            }
            match entry.node.value {
                Value::Text(value) if !value.contains('\0') => {
                    variables.insert(name, value);
                }
                Value::Text(_) => {
                    self.wrong(
                        &entry.node.place,
                        format!("{name} holds a NUL character"),
                        "no process can be given one",
                    );
                }
                other => {
                    let message = format!("the variable {name} must be a string, not {}", other.type_name());
                    self.wrong(&entry.node.place, message, "put its value into quotes");
                }
            }
        }
        Some(variables)
    }

    /// Reports every key that was not asked for, with the nearest known one.
    pub(super) fn finish(self) {
        let Section { table, name, known, findings, .. } = self;
        for (key, entry) in table.entries {
            let written = |key: &str| {
                if entry.key.source.variable {
                    format!("HOOKMILL_{}__{}", name.to_uppercase(), key.to_uppercase())
                } else {
                    format!("`{key}`")
                }
            };
            let place = match (name.as_str(), entry.key.source.variable) {
                (_, true) => format!("unknown variable {}", written(&key)),
                ("", false) => format!("unknown key `{key}`"),
                (section, false) => format!("unknown key `{key}` in `{section}`"),
            };
            let fix = match values::nearest(&key, known.iter().copied()) {
                Some(meant) => format!("did you mean {}?", written(meant)),
                None => format!("known are: {}", known.join(", ")),
            };
            findings.push(Problem::at(Kind::Wrong, &entry.key, place).fix(fix));
        }
    }
}

/// `"a", "b" or "c"`.
fn listed(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

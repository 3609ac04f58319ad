//! JSON Schemas of both files, for editors.
//!
//! They can't differ from what is read: the readers note every key that they ask for, with the shape they want
//! (`Shape`), and a schema is what they noted while they read a text that has every table once. What people are told
//! about a key is the comment before it in `config/hookmill.toml` and `config/repository.toml`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::{Map, Value, json};

use super::problem::Findings;
use super::{load, repo_file, values};

/// The sample of `.hookmill.toml`, which is also the documentation of its every key.
pub const REPOSITORY_SAMPLE: &str = include_str!("../../config/repository.toml");

/// Has every table that the embedded default leaves out.
const SERVER_SPECIMEN: &str = "\
    [[forge]]\nname = \"a\"\nkind = \"gitea\"\nweb_url = \"https://a.invalid\"\n\
    [[defaults.secret]]\n\
    [[repo]]\nforge = \"a\"\nname = \"a/b\"\nlimits = {}\n\
    [[repo.secret]]\n\
    [[registry]]\n";

/// Which file a schema is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Of {
    /// The server's `hookmill.toml`.
    Server,
    /// A repository's `.hookmill.toml`.
    Repository,
}

/// What a reader wants under a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shape {
    /// Read by hand, and nobody said what it must be.
    Any,
    /// Known only to be refused: it is no key to be offered.
    Refused,
    Text,
    Texts,
    /// One text or several.
    TextOrTexts,
    Flag,
    Count,
    Positive,
    /// A number, or this word.
    CountOr(&'static str),
    Duration,
    /// A duration, or this word.
    DurationOr(&'static str),
    Size,
    /// A number of processors.
    Cpus,
    /// One of these words.
    Word(Vec<String>),
    /// A table that a section reads.
    Table,
    /// An array of tables that a section reads.
    Tables,
    /// Tables under names of the writer's own, which a section reads.
    Named,
    /// Names and texts of the writer's own.
    Variables,
    /// Names of the writer's own, and sizes.
    Sizes,
    /// Program and arguments.
    Command,
    /// `false`, `true` or hosts.
    Network,
}

/// What the readers asked for: sections by name, then keys.
#[derive(Debug, Default)]
pub(super) struct Asked {
    keys: BTreeMap<String, BTreeMap<&'static str, Shape>>,
    required: BTreeSet<(String, &'static str)>,
}

impl Asked {
    /// Notes a key. A shape says more than none; what is refused stays so.
    pub(super) fn note(&mut self, section: &str, key: &'static str, shape: Shape) {
        let keys = self.keys.entry(section.to_owned()).or_default();
        match (keys.get(key), &shape) {
            (Some(Shape::Refused), _) | (Some(_), Shape::Any) => {}
            _ => {
                keys.insert(key, shape);
            }
        }
    }

    /// Notes that a table without this key is at fault.
    pub(super) fn require(&mut self, section: &str, key: &'static str) {
        self.required.insert((section.to_owned(), key));
    }
}

/// The schema of a file: draft 7, which is what editors read.
pub fn of(file: Of) -> Value {
    let mut findings = Findings::default();
    let (title, sample) = match file {
        Of::Server => {
            load::note_keys(SERVER_SPECIMEN, Path::new("/"), &mut findings);
            ("hookmill.toml: the server's configuration", load::DEFAULT)
        }
        Of::Repository => {
            repo_file::note_keys(REPOSITORY_SAMPLE, &mut findings);
            (".hookmill.toml: what a repository says about its own build", REPOSITORY_SAMPLE)
        }
    };
    let sketch = Sketch { asked: findings.asked, said: comments(sample) };
    let mut schema = sketch.section("");
    schema.insert("$schema".to_owned(), json!("http://json-schema.org/draft-07/schema#"));
    schema.insert("title".to_owned(), json!(title));
    Value::Object(schema)
}

/// What is needed to draw a schema.
struct Sketch {
    asked: Asked,
    said: BTreeMap<String, String>,
}

impl Sketch {
    fn section(&self, section: &str) -> Map<String, Value> {
        let mut properties = Map::new();
        for (key, shape) in self.asked.keys.get(section).into_iter().flatten() {
            let name = if section.is_empty() { (*key).to_owned() } else { format!("{section}.{key}") };
            let Some(mut schema) = self.shape(&name, shape) else { continue };
            // A key that several tables share is documented in one of them.
            if let Some(said) = self.description(&name) {
                schema.insert("description".to_owned(), json!(said));
            }
            properties.insert((*key).to_owned(), Value::Object(schema));
        }
        let required: Vec<&str> =
            self.asked.required.iter().filter(|(of, _)| of == section).map(|(_, key)| *key).collect();
        let mut schema = object(json!({"type": "object", "additionalProperties": false}));
        if !required.is_empty() {
            schema.insert("required".to_owned(), json!(required));
        }
        schema.insert("properties".to_owned(), Value::Object(properties));
        schema
    }

    fn shape(&self, name: &str, shape: &Shape) -> Option<Map<String, Value>> {
        let text = || json!({"type": "string"});
        Some(object(match shape {
            Shape::Refused => return None,
            Shape::Any => json!({}),
            Shape::Text => text(),
            Shape::Texts => json!({"type": "array", "items": text()}),
            Shape::TextOrTexts => json!({"anyOf": [text(), {"type": "array", "items": text(), "minItems": 1}]}),
            Shape::Flag => json!({"type": "boolean"}),
            Shape::Count => json!({"type": "integer", "minimum": 0}),
            Shape::Positive => json!({"type": "integer", "minimum": 1}),
            Shape::CountOr(word) => json!({"anyOf": [{"const": word}, {"type": "integer", "minimum": 0}]}),
            Shape::Duration => duration(),
            Shape::DurationOr(word) => json!({"anyOf": [{"const": word}, duration()]}),
            Shape::Size => size(),
            Shape::Cpus => json!({"type": "number", "minimum": 0.01}),
            Shape::Word(words) => json!({"enum": words}),
            // A table that nothing reads is one that is refused.
            Shape::Table => self.known(name)?,
            Shape::Tables => json!({"type": "array", "items": self.known(name)?}),
            Shape::Named => json!({"type": "object", "additionalProperties": self.known(&format!("{name}.*"))?}),
            Shape::Variables => json!({"type": "object", "additionalProperties": text()}),
            Shape::Sizes => json!({"type": "object", "additionalProperties": size()}),
            Shape::Command => json!({"type": "array", "items": text(), "minItems": 1}),
            Shape::Network => {
                let host = json!({"type": "string", "pattern": "^[^:/]+:[0-9]+$|^\\[[^/]+\\]:[0-9]+$"});
                json!({"anyOf": [{"type": "boolean"}, {"type": "array", "items": host}]})
            }
        }))
    }

    /// What is said about a key, or about the one that stands for it: a repository's limits are described with the
    /// server's, the rules of `[[repo]]` and `[defaults]` in either, the forms of a secret with its file.
    fn description(&self, name: &str) -> Option<&String> {
        let Some((table, key)) = name.rsplit_once('.') else { return self.said.get(name) };
        let other = match table.rsplit('.').next().unwrap_or(table) {
            "limits" => "limits",
            "bundle" => "bundle",
            "repo" => "defaults",
            "defaults" => "repo",
            "secret" => "repo.secret",
            _ => table,
        };
        let file = format!("{}_file", key.strip_suffix("_env").unwrap_or(key));
        let places = [table, other].into_iter().flat_map(|table| [key, &file].map(|key| format!("{table}.{key}")));
        places.into_iter().find_map(|place| self.said.get(&place))
    }

    fn known(&self, section: &str) -> Option<Value> {
        self.asked.keys.contains_key(section).then(|| Value::Object(self.section(section)))
    }
}

fn duration() -> Value {
    json!({"type": "string", "pattern": "^([0-9]+ *[a-z]+ *)+$"})
}

fn size() -> Value {
    let units: Vec<&str> = values::SIZE_UNITS.iter().map(|(unit, _)| *unit).collect();
    let pattern = format!("^ *[0-9]+(\\.[0-9]+)? *({})? *$", units.join("|"));
    json!({"anyOf": [{"type": "string", "pattern": pattern}, {"type": "integer", "minimum": 1}]})
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        other => Map::from_iter([("const".to_owned(), other)]),
    }
}

/// The comment before each key, group of keys and table of a sample, by its full name; for a key that is commented out itself, as
/// those of `[[forge]]`, the comment behind it.
fn comments(sample: &str) -> BTreeMap<String, String> {
    let mut said = BTreeMap::new();
    let (mut section, mut before, mut used) = (String::new(), Vec::new(), false);
    for line in sample.lines() {
        let (text, inactive) = match line.strip_prefix("# ") {
            Some(text) if text.starts_with('[') || is_setting(text) => (text, true),
            _ => (line, false),
        };
        if let Some(comment) = text.strip_prefix('#') {
            if std::mem::take(&mut used) {
                before.clear();
            }
            before.push(comment.trim());
            continue;
        }
        if let Some(header) = text.strip_prefix('[') {
            if std::mem::take(&mut used) {
                before.clear();
            }
            let name = header.split(']').next().unwrap_or_default().trim_start_matches('[');
            // `on."release/**"` stands for every pattern.
            section = name.split_once(".\"").map_or(name.to_owned(), |(table, _)| format!("{table}.*"));
            let table = section.trim_end_matches(".*").to_owned();
            note(&mut said, table, before.join(" "));
            before.clear();
        } else if is_setting(text) {
            let (key, value) = text.split_once('=').unwrap_or((text, ""));
            let behind = value.rsplit_once("  #").map(|(_, comment)| comment.trim()).filter(|_| inactive);
            note(&mut said, format!("{section}.{}", key.trim()), behind.map_or(before.join(" "), str::to_owned));
            used = true;
        } else {
            before.clear();
        }
    }
    said
}

fn note(said: &mut BTreeMap<String, String>, name: String, comment: String) {
    if !comment.is_empty() {
        said.entry(name).or_insert(comment);
    }
}

/// `key = …`, and no sentence.
fn is_setting(text: &str) -> bool {
    text.split_once(" = ").is_some_and(|(key, _)| key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_about_a_key_is_the_comment_before_it() {
        let said = comments(
            "# head\n\n# The [a].\n[a]\n# One\n# and two.\nb = 1\nc = 2\n# Three.\nf = 1\n# [[d]]\n# e = 3    # or \"4\"\n",
        );
        let said: Vec<(&str, &str)> = said.iter().map(|(key, text)| (key.as_str(), text.as_str())).collect();
        assert_eq!(
            said,
            [
                ("a", "The [a]."),
                ("a.b", "One and two."),
                ("a.c", "One and two."),
                ("a.f", "Three."),
                ("d.e", "or \"4\"")
            ]
        );
    }
}

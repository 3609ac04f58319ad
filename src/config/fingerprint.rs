//! What a configuration says, key by key, so that two readings of it can be compared by the names of what differs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::document::{Node, Table, Value};
use super::surroundings::Surroundings;
use crate::domain::audit::ReadFile;

/// A digest of every setting's value, and of what the files and variables hold that settings name. In memory only: a short
/// secret could be guessed from its digest.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Fingerprint {
    settings: BTreeMap<String, [u8; 32]>,
    /// The files that were read, in order.
    pub files: Vec<ReadFile>,
}

impl std::fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.settings.keys()).finish()
    }
}

impl Fingerprint {
    /// The names of the settings that were not so before, in the order of their names; those that are gone, too.
    pub fn changed_since(&self, before: &Fingerprint) -> Vec<String> {
        let names = self.settings.keys().chain(before.settings.keys().filter(|key| !self.settings.contains_key(*key)));
        let mut changed: Vec<String> =
            names.filter(|key| self.settings.get(*key) != before.settings.get(*key)).cloned().collect();
        changed.sort();
        changed
    }

    /// Notes a file and what it holds.
    pub(super) fn file(&mut self, path: &Path, bytes: &[u8]) {
        let sha256 = hex::encode(Sha256::digest(bytes));
        self.files.push(ReadFile { path: path.display().to_string(), sha256 });
    }

    /// Notes every setting of a table.
    pub(super) fn table(&mut self, name: &str, table: &Table, around: &Surroundings) {
        for (key, entry) in &table.entries {
            let key = format!("{name}.{key}");
            if let Value::Table(inner) = &entry.node.value {
                self.table(&key, inner, around);
                continue;
            }
            let mut digest = Sha256::new();
            feed(&mut digest, &entry.node, &key, around);
            self.settings.insert(key, digest.finalize().into());
        }
    }

    /// Notes every setting of a list of tables, each by what it is about.
    pub(super) fn list(&mut self, name: &str, tables: &[Table], around: &Surroundings) {
        let mut met: BTreeMap<String, usize> = BTreeMap::new();
        for table in tables {
            let about: Vec<&str> = ["forge", "name"].iter().filter_map(|key| text(table, key)).collect();
            let about = about.join("/");
            let times = met.entry(about.clone()).or_default();
            *times += 1;
            let about = match (about.as_str(), *times) {
                ("", n) => n.to_string(),
                (_, 1) => about,
                (_, n) => format!("{about}#{n}"),
            };
            self.table(&format!("{name}.{about}"), table, around);
        }
    }
}

fn text<'t>(table: &'t Table, key: &str) -> Option<&'t str> {
    match &table.entries.get(key)?.node.value {
        Value::Text(text) => Some(text),
        _ => None,
    }
}

/// A value, with its kind and its length, so that no two lists are alike.
fn feed(digest: &mut Sha256, node: &Node, key: &str, around: &Surroundings) {
    let mut add = |kind: u8, bytes: &[u8]| {
        digest.update([kind]);
        digest.update(bytes.len().to_le_bytes());
        digest.update(bytes);
    };
    match &node.value {
        Value::Text(text) | Value::Word(text) => {
            add(b't', text.as_bytes());
            if key.ends_with("_file") {
                // One that can't be read is told where it is used.
                let path: PathBuf = node.place.source.base.join(text);
                add(b'f', &std::fs::read(path).unwrap_or_default());
            } else if key.ends_with("_env") {
                add(b'e', around.env.get(text).map(String::as_bytes).unwrap_or_default());
            }
        }
        Value::Integer(number) => add(b'i', &number.to_le_bytes()),
        Value::Fraction(number) => add(b'r', &number.to_le_bytes()),
        Value::Bool(flag) => add(b'b', &[u8::from(*flag)]),
        Value::Other(what) => add(b'o', what.as_bytes()),
        Value::List(items) => {
            add(b'l', &items.len().to_le_bytes());
            items.iter().for_each(|item| feed(digest, item, key, around));
        }
        Value::Table(table) => {
            add(b'm', &table.entries.len().to_le_bytes());
            for (inner, entry) in &table.entries {
                digest.update(inner.as_bytes());
                feed(digest, &entry.node, &format!("{key}.{inner}"), around);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::config::load::load;
    use crate::config::surroundings::Surroundings;

    #[test]
    fn what_changed_is_told_by_its_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");
        let read = || {
            let mut around = Surroundings::bare(folder.path());
            around.env.insert("TOKEN".to_owned(), "0123456789abcdef".to_owned());
            load(None, &around).expect("legal").fingerprint
        };
        let text = "[server]\nadmin_token_file = \"admin\"\n[[forge]]\nname = \"github\"\nkind = \"github\"\n\
                    token_env = \"TOKEN\"\nhook_secret = \"0123456789abcdef0\"\n[[repo]]\nforge = \"github\"\nname = \"acme/shop\"\n";
        write("hookmill.toml", text);
        write("admin", "0123456789abcdef-first");
        let first = read();
        assert_eq!(first.changed_since(&read()), [] as [&str; 0]);
        write("admin", "0123456789abcdef-other");
        assert_eq!(read().changed_since(&first), ["server.admin_token_file"]);
        assert_eq!(read().files, first.files, "the file that names it is as it was");

        write("hookmill.toml", &format!("{text}forks = \"build\"\n[limits]\nprocesses = 99\n"));
        let second = read();
        let changed = ["limits.processes", "repo.github/acme/shop.forks", "server.admin_token_file"];
        assert_eq!(second.changed_since(&first), changed);
        assert_eq!(first.changed_since(&second), changed, "what is gone is told as well");
        assert_ne!(second.files, first.files);
        let shown = format!("{second:?}");
        assert!(shown.contains("server.admin_token_file") && !shown.contains("0123456789"), "{shown}");
    }
}

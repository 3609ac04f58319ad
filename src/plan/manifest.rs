//! `package.json` and `bower.json`, read as leniently as their own tools read them.

use serde_json::{Map, Value};

use super::{BadPlan, inside};
use crate::domain::listing::Listing;

/// A manifest that is a JSON object.
pub(super) struct Manifest(Map<String, Value>);

impl Manifest {
    /// Reads the manifest of that name in a folder; `None` when there is none.
    pub(super) fn read(listing: &Listing, dir: &str, name: &str) -> Result<Option<Self>, BadPlan> {
        let file = inside(dir, name);
        if let Some(target) = listing.dangling.get(&file) {
            return Err(BadPlan::Dangling { file, target: target.clone() });
        }
        match listing.manifests.get(&file) {
            Some(bytes) => Self::parse(&file, bytes).map(Some),
            None if listing.has(&file) => Err(BadPlan::TooLarge { file }),
            None => Ok(None),
        }
    }

    /// Reads a manifest's bytes; `file` is what messages call it.
    pub(super) fn parse(file: &str, bytes: &[u8]) -> Result<Self, BadPlan> {
        let bad = |why: String| BadPlan::NotJson { file: file.to_owned(), why };
        if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
            return Err(bad("it is UTF-16; save it as UTF-8".to_owned()));
        }
        // Editors on Windows put a byte order mark there, and npm and bower read past it. What is no UTF-8 is
        // replaced, as they do: an author's name in Latin-1 stops nobody.
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let text = String::from_utf8_lossy(bytes);
        if text.trim().is_empty() {
            return Err(bad("it is empty; `{}` is the least".to_owned()));
        }
        match serde_json::from_str(&text) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            Ok(_) => Err(bad("it is not an object".to_owned())),
            Err(error) => Err(bad(format!("{error}{}", hint(&text, &error)))),
        }
    }

    pub(super) fn text(&self, field: &str) -> Option<&str> {
        self.0.get(field)?.as_str()
    }

    /// A command of `scripts`.
    pub(super) fn script(&self, name: &str) -> Option<&str> {
        self.0.get("scripts")?.get(name)?.as_str().filter(|command| !command.trim().is_empty())
    }

    /// The version range under which a package is asked for, wherever it is asked for.
    pub(super) fn dependency(&self, name: &str) -> Option<&str> {
        DEPENDENCIES.iter().find_map(|field| self.0.get(*field)?.get(name)?.as_str())
    }

    /// True when an install has something to fetch.
    pub(super) fn has_dependencies(&self) -> bool {
        self.asked(&DEPENDENCIES).next().is_some()
    }

    /// The dependencies under these fields, with their ranges.
    pub(super) fn asked<'a>(&'a self, fields: &'a [&str]) -> impl Iterator<Item = (&'a str, &'a str)> {
        let maps = fields.iter().filter_map(|field| self.0.get(*field).and_then(Value::as_object));
        maps.flatten().filter_map(|(name, range)| Some((name.as_str(), range.as_str()?)))
    }

    /// The value at a path of fields, when it is text.
    pub(super) fn text_at(&self, path: &[&str]) -> Option<&str> {
        self.at(path)?.as_str()
    }

    /// The value at a path of fields.
    pub(super) fn at(&self, path: &[&str]) -> Option<&Value> {
        let (first, rest) = path.split_first()?;
        rest.iter().try_fold(self.0.get(*first)?, |value, field| value.get(field))
    }

    /// The patterns of `workspaces`, in either of its forms.
    pub(super) fn workspaces(&self) -> Vec<&str> {
        let field = self.0.get("workspaces");
        let list = field.and_then(|value| value.as_array().or_else(|| value.get("packages")?.as_array()));
        list.into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// The texts of a list.
    pub(super) fn texts(&self, field: &str) -> Vec<&str> {
        self.0.get(field).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// The names of `scripts`.
    pub(super) fn script_names(&self) -> impl Iterator<Item = &str> {
        self.0.get("scripts").and_then(Value::as_object).into_iter().flatten().map(|(name, _)| name.as_str())
    }

    /// The first script that an install runs by itself.
    pub(super) fn lifecycle_script(&self) -> Option<&'static str> {
        LIFECYCLE.into_iter().find(|name| self.script(name).is_some())
    }
}

/// What serde's words leave open, for those who write JSON as they write JavaScript.
fn hint(text: &str, error: &serde_json::Error) -> &'static str {
    let line = text.lines().nth(error.line().saturating_sub(1)).unwrap_or_default();
    let comment = line.contains("//") || line.contains("/*");
    if comment || error.to_string().starts_with("trailing comma") {
        "; JSON has neither comments nor a comma behind the last entry"
    } else {
        ""
    }
}

/// Every field of dependencies, also those that are the user's to install.
pub(super) const DEPENDENCIES: [&str; 4] =
    ["dependencies", "devDependencies", "optionalDependencies", "peerDependencies"];

/// The fields of dependencies that every manager installs.
pub(super) const INSTALLED: [&str; 3] = ["dependencies", "devDependencies", "optionalDependencies"];

/// What npm, yarn, pnpm and bun run of the root package itself on an install.
pub(super) const LIFECYCLE: [&str; 6] = ["preinstall", "install", "postinstall", "prepublish", "preprepare", "prepare"];

/// The first number of a version or range: 4 of `^4.47.0`.
pub(super) fn major(range: &str) -> Option<u32> {
    let digits = range.trim_start_matches(|c: char| !c.is_ascii_digit());
    digits.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

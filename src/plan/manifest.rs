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
        let Some(bytes) = listing.manifests.get(&file) else {
            return if listing.has(&file) { Err(BadPlan::TooLarge { file }) } else { Ok(None) };
        };
        // Editors on Windows put a byte order mark there, and npm and bower read past it.
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(fields)) => Ok(Some(Self(fields))),
            Ok(_) => Err(BadPlan::NotJson { file, why: "it is not an object".to_owned() }),
            Err(error) => Err(BadPlan::NotJson { file, why: error.to_string() }),
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

    pub(super) fn has_dependencies(&self) -> bool {
        DEPENDENCIES
            .iter()
            .any(|field| self.0.get(*field).and_then(Value::as_object).is_some_and(|map| !map.is_empty()))
    }

    /// The patterns of `workspaces`, in either of its forms.
    pub(super) fn workspaces(&self) -> Vec<&str> {
        let field = self.0.get("workspaces");
        let list = field.and_then(|value| value.as_array().or_else(|| value.get("packages")?.as_array()));
        list.into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// The first script that an install runs by itself.
    pub(super) fn lifecycle_script(&self) -> Option<&'static str> {
        LIFECYCLE.into_iter().find(|name| self.script(name).is_some())
    }

    /// The lifecycle script that, by itself or through other scripts, runs `program`.
    pub(super) fn lifecycle_script_running(&self, program: &str) -> Option<&'static str> {
        LIFECYCLE.into_iter().find(|name| self.script_runs(name, program, 5))
    }

    /// Follows `npm run x` and the like, `depth` scripts far: scripts may call each other in circles.
    fn script_runs(&self, name: &str, program: &str, depth: u8) -> bool {
        let Some(command) = self.script(name) else { return false };
        let mut words =
            command.split(|c: char| c.is_whitespace() || ";&|()\"'".contains(c)).filter(|word| !word.is_empty());
        words.any(|word| {
            let base = word.rsplit('/').next().unwrap_or(word);
            base == program
                || (depth > 0
                    && base != name
                    && self.script(base).is_some()
                    && self.script_runs(base, program, depth - 1))
        })
    }
}

const DEPENDENCIES: [&str; 4] = ["dependencies", "devDependencies", "optionalDependencies", "peerDependencies"];

/// What npm, yarn, pnpm and bun run of the root package itself on an install.
const LIFECYCLE: [&str; 6] = ["preinstall", "install", "postinstall", "prepublish", "preprepare", "prepare"];

/// The first number of a version or range: 4 of `^4.47.0`.
pub(super) fn major(range: &str) -> Option<u32> {
    let digits = range.trim_start_matches(|c: char| !c.is_ascii_digit());
    digits.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

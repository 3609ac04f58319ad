//! The manifests of an install: its own, its workspace members', and those of packages that lie in the tree.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::{Map, Value};

use super::scripts::LIFECYCLE;
use super::sources::{Sources, inside, upwards};
use super::{Facts, NotKept};
use crate::domain::listing::joined;
use crate::domain::snapshot::Inputs;
use crate::domain::workspaces::{is_member, pnpm_packages};

/// Fields that say what is installed. A change of another one, or of a script that no install runs, changes nothing.
const FIELDS: [&str; 36] = [
    "name",
    "version",
    "dependencies",
    "devDependencies",
    "optionalDependencies",
    "peerDependencies",
    "peerDependenciesMeta",
    "dependenciesMeta",
    "bundleDependencies",
    "bundledDependencies",
    "trustedDependencies",
    "overrides",
    "resolutions",
    "patchedDependencies",
    "catalog",
    "catalogs",
    "workspaces",
    "packageManager",
    "devEngines",
    "engines",
    "engineStrict",
    "os",
    "cpu",
    "libc",
    "pnpm",
    "installConfig",
    "bin",
    "directories",
    "config",
    "gypfile",
    "binary",
    "flat",
    "private",
    // Read by install scripts of packages: msw, puppeteer, Prisma, Electron's builder.
    "msw",
    "prisma",
    "build",
];

/// Those in which a path may stand.
const WITH_PATHS: [&str; 10] = [
    "dependencies",
    "devDependencies",
    "optionalDependencies",
    "overrides",
    "resolutions",
    "patchedDependencies",
    "pnpm",
    "catalog",
    "catalogs",
    "workspaces",
];

/// A package whose install is part of a step: its manifest, and whether its own scripts run.
#[derive(Debug)]
pub(super) struct Package {
    /// Its folder; `.` is the root.
    pub(super) dir: String,
    pub(super) fields: Map<String, Value>,
    /// False for a folder above, whose settings count and whose scripts do not run.
    pub(super) runs_scripts: bool,
    /// True for what is linked or copied into another package's `node_modules`.
    pub(super) is_linked: bool,
}

impl Package {
    pub(super) fn scripts(&self) -> Map<String, Value> {
        self.fields.get("scripts").and_then(Value::as_object).cloned().unwrap_or_default()
    }

    /// True when it asks for a package itself.
    pub(super) fn asks_for(&self, name: &str) -> bool {
        WITH_PATHS[..3].iter().any(|field| self.fields.get(*field).is_some_and(|asked| asked.get(name).is_some()))
    }

    /// Adds what installing reads of it; `also` are scripts that its install scripts call.
    pub(super) fn add(&self, inputs: &mut Inputs, also: &BTreeSet<String>) {
        let is_read = |name: &str| LIFECYCLE.contains(&name) || also.contains(name);
        let mut read: BTreeMap<&str, Value> = BTreeMap::new();
        for field in FIELDS {
            // A root's own version is in its lockfile, where that matters.
            let is_told = self.is_linked || field != "version";
            if let Some(value) = self.fields.get(field).filter(|_| is_told) {
                read.insert(field, value.clone());
            }
        }
        let run: Map<String, Value> = self.scripts().into_iter().filter(|(name, _)| is_read(name)).collect();
        if !run.is_empty() {
            read.insert("scripts", Value::Object(run));
        }
        let text = serde_json::to_vec(&read).unwrap_or_default();
        inputs.add_bytes(format!("{} (what installing reads)", inside(&self.dir, "package.json")), &text);
    }

    /// The files of its `bin`.
    pub(super) fn bins(&self) -> Vec<String> {
        let texts: Vec<&str> = match self.fields.get("bin") {
            Some(Value::String(file)) => vec![file],
            Some(Value::Object(files)) => files.values().filter_map(Value::as_str).collect(),
            _ => Vec::new(),
        };
        texts.into_iter().filter_map(|file| joined(&self.dir, file)).collect()
    }
}

/// Everything that an install in `dir` reads manifests of, and the files of the tree that it copies.
pub(super) fn of(facts: &Facts<'_>, sources: &Sources<'_>, dir: &str) -> Result<(Vec<Package>, Local), NotKept> {
    let mut packages: BTreeMap<String, Package> = BTreeMap::new();
    let mut waiting: VecDeque<(String, bool, bool)> = VecDeque::new();
    for above in upwards(dir) {
        waiting.push_back((above.to_owned(), above == dir, false));
        let members = members(facts, sources, above)?;
        // A member that is installed by itself is installed as part of its workspace.
        if above == dir || members.iter().any(|member| member == dir) {
            waiting.extend(members.into_iter().map(|member| (member, true, true)));
        }
    }
    let mut local = Local::default();
    while let Some((dir, runs_scripts, is_linked)) = waiting.pop_front() {
        if let Some(known) = packages.get_mut(&dir) {
            known.runs_scripts |= runs_scripts;
            known.is_linked |= is_linked;
            continue;
        }
        let Some(fields) = read(sources, &dir)? else { continue };
        for path in paths(&fields, &dir)? {
            match path {
                InTree::File(path) => drop(local.files.insert(path)),
                InTree::Copied(folder) => {
                    waiting.push_back((folder.clone(), true, true));
                    local.folders.insert(folder);
                }
                InTree::Linked(folder) => waiting.push_back((folder, true, true)),
            }
        }
        packages.insert(dir.clone(), Package { dir, fields, runs_scripts, is_linked });
    }
    Ok((packages.into_values().collect(), local))
}

/// What an install takes from the tree itself.
#[derive(Debug, Default)]
pub(super) struct Local {
    /// Tarballs and patches.
    pub(super) files: BTreeSet<String>,
    /// Packages that are copied.
    pub(super) folders: BTreeSet<String>,
}

/// The fields of a manifest; `None` where there is none. One that is no JSON stops the install by itself.
pub(super) fn read(sources: &Sources<'_>, dir: &str) -> Result<Option<Map<String, Value>>, NotKept> {
    let Some(bytes) = sources.read(&inside(dir, "package.json"))? else { return Ok(None) };
    let text = String::from_utf8_lossy(bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(&bytes)).into_owned();
    match serde_json::from_str(&text) {
        Ok(Value::Object(fields)) => Ok(Some(fields)),
        Ok(_) | Err(_) => Err(NotKept::NotJson { path: inside(dir, "package.json") }),
    }
}

/// The folders of the members of the workspace at `dir`; empty when there is none.
pub(super) fn members(facts: &Facts<'_>, sources: &Sources<'_>, dir: &str) -> Result<Vec<String>, NotKept> {
    let mut patterns: Vec<String> = Vec::new();
    if let Some(yaml) = sources.read(&inside(dir, "pnpm-workspace.yaml"))? {
        patterns.extend(pnpm_packages(&String::from_utf8_lossy(&yaml)).unwrap_or_default());
    }
    if let Some(fields) = read(sources, dir)? {
        let field = fields.get("workspaces");
        patterns.extend(texts(field.and_then(|field| field.get("packages").or(Some(field)))));
    }
    if let Some(lerna) = sources.read(&inside(dir, "lerna.json"))?
        && let Ok(lerna) = serde_json::from_slice::<Value>(&lerna)
    {
        patterns.extend(texts(lerna.get("packages")));
    }
    if patterns.is_empty() {
        return Ok(Vec::new());
    }
    let folders = facts.listing.paths.iter().filter_map(|path| path.strip_suffix("/package.json"));
    let is_below = |folder: &&str| {
        let below =
            if dir == "." { Some(*folder) } else { folder.strip_prefix(dir).and_then(|rest| rest.strip_prefix('/')) };
        below.is_some_and(|below| is_member(&patterns, below))
    };
    Ok(folders.filter(is_below).map(str::to_owned).collect())
}

fn texts(list: Option<&Value>) -> Vec<String> {
    list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// A dependency that lies in the tree.
#[derive(Debug, PartialEq, Eq)]
enum InTree {
    /// A tarball or a patch.
    File(String),
    /// A folder whose contents may be copied.
    Copied(String),
    /// A folder to which only a link is made.
    Linked(String),
}

/// The paths among the dependencies of a manifest.
fn paths(fields: &Map<String, Value>, dir: &str) -> Result<Vec<InTree>, NotKept> {
    let mut found = Vec::new();
    for field in WITH_PATHS {
        if let Some(value) = fields.get(field) {
            each_text(value, field == "patchedDependencies", &mut |text, is_patch| {
                found.extend(in_tree(text, is_patch, dir)?);
                Ok(())
            })?;
        }
    }
    Ok(found)
}

fn each_text(
    value: &Value,
    is_patch: bool,
    seen: &mut impl FnMut(&str, bool) -> Result<(), NotKept>,
) -> Result<(), NotKept> {
    match value {
        Value::String(text) => seen(text, is_patch),
        Value::Object(fields) => fields
            .iter()
            .try_for_each(|(name, value)| each_text(value, is_patch || name == "patchedDependencies", seen)),
        _ => Ok(()),
    }
}

/// Where a dependency's text points, if that is in the tree: `file:../x`, `./x.tgz`, `patch:left-pad@1#./a.patch`.
fn in_tree(text: &str, is_patch: bool, dir: &str) -> Result<Vec<InTree>, NotKept> {
    let place = |path: &str| {
        joined(dir, path.trim_start_matches("//"))
            .ok_or_else(|| NotKept::Outside { path: inside(dir, "package.json"), text: text.to_owned() })
    };
    if is_patch {
        return Ok(vec![InTree::File(place(text)?)]);
    }
    if let Some(rest) = text.strip_prefix("patch:") {
        let (_, patches) = rest.split_once('#').unwrap_or_default();
        let patches = patches.split("::").next().unwrap_or_default().split('&');
        let own = patches.map(|patch| patch.trim_start_matches("optional!"));
        let own = own.filter(|patch| !patch.is_empty() && !patch.contains("builtin<"));
        // `~/` is the project's root, whose .yarn/patches is an input as a whole.
        return own.filter(|patch| !patch.starts_with("~/")).map(|patch| place(patch).map(InTree::File)).collect();
    }
    let is_path = |text: &str| text.starts_with("./") || text.starts_with("../") || text.starts_with(['/', '~']);
    let (path, is_link) = match text.split_once(':') {
        Some(("file", path)) => (path, false),
        Some(("link" | "portal", path)) => (path, true),
        // `~1.2.3` is a range.
        _ if is_path(text) && !text[1..].starts_with(|c: char| c.is_ascii_digit()) => (text, false),
        _ => return Ok(Vec::new()),
    };
    let path = path.split("::").next().unwrap_or(path);
    let path = path.split('#').next().unwrap_or(path);
    let is_tarball = [".tgz", ".tar.gz", ".tar"].iter().any(|end| path.ends_with(end));
    let place = place(path)?;
    Ok(vec![match (is_tarball, is_link) {
        (true, _) => InTree::File(place),
        (false, true) => InTree::Linked(place),
        (false, false) => InTree::Copied(place),
    }])
}

/// The folder of the nearest lockfile that an install in `dir` reads: its own, or that of the workspace it is part of.
pub(super) fn lockfile(
    facts: &Facts<'_>,
    sources: &Sources<'_>,
    tool: &str,
    dir: &str,
) -> Result<Option<String>, NotKept> {
    let names: &[&str] = match tool {
        "npm" => &["npm-shrinkwrap.json", "package-lock.json"],
        "yarn" => &["yarn.lock"],
        "pnpm" => &["pnpm-lock.yaml"],
        "bun" => &["bun.lock", "bun.lockb"],
        _ => &[],
    };
    for above in upwards(dir) {
        if above != dir && !members(facts, sources, above)?.iter().any(|member| member == dir) {
            continue;
        }
        for name in names {
            let path = inside(above, name);
            if sources.read(&path)?.is_some() {
                return Ok(Some(path));
            }
        }
    }
    Ok(None)
}

/// The folder in which a path's package lies, for globs that are relative to it.
pub(super) fn beneath(dir: &str, glob: &str) -> String {
    inside(dir, glob.trim_start_matches("./"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_that_lie_in_the_tree() {
        let file = |path: &str| InTree::File(path.to_owned());
        let check = |text: &str, expected: &[InTree]| {
            assert_eq!(in_tree(text, false, "web").expect("inside"), expected, "{text}");
        };
        for registry in
            ["^1.2.3", "~1.2.3", "*", "workspace:^", "npm:a@1", "acme/x", "git+https://h/x.git", "https://h/x.tgz"]
        {
            check(registry, &[]);
        }
        check("file:../libs/a", &[InTree::Copied("libs/a".to_owned())]);
        check("./libs/a", &[InTree::Copied("web/libs/a".to_owned())]);
        check("file:a-1.0.0.tgz", &[file("web/a-1.0.0.tgz")]);
        check("link:../b", &[InTree::Linked("b".to_owned())]);
        check("portal:b", &[InTree::Linked("web/b".to_owned())]);
        check("patch:a@npm:1#./x.patch", &[file("web/x.patch")]);
        check("patch:a@npm%3A1#~/.yarn/patches/a.patch", &[]);
        check("patch:fsevents@^2#optional!builtin<compat/fsevents>", &[]);
        for outside in ["file:../../x", "file:/opt/x", "~/x"] {
            let refused = in_tree(outside, false, "web").expect_err("outside").to_string();
            assert!(refused.contains(outside), "{refused}");
        }
    }
}

//! A lockfile's digest: its format and the manifests that it was written for.
//!
//! A lockfile is megabytes, of which a plan needs a few lines: who can read it, and whether it still fits the
//! `package.json` beside it. The formats are those of npm's `package-lock.json` documentation, of the yarn and pnpm
//! repositories (`@yarnpkg/lockfile`, `Project.ts`, `@pnpm/lockfile-types`) and of bun's text lockfile.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use saphyr::{Yaml, YamlLoader};
use saphyr_parser::{Event, Parser, SpannedEventReceiver as _};
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

/// Which program wrote a lockfile, and in which version of its format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// `package-lock.json` or `npm-shrinkwrap.json`, by `lockfileVersion`.
    Npm(u32),
    /// yarn 1.
    YarnClassic,
    /// yarn 2 and later, by `__metadata.version`.
    YarnModern(u32),
    /// pnpm, by the two numbers of `lockfileVersion`.
    Pnpm(u32, u32),
    /// `bun.lock`.
    Bun,
    /// `bun.lockb`, which bun wrote before its version 1.2.
    BunBinary,
}

/// For each package that a lockfile covers, by its folder from the lockfile's (`.` is its own): the range under which
/// each dependency was asked for.
pub type Ranges = BTreeMap<String, BTreeMap<String, String>>;

/// What a lockfile keeps of the manifests that it was written for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WrittenFor {
    /// npm since version 7, yarn since 2, pnpm and bun keep every manifest's ranges.
    Packages(Ranges),
    /// yarn 1 keeps `name@range` of everything, whoever asked.
    Patterns(BTreeSet<String>),
    /// npm 5 and 6 kept the outcome alone, and a binary is not read.
    Nothing,
}

/// A lockfile in a few lines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lockfile {
    /// Who can read it.
    pub format: Format,
    /// Against what it is compared.
    pub written_for: WrittenFor,
    /// npm only: the versions at the top of `node_modules`, by name.
    pub installed: BTreeMap<String, String>,
    /// Names whose ranges are not the manifest's, because the lockfile's `overrides` replaced them.
    pub overridden: BTreeSet<String>,
}

/// Files that are lockfiles of JavaScript package managers.
pub const NAMES: [&str; 6] =
    ["pnpm-lock.yaml", "yarn.lock", "bun.lock", "bun.lockb", "npm-shrinkwrap.json", "package-lock.json"];

/// Levels of a lockfile; the deepest that a manager writes has six.
const DEEPEST: usize = 64;

impl Lockfile {
    /// Reads the lockfile called `name` (one of [`NAMES`]). `None` for what is not in that file's format: its own
    /// program says what is wrong with it, better than we could.
    pub fn read(name: &str, bytes: &[u8]) -> Option<Self> {
        if name == "bun.lockb" {
            return Some(Self::new(Format::BunBinary, WrittenFor::Nothing));
        }
        let text = String::from_utf8_lossy(bytes);
        let text = text.trim_start_matches('\u{feff}').replace("\r\n", "\n");
        match name {
            "package-lock.json" | "npm-shrinkwrap.json" => npm(&text),
            "yarn.lock" if text.contains("\n__metadata:") || text.starts_with("__metadata:") => yarn_modern(&text),
            "yarn.lock" => Some(yarn_classic(&text)),
            "pnpm-lock.yaml" => pnpm(&text),
            "bun.lock" => bun(&text),
            _ => None,
        }
    }

    fn new(format: Format, written_for: WrittenFor) -> Self {
        Self { format, written_for, installed: BTreeMap::new(), overridden: BTreeSet::new() }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NpmLock {
    #[serde(default)]
    lockfile_version: u32,
    packages: Option<NpmPackages>,
    #[serde(default)]
    dependencies: BTreeMap<String, NpmVersion>,
}

#[derive(Deserialize)]
struct NpmVersion {
    #[serde(default)]
    version: String,
}

/// A manifest's fields of dependencies.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Asked {
    version: String,
    link: bool,
    dependencies: BTreeMap<String, String>,
    dev_dependencies: BTreeMap<String, String>,
    optional_dependencies: BTreeMap<String, String>,
    peer_dependencies: BTreeMap<String, String>,
}

impl Asked {
    fn ranges(self) -> BTreeMap<String, String> {
        let fields = [self.peer_dependencies, self.dev_dependencies, self.dependencies, self.optional_dependencies];
        fields.into_iter().flatten().collect()
    }
}

/// `packages` of a `package-lock.json`, without the thousands of entries that no manifest asks for.
#[derive(Default)]
struct NpmPackages {
    ranges: Ranges,
    installed: BTreeMap<String, String>,
}

impl<'de> Deserialize<'de> for NpmPackages {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = NpmPackages;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("the packages of a lockfile")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<NpmPackages, A::Error> {
                let mut found = NpmPackages::default();
                while let Some(folder) = map.next_key::<String>()? {
                    match folder.split_once("node_modules/") {
                        None => {
                            let folder = if folder.is_empty() { ".".to_owned() } else { folder };
                            found.ranges.insert(folder, map.next_value::<Asked>()?.ranges());
                        }
                        Some(("", name)) if !name.contains("/node_modules/") => {
                            let entry: Asked = map.next_value()?;
                            if !entry.link {
                                found.installed.insert(name.to_owned(), entry.version);
                            }
                        }
                        Some(_) => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(found)
            }
        }
        deserializer.deserialize_map(Entries)
    }
}

fn npm(text: &str) -> Option<Lockfile> {
    let lock: NpmLock = serde_json::from_str(text).ok()?;
    // npm 7 and later compare with `packages`; before there was none.
    let Some(packages) = lock.packages else {
        let installed = lock.dependencies.into_iter().map(|(name, entry)| (name, entry.version)).collect();
        let format = Format::Npm(lock.lockfile_version.max(1));
        return Some(Lockfile { installed, ..Lockfile::new(format, WrittenFor::Nothing) });
    };
    let NpmPackages { ranges, mut installed } = packages;
    installed.retain(|name, _| ranges.values().any(|asked| asked.contains_key(name)));
    let format = Format::Npm(lock.lockfile_version.max(2));
    Some(Lockfile { installed, ..Lockfile::new(format, WrittenFor::Packages(ranges)) })
}

/// The keys of yarn 1's entries: `"@a/b@^1.0.0", c@2:` at the beginning of a line.
fn yarn_classic(text: &str) -> Lockfile {
    let keys = text.lines().filter(|line| !line.starts_with([' ', '#']) && line.ends_with(':'));
    let patterns = keys.flat_map(|line| line.trim_end_matches(':').split(", "));
    let patterns = patterns.map(|pattern| pattern.trim_matches('"').to_owned()).collect();
    Lockfile::new(Format::YarnClassic, WrittenFor::Patterns(patterns))
}

/// Entries are blocks between empty lines; only those of the workspace's own packages are parsed.
fn yarn_modern(text: &str) -> Option<Lockfile> {
    let mut version = None;
    let mut ranges = Ranges::new();
    for block in text.split("\n\n") {
        let block = block.trim_start_matches('\n');
        if block.starts_with("__metadata:") {
            version = number(yaml(block)?.as_mapping_get("__metadata")?.as_mapping_get("version")?);
        } else if block.lines().next().is_some_and(|key| key.contains("@workspace:")) {
            let parsed = yaml(block)?;
            let (_, entry) = parsed.as_mapping()?.iter().next()?;
            let (_, folder) = entry.as_mapping_get("resolution")?.as_str()?.rsplit_once("@workspace:")?;
            ranges.insert(folder.to_owned(), yaml_ranges(entry));
        }
    }
    Some(Lockfile::new(Format::YarnModern(version?), WrittenFor::Packages(ranges)))
}

/// The packages that are installed come after the manifests', and are not parsed.
fn pnpm(text: &str) -> Option<Lockfile> {
    // pnpm keeps its own tools in documents before the one of the packages.
    let text = text.rsplit("\n---\n").next().unwrap_or(text);
    let head = ["\npackages:", "\nsnapshots:"].iter().filter_map(|key| text.find(key)).min();
    let lock = yaml(&text[..head.unwrap_or(text.len())])?;
    let written = lock.as_mapping_get("lockfileVersion")?;
    let written = written.as_str().map(str::to_owned).or_else(|| Some(written.as_floating_point()?.to_string()));
    let written = written.or_else(|| Some(lock.as_mapping_get("lockfileVersion")?.as_integer()?.to_string()))?;
    let (major, minor) = written.split_once('.').unwrap_or((&written, "0"));
    // `5.4-inlineSpecifiers` was an experiment of pnpm 7.
    let minor = minor.split('-').next().unwrap_or_default();
    let mut ranges = Ranges::new();
    match lock.as_mapping_get("importers").and_then(Yaml::as_mapping) {
        Some(importers) => {
            for (folder, entry) in importers {
                ranges.insert(folder.as_str()?.to_owned(), yaml_ranges(entry));
            }
        }
        None => {
            ranges.insert(".".to_owned(), yaml_ranges(&lock));
        }
    }
    let overrides = lock.as_mapping_get("overrides").and_then(Yaml::as_mapping);
    let overridden = overrides.into_iter().flatten().filter_map(|(name, _)| name.as_str());
    let format = Format::Pnpm(major.parse().ok()?, minor.parse().ok()?);
    let lockfile = Lockfile::new(format, WrittenFor::Packages(ranges));
    Some(Lockfile { overridden: overridden.map(overridden_name).collect(), ..lockfile })
}

/// `b` of `a>b@^1`: what an override of pnpm replaces.
fn overridden_name(selector: &str) -> String {
    let name = selector.rsplit('>').next().unwrap_or(selector).trim();
    let end = name.get(1..).and_then(|rest| rest.find('@')).map_or(name.len(), |at| at + 1);
    name[..end].to_owned()
}

/// JSON with commas before closing brackets, which is also YAML.
fn bun(text: &str) -> Option<Lockfile> {
    let end = text.find("\n  \"packages\":").map_or_else(|| text.to_owned(), |at| format!("{}}}", &text[..at]));
    let lock = yaml(&end)?;
    let mut ranges = Ranges::new();
    for (folder, entry) in lock.as_mapping_get("workspaces")?.as_mapping()? {
        let folder = folder.as_str().filter(|folder| !folder.is_empty()).unwrap_or(".");
        ranges.insert(folder.to_owned(), yaml_ranges(entry));
    }
    let overrides = lock.as_mapping_get("overrides").and_then(Yaml::as_mapping);
    let overridden = overrides.into_iter().flatten().filter_map(|(name, _)| name.as_str()).map(str::to_owned);
    let lockfile = Lockfile::new(Format::Bun, WrittenFor::Packages(ranges));
    Some(Lockfile { overridden: overridden.collect(), ..lockfile })
}

/// The first document of a text, event by event: the library's own reader calls itself for each level, so that a
/// kilobyte of brackets would end the process.
fn yaml(text: &str) -> Option<Yaml<'_>> {
    let mut loader = YamlLoader::<Yaml<'_>>::default();
    let mut depth = 0_usize;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.ok()?;
        match event {
            Event::SequenceStart(..) | Event::MappingStart(..) => depth += 1,
            Event::SequenceEnd | Event::MappingEnd => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEEPEST {
            return None;
        }
        loader.on_event(event, span);
    }
    // What it could not put together it has told: then the rest is not to be trusted.
    loader.error().is_none().then(|| loader.into_documents().into_iter().next())?
}

fn number(node: &Yaml<'_>) -> Option<u32> {
    node.as_integer().and_then(|number| u32::try_from(number).ok()).or_else(|| node.as_str()?.parse().ok())
}

/// The ranges of one manifest: `specifiers`, or the fields of dependencies with `specifier` inside or without.
fn yaml_ranges(entry: &Yaml<'_>) -> BTreeMap<String, String> {
    const FIELDS: [&str; 5] =
        ["peerDependencies", "devDependencies", "dependencies", "optionalDependencies", "specifiers"];
    let old = entry.as_mapping_get("specifiers").is_some();
    let fields = FIELDS.iter().filter(|field| !old || **field == "specifiers");
    let maps = fields.filter_map(|field| entry.as_mapping_get(field)?.as_mapping());
    let ranges = maps.flatten().filter_map(|(name, asked)| {
        let asked = asked.as_mapping_get("specifier").unwrap_or(asked);
        Some((name.as_str()?.to_owned(), scalar(asked)?))
    });
    ranges.collect()
}

/// `18` without quotes is a number in YAML and a range to everybody else.
fn scalar(node: &Yaml<'_>) -> Option<String> {
    let number = || node.as_integer().map(|number| number.to_string());
    let fraction = || node.as_floating_point().map(|number| number.to_string());
    node.as_str().map(str::to_owned).or_else(number).or_else(fraction)
}

#[cfg(test)]
mod tests;

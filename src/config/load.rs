//! Reads the layers, the embedded default first, and checks everything before anything is used.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::blocks;
use super::data;
use super::document::{self, Table};
use super::fingerprint::Fingerprint;
use super::limits::PartialLimits;
use super::parts;
use super::problem::{Findings, Kind, Problem, Problems, display_name};
use super::registries;
use super::root;
use super::section::Section;
use super::server::{Forges, Require, Server};
use super::store_url;
use super::surroundings::Surroundings;
use super::values;

/// What messages call the first layer.
pub(super) const EMBEDDED: &str = "built-in default";

/// The first layer, which is also the documentation of every key.
pub const DEFAULT: &str = include_str!("../../config/hookmill.toml");

/// The tables whose single values the environment can set.
const TABLES: [&str; 11] = [
    "server",
    "store",
    "data",
    "agent",
    "limits",
    "network",
    "toolchain",
    "sandbox",
    "statuses",
    "retention",
    "defaults",
];

/// The arrays of tables; every layer adds to them.
const LISTS: [&str; 3] = ["forge", "repo", "registry"];

/// Where the file is looked for last.
const SYSTEM_FILE: &str = "/etc/hookmill/hookmill.toml";

/// Settings that may be used.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// Everything, checked.
    pub server: Server,
    /// What works and should still be looked at.
    pub warnings: Vec<Problem>,
    /// The files that were read, in order.
    pub files: Vec<PathBuf>,
    /// What was read, to be compared with another reading.
    pub fingerprint: Fingerprint,
}

/// Why there are no settings.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LoadError {
    /// No file and no variable configures anything: somebody has just begun.
    #[error("nothing is configured: there is no {}", .looked.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(" and no "))]
    NothingConfigured {
        /// Where a file was looked for.
        looked: Vec<PathBuf>,
    },
    /// There are settings, and they can't be used.
    #[error(transparent)]
    Wrong(#[from] Problems),
}

/// Reads every layer: the embedded default, the file that `flag` names or that is found, `repos.d/*.toml`
/// beside it, and the environment.
///
/// # Errors
/// [`LoadError::NothingConfigured`] when there is no layer but the first; else every fault that was found.
pub fn load(flag: Option<&Path>, around: &Surroundings) -> Result<Loaded, LoadError> {
    let mut findings = Findings::default();
    let mut layers = Layers::embedded(&around.cwd, &mut findings);
    let mut files = Vec::new();
    let variables = variables(around);
    match locate(flag, around) {
        Ok(file) => {
            layers.add_file(&file, around, false, &mut findings);
            let more = additional(&file, &mut findings);
            more.iter().for_each(|path| layers.add_file(path, around, true, &mut findings));
            files.push(file);
            files.extend(more);
        }
        Err(looked) if variables.is_empty() => return Err(LoadError::NothingConfigured { looked }),
        Err(_) => {}
    }
    layers.add_variables(variables, around, &mut findings);
    Ok(layers.check(around, files, findings)?)
}

/// The embedded default with `around`'s proxy, certificates and machine, and no file: for a build without a server.
///
/// # Errors
/// Every fault that was found; there is none unless a variable of `around` is at fault.
pub fn defaults(around: &Surroundings) -> Result<Loaded, LoadError> {
    let mut findings = Findings::default();
    let layers = Layers::embedded(&around.cwd, &mut findings);
    Ok(layers.check(around, Vec::new(), findings)?)
}

/// Reads one text over the embedded default, as if it stood in a file in `base`, with an empty environment.
///
/// # Errors
/// Every fault that was found.
pub fn from_text(text: &str, base: &Path) -> Result<Loaded, Problems> {
    let around = Surroundings::bare(base);
    let mut findings = Findings::default();
    let mut layers = Layers::embedded(base, &mut findings);
    layers.add_text("hookmill.toml".to_owned(), base, text, false, &mut findings);
    layers.check(&around, Vec::new(), findings)
}

/// Reads one text over the embedded default for the keys that are asked for; what is wrong in it does not matter.
pub(super) fn note_keys(text: &str, base: &Path, findings: &mut Findings) {
    let mut layers = Layers::embedded(base, findings);
    layers.add_text("specimen".to_owned(), base, text, false, findings);
    layers.read(&Surroundings::bare(base), findings);
}

/// The file to read, or where there was none. A file that somebody names is read, and missed, by name.
fn locate(flag: Option<&Path>, around: &Surroundings) -> Result<PathBuf, Vec<PathBuf>> {
    let named = flag.map(PathBuf::from).or_else(|| around.variable("HOOKMILL_CONFIG").map(PathBuf::from));
    if let Some(path) = named {
        return Ok(around.cwd.join(path).components().collect());
    }
    let looked = vec![around.cwd.join("hookmill.toml"), PathBuf::from(SYSTEM_FILE)];
    looked.iter().find(|path| path.exists()).cloned().ok_or(looked)
}

/// `repos.d/*.toml` beside the file, in name order.
fn additional(file: &Path, findings: &mut Findings) -> Vec<PathBuf> {
    let folder = file.parent().unwrap_or(Path::new("/")).join("repos.d");
    let listing = match std::fs::read_dir(&folder) {
        Ok(listing) => listing,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            findings.push(Problem::general(format!("{} can't be read: {error}", folder.display())));
            return Vec::new();
        }
    };
    let paths = listing.filter_map(|entry| Some(entry.ok()?.path()));
    let hidden = |path: &Path| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    let mut paths: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|end| end == "toml") && !hidden(path)).collect();
    paths.sort();
    paths
}

/// An environment variable that is meant for us: `HOOKMILL_SECTION__KEY`.
struct Variable<'a> {
    name: &'a str,
    value: &'a str,
    section: String,
    key: String,
}

fn variables(around: &Surroundings) -> Vec<Variable<'_>> {
    let ours = |(name, value)| {
        let (name, value): (&String, &String) = (name, value);
        let (section, key) = name.strip_prefix("HOOKMILL_")?.split_once("__")?;
        Some(Variable { name, value, section: section.to_lowercase(), key: key.to_lowercase() })
    };
    around.env.iter().filter_map(ours).collect()
}

/// What the layers said so far: later ones on top of earlier ones, nothing checked yet.
struct Layers {
    tables: BTreeMap<&'static str, Table>,
    lists: BTreeMap<&'static str, Vec<Table>>,
    /// A text is missing whole, so what refers to it can't be judged.
    incomplete: bool,
    fingerprint: Fingerprint,
}

impl Layers {
    fn embedded(cwd: &Path, findings: &mut Findings) -> Self {
        let mut layers = Self {
            tables: BTreeMap::new(),
            lists: BTreeMap::new(),
            incomplete: false,
            fingerprint: Fingerprint::default(),
        };
        layers.add_text(EMBEDDED.to_owned(), cwd, DEFAULT, false, findings);
        layers
    }

    fn add_file(&mut self, path: &Path, around: &Surroundings, additional: bool, findings: &mut Findings) {
        let name = display_name(path, &around.cwd);
        match std::fs::read_to_string(path) {
            Ok(text) => {
                self.fingerprint.file(path, text.as_bytes());
                self.add_text(name, path.parent().unwrap_or(Path::new("/")), &text, additional, findings);
            }
            Err(error) => {
                self.incomplete = true;
                let fix = "name another file with --config or $HOOKMILL_CONFIG, or write one with `hookmill init`";
                findings.push(Problem::general(format!("{name} can't be read: {error}")).fix(fix));
            }
        }
    }

    fn add_text(&mut self, name: String, base: &Path, text: &str, additional: bool, findings: &mut Findings) {
        let table = match document::parse(name, base.to_owned(), text) {
            Ok(table) => table,
            Err(problems) => {
                self.incomplete = true;
                return problems.into_iter().for_each(|problem| findings.push(problem));
            }
        };
        let mut root = Section::new("", table, findings);
        for key in TABLES {
            if additional && let Some(entry) = root.take(key) {
                let message = format!("[{key}] does not belong into repos.d");
                root.wrong(&entry.key, message, "move it into hookmill.toml; here are only [[repo]] and [[registry]]");
            } else if let Some(table) = root.table(key) {
                self.overlay(key, table);
            }
        }
        for key in LISTS {
            if additional
                && key == "forge"
                && let Some(entry) = root.take(key)
            {
                root.wrong(&entry.key, "[[forge]] does not belong into repos.d", "move it into hookmill.toml");
            }
            let tables = root.tables(key);
            self.lists.entry(key).or_default().extend(tables);
        }
        root.finish();
    }

    fn overlay(&mut self, key: &'static str, table: Table) {
        match self.tables.get_mut(key) {
            Some(lower) => lower.overlay(table),
            None => {
                self.tables.insert(key, table);
            }
        }
    }

    fn add_variables(&mut self, variables: Vec<Variable<'_>>, around: &Surroundings, findings: &mut Findings) {
        for Variable { name, value, section, key } in variables {
            let table = document::variable(name, value, &key, around.cwd.clone());
            if let Some(section) = TABLES.into_iter().find(|table| *table == section) {
                self.overlay(section, table);
                continue;
            }
            let fix = if LISTS.contains(&section.as_str()) {
                format!("a variable can't set a key of [[{section}]]: write it in the file")
            } else {
                match values::nearest(&section, TABLES) {
                    Some(meant) => format!("did you mean HOOKMILL_{}__{}?", meant.to_uppercase(), key.to_uppercase()),
                    None => format!("sections are: {}", TABLES.join(", ")),
                }
            };
            for entry in table.entries.values() {
                let message = format!("unknown variable {name}");
                findings.push(Problem::at(Kind::Wrong, &entry.key, message).fix(fix.clone()));
            }
        }
    }

    /// Makes the settings out of what the layers say.
    fn check(mut self, around: &Surroundings, files: Vec<PathBuf>, mut findings: Findings) -> Result<Loaded, Problems> {
        if self.incomplete {
            return Err(Problems(findings.problems));
        }
        let mut fingerprint = std::mem::take(&mut self.fingerprint);
        self.tables.iter().for_each(|(name, table)| fingerprint.table(name, table, around));
        self.lists.iter().for_each(|(name, tables)| fingerprint.list(name, tables, around));
        let server = self.read(around, &mut findings);
        findings.verdict().map(|warnings| Loaded { server, warnings, files, fingerprint })
    }

    /// What is wrong is noted, and something harmless stands in its place.
    fn read(mut self, around: &Surroundings, found: &mut Findings) -> Server {
        let partial_limits = PartialLimits::read(self.section("limits", found));
        let agent = parts::agent(self.section("agent", found), &partial_limits, around);
        let by_name = blocks::forges(self.lists.remove("forge").unwrap_or_default(), around, found);
        let defaults = self.tables.remove("defaults");
        let defaults = defaults.map(|table| blocks::defaults(table, around, found)).unwrap_or_default();
        let repos = self.lists.remove("repo").unwrap_or_default();
        let blocks = blocks::repos(repos, &by_name, &defaults, around, found);
        let registries = registries::registries(self.lists.remove("registry").unwrap_or_default(), around, found);
        let (web, sweep) = parts::server(self.section("server", found), around);
        let data::Data { dir: data_dir, space, blobs } = data::data(self.section("data", found), around);
        let (sandbox, root) = parts::sandbox(self.section("sandbox", found));
        let own = blocks.iter().map(|block| &block.rules).chain([&defaults]).filter_map(|rules| rules.root.as_ref());
        root::check(root.iter().chain(own), sandbox.require != Require::None, &data_dir, found);
        let root = root.and_then(|root| root.value);
        let forges = Forges { by_name, registries, blocks, defaults, limits: Some(agent.limits.clone()), root };
        Server {
            web: Arc::new(web),
            sweep,
            store: Arc::new(store_url::read(self.section("store", found), around)),
            data_dir,
            space: Arc::new(space),
            blobs: blobs.map(Arc::new),
            agent: Arc::new(agent),
            network: Arc::new(parts::network(self.section("network", found), around)),
            toolchain: Arc::new(parts::toolchain(self.section("toolchain", found))),
            sandbox: Arc::new(sandbox),
            statuses: Arc::new(parts::statuses(self.section("statuses", found))),
            retention: Arc::new(parts::retention(self.section("retention", found))),
            forges: Arc::new(forges),
        }
    }

    fn section<'f>(&mut self, key: &'static str, findings: &'f mut Findings) -> Section<'f> {
        let table = self.tables.remove(key).expect("the embedded default has every table");
        Section::new(key, table, findings)
    }
}

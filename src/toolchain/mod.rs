//! The agent's own tools: where node, the package managers, git and bower are, and in which version.
//!
//! Only what the operator installed is ever started here, never from a folder that a repository
//! fills and never on a repository's word: a version that a repository asks for is read, not run.

mod bower;
mod digest;
mod download;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod identity;
mod manager;
mod node;
mod place;
mod platform;
mod registry;
mod resolver;
mod search;
mod shelf;
mod supply;
mod unmet;
mod unpack;
mod versions;
mod wish;
mod yarn;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use url::Url;

use crate::config::root::Root;
use crate::confine::Visit;

pub use bower::{BowerPlaces, places as bower_places, places_of as bower_places_of};
pub use identity::identity;
pub use search::{find, folders_of, readable};
pub use supply::{Given, Headers, Outfit, Supply, UNUSED, bower, collect};
pub use unmet::Unmet;
pub use yarn::own_registry as yarns_own_registry;

use place::Place;
use versions::Asker;

/// The programs that steps may need from the agent. The first is what the others run on.
pub const TOOLS: [&str; 9] = ["node", "npm", "npx", "yarn", "pnpm", "bun", "bower", "git", "corepack"];

/// A program of the agent's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tool {
    /// Its name: `npm`.
    pub name: &'static str,
    /// Where it was found, links not followed.
    pub path: PathBuf,
    /// Its version without a `v`, where it could be told.
    pub version: Option<String>,
}

/// A tool that a step needs and the agent does not have. Not the commit's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{tool} is not installed {place} (looked in {looked_in}); {mend}")]
pub struct Missing {
    /// The tool.
    pub tool: String,
    /// Whose it would be: `on the agent`, `in the root /srv/roots/node20`.
    pub place: String,
    /// Where it was looked for.
    pub looked_in: String,
    /// The command that installs it.
    pub mend: String,
}

/// The tools of this machine, as they were when it was looked at; keep it for as long as they should count.
#[derive(Debug, Clone, Default)]
pub struct Toolchain {
    searched: Vec<PathBuf>,
    tools: BTreeMap<&'static str, Tool>,
    path: Vec<PathBuf>,
    readable: Vec<PathBuf>,
    registry: Option<String>,
    node_headers: Option<Url>,
    place: Place,
    /// This machine's own, where these are another root's.
    host: Option<Arc<Toolchain>>,
}

impl Toolchain {
    /// Looks for every tool in the folders of a `PATH` and asks for versions. It starts `node`,
    /// `git` and `bun` with `--version` or the like, and `npm config get registry`, side by side, in `/`.
    pub async fn look(path_variable: &OsStr) -> Self {
        Self::look_at(Place::Host, search::folders(path_variable), &Asker::Host(path_variable)).await
    }

    /// Looks for every tool in another root: in those of the agent's own folders that it has, then in the usual ones. What
    /// it finds is started behind a fence in that root. `host` has this machine's tools: its npm knows
    /// where the agent's user goes.
    pub async fn look_in(root: &Root, visit: &Visit, path_variable: &OsStr, host: Arc<Toolchain>) -> Self {
        let place = Place::Root(root.clone());
        let mut searched = search::folders(path_variable);
        searched.extend(search::STANDARD.map(PathBuf::from));
        search::in_order_once(&mut searched);
        searched.retain(|folder| place.has(folder));
        let path = std::env::join_paths(&searched).unwrap_or_default().to_string_lossy().into_owned();
        let found = Self::look_at(place, searched, &Asker::Root(visit, path)).await;
        let registry = host.registry.clone().or(found.registry);
        Self { registry, readable: Vec::new(), host: Some(host), ..found }
    }

    async fn look_at(place: Place, searched: Vec<PathBuf>, asker: &Asker<'_>) -> Self {
        let is_program = |path: &Path| place.is_program(path);
        let found = |name: &&'static str| Some((*name, find(name, &searched, is_program)?));
        let places: BTreeMap<&'static str, PathBuf> = TOOLS.iter().filter_map(found).collect();
        let (node, git, bun, registry) = tokio::join!(
            versions::node(places.get("node"), asker),
            versions::asked(places.get("git"), asker),
            versions::asked(places.get("bun"), asker),
            versions::registry(places.get("npm"), asker),
        );
        let mut path = Vec::new();
        // A version manager's `node` is a script of its own; the real one, and npm beside it, go before it.
        let is_script = |node: &&versions::Node| {
            places.get("node").is_none_or(|found| place.real(found) != place.real(&node.program))
        };
        path.extend(node.as_ref().filter(is_script).and_then(|node| node.program.parent()).map(Path::to_path_buf));
        path.extend(folders_of(&TOOLS, &searched, is_program));
        let mut readable: Vec<PathBuf> =
            node.iter().flat_map(|node| search::readable(&node.program, &node.program)).collect();
        let tools: BTreeMap<&'static str, Tool> = places
            .into_iter()
            .map(|(name, path)| {
                let real = place.real(&path).unwrap_or_else(|| path.clone());
                readable.extend(search::readable(&path, &real));
                let version = match name {
                    "node" => node.as_ref().map(|node| node.version.clone()),
                    "git" => git.clone(),
                    "bun" => bun.clone(),
                    _ => versions::from_package(name, &real, &place),
                };
                (name, Tool { name, path, version })
            })
            .collect();
        search::outermost(&mut readable);
        search::in_order_once(&mut path);
        let node_headers = node.and_then(|node| node.headers);
        Self { searched, tools, path, readable, registry, node_headers, place, host: None }
    }

    /// A tool, if it is there.
    pub fn get(&self, name: &str) -> Option<&Tool> {
        self.tools.get(name)
    }

    /// Every tool that is there, by name.
    pub fn tools(&self) -> impl Iterator<Item = &Tool> {
        self.tools.values()
    }

    /// A tool, or the sentence that says how to get it.
    ///
    /// # Errors
    /// [`Missing`], when it is in none of the folders.
    pub fn require(&self, name: &str) -> Result<&Tool, Missing> {
        self.get(name).ok_or_else(|| {
            let has = |program: &str| find(program, &self.searched, |path| self.is_program(path)).is_some();
            Missing {
                tool: name.to_owned(),
                place: self.place.to_string(),
                looked_in: match self.searched.len() {
                    1 => "the one folder of PATH".to_owned(),
                    number => format!("the {number} folders of PATH"),
                },
                mend: match self.root() {
                    None => mend(name, has),
                    Some(root) => format!("in {}: {}", root.dir().display(), mend(name, has)),
                },
            }
        })
    }

    /// The root that steps see instead of this machine's programs, if these are its tools.
    pub fn root(&self) -> Option<&Root> {
        self.place.root()
    }

    /// Whether the registries of packages have a node that runs there, if it has none.
    pub fn can_be_given_node(&self) -> bool {
        platform::Platform::of(self.root()).node_package().is_some()
    }

    /// This machine's own tools: what the agent itself starts.
    pub fn of_host(&self) -> &Toolchain {
        self.host.as_deref().unwrap_or(self)
    }

    /// True for a file that steps could execute.
    fn is_program(&self, path: &Path) -> bool {
        self.place.is_program(path)
    }

    /// Folders for a step's `PATH`: those that hold a tool, and the system's, in the order of the agent's own.
    pub fn path(&self) -> &[PathBuf] {
        &self.path
    }

    /// Folders outside the system's that a step must be able to read for the tools to work.
    pub fn readable(&self) -> &[PathBuf] {
        &self.readable
    }

    /// The registry that the agent's npm is configured to go to, without a user or password.
    /// A step has a HOME of its own and would not see the agent's `.npmrc`.
    pub fn registry(&self) -> Option<&str> {
        self.registry.as_deref()
    }

    /// Where node says that its headers are published: node-gyp fetches them there, for a native module. A node that its
    /// distribution built may not say it; its headers are a package of the distribution.
    pub fn node_headers(&self) -> Option<&Url> {
        self.node_headers.as_ref()
    }
}

/// How to install a tool here; `has` tells which of the system's installers there are.
pub fn mend(tool: &str, has: impl Fn(&str) -> bool) -> String {
    let by_system = |package: &str| {
        let commands =
            [("apt-get", "sudo apt-get install -y"), ("dnf", "sudo dnf install -y"), ("brew", "brew install")];
        let command = commands.iter().find(|(installer, _)| has(installer)).map(|(_, command)| *command);
        command.map(|command| format!("install it: {command} {package}"))
    };
    let with_npm = if has("apt-get") { "nodejs npm" } else { "node" };
    let with_npm = if has("dnf") && !has("apt-get") { "nodejs" } else { with_npm };
    match tool {
        "node" | "npm" | "npx" => {
            by_system(with_npm).unwrap_or_else(|| "install Node.js 20 or newer with npm".to_owned())
        }
        "git" => by_system("git").unwrap_or_else(|| "install git".to_owned()),
        "yarn" | "pnpm" | "bun" | "corepack" => format!("install it: npm install -g {tool}"),
        "bower" => "install it: npm install -g bower@1.8".to_owned(),
        _ => "install it on the agent, or take it out of .hookmill.toml".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_that_mends_it() {
        let check = |tool: &str, installer: &str, expected: &str| {
            assert_eq!(mend(tool, |program| program == installer), expected);
        };
        check("npm", "apt-get", "install it: sudo apt-get install -y nodejs npm");
        check("node", "dnf", "install it: sudo dnf install -y nodejs");
        check("node", "brew", "install it: brew install node");
        check("git", "apt-get", "install it: sudo apt-get install -y git");
        check("pnpm", "", "install it: npm install -g pnpm");
        check("node", "", "install Node.js 20 or newer with npm");
    }

    #[tokio::test]
    async fn an_empty_path_has_no_tools_and_says_what_to_do() {
        let toolchain = Toolchain::look(std::ffi::OsStr::new("/nonexistent")).await;
        let missing = toolchain.require("node").expect_err("no folder, no node").to_string();
        assert!(missing.starts_with("node is not installed on the agent (looked in the one folder"), "{missing}");
    }
}

//! The agent's own tools: where node, the package managers, git and bower are, and in which version.
//!
//! Only what the operator installed is ever started here, never from a folder that a repository
//! fills and never on a repository's word: a version that a repository asks for is read, not run.

mod bower;
mod digest;
mod download;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod manager;
mod node;
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
use std::path::{Path, PathBuf};

use url::Url;

pub use bower::{BowerPlaces, places as bower_places, places_of as bower_places_of};
pub use search::{find, folders_of, readable};
pub use supply::{Given, Headers, Outfit, Supply, UNUSED, bower, collect};
pub use unmet::Unmet;
pub use yarn::own_registry as yarns_own_registry;

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
#[error("{tool} is not installed on the agent (looked in {looked_in}); {mend}")]
pub struct Missing {
    /// The tool.
    pub tool: String,
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
}

impl Toolchain {
    /// Looks for every tool in the folders of a `PATH` and asks for versions. It starts `node`,
    /// `git` and `bun` with `--version` or the like, and `npm config get registry`, side by side, in `/`.
    pub async fn look(path_variable: &std::ffi::OsStr) -> Self {
        let searched = search::folders(path_variable);
        let found = |name: &&'static str| Some((*name, find(name, &searched, search::is_program)?));
        let places: BTreeMap<&'static str, PathBuf> = TOOLS.iter().filter_map(found).collect();
        let (node, git, bun, registry) = tokio::join!(
            versions::node(places.get("node"), path_variable),
            versions::asked(places.get("git"), path_variable),
            versions::asked(places.get("bun"), path_variable),
            versions::registry(places.get("npm"), path_variable),
        );
        let mut path = Vec::new();
        // A version manager's `node` is a script of its own; the real one, and npm beside it, go before it.
        let is_script = |node: &&versions::Node| {
            places.get("node").is_none_or(|found| found.canonicalize().ok() != node.program.canonicalize().ok())
        };
        path.extend(node.as_ref().filter(is_script).and_then(|node| node.program.parent()).map(Path::to_path_buf));
        path.extend(folders_of(&TOOLS, &searched, search::is_program));
        let mut readable: Vec<PathBuf> =
            node.iter().flat_map(|node| search::readable(&node.program, &node.program)).collect();
        let tools: BTreeMap<&'static str, Tool> = places
            .into_iter()
            .map(|(name, path)| {
                let real = path.canonicalize().unwrap_or_else(|_| path.clone());
                readable.extend(search::readable(&path, &real));
                let version = match name {
                    "node" => node.as_ref().map(|node| node.version.clone()),
                    "git" => git.clone(),
                    "bun" => bun.clone(),
                    _ => versions::from_package(name, &real),
                };
                (name, Tool { name, path, version })
            })
            .collect();
        search::outermost(&mut readable);
        search::in_order_once(&mut path);
        let node_headers = node.and_then(|node| node.headers);
        Self { searched, tools, path, readable, registry, node_headers }
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
            let has = |program: &str| find(program, &self.searched, search::is_program).is_some();
            Missing {
                tool: name.to_owned(),
                looked_in: match self.searched.len() {
                    1 => "the one folder of PATH".to_owned(),
                    number => format!("the {number} folders of PATH"),
                },
                mend: mend(name, has),
            }
        })
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

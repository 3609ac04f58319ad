//! Fulfils what a step wants: from `PATH` where it fits, else from what is kept, else from the registry.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nodejs_semver::Version;
use tokio_util::sync::CancellationToken;
use url::Url;

use super::download::{self, Source};
use super::manager::{self, Manager};
use super::node;
use super::platform::Platform;
use super::registry::Registry;
use super::resolver;
use super::search::is_system;
use super::shelf::{Patience, Shelf};
use super::unmet::Unmet;
use super::wish::npm_major;
use super::{Toolchain, find};
use crate::config::server::{Access, Network, Registry as Configured};
use crate::domain::spec::Wanted;

/// For one tool, from the registry's answer to its place. Node is 40 MB, and a build has other bounds.
const PATIENCE: Duration = Duration::from_secs(300);

/// Where an agent's tools come from, and where they are kept.
#[derive(Debug, Clone)]
pub struct Supply {
    toolchain: Arc<Toolchain>,
    shelf: Shelf,
    mirror: Option<Source>,
    registry: Option<Source>,
    platform: Platform,
}

/// What the steps with one set of wishes are given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outfit {
    /// Folders for `PATH`, the first to be searched first. There is one node on them.
    pub path: Vec<PathBuf>,
    /// Folders for `NODE_PATH`: where bower finds its resolvers.
    pub modules: Vec<PathBuf>,
    /// For native modules; `None` where node is `PATH`'s, which knows best, or has none.
    pub headers: Option<Headers>,
    /// What was wanted, as it was given.
    pub given: Vec<Given>,
}

/// node's own headers, against which node-gyp compiles native modules; without them it would download some.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Headers {
    /// What node-gyp calls `nodedir`: `include/node` is in it.
    pub node: PathBuf,
    /// The major version of the outfit's npm.
    pub npm: u64,
}

/// A wish that was met.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// The tool.
    pub tool: String,
    /// Its version.
    pub version: String,
    /// Who asked.
    pub asked_by: String,
}

impl std::fmt::Display for Given {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {} (asked by {})", self.tool, self.version, self.asked_by)
    }
}

impl Supply {
    /// How often a fetch is tried before it counts as an outage.
    pub const TRIES: u32 = download::TRIES;

    /// A supply around the tools of this machine.
    ///
    /// `tools` is where others are kept (made when needed), `node_mirror` has node's binaries in the layout of
    /// <https://nodejs.org/dist>; without it they come from the registry that the agent's npm goes to. If one of the
    /// build's `registries` has that address, its token opens it, whatever its scopes: npm goes by the address too.
    /// What is kept was fetched for every build, a fork's too; a fork's own fetching has no token, for its
    /// `registries` hold none.
    pub fn new(
        toolchain: Arc<Toolchain>,
        tools: PathBuf,
        node_mirror: Option<Url>,
        network: &Network,
        registries: &[Configured],
    ) -> Self {
        let source = |base: Url, access| Source { base: as_folder(base), network: network.clone(), access };
        let registry = toolchain.registry().and_then(|registry| Url::parse(registry).ok());
        let registry = registry.map(|base| {
            let access = access_to(&base, registries);
            source(base, Some(access))
        });
        let mirror = node_mirror.map(|base| source(base, None));
        let platform = Platform::of(toolchain.root());
        // Of one name there are two, where a root has another C library than this machine.
        let tools = if platform == Platform::of(None) { tools } else { other_libc(&tools) };
        Self { toolchain, shelf: Shelf::new(tools), mirror, registry, platform }
    }

    /// Everything that is wanted, fetched side by side where it has to be.
    ///
    /// Without a wish for node, `PATH`'s is the one. Beside a node that is not `PATH`'s there is always an npm that
    /// runs on it, and what stands beside `PATH`'s own node is not on the outfit's path, but for the system's folders:
    /// in those the names `node`, `npm` and `npx` are found last.
    ///
    /// # Errors
    /// [`Unmet`], for the first wish that can't be met.
    pub async fn outfit(&self, wanted: &[Wanted]) -> Result<Outfit, Unmet> {
        let node = self.node(wanted.iter().find(|wanted| wanted.tool == "node")).await?;
        let brings_npm = node.chosen.as_ref().is_some_and(|chosen| chosen.brings_npm(self));
        let fetching = async {
            match node.chosen {
                Some(chosen) => self.blocking(move |supply, patience| node::fetch(supply, &chosen, patience)).await,
                None => Ok(()),
            }
        };
        let managers = managers(wanted, node.version.as_ref().filter(|_| node.is_fetched), brings_npm);
        let ensured = futures_util::future::try_join_all(
            managers.iter().map(|wanted| self.manager(wanted, node.version.as_ref(), node.is_fetched)),
        );
        let ((), ensured) = futures_util::future::try_join(fetching, ensured).await?;
        let headers = headers(node.folder.as_deref(), node.version.as_ref(), &managers, &ensured);
        let (mut path, mut modules) = (Vec::new(), Vec::new());
        let mut given: Vec<Given> = node.given.into_iter().collect();
        for (wanted, manager) in managers.iter().zip(ensured) {
            match resolver::is_one(&wanted.tool) {
                true => modules.extend(manager.folder),
                false => path.extend(manager.folder),
            }
            given.push(Given {
                tool: wanted.tool.clone(),
                version: manager.version,
                asked_by: wanted.asked_by.clone(),
            });
        }
        path.extend(node.folder);
        path.extend(self.own_path(node.is_fetched).cloned());
        super::search::in_order_once(&mut path);
        Ok(Outfit { path, modules, headers, given })
    }

    /// `PATH`'s folders that may stand behind the node of a step.
    fn own_path(&self, node_is_fetched: bool) -> impl Iterator<Item = &PathBuf> {
        self.toolchain.path().iter().filter(move |folder| {
            !node_is_fetched || is_system(folder) || !self.toolchain.is_program(&folder.join("node"))
        })
    }

    async fn node(&self, wanted: Option<&Wanted>) -> Result<Node, Unmet> {
        let own = self.toolchain.get("node").and_then(|node| Version::parse(node.version.as_ref()?).ok());
        let Some(wanted) = wanted else { return Ok(Node::own(own, None)) };
        let wish = node::wish_of(wanted)?;
        if let Some(version) = own.filter(|version| wish.is_met_by(version)) {
            return Ok(Node::own(Some(version), Some(wanted)));
        }
        let wish = wanted.clone();
        let chosen = self.blocking(move |supply, patience| node::choose(supply, &wish, patience)).await?;
        Ok(Node {
            folder: Some(self.shelf.home("node", &chosen.version).join("bin")),
            given: Some(Given::new(wanted, &chosen.version)),
            version: Some(chosen.version.clone()),
            is_fetched: true,
            chosen: Some(chosen),
        })
    }

    /// `PATH`'s where it fits; beside a fetched node only what does not run on node.
    async fn manager(&self, wanted: &Wanted, node: Option<&Version>, node_is_fetched: bool) -> Result<Ready, Unmet> {
        let own = self.toolchain.get(&wanted.tool).and_then(|tool| Some((tool, tool.version.clone()?)));
        let own = own.filter(|_| wanted.hash.is_none() && (!node_is_fetched || wanted.tool == "bun"));
        if let Some((tool, version)) = own
            && Version::parse(&version)
                .is_ok_and(|version| node::wish_of(wanted).is_ok_and(|wish| wish.is_met_by(&version)))
            && find(&wanted.tool, &self.own_path(node_is_fetched).cloned().collect::<Vec<_>>(), |path| {
                path == tool.path
            })
            .is_some()
        {
            return Ok(Ready { folder: None, version });
        }
        let (wanted, node) = (wanted.clone(), node.cloned());
        let Manager { folder, version } =
            self.blocking(move |supply, patience| manager::ensure(supply, &wanted, node.as_ref(), patience)).await?;
        Ok(Ready { folder: Some(folder), version: version.to_string() })
    }

    /// Runs what waits for the network or the disk. It is told to stop when nobody waits for it any more.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Supply, &Patience) -> Result<T, Unmet> + Send + 'static,
    ) -> Result<T, Unmet> {
        let stop = CancellationToken::new();
        let _dropped = stop.clone().drop_guard();
        let patience = Patience { deadline: Instant::now() + PATIENCE, stop };
        let supply = self.clone();
        let done = tokio::task::spawn_blocking(move || work(&supply, &patience)).await;
        done.unwrap_or_else(|ended| Err(Unmet::Outage { what: "a tool".to_owned(), why: ended.to_string() }))
    }

    pub(super) fn toolchain(&self) -> &Toolchain {
        &self.toolchain
    }

    pub(super) fn shelf(&self) -> &Shelf {
        &self.shelf
    }

    pub(super) fn platform(&self) -> Platform {
        self.platform
    }

    pub(super) fn mirror(&self) -> Option<Source> {
        self.mirror.clone()
    }

    pub(super) fn registry(&self, wanted: &Wanted) -> Result<Registry, Unmet> {
        if let Some(registry) = &self.registry {
            return Ok(Registry(registry.clone()));
        }
        self.toolchain.require("npm")?;
        Err(Unmet::NoRegistry {
            tool: wanted.tool.clone(),
            version: wanted.version.clone(),
            asked_by: wanted.asked_by.clone(),
            mend: "`npm config get registry` gives no address; correct the agent's .npmrc".to_owned(),
        })
    }
}

impl Given {
    fn new(wanted: &Wanted, version: &Version) -> Self {
        Self { tool: wanted.tool.clone(), version: version.to_string(), asked_by: wanted.asked_by.clone() }
    }
}

/// The node of an outfit.
struct Node {
    version: Option<Version>,
    folder: Option<PathBuf>,
    given: Option<Given>,
    is_fetched: bool,
    chosen: Option<node::Chosen>,
}

impl Node {
    fn own(version: Option<Version>, wanted: Option<&Wanted>) -> Self {
        let given = wanted.zip(version.as_ref()).map(|(wanted, version)| Given::new(wanted, version));
        Self { version, folder: None, given, is_fetched: false, chosen: None }
    }
}

/// A manager of an outfit; without a folder it is on `PATH` anyway.
struct Ready {
    folder: Option<PathBuf>,
    version: String,
}

/// What is wanted beside node; with a node of our own always an npm, for `PATH`'s may not run on it.
fn managers(wanted: &[Wanted], fetched: Option<&Version>, brings_npm: bool) -> Vec<Wanted> {
    let is_there =
        |wanted: &&Wanted| wanted.tool == "node" || (brings_npm && *wanted.version == *"*" && wanted.tool == "npm");
    let mut managers: Vec<Wanted> = wanted.iter().filter(|wanted| !is_there(wanted)).cloned().collect();
    let needs_npm = !brings_npm && !managers.iter().any(|wanted| wanted.tool == "npm");
    if let Some(node) = fetched.filter(|_| needs_npm) {
        let (tool, version) = ("npm".to_owned(), "*".to_owned());
        managers.push(Wanted { tool, version, asked_by: format!("node {node}"), hash: None });
    }
    managers
}

/// bower as every repository gets it: the agent's own, so that its components need not wait for npm's packages.
/// Nobody makes newer ones than 1.8.
pub fn bower() -> Wanted {
    Wanted { tool: "bower".to_owned(), version: "1.8".to_owned(), asked_by: "bower.json".to_owned(), hash: None }
}

/// The headers of a node that was fetched into `folder`'s parent.
fn headers(folder: Option<&Path>, node: Option<&Version>, managers: &[Wanted], ensured: &[Ready]) -> Option<Headers> {
    let node_dir = folder?.parent().filter(|node| node.join("include/node/node.h").is_file())?;
    let given = managers.iter().zip(ensured).find(|(wanted, _)| wanted.tool == "npm");
    let given = given.and_then(|(_, npm)| Version::parse(&npm.version).ok()).map(|npm| npm.major());
    Some(Headers { node: node_dir.to_owned(), npm: given.unwrap_or(npm_major(node?)) })
}

/// What opens the registry at an address.
fn access_to(base: &Url, registries: &[Configured]) -> Access {
    let base = as_folder(base.clone());
    let mut there = registries.iter().filter(|configured| as_folder(configured.url.clone()) == base);
    let closed = there.find(|configured| configured.access != Access::Open);
    closed.map_or(Access::Open, |configured| configured.access.clone())
}

fn as_folder(mut base: Url) -> Url {
    if !base.path().ends_with('/') {
        let path = format!("{}/", base.path());
        base.set_path(&path);
    }
    base
}

/// Where tools are kept for roots with another C library than this machine's.
fn other_libc(tools: &Path) -> PathBuf {
    tools.join("other-libc")
}

/// How long a tool that no step was given is kept: longer than most teams let a repository rest.
pub const UNUSED: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// Moves the tools that no step was given for so long from `tools` to `trash`; answers with their names.
pub fn collect(tools: &Path, unused_for: Duration, trash: &Path) -> Vec<String> {
    let shelves = [tools.to_path_buf(), other_libc(tools)];
    shelves.into_iter().flat_map(|tools| Shelf::new(tools).collect(unused_for, trash)).collect()
}

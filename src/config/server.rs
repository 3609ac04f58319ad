//! The server's configuration once it was read and checked: a small struct for each consumer.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::domain::repo::ForgeName;
use crate::domain::scripts::Scripts;
use crate::domain::spec::Limits;

use super::blocks::RepoBlock;
use super::root::Root;
use super::rules::PartialRules;
use super::secret::Secret;

pub use super::store_url::{PostgresUrl, StoreUrl};

/// Everything, checked. Each part is shared with the one consumer it is for, never the whole.
#[derive(Debug, Clone)]
pub struct Server {
    /// For the listener and the pages.
    pub web: Arc<Web>,
    /// For the store.
    pub store: Arc<StoreUrl>,
    /// Where mirrors, slots and logs are kept (absolute).
    pub data_dir: PathBuf,
    /// How much room is to be left on its disk.
    pub space: Arc<Space>,
    /// What several machines share, if there is more than one.
    pub blobs: Option<Arc<Blobs>>,
    /// For the worker.
    pub agent: Arc<Agent>,
    /// For whoever speaks to the outside: forge API, git, steps.
    pub network: Arc<Network>,
    /// For the planner.
    pub toolchain: Arc<Toolchain>,
    /// For the holder.
    pub sandbox: Arc<Sandbox>,
    /// For the reporter.
    pub statuses: Arc<Statuses>,
    /// For the sweeper.
    pub retention: Arc<Retention>,
    /// For the sweeper: `[server] sweep`, how often the forge is asked for what no delivery told of; `None` never.
    pub sweep: Option<Duration>,
    /// Who may knock, and by which rules.
    pub forges: Arc<Forges>,
}

/// Where the server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// A TCP address; port 0 is any free port.
    Tcp(SocketAddr),
    /// A Unix socket's path, from `unix:/…`.
    Unix(PathBuf),
}

impl std::fmt::Display for Listen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Listen::Tcp(address) => address.fmt(f),
            Listen::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Who may read pages and API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// A build opens with the key in its status link; lists need the admin token.
    Link,
    /// Everybody reads.
    Public,
    /// Everything needs the admin token.
    Token,
}

/// `[server]`.
#[derive(Debug, Clone)]
pub struct Web {
    /// Where to listen, unless systemd hands over a socket.
    pub listen: Listen,
    /// What forges and people use, without a slash at the end; may have a path.
    pub public_url: url::Url,
    /// The bearer token for changes; without it every change is 403.
    pub admin_token: Option<Secret>,
    /// Who may read.
    pub read: Read,
}

impl Web {
    /// [`Web::public_url`] as the beginning of a link: without a slash at its end.
    pub fn base(&self) -> &str {
        self.public_url.as_str().trim_end_matches('/')
    }
}

/// `[data] blobs_url`: where logs and artifacts can be read from every machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Blobs {
    /// A folder that all of them mount (`file:///…`).
    Folder(PathBuf),
    /// A bucket (`s3://…`).
    S3(Box<Bucket>),
}

/// A bucket of a server that speaks the protocol of Amazon's S3.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bucket {
    /// Its name.
    pub name: String,
    /// Before every key, without a slash at either end; may be empty.
    pub prefix: String,
    /// The server's address; `None` is Amazon's in the region.
    pub endpoint: Option<url::Url>,
    /// Its region.
    pub region: String,
    /// Who we are there.
    pub key_id: String,
    /// What proves it.
    pub key: Secret,
    /// A temporary key's third part.
    pub session_token: Option<Secret>,
}

/// `[agent]` and `[limits]`.
#[derive(Debug, Clone)]
pub struct Agent {
    /// How many builds run at once; 0 means that this process runs none.
    pub slots: usize,
    /// How long a SIGTERM waits for running builds.
    pub drain_timeout: Duration,
    /// How long a claim holds without a word from the agent.
    pub lease: Duration,
    /// The name in leases and logs.
    pub name: String,
    /// The bounds of every build.
    pub limits: Limits,
}

/// `[network]`, resolved against our own environment.
#[derive(Debug, Clone, Default)]
pub struct Network {
    /// The proxy for everything outside, if there is one.
    pub proxy: Option<String>,
    /// Hosts that are reached without it.
    pub no_proxy: Vec<String>,
    /// A PEM bundle of certificate authorities, beside the system's.
    pub ca_file: Option<PathBuf>,
}

/// `[toolchain]`.
#[derive(Debug, Clone, Default)]
pub struct Toolchain {
    /// The node version for repositories that ask for none.
    pub node: String,
    /// Whether somebody wrote that version down; else it is our own default.
    pub node_is_chosen: bool,
    /// Where node's binaries are fetched instead of the package registry, in the layout of `nodejs.org/dist`.
    pub node_mirror: Option<url::Url>,
}

/// `[sandbox] require`: what happens where the host can't confine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Require {
    /// Build nothing where a layer is missing.
    Full,
    /// Use what there is, say what is missing.
    Available,
    /// Do without, on purpose.
    None,
}

/// `[sandbox]`.
#[derive(Debug, Clone)]
pub struct Sandbox {
    /// Which layers a build insists on.
    pub require: Require,
    /// What installs may reach beside `[[registry]]`.
    pub install_hosts: Vec<InstallHost>,
    /// Whether steps of trusted builds reach what is closed to them, and their builds say which hosts that were.
    pub reports: bool,
}

/// An entry of `[sandbox] install_hosts`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InstallHost {
    /// Wherever npm, pnpm and bun are configured to go.
    Packages(&'static str),
    /// Wherever yarn is configured to go.
    Yarn,
    /// Wherever bower is configured to go, and the git hosts that its registry answers with.
    Bower,
    /// Where node's headers come from.
    Node,
    /// `host:port`, `*.host:port` or an address with its port.
    Host(String),
}

impl InstallHost {
    /// As it is written.
    pub fn as_str(&self) -> &str {
        match self {
            InstallHost::Packages(tool) => tool,
            InstallHost::Yarn => "yarn",
            InstallHost::Bower => "bower",
            InstallHost::Node => "node",
            InstallHost::Host(host) => host,
        }
    }
}

/// `[statuses] mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusMode {
    /// One status a build.
    Build,
    /// One a build and one a step.
    Steps,
}

/// `[statuses]`.
#[derive(Debug, Clone)]
pub struct Statuses {
    /// The context of the build's status, and the prefix of its steps'.
    pub context: String,
    /// One status or several.
    pub mode: StatusMode,
}

/// `[data]`: how much room is to be left on the disk of the data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Space {
    /// Below so many free bytes no build is started and what can be spared goes.
    pub low: u64,
    /// On a small disk below this share of it, if that is less; and below this share of all inodes.
    pub low_percent: u64,
    /// Bytes held back for the last words on a full disk; at most a hundredth of it.
    pub reserve: u64,
}

/// `[retention]`: how long things are kept after a build ended, and how much.
#[derive(Debug, Clone)]
pub struct Retention {
    /// Builds and their steps.
    pub builds: Duration,
    /// Step output.
    pub logs: Duration,
    /// What `[artifacts]` of the repository file kept.
    pub artifacts: Duration,
    /// Delivery ids.
    pub deliveries: Duration,
    /// Who changed what.
    pub audit: Duration,
    /// What builds leave for later ones, in bytes on each agent's disk; beyond it the least recently used goes.
    pub snapshots: u64,
    /// Mirrors of repositories, in bytes on each agent's disk; beyond it the least recently used goes.
    pub mirrors: u64,
}

/// The kinds of forge this version speaks with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ForgeKind {
    /// github.com or GitHub Enterprise Server.
    Github,
    /// Gitea.
    Gitea,
    /// Forgejo.
    Forgejo,
}

impl ForgeKind {
    /// The word in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            ForgeKind::Github => "github",
            ForgeKind::Gitea => "gitea",
            ForgeKind::Forgejo => "forgejo",
        }
    }
}

/// `[[forge]]`.
#[derive(Debug, Clone)]
pub struct Forge {
    /// Its name in addresses and in the store.
    pub name: ForgeName,
    /// Which rules it follows.
    pub kind: ForgeKind,
    /// The API's base address, without a slash at the end (`https://api.github.com`, `https://gitea.lan/api/v1`).
    pub api_url: url::Url,
    /// The pages' and git's base address, without a slash at the end.
    pub web_url: url::Url,
    /// The token for statuses and for reading private repositories.
    pub token: Option<Secret>,
    /// A token that only reads, for git dependencies; else [`Forge::token`] is.
    pub read_token: Option<Secret>,
    /// The secrets of an organisation's one hook; empty when it has none.
    pub hook_secrets: Vec<Secret>,
}

/// What opens a registry to a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// It needs no token.
    Open,
    /// This token, sent as `Authorization: Bearer`.
    Token(Secret),
    /// There is a token, and this build gets none: it is a fork's.
    Withheld,
}

/// `[[registry]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registry {
    /// Its address, without a slash at the end.
    pub url: url::Url,
    /// The scopes that come from it (`@acme`); without any it is the default registry.
    pub scopes: Vec<String>,
    /// Patterns of repositories in lower case; asked through [`Registry::serves`].
    pub repos: Vec<String>,
    /// What opens it.
    pub access: Access,
}

/// `[[repo.secret]]`: a variable with a secret value, for some steps of some builds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepSecret {
    /// The variable.
    pub name: String,
    /// Its value; a text.
    pub value: Secret,
    /// The names of the steps that see it.
    pub steps: Vec<String>,
    /// Patterns of the branches whose builds are given it; `None` is the default branch.
    pub branches: Option<Vec<String>>,
}

/// What becomes of a fork's pull request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forks {
    /// It waits for a maintainer's word.
    Approve,
    /// It is built without one, as a fork's.
    Build,
    /// It is ignored.
    Ignore,
}

/// Which older builds a new push of the same ref ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Supersede {
    /// Those of every branch but the default one.
    Branches,
    /// Those of every branch.
    All,
    /// None.
    None,
}

/// The rules of one repository: its most exact `[[repo]]` block, then wider ones, then `[defaults]`.
#[derive(Debug, Clone)]
pub struct RepoRules {
    /// The repository's own hook secrets; empty when only the forge's hook speaks for it.
    pub hook_secrets: Vec<Secret>,
    /// Where git fetches from: built from `web_url` and the name, unless configured. Never from a payload.
    pub clone_url: url::Url,
    /// Patterns of branch names that are built.
    pub branches: Vec<String>,
    /// Whether tags are built.
    pub tags: bool,
    /// What becomes of forks.
    pub forks: Forks,
    /// What a new push ends.
    pub supersede: Supersede,
    /// Whether its builds read what earlier ones left, and leave something themselves.
    pub cache: bool,
    /// Whether the bundle may reach the network.
    pub network: bool,
    /// Whose install scripts run.
    pub scripts: Scripts,
    /// Whether installs of trusted and member builds may read the forge's private repositories.
    pub git_dependencies: bool,
    /// How often the forge is asked for new heads, where that takes a webhook's place.
    pub poll: Option<Duration>,
    /// Added to every step's environment.
    pub env: BTreeMap<String, String>,
    /// What its steps see instead of this machine's programs.
    pub root: Option<Root>,
    /// The package registries that are meant for it, each with its token.
    pub registries: Vec<Registry>,
    /// What some steps of its trusted builds are given, each name once.
    pub secrets: Vec<StepSecret>,
    /// The server's limits with the block's own on top.
    pub limits: Limits,
}

/// Every `[[forge]]`, `[defaults]` and `[[repo]]`, ready to be asked.
#[derive(Debug, Clone, Default)]
pub struct Forges {
    /// By name.
    pub by_name: BTreeMap<ForgeName, Arc<Forge>>,
    /// Every `[[registry]]`.
    pub registries: Vec<Registry>,
    /// Checked blocks, the most exact first; asked through [`Forges::rules`].
    pub(super) blocks: Vec<RepoBlock>,
    /// `[defaults]`.
    pub(super) defaults: PartialRules,
    /// `[limits]`, the base of every repository's.
    pub(super) limits: Option<Limits>,
    /// `[sandbox] root`, for repositories whose blocks name none.
    pub(super) root: Option<Root>,
}

//! The server's configuration once it was read and checked: a small struct for each consumer.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::domain::spec::Limits;

use super::secret::Secret;

pub use super::forges::{Access, Forge, ForgeKind, Forges, Forks, Registry, RepoRules, StepSecret, Supersede};
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

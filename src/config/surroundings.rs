//! What the configuration takes from the process and the machine, handed in so that a test can choose it.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use super::server::Network;

/// The process and the machine as the configuration sees them.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The current directory.
    pub cwd: PathBuf,
    /// The environment, as far as it is UTF-8.
    pub env: BTreeMap<String, String>,
    /// The host's name, for the agent's.
    pub hostname: String,
    /// Cores that this process may use.
    pub cores: usize,
    /// Bytes of memory that this process may use, where the system says so.
    pub memory: Option<u64>,
    /// Whether this process takes webhooks, so that each repository needs somebody who can sign for it.
    pub takes_hooks: bool,
}

impl Surroundings {
    /// Those of this process.
    ///
    /// # Errors
    /// When the current directory is gone or may not be read.
    pub fn of_this_process() -> io::Result<Self> {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Ok(Self {
            cwd: std::env::current_dir()?,
            env: std::env::vars_os().filter_map(text).collect(),
            hostname: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory: memory(),
            takes_hooks: true,
        })
    }

    /// An empty environment in `cwd`, on a small machine.
    pub fn bare(cwd: &Path) -> Self {
        Self {
            cwd: cwd.to_owned(),
            env: BTreeMap::new(),
            hostname: "localhost".to_owned(),
            cores: 2,
            memory: Some(8 << 30),
            takes_hooks: true,
        }
    }

    /// How the environment alone wants the outside to be reached: `HTTPS_PROXY`, `NO_PROXY`, `SSL_CERT_FILE`.
    pub fn network(&self) -> Network {
        let direct = self.variable("NO_PROXY").unwrap_or_default().split(',').map(str::trim);
        Network {
            proxy: self.variable("HTTPS_PROXY").map(str::to_owned),
            no_proxy: direct.filter(|host| !host.is_empty()).map(str::to_owned).collect(),
            ca_file: self.variable("SSL_CERT_FILE").map(|path| self.cwd.join(path)),
        }
    }

    /// A variable that is set to something, under its name or the same in lower case (as curl reads proxies).
    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        let value = self.env.get(name).or_else(|| self.env.get(&name.to_lowercase()))?;
        (!value.is_empty()).then_some(value)
    }
}

/// The machine's memory, or the lower bound that a container's cgroup sets (cgroups(7), version 2).
#[cfg(target_os = "linux")]
fn memory() -> Option<u64> {
    let info = rustix::system::sysinfo();
    let total = info.totalram.saturating_mul(info.mem_unit.into());
    let bound = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let bound = bound.and_then(|text| text.trim().parse::<u64>().ok());
    Some(bound.map_or(total, |bound| bound.min(total)))
}

#[cfg(not(target_os = "linux"))]
fn memory() -> Option<u64> {
    None
}

//! What a repository file may ask of a plan, as this floor needs it; the flow fills it in.

use std::collections::BTreeMap;
use std::time::Duration;

use super::BadPlan;
use crate::domain::spec::Network;

/// What `.hookmill.toml` says about steps. The default is a repository without the file.
///
/// Whether a fork's wishes for the network are heeded is decided before: they are not handed in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wishes {
    /// For every step; a step's own wins.
    pub env: BTreeMap<String, String>,
    /// `[toolchain]`: versions by tool, over what is detected.
    pub toolchain: BTreeMap<String, String>,
    /// `[[install]]` blocks.
    pub installs: Vec<InstallWish>,
    /// `[bundle]`.
    pub bundle: Option<BundleWish>,
    /// `[[check]]` blocks.
    pub checks: Vec<CheckWish>,
}

/// One `[[install]]`: replaces the detected install of that tool in that folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InstallWish {
    /// `npm`, `yarn`, `pnpm`, `bun`, `bower`, or any word when a command is given.
    pub tool: String,
    /// The folder; `None` is the root.
    pub dir: Option<String>,
    /// Instead of the tool's usual command.
    pub command: Option<Vec<String>>,
    /// Added for this step.
    pub env: BTreeMap<String, String>,
    /// A lower bound than the server's.
    pub timeout: Option<Duration>,
    /// Don't install this at all.
    pub skip: bool,
}

/// `[bundle]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BundleWish {
    /// Instead of webpack or the build script.
    pub command: Option<Vec<String>>,
    /// The folder; `None` is the root.
    pub dir: Option<String>,
    /// Added for this step.
    pub env: BTreeMap<String, String>,
    /// A lower bound than the server's.
    pub timeout: Option<Duration>,
    /// What it may reach; `None`: as the server says.
    pub network: Option<Network>,
}

/// What a check waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum After {
    /// The installs.
    #[default]
    Install,
    /// The bundle.
    Bundle,
}

/// One `[[check]]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CheckWish {
    /// Its name in statuses and logs.
    pub name: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// What it waits for.
    pub after: After,
    /// A failure is shown but does not fail the build.
    pub allow_failure: bool,
    /// How often a failure is tried again.
    pub retry: u32,
    /// The folder; `None` is the root.
    pub dir: Option<String>,
    /// Added for this step.
    pub env: BTreeMap<String, String>,
    /// A lower bound than the server's.
    pub timeout: Option<Duration>,
    /// What it may reach; `None`: as the server says.
    pub network: Option<Network>,
}

/// A folder as plans write it: no `./` before, no `/` behind, `.` for the root.
pub(super) fn folder(step: &str, dir: Option<&str>) -> Result<String, BadPlan> {
    let written = dir.unwrap_or(".");
    let bad = || BadPlan::BadDir { step: step.to_owned(), dir: written.to_owned() };
    if written.starts_with('/') || written.contains(|c: char| c.is_control() || c == '\\') {
        return Err(bad());
    }
    let parts: Vec<&str> = written.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if parts.contains(&"..") {
        return Err(bad());
    }
    Ok(if parts.is_empty() { ".".to_owned() } else { parts.join("/") })
}

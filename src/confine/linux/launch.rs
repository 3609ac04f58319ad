//! What a holder hands to the launcher, which is started in a step's place and becomes the step: by bubblewrap, or where
//! there is no fence by the step's supervisor.
//!
//! It goes through a file in memory and not through an argument: the argument list is for everybody to read, and a
//! repository's `LD_PRELOAD` would load into the launcher itself, before the layers are on.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What the launcher is to become, and what it does to itself before.
#[derive(Debug, Serialize, Deserialize)]
pub struct Job {
    /// Program and arguments; the program is looked up on the step's own `PATH`.
    pub argv: Vec<String>,
    /// The step's whole environment.
    pub env: BTreeMap<String, String>,
    /// Landlock with these rules, or nothing is started; `None`: without it.
    pub landlock: Option<Vec<Opened>>,
    /// The seccomp filters, or nothing is started.
    pub seccomp: bool,
    /// The holder's own namespaces, as `/proc/self/ns` names them. The step must be in none of them: else what calls
    /// itself bubblewrap has built no fence. Empty where there is none to be built.
    pub outer: Vec<(String, String)>,
}

/// What a step may do with a folder and all below it, or with a file. What no rule names is closed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// As the launcher finds it.
    pub path: PathBuf,
    /// How.
    pub access: Access,
}

/// See [`Opened`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Read and execute.
    Read,
    /// Everything but devices.
    Write,
    /// Write into files that are there, and use devices as such.
    Use,
}

/// What a refusal for want of Landlock begins with.
pub const LANDLOCK: &str = "Landlock could not be put on";
/// The same for the filters.
pub const SECCOMP: &str = "seccomp could not be put on";

/// The namespaces that every step has of its own.
pub const OWN: [&str; 5] = ["user", "pid", "mnt", "ipc", "uts"];
/// The one that steps with an open network share with the host.
pub const NETWORK: &str = "net";

/// The name of one of this process' namespaces.
///
/// # Errors
/// Where there is no `/proc`, or the kernel has no such namespace.
pub fn namespace(kind: &str) -> std::io::Result<String> {
    Ok(std::fs::read_link(format!("/proc/self/ns/{kind}"))?.to_string_lossy().into_owned())
}

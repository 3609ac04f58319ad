//! The agent's tools as one build needs them: found, or named as missing.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::Mutex;

use crate::config::server::Network;
use crate::domain::outcome::{Outcome, Verdict};
use crate::domain::sentence;
use crate::domain::spec::Plan;
use crate::outside;
use crate::toolchain::{self, TOOLS, Toolchain, bower};

use super::environment::Certificates;
use super::environment::home::{AUTHORITIES, Settings};
use super::{Job, Parts};

/// The toolchain of this machine, looked at once and again when something is missing. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Toolbox(Arc<Mutex<Option<Arc<Toolchain>>>>);

impl Toolbox {
    /// The toolchain as it was looked at last. The first call takes about as long as starting npm.
    pub async fn toolchain(&self) -> Arc<Toolchain> {
        let mut looked = self.0.lock().await;
        if let Some(toolchain) = &*looked {
            return Arc::clone(toolchain);
        }
        Arc::clone(looked.insert(Arc::new(look().await)))
    }

    /// Looks anew: somebody may have installed what was missing.
    async fn again(&self) -> Arc<Toolchain> {
        let mut looked = self.0.lock().await;
        Arc::clone(looked.insert(Arc::new(look().await)))
    }
}

async fn look() -> Toolchain {
    Toolchain::look(&std::env::var_os("PATH").unwrap_or_default()).await
}

/// What the steps of one build are given.
pub(super) struct Tools {
    /// Folders for `PATH`, behind the tree's own.
    pub(super) path: Vec<PathBuf>,
    /// Files and folders that steps must be able to read.
    pub(super) readable: Vec<PathBuf>,
    /// What steps trust.
    pub(super) certificates: Certificates,
    registry: Option<String>,
}

impl Tools {
    /// Finds what the plan's steps start. A missing tool is not the commit's fault.
    pub(super) async fn gather(plan: &Plan, parts: &Parts) -> Result<Self, Verdict> {
        let mut toolchain = parts.tools.toolchain().await;
        if missing(plan, &toolchain).is_some() {
            toolchain = parts.tools.again().await;
        }
        if let Some(gone) = missing(plan, &toolchain) {
            return Err(Verdict::new(Outcome::Broken, sentence::tool_missing(&gone.tool, &gone.mend)));
        }
        let certificates = certificates(&parts.network);
        let mut path = toolchain.path().to_vec();
        let mut readable = toolchain.readable().to_vec();
        if plan.steps().any(|step| step.argv.first().is_some_and(|program| program == "bower")) {
            let bower = bower::ensure(&toolchain, parts.tools_dir())
                .await
                .map_err(|error| Verdict::new(Outcome::Broken, sentence::broken(&error.to_string(), 1)))?;
            path.insert(0, bower.folder);
            readable.extend(bower.readable);
        }
        readable.extend(certificates.readable());
        Ok(Self { path, readable, certificates, registry: toolchain.registry().map(str::to_owned) })
    }

    /// What the private HOME of a build holds; `home` is where its steps see it.
    pub(super) fn settings(&self, job: &Job, parts: &Parts, home: &Path) -> Result<Settings, outside::Unusable> {
        // npm and git take one file instead of the system's authorities, so a configured one is written beside them.
        let added = self.certificates.ssl.is_none() && parts.network.ca_file.is_some();
        Ok(Settings {
            registry: self.registry.clone(),
            registries: job.registries.clone(),
            git: job.git.clone(),
            network: Network::clone(&parts.network),
            trusted: self.certificates.ssl.clone().or_else(|| added.then(|| home.join(AUTHORITIES))),
            authorities: if added { Some(outside::authorities_pem(&parts.network)?) } else { None },
            home: home.to_owned(),
        })
    }
}

fn certificates(network: &Network) -> Certificates {
    Certificates::resolve(network, |name| std::env::var_os(name).filter(|value| *value != OsString::new()))
}

/// The first tool of the agent's that a step starts and that is not there. bower is installed when needed;
/// node runs everything.
fn missing(plan: &Plan, toolchain: &Toolchain) -> Option<toolchain::Missing> {
    let programs = plan.steps().filter_map(|step| step.argv.first()).map(String::as_str);
    let needed = programs.filter(|program| TOOLS.contains(program)).map(|program| match program {
        "bower" => "npm",
        other => other,
    });
    let mut needed: Vec<&str> = needed.collect();
    if !needed.is_empty() {
        needed.insert(0, "node");
    }
    needed.into_iter().find_map(|program| toolchain.require(program).err())
}

//! `hookmill doctor`: tries everything that a build needs, and says how to mend what is not there.

mod addresses;
mod blobs;
mod finding;
mod heads;
mod machine;
mod server;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;

use super::output::Out;
use super::{REFUSED, USAGE, refuse};
use crate::config::load::{self, LoadError, Loaded};
use crate::config::surroundings::Surroundings;
use crate::toolchain::Toolchain;

use finding::{Finding, report};

/// `hookmill doctor`.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  hookmill doctor                      with the configuration that `serve` would use\n  \
                  hookmill doctor --config FILE        with that one\n\nIt starts no build, posts nothing and changes \
                  nothing. Without any configuration it looks at the machine only.\n\n\
                  Exit codes: 0 all that builds need is there, 1 something is not, 2 usage or configuration."
)]
pub struct DoctorArgs {
    /// The server's configuration file; else the one that `serve` would find.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// This machine only runs `hookmill agent`: nobody signs for its repositories, nobody reaches it.
    #[arg(long)]
    agent: bool,
    /// Prints one JSON document instead of the table.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &DoctorArgs, out: &mut Out) -> ExitCode {
    let fault = |what: &str, error: &std::io::Error| {
        eprintln!("hookmill: {what}: {error}");
        ExitCode::from(USAGE)
    };
    let around = match Surroundings::of_this_process() {
        Ok(around) => Surroundings { takes_hooks: !args.agent, ..around },
        Err(error) => return fault("the current directory can't be read", &error),
    };
    let (loaded, configured) = match load::load(args.config.as_deref(), &around) {
        Ok(loaded) => (loaded, true),
        Err(LoadError::NothingConfigured { .. }) => match load::defaults(&around) {
            Ok(loaded) => (loaded, false),
            Err(problems) => return refuse(&problems),
        },
        Err(error) => return refuse(&error),
    };
    let exe = match std::env::current_exe() {
        Ok(exe) => exe,
        Err(error) => return fault("this program can't be found", &error),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fault("the runtime could not be started", &error),
    };
    let findings = runtime.block_on(examine(&exe, &loaded, configured, args.agent));
    out.write(report(&findings, configured, args.json).as_bytes());
    if findings.iter().any(Finding::is_fault) { ExitCode::from(REFUSED) } else { ExitCode::SUCCESS }
}

/// Everything, in the order of the table. What waits for the outside is asked side by side.
async fn examine(exe: &Path, loaded: &Loaded, configured: bool, agent: bool) -> Vec<Finding> {
    let settings = &loaded.server;
    let mut findings = Vec::new();
    if configured {
        findings.extend(server::settings(loaded));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let (toolchain, (sandbox, layers)) = tokio::join!(Toolchain::look(&path), machine::sandbox(exe, settings));
    let toolchain = Arc::new(toolchain);
    findings.extend(machine::tools(&toolchain));
    findings.extend(sandbox);
    findings.extend(machine::roots(exe, settings, layers.as_ref(), &toolchain).await);
    findings.extend(machine::disk(settings));
    if configured {
        findings.extend(server::store(settings).await);
        findings.extend(blobs::blobs(settings).await);
        // Nobody reaches an agent.
        if !agent {
            findings.extend(server::hooks(settings).await);
        }
        findings.extend(server::forges(settings).await);
        findings.extend(heads::heads(exe, settings).await);
    }
    findings.extend(addresses::all(settings, &toolchain, configured).await);
    findings
}

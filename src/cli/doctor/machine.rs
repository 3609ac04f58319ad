//! The machine: tools, layers of the sandbox, disk.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::finding::Finding;
use crate::config::root::Root;
use crate::config::server::{Require, Server};
use crate::confine::{self, Layer, Layers, Visit};
use crate::toolchain::{Tool, Toolchain};

const TOOLS: &str = "tools";
const SANDBOX: &str = "sandbox";
const DISK: &str = "disk";

/// Without these no repository builds.
const NEEDED: [&str; 2] = ["node", "npm"];
/// Those that only some repositories use, and people who look into a workspace.
const SOMETIMES: [&str; 5] = ["git", "yarn", "pnpm", "bun", "bower"];

/// Bytes below which nothing can be built, and below which it soon can't be.
const SPACE: (u64, u64) = (512 << 20, 5 << 30);
/// The same in files: one `node_modules` has tens of thousands.
const FILES: (u64, u64) = (50_000, 300_000);

/// Every tool with its version and place.
pub(super) fn tools(toolchain: &Toolchain) -> Vec<Finding> {
    let told = |name: &str, missing: &dyn Fn(String, String) -> Finding| match toolchain.require(name) {
        Ok(tool) => {
            let version = tool.version.as_deref().unwrap_or("version unknown");
            Finding::good(TOOLS, name, format!("{version}, {}", tool.path.display()))
        }
        Err(gone) => missing(format!("not found in {}", gone.looked_in), gone.mend),
    };
    let needed = NEEDED.into_iter().map(|name| told(name, &|what, mend| Finding::fault(TOOLS, name, what, mend)));
    let sometimes = SOMETIMES.into_iter().map(|name| match name {
        // npm and the others start it for dependencies that are git repositories; so does bower for most of its.
        "git" => told(name, &|what, mend| {
            Finding::warning(TOOLS, name, format!("{what}: bower and git dependencies need it"), mend)
        }),
        "bower" => told(name, &|_, _| Finding::good(TOOLS, name, "none; the agent gets its own when it is needed")),
        _ => told(name, &|_, _| Finding::good(TOOLS, name, "none; the agent gets the version that is asked for")),
    });
    needed.chain(sometimes).collect()
}

/// Every layer, tried by a build of nothing where builds would run; and the layers, where they could be tried.
pub(super) async fn sandbox(exe: &Path, settings: &Server) -> (Vec<Finding>, Option<Layers>) {
    let dir = existing(&settings.data_dir);
    if settings.sandbox.require == Require::None {
        return (without_a_fence(exe, &dir).await, None);
    }
    let insists = settings.sandbox.require == Require::Full;
    // Without the core no fork's build is run, which nobody asked for who did not write "none".
    let missing = |name: &str, core: bool, why: String, fix: String| match insists || core {
        true => Finding::fault(SANDBOX, name, why, fix),
        false => Finding::warning(SANDBOX, name, why, fix),
    };
    let layers = match confine::probe(exe, &dir).await {
        Ok(layers) => Layers { cgroup: confine::look_for_cgroup(), ..layers },
        Err(error) => {
            let fix = format!("let this user write {}", dir.display());
            return (vec![missing("layers", true, format!("could not be tried: {error}"), fix)], None);
        }
    };
    let mut findings: Vec<Finding> = layers
        .table()
        .into_iter()
        .map(|Layer { name, state, fix, core }| match state {
            Ok(detail) => Finding::good(SANDBOX, name, detail),
            Err(why) => {
                let why = if core { format!("{why}; no fork's build is run") } else { why };
                missing(name, core, why, fix.unwrap_or_else(|| "mend the layer above first".to_owned()))
            }
        })
        .collect();
    findings.push(Finding::good(SANDBOX, "snapshots", layers.joining().to_string()));
    (findings, Some(layers))
}

/// Every root that steps are configured to see, entered as a build would.
pub(super) async fn roots(
    exe: &Path,
    settings: &Server,
    layers: Option<&Layers>,
    host: &Arc<Toolchain>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let Some(layers) = layers else { return findings };
    let path = std::env::var_os("PATH").unwrap_or_default();
    for root in settings.forges.roots() {
        let name = format!("root {}", root.dir().display());
        let visit = match Visit::begin(exe, layers, &existing(&settings.data_dir), root.dir()).await {
            Ok(visit) => visit,
            Err(error) => {
                let why = format!("{error}; none of its builds is run");
                findings.push(Finding::fault(SANDBOX, name, why, "mend the layer above, or name another root"));
                continue;
            }
        };
        // It prints what it was given: a shell takes an empty file for a program that passes.
        let said = visit.ask(Path::new("/usr/bin/env"), &[], "/usr/local/bin:/usr/bin:/bin").await;
        let runs = said.is_some_and(|said| said.contains("PATH="));
        let toolchain = Toolchain::look_in(&root, &visit, &path, Arc::clone(host)).await;
        visit.end().await;
        findings.push(match runs {
            true => of_root(name, &root, &toolchain),
            false => {
                let why = "its shell or its /usr/bin/env does not run on this machine";
                Finding::fault(SANDBOX, name, why, "it must be for this processor, and whole: with its libraries")
            }
        });
    }
    findings
}

/// What is left where the configuration asks for no fence.
async fn without_a_fence(exe: &Path, dir: &Path) -> Vec<Finding> {
    let why = "steps run as processes of the agent's user: [sandbox] require = \"none\"";
    let mut findings = vec![Finding::warning(SANDBOX, "none", why, "take the line out, unless this is meant")];
    let layers = match confine::probe_bare(exe, dir, "asked for").await {
        Ok(layers) => layers,
        Err(error) => {
            let fix = format!("let this user write {}", dir.display());
            findings.push(Finding::fault(SANDBOX, "layers", format!("could not be tried: {error}"), fix));
            return findings;
        }
    };
    let walls = layers.table().into_iter().filter(|layer| matches!(layer.name, "landlock" | "seccomp"));
    findings.extend(walls.map(|Layer { name, state, fix, .. }| match state {
        Ok(detail) => Finding::good(SANDBOX, name, detail),
        Err(why) => Finding::warning(SANDBOX, name, why, fix.unwrap_or_default()),
    }));
    findings.push(Finding::good(SANDBOX, "snapshots", layers.joining().to_string()));
    findings
}

/// Where systems keep the authorities that git and curl trust.
const AUTHORITIES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// What a root has, and what builds in it would miss.
fn of_root(name: String, root: &Root, toolchain: &Toolchain) -> Finding {
    let told = |tool: &Tool| format!("{} {}", tool.name, tool.version.as_deref().unwrap_or("of some version"));
    let has: Vec<String> = ["node", "npm", "git"].iter().filter_map(|tool| toolchain.get(tool).map(told)).collect();
    let has = if has.is_empty() { "neither node, npm nor git".to_owned() } else { has.join(", ") };
    let detail = format!("{}: {has}", root.system().unwrap_or_else(|| "a system without a name".to_owned()));
    let trusts = AUTHORITIES.iter().any(|file| root.resolve(Path::new(file)).is_ok());
    if toolchain.get("node").is_none() && !toolchain.can_be_given_node() {
        let fix = format!("install it in {}, or set toolchain.node_mirror", root.dir().display());
        return Finding::warning(SANDBOX, name, format!("{detail}; the registry has no node for its C library"), fix);
    }
    if !trusts {
        let fix = format!("install ca-certificates in {}", root.dir().display());
        let detail = format!("{detail}; no certificate authorities: git and curl reach nothing by https");
        return Finding::warning(SANDBOX, name, detail, fix);
    }
    Finding::good(SANDBOX, name, detail)
}

/// Space and files where builds would run.
pub(super) fn disk(settings: &Server) -> Vec<Finding> {
    let dir = existing(&settings.data_dir);
    let shown = settings.data_dir.display();
    let made = if dir == settings.data_dir { String::new() } else { ", which the first start makes".to_owned() };
    let writable = rustix::fs::access(&dir, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK);
    let folder = match writable {
        Ok(()) => Finding::good(DISK, "data.dir", format!("{shown}{made}")),
        Err(error) => {
            let fix = format!("chown it to the agent's user, or name another folder: [data] dir ({})", dir.display());
            Finding::fault(DISK, "data.dir", format!("{shown} can't be written: {error}"), fix)
        }
    };
    let Ok(fs) = rustix::fs::statvfs(&dir) else { return vec![folder] };
    let free = fs.f_bavail.saturating_mul(fs.f_frsize);
    let fix = "free some, or move [data] dir to a larger disk";
    let mut findings = vec![folder, enough("space", free, SPACE, &format!("{} MiB free", free >> 20), fix)];
    // btrfs and others have no fixed number of files and say 0.
    if fs.f_files > 0 {
        let fix = "remove files, or make the file system with more inodes";
        findings.push(enough("inodes", fs.f_favail, FILES, &format!("{} free", fs.f_favail), fix));
    }
    findings
}

fn enough(name: &str, free: u64, (least, comfortable): (u64, u64), detail: &str, fix: &str) -> Finding {
    match free {
        free if free < least => Finding::fault(DISK, name, detail, fix),
        free if free < comfortable => Finding::warning(DISK, name, format!("{detail}: it will not last"), fix),
        _ => Finding::good(DISK, name, detail),
    }
}

/// The folder itself, or the nearest above it that is there.
fn existing(dir: &Path) -> PathBuf {
    dir.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("/")).to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::finding::State;
    use super::*;

    #[tokio::test]
    async fn without_any_tool_each_is_named_with_its_fix() {
        let findings = tools(&Toolchain::look(std::ffi::OsStr::new("/nonexistent")).await);
        let of = |name: &str| findings.iter().find(|one| one.name == name).expect("named");
        assert_eq!((of("node").state, of("npm").state, of("git").state), (State::Fault, State::Fault, State::Warning));
        assert!(of("npm").fix.as_ref().is_some_and(|fix| fix.contains("install")), "{findings:#?}");
        assert_eq!(of("pnpm").state, State::Good);
    }

    #[test]
    fn how_much_is_enough() {
        let state = |free| enough("space", free, (10, 20), "", "").state;
        assert_eq!([5, 10, 20].map(state), [State::Fault, State::Warning, State::Good]);
    }
}

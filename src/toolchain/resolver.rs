//! bower's resolvers: modules that bower loads from `NODE_PATH`, with the modules that they load in turn.
//!
//! A resolver stands on a hundred other packages, which only a package manager can lay out. So the agent's own npm
//! does it, in a staging folder of the shelf: it checks each file against the registry's digest and runs no script of
//! any package. What it installs is named here, never by a repository.

use std::fs;
use std::path::Path;
use std::process::{Output, Stdio};

use tokio::process::Command;

use super::download::Source;
use super::registry::Release;
use super::shelf::Patience;
use super::supply::Supply;
use super::unmet::Unmet;
use super::versions::NO_COMPILED_CODE;
use crate::config::server::Access;
use crate::domain::spec::Wanted;
use crate::outside;

/// Where a kept resolver is with all that it needs: a folder for `NODE_PATH`.
pub(super) const MODULES: &str = "node_modules";

/// The resolvers that there are in the registry, each with what it expects to find as a module beside itself.
/// bower-npm-resolver loads npm, and every npm since 8 refuses to be loaded.
const RESOLVERS: [(&str, Option<&str>); 4] = [
    ("bower-npm-resolver", Some("npm@6")),
    ("bower-art-resolver", None),
    ("bower-nexus3-resolver", None),
    ("bower-shrinkwrap-resolver-ext", None),
];

/// Where npm reads the registry's token: in its environment, and so on no disk.
const TOKEN: &str = "HOOKMILL_REGISTRY_TOKEN";

/// What npm is given and leaves in the staging folder beside the modules.
const SETTINGS: &str = ".npmrc";
const AUTHORITIES: &str = ".authorities.pem";
const DOWNLOADS: &str = ".downloads";

/// Whether a tool is a resolver of bower's.
pub(super) fn is_one(tool: &str) -> bool {
    RESOLVERS.iter().any(|(name, _)| *name == tool)
}

/// Fills the staging folder.
pub(super) fn install(
    supply: &Supply,
    wanted: &Wanted,
    release: &Release,
    staging: &Path,
    patience: &Patience,
) -> Result<(), Unmet> {
    let what = format!("{}@{}", wanted.tool, release.version());
    let source = supply.registry(wanted)?.0;
    fs::write(staging.join("package.json"), "{}").map_err(Unmet::disk(staging))?;
    let mut npm = npm(supply, &source, staging, &what)?;
    npm.arg("install").arg(&what);
    npm.args(RESOLVERS.iter().find(|(name, _)| *name == wanted.tool).and_then(|(_, beside)| *beside));
    let output = ended(npm, &what, patience)?;
    if !output.status.success() {
        return Err(Unmet::Outage { what, why: complaint(&output.stderr) });
    }
    for own in [SETTINGS, AUTHORITIES] {
        match fs::remove_file(staging.join(own)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(Unmet::disk(staging)(error)),
            _ => {}
        }
    }
    fs::remove_dir_all(staging.join(DOWNLOADS)).map_err(Unmet::disk(staging))?;
    match staging.join(MODULES).join(&wanted.tool).join("package.json").is_file() {
        true => Ok(()),
        false => Err(source.refused(&what, "npm did not install it")),
    }
}

/// The agent's npm, set up for a folder. What is set here goes before what the agent's user has in an `.npmrc`.
fn npm(supply: &Supply, source: &Source, staging: &Path, what: &str) -> Result<Command, Unmet> {
    let unavailable = |why: String| Unmet::Outage { what: what.to_owned(), why };
    // It runs beside the agent, not in a step, and starts nothing of what it installs.
    let toolchain = supply.toolchain().of_host();
    let program = toolchain.require("npm").map_err(|missing| unavailable(missing.to_string()))?;
    let path = std::env::join_paths(toolchain.path()).map_err(|error| unavailable(error.to_string()))?;
    let mut npm = Command::new(&program.path);
    npm.current_dir(staging).stdin(Stdio::null()).kill_on_drop(true);
    npm.env("PATH", path).env_remove("NODE_OPTIONS").env_remove("NODE_PATH").envs(NO_COMPILED_CODE);
    for (name, value) in [
        ("ignore_scripts", "true"),
        ("global", "false"),
        ("bin_links", "false"),
        ("package_lock", "false"),
        ("save", "false"),
        ("engine_strict", "false"),
        ("audit", "false"),
        ("fund", "false"),
        ("progress", "false"),
        ("update_notifier", "false"),
        ("registry", source.base.as_str()),
    ] {
        npm.env(format!("npm_config_{name}"), value);
    }
    npm.env("npm_config_cache", staging.join(DOWNLOADS));
    let network = &source.network;
    if let Some(proxy) = network.proxy.as_deref().filter(|proxy| !proxy.is_empty()) {
        npm.env("npm_config_proxy", proxy).env("npm_config_https_proxy", proxy);
        npm.env("npm_config_noproxy", network.no_proxy.join(","));
    }
    if network.ca_file.is_some() {
        let pem = outside::authorities_pem(network).map_err(|error| unavailable(error.to_string()))?;
        fs::write(staging.join(AUTHORITIES), pem).map_err(Unmet::disk(staging))?;
        npm.env("npm_config_cafile", staging.join(AUTHORITIES));
    }
    if let Some(Access::Token(token)) = &source.access
        && let Ok(token) = std::str::from_utf8(token.expose())
    {
        let address = source.base.as_str().trim_start_matches(source.base.scheme()).trim_start_matches(':');
        fs::write(staging.join(SETTINGS), format!("{address}:_authToken=${{{TOKEN}}}\n"))
            .map_err(Unmet::disk(staging))?;
        npm.env(TOKEN, token);
    }
    Ok(npm)
}

/// Runs it to its end, or to the end of somebody's patience.
fn ended(mut command: Command, what: &str, patience: &Patience) -> Result<Output, Unmet> {
    let outage = |why: String| Unmet::Outage { what: what.to_owned(), why };
    // The shelf fills its folders outside the runtime; only this wait needs it.
    tokio::runtime::Handle::current().block_on(async {
        tokio::select! {
            output = command.output() => output.map_err(|error| outage(format!("npm could not be started: {error}"))),
            () = patience.stop.cancelled() => Err(Unmet::Stopped),
            () = tokio::time::sleep_until(patience.deadline.into()) => Err(outage("it took too long".to_owned())),
        }
    })
}

/// The first of npm's lines that says something: `npm error code E401` and the words behind it.
fn complaint(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let said = |line: &str| {
        let words = line.strip_prefix("npm error ").or_else(|| line.strip_prefix("npm ERR! "))?.trim();
        (!words.is_empty()).then(|| words.to_owned())
    };
    let lines: Vec<String> = text.lines().filter_map(said).take(2).collect();
    if lines.is_empty() { "npm failed without a word".to_owned() } else { lines.join(": ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_npm_complains_of() {
        let check = |stderr: &str, expected: &str| assert_eq!(complaint(stderr.as_bytes()), expected);
        check(
            "npm warn old\nnpm error code E401\nnpm error 401 Unauthorized - GET\nnpm error more",
            "code E401: 401 Unauthorized - GET",
        );
        check("npm ERR! code ENOTFOUND\nnpm ERR!\n", "code ENOTFOUND");
        check("Killed", "npm failed without a word");
    }
}

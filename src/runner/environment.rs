//! The one place where a step's environment is made.
//!
//! It is made from nothing: what the agent itself was started with is not in it, apart from the
//! folders of its tools, and the proxy and certificates by which the outside is reached. The names
//! are a contract (design 4.6). Whoever needs another variable in steps adds it here or nowhere.

pub mod committed;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod home;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::config::server;
use crate::confine::DOOR;
use crate::domain::build::Build;
use crate::domain::repo::RefName;
use crate::domain::spec::{Network, StepSpec};
use crate::domain::step::StepKind;
use crate::domain::time::Timestamp;
use crate::egress::{Rules, names_path};
use crate::toolchain::Outfit;

use super::downloads::DOWNLOADS;

/// Where a step finds its tree, its HOME and its TMPDIR, as its own process sees them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The tree's root: `/build`, or a slot's folder where there are no mount namespaces.
    pub build: PathBuf,
    /// The private HOME.
    pub home: PathBuf,
    /// The private TMPDIR.
    pub tmp: PathBuf,
}

/// The certificate authorities that steps trust beside those built into their tools.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Certificates {
    /// For node and what runs on it: added to its own.
    pub node_extra: Option<PathBuf>,
    /// For OpenSSL: instead of the system's.
    pub ssl: Option<PathBuf>,
}

impl Certificates {
    /// From `network.ca_file`, else from the agent's own `NODE_EXTRA_CA_CERTS` and `SSL_CERT_FILE`.
    pub fn resolve(network: &server::Network, own: impl Fn(&str) -> Option<OsString>) -> Self {
        if let Some(file) = &network.ca_file {
            // A configured file stands beside the system's authorities, and SSL_CERT_FILE would replace
            // them, unless the configuration took it from that very variable.
            let is_ssl = own("SSL_CERT_FILE").is_some_and(|own| Path::new(&own) == file);
            return Self { node_extra: Some(file.clone()), ssl: is_ssl.then(|| file.clone()) };
        }
        let path = |name| own(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let ssl = path("SSL_CERT_FILE");
        Self { node_extra: path("NODE_EXTRA_CA_CERTS").or_else(|| ssl.clone()), ssl }
    }

    /// Files that must be readable inside the sandbox, at the same path.
    pub fn readable(&self) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = [&self.node_extra, &self.ssl].into_iter().flatten().cloned().collect();
        files.dedup();
        files
    }
}

/// This machine, as no proxy could reach it for a step.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Everything that a step's environment is made of.
#[derive(Debug, Clone)]
pub struct Facts<'a> {
    /// The build that the step belongs to.
    pub build: &'a Build,
    /// The build's page, without a key.
    pub build_url: &'a str,
    /// The built commit's own time.
    pub commit_time: Option<Timestamp>,
    /// The step.
    pub step: &'a StepSpec,
    /// Where it finds what.
    pub place: &'a Place,
    /// The agent's tools for it; their folders are absolute.
    pub outfit: &'a Outfit,
    /// The proxy.
    pub network: &'a server::Network,
    /// What it may reach through the proxy at its door; `None` where it has no door: closed, or open altogether.
    pub gate: Option<&'a Rules>,
    /// The certificate authorities.
    pub certificates: &'a Certificates,
    /// What we ourselves ask of every node, before the repository's own options.
    pub node_options: Option<&'a str>,
    /// A folder whose commands come before all others; see [`observer`](super::observer).
    pub first_on_path: Option<&'a Path>,
    /// False keeps packages' install scripts from running by themselves.
    pub scripts: bool,
    /// What the repository's own settings of package managers name; see [`committed`].
    pub committed: &'a BTreeMap<String, String>,
    /// Whether HOME holds a token of a registry while the step runs.
    pub registry_tokens: bool,
    /// The secrets of the repository that this step does not see: each is there, and empty.
    pub withheld: &'a [&'a str],
    /// Those that it sees.
    pub secrets: &'a BTreeMap<String, String>,
    /// `env` of the server's configuration.
    pub server_env: &'a BTreeMap<String, String>,
}

/// The whole environment of one step. The step's own `env` already holds the repository file's.
pub fn make(facts: &Facts<'_>) -> BTreeMap<String, String> {
    let mut env = Environment::default();
    env.session(facts);
    env.about_the_build(facts);
    env.package_managers(facts);
    match facts.gate {
        Some(rules) => env.through_the_gate(facts, rules),
        None if facts.step.network == Network::Closed => {}
        None => env.straight_out(facts),
    }
    if let Some(options) = facts.node_options {
        env.add(&BTreeMap::from([("NODE_OPTIONS".to_owned(), options.to_owned())]));
    }
    for (name, value) in facts.committed {
        env.0.entry(name.clone()).or_insert_with(|| value.clone());
    }
    for name in facts.withheld {
        env.0.entry((*name).to_owned()).or_default();
    }
    env.add(facts.server_env);
    env.add(&facts.step.env);
    // Last: what the server gives is not what the repository has in its place for those that are given nothing.
    env.0.extend(facts.secrets.clone());
    env.0
}

#[derive(Default)]
struct Environment(BTreeMap<String, String>);

impl Environment {
    fn set(&mut self, name: &str, value: impl Into<String>) {
        self.0.insert(name.to_owned(), value.into());
    }

    fn set_path(&mut self, name: &str, path: &Path) {
        self.set(name, path.to_string_lossy());
    }

    /// Later layers replace earlier ones; only `NODE_OPTIONS` adds up, since each layer means its own.
    fn add(&mut self, layer: &BTreeMap<String, String>) {
        for (name, value) in layer {
            match self.0.get(name).filter(|earlier| name == "NODE_OPTIONS" && !earlier.is_empty()) {
                Some(earlier) => self.set(name, format!("{earlier} {value}")),
                None => self.set(name, value),
            }
        }
    }

    fn session(&mut self, facts: &Facts<'_>) {
        self.set("PATH", search_path(facts));
        self.set_path("HOME", &facts.place.home);
        self.set_path("TMPDIR", &facts.place.tmp);
        for (name, value) in [
            ("USER", "build"),
            ("SHELL", "/bin/sh"),
            ("LANG", "C.UTF-8"),
            ("TZ", "UTC"),
            ("TERM", "xterm-256color"),
            ("FORCE_COLOR", "1"),
            ("CI", "true"),
            ("CI_NAME", "hookmill"),
            ("HOOKMILL", "1"),
        ] {
            self.set(name, value);
        }
    }

    /// Every name is always there, empty where it has nothing to say: scripts run with `set -u` too.
    fn about_the_build(&mut self, facts: &Facts<'_>) {
        let build = facts.build;
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let built = build.built_sha.as_ref().unwrap_or(&build.sha);
        for (name, value) in [
            ("CI_EVENT", build.cause.as_str().to_owned()),
            ("CI_REPO", build.repo.to_string()),
            ("CI_BRANCH", text(&build.branch)),
            ("CI_TAG", build.git_ref.as_tag().unwrap_or_default().to_owned()),
            ("CI_DEFAULT_BRANCH", text(&build.default_branch)),
            ("CI_COMMIT_SHA", build.sha.to_string()),
            ("CI_BUILT_SHA", built.to_string()),
            ("CI_COMMIT_REF", RefName::as_str(&build.git_ref).to_owned()),
            ("CI_PULL_REQUEST", build.pull_request.map(|number| number.to_string()).unwrap_or_default()),
            ("CI_BASE_BRANCH", text(&build.base_branch)),
            ("CI_TRUST", build.trust.as_str().to_owned()),
            ("CI_BUILD_ID", build.id.to_string()),
            ("CI_BUILD_URL", facts.build_url.to_owned()),
        ] {
            self.set(name, value);
        }
        // reproducible-builds.org: seconds since 1970; tools put it where they would put "now".
        if let Some(time) = facts.commit_time {
            self.set("SOURCE_DATE_EPOCH", time.0.div_euclid(1000).max(0).to_string());
        }
    }

    fn package_managers(&mut self, facts: &Facts<'_>) {
        let downloads = facts.place.home.join(DOWNLOADS);
        for (name, value) in [
            // Nobody reads these in a log, and each asks the registry or slows the install.
            ("npm_config_audit", "false"),
            ("npm_config_fund", "false"),
            ("npm_config_progress", "false"),
            ("npm_config_update_notifier", "false"),
            // One log file, in a HOME that is thrown away, since its errors are in ours. With none, npm 6 removes the one
            // that it writes to, and fails.
            ("npm_config_logs_max", "1"),
            // npm's own waits (10 s, then 60 s) make an outage cost 70 s a try; so it is 7 s, and the
            // runner tries the step again. A server that hangs is given up after a minute, not five.
            ("npm_config_fetch_retries", "2"),
            ("npm_config_fetch_retry_mintimeout", "1000"),
            ("npm_config_fetch_retry_maxtimeout", "5000"),
            ("npm_config_fetch_timeout", "60000"),
            ("YARN_ENABLE_TELEMETRY", "0"),
            ("YARN_ENABLE_PROGRESS_BARS", "0"),
            // Its question on the terminal would be answered by an empty standard input.
            ("COREPACK_ENABLE_DOWNLOAD_PROMPT", "0"),
            // For a package script that runs bower itself: inside the sandbox it may look like root.
            ("bower_allow_root", "true"),
            ("bower_interactive", "false"),
            ("bower_analytics", "false"),
        ] {
            self.set(name, value);
        }
        for (name, folder) in [
            ("npm_config_cache", "npm"),
            ("YARN_GLOBAL_FOLDER", "yarn"),
            ("COREPACK_HOME", "corepack"),
            ("BUN_INSTALL_CACHE_DIR", "bun"),
            // bower keeps registry answers for days; shared, a wrong one would outlive its repair.
            ("bower_storage__packages", "bower/packages"),
            ("bower_storage__registry", "bower/registry"),
            ("bower_storage__links", "bower/links"),
        ] {
            self.set_path(name, &downloads.join(folder));
        }
        // Only for pnpm: npm 11 warns of a setting that it does not know.
        if facts.step.tool == "pnpm" {
            self.pnpm(&downloads);
        }
        if let Some(headers) = &facts.outfit.headers {
            // npm 11 warns of the older name, which every node-gyp knows; its own node-gyp knows the newer one.
            let name = if headers.npm < 11 { "npm_config_nodedir" } else { "npm_package_config_node_gyp_nodedir" };
            self.set_path(name, &headers.node);
        }
        if let Ok(modules) = std::env::join_paths(&facts.outfit.modules)
            && !modules.is_empty()
        {
            self.set("NODE_PATH", modules.to_string_lossy());
        }
        // Only for yarn 1, which sends a token with packages that have no scope only when it is told so.
        if facts.step.tool == "yarn" && facts.registry_tokens {
            self.set("npm_config_always_auth", "true");
        }
        if !facts.scripts && facts.step.kind == StepKind::Install {
            self.set("npm_config_ignore_scripts", "true");
            self.set("YARN_ENABLE_SCRIPTS", "false");
        }
    }

    /// pnpm to 10 reads `npm_config_*`, from 11 on `pnpm_config_*`.
    fn pnpm(&mut self, downloads: &Path) {
        for (name, value) in [
            // Else pnpm, seeing HOME on another file system, would put its store into the tree.
            ("store_dir", downloads.join("pnpm").to_string_lossy().into_owned()),
            // The registry's documents, which are not kept: not in `.cache`, which is.
            ("cache_dir", downloads.join("pnpm-metadata").to_string_lossy().into_owned()),
            // Never by hard links: a write into `node_modules` would be one into the store.
            ("package_import_method", "clone-or-copy".to_owned()),
            // What install scripts made is no download, and nothing tells whether it is right.
            ("side_effects_cache", "false".to_owned()),
        ] {
            self.set(&format!("npm_config_{name}"), value.as_str());
            self.set(&format!("pnpm_config_{name}"), value);
        }
    }

    /// Whom a step trusts; for a step without the network it would only mislead.
    fn certificates(&mut self, facts: &Facts<'_>) {
        if let Some(file) = &facts.certificates.node_extra {
            self.set_path("NODE_EXTRA_CA_CERTS", file);
        }
        if let Some(file) = &facts.certificates.ssl {
            self.set_path("SSL_CERT_FILE", file);
        }
    }

    /// For a step that has the machine's own network.
    fn straight_out(&mut self, facts: &Facts<'_>) {
        self.certificates(facts);
        let Some(proxy) = &facts.network.proxy else { return };
        let listed = facts.network.no_proxy.iter().map(String::as_str).filter(|host| !host.is_empty());
        let direct: Vec<&str> = LOOPBACK.into_iter().chain(listed).collect();
        self.proxy(proxy, &direct.join(","));
    }

    /// For a step in whose network there is nothing but its door.
    fn through_the_gate(&mut self, facts: &Facts<'_>, rules: &Rules) {
        self.certificates(facts);
        let door = format!("http://{DOOR}");
        // Its own loopback has its own servers, and a door for what is open of this machine's; but no door for what only an
        // answer of a registry of names opens.
        let has_names = !rules.registries_of_names().is_empty();
        let direct: Vec<&str> = LOOPBACK.into_iter().filter(|host| !has_names || !rules.opens_some_of(host)).collect();
        let direct = direct.join(",");
        self.proxy(&door, &direct);
        // node 24 and later: its own fetch goes by the proxy too. For what asks in an earlier one, and knows no proxy: the gate's file.
        self.set("NODE_USE_ENV_PROXY", "1");
        self.set("NODE_OPTIONS", format!("--require {}", facts.place.home.join(home::GATE).display()));
        if facts.step.kind != StepKind::Install {
            return;
        }
        // Before what a repository's own settings say of a proxy, which is another machine's.
        for (manager, plain, tls) in [
            ("npm_config", "proxy", "https_proxy"),
            ("bower", "proxy", "https_proxy"),
            ("YARN", "HTTP_PROXY", "HTTPS_PROXY"),
        ] {
            self.set(&format!("{manager}_{plain}"), door.as_str());
            self.set(&format!("{manager}_{tls}"), door.as_str());
        }
        self.set("npm_config_noproxy", direct);
        let names: Vec<String> =
            rules.registries_of_names().iter().map(|url| format!("{door}{}", names_path(url))).collect();
        let is_set = |name: &String| name.to_ascii_lowercase().starts_with("bower_registry");
        if !names.is_empty() && !facts.server_env.keys().chain(facts.step.env.keys()).any(is_set) {
            self.set("bower_registry__search", format!("[{}]", names.join(",")));
        }
    }

    fn proxy(&mut self, proxy: &str, direct: &str) {
        // curl and git read only the lower-case http_proxy, others only the upper-case names.
        for (name, value) in [("HTTP_PROXY", proxy), ("HTTPS_PROXY", proxy), ("NO_PROXY", direct)] {
            self.set(&name.to_lowercase(), value);
            self.set(name, value);
        }
    }
}

/// The tree's own commands first, nearest folder first, then the agent's tools.
fn search_path(facts: &Facts<'_>) -> String {
    let bin = |folder: &Path| folder.join("node_modules/.bin");
    let root = &facts.place.build;
    let mut folders: Vec<PathBuf> = facts.first_on_path.map(Path::to_owned).into_iter().collect();
    if facts.step.dir != "." {
        folders.push(bin(&root.join(&facts.step.dir)));
    }
    folders.push(bin(root));
    folders.extend(facts.outfit.path.iter().filter(|folder| folder.is_absolute()).cloned());
    let mut words: Vec<String> = Vec::new();
    for folder in folders {
        let word = folder.to_string_lossy().into_owned();
        // A colon would make two folders of one, the second relative to the tree.
        if !word.contains(':') && !words.contains(&word) {
            words.push(word);
        }
    }
    words.join(":")
}

#[cfg(test)]
mod tests;

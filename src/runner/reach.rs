//! What the steps of a build may reach over the network.
//!
//! A step with a network of its own reaches only what goes through the gate at its door. For an install that is where
//! package managers are configured to go: by the operator, and in a trusted or member build by the repository's own
//! settings. A fork's settings open nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use url::Url;

use crate::config::server::{InstallHost, Sandbox};
use crate::domain::spec::{Network, StepSpec};
use crate::domain::step::StepKind;
use crate::domain::trust::Trust;
use crate::egress::Rules;
use crate::toolchain::BowerPlaces;
use crate::tree;

use super::course::Course;
use super::environment::committed;

/// What the steps of a build may reach.
pub(super) struct Reach {
    /// Whether this host has networks to keep steps in.
    is_gated: bool,
    /// Whether what is closed is let through and told.
    reports: bool,
    installs: Rules,
}

impl Reach {
    /// For these steps of a build: those that are to run.
    pub(super) async fn of(course: &Course<'_>, steps: impl Iterator<Item = &StepSpec>) -> Reach {
        let is_gated = course.parts.layers.has_netns();
        let trust = course.job.build.trust;
        let installs: Vec<&StepSpec> = steps.filter(|step| step.kind == StepKind::Install).collect();
        let rules =
            if is_gated && !installs.is_empty() { of_installs(course, &installs).await } else { Rules::default() };
        Reach { is_gated, reports: course.job.sandbox.reports && trust == Trust::Trusted, installs: rules }
    }

    /// What a step may reach through its gate; `None` for one that has none: it is closed, or it has the machine's network.
    pub(super) fn rules(&self, step: &StepSpec) -> Option<Rules> {
        let rules = match &step.network {
            Network::Open => return None,
            Network::Closed if !self.reports => return None,
            Network::Closed => Rules::default(),
            Network::Registries => self.installs.clone(),
            Network::Hosts(hosts) => Rules::new(hosts.iter().map(String::as_str)),
        };
        self.is_gated.then(|| if self.reports { rules.reporting() } else { rules })
    }
}

async fn of_installs(course: &Course<'_>, steps: &[&StepSpec]) -> Rules {
    let (job, tools) = (course.job, course.tools);
    let has_bower = course.tree.done.listing.paths.iter().any(|path| path.rsplit('/').next() == Some("bower.json"));
    let lists = |host: &InstallHost| job.sandbox.install_hosts.contains(host);
    let wants_bower = has_bower && lists(&InstallHost::Bower);
    let dirs: BTreeSet<&str> = steps.iter().map(|step| step.dir.as_str()).collect();
    let registry = tools.registry.as_deref().and_then(|registry| Url::parse(registry).ok());
    let locked_elsewhere = || dirs.iter().any(|dir| is_locked_elsewhere(&course.sources, dir, registry.as_ref()));
    let wants_yarn = lists(&InstallHost::Yarn) && (tools.give_yarn_1(steps) || locked_elsewhere());
    let (bower, yarn) = tokio::join!(async { if wants_bower { tools.bower_places().await } else { None } }, async {
        if wants_yarn { tools.yarns_own_registry().await } else { None }
    },);
    let agents = Agents {
        registry,
        yarn,
        node: course.parts.toolchain.node_mirror.clone().or_else(|| tools.node_headers.clone()),
        bower: bower.as_deref(),
        env: &job.env,
    };
    let mut rules = listed(&job.sandbox, &agents);
    for registry in &job.registries {
        rules.open_inside(&registry.url);
    }
    if let Some(git) = &job.git {
        rules.open_inside(&git.web_url);
    }
    let own = (job.build.trust != Trust::Fork).then(|| Own::of(&course.sources, &dirs, steps));
    let names = own.as_ref().map(|own| own.names.clone()).filter(|names| !names.is_empty());
    if let Some(own) = own {
        own.addresses.iter().for_each(|url| rules.open(url));
    }
    if wants_bower {
        let agents = || bower.map(|bower| bower.registries.clone()).unwrap_or_default();
        names.unwrap_or_else(agents).into_iter().for_each(|registry| rules.names(registry));
    }
    rules
}

/// The largest lockfile that is looked into, in bytes.
const LARGEST_LOCKFILE: u64 = 64 << 20;

/// Whether a lockfile of npm's names another registry than the agent's. One that was made from a `yarn.lock`, or in a folder
/// that yarn 1 installed, names yarn's, and npm takes it at its word.
fn is_locked_elsewhere(sources: &Path, dir: &str, registry: Option<&Url>) -> bool {
    let host = |text: &str| Url::parse(text.split('"').next()?).ok()?.host_str().map(str::to_owned);
    let agents = registry.and_then(Url::host_str);
    ["package-lock.json", "npm-shrinkwrap.json"].into_iter().any(|name| {
        let dir = if dir == "." { Path::new("") } else { Path::new(dir) };
        let Ok(bytes) = tree::read_file(sources, &dir.join(name), LARGEST_LOCKFILE) else { return false };
        let text = String::from_utf8_lossy(&bytes);
        text.split("\"resolved\": \"").skip(1).filter_map(host).any(|host| Some(&*host) != agents)
    })
}

/// Where the agent's own tools go.
struct Agents<'a> {
    registry: Option<Url>,
    /// The registry that lockfiles of yarn 1 name; `None` for a build without such a lockfile.
    yarn: Option<Url>,
    /// Where node comes from, or else its headers.
    node: Option<Url>,
    /// `None` for a build without bower.
    bower: Option<&'a BowerPlaces>,
    /// `env` of the server's configuration.
    env: &'a BTreeMap<String, String>,
}

/// What `install_hosts` opens.
fn listed(sandbox: &Sandbox, agents: &Agents<'_>) -> Rules {
    let written = sandbox.install_hosts.iter().filter(|host| matches!(host, InstallHost::Host(_)));
    let mut rules = Rules::new(written.map(InstallHost::as_str));
    // Their own defaults are settings like any other: nobody else could have written them.
    for host in &sandbox.install_hosts {
        match host {
            InstallHost::Packages(_) => agents.registry.iter().for_each(|url| rules.open_inside(url)),
            InstallHost::Yarn => {
                agents.registry.iter().chain(&agents.yarn).for_each(|url| rules.open_inside(url));
            }
            InstallHost::Node => agents.node.iter().for_each(|url| rules.open_inside(url)),
            InstallHost::Bower => {
                for url in agents.bower.iter().flat_map(|bower| bower.registries.iter().chain(&bower.shorthand)) {
                    rules.open_inside(url);
                    rules.open_archives_of(url);
                }
            }
            InstallHost::Host(_) => {}
        }
    }
    settings(agents.env).iter().for_each(|url| rules.open_inside(url));
    rules
}

/// Where a repository's own settings send its managers.
struct Own {
    addresses: Vec<Url>,
    /// Where its bower looks names up; empty where it says nothing.
    names: Vec<Url>,
}

impl Own {
    fn of(sources: &Path, dirs: &BTreeSet<&str>, steps: &[&StepSpec]) -> Own {
        let written = dirs.iter().flat_map(|dir| committed::addresses(sources, dir));
        let variables = steps.iter().flat_map(|step| settings(&step.env));
        let names = dirs.iter().flat_map(|dir| committed::bower_registries(sources, dir));
        Own { addresses: written.chain(variables).collect(), names: names.collect() }
    }
}

/// The addresses in variables that package managers read as their settings.
fn settings(env: &BTreeMap<String, String>) -> Vec<Url> {
    const OF_MANAGERS: [&str; 5] = ["npm_config_", "pnpm_config_", "yarn_", "bun_config_", "bower_"];
    let is_one = |name: &str| {
        let name = name.to_ascii_lowercase();
        OF_MANAGERS.iter().any(|start| name.starts_with(start)) && !name.ends_with("proxy")
    };
    let urls = env.iter().filter(|(name, _)| is_one(name)).filter_map(|(_, value)| Url::parse(value).ok());
    urls.filter(|url| matches!(url.scheme(), "http" | "https")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::server::Require;

    fn url(text: &str) -> Url {
        text.parse().expect("an address")
    }

    fn opened(hosts: &[InstallHost], yarn: Option<&str>, bower: Option<&BowerPlaces>, env: &[(&str, &str)]) -> String {
        let env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let agents = Agents {
            registry: Some(url("http://npm.lan:4873/")),
            yarn: yarn.map(url),
            node: Some(url("https://node.lan/dist")),
            bower,
            env: &env,
        };
        let sandbox = Sandbox { require: Require::Available, install_hosts: hosts.to_vec(), reports: false };
        let rules = listed(&sandbox, &agents);
        let known = ["npm.lan", "node.lan", "yarn.lan", "bower.lan", "github.com", "codeload.github.com", "x.lan"];
        known.into_iter().filter(|host| rules.opens_some_of(host)).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_tools_name_is_where_it_goes() {
        let bower = BowerPlaces {
            registries: vec![url("https://bower.lan/")],
            shorthand: Some(url("https://github.com/{{owner}}/{{package}}.git")),
        };
        let check = |host, yarn, bower, expected: &str| assert_eq!(opened(&[host], yarn, bower, &[]), expected);
        check(InstallHost::Packages("npm"), Some("https://yarn.lan"), Some(&bower), "npm.lan");
        check(InstallHost::Yarn, Some("https://yarn.lan"), Some(&bower), "npm.lan yarn.lan");
        check(InstallHost::Yarn, None, None, "npm.lan");
        check(InstallHost::Node, None, Some(&bower), "node.lan");
        check(InstallHost::Bower, None, Some(&bower), "bower.lan github.com codeload.github.com");
        // Nobody starts bower.
        check(InstallHost::Bower, Some("https://yarn.lan"), None, "");
        check(InstallHost::Host("x.lan:443".to_owned()), None, None, "x.lan");
    }

    #[test]
    fn a_lockfile_of_npms_may_name_another_registry() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(dir.path().join("client")).expect("a folder");
        let check = |resolved: &str, expected| {
            let text = format!("{{\n \"packages\": {{\"node_modules/a\": {{\n\"resolved\": \"{resolved}\"\n}}}}}}");
            std::fs::write(dir.path().join("client/package-lock.json"), text).expect("a lockfile");
            let agents = url("http://npm.lan:4873/");
            assert_eq!(is_locked_elsewhere(dir.path(), "client", Some(&agents)), expected, "{resolved}");
        };
        check("http://npm.lan:4873/a/-/a-1.0.0.tgz", false);
        check("https://yarn.lan/a/-/a-1.0.0.tgz#abc", true);
        check("file:../a", false);
        assert!(!is_locked_elsewhere(dir.path(), ".", None), "there is none");
    }

    #[test]
    fn the_operators_variables_are_settings_too() {
        let env = [
            ("NPM_CONFIG_REGISTRY", "http://x.lan/"),
            ("API", "http://npm.lan/"),
            ("npm_config_proxy", "http://node.lan/"),
        ];
        assert_eq!(opened(&[], None, None, &env), "x.lan");
    }
}

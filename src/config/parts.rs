//! The server's tables, one function each. Every key has a value from the embedded default; where one is
//! absent all the same, its fault was reported and what is returned is never used.

use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use super::document::Value;
use super::limits::PartialLimits;
use super::load::EMBEDDED;
use super::problem::{Kind, Problem};
use super::root::{Root, root};
use super::schema::Shape;
use super::secret;
use super::section::{Located, Section};
use super::server::{
    Agent, InstallHost, Listen, Network, Read, Require, Retention, Sandbox, StatusMode, Statuses, Toolchain, Web,
};
use super::surroundings::Surroundings;

/// The sweep lists the heads of every repository; more often is what `poll` of one repository is for.
const SHORTEST_SWEEP: Duration = Duration::from_secs(10);

/// `[server]`: the door and the pages, and how often what was missed is looked for.
pub(super) fn server(mut section: Section<'_>, around: &Surroundings) -> (Web, Option<Duration>) {
    let sweep = section.duration_or_off("sweep", SHORTEST_SWEEP).flatten();
    let listen = section.text("listen");
    let public_url = section.text("public_url");
    if let (Some(listen), Some(url)) = (&listen, &public_url)
        && listen.place.source.name != EMBEDDED
        && url.place.source.name == EMBEDDED
    {
        let message = format!("`server.public_url` is still {}, while `server.listen` is not", url.value);
        let fix = "set public_url to the address that forges and people use";
        section.findings.push(Problem::at(Kind::Warning, &listen.place, message).fix(fix));
    }
    let listen = listen.and_then(|text| listen_address(&mut section, &text));
    let public_url = public_url.and_then(|text| base_url(&mut section, "public_url", &text));
    let web = Web {
        listen: listen.unwrap_or(Listen::Unix(PathBuf::new())),
        public_url: public_url.unwrap_or_else(nowhere),
        admin_token: secret::token(&mut section, &secret::ADMIN_TOKEN, around),
        read: section
            .word("read", &[("link", Some(Read::Link)), ("public", Some(Read::Public)), ("token", Some(Read::Token))])
            .unwrap_or(Read::Token),
    };
    section.finish();
    (web, sweep)
}

fn listen_address(section: &mut Section<'_>, text: &Located<String>) -> Option<Listen> {
    if let Some(path) = text.value.strip_prefix("unix:") {
        if !path.is_empty() {
            return Some(Listen::Unix(text.place.source.base.join(path).components().collect()));
        }
    } else if let Ok(address) = text.value.parse() {
        return Some(Listen::Tcp(address));
    }
    let message = format!("{:?} is not an address to listen on", text.value);
    section.wrong(&text.place, message, "write \"127.0.0.1:4665\", \"0.0.0.0:4665\", \"[::]:4665\" or \"unix:/path\"");
    None
}

/// An http(s) address that others are built from, without a slash at the end of its path.
pub(super) fn base_url(section: &mut Section<'_>, key: &str, text: &Located<String>) -> Option<Url> {
    // The value is not quoted in messages: an address may hold a password by mistake.
    let name = section.key(key);
    let Some(mut url) = Url::parse(&text.value).ok().filter(|url| matches!(url.scheme(), "http" | "https")) else {
        section.wrong(&text.place, format!("`{name}` is not an http or https address"), "write \"https://host/path\"");
        return None;
    };
    if !url.username().is_empty() || url.password().is_some() {
        section.wrong(&text.place, format!("`{name}` holds a user or a password"), "use token_file of the forge");
        return None;
    }
    if url.query().is_some() || url.fragment().is_some() {
        section.wrong(&text.place, format!("`{name}` has a query or a fragment"), "take away what follows ? or #");
        return None;
    }
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Some(url)
}

/// Stands for an address whose fault was reported.
pub(super) fn nowhere() -> Url {
    Url::parse("http://invalid.").expect("a constant that parses")
}

/// `[agent]`, with `[limits]`.
pub(super) fn agent(mut section: Section<'_>, limits: &PartialLimits, around: &Surroundings) -> Agent {
    let limits = limits.complete();
    if let Some(labels) = section.texts("labels")
        && let Some(first) = labels.first()
    {
        section.not_built(&first.place, "agents with labels", "write labels = []");
    }
    let name = section.text("name").and_then(|text| {
        if text.value.is_empty() || text.value.chars().any(char::is_control) {
            section.wrong(
                &text.place,
                "`agent.name` is empty or not printable",
                "take it out: the host's name is used",
            );
            return None;
        }
        Some(text.value)
    });
    let lease = lease(&mut section);
    let agent = Agent {
        slots: slots(&mut section, limits.memory, around),
        drain_timeout: section.duration("drain_timeout").unwrap_or_default(),
        lease,
        name: name.unwrap_or_else(|| around.hostname.clone()),
        limits,
    };
    section.finish();
    agent
}

fn lease(section: &mut Section<'_>) -> Duration {
    /// Below this, a busy database or network would lose leases that nobody abandoned.
    const SHORTEST: Duration = Duration::from_secs(5);
    let place = section.place_of("lease");
    let lease = section.duration("lease").unwrap_or_default();
    if let Some(place) = place.filter(|_| !lease.is_zero() && lease < SHORTEST) {
        section.wrong(
            &place,
            "`agent.lease` is shorter than 5s",
            "write \"60s\"; it is renewed three times within that",
        );
    }
    lease
}

fn slots(section: &mut Section<'_>, build_memory: u64, around: &Surroundings) -> usize {
    let Some(entry) = section.take_as("slots", Shape::CountOr("auto")) else { return 0 };
    let chosen = match &entry.node.value {
        Value::Text(word) | Value::Word(word) if word == "auto" => {
            let by_memory = around.memory.and_then(|memory| memory.checked_div(build_memory));
            let by_memory = by_memory.map_or(usize::MAX, |slots| usize::try_from(slots).unwrap_or(usize::MAX));
            Some((around.cores / 2).min(by_memory).max(1))
        }
        Value::Integer(number) => usize::try_from(*number).ok(),
        Value::Word(word) => word.parse().ok(),
        _ => None,
    };
    if chosen.is_none() {
        section.wrong(
            &entry.node.place,
            "`agent.slots` is \"auto\" or a number",
            "write \"auto\"; 0 runs no builds here",
        );
    }
    chosen.unwrap_or(0)
}

/// `[network]`; what is empty is taken from our own environment.
pub(super) fn network(mut section: Section<'_>, around: &Surroundings) -> Network {
    let ours = around.network();
    let proxy = section.text("proxy").and_then(|text| {
        if text.value.is_empty() {
            return ours.proxy;
        }
        let good = Url::parse(&text.value).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
        if !good {
            section.wrong(&text.place, "`network.proxy` is not an http address", "write \"http://proxy:3128\"");
        }
        good.then_some(text.value)
    });
    let listed: Vec<String> =
        section.texts("no_proxy").unwrap_or_default().into_iter().map(|host| host.value).collect();
    let no_proxy = if listed.is_empty() { ours.no_proxy } else { listed };
    let ca_file = section.text("ca_file").and_then(|text| {
        if text.value.is_empty() {
            return ours.ca_file;
        }
        let path: PathBuf = text.place.source.base.join(&text.value).components().collect();
        if !path.is_file() {
            section.wrong(
                &text.place,
                format!("`network.ca_file`: {} is not a file", path.display()),
                "name a PEM file",
            );
        }
        Some(path)
    });
    section.finish();
    Network { proxy, no_proxy, ca_file }
}

/// `[toolchain]`.
pub(super) fn toolchain(mut section: Section<'_>) -> Toolchain {
    let mirror = section.text("node_mirror").filter(|mirror| !mirror.value.is_empty());
    let node_mirror = mirror.and_then(|mirror| base_url(&mut section, "node_mirror", &mirror));
    let node = section.text("node");
    let node_is_chosen = node.as_ref().is_some_and(|text| text.place.source.name != EMBEDDED);
    let node = node.and_then(|text| {
        let parts: Vec<&str> = text.value.split('.').collect();
        let good = parts.len() <= 3 && parts.iter().all(|part| part.parse::<u32>().is_ok());
        if !good {
            section.wrong(
                &text.place,
                format!("{:?} is not a node version", text.value),
                "write \"22\" or \"22.11.0\"",
            );
        }
        good.then_some(text.value)
    });
    section.finish();
    Toolchain { node: node.unwrap_or_default(), node_is_chosen, node_mirror }
}

/// `[sandbox]`, and its `root`.
pub(super) fn sandbox(mut section: Section<'_>) -> (Sandbox, Option<Located<Option<Root>>>) {
    let words = [("full", Some(Require::Full)), ("available", Some(Require::Available)), ("none", Some(Require::None))];
    let require = section.word("require", &words);
    let reports = section.word("network", &[("enforce", Some(false)), ("report", Some(true))]);
    let listed = section.texts("install_hosts").unwrap_or_default();
    let install_hosts = listed.into_iter().filter_map(|text| install_host(&mut section, text)).collect();
    let root = root(&mut section);
    section.finish();
    let require = require.unwrap_or(Require::Available);
    (Sandbox { require, install_hosts, reports: reports.unwrap_or_default() }, root)
}

fn install_host(section: &mut Section<'_>, text: Located<String>) -> Option<InstallHost> {
    InstallHost::read(&text.value).map_err(|bad| section.wrong(&text.place, bad.message, bad.fix)).ok()
}

/// `[statuses]`.
pub(super) fn statuses(mut section: Section<'_>) -> Statuses {
    let context = section.text("context").and_then(|text| {
        let good =
            !text.value.trim().is_empty() && text.value.len() <= 100 && !text.value.chars().any(char::is_control);
        if !good {
            section.wrong(&text.place, "`statuses.context` must be one line of 1 to 100 bytes", "write \"hookmill\"");
        }
        good.then_some(text.value)
    });
    let mode = section.word("mode", &[("build", Some(StatusMode::Build)), ("steps", Some(StatusMode::Steps))]);
    section.finish();
    Statuses { context: context.unwrap_or_default(), mode: mode.unwrap_or(StatusMode::Build) }
}

/// `[retention]`.
pub(super) fn retention(mut section: Section<'_>) -> Retention {
    let retention = Retention {
        builds: section.duration("builds").unwrap_or_default(),
        logs: section.duration("logs").unwrap_or_default(),
        artifacts: section.duration("artifacts").unwrap_or_default(),
        deliveries: section.duration("deliveries").unwrap_or_default(),
        audit: section.duration("audit").unwrap_or_default(),
        snapshots: section.size("snapshots").unwrap_or_default(),
        mirrors: section.size("mirrors").unwrap_or_default(),
    };
    section.finish();
    retention
}

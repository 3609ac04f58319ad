//! Registries that answer names with the addresses of git repositories, as bower's does.
//!
//! Which hosts an install needs is known only from these answers, so they are asked for here, and a step that asks a
//! registry plainly is given what the registry said. What an answer names is open from then on.

use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};
use url::Url;

use super::rules::{Opened, Rules, names_path};
use crate::config::server::Network;
use crate::outside;

/// For one question, all in all.
const PATIENCE: Duration = Duration::from_secs(30);
/// The largest answer; a name's is a line.
const LARGEST: u64 = 64 * 1024;
/// More hosts than any registry's repositories are at.
const HOSTS: usize = 100;

/// A registry's answer to the question for one name.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) body: String,
    /// The host of the repository that it names.
    repository: Option<Url>,
    /// Whether the registry is at an address inside the house.
    is_inside: bool,
}

/// What registries of names answered so far, as rules.
#[derive(Debug, Default)]
pub(super) struct Answered(Mutex<(Rules, usize)>);

impl Answered {
    /// How a host is open because an answer named it.
    pub(super) fn opened(&self, host: &str, port: u16) -> Option<Opened> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0.opened(host, port)
    }

    /// A registry inside the house may name repositories inside the house; one that anybody writes into may not.
    pub(super) fn learn(&self, answer: &Answer) {
        let Some(url) = &answer.repository else { return };
        let mut learned = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = url.host_str().zip(url.port_or_known_default());
        if known.is_none_or(|(host, port)| learned.0.opened(host, port).is_some()) || learned.1 >= HOSTS {
            return;
        }
        let way = if answer.is_inside { Opened::Inside } else { Opened::ByName };
        let literal = url.host_str().and_then(|host| host.trim_matches(['[', ']']).parse().ok());
        if literal.is_some_and(|address| !way.leads_to(address)) {
            return;
        }
        learned.1 += 1;
        match answer.is_inside {
            true => learned.0.open_inside(url),
            false => learned.0.open(url),
        }
        learned.0.open_archives_of(url);
    }
}

/// A question for a name that came to the gate itself.
pub(super) struct Question<'r> {
    pub(super) registry: &'r Url,
    /// How the registry is open.
    opened: Opened,
    /// `/packages/<name>`.
    path: &'r str,
}

impl Question<'_> {
    /// Of a request in origin form: of its path the first part is the registry's.
    pub(super) fn of<'r>(rules: &'r Rules, path: &'r str) -> Option<Question<'r>> {
        let of = |registry: &'r Url| Some((registry, path.strip_prefix(&*names_path(registry))?));
        let (registry, path) = rules.registries_of_names().iter().find_map(of)?;
        let host = registry.host_str()?;
        let opened = rules.opened(host, registry.port_or_known_default()?)?;
        path.starts_with("/packages/").then_some(Question { registry, opened, path })
    }

    /// `host:port` of the registry.
    pub(super) fn host(&self) -> String {
        let port = self.registry.port_or_known_default().unwrap_or_default();
        format!("{}:{port}", self.registry.host_str().unwrap_or_default())
    }
}

/// Asks the registry itself. Redirects are not followed: a registry of names has none.
pub(super) async fn ask(question: &Question<'_>, network: &Arc<Network>) -> io::Result<Answer> {
    let mut url = question.registry.clone();
    let name = question.path.split('?').next().unwrap_or_default();
    url.set_path(&format!("{}{name}", url.path().trim_end_matches('/')));
    let (network, opened) = (Arc::clone(network), question.opened);
    let asked = tokio::task::spawn_blocking(move || get(&url, opened, &network)).await;
    asked.map_err(io::Error::other)?
}

fn get(url: &Url, opened: Opened, network: &Network) -> io::Result<Answer> {
    let client = outside::client(network, url).map_err(io::Error::other)?;
    let config = client.timeout_global(Some(PATIENCE)).build();
    // Of another proxy's address nobody asks here; it resolves the name itself.
    let is_proxied = outside::proxy_for(network, url.host_str().unwrap_or_default()).is_some();
    let inside = Arc::new(Mutex::new(false));
    let resolver = Checked { opened: opened_by(opened, is_proxied), inside: Arc::clone(&inside) };
    let agent = ureq::Agent::with_parts(config, DefaultConnector::default(), resolver);
    let mut response = agent.get(url.as_str()).call().map_err(io::Error::other)?;
    let status = response.status().as_u16();
    let body = response.body_mut().with_config().limit(LARGEST).read_to_string().map_err(io::Error::other)?;
    let is_inside = *inside.lock().unwrap_or_else(PoisonError::into_inner);
    let named = serde_json::from_str::<serde_json::Value>(&body).ok();
    let repository = named.and_then(|answer| repository(answer.get("url")?.as_str()?));
    Ok(Answer { status, body, repository, is_inside: is_inside && !is_proxied })
}

fn opened_by(opened: Opened, is_proxied: bool) -> Opened {
    if is_proxied { Opened::ByAddress } else { opened }
}

/// Where git would reach a repository by http: nothing else leaves a step.
fn repository(text: &str) -> Option<Url> {
    let text = text.trim().trim_start_matches("git+");
    // `git@host:path`, as ssh has it.
    let ssh = text.strip_prefix("git@").and_then(|rest| rest.split_once(':'));
    let url = match ssh {
        Some((host, _)) => Url::parse(&format!("https://{host}/")).ok()?,
        None => Url::parse(text).ok()?,
    };
    match url.scheme() {
        "http" | "https" => Some(url),
        "git" | "ssh" => Url::parse(&format!("https://{}/", url.host_str()?)).ok(),
        _ => None,
    }
}

/// Resolves names and leaves out addresses that the rules have closed.
#[derive(Debug)]
struct Checked {
    opened: Opened,
    inside: Arc<Mutex<bool>>,
}

impl Resolver for Checked {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let all = DefaultResolver::default().resolve(uri, config, timeout)?;
        let mut open = self.empty();
        for address in all.iter().filter(|address| self.opened.leads_to(address.ip())) {
            open.push(*address);
        }
        if open.is_empty() {
            return Err(ureq::Error::HostNotFound);
        }
        let is_inside = |address: IpAddr| super::address::is_inside(address);
        *self.inside.lock().unwrap_or_else(PoisonError::into_inner) =
            open.iter().any(|address| is_inside(address.ip()));
        Ok(open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_repository_is_reached() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(repository(text).map(|url| url.origin().ascii_serialization()).as_deref(), expected, "{text}");
        };
        check("https://github.com/jquery/jquery-dist.git", Some("https://github.com"));
        check("git://github.com/a/b.git", Some("https://github.com"));
        check("git+ssh://git@git.lan:2222/a/b.git", Some("https://git.lan"));
        check("git@gitlab.example:a/b.git", Some("https://gitlab.example"));
        check("http://127.0.0.1:3000/a.git", Some("http://127.0.0.1:3000"));
        check("file:///etc/passwd", None);
        check("a/b", None);
    }

    fn answer(url: &str, is_inside: bool) -> Answer {
        Answer { status: 200, body: String::new(), repository: repository(url), is_inside }
    }

    #[test]
    fn what_an_answer_opens() {
        let answered = Answered::default();
        answered.learn(&answer("https://github.com/a/b", false));
        answered.learn(&answer("https://git.public.example/a", false));
        answered.learn(&answer("https://git.lan/a", true));
        assert_eq!(answered.opened("codeload.github.com", 443), Some(Opened::ByName));
        assert_eq!(answered.opened("git.public.example", 443), Some(Opened::ByName));
        assert_eq!(answered.opened("git.lan", 443), Some(Opened::Inside));
        assert_eq!(answered.opened("gitlab.com", 443), None);
    }

    #[test]
    fn a_registry_that_everybody_writes_into_opens_no_address_of_the_house() {
        let answered = Answered::default();
        answered.learn(&answer("http://127.0.0.1:4665/", false));
        answered.learn(&answer("http://169.254.169.254/", true));
        assert_eq!(answered.opened("127.0.0.1", 4665), None);
        assert_eq!(answered.opened("169.254.169.254", 80), None);
    }
}

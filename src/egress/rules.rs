//! Which hosts are open.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use url::Url;

use super::address::{is_inside, is_public};

/// Hosts and ports that a step may reach.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules {
    open: Vec<Rule>,
    /// Registries of names, as bower has them; see [`Rules::names`].
    names: Vec<Url>,
    reports: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    /// In lower case; `*.` before it means every name below it.
    host: String,
    port: u16,
    /// The operator named it as a registry: its name may lead to an address inside the house.
    inside: bool,
}

/// How a host is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opened {
    /// By its name: its addresses must be public.
    ByName,
    /// By its name, as a registry of the operator's: its addresses may also be private, but not link-local.
    Inside,
    /// By its very address, which may be any one: somebody wrote it down.
    ByAddress,
}

impl Opened {
    pub(super) fn leads_to(self, address: IpAddr) -> bool {
        match self {
            Opened::ByName => is_public(address),
            Opened::Inside => is_public(address) || is_inside(address),
            Opened::ByAddress => true,
        }
    }
}

impl Rules {
    /// From `host:port`, `*.host:port`, `address:port` and `[address]:port`; what is none of these opens nothing.
    pub fn new<'a>(hosts: impl IntoIterator<Item = &'a str>) -> Self {
        let open = hosts.into_iter().filter_map(|text| rule(text, false)).collect();
        Rules { open, ..Rules::default() }
    }

    /// Opens the host and port of an address, which the repository named.
    pub fn open(&mut self, url: &Url) {
        self.open.extend(host_of(url).and_then(|host| rule(&host, false)));
    }

    /// Opens the host and port of a registry that the operator named. A company's own is at a private address more often
    /// than not, so its name may lead to one; never to a link-local one, where a cloud's metadata service is.
    pub fn open_inside(&mut self, url: &Url) {
        self.open.extend(host_of(url).and_then(|host| rule(&host, true)));
    }

    /// Opens where a forge has the archives of the repositories at an address. Of GitHub's, bower fetches archives instead
    /// of cloning (its `GitHubResolver`), and GitHub sends it elsewhere for them, which nobody sees in TLS.
    pub fn open_archives_of(&mut self, url: &Url) {
        if url.host_str() == Some("github.com") {
            self.open.extend(rule("codeload.github.com:443", false));
        }
    }

    /// Opens a registry that answers names with the addresses of git repositories, as bower's does; what it answers with
    /// is open from then on. The step asks for it at the gate itself, at [`names_path`], which hands the answer on.
    pub fn names(&mut self, url: Url) {
        self.names.push(url);
    }

    /// What is closed is let through all the same, and told.
    pub fn reporting(self) -> Self {
        Rules { reports: true, ..self }
    }

    /// Whether what is closed is let through.
    pub fn reports(&self) -> bool {
        self.reports
    }

    /// Where a step is to find what it may reach of this machine's loopback, which its own would hide, and the name by
    /// which that is open. No proxy is asked for such addresses, and TLS to a bare one does not survive one in npm.
    pub fn doors(&self) -> Vec<(SocketAddr, &str)> {
        let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        let doors = self.open.iter().flat_map(|rule| {
            let addresses: Vec<IpAddr> = match rule.host.parse::<IpAddr>() {
                Ok(address) => vec![address].into_iter().filter(IpAddr::is_loopback).collect(),
                Err(_) if rule.inside && rule.host == "localhost" => loopback.to_vec(),
                Err(_) => Vec::new(),
            };
            addresses.into_iter().map(|address| (SocketAddr::new(address, rule.port), rule.host.as_str()))
        });
        doors.collect()
    }

    /// Whether some port of exactly this host is open.
    pub fn opens_some_of(&self, host: &str) -> bool {
        self.open.iter().any(|rule| rule.host == host)
    }

    /// The registries of names.
    pub fn registries_of_names(&self) -> &[Url] {
        &self.names
    }

    pub(super) fn opened(&self, host: &str, port: u16) -> Option<Opened> {
        let host = bare(host);
        let named = |rule: &&Rule| match rule.host.strip_prefix('*') {
            Some(below) => host.strip_suffix(below).is_some_and(|name| !name.is_empty()),
            None => rule.host == host,
        };
        let by_address = host.parse::<IpAddr>().is_ok();
        let found = self.open.iter().filter(|rule| rule.port == port).filter(named);
        let ways = found.map(|rule| match (by_address, rule.inside) {
            (true, _) => Opened::ByAddress,
            (false, true) => Opened::Inside,
            (false, false) => Opened::ByName,
        });
        ways.max_by_key(|way| *way == Opened::Inside)
    }
}

/// The path at the gate where a step asks a registry of names: the answers are to be seen, which in TLS nobody could.
pub fn names_path(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("/{host}{port}{}", url.path().trim_end_matches('/'))
}

/// `host:port` of an http or https address.
fn host_of(url: &Url) -> Option<String> {
    let port = url.port_or_known_default().filter(|_| matches!(url.scheme(), "http" | "https"))?;
    Some(format!("{}:{port}", url.host_str()?))
}

fn rule(text: &str, inside: bool) -> Option<Rule> {
    let (host, port) = text.rsplit_once(':')?;
    let host = bare(host);
    // A star over addresses would be a network, which nobody can read off it.
    let sound = !host.is_empty() && host.matches('*').count() <= usize::from(host.starts_with("*."));
    sound.then_some(Rule { host, port: port.parse().ok()?, inside })
}

/// As names are compared: lower case, no root's dot, no brackets.
fn bare(host: &str) -> String {
    host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().expect("an address")
    }

    #[test]
    fn what_is_open() {
        let rules = Rules::new(["fonts.example:443", "*.cdn.example:443", "10.1.2.3:8080", "[fd00::1]:80", "nonsense"]);
        let check = |host: &str, port, expected| assert_eq!(rules.opened(host, port), expected, "{host}:{port}");
        check("fonts.example", 443, Some(Opened::ByName));
        check("FONTS.example.", 443, Some(Opened::ByName));
        check("fonts.example", 80, None);
        check("evil-fonts.example", 443, None);
        check("a.cdn.example", 443, Some(Opened::ByName));
        check("a.b.cdn.example", 443, Some(Opened::ByName));
        check("cdn.example", 443, None);
        check("evilcdn.example", 443, None);
        check("10.1.2.3", 8080, Some(Opened::ByAddress));
        check("[fd00::1]", 80, Some(Opened::ByAddress));
        check("nonsense", 443, None);
    }

    #[test]
    fn a_star_stands_only_for_names_below() {
        for bad in ["*:443", "a.*.example:443", "*.*.example:443", ":443", "host", "host:port", "host:99999"] {
            assert_eq!(Rules::new([bad]), Rules::default(), "{bad}");
        }
    }

    #[test]
    fn only_a_registry_of_the_operators_may_be_inside() {
        let mut rules = Rules::new(["npm.lan:443"]);
        rules.open(&url("https://git.lan/x"));
        rules.open_inside(&url("http://verdaccio.lan:4873/npm/"));
        let private: IpAddr = "10.1.2.3".parse().expect("an address");
        let metadata: IpAddr = "169.254.169.254".parse().expect("an address");
        let check = |host: &str, port, leads| {
            let opened = rules.opened(host, port).expect(host);
            assert_eq!((opened.leads_to(private), opened.leads_to(metadata)), (leads, false), "{host}");
        };
        check("npm.lan", 443, false);
        check("git.lan", 443, false);
        check("verdaccio.lan", 4873, true);
        assert_eq!(rules.opened("verdaccio.lan", 443), None);
        rules.open_inside(&url("https://npm.lan/"));
        assert_eq!(rules.opened("npm.lan", 443), Some(Opened::Inside), "the wider word holds");
    }

    #[test]
    fn names_are_asked_at_the_gate() {
        let check = |of: &str, path: &str| assert_eq!(names_path(&url(of)), path);
        check("https://registry.bower.example", "/registry.bower.example");
        check("https://bower.lan:8443/names/", "/bower.lan:8443/names");
        check("http://[::1]:4000", "/[::1]:4000");
    }

    #[test]
    fn this_machines_loopback_has_doors_of_its_own() {
        let mut rules = Rules::new(["127.0.0.1:4873", "[::1]:80", "10.0.0.1:80", "localhost:9", "npm.lan:443"]);
        let doors = |rules: &Rules| rules.doors().iter().map(|(at, host)| format!("{host} {at}")).collect::<Vec<_>>();
        assert_eq!(doors(&rules), ["127.0.0.1 127.0.0.1:4873", "::1 [::1]:80"]);
        rules.open_inside(&url("http://localhost:4874/"));
        assert_eq!(doors(&rules)[2..], ["localhost 127.0.0.1:4874", "localhost [::1]:4874"]);
    }
}

//! Which hosts are open.

use std::net::IpAddr;

/// Hosts and ports that a step may reach.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rules(Vec<Rule>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    /// In lower case; `*.` before it means every name below it.
    host: String,
    port: u16,
}

/// How a host is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Opened {
    /// By its name: its addresses must be public.
    ByName,
    /// By its very address, which may be a private one: somebody wrote it down.
    ByAddress,
}

impl Rules {
    /// From `host:port`, `*.host:port`, `address:port` and `[address]:port`; what is none of these opens nothing.
    pub fn new<'a>(hosts: impl IntoIterator<Item = &'a str>) -> Self {
        Rules(hosts.into_iter().filter_map(rule).collect())
    }

    pub(super) fn opened(&self, host: &str, port: u16) -> Option<Opened> {
        let host = bare(host);
        let mut rules = self.0.iter().filter(|rule| rule.port == port);
        let found = rules.any(|rule| match rule.host.strip_prefix('*') {
            Some(below) => host.strip_suffix(below).is_some_and(|name| !name.is_empty()),
            None => rule.host == host,
        });
        found.then(|| if host.parse::<IpAddr>().is_ok() { Opened::ByAddress } else { Opened::ByName })
    }
}

fn rule(text: &str) -> Option<Rule> {
    let (host, port) = text.rsplit_once(':')?;
    let host = bare(host);
    // A star over addresses would be a network, which nobody can read off it.
    let sound = !host.is_empty() && host.matches('*').count() <= usize::from(host.starts_with("*."));
    sound.then_some(Rule { host, port: port.parse().ok()? })
}

/// As names are compared: lower case, no root's dot, no brackets.
fn bare(host: &str) -> String {
    host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

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
}

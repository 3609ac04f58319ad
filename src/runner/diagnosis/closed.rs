//! A step that failed because a host is closed to it: the host, and the line that opens it.

use std::net::IpAddr;

use super::{Diagnosis, Finished, mend, outage};
use crate::domain::spec::{Network, StepSpec};
use crate::domain::step::StepKind;
use crate::domain::trust::Trust;
use crate::egress::{Closed, Visit};

/// Words of a line that tells of a failure.
const TROUBLE: [&str; 13] = [
    "error",
    "err!",
    "fatal",
    "fail",
    "403",
    "502",
    "forbidden",
    "unable",
    "refused",
    "econn",
    "could not",
    "couldn't",
    "enotfound",
];

/// A step, or a script of an install, that asked for a host which is closed to it.
pub(super) fn network(step: &Finished<'_>, output: &str) -> Option<Diagnosis> {
    if step.network == Network::Open {
        return None;
    }
    match refused(step).next() {
        Some(visit) => Some(visited(step, visit)),
        None => {
            let host = outage::unresolved_host(output)?;
            Some(to(step, host, &[format!("{host}:443")]))
        }
    }
}

/// An install that names, in a line of trouble, a host which it was refused.
pub(super) fn named(step: &Finished<'_>, output: &str) -> Option<Diagnosis> {
    let mut lines = output.lines().filter(|line| {
        let line = line.to_ascii_lowercase();
        TROUBLE.iter().any(|word| line.contains(word))
    });
    let visit = lines.find_map(|line| refused(step).find(|visit| line.contains(without_port(&visit.host))))?;
    Some(visited(step, visit))
}

/// An install that failed for the network: not of the registry's fault, if it was refused something. And if it was not,
/// the gate knows better than the tool why a host was not reached.
pub(super) fn instead(step: &Finished<'_>, found: Option<Diagnosis>, output: &str) -> Option<Diagnosis> {
    if step.network != Network::Registries {
        return found;
    }
    match found {
        Some(found) if !found.retry => Some(found),
        Some(found) => match (refused(step).next(), away(step)) {
            (Some(visit), _) => Some(visited(step, visit)),
            (None, Some((host, why))) => Some(registry_away(&found, host, why).unwrap_or(found)),
            (None, None) => Some(
                past_the_gate(step, output)
                    .or_else(|| loopback(output).map(|address| to(step, &address, std::slice::from_ref(&address))))
                    .unwrap_or(found),
            ),
        },
        None => past_the_gate(step, output),
    }
}

/// A script of an install that asked for a name without the proxy: in a network that has nothing but the gate, no name is
/// ever answered.
pub(super) fn past_the_gate(step: &Finished<'_>, output: &str) -> Option<Diagnosis> {
    if step.network != Network::Registries {
        return None;
    }
    let host = outage::unresolved_host(output)?;
    let address = format!("{host}:443");
    let is_open = step.install_hosts.contains(&address)
        || step.visits.iter().any(|visit| visit.bytes > 0 && visit.host == address);
    if is_open {
        return Some(Diagnosis::theirs(format!(
            "{host} is open to this step, but was asked for without HTTPS_PROXY, the only way out of an install"
        )));
    }
    Some(to(step, host, &[address]))
}

/// A host that is open and was not reached.
fn away<'a>(step: &'a Finished<'_>) -> Option<(&'a str, &'a str)> {
    step.visits.iter().find_map(|visit| Some((visit.host.as_str(), visit.away.as_deref()?)))
}

/// What the gate heard of a registry, where the tool heard only the gate.
fn registry_away(found: &Diagnosis, host: &str, why: &str) -> Option<Diagnosis> {
    let who = ["the npm registry", "the bower registry"].into_iter().find(|who| found.reason.starts_with(who))?;
    let said = outage::of_registry(who, why);
    Some(said.unwrap_or_else(|| Diagnosis::outage(format!("{who} ({host}) could not be reached: {why}"))))
}

/// A place of the loopback that nobody listens at. No proxy is asked for those, and the step's own is empty.
fn loopback(output: &str) -> Option<String> {
    let port = |text: &str| -> String { text.chars().take_while(char::is_ascii_digit).collect() };
    let marks = [
        ("ECONNREFUSED 127.0.0.1:", "127.0.0.1"),
        ("ECONNREFUSED ::1:", "[::1]"),
        ("connect to 127.0.0.1 port ", "127.0.0.1"),
        ("connect to localhost port ", "localhost"),
    ];
    let found = marks.iter().find_map(|(mark, host)| Some((host, port(output.split_once(mark)?.1))));
    found.filter(|(_, port)| !port.is_empty()).map(|(host, port)| format!("{host}:{port}"))
}

fn refused<'a>(step: &'a Finished<'_>) -> impl Iterator<Item = &'a Visit> {
    step.visits.iter().filter(|visit| visit.closed.is_some() && visit.bytes == 0)
}

/// The port says something only where it is not that of https.
fn shown(host: &str) -> &str {
    host.strip_suffix(":443").unwrap_or(host)
}

fn without_port(host: &str) -> &str {
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

fn visited(step: &Finished<'_>, visit: &Visit) -> Diagnosis {
    if let Some(Closed::Private(address)) = visit.closed {
        return private(step, visit, address);
    }
    let all: Vec<String> = refused(step).map(|visit| visit.host.clone()).collect();
    to(step, shown(&visit.host), &all)
}

/// A name that is open and leads to an address which no name opens.
fn private(step: &Finished<'_>, visit: &Visit, address: IpAddr) -> Diagnosis {
    let host = shown(&visit.host);
    let port = visit.host.rsplit_once(':').map_or("443", |(_, port)| port);
    let written = if address.is_ipv6() { format!("[{address}]:{port}") } else { format!("{address}:{port}") };
    let why = format!("{host} leads to the private address {address}, which is closed to this step");
    match (step.kind, step.trust) {
        (StepKind::Install, _) => {
            let scheme = if port == "443" { "https" } else { "http" };
            let url = format!("{scheme}://{}/", visit.host.strip_suffix(":443").unwrap_or(&visit.host));
            Diagnosis::theirs(format!("{why}; allow it: [[registry]] in the server's configuration")).mended_by(mend::or(
                &mend::server(&format!(
                    "[[registry]]\nurl = \"{url}\"\nscopes = [\"@acme\"]   # without scopes: the default registry\nrepos = [\"**\"]"
                )),
                &mend::server(&format!("[sandbox]\ninstall_hosts = {}", with(step.install_hosts, &[written]))),
            ))
        }
        (_, Trust::Fork) => Diagnosis::theirs(why),
        _ => Diagnosis::theirs(format!("{why}; allow it: {written} in its network in .hookmill.toml")),
    }
}

/// A step that asked for a host and may not reach it. The lines keep what is open already, since they replace it.
pub(super) fn to(step: &Finished<'_>, host: &str, addresses: &[String]) -> Diagnosis {
    let closed = |rest: &str| Diagnosis::theirs(format!("{host} is closed to this step; {rest}"));
    let open: &[String] = if let Network::Hosts(hosts) = &step.network { hosts } else { &[] };
    match (step.trust, step.kind) {
        (_, StepKind::Install) if step.is_local => {
            let options = addresses.iter().map(|address| format!(" --install-host {address}")).collect::<String>();
            let lines = format!("# here\nhookmill run{options}");
            let hosts = with(step.install_hosts, addresses);
            let server = mend::server(&format!("[sandbox]\ninstall_hosts = {hosts}"));
            closed("allow it: --install-host").mended_by(mend::or(&lines, &server))
        }
        (_, StepKind::Install) => {
            let hosts = with(step.install_hosts, addresses);
            closed("allow it: install_hosts of the server's [sandbox]")
                .mended_by(mend::server(&format!("[sandbox]\ninstall_hosts = {hosts}")))
        }
        (Trust::Fork, _) => closed("a fork's build has no network here"),
        (_, StepKind::Bundle) => closed("allow it: bundle.network in .hookmill.toml")
            .mended_by(mend::repository(&format!("[bundle]\nnetwork = {}", with(open, addresses)))),
        _ => closed("allow it: the check's network in .hookmill.toml").mended_by(mend::repository(&format!(
            "# in the check's own [[check]]\nnetwork = {}",
            with(open, addresses)
        ))),
    }
}

/// The line that opens these hosts to a step of this kind, and the file that it belongs into.
pub fn line_that_opens(step: &StepSpec, install_hosts: &[String], hosts: &[String]) -> (String, &'static str) {
    let open: &[String] = if let Network::Hosts(open) = &step.network { open } else { &[] };
    match step.kind {
        StepKind::Install | StepKind::Checkout => {
            (format!("install_hosts = {}", with(install_hosts, hosts)), "[sandbox] of the server's configuration")
        }
        StepKind::Bundle => (format!("network = {}", with(open, hosts)), "[bundle] of .hookmill.toml"),
        StepKind::Check => (format!("network = {}", with(open, hosts)), "its [[check]] in .hookmill.toml"),
    }
}

/// A list of TOML with these added.
fn with(open: &[String], more: &[String]) -> String {
    let all = open.iter().chain(more).map(|host| toml::Value::String(host.clone()).to_string());
    format!("[{}]", all.collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::super::{Exit, diagnose};
    use super::*;

    fn visit(host: &str, closed: Option<Closed>) -> Visit {
        Visit { host: host.to_owned(), closed, ..Visit::default() }
    }

    fn install<'a>(output: &'a str, visits: &'a [Visit], hosts: &'a [String]) -> Finished<'a> {
        Finished {
            tool: "npm",
            kind: StepKind::Install,
            program: "npm",
            network: Network::Registries,
            trust: Trust::Fork,
            root: "/build",
            names: &|_| Vec::new(),
            exit: Exit::Code(1),
            output,
            withheld: &[],
            visits,
            install_hosts: hosts,
            is_local: false,
        }
    }

    const REFUSED: &str =
        "npm error code E403\nnpm error 403 403 Forbidden - GET https://codeload.github.com/a/b/tar.gz/1\n";

    #[test]
    fn an_install_that_was_refused_a_host_is_told_the_operators_line() {
        let hosts = ["npm".to_owned()];
        let visits = [visit("codeload.github.com:443", Some(Closed::Unlisted)), visit("npm.lan:443", None)];
        let found = diagnose(&install(REFUSED, &visits, &hosts));
        let sentence = "codeload.github.com is closed to this step; allow it: install_hosts of the server's [sandbox]";
        assert_eq!(found.reason, sentence);
        let lines = "# the server's hookmill.toml\n[sandbox]\ninstall_hosts = [\"npm\", \"codeload.github.com:443\"]";
        assert_eq!(found.mend.as_deref(), Some(lines));
        let by_hand = diagnose(&Finished { is_local: true, ..install(REFUSED, &visits, &hosts) });
        assert!(
            by_hand.mend.is_some_and(|lines| lines.contains("hookmill run --install-host codeload.github.com:443\n"))
        );
    }

    #[test]
    fn a_name_that_leads_inside_wants_a_registry() {
        let closed = Closed::Private("10.0.0.7".parse().expect("an address"));
        let visits = [visit("npm.lan:443", Some(closed))];
        let output = REFUSED.replace("codeload.github.com", "npm.lan");
        let found = diagnose(&install(&output, &visits, &[]));
        assert!(
            found.reason.starts_with("npm.lan leads to the private address 10.0.0.7, which is closed"),
            "{found:?}"
        );
        let mend = found.mend.expect("there is a way");
        assert!(mend.contains("url = \"https://npm.lan/\"") && mend.contains("[\"10.0.0.7:443\"]"), "{mend}");
    }

    #[test]
    fn what_failed_for_something_else_keeps_its_cause() {
        let output = "npm warn telemetry could not be sent\nnpm error code ETARGET\nnpm error notarget No matching version found for left@9.\n";
        let visits = [visit("telemetry.example:443", Some(Closed::Unlisted))];
        let found = diagnose(&install(output, &visits, &[]));
        assert_eq!(found.reason, "ETARGET, there is no left@9");
    }

    #[test]
    fn the_gate_knows_why_a_registry_was_not_reached() {
        let mut away = visit("npm.lan:443", None);
        away.away = Some("ECONNREFUSED".to_owned());
        let output = "npm error code E502\nnpm error 502 Bad Gateway - GET https://npm.lan/tiny\n";
        let found = diagnose(&install(output, &[away], &[]));
        assert_eq!(found.reason, "the npm registry refused the connection (ECONNREFUSED)");
        assert!(found.retry);
    }

    #[test]
    fn a_place_of_the_machines_own_loopback_is_closed() {
        for output in [
            "npm error code ECONNREFUSED\nnpm error FetchError: request failed, reason: connect ECONNREFUSED 127.0.0.1:4873\n",
            "npm error code 128\nnpm error command git ls-remote\nnpm error fatal: unable to access 'http://127.0.0.1:4873/': Failed to connect to 127.0.0.1 port 4873 after 0 ms\n",
        ] {
            let found = diagnose(&install(output, &[], &[]));
            assert!(found.reason.starts_with("127.0.0.1:4873 is closed to this step; allow it"), "{found:?}");
            assert!(!found.retry);
        }
    }

    #[test]
    fn a_repositorys_own_script_that_goes_past_the_proxy_is_told_too() {
        let output = "> shop@1.0.0 postinstall\n> node fetch.js\n\nError: getaddrinfo EAI_AGAIN cdn.example\nnpm error code 1\n\
                      npm error path /build\nnpm error command failed\nnpm error command sh -c node fetch.js\n";
        let found = diagnose(&install(output, &[], &[]));
        assert!(found.reason.starts_with("cdn.example is closed to this step; allow it: install_hosts"), "{found:?}");
        let open = ["cdn.example:443".to_owned()];
        let found = diagnose(&install(output, &[], &open));
        assert!(
            found.reason.starts_with("cdn.example is open to this step, but was asked for without HTTPS_PROXY"),
            "{found:?}"
        );
        let dependency = output
            .replace("path /build", "path /build/node_modules/gifsicle")
            .replace("node fetch.js\n\nError", "node fetch.js\n\nnpm error Error")
            .replace("npm error code 1\n", "");
        let dependency = format!("npm error code 1\n{dependency}npm error Error: getaddrinfo EAI_AGAIN cdn.example\n");
        let found = diagnose(&install(&dependency, &[], &[]));
        assert!(!found.retry && found.reason.starts_with("cdn.example is closed to this step"), "{found:?}");
    }

    #[test]
    fn a_script_that_goes_past_the_proxy_is_told_too() {
        let output = "Error: getaddrinfo EAI_AGAIN cdn.example\n";
        let found = diagnose(&Finished { tool: "other", ..install(output, &[], &[]) });
        assert!(found.reason.starts_with("cdn.example is closed to this step; allow it: install_hosts"), "{found:?}");
    }
}

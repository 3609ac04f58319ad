//! Each outside address that a build would need, tried through the configured proxy with the configured authorities.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use super::finding::Finding;
use crate::config::server::{Access, Network, Registry, Server};
use crate::egress::{Gate, Rules};
use crate::outside;
use crate::toolchain::{Toolchain, bower_places};

const OUTSIDE: &str = "outside";

const CONNECT: Duration = Duration::from_secs(5);
/// For one address from name lookup to the beginning of the answer.
const WHOLE: Duration = Duration::from_secs(10);
/// Bytes of an answer that are read.
const ANSWER: u64 = 4096;

/// An address, and who would go there.
struct Needed {
    url: Url,
    by: Vec<String>,
    /// Nothing builds without it.
    always: bool,
}

/// The way out, every address, and every registry's word on its token.
pub(super) async fn all(settings: &Server, toolchain: &Toolchain, configured: bool) -> Vec<Finding> {
    let network = &settings.network;
    let mut findings = way_out(network).await;
    let mut needed: BTreeMap<String, Needed> = BTreeMap::new();
    let mut need = |url: &Url, by: &str, always: bool| {
        let origin = url.origin().ascii_serialization();
        let entry = needed.entry(origin).or_insert_with(|| Needed { url: url.clone(), by: Vec::new(), always });
        entry.always |= always;
        entry.by.push(by.to_owned());
    };
    let mirror = settings.toolchain.node_mirror.as_ref();
    let tools = if mirror.is_some() { "npm, yarn, pnpm, bun" } else { "npm, yarn, pnpm, bun, other versions of node" };
    match toolchain.registry().and_then(|address| Url::parse(address).ok()) {
        Some(registry) => {
            need(&registry, tools, true);
            findings.push(installs(network, registry).await);
        }
        // Without npm there is a fault already, and nobody to ask.
        None if toolchain.get("npm").is_none() => {}
        None => findings.push(Finding::warning(
            OUTSIDE,
            "npm registry",
            "npm does not say where it is configured to go",
            "npm config get registry",
        )),
    }
    if let Some(mirror) = mirror {
        need(mirror, "other versions of node", true);
    }
    let bower = bower_places(toolchain, &settings.data_dir.join("tools")).await;
    for registry in bower.iter().flat_map(|places| &places.registries) {
        need(registry, "bower", false);
    }
    if configured {
        for registry in &settings.forges.registries {
            let scopes = if registry.scopes.is_empty() { "all packages".to_owned() } else { registry.scopes.join(" ") };
            need(&registry.url, &scopes, true);
        }
        for forge in settings.forges.by_name.values() {
            need(&forge.api_url, &format!("API of {}", forge.name), true);
            need(&forge.web_url, &format!("git of {}", forge.name), true);
        }
        for (forge, path) in settings.forges.named() {
            let repo = crate::domain::repo::RepoId { forge, path };
            if let Some(rules) = settings.forges.rules(&repo) {
                need(&rules.clone_url, &format!("git of {}", repo.path), true);
            }
        }
    }
    let registries = settings.forges.registries.iter().filter(|_| configured).map(|registry| registry.url.clone());
    let agents = toolchain.registry().and_then(|address| Url::parse(address).ok());
    findings.extend(registries.chain(agents).filter_map(|url| bare(&url)));
    let asked = needed.into_values().map(|needed| reach(Arc::clone(network), needed));
    findings.extend(futures_util::future::join_all(asked).await);
    if bower.is_none() {
        // It is bower's own default, or what files of the agent's user say, in bower's way of reading them.
        findings.push(Finding::good(OUTSIDE, "bower registry", "where bower goes is known once it is installed"));
    }
    let opened = settings.forges.registries.iter().map(|registry| opens(Arc::clone(network), registry));
    findings.extend(futures_util::future::join_all(opened).await.into_iter().flatten());
    findings
}

/// An https registry at an address and not at a name. What npm and pnpm ask through a proxy, as installs must, they check
/// against the certificate's names alone: of a tunnel's far side they know only the name (`https-proxy-agent`).
fn bare(url: &Url) -> Option<Finding> {
    let address: IpAddr = url.host_str()?.trim_matches(['[', ']']).parse().ok()?;
    let fix = "give it a name (/etc/hosts is enough) that is in its certificate";
    let why = "npm and pnpm don't take the certificate of a bare address through a proxy, and installs go by one";
    // This machine's own are reached without one.
    let is_one = url.scheme() == "https" && !address.is_loopback();
    is_one.then(|| Finding::warning(OUTSIDE, format!("{address} without a name"), why, fix))
}

/// What installs ask for goes another way than what the agent asks for: through the proxy that it serves to them, and from
/// there through that of `[network]`.
async fn installs(network: &Arc<Network>, registry: Url) -> Finding {
    const NAME: &str = "install proxy";
    let fault = |why: String| Finding::fault(OUTSIDE, NAME, why.clone(), mend(&why, network.proxy.is_some()));
    let mut rules = Rules::default();
    rules.open_inside(&registry);
    let opened = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| {
        let address = listener.local_addr()?;
        Ok((Gate::open(vec![listener], rules, Arc::clone(network))?, address))
    });
    let (gate, address) = match opened {
        Ok(opened) => opened,
        Err(error) => return fault(plain(&error.to_string())),
    };
    let behind =
        Network { proxy: Some(format!("http://{address}")), no_proxy: Vec::new(), ca_file: network.ca_file.clone() };
    let name = registry.origin().ascii_serialization();
    let asked = ask(Arc::new(behind), registry).await;
    // It knows better than who asked it, why a host was not reached.
    match (asked, gate.visits().into_iter().find_map(|visit| visit.away)) {
        (_, Some(why)) => fault(format!("{name} is not reached through it: {why}")),
        (Err(why), None) => fault(format!("{name} is not reached through it: {why}")),
        (Ok(_), None) => Finding::good(OUTSIDE, NAME, format!("{name} answers through it")),
    }
}

/// The proxy and the authorities themselves.
async fn way_out(network: &Arc<Network>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Some(proxy) = network.proxy.as_deref().filter(|proxy| !proxy.is_empty()) {
        let url = Url::parse(proxy).ok();
        let host = url.as_ref().and_then(|url| Some((url.host_str()?.to_owned(), url.port_or_known_default()?)));
        findings.push(match host {
            None => Finding::fault(OUTSIDE, "proxy", "network.proxy is no address", "write \"http://proxy:3128\""),
            Some((host, port)) => match connect(&host, port).await {
                Ok(()) => Finding::good(OUTSIDE, "proxy", format!("{host}:{port} takes connections")),
                Err(why) => {
                    let fix = "correct [network] proxy (or our HTTPS_PROXY), or start it";
                    Finding::fault(OUTSIDE, "proxy", format!("{host}:{port}: {why}"), fix)
                }
            },
        });
    }
    if let Some(file) = &network.ca_file {
        findings.push(match outside::authorities_pem(network) {
            Ok(_) => Finding::good(OUTSIDE, "ca_file", format!("{}, beside the system's", file.display())),
            Err(error) => Finding::fault(OUTSIDE, "ca_file", error.to_string(), "name a PEM file that can be read"),
        });
    }
    findings
}

async fn connect(host: &str, port: u16) -> Result<(), String> {
    match tokio::time::timeout(CONNECT, tokio::net::TcpStream::connect((host, port))).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(plain(&error.to_string())),
        Err(_) => Err(format!("no connection within {} s", CONNECT.as_secs())),
    }
}

async fn reach(network: Arc<Network>, needed: Needed) -> Finding {
    let name = needed.url.origin().ascii_serialization();
    let by = format!("for {}", needed.by.join(", "));
    match ask(Arc::clone(&network), needed.url).await {
        // Any answer is an answer: what an address says without a token is its own affair.
        Ok(_) => Finding::good(OUTSIDE, name, by),
        Err(why) => {
            let make = if needed.always { Finding::fault } else { Finding::warning };
            make(OUTSIDE, name, format!("{why} ({by})"), mend(&why, network.proxy.is_some()).to_owned())
        }
    }
}

fn mend(why: &str, proxied: bool) -> &'static str {
    let why = why.to_ascii_lowercase();
    if why.contains("certificate") || why.contains("tls") {
        "name the authority that signed it: [network] ca_file"
    } else if proxied {
        "let the proxy pass it, or name the host in [network] no_proxy"
    } else if why.contains("refused") {
        "correct the address, or start what should answer there; behind a proxy set [network] proxy"
    } else {
        "look at DNS and the firewall; behind a proxy set [network] proxy"
    }
}

/// Whether a registry takes its token, by the command that every npm registry is meant to know (`npm whoami`).
async fn opens(network: Arc<Network>, registry: &Registry) -> Option<Finding> {
    let Access::Token(token) = &registry.access else { return None };
    let token = String::from_utf8_lossy(token.expose()).into_owned();
    let url = Url::parse(&format!("{}/-/whoami", registry.url.as_str().trim_end_matches('/'))).ok()?;
    let name = format!("token of {}", registry.host());
    match ask_with(network, url, Some(token)).await {
        Ok((401, _)) => {
            let fix = "make a new token there and put it into the token_file of its [[registry]]";
            Some(Finding::fault(OUTSIDE, name, "the registry answers 401 to it", fix))
        }
        Ok((200, _)) => Some(Finding::good(OUTSIDE, name, "the registry takes it")),
        // Not every registry knows the question; whether it is reached was told already.
        Ok(_) | Err(_) => None,
    }
}

/// One request without following redirects: the status and the beginning of the answer, or why there is none.
pub(super) async fn ask(network: Arc<Network>, url: Url) -> Result<(u16, String), String> {
    ask_with(network, url, None).await
}

async fn ask_with(network: Arc<Network>, url: Url, token: Option<String>) -> Result<(u16, String), String> {
    let asked = tokio::task::spawn_blocking(move || {
        let client = outside::client(&network, &url).map_err(|error| error.to_string())?;
        let client = client.timeout_connect(Some(CONNECT)).timeout_global(Some(WHOLE)).build().new_agent();
        let mut request = client.get(url.as_str());
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let mut answer = request.call().map_err(|error| plain(&error.to_string()))?;
        // What comes after the status line changes nothing.
        let body = answer.body_mut().with_config().limit(ANSWER).read_to_string().unwrap_or_default();
        Ok((answer.status().as_u16(), body))
    });
    asked.await.unwrap_or_else(|_| Err("the request was lost".to_owned()))
}

/// Without the HTTP client's word for where it happened and the number that the operating system has for it.
pub(super) fn plain(error: &str) -> String {
    let kept = error.replace("io: ", "");
    kept.split(" (os error").next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::{bare, mend, plain};

    #[test]
    fn words_that_say_something() {
        assert_eq!(plain("io: Connection refused (os error 111)"), "Connection refused");
        assert_eq!(
            plain("forge.lan can't be reached: io: No route to host (os error 113)"),
            "forge.lan can't be reached: No route to host"
        );
        assert_eq!(plain("timeout: global"), "timeout: global");
    }

    #[test]
    fn a_registry_without_a_name_is_told() {
        let check = |url: &str, is_told: bool| {
            assert_eq!(bare(&url.parse().expect("an address")).is_some(), is_told, "{url}");
        };
        check("https://10.1.2.3/npm/", true);
        check("https://[fd00::1]:4873/", true);
        check("https://127.0.0.1:4873/", false);
        check("http://10.1.2.3/", false);
        check("https://npm.acme.dev/", false);
    }

    #[test]
    fn what_mends_an_address() {
        let check = |why: &str, proxied: bool, expected: &str| assert!(mend(why, proxied).contains(expected), "{why}");
        check("rustls: invalid peer certificate: UnknownIssuer", false, "ca_file");
        check("io: failed to lookup address information", false, "DNS");
        check("Connection refused", false, "start");
        check("proxy answered 403", true, "no_proxy");
    }
}

//! `[network]`: every manager reaches a registry through the proxy, and one whose authority only the company knows.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::support::forge::Forge;
use crate::support::managers::path_with;
use crate::support::registry::{Package, Registry};
use crate::support::server::{Server, Settings, reaching};
use crate::support::way_out::{Proxy, TlsDoor, authority};

/// A registry with one package whose archive is at the same place.
fn registry() -> (Registry, SocketAddr) {
    let registry = Registry::start();
    registry.publish(&Package::new("@acme/ui", "1.0.0"));
    let url: url::Url = registry.url().parse().expect("an address");
    let address = format!("127.0.0.1:{}", url.port().expect("a port")).parse().expect("an address");
    (registry, address)
}

fn built(forge: &Forge, tables: &str, path: String, files: &[(&str, &str)]) -> (Value, String) {
    // Nothing of this machine's own way out.
    let unset = ["HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS"];
    let env = unset.map(|name| (name.to_owned(), String::new())).to_vec();
    let settings = Settings { tables: tables.to_owned(), path: Some(path), env, ..Settings::default() };
    let server = Server::start_with(forge, settings);
    let repo = forge.repo("acme/shop");
    let moved = repo.push("main", files);
    let build = server.finished(server.deliver(&repo.pushed(&moved)).build());
    let log = server.log(build["id"].as_i64().expect("a number"), "");
    (build, log)
}

/// Installs `@acme/ui` from `url` with these tables of the configuration; the build and its log.
fn installing(tables: &str, url: &str, manager: &str, tool: &str, command: &[&str]) -> (Value, String) {
    let tables = format!("{tables}\n[[registry]]\nurl = {url:?}\nscopes = [\"@acme\"]\nrepos = [\"acme/*\"]\n");
    let manifest = json!({"name": "shop", "version": "1.0.0", "private": true, "dependencies": {"@acme/ui": "1.0.0"}});
    let file = format!(
        "[[install]]\ntool = {tool:?}\ncommand = {command:?}\n[bundle]\ncommand = [\"test\", \"-f\", \"node_modules/@acme/ui/package.json\"]\n"
    );
    let manifest = manifest.to_string();
    let mut files = vec![("package.json", manifest.as_str()), (".hookmill.toml", file.as_str())];
    if manager == "berry" {
        // The registry of these tests names its archives by their plain address.
        let whitelist = "unsafeHttpWhitelist: [127.0.0.1, npm.acme.test]\nnodeLinker: node-modules\nenableImmutableInstalls: false\n";
        files.push((".yarnrc.yml", whitelist));
    }
    built(&Forge::start(), &tables, path_with(manager), &files)
}

/// The same, and it passes.
fn installs(tables: &str, url: &str, manager: &str, tool: &str, command: &[&str]) {
    let (build, log) = installing(tables, url, manager, tool, command);
    assert_eq!(build["outcome"], "passed", "{manager}: {build:#}\n{log}");
}

fn through_the_proxy(manager: &str, tool: &str, command: &[&str]) {
    let (_registry, address) = registry();
    let proxy = Proxy::to(&[("npm.acme.test", address)]);
    // It names its archives by that address.
    let sandbox = reaching(&[address.to_string()]);
    let tables = format!("{sandbox}[network]\nproxy = {:?}\nno_proxy = [\"127.0.0.1\"]\n", proxy.url());
    installs(&tables, "http://npm.acme.test/", manager, tool, command);
    let asked = proxy.asked();
    assert!(asked.iter().any(|line| line.contains("npm.acme.test")), "{asked:?}");
    assert!(!asked.iter().any(|line| line.contains("127.0.0.1")), "loopback goes past it: {asked:?}");
}

fn with_a_private_authority(manager: &str, tool: &str, command: &[&str]) {
    let (registry, address) = registry();
    let door = TlsDoor::before(address);
    let tables = format!("{}[network]\nca_file = {:?}\n", reaching(&[address.to_string()]), authority());
    installs(&tables, &door.url(), manager, tool, command);
    assert!(registry.times("/@acme/ui") > 0);
}

/// The proxy itself is spoken to by TLS, with a certificate that only the company knows, and wants a user; behind it
/// are a plain registry and one with TLS of its own.
#[test]
fn npm_through_a_proxy_that_speaks_tls() {
    let (registry, address) = registry();
    let door = TlsDoor::before(address);
    let network = |proxy: &Proxy, more: &str| {
        // The registry names its archives by its own address.
        let (sandbox, proxy) = (reaching(&[address.to_string()]), proxy.url_as("ci:hunter2%21@"));
        format!("{sandbox}[network]\nproxy = {proxy:?}\nno_proxy = [\"127.0.0.1\"]\n{more}")
    };
    for (url, to) in [("http://npm.acme.test/", address), ("https://npm.acme.test/", door.address())] {
        let proxy = Proxy::by_tls(&[("npm.acme.test", to)]);
        installs(&network(&proxy, &format!("ca_file = {:?}\n", authority())), url, "npm", "npm", &NPM);
        let heads = proxy.heads();
        // `ci:hunter2!`
        let user = "Proxy-Authorization: Basic Y2k6aHVudGVyMiE=\r\n";
        assert!(!heads.is_empty() && heads.iter().all(|head| head.contains(user)), "{heads:#?}");
        let asked = proxy.asked();
        assert!(asked.iter().all(|line| line.starts_with("CONNECT ") == url.starts_with("https")), "{asked:#?}");
        assert!(registry.times("/@acme/ui") > 0);
    }
    // Whoever does not trust the proxy says nothing to it, and who is to mend that is told how.
    let proxy = Proxy::by_tls(&[("npm.acme.test", address)]);
    let once = [&NPM[..], &["--fetch-retries=0"]].concat();
    let (build, log) = installing(&network(&proxy, ""), "http://npm.acme.test/", "npm", "npm", &once);
    assert_eq!(build["outcome"], "broken", "{build:#}\n{log}");
    let reason = build["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("the certificate of network.proxy is not trusted"), "{build:#}\n{log}");
    assert!(!log.contains("hunter2") && !reason.contains("hunter2"), "{log}");
    assert!(proxy.heads().is_empty(), "{:#?}", proxy.heads());
}

const NPM: [&str; 3] = ["npm", "install", "--no-package-lock"];
const YARN: [&str; 3] = ["yarn", "install", "--no-lockfile"];
const BERRY: [&str; 2] = ["yarn", "install"];
const PNPM: [&str; 3] = ["pnpm", "install", "--no-lockfile"];

#[test]
fn npm() {
    through_the_proxy("npm", "npm", &NPM);
    with_a_private_authority("npm", "npm", &NPM);
}

#[test]
fn yarn_1() {
    through_the_proxy("yarn1", "yarn", &YARN);
    with_a_private_authority("yarn1", "yarn", &YARN);
}

#[test]
fn berry() {
    through_the_proxy("berry", "yarn", &BERRY);
    with_a_private_authority("berry", "yarn", &BERRY);
}

#[test]
fn pnpm() {
    through_the_proxy("pnpm", "pnpm", &PNPM);
    with_a_private_authority("pnpm", "pnpm", &PNPM);
}

#[test]
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn bun() {
    through_the_proxy("bun", "bun", &["bun", "install", "--no-save"]);
    with_a_private_authority("bun", "bun", &["bun", "install", "--no-save"]);
}

/// A forge whose repository `acme/one` is a package of npm's and of bower's, and the address of its git server.
fn with_a_dependency() -> (Forge, SocketAddr) {
    let forge = Forge::start();
    let manifest = json!({"name": "one", "version": "1.0.0"}).to_string();
    forge.repo("acme/one").push("main", &[("package.json", &manifest), ("bower.json", &manifest)]);
    let address = forge.git.origin().trim_start_matches("http://").parse().expect("an address");
    (forge, address)
}

/// The way out of a company: the proxy, and the authority that signed what is behind it. Installs may reach its git.
fn company(proxy: &Proxy) -> String {
    let sandbox = reaching(&["git.acme.test:443".to_owned()]);
    format!("{sandbox}[network]\nproxy = {:?}\nno_proxy = [\"127.0.0.1\"]\nca_file = {:?}\n", proxy.url(), authority())
}

#[test]
fn git_dependencies_go_through_the_proxy_and_trust_the_authority() {
    let (forge, git) = with_a_dependency();
    let door = TlsDoor::before(git);
    let proxy = Proxy::to(&[("git.acme.test", door.address())]);
    let manifest = json!({"name": "shop", "version": "1.0.0", "private": true,
                          "dependencies": {"one": "git+https://git.acme.test/acme/one.git"}})
    .to_string();
    let file = "[[install]]\ntool = \"npm\"\ncommand = [\"npm\", \"install\", \"--no-package-lock\"]\n\
                [bundle]\ncommand = [\"test\", \"-f\", \"node_modules/one/package.json\"]\n";
    let files = [("package.json", manifest.as_str()), (".hookmill.toml", file)];
    let (build, log) = built(&forge, &company(&proxy), path_with("npm"), &files);
    assert_eq!(build["outcome"], "passed", "{build:#}\n{log}\n{:?}", proxy.asked());
    assert!(proxy.asked().iter().any(|line| line == "CONNECT git.acme.test:443"), "{:?}", proxy.asked());
}

#[test]
fn so_do_bower_and_the_git_that_it_starts() {
    let (forge, git) = with_a_dependency();
    let (names, address) = registry();
    names.answer("/packages/one", json!({"name": "one", "url": "https://git.acme.test/acme/one.git"}));
    let (git_door, names_door) = (TlsDoor::before(git), TlsDoor::before(address));
    let proxy = Proxy::to(&[("git.acme.test", git_door.address()), ("bower.acme.test", names_door.address())]);
    let manifest = json!({"name": "shop", "dependencies": {"one": "main"}}).to_string();
    let file = "[bundle]\ncommand = [\"test\", \"-f\", \"bower_components/one/package.json\"]\n";
    let files = [
        ("bower.json", manifest.as_str()),
        (".bowerrc", "{\"registry\": \"https://bower.acme.test\"}"),
        (".hookmill.toml", file),
    ];
    let (build, log) = built(&forge, &company(&proxy), path_with("bower"), &files);
    assert_eq!(build["outcome"], "passed", "{build:#}\n{log}\n{:?}", proxy.asked());
    assert_eq!(names.times("/packages/one"), 1);
    for host in ["git.acme.test", "bower.acme.test"] {
        let asked = format!("CONNECT {host}:443");
        assert!(proxy.asked().contains(&asked), "{:?}", proxy.asked());
    }
}

//! `[network]`: every manager, and git, reach a registry through the proxy, and one whose authority only the company knows.

#[expect(dead_code, reason = "each file of tests asks for another part")]
#[path = "support/forge.rs"]
mod forge;
#[expect(dead_code, reason = "each file of tests steers another part")]
#[path = "support/git_http.rs"]
mod git_http;
#[path = "support/managers.rs"]
mod managers;
#[expect(dead_code, reason = "each file of tests asks for another part")]
#[path = "support/registry.rs"]
mod registry;
#[expect(dead_code, reason = "each file of tests asks for another part")]
#[path = "support/server.rs"]
mod server;
#[path = "support/way_out.rs"]
mod way_out;

use std::net::SocketAddr;

use forge::Forge;
use managers::path_with;
use registry::{Package, Registry};
use serde_json::{Value, json};
use server::{Server, Settings};
use way_out::{Proxy, TlsDoor, authority};

/// A registry with one package whose archive is at the same place.
fn registry() -> (Registry, SocketAddr) {
    let registry = Registry::start();
    registry.publish(&Package::new("@acme/ui", "1.0.0"));
    let url: url::Url = registry.url().parse().expect("an address");
    let address = format!("127.0.0.1:{}", url.port().expect("a port")).parse().expect("an address");
    (registry, address)
}

fn built(tables: &str, manager: &str, files: &[(&str, &str)]) -> (Value, String) {
    let forge = Forge::start();
    // Nothing of this machine's own way out.
    let unset = ["HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS"];
    let env = unset.map(|name| (name.to_owned(), String::new())).to_vec();
    let settings = Settings { tables: tables.to_owned(), path: Some(path_with(manager)), env, ..Settings::default() };
    let server = Server::start_with(&forge, settings);
    let repo = forge.repo("acme/shop");
    let moved = repo.push("main", files);
    let build = server.finished(server.deliver(&repo.pushed(&moved)).build());
    let log = server.log(build["id"].as_i64().expect("a number"), "");
    (build, log)
}

/// Installs `@acme/ui` from `url` with these tables of the configuration.
fn installs(tables: &str, url: &str, manager: &str, tool: &str, command: &[&str]) {
    let tables = format!("{tables}\n[[registry]]\nurl = {url:?}\nscopes = [\"@acme\"]\nrepos = [\"acme/*\"]\n");
    let manifest = json!({"name": "shop", "version": "1.0.0", "private": true, "dependencies": {"@acme/ui": "1.0.0"}});
    let file = format!(
        "[[install]]\ntool = {tool:?}\ncommand = {command:?}\n[bundle]\ncommand = [\"test\", \"-f\", \"node_modules/@acme/ui/package.json\"]\n"
    );
    let manifest = manifest.to_string();
    let mut files = vec![("package.json", manifest.as_str()), (".hookmill.toml", file.as_str())];
    if manager == "berry" {
        files.push(("yarn.lock", ""));
        files.push((".yarnrc.yml", "nodeLinker: node-modules\nenableImmutableInstalls: false\n"));
    }
    let (build, log) = built(&tables, manager, &files);
    assert_eq!(build["outcome"], "passed", "{manager}: {build:#}\n{log}");
}

fn through_the_proxy(manager: &str, tool: &str, command: &[&str]) {
    let (_registry, address) = registry();
    let proxy = Proxy::to(address);
    let tables = format!("[network]\nproxy = {:?}\nno_proxy = [\"127.0.0.1\"]\n", proxy.url());
    installs(&tables, "http://npm.acme.test/", manager, tool, command);
    let asked = proxy.asked();
    assert!(asked.iter().any(|line| line.contains("npm.acme.test")), "{asked:?}");
    assert!(!asked.iter().any(|line| line.contains("127.0.0.1")), "loopback goes past it: {asked:?}");
}

fn with_a_private_authority(manager: &str, tool: &str, command: &[&str]) {
    let (registry, address) = registry();
    let door = TlsDoor::before(address);
    let tables = format!("[network]\nca_file = {:?}\n", authority());
    installs(&tables, &door.url(), manager, tool, command);
    assert!(registry.times("/@acme/ui") > 0);
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

/// git, by npm for a dependency: through the proxy, and by TLS with the configured authority beside the system's.
#[test]
fn git() {
    let dependency = |address: &str| {
        let manifest =
            json!({"name": "shop", "version": "1.0.0", "dependencies": {"x": format!("git+{address}acme/x.git")}});
        let file = "[[install]]\ntool = \"npm\"\ncommand = [\"npm\", \"install\", \"--no-package-lock\"]\n\
                    [bundle]\ncommand = [\"test\", \"-f\", \"node_modules/x/package.json\"]\n";
        [("package.json", manifest.to_string()), (".hookmill.toml", file.to_owned())]
    };
    let elsewhere = Forge::start();
    elsewhere.repo("acme/x").push("main", &[("package.json", r#"{"name":"x","version":"1.0.0"}"#)]);
    let address = elsewhere.git.origin().trim_start_matches("http://").parse().expect("an address");
    let proxy = Proxy::to(address);
    let files = dependency("http://git.acme.test/");
    let files = [(files[0].0, files[0].1.as_str()), (files[1].0, files[1].1.as_str())];
    let (build, log) =
        built(&format!("[network]\nproxy = {:?}\nno_proxy = [\"127.0.0.1\"]\n", proxy.url()), "npm", &files);
    assert_eq!(build["outcome"], "passed", "{build:#}\n{log}");
    assert!(proxy.asked().iter().any(|line| line.contains("git.acme.test")), "{:?}", proxy.asked());

    let door = TlsDoor::before(address);
    let files = dependency(&door.url());
    let files = [(files[0].0, files[0].1.as_str()), (files[1].0, files[1].1.as_str())];
    let (build, log) = built(&format!("[network]\nca_file = {:?}\n", authority()), "npm", &files);
    assert_eq!(build["outcome"], "passed", "{build:#}\n{log}");
}

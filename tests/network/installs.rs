//! What installs reach: the registries that their managers are configured for, and nothing else.

use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::Arc;

use hookmill::config::server::{InstallHost, Sandbox};
use hookmill::domain::outcome::Outcome;
use hookmill::domain::trust::Trust;
use hookmill::runner::Job;
use serde_json::{Value, json};

use super::{has_networks_of_its_own, host, runner};
use crate::support::forge::Forge;
use crate::support::managers::path_with;
use crate::support::registry::{Package, Registry};
use crate::support::server::{EXE, Server, Settings, reaching, step};

/// Tries what a hostile install script would, and fails when anything answers.
const PROBE: &str = r#"
const net = require('net'), dgram = require('dgram'), dns = require('dns'), http = require('http');
const proxy = new URL(process.env.HTTP_PROXY);
const [listener, database, udp, abstract] = process.argv.slice(2);
// Two of these have no answer; a busy gate is given its time to refuse the others.
const within = (name, start, most = 20000) => new Promise(done => {
  const timer = setTimeout(() => done(`${name}: no answer`), most);
  const end = word => { clearTimeout(timer); done(`${name}: ${word}`); };
  try { start(end); } catch (error) { end(error.code || 'refused'); }
});
const connect = (name, to) => within(name, end => {
  net.connect(to).on('connect', () => end('OPEN')).on('error', error => end(error.code));
});
const tunnel = (name, host) => within(name, end => {
  http.request({ host: proxy.hostname, port: proxy.port, method: 'CONNECT', path: host })
    .on('connect', answer => end(answer.statusCode === 200 ? 'OPEN' : answer.statusCode)).on('error', error => end(error.code)).end();
});
const plain = (name, url) => within(name, end => {
  http.get({ host: proxy.hostname, port: proxy.port, path: url }, answer => end(answer.statusCode < 400 ? 'OPEN' : answer.statusCode))
    .on('error', error => end(error.code));
});
(async () => {
  const words = await Promise.all([
    connect('listener', { port: +listener, host: '127.0.0.1' }),
    tunnel('listener by tunnel', `127.0.0.1:${listener}`),
    plain('listener plainly', `http://127.0.0.1:${listener}/healthz`),
    tunnel('listener by name', `localhost:${listener}`),
    connect('database', { port: +database, host: '127.0.0.1' }),
    tunnel('database by tunnel', `127.0.0.1:${database}`),
    connect('metadata', { port: 80, host: '169.254.169.254' }),
    tunnel('metadata by tunnel', '169.254.169.254:80'),
    connect('abstract socket', { path: '\0' + abstract }),
    within('name', end => dns.lookup('a.name.example', error => end(error ? error.code : 'OPEN')), 2000),
    within('udp', end => {
      const socket = dgram.createSocket('udp4').on('message', () => end('OPEN')).on('error', error => end(error.code));
      socket.send('ping', +udp, '127.0.0.1');
    }, 2000),
  ]);
  console.log(words.join('\n'));
  process.exit(words.some(word => word.endsWith('OPEN')) ? 1 : 0);
})();
"#;

/// The server's npm goes to the registry of the test, which nobody listed anywhere.
fn server_of(forge: &Forge, registry: &Registry, path: String, tables: String) -> Server {
    let env = vec![("npm_config_registry".to_owned(), registry.url())];
    Server::start_with(forge, Settings { env, tables, path: Some(path), ..Settings::default() })
}

/// An install by this command, and a bundle that passes where the package is there.
fn installing(tool: &str, command: &[&str]) -> String {
    format!(
        "[[install]]\ntool = {tool:?}\ncommand = {command:?}\n[bundle]\ncommand = [\"test\", \"-f\", \"node_modules/tiny/package.json\"]\n"
    )
}

fn depending_on(name: &str, version: &str) -> String {
    json!({"name": "shop", "version": "1.0.0", "private": true, "dependencies": {name: version}}).to_string()
}

fn reached(step: &Value, host: &str) -> u64 {
    let all = step["reached"].as_array().expect("a list");
    let found = all.iter().find(|reached| reached["host"] == host && reached["closed"] == false);
    found.unwrap_or_else(|| panic!("{host} is not in {all:?}"))["bytes"].as_u64().expect("a number")
}

fn every_manager_installs_from_the_agents_registry(manager: &str, tool: &str, command: &[&str]) {
    let (forge, registry) = (Forge::start(), Registry::start());
    registry.publish(&Package::new("tiny", "1.0.0"));
    let server = server_of(&forge, &registry, path_with(manager), reaching(&[]));
    let repo = forge.repo("acme/shop");
    let (manifest, file) = (depending_on("tiny", "1.0.0"), installing(tool, command));
    let mut files = vec![("package.json", manifest.as_str()), (".hookmill.toml", file.as_str())];
    if manager == "berry" {
        files.push((
            ".yarnrc.yml",
            "unsafeHttpWhitelist: [127.0.0.1]\nnodeLinker: node-modules\nenableImmutableInstalls: false\n",
        ));
    }
    let moved = repo.push("main", &files);
    let id = server.deliver(&repo.pushed(&moved)).build();
    let build = server.finished(id);
    let log = server.log(id, "");
    if !has_networks_of_its_own(build["sandbox"].as_str().unwrap_or_default()) {
        return;
    }
    assert_eq!(build["outcome"], "passed", "{manager}: {build:#}\n{log}");
    let bytes = reached(step(&build, tool), &host(&registry));
    assert!(bytes > 500, "{manager}: {bytes}");
    let page = server.get(&format!("/builds/{id}")).body;
    assert!(page.contains("network: ") && page.contains(&host(&registry)), "{page}");
    let shown = std::process::Command::new(EXE)
        .args(["builds", "--server", &server.url(), "show", &id.to_string()])
        .output()
        .expect("it runs");
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains(&format!("  {tool} reached {} ", host(&registry))), "{shown}");
}

#[test]
fn npm() {
    every_manager_installs_from_the_agents_registry("npm", "npm", &["npm", "install", "--no-package-lock"]);
}

#[test]
fn yarn_1() {
    every_manager_installs_from_the_agents_registry("yarn1", "yarn", &["yarn", "install", "--no-lockfile"]);
}

#[test]
fn berry() {
    every_manager_installs_from_the_agents_registry("berry", "yarn", &["yarn", "install"]);
}

#[test]
fn pnpm() {
    every_manager_installs_from_the_agents_registry("pnpm", "pnpm", &["pnpm", "install", "--no-lockfile"]);
}

/// bower looks a name up, and the git host of the answer is open, though nobody listed it.
#[test]
fn bower_reaches_the_git_hosts_that_its_registry_answers_with() {
    let (forge, registry) = (Forge::start(), Registry::start());
    let manifest = json!({"name": "one", "version": "1.0.0"}).to_string();
    forge.repo("acme/one").push("main", &[("bower.json", &manifest)]);
    let git = format!("{}/acme/one.git", forge.git.origin());
    registry.answer("/packages/one", json!({"name": "one", "url": git}));
    let server = server_of(&forge, &registry, path_with("bower"), reaching(&[]));
    let repo = forge.repo("acme/shop");
    let file = "[bundle]\ncommand = [\"test\", \"-f\", \"bower_components/one/bower.json\"]\n";
    let by_name = json!({"name": "shop", "dependencies": {"one": "main"}}).to_string();
    let settings = json!({"registry": registry.url().trim_end_matches('/')}).to_string();
    let moved = repo.push("main", &[("bower.json", &by_name), (".bowerrc", &settings), (".hookmill.toml", file)]);
    let build = server.finished(server.deliver(&repo.pushed(&moved)).build());
    let log = server.log(build["id"].as_i64().expect("a number"), "");
    if !has_networks_of_its_own(build["sandbox"].as_str().unwrap_or_default()) {
        return;
    }
    assert_eq!(build["outcome"], "passed", "{build:#}\n{log}");
    assert_eq!(registry.times("/packages/one"), 1);
    let bower = step(&build, "bower");
    assert!(reached(bower, &host(&registry)) > 0);
    assert!(reached(bower, forge.git.origin().trim_start_matches("http://")) > 0);

    // By its address alone it is no answer of the registry's.
    let by_address = json!({"name": "shop", "dependencies": {"one": format!("{git}#main")}}).to_string();
    let moved = repo.push("main", &[("bower.json", &by_address), (".bowerrc", "{}")]);
    let build = server.finished(server.deliver(&repo.pushed(&moved)).build());
    let closed = forge.git.origin().replace("http://", "");
    let reason = format!(
        "bower install failed: {closed} is closed to this step; allow it: install_hosts of the server's [sandbox]"
    );
    assert_eq!(step(&build, "bower")["reason"], json!(reason), "{build:#}");
}

#[test]
fn an_install_script_reaches_nothing_of_this_machine() {
    let (forge, registry) = (Forge::start(), Registry::start());
    let database = TcpListener::bind("127.0.0.1:0").expect("a port");
    let answering = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let name = format!("hookmill-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("a name");
    let socket = UnixListener::bind_addr(&address).expect("a socket");
    std::os::unix::net::UnixStream::connect_addr(&address).expect("outside it is there");
    let server = server_of(&forge, &registry, path_with("npm"), reaching(&[]));
    let port = server.url().rsplit(':').next().expect("a port").to_owned();
    let local = |port: std::io::Result<std::net::SocketAddr>| port.expect("bound").port();
    let arguments = format!("{port} {} {} {name}", local(database.local_addr()), local(answering.local_addr()));
    let probe = Package::new("tiny", "1.0.0").file("probe.js", PROBE);
    registry.publish(&probe.field(
        "scripts",
        json!({"postinstall": format!("node probe.js {arguments} > /tmp/probe 2>&1; s=$?; cat /tmp/probe; exit $s")}),
    ));
    let repo = forge.repo("acme/shop");
    let file = installing("npm", &["npm", "install", "--no-package-lock", "--foreground-scripts"]);
    let moved = repo.push("main", &[("package.json", &depending_on("tiny", "1.0.0")), (".hookmill.toml", &file)]);
    let build = server.finished(server.deliver(&repo.pushed(&moved)).build());
    let log = server.log(build["id"].as_i64().expect("a number"), "npm");
    if !has_networks_of_its_own(build["sandbox"].as_str().unwrap_or_default()) {
        return;
    }
    assert_eq!(build["outcome"], "passed", "{build:#}\n{log}");
    for line in [
        "listener: ECONNREFUSED",
        "listener by tunnel: 403",
        "listener plainly: 403",
        "listener by name: 403",
        "database: ECONNREFUSED",
        "database by tunnel: 403",
        "metadata: ENETUNREACH",
        "metadata by tunnel: 403",
        "abstract socket: ECONNREFUSED",
    ] {
        assert!(log.lines().any(|said| said == line), "{line} is missing:\n{log}");
    }
    database.set_nonblocking(true).expect("a socket");
    assert!(database.accept().is_err(), "somebody came");
    socket.set_nonblocking(true).expect("a socket");
    assert!(socket.accept().is_ok(), "the one from outside");
    assert!(socket.accept().is_err(), "somebody else came");
}

#[test]
fn what_is_closed_is_the_reason_and_the_line_that_opens_it_is_told() {
    let (forge, registry, elsewhere) = (Forge::start(), Registry::start(), Registry::start());
    elsewhere.publish(&Package::new("tiny", "1.0.0"));
    let server = server_of(&forge, &registry, path_with("npm"), reaching(&[]));
    let repo = forge.repo("acme/shop");
    let archive = format!("{}tiny/-/tiny-1.0.0.tgz", elsewhere.url());
    let file = installing("npm", &["npm", "install", "--no-package-lock"]);
    let moved = repo.push("main", &[("package.json", &depending_on("tiny", &archive)), (".hookmill.toml", &file)]);
    let build = server.finished(server.deliver(&repo.pushed(&moved)).build());
    if !has_networks_of_its_own(build["sandbox"].as_str().unwrap_or_default()) {
        return;
    }
    let (failed, closed) = (step(&build, "npm"), host(&elsewhere));
    assert_eq!((&build["outcome"], &failed["outcome"]), (&json!("failed"), &json!("failed")), "{build:#}");
    let reason = format!(
        "npm install failed: {closed} is closed to this step; allow it: install_hosts of the server's [sandbox]"
    );
    assert_eq!(failed["reason"], json!(reason), "{build:#}");
    let lines = format!(
        "# the server's hookmill.toml\n[sandbox]\ninstall_hosts = [\"npm\", \"yarn\", \"bower\", \"node\", {closed:?}]"
    );
    assert_eq!(failed["mend"], json!(lines));
    assert!(elsewhere.asked().is_empty());
}

/// Whoever builds it: a repository's own settings send its managers there.
async fn with_settings_of_its_own(trust: Trust) -> (Outcome, String, Registry) {
    let far = Registry::start();
    far.publish(&Package::new("tiny", "1.0.0"));
    let (manifest, file) = (depending_on("tiny", "1.0.0"), installing("npm", &["npm", "install", "--no-package-lock"]));
    let npmrc = format!("registry={}\nfetch-retries=0\n", far.url());
    let files = [("package.json", manifest.as_str()), (".hookmill.toml", file.as_str()), (".npmrc", npmrc.as_str())];
    let (verdict, log) = runner::build(&files, trust, |_| {}).await;
    (verdict.outcome, format!("{verdict:?}\n{log}"), far)
}

#[tokio::test]
async fn a_forks_own_settings_open_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let layers = hookmill::confine::probe(std::path::Path::new(EXE), dir.path()).await.expect("a folder of ours");
    if !has_networks_of_its_own(&layers.name()) {
        return;
    }
    let (outcome, told, far) = with_settings_of_its_own(Trust::Member).await;
    assert_eq!(outcome, Outcome::Passed, "{told}");
    assert!(far.times("/tiny") > 0);
    let (outcome, told, far) = with_settings_of_its_own(Trust::Fork).await;
    assert_ne!(outcome, Outcome::Passed, "{told}");
    assert!(far.asked().is_empty(), "{told}");
}

/// A bundle that asks a host which nothing opens, where that is only reported.
async fn reported(trust: Trust) -> (Outcome, String, Registry) {
    let far = Registry::start();
    let file = format!("[bundle]\ncommand = [\"node\", \"fetch.js\", \"{}font.woff2\"]\n", far.url());
    let files = [("fetch.js", super::FETCH), (".hookmill.toml", file.as_str())];
    let reports = |job: &mut Job| {
        let install_hosts: Vec<InstallHost> = job.sandbox.install_hosts.clone();
        job.sandbox = Arc::new(Sandbox { reports: true, install_hosts, ..Sandbox::clone(&job.sandbox) });
    };
    let (verdict, log) = runner::build(&files, trust, reports).await;
    (verdict.outcome, format!("{verdict:?}\n{log}"), far)
}

#[tokio::test]
async fn a_trusted_build_is_let_through_where_it_is_only_reported() {
    let dir = tempfile::tempdir().expect("a folder");
    let layers = hookmill::confine::probe(std::path::Path::new(EXE), dir.path()).await.expect("a folder of ours");
    if !has_networks_of_its_own(&layers.name()) {
        return;
    }
    let (outcome, told, far) = reported(Trust::Trusted).await;
    assert_eq!(outcome, Outcome::Passed, "{told}");
    let host = host(&far);
    let notice = format!(
        "bundle reached {host}, which sandbox.network = \"enforce\" would refuse; to keep it open: network = [\"{host}\"] in [bundle] of .hookmill.toml"
    );
    assert!(told.contains(&notice), "{told}");
    for trust in [Trust::Member, Trust::Fork] {
        let (outcome, told, far) = reported(trust).await;
        assert_eq!(outcome, Outcome::Failed, "{trust:?}: {told}");
        assert!(far.asked().is_empty(), "{trust:?}");
    }
}

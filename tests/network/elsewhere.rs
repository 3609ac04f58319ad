//! In a network and with names of the test's own: a public address, a cloud's metadata service, a database, and names that
//! lead from one to the other. Nothing of it is on this machine, so each may be asked for.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::forge::Forge;
use crate::support::server::{Server, Settings, reaching, step};

/// A public address, as far as anybody here can tell.
const PUBLIC: &str = "93.184.216.34";
const METADATA: &str = "169.254.169.254";

const HOSTS: &str = "127.0.0.1 localhost\n93.184.216.34 cdn.test closed.test\n127.0.0.1 rebound.test\n\
                     169.254.169.254 metadata.test\n10.9.8.7 registry.test\n";

/// Answers at every address that this network has; `/away` leads to another host.
const SERVERS: &str = r#"
const http = require('http');
const places = [['93.184.216.34', 80], ['169.254.169.254', 80], ['127.0.0.1', 5432], ['10.9.8.7', 4873]];
let left = places.length;
for (const [host, port] of places) {
  http.createServer((request, answer) => {
    if (request.url === '/away') answer.writeHead(302, { location: 'http://closed.test/secret' });
    else if (request.url === '/tiny') answer.setHeader('content-type', 'application/json');
    answer.end(request.url === '/tiny' ? '{"name":"tiny","versions":{}}' : `the secret of ${host}`);
  }).listen(port, host, () => { if (--left === 0) require('fs').writeFileSync(process.argv[2], ''); });
}
"#;

/// What an install script reaches, as JSON by address; redirects are followed, as a package manager would.
const PROBE: &str = r#"
const http = require('http');
const proxy = new URL(process.env.HTTP_PROXY);
const ask = (url, by, hops = 3) => new Promise(done => {
  const to = new URL(url);
  const here = { host: to.hostname, port: to.port, path: to.pathname };
  const ways = { proxy: { host: proxy.hostname, port: proxy.port, path: url }, straight: { ...here, agent: false }, plainly: here };
  const request = http.get(ways[by], answer => {
    if (answer.statusCode === 302 && hops) return ask(answer.headers.location, by, hops - 1).then(done);
    let text = '';
    answer.on('data', data => (text += data)).on('end', () => done(`${answer.statusCode} ${text.trim()}`));
  });
  request.on('error', error => done(`${error.code} ${error.message}`)).setTimeout(20000, () => request.destroy(new Error('no answer')));
});
(async () => {
  const found = {};
  for (const url of process.argv.slice(3)) {
    found[url] = await ask(url, 'proxy');
    found[`directly ${url}`] = await ask(url, 'straight');
    found[`plainly ${url}`] = await ask(url, 'plainly');
  }
  require('fs').writeFileSync(process.argv[2], JSON.stringify(found));
  console.log('found ' + JSON.stringify(found));
})();
"#;

/// What the shell does in there: addresses, names, servers, then the test itself.
const SCRIPT: &str = r#"set -e
ip link set lo up
for address in 93.184.216.34 169.254.169.254 10.9.8.7; do ip address add $address/32 dev lo; done
mount --bind hosts /etc/hosts
node servers.js ready & servers=$!
trap 'kill $servers' EXIT
while ! test -e ready; do kill -0 $servers; sleep 0.05; done
HTTP_PROXY=http://127.0.0.1:1 node probe.js outside.json "$@"
"$INSIDE" --exact network::elsewhere::in_a_network_of_its_own --ignored --nocapture
"#;

/// What an install asks for.
const URLS: [&str; 9] = [
    "http://cdn.test/font",
    "http://cdn.test/away",
    "http://closed.test/",
    "http://93.184.216.34/",
    "http://rebound.test:5432/",
    "http://127.0.0.1:5432/",
    "http://metadata.test/",
    "http://169.254.169.254/",
    "http://registry.test:4873/tiny",
];

#[test]
fn what_an_install_reaches_of_a_whole_network() {
    let dir = tempfile::tempdir().expect("a folder");
    for (path, text) in [("hosts", HOSTS), ("servers.js", SERVERS), ("probe.js", PROBE)] {
        fs::write(dir.path().join(path), text).expect("a file");
    }
    let output = Command::new("unshare")
        .args(["--map-root-user", "--net", "--mount", "sh", "-c", SCRIPT, "sh"])
        .args(URLS)
        .current_dir(dir.path())
        .env("INSIDE", std::env::current_exe().expect("this test"))
        .env_remove("HTTPS_PROXY")
        .env_remove("https_proxy")
        .stdin(Stdio::null())
        .output()
        .expect("unshare is installed");
    let told = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let Ok(outside) = fs::read_to_string(dir.path().join("outside.json")) else {
        eprintln!("NOT TRIED, this host gives no network of one's own: {told}");
        return;
    };
    let outside: Value = serde_json::from_str(&outside).expect("JSON");
    for url in URLS {
        let answer = outside[format!("directly {url}")].as_str().expect("an answer");
        assert!(answer.starts_with("200 "), "without the fence {url} answers: {outside:#}");
    }
    assert!(output.status.success() && told.contains("1 passed"), "{told}");
}

#[test]
#[ignore = "the test above runs it, in a network where these addresses are"]
fn in_a_network_of_its_own() {
    let probe = format!("node probe.js found.json {}", URLS.join(" "));
    let package = json!({"name": "shop", "version": "1.0.0", "scripts": {"postinstall": probe}}).to_string();
    let file = "[[install]]\ntool = \"npm\"\ncommand = [\"npm\", \"install\", \"--no-package-lock\", \"--foreground-scripts\"]\n\
                [bundle]\ncommand = [\"true\"]\n";
    let forge = Forge::start();
    let open = ["http://cdn.test:80", "http://rebound.test:5432", "http://metadata.test:80"];
    let settings = Settings {
        env: vec![("npm_config_registry".to_owned(), "http://registry.test:4873/".to_owned())],
        tables: reaching(&open.map(str::to_owned)),
        path: std::env::var("PATH").ok(),
        ..Settings::default()
    };
    let server = Server::start_with(&forge, settings);
    let repo = forge.repo("acme/shop");
    let files = [("probe.js", PROBE), ("package.json", package.as_str()), (".hookmill.toml", file)];
    let moved = repo.push("main", &files);
    let id = server.deliver(&repo.pushed(&moved)).build();
    let build = server.finished(id);
    if !super::has_networks_of_its_own(build["sandbox"].as_str().unwrap_or_default()) {
        return;
    }
    let log = server.log(id, "npm");
    assert_eq!(build["outcome"], "passed", "{build:#}\n{log}");
    let found = log.lines().find_map(|line| line.split_once("found {")).expect(&log).1;
    let found: Value = serde_json::from_str(&format!("{{{found}")).expect("JSON");
    let check = |url: &str, expected: &str| {
        let answer = found[url].as_str().unwrap_or_default();
        assert!(answer.starts_with(expected), "{url}: {answer}, not {expected}\n{found:#}");
    };
    check("http://cdn.test/font", &format!("200 the secret of {PUBLIC}"));
    check("http://cdn.test/away", "403 closed.test:80 is closed to this step");
    check("http://closed.test/", "403 closed.test:80 is closed to this step");
    check(&format!("http://{PUBLIC}/"), "403 ");
    check("http://rebound.test:5432/", "403 rebound.test:5432 is closed to this step (it leads to 127.0.0.1)");
    check("http://127.0.0.1:5432/", "403 ");
    check("http://metadata.test/", &format!("403 metadata.test:80 is closed to this step (it leads to {METADATA})"));
    check(&format!("http://{METADATA}/"), "403 ");
    check("http://registry.test:4873/tiny", "200 {\"name\":\"tiny\"");
    for url in URLS {
        let answer = found[format!("directly {url}")].as_str().unwrap_or_default();
        assert!(!answer.starts_with("200"), "past the proxy {url}: {answer}");
    }
    // A program that knows no proxy is led through it, and hears what is closed.
    check("plainly http://cdn.test/font", &format!("200 the secret of {PUBLIC}"));
    check("plainly http://cdn.test/away", "ECONNREFUSED closed.test:80: the proxy answered 403");
    for closed in ["http://closed.test/", "http://rebound.test:5432/", "http://metadata.test/"] {
        check(&format!("plainly {closed}"), "ECONNREFUSED ");
    }
    let reached = step(&build, "npm")["reached"].as_array().expect("a list");
    let closed = |host: &str| {
        let found = reached.iter().find(|reached| reached["host"] == host);
        found.unwrap_or_else(|| panic!("{host}: {reached:#?}"))["closed"].as_bool()
    };
    for (host, is_closed) in [
        ("cdn.test:80", false),
        ("registry.test:4873", false),
        ("closed.test:80", true),
        ("rebound.test:5432", true),
        ("metadata.test:80", true),
        ("169.254.169.254:80", true),
    ] {
        assert_eq!(closed(host), Some(is_closed), "{host}: {reached:#?}");
    }
    forge.finish();
}

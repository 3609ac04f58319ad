//! `[sandbox] network = "report"` at a server: trusted builds reach what is closed to them, and their builds say which hosts that
//! were and what opens them. And what a server does with a `[sandbox]` that is read again while a build runs.

use std::fs;
use std::process::Command;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{FETCH, has_networks_of_its_own, host};
use crate::support::forge::{Forge, Repo};
use crate::support::managers::path_with;
use crate::support::registry::Registry;
use crate::support::server::{EXE, Server, Settings, step};

/// `hookmill builds …` at a server.
fn told(server: &Server, words: &[&str]) -> String {
    let output = Command::new(EXE).args(["builds", "--server", &server.url()]).args(words).output().expect("it runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What the page, the API and the terminal say of a build, each in one line.
fn everywhere(server: &Server, id: i64) -> [(&'static str, String); 3] {
    let flat = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let page = server.get(&format!("/builds/{id}")).body.replace("&quot;", "\"").replace("&#34;", "\"");
    [
        (
            "the API",
            flat(
                &server.build(id)["notices"]
                    .as_array()
                    .expect("a list")
                    .iter()
                    .filter_map(Value::as_str)
                    .collect::<String>(),
            ),
        ),
        ("the page", flat(&page)),
        ("the terminal", flat(&told(server, &["explain", &id.to_string()]).replace("\n", " "))),
    ]
}

#[test]
fn a_trusted_build_reaches_what_is_closed_and_its_page_has_the_line() {
    let (forge, far, font) = (Forge::start(), Registry::start(), Registry::start());
    let tables = "[sandbox]\nnetwork = \"report\"\ninstall_hosts = [\"npm\"]\n".to_owned();
    let settings = Settings {
        tables,
        repo: "forks = \"build\"\n".to_owned(),
        path: Some(path_with("npm")),
        ..Settings::default()
    };
    let server = Server::start_with(&forge, settings);
    let repo = forge.repo("acme/shop");
    // Whatever asks the proxy: package managers do not for an address of loopback's.
    let script = format!("node fetch.js {}font.woff2", far.url());
    let manifest = |version: &str| {
        json!({"name": "shop", "version": version, "private": true, "scripts": {"postinstall": script}}).to_string()
    };
    let file = format!(
        "[[install]]\ntool = \"npm\"\ncommand = [\"npm\", \"install\", \"--no-package-lock\"]\n\
         [bundle]\ncommand = [\"node\", \"fetch.js\", \"{}font.woff2\"]\n",
        font.url()
    );
    let files = [("package.json", &*manifest("1.0.0")), ("fetch.js", FETCH), (".hookmill.toml", &file)];
    let moved = repo.push("main", &files);
    let id = server.deliver(&repo.pushed(&moved)).build();
    let build = server.finished(id);
    if !has_networks_of_its_own(build["sandbox"].as_str().unwrap_or_default()) {
        return;
    }
    assert_eq!(build["outcome"], "passed", "{build:#}\n{}", server.log(id, ""));
    assert!(!far.asked().is_empty() && !font.asked().is_empty());
    for (name, registry) in [("npm", &far), ("bundle", &font)] {
        let reached = step(&build, name)["reached"].as_array().expect("a list");
        let found = reached.iter().find(|reached| reached["host"] == json!(host(registry)));
        assert!(found.is_some_and(|found| found["bytes"].as_u64() > Some(0)), "{name}: {reached:#?}");
        let shown = told(&server, &["show", &id.to_string()]);
        assert!(shown.contains(&format!("  {name} reached {}", host(registry))), "{shown}");
    }
    for (place, words) in everywhere(&server, id) {
        for line in [
            format!("npm reached {}, which sandbox.network = \"enforce\" would refuse", host(&far)),
            format!("install_hosts = [\"npm\", {:?}] in", host(&far)),
            format!("bundle reached {}, which sandbox.network = \"enforce\" would refuse", host(&font)),
            format!("network = [{:?}] in [bundle] of .hookmill.toml", host(&font)),
        ] {
            assert!(words.contains(&line), "{place} does not say {line}: {words}");
        }
    }

    // It is for builds of the repository's own branches: for nobody else anything is open.
    let asked = (far.asked().len(), font.asked().len());
    for trust in ["member", "fork"] {
        repo.write(&[("package.json", &manifest(if trust == "member" { "1.0.1" } else { "1.0.2" }))]);
        let id = server.deliver(&repo.offered(trust)).build();
        let build = server.finished(id);
        assert_eq!((&build["outcome"], &build["trust"]), (&json!("failed"), &json!(trust)), "{build:#}");
        let reason = step(&build, "npm")["reason"].as_str().unwrap_or_default();
        assert!(
            reason.starts_with(&format!("npm install failed: {} is closed to this step", host(&far))),
            "{trust}: {build:#}"
        );
        assert_eq!((far.asked().len(), font.asked().len()), asked, "{trust}: it came through");
    }
    forge.finish();
}

/// Waits at a host that is open to it until it is let on, and then asks for a closed one.
const WAIT: &str = r#"
const http = require('http');
const proxy = new URL(process.env.HTTP_PROXY);
const [gate, closed] = process.argv.slice(2);
const ask = url => new Promise((resolve, reject) => {
  http.get({ host: proxy.hostname, port: proxy.port, path: url }, answer => {
    answer.resume().on('end', () => resolve(answer.statusCode));
  }).on('error', reject);
});
(async () => {
  console.log('it waits');
  while (await ask(gate) !== 200) await new Promise(done => setTimeout(done, 50));
  console.log(`the closed host answered ${await ask(closed)}`);
})();
"#;

/// A server whose builds wait at `open` and then ask `closed`.
struct Waiting {
    forge: Forge,
    server: Server,
    repo: Repo,
    open: Registry,
}

impl Waiting {
    /// Pushes a commit; its build, which waits.
    fn push(&self, text: &str) -> i64 {
        let moved = self.repo.push(text, &[("README.md", text)]);
        let id = self.server.deliver(&self.repo.pushed(&moved)).build();
        self.server.wrote(id, "bundle", "it waits");
        id
    }

    /// Has the server read its file again with these words in it, until it says so.
    fn reads(&self, (from, to): (&str, &str), says: &str) {
        let (file, before) = (self.server.config_file(), self.server.log_text().len());
        let text = fs::read_to_string(&file).expect("its configuration");
        assert!(text.contains(from), "{text}");
        fs::write(&file, text.replace(from, to)).expect("written");
        self.server.signal(Signal::HUP);
        let said = || self.server.log_text()[before..].contains(says).then_some(());
        self.forge.wait(said, || format!("it never said {says:?}: {}", self.server.log_text()));
    }
}

#[test]
fn a_running_build_goes_on_by_the_rules_that_it_began_with() {
    let (forge, open, closed) = (Forge::start(), Registry::start(), Registry::start());
    closed.answer("/font", json!({}));
    let tables = "[sandbox]\nnetwork = \"enforce\"\n".to_owned();
    let path = Some(path_with("npm"));
    let server = Server::start_with(&forge, Settings { tables, slots: 3, path, ..Settings::default() });
    let repo = forge.repo("acme/shop");
    let command = ["node", "wait.js", &format!("{}go", open.url()), &format!("{}font", closed.url())];
    let file = format!("[bundle]\ncommand = {command:?}\nnetwork = [{:?}]\n", host(&open));
    repo.write(&[("wait.js", WAIT), (".hookmill.toml", &file)]);
    let waiting = Waiting { forge, server, repo, open };
    let server = &waiting.server;
    let first = waiting.push("first");
    if !has_networks_of_its_own(server.build(first)["sandbox"].as_str().unwrap_or_default()) {
        return;
    }
    // A word that it does not know changes nothing at all, and it says which and what it may be.
    waiting.reads(("\"enforce\"", "\"sometimes\""), "the configuration was not changed");
    for word in ["sandbox", "sometimes", "enforce", "report"] {
        assert!(server.log_text().contains(word), "{word}: {}", server.log_text());
    }
    let second = waiting.push("second");
    waiting.reads(("\"sometimes\"", "\"report\""), "configuration read again");
    let third = waiting.push("third");
    waiting.reads(("\"report\"", "\"enforce\""), "configuration read again");
    waiting.open.answer("/go", json!({}));
    let fourth = waiting.push("fourth");
    for id in [first, second, third, fourth] {
        server.finished(id);
    }
    for (id, answered) in [(first, 403), (second, 403), (third, 200), (fourth, 403)] {
        let log = server.log(id, "bundle");
        assert!(log.contains(&format!("the closed host answered {answered}\n")), "build {id}: {log}");
        let notices = server.build(id)["notices"].to_string();
        assert_eq!(notices.contains("would refuse"), answered == 200, "build {id}: {notices}");
    }
    assert_eq!(closed.times("/font"), 1);
    waiting.forge.finish();
}

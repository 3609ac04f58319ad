//! A step that may reach some hosts: those answer, what else it asked for is named with the lines that would open it.
//! `installs` has package managers, `elsewhere` a network of the test's own, with addresses that nobody may ask here.

mod elsewhere;
mod installs;
mod reported;

use std::path::Path;

use hookmill::confine;
use hookmill::domain::outcome::Outcome;
use hookmill::domain::trust::Trust;
use serde_json::json;

use crate::support::forge::Forge;
use crate::support::registry::Registry;
use crate::support::server::{EXE, Server, step};
use crate::support::{ordinary, runner, server};

/// Asks for each address that it is given, by the environment's proxy where there is one: plainly, as for http, and
/// through a tunnel, as for https.
const FETCH: &str = r#"
const http = require('http');
const proxy = process.env.HTTP_PROXY && new URL(process.env.HTTP_PROXY);

function told(request) {
  return new Promise((resolve, reject) => {
    request.on('error', reject).on('response', answer => {
      let text = '';
      answer.on('data', data => (text += data)).on('end', () => resolve(`${answer.statusCode} ${text.trim()}`));
    }).end();
  });
}

function tunnel(far) {
  return new Promise((resolve, reject) => {
    http.request({ host: proxy.hostname, port: proxy.port, method: 'CONNECT', path: far.host })
      .on('error', reject)
      .on('connect', (answer, socket) => {
        if (answer.statusCode === 200) return resolve(socket);
        socket.destroy();
        reject(new Error(`CONNECT answered ${answer.statusCode}`));
      })
      .end();
  });
}

async function fetched(far) {
  if (!proxy) return console.log(await told(http.request(far)));
  console.log('plain:', await told(http.request({ host: proxy.hostname, port: proxy.port, path: far.href })));
  const socket = await tunnel(far);
  console.log('tunnel:', await told(http.request({ createConnection: () => socket, host: far.host, path: far.pathname })));
}

(async () => {
  for (const address of process.argv.slice(2)) await fetched(new URL(address));
})().catch(error => {
  console.error(String(error));
  process.exit(1);
});
"#;

/// `host:port` of a server on loopback: a private address, which only its being written down opens.
fn host(far: &Registry) -> String {
    far.url().trim_start_matches("http://").trim_end_matches('/').to_owned()
}

/// A step that asks for something of each of these, and may reach only the first.
fn asking(table: &str, far: &[&Registry]) -> String {
    let addresses = far.iter().map(|far| format!("{}font.woff2", far.url()));
    let command: Vec<String> = ["node".to_owned(), "fetch.js".to_owned()].into_iter().chain(addresses).collect();
    format!("{table}\ncommand = {command:?}\nnetwork = [{:?}]\n", host(far[0]))
}

/// Whether steps of this build could be held back; without that nothing of this file can be seen.
fn has_networks_of_its_own(sandbox: &str) -> bool {
    let has = sandbox.split('+').any(|layer| layer == "net");
    if !has {
        eprintln!("NOT TRIED, this host has no network namespaces: {sandbox}");
    }
    has
}

fn last_line(log: &str) -> &str {
    log.trim_end().lines().next_back().unwrap_or_default()
}

/// A step has one host open and asks for it; the next push asks for another one as well.
fn one_answers_and_the_other_is_named(table: &str, name: &str, reason: &str, lines: &str) {
    let (open, closed) = (Registry::start(), Registry::start());
    let forge = Forge::start();
    let server = Server::start(&forge);
    let repo = forge.repo("acme/shop");
    let pushed = |far: &[&Registry]| {
        let moved = repo.push("main", &[("fetch.js", FETCH), (".hookmill.toml", &asking(table, far))]);
        let build = server.finished(server.deliver(&repo.pushed(&moved)).build());
        let log = server.log(build["id"].as_i64().expect("a number"), name);
        (build, log)
    };
    let (build, log) = pushed(&[&open]);
    if !has_networks_of_its_own(build["sandbox"].as_str().unwrap_or_default()) {
        return;
    }
    assert_eq!(build["outcome"], "passed", "{build:#}\n{log}");
    assert_eq!(open.asked().len(), 2, "plainly and through a tunnel: {:#?}", open.asked());
    let bytes = last_line(&log).strip_prefix(&format!("== network: {} (", host(&open)));
    let bytes = bytes.and_then(|rest| rest.strip_suffix(" bytes) ==")).and_then(|bytes| bytes.parse::<u64>().ok());
    assert!(bytes.is_some_and(|bytes| bytes > 0), "{log}");

    let (build, log) = pushed(&[&open, &closed]);
    let failed = step(&build, name);
    assert_eq!((&build["outcome"], &failed["outcome"]), (&json!("failed"), &json!("failed")), "{build:#}\n{log}");
    let both = format!("network = [{:?}, {:?}]", host(&open), host(&closed));
    assert_eq!(failed["reason"], json!(reason.replace("HOST", &host(&closed))), "{log}");
    assert_eq!(failed["mend"], json!(format!("# .hookmill.toml\n{lines}\n{both}")), "{log}");
    assert!(last_line(&log).ends_with(&format!(" bytes), {} (closed) ==", host(&closed))), "{log}");
    assert!(closed.asked().is_empty(), "{:#?}", closed.asked());
    forge.finish();
}

#[test]
fn a_bundle() {
    let reason = "Bundle failed: HOST is closed to this step; allow it: bundle.network in .hookmill.toml";
    one_answers_and_the_other_is_named("[bundle]", "bundle", reason, "[bundle]");
}

#[test]
fn a_check() {
    let reason = "Check 'fonts' failed: HOST is closed to this step; allow it: the check's network in .hookmill.toml";
    let lines = "# in the check's own [[check]]";
    one_answers_and_the_other_is_named("[[check]]\nname = \"fonts\"", "fonts", reason, lines);
}

#[tokio::test]
async fn a_forks_build_gets_none_and_is_told_so() {
    let open = Registry::start();
    let file = asking("[bundle]", &[&open]);
    let files = [("fetch.js", FETCH), (".hookmill.toml", file.as_str())];
    let dir = tempfile::tempdir().expect("a folder");
    let layers = confine::probe(Path::new(EXE), dir.path()).await.expect("a folder of ours");
    if !has_networks_of_its_own(&layers.name()) {
        return;
    }
    let (verdict, log) = runner::build(&files, Trust::Member, |_| {}).await;
    assert_eq!(verdict.outcome, Outcome::Passed, "{verdict:?}\n{log}");
    let asked = open.asked().len();

    let (verdict, log) = runner::build(&files, Trust::Fork, |_| {}).await;
    assert_eq!(verdict.outcome, Outcome::Failed, "{verdict:?}\n{log}");
    assert_eq!(open.asked().len(), asked, "it went through");
    assert!(log.contains("the bundle gets no network, although it asks for it: this is a fork's build"), "{log}");
}

/// Networks and the doors into them are made by root in another way than by who is not. What is open is not.
#[test]
fn what_a_step_reaches_as_an_ordinary_user() {
    server::path_with_bower();
    let names =
        ["elsewhere::", "reported::", "installs::npm", "installs::an_", "installs::a_", "a_bundle", "a_forks_build"];
    ordinary::again(&names.map(|name| format!("network::{name}")));
}

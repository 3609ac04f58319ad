//! A step's environment comes from server, repository file and step; and what mends a known cause, pasted, mends it.

use std::process::Command;

use serde_json::Value;

use crate::support::forge::Forge;
use crate::support::server::{EXE, Server, Settings, step};

const BUNDLE: &str = "[bundle]\ncommand = ['node', 'bundle.js']\n";

/// What webpack 4 does for every module.
const WEBPACK_4: &str = "console.log('hash ' + require('crypto').createHash('md4').update('a').digest('hex'));\n";

#[test]
fn every_layer_of_the_environment_reaches_the_step_and_node_options_add_up() {
    let forge = Forge::start();
    let repo = forge.repo("acme/shop");
    let env = "env = { NODE_OPTIONS = '--dns-result-order=ipv4first', A = 'server', B = 'server', C = 'server' }";
    let server = Server::start_with(&forge, Settings { repo: env.to_owned(), ..Settings::default() });
    let file = "[env]\nNODE_OPTIONS = '--no-deprecation'\nB = 'file'\nC = 'file'\n\
                [bundle]\ncommand = ['node', 'bundle.js']\n\
                [bundle.env]\nC = 'step'\n\
                [[check]]\nname = 'options'\ncommand = ['node', 'bundle.js']\n\
                env = { NODE_OPTIONS = '--max-old-space-size=300' }\n";
    let script = "const { A, B, C, NODE_OPTIONS } = process.env;\n\
                  console.log(`A=${A} B=${B} C=${C}\\nNODE_OPTIONS=${NODE_OPTIONS}`);\n\
                  console.log('dns ' + require('dns').getDefaultResultOrder());\n\
                  console.log('heap ' + Math.round(require('v8').getHeapStatistics().heap_size_limit / 2 ** 20));\n";
    let moved = repo.push("main", &[(".hookmill.toml", file), ("bundle.js", script)]);
    let id = server.deliver(&repo.pushed(&moved)).build();
    let build = server.finished(id);
    assert_eq!(build["outcome"], "passed", "{build:#}\n{}", server.log(id, ""));
    let (bundle, check) = (server.log(id, "bundle"), server.log(id, "options"));
    assert!(bundle.contains("A=server B=file C=step"), "the narrower layer wins: {bundle}");
    assert!(bundle.contains("dns ipv4first") && bundle.contains("--no-deprecation"), "{bundle}");
    assert!(check.contains("A=server B=file C=file"), "{check}");
    assert!(check.contains("dns ipv4first"), "node itself took the server's option: {check}");
    let heap = check.lines().find_map(|line| line.split_once("heap ")).and_then(|(_, size)| size.trim().parse().ok());
    assert!(heap.is_some_and(|heap: u64| heap < 450), "and the step's: {check}");
    forge.finish();
}

#[test]
fn what_mends_a_known_cause_is_shown_everywhere_and_mends_it() {
    let forge = Forge::start();
    let repo = forge.repo("acme/shop");
    let server = Server::start(&forge);
    let moved = repo.push("main", &[(".hookmill.toml", BUNDLE), ("bundle.js", WEBPACK_4)]);
    let id = server.deliver(&repo.pushed(&moved)).build();
    let build = server.finished(id);
    assert_eq!(build["outcome"], "failed", "{build:#}\n{}", server.log(id, ""));
    let status = forge.final_status(&moved.after, "hookmill");
    let cause = "Bundle failed: ERR_OSSL_EVP_UNSUPPORTED";
    assert!(status.description.starts_with(cause) && status.description.contains("NODE_OPTIONS"), "{status:?}");

    let mend = step(&build, "bundle")["mend"].as_str().unwrap_or_else(|| panic!("nothing mends it: {build:#}"));
    let option = "NODE_OPTIONS = \"--openssl-legacy-provider\"";
    assert!(mend.lines().any(|line| line == option), "{mend}");
    assert_eq!(step(&build, "checkout")["mend"], Value::Null);
    let page = server.get(status.target_url.trim_start_matches(&server.url())).body;
    assert!(page.contains("class=\"mend\"") && page.contains("--openssl-legacy-provider"), "{page}");
    let shown = Command::new(EXE)
        .args(["builds", "show", &id.to_string(), "--server", &server.url()])
        .output()
        .expect("it runs");
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("What mends bundle:") && shown.contains(&format!("  {option}")), "{shown}");

    // The first of the two ways, pasted as it stands.
    let lines = mend.split("\n\n").next().expect("a first part");
    let file = format!("{lines}\n{BUNDLE}");
    let moved = repo.push("main", &[(".hookmill.toml", &file)]);
    let id = server.deliver(&repo.pushed(&moved)).build();
    let build = server.finished(id);
    assert_eq!(build["outcome"], "passed", "{file}\n{build:#}\n{}", server.log(id, ""));
    assert_eq!(step(&build, "bundle")["mend"], Value::Null);
    assert!(server.log(id, "bundle").contains("hash bde52cb31de33e46245e05fbdbd6fb24"), "md4 of \"a\", by RFC 1320");
    forge.finish();
}

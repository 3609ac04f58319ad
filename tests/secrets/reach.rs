//! What no build reaches: the forge's token, the hook's secret, the administrator's token, the database's address.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::secrets::traces::{holds_none, holds_none_below};
use crate::support::forge::{Forge, HOOK_SECRET, TOKEN};
use crate::support::machine::is_of;
use crate::support::postgres::Cluster;
use crate::support::server::{ADMIN, Server, Settings};

const PASSWORD: &str = "canary-database-52c9";
pub(crate) const PLANTED: &str = "planted-where-it-is-found";

const PACKAGE: &str = r#"{"name": "shop", "version": "1.0.0", "private": true, "scripts": {"postinstall": "node probe.js"},
  "devDependencies": {"webpack": "5.99.9", "webpack-cli": "6.0.1"}}"#;

/// Looks for words wherever it can read. They stand backwards in its own text, or it would find itself.
const PROBE: &str = r#"
const fs = require('fs'), path = require('path');
const words = WORDS.map((word) => Buffer.from([...word].reverse().join('')));
let looked = 0;
function look(what, bytes) {
  looked += 1;
  for (const word of words) if (bytes.includes(word)) console.log(`FOUND ${[...word.toString()].reverse().join('')} in ${what}`);
}
const attempt = (doing) => { try { return doing(); } catch { return undefined; } };
look('the environment', Buffer.from(JSON.stringify(process.env)));
console.log('NAMES ' + Object.keys(process.env).join(' '));
for (const pid of fs.readdirSync('/proc').filter((name) => /^[0-9]+$/.test(name))) {
  for (const file of ['cmdline', 'environ', 'maps', 'mountinfo', 'status'])
    attempt(() => look(`/proc/${pid}/${file}`, fs.readFileSync(`/proc/${pid}/${file}`)));
  for (const fd of attempt(() => fs.readdirSync(`/proc/${pid}/fd`)) ?? []) {
    const link = `/proc/${pid}/fd/${fd}`;
    attempt(() => look(`the name of ${link}`, Buffer.from(fs.readlinkSync(link))));
    attempt(() => { if (fs.statSync(link).isFile()) look(link, fs.readFileSync(link)); });
  }
  if (pid === String(process.pid)) continue;
  attempt(() => {
    const memory = fs.openSync(`/proc/${pid}/mem`, 'r');
    for (const line of fs.readFileSync(`/proc/${pid}/maps`, 'latin1').split('\n')) {
      const [, from, to] = /^([0-9a-f]+)-([0-9a-f]+) r/.exec(line) ?? [];
      if (!from || from.length > 12) continue;
      const bytes = Buffer.alloc(Math.min(parseInt(to, 16) - parseInt(from, 16), 1 << 26));
      const read = attempt(() => fs.readSync(memory, bytes, 0, bytes.length, parseInt(from, 16)));
      if (read) look(`the memory of ${pid} (${fs.readFileSync(`/proc/${pid}/comm`, 'latin1').trim()})`, bytes.subarray(0, read));
    }
  });
}
const system = ['/proc', '/sys', '/dev', '/usr', '/lib', '/lib64', '/bin', '/sbin', '/build/node_modules'];
function walk(folder) {
  for (const entry of attempt(() => fs.readdirSync(folder, { withFileTypes: true })) ?? []) {
    const place = path.join(folder, entry.name);
    look(`the name of ${place}`, Buffer.from(place));
    if (entry.isDirectory() && !system.includes(place)) walk(place);
    else if (entry.isFile()) attempt(() => { if (fs.statSync(place).size < 1 << 24) look(place, fs.readFileSync(place)); });
  }
}
walk('/');
console.log(`looked at ${looked} things`);
"#;

/// The program that looks for these, and for what was planted.
pub(crate) fn probe(secrets: &[&str]) -> String {
    let backwards: Vec<String> = secrets.iter().chain(&[PLANTED]).map(|word| word.chars().rev().collect()).collect();
    PROBE.replace("WORDS", &format!("{backwards:?}"))
}

/// Names that a step has by contract, and those that npm gives its scripts.
fn is_documented(name: &str) -> bool {
    const ALWAYS: [&str; 32] = [
        "PATH",
        "HOME",
        "USER",
        "SHELL",
        "LANG",
        "TZ",
        "TMPDIR",
        "TERM",
        "FORCE_COLOR",
        "CI",
        "HOOKMILL",
        "SOURCE_DATE_EPOCH",
        "NODE_OPTIONS",
        "NODE_PATH",
        "NODE_EXTRA_CA_CERTS",
        "SSL_CERT_FILE",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
        "http_proxy",
        "https_proxy",
        "no_proxy",
        "NODE_USE_ENV_PROXY",
        "BUN_INSTALL_CACHE_DIR",
        "NODE",
        "INIT_CWD",
        "EDITOR",
        "COLOR",
        "PWD",
        "OLDPWD",
        "SHLVL",
        "_",
    ];
    const PREFIXES: [&str; 6] = ["CI_", "npm_", "YARN_", "COREPACK_", "bower_", "WEBPACK_"];
    ALWAYS.contains(&name) || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

#[track_caller]
pub(crate) fn found_only_what_was_planted(log: &str, what: &str) {
    let found: BTreeSet<&str> = log.lines().filter_map(|line| line.strip_prefix("FOUND ")).collect();
    let planted: String = PLANTED.chars().rev().collect();
    assert!(found.iter().any(|line| line.contains("planted.txt")), "{what}: the probe finds what is there:\n{log}");
    assert!(found.iter().all(|line| line.starts_with(&planted)), "{what}: {found:#?}");
    let looked = log.lines().find_map(|line| line.strip_prefix("looked at ")?.split(' ').next()?.parse().ok());
    assert!(looked.is_some_and(|looked: u32| looked > 100), "{what}: {log}");
}

#[test]
fn a_probe_in_postinstall_and_in_webpack_finds_nothing() {
    let cluster = Cluster::shared();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let database = cluster.url(&runtime.block_on(cluster.make_database()));
    let store = database.replacen('@', &format!(":{PASSWORD}@"), 1);
    let forge = Forge::start();
    let server = Server::start_with(&forge, Settings { store: Some(store), ..Settings::default() });
    let repo = forge.repo("acme/shop");
    let secrets = [TOKEN, HOOK_SECRET, ADMIN, PASSWORD];
    let probe = probe(&secrets);
    let waits = "require('./probe.js');\nif (require('fs').existsSync('wait')) { console.log('waiting'); \
                 Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0); }\n\
                 module.exports = { mode: 'production', entry: './src/index.js' };\n";
    let moved = repo.push(
        "main",
        &[
            ("package.json", PACKAGE),
            ("probe.js", &probe),
            ("planted.txt", PLANTED),
            ("webpack.config.js", waits),
            ("src/index.js", "console.log(1);\n"),
        ],
    );
    let id = server.deliver(&repo.pushed(&moved)).build();
    let build = server.finished(id);
    assert_eq!(build["outcome"], "passed", "{build:#}\n{}", server.log(id, ""));
    for step in ["npm", "bundle"] {
        let log = server.log(id, step);
        found_only_what_was_planted(&log, step);
        let names = log.lines().find_map(|line| line.strip_prefix("NAMES ")).expect("printed");
        let others: Vec<&str> = names.split(' ').filter(|name| !is_documented(name)).collect();
        assert!(others.is_empty(), "{step}: {others:?}");
    }

    // While a build runs, from outside: what everybody on this machine can read of its processes.
    let moved = repo.push("main", &[("wait", "")]);
    let id = server.deliver(&repo.pushed(&moved)).build();
    server.wrote(id, "bundle", "waiting");
    let mut looked = 0;
    for entry in fs::read_dir("/proc").expect("a proc").flatten() {
        // Other tests start servers that are told secrets by their environment.
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
        if !pid.is_some_and(|pid| is_of(pid, server.pid())) {
            continue;
        }
        let command = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if command.windows(8).any(|window| window == b"hookmill")
            || command.windows(7).any(|window| window == b"webpack")
        {
            holds_none(&secrets, &command, "an argument list");
            holds_none(&secrets, &fs::read(entry.path().join("environ")).unwrap_or_default(), "an environment");
            looked += 1;
        }
    }
    assert!(looked >= 3, "the server, its holder and a step are there: {looked}");
    // Workspaces, `.git/config`, mirrors, logs, HOME: all of what is written.
    assert!(holds_none_below(&secrets, &server.data()) > 100);
    assert_eq!(server.post(&format!("/api/v1/builds/{id}/cancel"), "").code, 202);
    let cancelled: Value = server.finished(id);
    assert_eq!(cancelled["outcome"], "cancelled", "{cancelled:#}");
    // What it had of the cache goes back meanwhile, and a look may come in between.
    let met = || holds_none_below(&secrets, &server.data());
    forge.wait(|| (met() > 100).then_some(()), || format!("{} files", met()));
    holds_none(&secrets, server.log_text().as_bytes(), "the server's log");
    forge.finish();
}

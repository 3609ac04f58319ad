//! A program that looks for everything that is not its own, run from every place where a repository's code runs: as an
//! install script, in the configuration of webpack, as pnpm's hooks, and as the yarn that a repository brings. It finds
//! nothing. Outside of the sandbox it finds plenty, so it can.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::process::Command;

use hookmill::checkout::folder_name;
use serde_json::{Value, json};

use crate::strangers::settings;
use crate::support::forge::{Forge, HOOK_SECRET, Repo, TOKEN};
use crate::support::server::{ADMIN, Server, Settings};

const PROGRAM: &str = include_str!("probe.cjs");

/// The documented environment of a step (README, "What a step sees").
const VARIABLES: &str = "PATH HOME USER SHELL LANG TZ TMPDIR TERM FORCE_COLOR CI CI_NAME HOOKMILL CI_EVENT CI_REPO CI_BRANCH \
    CI_TAG CI_DEFAULT_BRANCH CI_COMMIT_SHA CI_BUILT_SHA CI_COMMIT_REF CI_PULL_REQUEST CI_BASE_BRANCH CI_TRUST CI_BUILD_ID \
    CI_BUILD_URL SOURCE_DATE_EPOCH BUN_INSTALL_CACHE_DIR NODE_OPTIONS PWD \
    HTTP_PROXY HTTPS_PROXY NO_PROXY http_proxy https_proxy no_proxy NODE_EXTRA_CA_CERTS SSL_CERT_FILE NODE_USE_ENV_PROXY";
const PREFIXES: [&str; 5] = ["npm_config_", "pnpm_config_", "YARN_", "COREPACK_", "bower_"];

/// What there is to be found.
struct Baits {
    sockets: (UnixListener, UnixListener, TcpListener),
    abstract_name: String,
}

impl Baits {
    fn lay(server: &Server) -> Baits {
        fs::write(server.dir.path().join("bait"), "the host's own words").expect("a file");
        let abstract_name = format!("hookmill-bait-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&abstract_name).expect("a name");
        let of_name = UnixListener::bind_addr(&address).expect("a socket");
        let of_path = UnixListener::bind(server.dir.path().join("bait.sock")).expect("a socket");
        let port = TcpListener::bind("127.0.0.1:0").expect("loopback");
        Baits { sockets: (of_name, of_path, port), abstract_name }
    }

    /// What the program is told, for a repository of the forge.
    fn told(&self, forge: &Forge, server: &Server, name: &str, way: &str) -> Value {
        let port = |url: &str| url.parse::<url::Url>().expect("an address").port().expect("a port");
        let data = server.data();
        let clone_url = format!("{}/{name}.git", forge.git.origin()).parse().expect("an address");
        let mirror = data.join("mirrors").join(folder_name(&clone_url)).join("objects");
        let secrets = [TOKEN, HOOK_SECRET, ADMIN].map(|secret| secret.chars().rev().collect::<String>());
        json!({
            "way": way,
            "repo": name.replace('/', "-"),
            "secrets": secrets,
            "variables": VARIABLES.split_whitespace().collect::<Vec<_>>(),
            "prefixes": PREFIXES,
            "first": [1, 2],
            "dir": server.dir.path(),
            "given": [mirror, data.join("tools")],
            "config": server.config_file(),
            "log": server.dir.path().join("serve.log"),
            "bait": server.dir.path().join("bait"),
            "socket": server.dir.path().join("bait.sock"),
            "abstract": self.abstract_name,
            "agent": server.pid().as_raw_nonzero().get(),
            "ports": {
                "the listener": port(&server.url()),
                "the forge's API": port(&forge.origin()),
                "the forge's git": port(&forge.git.origin()),
                "another server": self.sockets.2.local_addr().expect("bound").port(),
            },
        })
    }
}

/// What the program said, once for each way that it was started in.
fn said(text: &str) -> Vec<Value> {
    let lines = text.lines().filter_map(|line| line.split_once("PROBE ")).map(|(_, word)| word);
    lines.map(|word| serde_json::from_str(word).unwrap_or_else(|error| panic!("{error}: {word}"))).collect()
}

fn findings(said: &Value) -> BTreeSet<String> {
    assert!(said["tried"].as_u64().expect("a number") > 80, "it gave up: {said}");
    said["found"].as_array().expect("findings").iter().map(|one| one.as_str().expect("text").to_owned()).collect()
}

/// Pushes a repository with the program and these files; the build.
fn pushed(baits: &Baits, forge: &Forge, server: &Server, (name, way): (&str, &str), files: &[(&str, &str)]) -> i64 {
    let repo: Repo = forge.repo(name);
    repo.write(&[("probe.cjs", PROGRAM), ("probe.json", &baits.told(forge, server, name, way).to_string())]);
    let moved = repo.push("main", files);
    server.deliver(&repo.pushed(&moved)).build()
}

#[test]
fn a_probe_finds_nothing_wherever_a_repositorys_code_runs() {
    let forge = Forge::start();
    // Installs reach what they reach by themselves: the forge's git is not opened to them.
    let tables = "[sandbox]\nnetwork = \"enforce\"\n".to_owned();
    let server = Server::start_with(&forge, Settings { slots: 4, tables, ..settings() });
    let baits = Baits::lay(&server);
    let webpack = r#"{"name": "shop", "version": "1.0.0", "private": true, "scripts": {"postinstall": "node probe.cjs as postinstall"},
        "devDependencies": {"webpack": "5.99.9", "webpack-cli": "6.0.1"}}"#;
    let configuration = "require('./probe.cjs');\nmodule.exports = { mode: 'none', entry: './index.js' };\n";
    let of = |manager: &str| {
        format!(r#"{{"name": "shop", "version": "1.0.0", "private": true, "packageManager": "{manager}"}}"#)
    };
    let install =
        |manager: &str| format!("[[install]]\ntool = \"{manager}\"\ncommand = [\"{manager}\", \"install\"]\n");
    let (pnpm, yarn) = (install("pnpm"), install("yarn"));
    let berry_lock = "__metadata:\n  version: 8\n\n\"shop@workspace:.\":\n  version: 0.0.0-use.local\n  \
        resolution: \"shop@workspace:.\"\n  languageName: unknown\n  linkType: soft\n";
    let builds = [
        pushed(
            &baits,
            &forge,
            &server,
            ("acme/npm", ""),
            &[("package.json", webpack), ("webpack.config.js", configuration), ("index.js", "console.log(42);\n")],
        ),
        pushed(
            &baits,
            &forge,
            &server,
            ("acme/pnpm", ""),
            &[
                ("package.json", &of("pnpm@10.12.1")),
                (".hookmill.toml", &pnpm),
                ("pnpm-lock.yaml", "lockfileVersion: '9.0'\n\nimporters:\n\n  .: {}\n"),
                (".pnpmfile.cjs", "require('./probe.cjs');\nmodule.exports = {};\n"),
            ],
        ),
        pushed(
            &baits,
            &forge,
            &server,
            ("acme/yarn", "yarn-path"),
            &[
                ("package.json", &of("yarn@1.22.22")),
                (".hookmill.toml", &yarn),
                ("yarn.lock", "# yarn lockfile v1\n"),
                (".yarnrc", "yarn-path \"./probe.cjs\"\n"),
            ],
        ),
        pushed(
            &baits,
            &forge,
            &server,
            ("acme/berry", "yarnPath"),
            &[
                ("package.json", &of("yarn@4.9.2")),
                (".hookmill.toml", &yarn),
                ("yarn.lock", berry_lock),
                (".yarnrc.yml", "yarnPath: ./probe.cjs\n"),
            ],
        ),
    ];
    let expected: [&[&str]; 4] =
        [&["postinstall", "webpack.config.js"], &[".pnpmfile.cjs"], &["yarn-path"], &["yarnPath"]];
    for (id, ways) in builds.into_iter().zip(expected) {
        let build = server.finished(id);
        if build["sandbox"].as_str().is_some_and(|name| name.starts_with("NONE")) {
            eprintln!("NOT TRIED, this host has no fence: {}", build["sandbox"]);
            return;
        }
        let log = server.log(id, "");
        let told = said(&log);
        for way in ways {
            let word =
                told.iter().find(|word| word["way"] == *way).unwrap_or_else(|| panic!("no {way}: {build:#}\n{log}"));
            let found: Vec<String> = findings(word).into_iter().collect();
            assert_eq!(found, Vec::<String>::new(), "{way} of {}", build["repo"]);
        }
    }
    it_can_find(&baits, &forge, &server);
}

/// The same program on this machine as it is.
fn it_can_find(baits: &Baits, forge: &Forge, server: &Server) {
    let dir = tempfile::tempdir().expect("a folder");
    fs::write(dir.path().join("probe.cjs"), PROGRAM).expect("a file");
    let told = baits.told(forge, server, "acme/outside", "outside");
    fs::write(dir.path().join("probe.json"), told.to_string()).expect("a file");
    fs::write(dir.path().join("probe-of-acme-another"), "").expect("a file");
    // What root mounts here is seen here alone.
    let mut command = match rustix::process::geteuid().is_root() {
        true => Command::new("unshare"),
        false => Command::new("env"),
    };
    if rustix::process::geteuid().is_root() {
        command.args(["--mount", "--propagation", "private"]);
    }
    let output = command
        .args(["node", "probe.cjs"])
        .current_dir(dir.path())
        .env_clear()
        .env("PATH", std::env::var_os("PATH").expect("set"))
        .env("HOME", dir.path())
        .env("TMPDIR", dir.path())
        .env("LEAKED", TOKEN)
        .output()
        .expect("node is installed");
    // What it leaves for other builds to find, it leaves on this machine here. One that another user left is not ours.
    for folder in ["/tmp", "/var/tmp", "/dev/shm"] {
        let _ = fs::remove_file(format!("{folder}/probe-of-acme-outside"));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let told = said(&text);
    assert_eq!(told.len(), 1, "{text}{}", String::from_utf8_lossy(&output.stderr));
    let found = findings(&told[0]);
    let kinds: BTreeSet<&str> =
        found.iter().filter_map(|finding| finding.split_once(':')).map(|(kind, _)| kind).collect();
    for kind in ["agent", "call", "data", "environment", "file", "network", "other build", "process", "write"] {
        assert!(kinds.contains(kind), "it did not find any {kind}: {found:#?}");
    }
    for what in [
        "the listener",
        "the forge's API",
        "the forge's git",
        "another server",
        "an abstract socket",
        "a socket in a folder",
    ] {
        assert!(found.contains(&format!("network: {what}")), "{what}: {found:#?}");
    }
}

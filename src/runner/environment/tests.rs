use std::time::Duration;

use super::*;
use crate::domain::build::{BuildId, Cause, State};
use crate::domain::trust::Trust;
use crate::toolchain::Headers;

fn build() -> Build {
    Build {
        id: BuildId(12),
        repo: "github/acme/shop".parse().expect("legal"),
        sha: "a".repeat(40).parse().expect("hex"),
        built_sha: None,
        base_sha: None,
        git_ref: RefName::branch("main").expect("legal"),
        branch: Some("main".into()),
        pull_request: None,
        cause: Cause::Push,
        trust: Trust::Trusted,
        attempt: 1,
        rerun_of: None,
        superseded_by: None,
        state: State::Running,
        outcome: None,
        reason: None,
        approved_by: None,
        approved_at: None,
        created_at: Timestamp(0),
        started_at: None,
        finished_at: None,
        sandbox: String::new(),
        base_branch: None,
        default_branch: Some("main".into()),
        title: None,
        author: None,
        use_cache: true,
        same_as: None,
        agent: None,
        kept: Vec::new(),
        steps: Vec::new(),
    }
}

fn step(kind: StepKind, tool: &str) -> StepSpec {
    StepSpec {
        name: tool.into(),
        tool: tool.into(),
        kind,
        argv: vec![tool.into()],
        dir: ".".into(),
        then: Vec::new(),
        env: BTreeMap::new(),
        tools: Vec::new(),
        network: if kind == StepKind::Install { Network::Registries } else { Network::Closed },
        timeout: Duration::from_secs(1),
        allow_failure: false,
        retry: 0,
    }
}

fn env(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

/// What a test may change of the given.
struct Given {
    outfit: Outfit,
    network: server::Network,
    certificates: Certificates,
    node_options: Option<&'static str>,
    scripts: bool,
    withheld: Vec<&'static str>,
    secrets: BTreeMap<String, String>,
    gate: Option<Rules>,
    committed: BTreeMap<String, String>,
    registry_tokens: bool,
    server_env: BTreeMap<String, String>,
}

/// Makes a step's environment after `change` had its way.
fn made(step: &StepSpec, change: impl FnOnce(&mut Given)) -> BTreeMap<String, String> {
    let mut given = Given {
        outfit: Outfit {
            path: vec!["/opt/tools/bin".into(), "/usr/bin".into()],
            modules: Vec::new(),
            headers: None,
            given: Vec::new(),
        },
        network: server::Network::default(),
        certificates: Certificates::default(),
        node_options: None,
        scripts: true,
        withheld: Vec::new(),
        secrets: BTreeMap::new(),
        gate: None,
        committed: BTreeMap::new(),
        registry_tokens: false,
        server_env: BTreeMap::new(),
    };
    change(&mut given);
    make(&Facts {
        build: &build(),
        build_url: "https://ci.example/builds/12",
        commit_time: Some(Timestamp(1_700_000_000_999)),
        step,
        place: &Place { build: "/build".into(), home: "/home/build".into(), tmp: "/tmp".into() },
        outfit: &given.outfit,
        network: &given.network,
        gate: given.gate.as_ref(),
        certificates: &given.certificates,
        node_options: given.node_options,
        first_on_path: None,
        scripts: given.scripts,
        withheld: &given.withheld,
        secrets: &given.secrets,
        committed: &given.committed,
        registry_tokens: given.registry_tokens,
        server_env: &given.server_env,
    })
}

const ALWAYS: [&str; 47] = [
    "BUN_INSTALL_CACHE_DIR",
    "CI",
    "CI_BASE_BRANCH",
    "CI_BRANCH",
    "CI_BUILD_ID",
    "CI_BUILD_URL",
    "CI_BUILT_SHA",
    "CI_COMMIT_REF",
    "CI_COMMIT_SHA",
    "CI_DEFAULT_BRANCH",
    "CI_EVENT",
    "CI_NAME",
    "CI_PULL_REQUEST",
    "CI_REPO",
    "CI_TAG",
    "CI_TRUST",
    "COREPACK_ENABLE_DOWNLOAD_PROMPT",
    "COREPACK_HOME",
    "FORCE_COLOR",
    "HOME",
    "HOOKMILL",
    "LANG",
    "PATH",
    "SHELL",
    "SOURCE_DATE_EPOCH",
    "TERM",
    "TMPDIR",
    "TZ",
    "USER",
    "YARN_ENABLE_PROGRESS_BARS",
    "YARN_ENABLE_TELEMETRY",
    "YARN_GLOBAL_FOLDER",
    "bower_allow_root",
    "bower_analytics",
    "bower_interactive",
    "bower_storage__links",
    "bower_storage__packages",
    "bower_storage__registry",
    "npm_config_audit",
    "npm_config_cache",
    "npm_config_fetch_retries",
    "npm_config_fetch_retry_maxtimeout",
    "npm_config_fetch_retry_mintimeout",
    "npm_config_fetch_timeout",
    "npm_config_fund",
    "npm_config_logs_max",
    "npm_config_progress",
];

/// The names beyond those that every step has.
fn further(environment: &BTreeMap<String, String>) -> Vec<&str> {
    let always = |name: &&str| ALWAYS.contains(name) || *name == "npm_config_update_notifier";
    for name in ALWAYS {
        assert!(environment.contains_key(name), "{name} is missing");
    }
    environment.keys().map(String::as_str).filter(|name| !always(name)).collect()
}

#[test]
fn the_exact_names() {
    assert!(further(&made(&step(StepKind::Install, "npm"), |_| ())).is_empty());
    assert!(further(&made(&step(StepKind::Bundle, "bundle"), |_| ())).is_empty());
    let pnpm = made(&step(StepKind::Install, "pnpm"), |_| ());
    let settings = ["cache_dir", "package_import_method", "side_effects_cache", "store_dir"];
    let expected = ["npm", "pnpm"].map(|who| settings.map(|name| format!("{who}_config_{name}"))).concat();
    assert_eq!(further(&pnpm), expected);
    assert_eq!(pnpm["npm_config_package_import_method"], "clone-or-copy");
    let without_scripts = made(&step(StepKind::Install, "npm"), |given| given.scripts = false);
    assert_eq!(further(&without_scripts), ["YARN_ENABLE_SCRIPTS", "npm_config_ignore_scripts"]);
    let proxied =
        server::Network { proxy: Some("http://proxy:3128".into()), no_proxy: vec![".lan".into()], ca_file: None };
    let certificates = Certificates { node_extra: Some("/etc/ca.pem".into()), ssl: Some("/etc/ca.pem".into()) };
    let outside = |step: &StepSpec| {
        made(step, |given| {
            given.network = proxied.clone();
            given.certificates = certificates.clone();
        })
    };
    let names = [
        "HTTPS_PROXY",
        "HTTP_PROXY",
        "NODE_EXTRA_CA_CERTS",
        "NO_PROXY",
        "SSL_CERT_FILE",
        "http_proxy",
        "https_proxy",
        "no_proxy",
    ];
    let install = outside(&step(StepKind::Install, "npm"));
    assert_eq!(further(&install), names);
    assert_eq!(install["no_proxy"], "localhost,127.0.0.1,::1,.lan");
    assert!(further(&outside(&step(StepKind::Bundle, "bundle"))).is_empty(), "a closed step has no use for them");
}

#[test]
fn through_a_gate() {
    let rules = |hosts: &[&str]| Some(Rules::new(hosts.iter().copied()));
    let install = made(&step(StepKind::Install, "npm"), |given| {
        let mut rules = Rules::new(["127.0.0.1:4873"]);
        rules.names("https://names.example/".parse().expect("an address"));
        given.gate = Some(rules);
        given.network.proxy = Some("http://the.companys:3128".into());
    });
    assert_eq!(install["https_proxy"], "http://127.0.0.1:3128", "the company's is behind the door");
    assert_eq!(install["npm_config_https_proxy"], install["HTTP_PROXY"]);
    assert_eq!(install["YARN_HTTPS_PROXY"], install["HTTP_PROXY"]);
    assert_eq!(install["NO_PROXY"], "localhost,::1", "names may lead to further ports of it");
    let without_names = made(&step(StepKind::Install, "npm"), |given| given.gate = rules(&["127.0.0.1:4873"]));
    assert_eq!(without_names["NO_PROXY"], "localhost,127.0.0.1,::1", "it has a door of its own");
    assert_eq!(install["npm_config_noproxy"], install["no_proxy"]);
    assert_eq!(install["bower_registry__search"], "[http://127.0.0.1:3128/names.example]");
    let resolving = made(&step(StepKind::Install, "bower"), |given| {
        given.gate = rules(&[]);
        given.outfit.modules = vec!["/tools/a/node_modules".into()];
    });
    assert_eq!(resolving["NODE_OPTIONS"], "--require /home/build/.gate.cjs", "bower's resolvers know no proxy");
    assert_eq!(install["NODE_OPTIONS"], resolving["NODE_OPTIONS"], "nor do many scripts");
    let bundle = made(&step(StepKind::Bundle, "bundle"), |given| given.gate = rules(&["fonts.example:443"]));
    assert_eq!(
        (bundle["HTTP_PROXY"].as_str(), bundle["NO_PROXY"].as_str()),
        ("http://127.0.0.1:3128", "localhost,127.0.0.1,::1")
    );
    assert!(!bundle.contains_key("npm_config_proxy"), "what a bundle starts has its own settings");
    let observed = made(&step(StepKind::Bundle, "bundle"), |given| {
        given.gate = rules(&["fonts.example:443"]);
        given.node_options = Some("--require /opt/observer.cjs");
    });
    assert_eq!(observed["NODE_OPTIONS"], "--require /home/build/.gate.cjs --require /opt/observer.cjs");
}

#[test]
fn values() {
    let mut bundle = step(StepKind::Bundle, "bundle");
    bundle.dir = "client".into();
    let env = made(&bundle, |_| ());
    let check = |name: &str, expected: &str| assert_eq!(env[name], expected, "{name}");
    check("PATH", "/build/client/node_modules/.bin:/build/node_modules/.bin:/opt/tools/bin:/usr/bin");
    check("HOME", "/home/build");
    check("CI_REPO", "github/acme/shop");
    check("CI_BRANCH", "main");
    check("CI_TAG", "");
    check("CI_COMMIT_REF", "refs/heads/main");
    check("CI_BUILT_SHA", &"a".repeat(40));
    check("SOURCE_DATE_EPOCH", "1700000000");
    check("npm_config_cache", "/home/build/.downloads/npm");
    assert!(!env.contains_key("NODE_ENV"));
}

#[test]
fn layers_replace_each_other_and_node_options_add_up() {
    let mut bundle = step(StepKind::Bundle, "bundle");
    bundle.env = env(&[("API", "step"), ("NODE_OPTIONS", "--max-old-space-size=4096")]);
    let made = made(&bundle, |given| {
        given.server_env = env(&[("API", "server"), ("MIRROR", "m"), ("NODE_OPTIONS", "--dns-result-order=ipv4first")]);
        given.node_options = Some("--require /opt/observer.cjs");
    });
    assert_eq!((made["API"].as_str(), made["MIRROR"].as_str()), ("step", "m"));
    assert_eq!(
        made["NODE_OPTIONS"],
        "--require /opt/observer.cjs --dns-result-order=ipv4first --max-old-space-size=4096"
    );
}

#[test]
fn the_search_path_takes_no_relative_folder_and_no_colon() {
    let made = made(&step(StepKind::Install, "npm"), |given| {
        given.outfit.path = ["bin", "/a:.", "/usr/bin", "/usr/bin"].map(PathBuf::from).to_vec();
    });
    assert_eq!(made["PATH"], "/build/node_modules/.bin:/usr/bin");
}

#[test]
fn what_is_found_by_no_search_path() {
    let given = |npm| {
        made(&step(StepKind::Install, "bower"), |given| {
            given.outfit.modules = ["/tools/a/node_modules", "/tools/b/node_modules"].map(PathBuf::from).to_vec();
            given.outfit.headers = Some(Headers { node: "/tools/node-22.1.0".into(), npm });
        })
    };
    assert_eq!(given(10)["NODE_PATH"], "/tools/a/node_modules:/tools/b/node_modules");
    assert_eq!(given(10)["npm_config_nodedir"], "/tools/node-22.1.0");
    assert_eq!(given(11)["npm_package_config_node_gyp_nodedir"], "/tools/node-22.1.0");
    assert!(!given(11).contains_key("npm_config_nodedir"), "npm 11 warns of it");
}

#[test]
fn certificates() {
    let own = |pairs: &'static [(&str, &str)]| {
        move |name: &str| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
    };
    let from = |ca_file: Option<&str>, pairs| {
        let network = server::Network { ca_file: ca_file.map(PathBuf::from), ..server::Network::default() };
        let Certificates { node_extra, ssl } = Certificates::resolve(&network, own(pairs));
        [node_extra, ssl].map(|path| path.map(|path| path.display().to_string()).unwrap_or_default())
    };
    assert_eq!(from(None, &[]), ["", ""]);
    assert_eq!(from(None, &[("SSL_CERT_FILE", "/ssl")]), ["/ssl", "/ssl"]);
    assert_eq!(from(None, &[("SSL_CERT_FILE", "/ssl"), ("NODE_EXTRA_CA_CERTS", "/node")]), ["/node", "/ssl"]);
    assert_eq!(from(Some("/own"), &[("SSL_CERT_FILE", "/ssl")]), ["/own", ""]);
    assert_eq!(from(Some("/ssl"), &[("SSL_CERT_FILE", "/ssl")]), ["/ssl", "/ssl"]);
    let both = Certificates { node_extra: Some("/ssl".into()), ssl: Some("/ssl".into()) };
    assert_eq!(both.readable(), [PathBuf::from("/ssl")]);
}

#[test]
fn what_a_repositorys_settings_name_replaces_nothing() {
    let made = made(&step(StepKind::Install, "yarn"), |given| {
        given.committed = env(&[("NPM_TOKEN", "npm_0123"), ("HOME", ""), ("MIRROR", "")]);
        given.server_env = env(&[("MIRROR", "m")]);
        given.registry_tokens = true;
    });
    assert_eq!(
        (made["NPM_TOKEN"].as_str(), made["HOME"].as_str(), made["MIRROR"].as_str()),
        ("npm_0123", "/home/build", "m")
    );
    assert_eq!(made["npm_config_always_auth"], "true");
}

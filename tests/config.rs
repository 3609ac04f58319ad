//! What an operator meets who writes, misspells and checks a configuration.

use std::path::Path;
use std::time::Duration;

use hookmill::config::load::{self, LoadError, Loaded};
use hookmill::config::problem::Kind;
use hookmill::config::server::{Listen, StoreUrl, Supersede};
use hookmill::config::surroundings::Surroundings;
use tempfile::TempDir;

const FORGE: &str = r#"
[[forge]]
name = "github"
kind = "github"
token = "a-token-of-enough-bytes"
hook_secret = "a-secret-of-enough-bytes"
"#;

fn folder(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().expect("a temporary folder");
    for (name, text) in files {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().expect("inside the folder")).expect("created");
        std::fs::write(path, text).expect("written");
    }
    dir
}

fn load_in(dir: &Path, env: &[(&str, &str)]) -> Result<Loaded, LoadError> {
    let mut around = Surroundings::bare(dir);
    around.env = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    load::load(None, &around)
}

/// The faults of a text, each with its place: `3:1 unknown key …`.
fn faults(text: &str) -> Vec<String> {
    match load::from_text(text, Path::new("/etc/hookmill")) {
        Ok(_) => Vec::new(),
        Err(problems) => {
            let show = |problem: &hookmill::config::problem::Problem| {
                let (_, line, column) = problem.location().expect("a place");
                format!("{line}:{column} {}", problem.message)
            };
            problems.0.iter().map(show).collect()
        }
    }
}

#[test]
fn the_embedded_default_is_what_the_documentation_says() {
    let loaded = load::from_text("", Path::new("/srv/ci")).expect("the default is legal");
    let server = loaded.server;
    assert!(loaded.warnings.is_empty(), "{:?}", loaded.warnings);
    assert_eq!(server.web.listen, Listen::Tcp("127.0.0.1:4665".parse().expect("an address")));
    assert_eq!(server.web.public_url.as_str(), "http://127.0.0.1:4665/");
    assert_eq!(server.store.sqlite(), Some(Path::new("/srv/ci/data/hookmill.db")));
    assert_eq!(server.data_dir, Path::new("/srv/ci/data"));
    assert_eq!(server.agent.slots, 1, "two cores, 8 GiB, builds of 4 GiB");
    assert_eq!(server.agent.limits.memory, 4 << 30);
    assert_eq!(server.agent.limits.checkout_files, 300_000);
    assert_eq!(server.toolchain.node, "22");
    assert_eq!(server.statuses.context, "hookmill");
    assert_eq!(server.retention.snapshots, 20 << 30);
    assert!(server.forges.named().is_empty());
}

#[test]
fn every_fault_is_reported_with_its_place() {
    let text = "[server]\nlisen = \"x\"\nread = \"linc\"\n[limits]\nmemory = \"lots\"\nprocesses = 0\n[sever]\n";
    assert_eq!(
        faults(text),
        [
            "2:1 unknown key `lisen` in `server`",
            "3:8 `server.read` is \"link\", \"public\" or \"token\", not \"linc\"",
            "5:10 \"lots\" is not a size",
            "6:13 `limits.processes` must be more than zero",
            "7:2 unknown key `sever`",
        ]
    );
}

#[test]
fn a_fault_is_shown_under_its_place_with_the_fix() {
    let problems = load::from_text("[server]\nlisen = \"x\"\n", Path::new("/")).expect_err("a misspelt key");
    let shown = problems.to_string();
    for part in ["hookmill.toml:2:1", "lisen = \"x\"", "^^^^^", "did you mean `listen`?"] {
        assert!(shown.contains(part), "{part} in\n{shown}");
    }
}

#[test]
fn a_fault_of_syntax_is_the_only_one() {
    let dir = folder(&[("hookmill.toml", "[[forge]\nname = 1"), ("repos.d/a.toml", "[[repo]]\nforge = \"github\"\n")]);
    let Err(LoadError::Wrong(problems)) = load_in(dir.path(), &[]) else { panic!("a fault") };
    assert!(problems.0.iter().all(|problem| problem.location().expect("a place").0 == "hookmill.toml"), "{problems}");
}

#[test]
fn a_store_on_postgres_is_a_secret_in_any_of_three_forms() {
    const URL: &str = "postgres://ci:hunter2@db.acme.dev/ci?sslmode=verify-full";
    let dir = folder(&[("hookmill.toml", "[store]\nurl_file = \"url\"\n"), ("url", &format!("{URL}\n"))]);
    let by_file = load_in(dir.path(), &[]).expect("legal").server.store;
    let StoreUrl::Postgres(url) = &*by_file else { panic!("{by_file:?}") };
    assert_eq!(url.expose(), URL);
    assert_eq!(by_file.to_string(), "postgres://ci@db.acme.dev/ci?sslmode=verify-full");
    let by_name = [("HOOKMILL_STORE__URL_ENV", "STORE"), ("STORE", URL)];
    assert_eq!(load_in(dir.path(), &by_name).expect("legal").server.store, by_file);
    let in_place = [("HOOKMILL_STORE__URL", URL)];
    assert_eq!(load_in(dir.path(), &in_place).expect("legal").server.store, by_file);

    let twice = "[store]\nurl = \"postgres://ci:hunter2@db/ci\"\nurl_file = \"url\"\n";
    assert_eq!(faults(twice), ["3:1 `store.url` and `url_file` are both given"]);
    let misspelt = "[store]\nurl = \"postgres://ci:hunter2@db/ci?password=hunter2&sslmod=require\"\n";
    let told = load::from_text(misspelt, Path::new("/")).expect_err("a misspelt word").to_string();
    assert!(told.contains("\"sslmod\"") && !told.contains("hunter2"), "{told}");
}

#[test]
fn what_is_not_built_says_so_and_names_the_key() {
    for (text, key) in [
        ("[[forge]]\nname = \"a\"\nkind = \"gitlab\"\ntoken = \"0123456789abcdef\"", "gitlab"),
        ("[[forge]]\nname = \"a\"\nkind = \"bitbucket\"\ntoken = \"0123456789abcdef\"", "bitbucket"),
        ("[[forge]]\nname = \"a\"\nkind = \"github\"\napp_id = 7", "app_id"),
        ("[defaults]\npull_requests = \"merge\"", "pull_requests"),
        ("[agent]\nlabels = [\"gpu\"]", "labels"),
    ] {
        let problems = load::from_text(text, Path::new("/")).expect_err(text);
        let [problem] = problems.0.as_slice() else { panic!("one fault in {text}: {problems}") };
        assert_eq!(problem.kind, Kind::NotBuilt, "{problem}");
        assert!(problem.message.starts_with("not built yet: "), "{problem}");
        assert!(problem.message.contains(key), "{problem}");
        assert!(!problem.to_string().contains("hunter2"), "{problem}");
    }
}

#[test]
fn a_mirror_of_node_is_an_address() {
    let server = |text: &str| load::from_text(text, Path::new("/")).map(|loaded| loaded.server);
    let mirror = |text: &str| server(text).expect("legal").toolchain.node_mirror.as_ref().map(url::Url::to_string);
    assert_eq!(mirror(""), None);
    assert_eq!(
        mirror("[toolchain]\nnode_mirror = \"https://mirror.acme.dev/dist/\""),
        Some("https://mirror.acme.dev/dist".to_owned())
    );
    let problems = server("[toolchain]\nnode_mirror = \"/srv/node\"").expect_err("a folder is no address");
    assert!(problems.to_string().contains("`toolchain.node_mirror` is not an http or https address"), "{problems}");
}

#[test]
fn the_environment_goes_over_the_file() {
    let dir = folder(&[("hookmill.toml", "[server]\nlisten = \"127.0.0.1:1\"\nadmin_token_file = \"missing\"\n")]);
    let env = [
        ("HOOKMILL_SERVER__LISTEN", "127.0.0.1:2"),
        ("HOOKMILL_SERVER__ADMIN_TOKEN", "a-token-of-enough-bytes"),
        ("HOOKMILL_SERVER__PUBLIC_URL", "https://ci.acme.dev/mill/"),
        ("HOOKMILL_AGENT__SLOTS", "7"),
        ("HOOKMILL_DEFAULTS__TAGS", "true"),
        ("HOOKMILL_LIMITS__MEMORY", "1GiB"),
        ("HOOKMILL_URL", "not ours"),
    ];
    let loaded = load_in(dir.path(), &env).expect("legal");
    let web = &loaded.server.web;
    assert_eq!(web.listen, Listen::Tcp("127.0.0.1:2".parse().expect("an address")));
    assert_eq!(web.public_url.as_str(), "https://ci.acme.dev/mill");
    assert_eq!(web.admin_token.as_ref().expect("set").expose(), b"a-token-of-enough-bytes");
    assert_eq!((loaded.server.agent.slots, loaded.server.agent.limits.memory), (7, 1 << 30));
    assert_eq!(loaded.files, [dir.path().join("hookmill.toml")]);
}

#[test]
fn a_variable_that_sets_nothing_is_a_fault() {
    let dir = folder(&[("hookmill.toml", "")]);
    for (name, value, fix) in [
        ("HOOKMILL_SERVER__LISEN", "x", "did you mean HOOKMILL_SERVER__LISTEN?"),
        ("HOOKMILL_SEVER__LISTEN", "x", "did you mean HOOKMILL_SERVER__LISTEN?"),
        ("HOOKMILL_REPO__NAME", "x", "write it in the file"),
        ("HOOKMILL_DEFAULTS__BRANCHES", "main", "write it in the configuration file"),
        ("HOOKMILL_SERVER__ADMIN_TOKEN", "", "`server.admin_token` is empty"),
        ("HOOKMILL_DEFAULTS__TAGS", "yes", "must be true or false"),
    ] {
        let error = load_in(dir.path(), &[(name, value)]).expect_err(name).to_string();
        assert!(error.contains(fix) && error.contains(name), "{name}: {error}");
    }
}

#[test]
fn nothing_configured_is_its_own_answer() {
    let dir = folder(&[]);
    match load_in(dir.path(), &[]) {
        Err(LoadError::NothingConfigured { looked }) => assert_eq!(looked[0], dir.path().join("hookmill.toml")),
        Ok(_) if Path::new("/etc/hookmill/hookmill.toml").exists() => {}
        other => panic!("{other:?}"),
    }
    let named = load_in(dir.path(), &[("HOOKMILL_CONFIG", "nowhere.toml")]).expect_err("a file that is missing");
    assert!(named.to_string().contains("nowhere.toml can't be read"), "{named}");
}

#[test]
fn secrets_come_from_one_place_and_are_not_empty() {
    let secret = |lines: &str| format!("{FORGE}[[repo]]\nforge = \"github\"\nname = \"acme/shop\"\n{lines}\n");
    let dir = folder(&[
        ("secrets/good", "0123456789abcdef0123\n"),
        ("secrets/other", "0123456789abcdef-two-newlines\n\n"),
        ("secrets/empty", "\n"),
        ("secrets/short", "abc"),
    ]);
    let read = |lines: &str| load::from_text(&secret(lines), dir.path());
    let rules = |lines: &str| {
        let loaded = read(lines).expect(lines);
        let rules = loaded.server.forges.rules(&"github/acme/shop".parse().expect("a name")).expect("configured");
        let secrets = rules.hook_secrets.iter().map(|secret| String::from_utf8_lossy(secret.expose()).into_owned());
        (secrets.collect::<Vec<_>>(), loaded.warnings.len())
    };
    assert_eq!(rules("hook_secret_file = \"secrets/good\""), (vec!["0123456789abcdef0123".to_owned()], 0));
    let (two, _) = rules("hook_secret_file = [\"secrets/good\", \"secrets/other\"]");
    assert_eq!(two[1], "0123456789abcdef-two-newlines\n", "one newline is cut, not two");
    assert_eq!(rules("hook_secret_file = \"secrets/short\"").1, 1, "a warning");

    for (lines, message) in [
        ("hook_secret_file = \"secrets/empty\"", "secrets/empty is empty"),
        ("hook_secret_file = \"secrets/none\"", "can't be read"),
        ("hook_secret = \"\"", "`repo.hook_secret` is empty"),
        ("hook_secret = []", "is an empty list"),
        ("hook_secret_env = \"NOBODY\"", "the variable NOBODY is not set"),
        ("hook_secret = \"0123456789abcdef\"\nhook_secret_file = \"secrets/good\"", "are both given"),
    ] {
        let error = read(lines).expect_err(lines).to_string();
        assert!(error.contains(message) && error.contains("hookmill.toml:1"), "{error}");
        assert!(!error.contains("0123456789abcdef"), "{error}");
    }
}

#[test]
fn repos_d_adds_repositories_and_nothing_else() {
    let dir = folder(&[
        ("ci/hookmill.toml", FORGE),
        (
            "ci/repos.d/10-shop.toml",
            "[[repo]]\nforge = \"github\"\nname = \"acme/shop\"\nhook_secret_file = \"shop.secret\"\n",
        ),
        ("ci/repos.d/shop.secret", "0123456789abcdef\n"),
        ("ci/repos.d/.hidden.toml", "broken"),
        ("ci/repos.d/notes.txt", "broken"),
    ]);
    let around = Surroundings::bare(dir.path());
    let loaded = load::load(Some(Path::new("ci/hookmill.toml")), &around).expect("legal");
    assert_eq!(loaded.server.forges.named().len(), 1);
    assert_eq!(loaded.files.len(), 2);

    std::fs::write(dir.path().join("ci/repos.d/20.toml"), "[server]\nread = \"public\"\n[[forge]]\nname = \"x\"\n")
        .expect("written");
    let error = load::load(Some(Path::new("ci/hookmill.toml")), &around).expect_err("refused").to_string();
    assert!(
        error.contains("[server] does not belong into repos.d") && error.contains("ci/repos.d/20.toml:1:2"),
        "{error}"
    );
    assert!(error.contains("[[forge]] does not belong into repos.d"), "{error}");
}

#[test]
fn processors_are_bounded_where_a_line_says_so() {
    let cpus = |text: &str, env: &[(&str, &str)]| {
        let dir = folder(&[("hookmill.toml", text)]);
        load_in(dir.path(), env).expect("legal").server.agent.limits.cpus.map(|cpus| cpus.to_string())
    };
    assert_eq!(cpus("", &[]), None);
    assert_eq!(cpus("[limits]\ncpus = 2\n", &[]).as_deref(), Some("2"));
    assert_eq!(cpus("[limits]\ncpus = 0.5\n", &[]).as_deref(), Some("0.5"));
    assert_eq!(cpus("[limits]\ncpus = 0.5\n", &[("HOOKMILL_LIMITS__CPUS", "1.5")]).as_deref(), Some("1.5"));
    assert_eq!(
        faults("[limits]\ncpus = 0\n[defaults]\nlimits = { cpus = \"2\" }\n"),
        [
            "2:8 `limits.cpus` must be 0.01 or more",
            "4:19 `defaults.limits.cpus` must be a number of processors, not a string"
        ]
    );
    let text = format!(
        "{FORGE}[limits]\ncpus = 4.0\n[[repo]]\nforge = \"github\"\nname = \"acme/*\"\nlimits = {{ cpus = 1.5 }}\n"
    );
    let forges = load::from_text(&text, Path::new("/")).expect("legal").server.forges;
    let of = |name: &str| forges.rules(&name.parse().expect("a name")).expect("named").limits.cpus;
    assert_eq!(of("github/acme/shop").map(|cpus| cpus.to_string()).as_deref(), Some("1.5"));
}

#[test]
fn the_most_exact_block_wins_and_the_rest_falls_through() {
    let text = format!(
        r#"{FORGE}
        [defaults]
        supersede = "all"
        limits = {{ processes = 99 }}
        [[repo]]
        forge = "github"
        name = "acme/*"
        tags = true
        cache = false
        branches = ["main"]
        limits = {{ memory = "8GiB" }}
        [[repo]]
        forge = "github"
        name = "Acme/Shop"
        branches = ["release/*"]
        cache = true
        clone_url = "https://git.acme.dev/shop/"
        limits = {{ memory = "1GiB" }}
        [[repo]]
        forge = "github"
        name = "acme/shop-*"
        hook_secret = "another-secret-of-bytes"
        "#
    );
    let forges = load::from_text(&text, Path::new("/")).expect("legal").server.forges;
    let rules = |name: &str| forges.rules(&name.parse().expect("a name"));
    let shop = rules("github/acme/shop").expect("named, in another case");
    assert_eq!((shop.branches, shop.tags, shop.supersede), (vec!["release/*".to_owned()], true, Supersede::All));
    assert_eq!((shop.limits.memory, shop.limits.processes, shop.limits.checkout_files), (1 << 30, 99, 300_000));
    assert_eq!(shop.clone_url.as_str(), "https://git.acme.dev/shop");
    assert!(shop.cache);
    let api = rules("github/acme/shop-api").expect("two globs");
    assert_eq!((api.hook_secrets.len(), api.branches, api.limits.memory), (1, vec!["main".to_owned()], 8 << 30));
    assert_eq!(api.clone_url.as_str(), "https://github.com/acme/shop-api.git");
    assert!(!api.cache);
    assert!(rules("github/acme/a/b").is_none(), "`*` stops at a slash");
    assert!(rules("github/other/shop").is_none() && rules("gitea/acme/shop").is_none());
    assert_eq!(forges.named().len(), 1, "globs are no names");
}

#[test]
fn forges_and_repositories_that_cannot_work_are_refused() {
    let check = |text: &str, message: &str| {
        let all = faults(text);
        assert!(all.len() == 1 && all[0].contains(message), "{text}\n{all:?}");
    };
    let repo = |lines: &str| format!("{FORGE}[[repo]]\n{lines}\n");
    check(&FORGE.replace("\"github\"\nkind", "\"api\"\nkind"), "is a word of the server's own addresses");
    check(&FORGE.replace("\"github\"\nkind", "\"Git Hub\"\nkind"), "is not a forge name");
    check(&format!("{FORGE}{FORGE}"), "a second [[forge]] named \"github\"");
    check(&FORGE.replace("kind = \"github\"", "kind = \"gitea\""), "needs a `web_url`");
    check(&repo("forge = \"githup\"\nname = \"acme/shop\""), "there is no [[forge]] named \"githup\"");
    check(&repo("forge = \"github\"\nname = \"shop\""), "write owner/name");
    check(&repo("forge = \"github\"\nname = \"*/shop\""), "reaches over several owners");
    check(&repo("forge = \"github\"\nname = \"acme/{a,b}\""), "no other pattern");
    check(&repo("forge = \"github\"\nname = \"acme/*\"\nclone_url = \"https://x/y\""), "a glob has no `clone_url`");
    check(&repo("forge = \"github\"\nname = \"acme/a\"\nclone_url = \"git@host:a.git\""), "git over ssh");
    check(
        &repo("forge = \"github\"\nname = \"acme/a\"\nclone_url = \"https://me:pw@host/a\""),
        "holds a user or a password",
    );
    check(&repo("name = \"acme/a\""), "a [[repo]] needs a `forge`");
    check(&repo("forge = \"github\"\nname = \"acme/a\"\nbranches = [\"{a\"]"), "is not a branch pattern");
    let twice = "forge = \"github\"\nname = \"acme/a\"\n[[repo]]\nforge = \"github\"\nname = \"ACME/A\"";
    check(&repo(twice), "a second [[repo]] for \"acme/a\"");
    let unsigned = repo("forge = \"github\"\nname = \"acme/a\"").replace("hook_secret = ", "# ");
    check(&unsigned, "nobody can sign for \"acme/a\"");
}

#[test]
fn asking_takes_a_webhooks_place() {
    let forge = "[[forge]]\nname = \"github\"\nkind = \"github\"\ntoken = \"0123456789abcdef\"\n";
    let repo = |keys: &str| format!("{forge}[[repo]]\nforge = \"github\"\nname = \"acme/shop\"\n{keys}\n");
    let read = |text: &str| load::from_text(text, Path::new("/"));
    let poll = |text: &str| {
        let server = read(text).unwrap_or_else(|problems| panic!("{text}: {problems}")).server;
        server.forges.rules(&"github/acme/shop".parse().expect("legal")).expect("configured").poll
    };
    assert_eq!(poll(&repo("poll = \"1m\"")), Some(Duration::from_secs(60)), "no secret is needed");
    assert_eq!(poll(&repo("hook_secret = \"0123456789abcdef\"")), None);
    let defaults = format!("[defaults]\npoll = \"90s\"\nhook_secret = \"0123456789abcdef\"\n{}", repo(""));
    assert_eq!(poll(&defaults), Some(Duration::from_secs(90)));
    assert_eq!(poll(&defaults.replace("acme/shop\"", "acme/shop\"\npoll = \"off\"")), None);

    let refused = |text: &str, part: &str| {
        let problems = read(text).expect_err(text);
        assert!(problems.to_string().contains(part), "{part} in {problems}");
    };
    refused(&repo("poll = \"9s\""), "`repo.poll` must be 10s or longer");
    refused(&repo("poll = \"often\""), "`repo.poll` is \"off\" or a duration, not \"often\"");
    refused(&repo("poll = \"off\""), "nobody can sign for \"acme/shop\"");
    refused("[server]\nsweep = \"1s\"", "`server.sweep` must be 10s or longer");
    let sweep = |text: &str| read(text).expect("good").server.sweep;
    assert_eq!((sweep(""), sweep("[server]\nsweep = \"off\"")), (Some(Duration::from_secs(300)), None));
    let glob = read(&repo("poll = \"1m\"").replace("acme/shop", "acme/*")).expect("good").warnings;
    assert!(glob.iter().any(|problem| problem.message.starts_with("poll can't begin with \"acme/*\"")), "{glob:?}");
}

/// The binary, far from this machine's own configuration.
fn hookmill(dir: &Path, args: &[&str]) -> (i32, String, String) {
    let cache = tempfile::tempdir().expect("a temporary folder");
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_hookmill"))
        .args(args)
        .current_dir(dir)
        .env_clear()
        .env("XDG_CACHE_HOME", cache.path())
        .stdin(std::process::Stdio::null())
        .output()
        .expect("the binary starts");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code().expect("it exits"), text(output.stdout), text(output.stderr))
}

#[test]
fn check_refuses_an_empty_secret_and_names_file_line_and_key() {
    let dir = folder(&[
        (
            "hookmill.toml",
            "[[forge]]\nname = \"github\"\nkind = \"github\"\ntoken_file = \"token\"\nhook_secret_file = \"secret\"\n",
        ),
        ("token", "a-token-of-enough-bytes\n"),
        ("secret", "\n"),
    ]);
    let (code, out, err) = hookmill(dir.path(), &["check"]);
    assert_eq!((code, out.as_str()), (2, ""));
    for part in ["hookmill.toml:5:20", "`forge.hook_secret_file`", "is empty", "^^^^", "openssl rand -hex 32"] {
        assert!(err.contains(part), "{part} in\n{err}");
    }
}

#[test]
fn check_looks_at_the_repository_too() {
    let dir = folder(&[
        ("a/.hookmill.toml", "[bundle]\noutputt = \"dist\"\n"),
        ("b/.hookmill.toml", "[bundle]\noutput = \"dist\"\n"),
    ]);
    let (code, _, err) = hookmill(dir.path(), &["check", "a"]);
    assert_eq!(code, 2);
    assert!(err.contains("a/.hookmill.toml:2:1") && err.contains("did you mean `output`?"), "{err}");
    assert_eq!(
        hookmill(dir.path(), &["check", "b"]),
        (0, "b/.hookmill.toml: good\nplan of b (nothing to do): good\n".to_owned(), String::new())
    );
    assert_eq!(hookmill(dir.path(), &["check", "."]).0, 0, "a repository needs no file");
    assert_eq!(hookmill(dir.path(), &["check", "nowhere"]).0, 2);
}

#[test]
fn check_with_nothing_to_look_at_names_init_and_demo() {
    if Path::new("/etc/hookmill/hookmill.toml").exists() {
        return;
    }
    let dir = folder(&[]);
    let (code, _, err) = hookmill(dir.path(), &["check"]);
    assert_eq!(code, 2);
    assert!(err.contains("hookmill init") && err.contains("hookmill demo"), "{err}");
}

#[test]
fn strict_counts_warnings() {
    let dir = folder(&[("hookmill.toml", "[server]\nadmin_token = \"short\"\n")]);
    let (code, out, err) = hookmill(dir.path(), &["check"]);
    assert!(code == 0 && out.contains("good, with 1 warning") && err.contains("has only 5 bytes"), "{out}{err}");
    assert!(!err.contains("short"), "a secret is not shown: {err}");
    assert_eq!(hookmill(dir.path(), &["check", "--strict"]).0, 2);
}

#[test]
fn the_configurations_for_kubernetes_are_good() {
    use saphyr::{LoadableYamlNode as _, Yaml};
    let documents = Yaml::load_from_str(include_str!("../deploy/kubernetes.yaml")).expect("YAML");
    let text = |document: &Yaml, path: &[&str]| {
        let found = path.iter().try_fold(document, |at, key| at.as_mapping_get(key))?;
        found.as_str().map(str::to_owned)
    };
    let maps = documents.iter().filter(|document| text(document, &["kind"]).as_deref() == Some("ConfigMap"));
    let of = |name: &str| {
        let map = maps.clone().find(|map| text(map, &["metadata", "name"]).as_deref() == Some(name));
        text(map.expect("a ConfigMap of that name"), &["data", "hookmill.toml"]).expect("the file")
    };
    let (serve, agent) = (of("hookmill-serve"), of("hookmill-agent"));
    let secret = "a-secret-of-at-least-sixteen-bytes";
    let common = [
        ("secrets/store-url", "postgres://hookmill@localhost/hookmill"),
        ("secrets/blobs-key", secret),
        ("secrets/github-token", secret),
    ];
    let servers = [("secrets/admin-token", secret), ("secrets/github-hook", secret), ("hookmill.toml", &serve)];
    let serves = folder(&[common.as_slice(), &servers].concat());
    let (code, out, err) = hookmill(serves.path(), &["check", "--strict"]);
    assert!(code == 0 && out.contains("1 forge, 1 [[repo]] block: good"), "{out}{err}");

    let runs = folder(&[common.as_slice(), &[("hookmill.toml", &agent)]].concat());
    let (code, out, err) = hookmill(runs.path(), &["check", "--strict", "--agent"]);
    assert!(code == 0 && out.contains("1 forge, 1 [[repo]] block: good"), "{out}{err}");
    let (code, _, err) = hookmill(runs.path(), &["check"]);
    assert!(code == 2 && err.contains("nobody can sign for \"acme/*\""), "a server needs more: {err}");
}

/// A container's word goes over its Pod's.
#[test]
fn both_examples_for_kubernetes_confine_steps_alike() {
    use saphyr::{LoadableYamlNode as _, Yaml};
    fn at<'a, 'y>(node: &'a Yaml<'y>, path: &[&str]) -> Option<&'a Yaml<'y>> {
        path.iter().try_fold(node, |node, key| node.as_mapping_get(key))
    }
    let documents = |text: &'static str| Yaml::load_from_str(text).expect("YAML");
    let pod = documents(include_str!("../deploy/pod.yaml"));
    let all = documents(include_str!("../deploy/kubernetes.yaml"));
    let is_agent = |one: &&Yaml<'_>| at(one, &["kind"]).and_then(Yaml::as_str) == Some("StatefulSet");
    let agent = all.iter().find(is_agent).and_then(|set| at(set, &["spec", "template", "spec"])).expect("agents");
    let pod = at(&pod[0], &["spec"]).expect("a Pod");

    let of_pod = ["hostUsers", "automountServiceAccountToken", "terminationGracePeriodSeconds"];
    let of_either = [
        "runAsNonRoot",
        "runAsUser",
        "runAsGroup",
        "fsGroup",
        "seccompProfile",
        "appArmorProfile",
        "procMount",
        "allowPrivilegeEscalation",
        "capabilities",
    ];
    let settings = |spec| {
        let container = at(spec, &["containers"]).and_then(|list| list.as_sequence_get(0)).expect("a container");
        let said = |key| {
            let own = at(container, &["securityContext", key]);
            own.or_else(|| at(spec, &["securityContext", key])).unwrap_or_else(|| panic!("no {key}"))
        };
        let whole = of_pod.map(|key| (key, at(spec, &[key]).unwrap_or_else(|| panic!("no {key}"))));
        whole.into_iter().chain(of_either.map(|key| (key, said(key)))).collect::<Vec<_>>()
    };
    assert_eq!(settings(pod), settings(agent));
}

#[test]
fn init_writes_what_check_accepts_and_hook_prints() {
    use std::os::unix::fs::PermissionsExt;
    let dir = folder(&[("token", "gtea_0123456789abcdef0123\n")]);
    let init = [
        "init",
        "ci",
        "--forge",
        "gitea",
        "--forge-url",
        "http://git.lan:3000/",
        "--repo",
        "Acme/Shop",
        "--public-url",
        "http://ci.lan:4665",
        "--token-file",
        "token",
    ];
    let (code, out, err) = hookmill(dir.path(), &init);
    assert_eq!((code, err.as_str()), (0, ""), "{out}");
    for part in [
        "http://ci.lan:4665/hooks/gitea/Acme/Shop",
        "http://git.lan:3000/Acme/Shop/settings/hooks/gitea/new",
        "application/json",
        "ALLOWED_HOST_LIST = external,ci.lan",
        "write:repository",
        "hookmill serve --config ci/hookmill.toml",
    ] {
        assert!(out.contains(part), "{part} in\n{out}");
    }
    let mode = |name: &str| std::fs::metadata(dir.path().join(name)).expect(name).permissions().mode() & 0o777;
    assert_eq!(
        (mode("ci/secrets"), mode("ci/secrets/admin-token"), mode("ci/secrets/Acme-Shop-hook")),
        (0o700, 0o600, 0o600)
    );
    let secret = std::fs::read_to_string(dir.path().join("ci/secrets/Acme-Shop-hook")).expect("written");
    assert_eq!(secret.trim().len(), 64);
    assert!(!out.contains(secret.trim()), "init shows where the secret is, not the secret");

    let (code, out, err) = hookmill(dir.path(), &["check", "--strict", "--config", "ci/hookmill.toml"]);
    assert!(code == 0 && out.contains("1 forge, 1 [[repo]] block: good"), "{out}{err}");
    assert_eq!(err, "");

    let (code, out, _) = hookmill(dir.path(), &["hook", "add", "--print", "acme/shop", "--config", "ci/hookmill.toml"]);
    assert!(
        code == 0 && out.contains(secret.trim()) && out.contains("http://ci.lan:4665/hooks/gitea/acme/shop"),
        "{out}"
    );
    let (code, out, _) = hookmill(dir.path(), &["hook", "list", "--config", "ci/hookmill.toml"]);
    assert_eq!((code, out.as_str()), (0, "gitea/Acme/Shop\thttp://ci.lan:4665/hooks/gitea/Acme/Shop\n"));
    let (code, _, err) =
        hookmill(dir.path(), &["hook", "add", "--print", "acme/other", "--config", "ci/hookmill.toml"]);
    assert!(code == 1 && err.contains("configured are gitea/Acme/Shop"), "{err}");

    let before = std::fs::read(dir.path().join("ci/secrets/admin-token")).expect("written");
    let (code, _, err) = hookmill(dir.path(), &init);
    assert!(code == 2 && err.contains("is already there"), "{err}");
    assert_eq!(std::fs::read(dir.path().join("ci/secrets/admin-token")).expect("there"), before);
}

#[test]
fn init_for_github_needs_two_answers() {
    let dir = folder(&[]);
    let (code, _, err) = hookmill(dir.path(), &["init"]);
    assert!(code == 2 && err.contains("--forge, --repo is missing"), "{err}");
    assert_eq!(std::fs::read_dir(dir.path()).expect("there").count(), 0, "nothing is written");
    let (code, out, _) = hookmill(dir.path(), &["init", "--forge", "github", "--repo", "acme/shop"]);
    assert!(code == 0 && out.contains("Commit statuses: read and write; Contents: read-only"), "{out}");
    let (code, _, err) = hookmill(dir.path(), &["check"]);
    assert!(code == 0 && err.contains("this forge has no token"), "{err}");
}

#[test]
fn what_is_not_built_is_known_and_refused() {
    let dir = folder(&[]);
    for args in [["forge", "add", "github"].as_slice(), &["hook", "add", "acme/shop"], &["hook", "test", "acme/shop"]] {
        let (code, out, err) = hookmill(dir.path(), args);
        assert!(code == 2 && out.is_empty() && err.contains("not built yet"), "{args:?}: {err}");
    }
    assert_eq!(hookmill(dir.path(), &["bulid"]).0, 2);
    let (code, out, _) = hookmill(dir.path(), &["--help"]);
    assert!(code == 0 && out.contains("serve") && out.contains("doctor") && !out.contains("internal"), "{out}");
    assert!(hookmill(dir.path(), &["completions", "bash"]).1.contains("hookmill"));
    assert!(hookmill(dir.path(), &["man"]).1.contains(".TH hookmill"));
}

#[test]
fn packages_whose_scripts_run_add_up() {
    let text = format!(
        "{FORGE}[defaults]\nscript_packages = [\"esbuild\"]\nscripts = \"listed\"\n\
         [[repo]]\nforge = \"github\"\nname = \"acme/*\"\nscript_packages = [\"@acme/icons\"]\n\
         [[repo]]\nforge = \"github\"\nname = \"acme/old\"\nscripts = \"none\"\n"
    );
    let loaded = load::from_text(&text, Path::new("/")).unwrap_or_else(|problems| panic!("{problems}"));
    let scripts = |repo: &str| loaded.server.forges.rules(&repo.parse().expect("legal")).expect("configured").scripts;
    assert_eq!(scripts("github/acme/shop").words(), "run for @acme/icons esbuild");
    assert_eq!(scripts("github/acme/old").words(), "do not run");
    for name in ["-g", "../x", "a/b", "@a", "a@1", ""] {
        let text = format!("[defaults]\nscripts = \"listed\"\nscript_packages = [{name:?}]\n");
        let said = load::from_text(&text, Path::new("/")).expect_err(name).to_string();
        assert!(said.contains("is not a package's name"), "{said}");
    }
    let idle = format!("{FORGE}[[repo]]\nforge = \"github\"\nname = \"acme/a\"\nscript_packages = [\"esbuild\"]\n");
    let warned = load::from_text(&idle, Path::new("/")).unwrap_or_else(|problems| panic!("{problems}")).warnings;
    assert!(warned.iter().any(|warning| warning.to_string().contains("changes nothing")), "{warned:?}");
}

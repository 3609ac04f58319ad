//! Tools that a step wants: from `PATH`, from the registry, from a mirror, and what is refused.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use hookmill::config::secret::Secret;
use hookmill::config::server::{Access, Network, Registry as Configured};
use hookmill::config::surroundings::Surroundings;
use hookmill::domain::spec::Wanted;
use hookmill::toolchain::{self, Outfit, Supply, Toolchain, Unmet};
use serde_json::json;
use sha2::{Digest, Sha224, Sha512};
use tempfile::TempDir;
use url::Url;

use crate::support::registry::{Package, Registry};
use crate::support::way_out::Proxy;

/// What node's binaries are called for this machine.
fn platform() -> String {
    let os = if cfg!(target_os = "macos") { "darwin" } else { "linux" };
    format!("{os}-{}", if cfg!(target_arch = "aarch64") { "arm64" } else { "x64" })
}

fn wanted(tool: &str, version: &str) -> Wanted {
    let asked_by = if tool == "node" { ".nvmrc" } else { "package.json packageManager" };
    Wanted { tool: tool.to_owned(), version: version.to_owned(), asked_by: asked_by.to_owned(), hash: None }
}

fn node(version: &str) -> Package {
    Package::new(&format!("node-{}", platform()), version).program("bin/node", &format!("#!/bin/sh\necho v{version}\n"))
}

fn npm(version: &str, engines: &str) -> Package {
    Package::new("npm", version)
        .field("engines", json!({ "node": engines }))
        .field("bin", json!({ "npm": "./bin/npm-cli.js", "npx": "./bin/npx-cli.js" }))
        .file("bin/npm-cli.js", "#!/usr/bin/env node\n")
        .file("bin/npx-cli.js", "#!/usr/bin/env node\n")
}

/// An agent with node 20.20.2 and npm 11.19.1 in a folder of their own.
struct Agent {
    dir: TempDir,
    registry: Registry,
}

impl Agent {
    fn new() -> Agent {
        Agent::with(Registry::start())
    }

    /// One whose npm goes to this registry.
    fn with(registry: Registry) -> Agent {
        let agent = Agent { dir: tempfile::tempdir().expect("a folder"), registry };
        let own = agent.own();
        agent.program("node", &format!("echo v20.20.2; echo {}/node", own.display()));
        agent.program("npm", &format!("echo {}", agent.registry.url()));
        fs::write(own.parent().expect("a prefix").join("package.json"), r#"{"name": "npm", "version": "11.19.1"}"#)
            .expect("a manifest");
        for version in ["18.20.8", "22.1.0", "22.23.3", "23.1.0"] {
            agent.registry.publish(&node(version));
        }
        for (version, engines) in
            [("9.9.4", "^14.17.0 || >=18.0.0"), ("10.9.9", "^18.17.0 || >=20.5.0"), ("11.21.2", ">=20.17.0")]
        {
            agent.registry.publish(&npm(version, engines));
        }
        agent
    }

    /// The folder of the agent's own tools.
    fn own(&self) -> PathBuf {
        self.dir.path().join("own/bin")
    }

    fn tools(&self) -> PathBuf {
        self.dir.path().join("data/tools")
    }

    fn program(&self, name: &str, script: &str) {
        let path = self.own().join(name);
        fs::create_dir_all(self.own()).expect("a folder");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).expect("a script");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
    }

    async fn supply(&self, mirror: Option<Url>) -> Supply {
        self.supply_with(mirror, &[]).await
    }

    async fn supply_with(&self, mirror: Option<Url>, registries: &[Configured]) -> Supply {
        let path = std::env::join_paths([self.own().as_path(), Path::new("/usr/bin"), Path::new("/bin")]);
        let toolchain = Toolchain::look(&path.expect("a PATH")).await;
        Supply::new(Arc::new(toolchain), self.tools(), mirror, &Network::default(), registries)
    }

    async fn outfit(&self, wanted: &[Wanted]) -> Result<Outfit, Unmet> {
        self.supply(None).await.outfit(wanted).await
    }

    async fn refused(&self, wanted: Wanted) -> String {
        self.outfit(&[wanted]).await.expect_err("it can't be had").to_string()
    }

    /// What is kept, hidden files apart.
    fn kept(&self) -> Vec<String> {
        let entries = fs::read_dir(self.tools()).into_iter().flatten().flatten();
        let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.retain(|name| !name.ends_with(".lock"));
        names.sort();
        names
    }
}

fn given(outfit: &Outfit) -> Vec<String> {
    outfit.given.iter().map(ToString::to_string).collect()
}

/// What a program on the outfit's path prints.
fn says(outfit: &Outfit, program: &str, arguments: &[&str]) -> String {
    let path = std::env::join_paths(&outfit.path).expect("a PATH");
    let output = Command::new("/usr/bin/env")
        .arg("-i")
        .arg(format!("PATH={}", path.to_string_lossy()))
        .arg(program)
        .args(arguments)
        .current_dir("/")
        .output()
        .expect("env is there");
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

#[tokio::test]
async fn a_version_on_path_that_fits_is_used() {
    let agent = Agent::new();
    for version in ["20", ">=18", "^16 || ^20.1", "*", "lts/iron"] {
        let outfit = agent.outfit(&[wanted("node", version), wanted("npm", "11.x")]).await.expect("on PATH");
        assert_eq!(outfit.path[0], agent.own(), "{version}");
        assert_eq!(
            given(&outfit),
            ["node 20.20.2 (asked by .nvmrc)", "npm 11.19.1 (asked by package.json packageManager)"]
        );
    }
    assert!(agent.registry.asked().is_empty(), "nobody had to be asked");
}

#[tokio::test]
async fn another_node_comes_from_the_registry_with_an_npm_that_runs_on_it() {
    let agent = Agent::new();
    let outfit = agent.outfit(&[wanted("node", "18")]).await.expect("fetched");
    let tools = agent.tools();
    assert_eq!(outfit.path[..2], [tools.join("npm-10.9.9/.bin"), tools.join("node-18.20.8/bin")]);
    assert!(!outfit.path.contains(&agent.own()), "PATH's own node is not on it: {:?}", outfit.path);
    assert!(outfit.path.contains(&PathBuf::from("/usr/bin")));
    assert_eq!(given(&outfit), ["node 18.20.8 (asked by .nvmrc)", "npm 10.9.9 (asked by node 18.20.8)"]);
    assert_eq!(says(&outfit, "node", &[]), "v18.20.8");
    assert_eq!(says(&outfit, "npx", &[]), "v18.20.8", "npm's programs run on this node");
    assert_eq!(agent.kept(), ["node-18.20.8", "npm-10.9.9"]);

    let before = agent.registry.asked().len();
    assert_eq!(agent.outfit(&[wanted("node", "18.x")]).await.expect("kept"), outfit);
    assert_eq!(agent.registry.asked().len(), before, "what is kept is not asked for again");
}

#[tokio::test]
async fn many_builds_at_once_fetch_it_once() {
    let agent = Agent::new();
    let supply = agent.supply(None).await;
    let wishes = [wanted("node", "22")];
    let (a, b, c) = tokio::join!(supply.outfit(&wishes), supply.outfit(&wishes), supply.outfit(&wishes));
    for outfit in [a, b, c] {
        assert_eq!(outfit.expect("fetched").path[1], agent.tools().join("node-22.23.3/bin"));
    }
    let file = format!("/node-{0}/-/node-{0}-22.23.3.tgz", platform());
    assert_eq!(agent.registry.times(&file), 1);
}

#[tokio::test]
async fn what_nobody_has_is_named_with_what_there_is() {
    let agent = Agent::new();
    let package = format!("node-{}", platform());
    let check = async |version: &str, expected: String| {
        assert_eq!(agent.refused(wanted("node", version)).await, expected);
    };
    check("99", format!("node 99 is asked for by .nvmrc; the registry's {package} has up to 23.1.0")).await;
    check(
        "21",
        format!("node 21 is asked for by .nvmrc; the registry's {package} has 18.20.8 and 22.1.0, none between"),
    )
    .await;
    check("banana", ".nvmrc asks for node \"banana\", which is no version that npm could read".to_owned()).await;
    assert_eq!(
        agent.refused(wanted("pnpm", "9.1.0")).await,
        "pnpm 9.1.0 is asked for by package.json packageManager; the registry's pnpm has none"
    );
    assert!(agent.kept().is_empty());
}

#[tokio::test]
async fn without_the_registrys_digest_nothing_is_unpacked() {
    let agent = Agent::new();
    let other = node("18.0.0").tarball();
    let wrong = format!("sha512-{}", {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(Sha512::digest(other))
    });
    for (version, claim, why) in [
        ("19.1.0", wrong.as_str(), "does not have the digest"),
        ("19.2.0", "", "names no sha512 digest"),
        ("19.3.0", "sha1-qZk+NkcGgWq6PiVxeFDCbJzQ2J0=", "names no sha512 digest"),
    ] {
        agent.registry.publish(&node(version).claiming(claim));
        let unmet = agent.outfit(&[wanted("node", version)]).await.expect_err("refused");
        assert!(unmet.to_string().contains(why), "{unmet}");
        assert!(!unmet.is_the_repositorys() && !unmet.may_pass());
    }
    // Its npm may have been fetched beside it, and is as good as ever.
    assert!(!agent.kept().iter().any(|name| name.contains("node")), "{:?}", agent.kept());
}

#[tokio::test]
async fn an_outage_passes_and_leaves_nothing_half_made() {
    let agent = Agent::new();
    agent.registry.fail(usize::MAX);
    let unmet = agent.outfit(&[wanted("node", "22")]).await.expect_err("nobody answers");
    assert!(unmet.may_pass() && !unmet.is_the_repositorys(), "{unmet}");
    assert!(unmet.to_string().contains("answered 503"), "{unmet}");
    assert!(agent.kept().is_empty(), "{:?}", agent.kept());
    // One that fails now and then is no outage.
    agent.registry.fail(1);
    agent.outfit(&[wanted("node", "22")]).await.expect("tried again");
}

#[tokio::test]
async fn the_hash_that_a_repository_names_has_to_hold() {
    let agent = Agent::new();
    let pnpm = Package::new("pnpm", "9.1.0")
        .field("bin", json!({ "pnpm": "bin/pnpm.cjs" }))
        .file("bin/pnpm.cjs", "#!/usr/bin/env node\n");
    agent.registry.publish(&pnpm);
    let berry = Package::new("@yarnpkg/cli-dist", "4.5.0")
        .field("bin", json!({ "yarn": "bin/yarn.js" }))
        .file("bin/yarn.js", "#!/usr/bin/env node\n");
    agent.registry.publish(&berry);
    let archive = format!("sha512.{}", hex::encode(Sha512::digest(pnpm.tarball())));
    let file = format!("sha224.{}", hex::encode(Sha224::digest("#!/usr/bin/env node\n")));
    let hashed =
        |tool: &str, version: &str, hash: &str| Wanted { hash: Some(hash.to_owned()), ..wanted(tool, version) };
    agent.outfit(&[hashed("pnpm", "9.1.0", &archive)]).await.expect("its archive");
    agent.outfit(&[hashed("yarn", "4.5.0", &file)]).await.expect("its one file");
    // Also of what is kept.
    let unmet = agent.outfit(&[hashed("yarn", "4.5.0", "sha224.00112233445566778899")]).await.expect_err("wrong");
    assert!(unmet.is_the_repositorys());
    assert_eq!(
        unmet.to_string(),
        format!(
            "package.json packageManager says that yarn 4.5.0 hashes to sha224.001122334455…, and it hashes to {}…; \
             correct the hash",
            &file[..19]
        )
    );
}

#[tokio::test]
async fn each_manager_has_its_package() {
    let agent = Agent::new();
    let script = |name: &str, version: &str, tool: &str| {
        Package::new(name, version)
            .field("bin", json!({ tool: "bin/cli.js" }))
            .file("bin/cli.js", "#!/usr/bin/env node\n")
    };
    // corepack's: which yarn it would be is in package.json, and it would go to the network for it.
    agent.program("yarn", "echo corepack; exit 1");
    agent.registry.publish(&script("yarn", "1.22.22", "yarn"));
    agent.registry.publish(&script("yarn", "2.4.3", "yarn"));
    agent.registry.publish(&script("@yarnpkg/cli-dist", "4.5.0", "yarn"));
    agent.registry.publish(&script("bower", "1.8.14", "bower"));
    let check = async |tool: &str, version: &str, kept: &str| {
        let outfit = agent.outfit(&[wanted(tool, version)]).await.unwrap_or_else(|unmet| panic!("{unmet}"));
        assert_eq!(outfit.path[0], agent.tools().join(kept).join(".bin"), "{tool} {version}");
        assert!(outfit.path[0].join(tool).is_file());
    };
    check("yarn", "*", "yarn-1.22.22").await;
    check("yarn", "1", "yarn-1.22.22").await;
    check("yarn", "4.5.0", "yarn-4.5.0").await;
    check("yarn", ">=2", "yarn-4.5.0").await;
    check("bower", "1.8", "bower-1.8.14").await;
    check("npm", "9", "npm-9.9.4").await;
}

#[tokio::test]
async fn node_from_a_mirror_is_checked_against_its_sums() {
    let agent = Agent::new();
    let mirror = Mirror::new(agent.dir.path());
    let supply = agent.supply(Some(mirror.url())).await;
    let outfit = supply.outfit(&[wanted("node", "16")]).await.expect("fetched");
    assert_eq!(says(&outfit, "node", &[]), "v16.20.2");
    let unmet = supply.outfit(&[wanted("node", "14")]).await.expect_err("its sum is another's");
    assert!(unmet.to_string().contains("does not have the digest in SHASUMS256.txt"), "{unmet}");
    let unmet = supply.outfit(&[wanted("node", "12")]).await.expect_err("not for this platform");
    assert!(unmet.to_string().ends_with(&format!("for {} has 14.21.3 and newer", platform())), "{unmet}");
}

#[tokio::test]
async fn a_registry_that_wants_a_token_gets_it_and_says_so_else() {
    let agent = Agent::with(Registry::refusing_without("npm_0123"));
    let base = agent.registry.url();
    let configured = |url: &str, access| Configured {
        url: Url::parse(url.trim_end_matches('/')).expect("an address"),
        scopes: Vec::new(),
        repos: vec!["**".to_owned()],
        access,
    };
    let token = |text: &str| Access::Token(Secret::new(text));
    let fetched = async |registries: &[Configured]| {
        let supply = agent.supply_with(None, registries).await;
        supply.outfit(&[wanted("node", "22")]).await.map_err(|unmet| unmet.to_string())
    };
    let check = async |registries: &[Configured], mend: String| {
        let refused = fetched(registries).await.expect_err("no token");
        assert!(refused.contains("answered 401") && refused.contains(&mend), "{refused}");
    };
    let write = format!("write a [[registry]] with url = \"{base}\"");
    check(&[], write.clone()).await;
    check(&[configured(&base, Access::Open)], write.clone()).await;
    // Another registry's token stays with the other.
    check(&[configured(&format!("{base}other"), token("npm_0123"))], write).await;
    check(&[configured(&base, token("npm_9"))], format!("correct the token of the [[registry]] with url = \"{base}\""))
        .await;
    check(&[configured(&base, Access::Withheld)], "a fork's build is given no token".to_owned()).await;
    fetched(&[configured(&base, token("npm_0123"))]).await.expect("opened by the token");
    // What is kept is everybody's.
    fetched(&[configured(&base, Access::Withheld)]).await.expect("kept");
}

#[tokio::test]
async fn a_resolver_comes_with_its_modules_through_the_registry_that_wants_a_token() {
    let agent = Agent::with(Registry::refusing_without("npm_0123"));
    let here = Toolchain::look(&std::env::var_os("PATH").expect("a PATH")).await;
    let real = |tool: &str| here.require(tool).unwrap_or_else(|missing| panic!("{missing}")).path.clone();
    // The real one, but for where it is configured to go.
    agent.program(
        "npm",
        &format!(
            "[ \"$1\" = config ] && echo {} && exit\nexec {} {} \"$@\"",
            agent.registry.url(),
            real("node").display(),
            real("npm").display()
        ),
    );
    agent.registry.publish(&npm("6.14.18", "*"));
    agent.registry.publish(&Package::new("q", "1.5.1"));
    agent.registry.publish(
        &Package::new("bower-npm-resolver", "0.11.0")
            .field("dependencies", json!({ "q": "1.5.1" }))
            .field("scripts", json!({ "postinstall": "touch ran" })),
    );
    let registry = Configured {
        url: Url::parse(&agent.registry.url()).expect("an address"),
        scopes: Vec::new(),
        repos: vec!["**".to_owned()],
        access: Access::Token(Secret::new("npm_0123")),
    };
    let supply = agent.supply_with(None, &[registry]).await;
    let outfit = supply.outfit(&[wanted("bower-npm-resolver", "*")]).await.unwrap_or_else(|unmet| panic!("{unmet}"));
    let home = agent.tools().join("bower-npm-resolver-0.11.0");
    assert_eq!(outfit.modules, [home.join("node_modules")]);
    assert!(!outfit.path.iter().any(|folder| folder.starts_with(&home)));
    for module in ["bower-npm-resolver", "q", "npm"] {
        assert!(outfit.modules[0].join(module).join("package.json").is_file(), "{module}");
    }
    assert!(!outfit.modules[0].join("bower-npm-resolver/ran").exists(), "no script is run");
    let left: Vec<_> = fs::read_dir(&home).expect("kept").map(|entry| entry.expect("readable").file_name()).collect();
    assert!(!left.iter().any(|name| [".npmrc", ".downloads"].iter().any(|own| name == own)), "{left:?}");
}

/// A mirror of node's own downloads with one good version, one with a wrong sum, and one for another platform.
struct Mirror {
    address: std::net::SocketAddr,
    serving: tokio::task::AbortHandle,
}

impl Mirror {
    fn new(dir: &Path) -> Mirror {
        let root = dir.join("mirror");
        let platform = platform();
        for version in ["v16.20.2", "v14.21.3"] {
            let folder = root.join(version);
            fs::create_dir_all(&folder).expect("a folder");
            let archive = node(version.trim_start_matches('v')).tarball();
            let mut sum = hex::encode(sha2::Sha256::digest(&archive));
            if version == "v14.21.3" {
                sum = sum.chars().rev().collect();
            }
            let name = format!("node-{version}-{platform}.tar.gz");
            fs::write(folder.join(&name), archive).expect("a file");
            fs::write(folder.join("SHASUMS256.txt"), format!("00ff  other.tar.gz\n{sum}  {name}\n")).expect("a file");
        }
        let files = if cfg!(target_os = "macos") { platform.replace("darwin", "osx") + "-tar" } else { platform };
        let index = json!([
            { "version": "v16.20.2", "files": ["headers", files] },
            { "version": "v14.21.3", "files": [files] },
            { "version": "v12.22.12", "files": ["aix-ppc64"] },
        ]);
        fs::write(root.join("index.json"), index.to_string()).expect("a file");
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("bound");
        listener.set_nonblocking(true).expect("a socket");
        let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
        let router = axum::Router::new().fallback(move |uri: axum::http::Uri| {
            let file = fs::read(root.join(uri.path().trim_start_matches("/dist/")));
            async move { file.map_err(|_| axum::http::StatusCode::NOT_FOUND) }
        });
        let serving = tokio::spawn(async move { axum::serve(listener, router).await.expect("loopback") });
        Mirror { address, serving: serving.abort_handle() }
    }

    fn url(&self) -> Url {
        // As the configuration hands it on, without a slash at the end.
        Url::parse(&format!("http://{}/dist", self.address)).expect("an address")
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

#[tokio::test]
async fn an_agent_without_npm_says_what_it_needs() {
    let dir = tempfile::tempdir().expect("a folder");
    let toolchain = Toolchain::look(OsStr::new("/nonexistent")).await;
    let supply = Supply::new(Arc::new(toolchain), dir.path().join("tools"), None, &Network::default(), &[]);
    let unmet = supply.outfit(&[wanted("node", "18")]).await.expect_err("no registry").to_string();
    assert!(unmet.starts_with("npm is not installed on the agent"), "{unmet}");
}

/// A supply from the registry that npm is configured for here.
async fn real_supply(tools: &Path) -> Supply {
    let network = Surroundings::of_this_process().expect("an environment").network();
    let toolchain = Toolchain::look(&std::env::var_os("PATH").expect("a PATH")).await;
    Supply::new(Arc::new(toolchain), tools.to_owned(), None, &network, &[])
}

/// The registry that npm is configured for here, and real tools of it.
#[tokio::test]
async fn real_tools_run() {
    let dir = tempfile::tempdir().expect("a folder");
    let supply = real_supply(&dir.path().join("tools")).await;
    let wishes = [
        wanted("node", "18.20.8"),
        Wanted {
            // As `corepack use yarn@4.5.0` writes it into package.json.
            hash: Some("sha512.837566d24eec14ec0f5f1411adb544e892b3454255e61fdef8fd05f3429480102806bac7446bc9daff3896b01ae4b62d00096c7e989f1596f2af10b927532f39".to_owned()),
            ..wanted("yarn", "4.5.0")
        },
        wanted("pnpm", "*"),
        wanted("bun", "1.1.0"),
        wanted("bower", "1.8"),
    ];
    let outfit = supply.outfit(&wishes).await.unwrap_or_else(|unmet| panic!("{unmet}"));
    assert_eq!(says(&outfit, "node", &["-v"]), "v18.20.8");
    assert_eq!(says(&outfit, "yarn", &["--version"]), "4.5.0");
    assert_eq!(says(&outfit, "bun", &["--version"]), "1.1.0");
    assert_eq!(says(&outfit, "bower", &["--version"]), "1.8.14");
    for manager in ["npm", "pnpm"] {
        let version = &outfit.given.iter().find(|given| given.tool == manager).expect("given").version;
        assert_eq!(&says(&outfit, manager, &["--version"]), version);
    }
}

/// `host:port` that a program of an outfit wants to reach first. It knows nobody's settings, only a proxy that answers
/// nothing.
fn goes_first_to(outfit: &Outfit, program: &[&str]) -> String {
    let (proxy, home) = (Proxy::to(&[]), tempfile::tempdir().expect("a folder"));
    // bower takes the folder's name for the project's, and is strict with names.
    let project = home.path().join("shop");
    fs::create_dir(&project).and_then(|()| fs::write(project.join("package.json"), "{}")).expect("a project");
    let mut command = Command::new("/usr/bin/env");
    command.arg("-i").arg(format!("PATH={}", std::env::join_paths(&outfit.path).expect("a PATH").to_string_lossy()));
    command.arg(format!("HOME={}", home.path().display())).arg(format!("https_proxy={}", proxy.url()));
    command.args(program).current_dir(&project).stdin(Stdio::null()).stdout(Stdio::null());
    let mut going = command.spawn().expect("env is there");
    let patience = Instant::now() + Duration::from_secs(60);
    let asked = loop {
        let first = proxy.asked().first().cloned();
        let ended = going.try_wait().expect("a child");
        match first {
            Some(asked) => break asked,
            None if ended.is_some() || Instant::now() > patience => panic!("{program:?} asked nobody: {ended:?}"),
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    going.kill().and_then(|()| going.wait()).expect("it ends");
    asked.strip_prefix("CONNECT ").expect("https").to_owned()
}

/// As a proxy is asked for it.
fn host(url: &Url) -> String {
    format!("{}:{}", url.host_str().expect("a host"), url.port_or_known_default().expect("https"))
}

#[tokio::test]
async fn yarn_1_says_which_registry_its_lockfiles_name() {
    let dir = tempfile::tempdir().expect("a folder");
    let supply = real_supply(dir.path()).await;
    let own = toolchain::yarns_own_registry(&supply).await.expect("the registry has yarn");
    // Nor did it run, or leave, compiled code where everybody writes: yarn names that after its own path.
    let compiled = format!("/tmp/v8-compile-cache-{}", rustix::process::getuid().as_raw());
    let versions = fs::read_dir(compiled).into_iter().flatten().flatten();
    let names = versions.flat_map(|version| fs::read_dir(version.path()).into_iter().flatten().flatten());
    let here = dir.path().file_name().and_then(|name| name.to_str()).expect("a name").replace('z', "zZ");
    let left: Vec<_> =
        names.map(|entry| entry.file_name()).filter(|name| name.to_string_lossy().contains(&here)).collect();
    assert!(left.is_empty(), "{left:?}");
    for version in ["1.22.22", "1.0.2"] {
        let outfit = supply.outfit(&[wanted("yarn", version)]).await.unwrap_or_else(|unmet| panic!("{unmet}"));
        assert_eq!(goes_first_to(&outfit, &["yarn", "add", "tiny"]), host(&own), "yarn {version}");
    }
}

#[tokio::test]
async fn yarn_1_is_asked_without_anybodys_settings_and_no_later_yarn_is() {
    let agent = Agent::new();
    agent.program("yarn", &format!("env > {}/asked; echo https://yarn.test", agent.dir.path().display()));
    let manifest = agent.own().parent().expect("a prefix").join("package.json");
    fs::write(&manifest, r#"{"name": "yarn", "version": "1.22.19"}"#).expect("a manifest");
    let own = toolchain::yarns_own_registry(&agent.supply(None).await).await;
    assert_eq!(own.map(String::from).as_deref(), Some("https://yarn.test/"));
    let asked = fs::read_to_string(agent.dir.path().join("asked")).expect("it was asked");
    let of_the_shell = ["PWD=", "OLDPWD=", "SHLVL=", "_="];
    let mut given: Vec<&str> =
        asked.lines().filter(|line| !of_the_shell.iter().any(|name| line.starts_with(name))).collect();
    given.sort_unstable();
    let ["DISABLE_V8_COMPILE_CACHE=1", "HOME=/nonexistent", "NODE_DISABLE_COMPILE_CACHE=1", path] = given[..] else {
        panic!("{given:?}")
    };
    assert!(path.starts_with("PATH="), "{path}");

    fs::remove_file(agent.dir.path().join("asked")).expect("it was there");
    fs::write(&manifest, r#"{"name": "yarn", "version": "4.5.0"}"#).expect("a manifest");
    assert_eq!(toolchain::yarns_own_registry(&agent.supply(None).await).await, None, "this registry has no yarn");
    assert!(!agent.dir.path().join("asked").exists());
}

#[tokio::test]
async fn bower_is_fetched_to_say_where_it_goes() {
    let dir = tempfile::tempdir().expect("a folder");
    let supply = real_supply(dir.path()).await;
    let places = toolchain::bower_places_of(&supply).await.expect("the registry has bower");
    let outfit = supply.outfit(&[toolchain::bower()]).await.unwrap_or_else(|unmet| panic!("{unmet}"));
    let install = |what: &str| goes_first_to(&outfit, &["bower", "install", "--allow-root", what]);
    assert_eq!(install("tiny"), host(&places.registries[0]));
    assert_eq!(install("acme/tiny"), host(&places.shorthand.expect("its own")));
}

#[tokio::test]
async fn node_says_where_its_headers_are() {
    let dir = tempfile::tempdir().expect("a folder");
    let here = Toolchain::look(&std::env::var_os("PATH").expect("a PATH")).await;
    let Some(headers) = here.node_headers() else {
        eprintln!("NOT TRIED, this node's headers are a package of its distribution");
        return;
    };
    let npm = here.require("npm").unwrap_or_else(|missing| panic!("{missing}")).path.canonicalize().expect("npm's");
    let gyp = npm.ancestors().nth(2).expect("a package").join("node_modules/node-gyp/bin/node-gyp.js");
    let outfit = real_supply(dir.path()).await.outfit(&[]).await.unwrap_or_else(|unmet| panic!("{unmet}"));
    assert_eq!(goes_first_to(&outfit, &["node", &gyp.to_string_lossy(), "install"]), host(headers));
}

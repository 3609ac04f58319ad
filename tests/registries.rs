//! A company's own registry: its packages install for trusted builds with every manager, and its token is nowhere else.

use std::path::{Path, PathBuf};

use hookmill::config::secret::Secret;
use hookmill::config::server::{Access, Registry as Configured};
use hookmill::domain::outcome::Outcome;
use hookmill::domain::trust::Trust;
use serde_json::{Value, json};

use crate::support::forge::Forge;
use crate::support::managers::path_with;
use crate::support::registry::{Package, Registry};
use crate::support::runner;
use crate::support::server::{Server, Settings};

const TOKEN: &str = "npm_c0mpanyT0ken.4711";

/// Prints every command line that it can see, as an install script of a package could.
const SPY: &str = "cat /proc/[0-9]*/cmdline | tr '\\0' ' '; echo";

/// Looks for the token wherever a bundle could find it, and for the package that it opened.
const BUNDLE: &str = "env; cat ~/.npmrc ~/.yarnrc.yml 2>/dev/null; test -z \"$NPM_TOKEN\" && \
                      ! grep -rqs npm_c0mpany ~ /tmp && test -f node_modules/@acme/ui/package.json";

fn private_registry() -> Registry {
    let registry = Registry::refusing_without(TOKEN);
    registry.publish(&Package::new("@acme/ui", "1.0.0"));
    registry.publish(&Package::new("plain", "1.0.0"));
    registry
}

fn manifest(dependency: &str) -> String {
    json!({"name": "shop", "version": "1.0.0", "private": true, "dependencies": {dependency: "1.0.0"},
           "scripts": {"postinstall": SPY}})
    .to_string()
}

fn repository_file(tool: &str, command: &[&str], bundle: &str) -> String {
    format!(
        "[[install]]\ntool = {tool:?}\ncommand = {command:?}\n[bundle]\ncommand = [\"sh\", \"-c\", {}]\n",
        json!(bundle)
    )
}

/// One push to a server with a `[[registry]]`; the build and its whole log.
fn pushed(registry: &Registry, keys: &str, manager: &str, files: &[(&str, &str)]) -> (Value, String) {
    let forge = Forge::start();
    let tables = format!("[[registry]]\nurl = {:?}\ntoken = {TOKEN:?}\nrepos = [\"acme/*\"]\n{keys}\n", registry.url());
    let server = Server::start_with(&forge, Settings { tables, path: Some(path_with(manager)), ..Settings::default() });
    let repo = forge.repo("acme/shop");
    let moved = repo.push("main", files);
    let build = server.finished(server.deliver(&repo.pushed(&moved)).build());
    let log = server.log(build["id"].as_i64().expect("a number"), "");
    assert!(!log.contains(TOKEN), "the token is in the log:\n{log}");
    assert!(!server.log_text().contains(TOKEN), "the token is in the server's log");
    forge.finish();
    (build, log)
}

/// A manager installs the scoped package with the user's settings, with a committed `.npmrc` that names a variable,
/// and what it printed and left behind holds no token.
fn installs(manager: &str, tool: &str, command: &[&str]) {
    let registry = private_registry();
    let url = registry.url();
    let committed = format!("@acme:registry={url}\n{}:_authToken=${{NPM_TOKEN}}\n", url.trim_start_matches("http:"));
    let yarnrc = "nodeLinker: node-modules\nenableImmutableInstalls: false\n";
    for npmrc in ["", &committed] {
        let mut files =
            vec![("package.json", manifest("@acme/ui")), (".hookmill.toml", repository_file(tool, command, BUNDLE))];
        if manager == "berry" {
            let own = format!(
                "{yarnrc}npmScopes:\n  acme:\n    npmRegistryServer: {:?}\n    npmAuthToken: \"${{NPM_TOKEN}}\"\n",
                url.trim_end_matches('/')
            );
            files.push((".yarnrc.yml", if npmrc.is_empty() { yarnrc.to_owned() } else { own }));
        } else if !npmrc.is_empty() {
            files.push((".npmrc", npmrc.to_owned()));
        }
        let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
        let (build, log) = pushed(&registry, "scopes = [\"@acme\"]", manager, &files);
        assert_eq!(build["outcome"], "passed", "{manager}: {build:#}\n{log}");
        assert!(log.contains(command[0]), "the spy saw the command line: {log}");
    }
    let sent = registry.asked().iter().filter(|asked| asked.authorization.is_some()).count();
    assert!(sent >= 4, "{:#?}", registry.asked());
}

#[test]
fn npm() {
    installs("npm", "npm", &["npm", "install", "--no-package-lock"]);
}

#[test]
fn yarn_1() {
    installs("yarn1", "yarn", &["yarn", "install", "--no-lockfile"]);
}

#[test]
fn berry() {
    installs("berry", "yarn", &["yarn", "install"]);
}

#[test]
fn pnpm() {
    installs("pnpm", "pnpm", &["pnpm", "install", "--no-lockfile"]);
}

#[test]
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn bun() {
    installs("bun", "bun", &["bun", "install", "--no-save"]);
}

#[test]
fn without_scopes_it_is_the_default_registry() {
    for (manager, tool, command) in [
        ("npm", "npm", &["npm", "install", "--no-package-lock"][..]),
        ("yarn1", "yarn", &["yarn", "install", "--no-lockfile"][..]),
    ] {
        let registry = private_registry();
        let bundle = "test -f node_modules/plain/package.json";
        let manifest = manifest("plain");
        let file = repository_file(tool, command, bundle);
        let files = [("package.json", manifest.as_str()), (".hookmill.toml", file.as_str())];
        let (build, log) = pushed(&registry, "", manager, &files);
        assert_eq!(build["outcome"], "passed", "{manager}: {build:#}\n{log}");
    }
}

/// What a build is configured with for `registry`.
fn configured(registry: &Registry) -> Configured {
    Configured {
        url: registry.url().parse().expect("an address"),
        scopes: vec!["@acme".into()],
        repos: vec!["acme/*".into()],
        access: Access::Token(Secret::new(TOKEN)),
    }
}

#[tokio::test]
async fn a_fork_gets_no_token_and_is_told_so() {
    let registry = private_registry();
    let npmrc = format!("{}:_authToken=${{NPM_TOKEN}}\n", registry.url().trim_start_matches("http:"));
    let file = repository_file("npm", &["npm", "install", "--no-package-lock"], BUNDLE);
    let manifest = manifest("@acme/ui");
    for npmrc in ["", &npmrc] {
        let files = [("package.json", manifest.as_str()), (".npmrc", npmrc), (".hookmill.toml", file.as_str())];
        let (verdict, log) = runner::build(&files, Trust::Fork, |job| {
            job.registries = vec![configured(&registry).without_token()];
        })
        .await;
        assert_eq!(verdict.outcome, Outcome::Failed, "{verdict:?}\n{log}");
        let reason = "npm install failed: @acme/ui is private, and a fork's build gets no registry token";
        assert_eq!(verdict.reason, reason);
    }
    assert!(registry.asked().iter().all(|asked| asked.authorization.is_none()), "{:#?}", registry.asked());
}

#[tokio::test]
async fn a_repositorys_own_settings_send_the_token_nowhere_else() {
    let registry = private_registry();
    let thief = Registry::start();
    thief.publish(&Package::new("@acme/ui", "1.0.0"));
    let place = |registry: &Registry| registry.url().trim_start_matches("http:").to_owned();
    let hostile = [
        format!("@acme:registry={}\n{}:_authToken=${{NPM_TOKEN}}\n", thief.url(), place(&thief)),
        format!(
            "@acme:registry={}\n{}:_authToken=${{NPM_TOKEN}}\n{}:_authToken=${{NPM_TOKEN}}\n",
            thief.url(),
            place(&registry),
            place(&thief)
        ),
        format!("@acme:registry={}\n{}:_authToken=${{NPM_TOKEN}}\n", thief.url(), place(&registry)),
    ];
    let file = repository_file("npm", &["npm", "install", "--no-package-lock", "--ignore-scripts"], "true");
    let manifest = manifest("@acme/ui");
    for npmrc in &hostile {
        let files = [("package.json", manifest.as_str()), (".npmrc", npmrc), (".hookmill.toml", file.as_str())];
        let (verdict, log) = runner::build(&files, Trust::Member, |job| {
            job.registries = vec![configured(&registry)];
        })
        .await;
        assert_eq!(verdict.outcome, Outcome::Passed, "{npmrc}\n{verdict:?}\n{log}");
    }
    assert!(!thief.asked().is_empty());
    assert!(thief.asked().iter().all(|asked| asked.authorization.is_none()), "{:#?}", thief.asked());
}

/// Files of a server's data in which the token stands.
fn kept_in(dir: &Path) -> Vec<PathBuf> {
    let files = files_of(dir);
    let holds = |file: &PathBuf| {
        // What goes away while we look holds nothing.
        std::fs::read(file).is_ok_and(|bytes| bytes.windows(TOKEN.len()).any(|window| window == TOKEN.as_bytes()))
    };
    files.into_iter().filter(holds).collect()
}

fn files_of(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => files.extend(files_of(&entry.path())),
            Ok(kind) if kind.is_file() => files.push(entry.path()),
            _ => {}
        }
    }
    files
}

/// Waits until the token is in no file of the data directory: the trash is emptied every few seconds.
fn nothing_kept(forge: &Forge, server: &Server) {
    forge.wait(
        || kept_in(&server.data()).is_empty().then_some(()),
        || format!("the token is in {:#?}", kept_in(&server.data())),
    );
}

fn serving(forge: &Forge, registry: &Registry) -> Server {
    let url = registry.url();
    let tables =
        format!("[[registry]]\nurl = {url:?}\ntoken = {TOKEN:?}\nrepos = [\"acme/*\"]\nscopes = [\"@acme\"]\n");
    Server::start_with(forge, Settings { tables, path: Some(path_with("npm")), ..Settings::default() })
}

#[test]
fn after_a_build_the_token_is_in_no_file() {
    let registry = private_registry();
    let forge = Forge::start();
    let server = serving(&forge, &registry);
    let repo = forge.repo("acme/shop");
    let install = ["npm", "install", "--no-package-lock"];
    let npmrc = format!("{}:_authToken=${{NPM_TOKEN}}\n", registry.url().trim_start_matches("http:"));
    // One that ends in its bundle, and one that ends while HOME still has the token.
    for (script, outcome) in [("true", "passed"), ("exit 1", "failed")] {
        let manifest = json!({"name": "shop", "version": "1.0.0", "private": true, "dependencies": {"@acme/ui": "1.0.0"},
                              "scripts": {"postinstall": script}});
        let file = repository_file("npm", &install, "true");
        let files = [("package.json", manifest.to_string()), (".npmrc", npmrc.clone()), (".hookmill.toml", file)];
        let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
        let moved = repo.push("main", &files);
        let build = server.finished(server.deliver(&repo.pushed(&moved)).build());
        assert_eq!(build["outcome"], outcome, "{build:#}");
        assert_eq!(kept_in(&server.data()), Vec::<PathBuf>::new());
    }
    assert!(registry.asked().iter().any(|asked| asked.authorization.is_some()));
}

#[test]
#[cfg(target_os = "linux")]
fn a_server_killed_in_the_middle_of_an_install_leaves_no_token_when_it_is_started_again() {
    let registry = private_registry();
    let forge = Forge::start();
    let mut server = serving(&forge, &registry);
    let manifest = json!({"name": "shop", "version": "1.0.0", "private": true, "dependencies": {"@acme/ui": "1.0.0"},
                          "scripts": {"postinstall": "echo in the middle; sleep 600"}});
    let file = repository_file("npm", &["npm", "install", "--no-package-lock", "--foreground-scripts"], "true");
    let repo = forge.repo("acme/shop");
    let moved = repo.push("main", &[("package.json", &manifest.to_string()), (".hookmill.toml", &file)]);
    let build = server.deliver(&repo.pushed(&moved)).build();
    server.wrote(build, "npm", "in the middle");
    assert_eq!(in_command_lines(), Vec::<String>::new());
    let kept = kept_in(&server.data());
    assert!(kept.iter().any(|file| file.ends_with("home/.npmrc")), "while npm runs it is in HOME: {kept:#?}");
    server.kill9();
    server.restart();
    // It is queued again, and so begins anew.
    server.wait_for(build, |build| build["state"] == "running");
    assert_eq!(server.post(&format!("/api/v1/builds/{build}/cancel"), "").code / 100, 2);
    server.finished(build);
    nothing_kept(&forge, &server);
}

/// The command lines of this machine that have the token.
#[cfg(target_os = "linux")]
fn in_command_lines() -> Vec<String> {
    let entries = std::fs::read_dir("/proc").expect("Linux").flatten();
    let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    lines.filter(|line| line.contains(TOKEN)).collect()
}

//! `hookmill doctor` as an operator runs it.

use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::forge::{Forge, Kind, TOKEN};
use crate::support::server::{EXE, Server};
use crate::support::{ordinary, roots, server, way_out};

/// Runs it in an empty folder: its exit code and its two outputs.
fn doctor(args: &[&str], path: Option<&str>) -> (Option<i32>, String, String) {
    let dir = tempfile::tempdir().expect("a folder");
    let mut command = Command::new(EXE);
    command.arg("doctor").args(args).current_dir(dir.path()).env_remove("HOOKMILL_CONFIG").stdin(Stdio::null());
    if let Some(path) = path {
        command.env("PATH", path);
    }
    let output = command.output().expect("started");
    assert!(std::fs::read_dir(dir.path()).expect("a folder").next().is_none(), "it left something behind");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn findings(args: &[&str], path: Option<&str>) -> (Option<i32>, Value) {
    let (code, out, err) = doctor(&[args, &["--json"]].concat(), path);
    (code, serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}")))
}

fn finding<'a>(document: &'a Value, group: &str, name: &str) -> &'a Value {
    let all = document["findings"].as_array().expect("a list");
    let found = all.iter().find(|one| one["group"] == group && one["name"] == name);
    found.unwrap_or_else(|| panic!("no {group} {name}: {document:#}"))
}

fn text<'a>(finding: &'a Value, key: &str) -> &'a str {
    finding[key].as_str().unwrap_or_else(|| panic!("no {key}: {finding:#}"))
}

/// The server's configuration with something else in it, in a file beside.
fn changed(server: &Server, from: &str, to: &str) -> String {
    let written = std::fs::read_to_string(server.config_file()).expect("a file");
    assert!(written.contains(from), "{written}");
    let path = server.dir.path().join("changed.toml");
    std::fs::write(&path, written.replace(from, to)).expect("a file");
    path.to_str().expect("UTF-8").to_owned()
}

#[test]
fn without_a_configuration_the_machine_is_looked_at() {
    let (code, out, err) = doctor(&[], None);
    assert_eq!(code, Some(0), "{out}{err}");
    assert!(out.contains("There is no configuration") && out.contains("hookmill init"), "{out}");
    assert!(out.ends_with("Builds can run: 0 faults, 0 warnings.\n") || out.contains("warn"), "{out}");
    let long = out.lines().find(|line| line.chars().count() > 80 && !line.contains("://") && !line.contains('/'));
    assert_eq!(long, None, "{out}");
}

#[test]
fn missing_tools_are_faults_with_the_command_that_mends_them() {
    let empty = tempfile::tempdir().expect("a folder");
    let (code, document) = findings(&[], Some(empty.path().to_str().expect("UTF-8")));
    assert_eq!(code, Some(1));
    assert_eq!((&document["ok"], &document["configured"]), (&false.into(), &false.into()));
    for tool in ["node", "npm"] {
        let found = finding(&document, "tools", tool);
        assert_eq!(found["state"], "fault");
        assert!(text(found, "fix").to_lowercase().contains("install"), "{found}");
    }
    assert_eq!(finding(&document, "sandbox", "bubblewrap")["state"], "fault");
}

#[test]
fn a_running_server_with_a_good_token_is_well() {
    let forge = Forge::start();
    let server = Server::start(&forge);
    let config = server.config_file();
    let (code, document) = findings(&["--config", config.to_str().expect("UTF-8")], None);
    assert_eq!(code, Some(0), "{document:#}");
    assert!(text(finding(&document, "store", "database"), "detail").contains("the server runs"));
    assert!(text(finding(&document, "hooks", "public_url"), "detail").ends_with("answers from here"));
    assert_eq!(finding(&document, "forges", "gitea")["state"], "good");
    let git = finding(&document, "outside", &forge.git.origin());
    assert!(text(git, "detail").contains("git of github"), "{git}");
}

#[test]
fn the_heads_of_each_named_repository_are_asked_for() {
    let forge = Forge::start();
    let server = Server::start(&forge);
    let repo = forge.repo_of(Kind::Github, "acme/shop");
    repo.push("main", &[("README.md", "# Shop\n")]);
    let named = "[[repo]]\nforge = \"github\"\nname = \"acme/shop\"\n\n[[repo]]\nforge = \"github\"\nname = \"acme/absent\"\n\n\
                 [[forge]]\nname = \"gitea\"";
    let config = changed(&server, "[[forge]]\nname = \"gitea\"", named);
    let (code, document) = findings(&["--config", &config], None);
    assert_eq!(code, Some(1), "{document:#}");
    let listed = finding(&document, "heads", "github/acme/shop");
    assert!(text(listed, "detail").ends_with("lists 1 branches, main by default"), "{listed}");
    let hook = finding(&document, "heads", "github/acme/shop hook");
    assert!(hook["state"] == "warning" && text(hook, "fix").contains("hook add --print"), "{hook}");
    let absent = finding(&document, "heads", "github/acme/absent");
    assert!(absent["state"] == "fault" && text(absent, "detail").contains("HTTP 404"), "{absent}");

    forge.hook(&repo, &server.url());
    let (_, document) = findings(&["--config", &config], None);
    assert_eq!(finding(&document, "heads", "github/acme/shop hook")["state"], "good", "{document:#}");
    forge.answer_questions(Some(404));
    let (_, document) = findings(&["--config", &config], None);
    let hook = finding(&document, "heads", "github/acme/shop hook");
    assert!(hook["state"] == "warning" && text(hook, "fix").contains("admin:repo_hook"), "{hook}");
}

#[test]
fn a_broken_token_a_closed_port_and_a_full_word_on_each() {
    let forge = Forge::start();
    let mut server = Server::start(&forge);
    let broken = changed(&server, TOKEN, "t0ken-that-was-revoked");
    let (code, out, _) = doctor(&["--config", &broken], None);
    assert_eq!(code, Some(1), "{out}");
    let squeezed = out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(squeezed.contains("FAULT gitea the forge answered 401"), "{out}");
    assert!(squeezed.contains("fix: make a new token at"), "{out}");
    assert!(!out.contains("t0ken-that-was-revoked"), "{out}");

    assert_eq!(server.stop(), Some(0));
    let away = changed(&server, &forge.origin(), "http://127.0.0.1:9");
    let (code, document) = findings(&["--config", &away], None);
    assert_eq!(code, Some(1), "{document:#}");
    let closed = finding(&document, "outside", "http://127.0.0.1:9");
    assert_eq!(closed["state"], "fault");
    assert!(text(closed, "detail").contains("refused") && text(closed, "detail").contains("API of gitea"), "{closed}");
    let hooks = finding(&document, "hooks", "public_url");
    assert_eq!(hooks["state"], "warning");
    assert!(text(hooks, "fix").contains("hookmill serve"), "{hooks}");
    let store = text(finding(&document, "store", "database"), "detail");
    assert!(store.ends_with("whole") && Path::new(store.split(',').next().expect("a path")).is_file(), "{store}");
}

#[test]
fn each_root_is_entered() {
    let forge = Forge::start();
    let server = Server::start(&forge);
    let (good, broken) = (roots::with_node(), roots::with_node());
    // For another processor, or half copied.
    std::fs::write(broken.path().join("usr/bin/env"), "").expect("a file");
    std::fs::create_dir_all(good.path().join("etc/ssl")).expect("a folder");
    std::fs::write(good.path().join("etc/ssl/cert.pem"), "").expect("a file");
    let own = format!("root = \"{}\"\n\n[[forge]]\nname = \"gitea\"", broken.path().display());
    let repo = format!("[[repo]]\nforge = \"github\"\nname = \"acme/own\"\n{own}");
    let config = changed(&server, "[[forge]]\nname = \"gitea\"", &repo);
    let text_of = std::fs::read_to_string(&config).expect("a file");
    let with = text_of.replace("[sandbox]\n", &format!("[sandbox]\nroot = \"{}\"\n", good.path().display()));
    std::fs::write(&config, with).expect("a file");
    let (code, document) = findings(&["--config", &config], None);
    if finding(&document, "sandbox", "bubblewrap")["state"] == "fault" {
        eprintln!("NOT TRIED, this host has no fence");
        return;
    }
    let name = |root: &tempfile::TempDir| format!("root {}", root.path().display());
    let entered = finding(&document, "sandbox", &name(&good));
    assert_eq!(entered["state"], "good", "{entered}");
    assert!(text(entered, "detail").starts_with("Test Root 1: node "), "{entered}");
    let told = finding(&document, "sandbox", &name(&broken));
    assert!(told["state"] == "fault" && text(told, "detail").contains("does not run"), "{told}");
    assert_eq!(code, Some(1));
}

#[test]
fn a_wrong_configuration_is_told_before_anything_is_tried() {
    let (code, out, err) = doctor(&["--config", "/nonexistent.toml"], None);
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert!(err.contains("/nonexistent.toml can't be read"), "{err}");
}

#[test]
fn each_address_that_a_build_would_need_is_listed() {
    let forge = Forge::start();
    let mut server = Server::start(&forge);
    assert_eq!(server.stop(), Some(0));
    let tables = "node_mirror = \"http://127.0.0.1:9/dist\"\n\n[[registry]]\nurl = \"http://127.0.0.1:10/npm/\"\n\
                  scopes = [\"@acme\"]\ntoken = \"npm_0123456789abcdef\"\nrepos = [\"acme/*\"]\n\n[[forge]]";
    let config = changed(&server, "\n[[forge]]\nname = \"gitea\"", &format!("{tables}\nname = \"gitea\""));
    let (code, document) = findings(&["--config", &config], None);
    assert_eq!(code, Some(1), "{document:#}");
    let needed = |name: &str, by: &str| {
        let found = finding(&document, "outside", name);
        assert!(text(found, "detail").contains(by), "{found}");
    };
    needed("http://127.0.0.1:9", "other versions of node");
    needed("http://127.0.0.1:10", "@acme");
    needed(&forge.origin(), "API of gitea, API of github");
    needed(&forge.git.origin(), "git of gitea, git of github");
    needed("bower registry", "known once it is installed");
    let registries = document["findings"].as_array().expect("a list").iter();
    let npm = registries.filter(|one| one["detail"].as_str().is_some_and(|by| by.contains("npm, yarn, pnpm, bun")));
    assert_eq!(npm.count(), 1, "{document:#}");
}

/// The way of installs is tried as they go it: through our own proxy and the company's, which here speaks TLS.
#[test]
fn the_registry_is_asked_as_an_install_would_ask() {
    let forge = Forge::start();
    let mut server = Server::start(&forge);
    assert_eq!(server.stop(), Some(0));
    let far = forge.git.origin().trim_start_matches("http://").parse().expect("an address");
    let proxy = way_out::Proxy::by_tls(&[("npm.acme.test", far)]);
    let told = |ca_file: &str| {
        let network = format!("[network]\nproxy = {:?}\nno_proxy = [\"127.0.0.1\"]\n{ca_file}", proxy.url());
        let config =
            changed(&server, "\n[[forge]]\nname = \"gitea\"", &format!("\n{network}\n[[forge]]\nname = \"gitea\""));
        let mut command = Command::new(EXE);
        command.args(["doctor", "--json", "--config", &config]).env("npm_config_registry", "http://npm.acme.test/");
        let output = command.stdin(Stdio::null()).output().expect("started");
        let document: Value = serde_json::from_slice(&output.stdout).expect("a document");
        finding(&document, "outside", "install proxy").clone()
    };
    let good = told(&format!("ca_file = {:?}\n", way_out::authority()));
    assert_eq!((&good["state"], text(&good, "detail")), (&"good".into(), "http://npm.acme.test answers through it"));
    assert!(proxy.asked().iter().any(|line| line.contains("npm.acme.test")), "{:#?}", proxy.asked());
    let fault = told("");
    assert_eq!(fault["state"], "fault", "{fault}");
    assert!(text(&fault, "detail").contains("the certificate of network.proxy is not trusted"), "{fault}");
    assert!(text(&fault, "fix").contains("ca_file"), "{fault}");
}

/// What a machine lets root have, it need not let others have.
#[test]
fn all_of_this_as_an_ordinary_user() {
    server::path_with_bower();
    ordinary::again(&["cli::doctor::"]);
}

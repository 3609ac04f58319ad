//! Forges that misbehave, or are not who they say: nobody but the forge gets the token, and nobody is waited for without end.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use serde_json::Value;

use crate::strangers::settings;
use crate::strangers::traces::nothing_is_left;
use crate::support::forge::{Forge, HOOK_SECRET, TOKEN};
use crate::support::git_http::{Behaviour, GitServer};
use crate::support::server::{ADMIN, Server, Settings};
use crate::support::way_out::TlsDoor;

/// The builds of the same commit in repositories of these names, as they ended.
fn ended(forge: &Forge, server: &Server, names: &[&str]) -> Vec<Value> {
    let builds: Vec<i64> = names
        .iter()
        .map(|name| {
            let repo = forge.repo(name);
            let moved = repo.push("main", &[("README.md", &"# Shop\n".repeat(1000))]);
            if *name == "acme/gone" {
                repo.write(&[("README.md", "# Another\n")]);
                repo.git(&["commit", "-q", "-a", "--amend", "-m", "a change"]);
                repo.push_head("refs/heads/main");
                repo.git_bare(&["prune", "--expire=now"]);
            }
            server.deliver(&repo.pushed(&moved)).build()
        })
        .collect();
    builds.into_iter().map(|build| server.finished(build)).collect()
}

#[test]
fn a_forge_that_misbehaves_is_left_and_nobody_else_gets_the_token() {
    let forge = Forge::start();
    let thief = GitServer::start(forge.dir.path());
    thief.behave(Behaviour::Status(401));
    let port = thief.origin().rsplit(':').next().expect("a port").to_owned();
    let plain = forge.git.origin();
    let door = TlsDoor::before(plain.strip_prefix("http://").expect("http").parse().expect("an address"));
    forge.git.behave(Behaviour::Each(vec![
        ("/acme/port", Behaviour::Redirect(thief.origin())),
        ("/acme/host", Behaviour::Redirect(format!("http://localhost:{port}"))),
        ("/acme/hangs", Behaviour::Hang),
        ("/acme/stalls", Behaviour::Stall),
        ("/acme/drips", Behaviour::Drip),
    ]));
    let tables = format!(
        "[limits]\nstep_timeout = \"5s\"\n[[repo]]\nforge = \"gitea\"\nname = \"tls/shop\"\nhook_secret = \"{HOOK_SECRET}\"\n\
         clone_url = \"{}tls/shop.git\"\n",
        door.url()
    );
    let server = Server::start_with(&forge, Settings { slots: 8, tables, ..settings() });
    let names = ["acme/port", "acme/host", "tls/shop", "acme/gone", "acme/hangs", "acme/stalls", "acme/drips"];
    let ended = ended(&forge, &server, &names);
    let late = "the checkout took longer than 5s three times";
    for (build, words) in ended.iter().zip([
        "the credential was not sent there",
        "the credential was not sent there",
        "is not trusted",
        "is no longer at the forge (force-pushed away?)",
        late,
        late,
        late,
    ]) {
        let log = server.log(build["id"].as_i64().expect("an id"), "checkout");
        let reason = build["reason"].as_str().expect("a reason");
        assert_eq!(build["outcome"], "broken", "{build:#}");
        assert!(log.contains(words) || reason.contains(words), "{words}: {reason}\n{log}");
        let tries = log.matches("trying again").count();
        assert_eq!(tries, if words == late { 2 } else { 0 }, "only what may pass is tried again: {log}");
        // A commit that is gone has nothing to stand beside.
        if !words.contains("no longer") {
            let status = forge.final_status(build["sha"].as_str().expect("a commit"), "hookmill");
            assert_eq!(status.state, "error", "{status:?}");
        }
    }
    assert!(thief.requests().is_empty(), "not even asked: {:?}", thief.requests());
    let of_tls = |line: &str| line.contains("/tls/shop.git");
    assert!(
        !forge.git.requests().iter().any(|asked| of_tls(&asked.line)),
        "nothing was sent through a bad certificate"
    );
    nothing_is_left(&server);
}

/// What must not be seen, as it is and as HTTP writes it.
fn secrets() -> [String; 4] {
    let pair = base64::engine::general_purpose::STANDARD.encode(format!("x-access-token:{TOKEN}"));
    [TOKEN, HOOK_SECRET, ADMIN, &pair].map(str::to_owned)
}

fn shows(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    secrets().iter().any(|secret| text.contains(secret))
}

/// The processes whose list or environment shows a secret, and how many were looked at.
fn processes_that_show(server: &Server) -> (Vec<PathBuf>, usize) {
    let mut seen = 0;
    let mut shown = Vec::new();
    let own = server.pid().as_raw_nonzero().to_string();
    let processes = fs::read_dir("/proc").expect("proc").flatten().map(|entry| entry.path());
    for process in processes.filter(|process| process.join("stat").exists()) {
        let stat = fs::read_to_string(process.join("stat")).unwrap_or_default();
        let parent = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)).unwrap_or_default().to_owned();
        if process.file_name().is_some_and(|pid| pid == own.as_str()) || parent == own {
            seen += 1;
            let bytes = ["cmdline", "environ"].map(|file| fs::read(process.join(file)).unwrap_or_default()).concat();
            shown.extend(shows(&bytes).then_some(process));
        }
    }
    (shown, seen)
}

fn files_that_show(folder: &Path) -> Vec<PathBuf> {
    let mut shown = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let kind = entry.file_type().expect("known");
        if kind.is_dir() {
            shown.extend(files_that_show(&entry.path()));
        } else if kind.is_file() && shows(&fs::read(entry.path()).unwrap_or_default()) {
            shown.push(entry.path());
        }
    }
    shown
}

#[test]
fn the_token_is_in_nobodys_sight_during_and_after() {
    let forge = Forge::start();
    let repo = forge.repo("acme/shop");
    let server = Server::start_with(&forge, settings());
    // The child is looked at while it waits for the forge.
    forge.git.behave(Behaviour::Hang);
    let settings = "[bundle]\ncommand = ['node', '-e', 'setInterval(() => {}, 1000); console.log(`ready`)']\n";
    let moved = repo.push("main", &[(".hookmill.toml", settings)]);
    let build = server.deliver(&repo.pushed(&moved)).build();
    forge.wait(|| (!forge.git.requests().is_empty()).then_some(()), || "nothing was asked".to_owned());
    let (shown, seen) = processes_that_show(&server);
    assert!(seen >= 2, "the server and its child");
    assert_eq!(shown, Vec::<PathBuf>::new());
    assert_eq!(server.post(&format!("/api/v1/builds/{build}/cancel"), "").code, 202);
    server.finished(build);

    // And everything that there is on the disk while a step runs.
    forge.git.behave(Behaviour::Auth("x-access-token".to_owned(), TOKEN.to_owned()));
    let moved = repo.push("main", &[("README.md", "# Shop\n")]);
    let build = server.deliver(&repo.pushed(&moved)).build();
    server.wrote(build, "bundle", "ready");
    assert!(forge.git.requests().iter().any(|asked| asked.authorization.is_some()), "the token was needed");
    assert_eq!(processes_that_show(&server).0, Vec::<PathBuf>::new());
    assert_eq!(files_that_show(&server.data()), Vec::<PathBuf>::new());
    assert!(!files_that_show(server.dir.path()).is_empty(), "its configuration has them, so they can be found");
    assert!(!shows(server.log_text().as_bytes()));
    assert_eq!(server.post(&format!("/api/v1/builds/{build}/cancel"), "").code, 202);
    server.finished(build);
    forge.finish();
}

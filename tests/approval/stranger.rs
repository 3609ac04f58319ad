//! Nothing of a fork's commit runs, or is even fetched, before it is approved; then exactly that commit runs, by the rules
//! of the base branch, and leaves nothing to others. With real npm, bower and webpack.

use std::fs;
use std::process::Command;

use rustix::process::Signal;
use serde_json::json;

use crate::approval::{approve, audit, hookmill, pushed_to_the_fork, rules, waits_for_a_maintainer};
use crate::poisoning::shop::{Evil, Shop};
use crate::support::lockfiles::Manager;

/// What the fork would have its build be: everything that only the base branch may say.
const FORGED: &str = "[bundle]\ncommand = ['sh', '-c', 'echo forged; mkdir -p dist; echo forged > dist/main.js']\nnetwork = true\n\
                      [env]\nFORGED = 'yes'\n[[check]]\nname = 'forged'\ncommand = ['echo', 'forged']\n\
                      [artifacts]\npaths = ['dist', 'package.json']\n";

/// Whether any mirror of the server has a commit.
fn is_fetched(shop: &Shop, sha: &str) -> bool {
    let mirrors = fs::read_dir(shop.server.data().join("mirrors")).expect("a build made one").flatten();
    let mirrors = mirrors.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|ext| ext == "git"));
    mirrors.into_iter().any(|mirror| {
        let asked = Command::new("git").arg("-C").arg(mirror).args(["cat-file", "-e", sha]).output().expect("git");
        asked.status.success()
    })
}

#[test]
fn a_strangers_commit_runs_once_it_is_approved_and_not_before() {
    let shop = Shop::of(Manager::Npm);
    let (server, repo) = (&shop.server, &shop.repo);
    let first = shop.pushed("main", "one", None);
    shop.is_clean(first, "one");

    let evil = Evil::Passing.word();
    let theirs = pushed_to_the_fork(repo, &[("evil", evil), (".hookmill.toml", FORGED)]);
    let sha = &theirs.after;
    let id = server.deliver(&repo.pull_request("opened", 7, "main", sha, true)).build();
    let waiting = server.build(id);
    assert_eq!(
        (&waiting["state"], &waiting["trust"], &waiting["branch"]),
        (&json!("waiting"), &json!("fork"), &json!(null))
    );
    let said = shop.forge.wait(|| shop.forge.statuses_of(sha).pop(), || "no status".into());
    assert_eq!((&*said.state, &*said.description), ("pending", &*waits_for_a_maintainer(sha)));
    assert_eq!(rules(server, id), ["fork_waits"]);

    // The agent has room and builds others meanwhile; nothing of this one came here.
    let second = shop.pushed("main", "two", None);
    shop.is_clean(second, "two");
    let waiting = server.build(id);
    assert_eq!(
        (&waiting["state"], &waiting["steps"], &waiting["agent"]),
        (&json!("waiting"), &json!([]), &json!(null))
    );
    assert!(!is_fetched(&shop, sha), "not even fetched");
    assert!(is_fetched(&shop, server.build(second)["sha"].as_str().expect("a commit")), "as what is built is");

    // One commit and no other, by its whole name.
    let other = json!({"sha": server.build(second)["sha"]}).to_string();
    assert_eq!(approve(server, id, &other), (409, "other_commit".into()));
    let shown = server.get(&format!("/builds/{id}")).body;
    assert!(shown.contains(sha) && shown.contains("/compare/"), "{shown}");
    let output = hookmill(server, &["builds", "approve", &id.to_string(), "--sha", sha]);
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && told.contains(sha.as_str()), "{output:?}");

    // It runs now: with its own code, by the base branch's file.
    shop.is_dirty(id);
    let built = server.build(id);
    let by = (&built["approved_by"], &built["trust"], &built["built_sha"]);
    assert_eq!(by, (&json!("admin"), &json!("fork"), &json!(sha)));
    assert!(!server.log(id, "").contains("forged"), "{}", server.log(id, ""));
    assert!(built["steps"].as_array().expect("steps").iter().all(|step| step["name"] != "forged"), "{built:#}");
    assert_eq!(server.get(&format!("/api/v1/builds/{id}/artifacts/package.json")).code, 404);
    assert_eq!(approve(server, id, ""), (409, "no_approval_needed".into()));
    let said = shop.forge.final_status(sha, "hookmill");
    assert_eq!(said.state, "success");
    assert_eq!(shop.forge.states_of(sha).first().map(String::as_str), Some("pending"));
    assert_eq!(rules(server, id), ["fork_waits", "fork_approved"]);
    let told = hookmill(server, &["builds", "show", &id.to_string()]).stdout;
    assert!(String::from_utf8_lossy(&told).contains("approved by   admin, "), "{}", String::from_utf8_lossy(&told));

    // The same commit again needs no further word; it leaves nothing to anybody else.
    let again = server.post(&format!("/api/v1/builds/{id}/rerun"), "").build();
    assert_eq!(server.finished(again)["approved_by"], "admin");
    assert_eq!(rules(server, again).last().map(String::as_str), Some("approval_holds"));
    let third = shop.pushed("main", "three", None);
    shop.is_clean(third, "three");

    // Where forks are built nobody is asked, and the rest is as before.
    let text = fs::read_to_string(server.config_file()).expect("its configuration");
    fs::write(server.config_file(), text.replace("tags = true", "tags = true\nforks = \"build\"")).expect("written");
    server.signal(Signal::HUP);
    let changed = |line: &serde_json::Value| line["what"] == "configuration_loaded" && line["occasion"] == "reload";
    let line = shop.forge.wait(|| audit(server).into_iter().find(changed), || format!("{:#?}", audit(server)));
    assert_eq!(line["changed"], json!(["repo.gitea/acme/*.forks", "repo.github/acme/*.forks"]));
    let theirs = pushed_to_the_fork(repo, &[("evil", evil), (".hookmill.toml", FORGED), ("more", "of it")]);
    let free = server.deliver(&repo.pull_request(repo.new_commits(), 7, "main", &theirs.after, true)).build();
    shop.is_dirty(free);
    let built = server.build(free);
    assert_eq!((&built["approved_by"], &built["trust"]), (&json!(null), &json!("fork")));
    assert!(!server.log(free, "").contains("forged"), "{}", server.log(free, ""));
    assert_eq!(rules(server, free), ["fork_is_built"]);
    let fourth = shop.pushed("main", "four", None);
    shop.is_clean(fourth, "four");

    let lines = audit(server);
    let done: Vec<(&str, i64)> = lines
        .iter()
        .rev()
        .map(|line| (line["what"].as_str().expect("a word"), line["build"].as_i64().unwrap_or_default()))
        .collect();
    let expected = [("configuration_loaded", 0), ("approved", id), ("rerun", again), ("configuration_loaded", 0)];
    assert_eq!(done, expected, "{lines:#?}");
    let approved = &lines[2];
    assert_eq!(
        (&approved["who"], &approved["via"], &approved["from"]),
        (&json!("admin"), &json!("token"), &json!("127.0.0.1"))
    );
    assert_eq!((&approved["sha"], &approved["repo"]), (&json!(sha), &json!("gitea/acme/shop")));
    let told = String::from_utf8(hookmill(server, &["audit", "--since", "1h", "--repo", "gitea/acme/shop"]).stdout);
    let told = told.expect("text");
    assert!(told.contains("approved commit") && !told.contains("started with"), "{told}");
    shop.forge.finish();
}

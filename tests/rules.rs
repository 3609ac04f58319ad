//! Which rule acted, and why: in the delivery's answer, in the list of deliveries, on the build's page and on a terminal.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::forge;
use crate::support::forge::{Forge, Kind, Repo};
use crate::support::server::{ADMIN, EXE, Server, Settings};

const NOTHING_TO_DO: &[(&str, &str)] = &[("README.md", "# Shop\n")];

/// Nothing runs, so that what waits stays.
fn paused(forge: &Forge) -> Server {
    Server::start_with(forge, Settings { slots: 0, ..Settings::default() })
}

fn rules_of(server: &Server, build: i64) -> Vec<String> {
    let told = server.get(&format!("/api/v1/builds/{build}/plan")).json();
    let lines = told["rulings"].as_array().expect("a list");
    lines.iter().map(|line| line["rule"].as_str().expect("a name").to_owned()).collect()
}

fn explain(server: &Server, build: i64) -> String {
    let ran = Command::new(EXE)
        .args(["builds", "explain", &build.to_string(), "--server", &server.url()])
        .env("HOOKMILL_TOKEN", ADMIN)
        .output()
        .expect("it ran");
    assert!(ran.status.success(), "{ran:?}");
    String::from_utf8(ran.stdout).expect("text")
}

fn change(repo: &Repo, branch: &str, text: &str) -> forge::Moved {
    repo.push(branch, &[("README.md", text)])
}

/// Every build gets its final word, which nothing here waits for.
fn settle(forge: &Forge, server: &Server) {
    for build in server.builds().iter().filter(|build| build["state"] != "finished") {
        assert_eq!(server.post(&format!("/api/v1/builds/{}/cancel", build["id"]), "").code, 202);
    }
    forge.finish();
}

#[test]
fn a_superseded_build_says_by_what_and_its_page_too() {
    let forge = Forge::start();
    let repo = forge.repo("acme/shop");
    let server = paused(&forge);
    repo.push("main", NOTHING_TO_DO);
    let old = change(&repo, "topic", "one");
    let reply = server.deliver(&repo.pushed(&old));
    assert_eq!(reply.json()["rule"], "push_is_built");
    let first = reply.build();
    let asked = server.deliver(&repo.pull_request("opened", 7, "topic", &old.after, false));
    assert_eq!((asked.code, &asked.json()["rule"]), (200, &json!("one_build_not_two")), "{asked:?}");
    let new = change(&repo, "topic", "two");
    let second = server.deliver(&repo.pushed(&new)).build();
    assert_eq!(rules_of(&server, first), ["push_is_built", "one_build_not_two", "newest_push_wins"]);
    assert_eq!(rules_of(&server, second), ["push_is_built"]);

    let said = explain(&server, first);
    for part in [
        "What moved this build, and by which rule",
        &format!("push of topic to {}, delivery ", &old.after[..7]),
        &format!("Superseded by {}, pushed ", &new.after[..7]),
        &format!("(#{second})"),
        "newest_push_wins: The newest push of a ref takes the place of what is unfinished there",
    ] {
        let one_line = said.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(one_line.contains(part), "{part} in {said}");
    }
    let page = server.get(&format!("/builds/{first}")).body;
    assert!(page.contains("What moved this build") && page.contains("<code>newest_push_wins</code>"), "{page}");
    settle(&forge, &server);
}

#[test]
fn a_push_that_comes_after_its_own_deletion_is_not_built() {
    let forge = Forge::start();
    let repo = forge.repo_of(Kind::Github, "acme/shop");
    let server = paused(&forge);
    repo.push("main", NOTHING_TO_DO);
    let made = change(&repo, "gone", "here for a moment");
    let push = repo.pushed(&made);
    let deletion = repo.pushed(&repo.delete("gone"));

    let first = server.deliver(&deletion);
    assert_eq!((first.code, &first.json()["rule"]), (200, &json!("deleted_ref_ends")), "{first:?}");
    let late = server.deliver(&push);
    assert_eq!((late.code, &late.json()["rule"]), (200, &json!("deleted_before_push")), "{late:?}");
    assert_eq!(late.json()["ignored"], "gone was deleted after this push, and that arrived first");
    assert!(server.builds().is_empty());

    let listed = server.get_with("/api/v1/deliveries", &[("authorization", &format!("Bearer {ADMIN}"))]).json();
    let rules: Vec<&Value> = listed["deliveries"].as_array().expect("a list").iter().map(|one| &one["rule"]).collect();
    assert_eq!(rules, ["deleted_before_push", "deleted_ref_ends"]);
    settle(&forge, &server);
}

#[test]
fn pushes_in_the_wrong_order_leave_the_newest() {
    let forge = Forge::start();
    let repo = forge.repo("acme/shop");
    let server = paused(&forge);
    repo.push("main", NOTHING_TO_DO);
    let moves = ["one", "two", "three"].map(|text| change(&repo, "topic", text));
    let newest = server.deliver(&repo.pushed(&moves[2])).build();
    let middle = server.deliver(&repo.pushed(&moves[1]));
    assert_eq!(middle.json()["rule"], "late_push_yields", "{middle:?}");
    // What lies between the first and the third is not known, since nothing of it was built: the third's own word is.
    assert_eq!(server.build(newest)["state"], "queued");
    assert_eq!(rules_of(&server, newest), ["push_is_built", "late_push_yields"]);
    assert!(explain(&server, newest).contains("was not built: superseded by"), "{}", explain(&server, newest));

    let tags: Vec<i64> = ["v1", "v2", "v3"]
        .iter()
        .map(|tag| server.deliver(&repo.pushed(&repo.push_head(&format!("refs/tags/{tag}")))).code.into())
        .collect();
    assert_eq!(tags, [200, 200, 200], "tags = false");
    settle(&forge, &server);
}

#[test]
fn every_tag_of_many_at_once_is_built() {
    let forge = Forge::start();
    let repo = forge.repo("acme/shop");
    let tags = Settings { slots: 0, repo: "tags = true\n".to_owned(), ..Settings::default() };
    let server = Server::start_with(&forge, tags);
    repo.push("main", NOTHING_TO_DO);
    let pushed: Vec<_> = (0..8).map(|n| repo.pushed(&repo.push_head(&format!("refs/tags/v{n}")))).collect();
    let replies: Vec<_> = std::thread::scope(|scope| {
        let sent: Vec<_> = pushed.iter().map(|one| scope.spawn(|| server.deliver(one))).collect();
        sent.into_iter().map(|reply| reply.join().expect("answered")).collect()
    });
    for reply in &replies {
        assert_eq!(reply.json()["rule"], "tags_stand_alone", "{reply:?}");
        assert_eq!(server.build(reply.build())["state"], "queued");
    }
    settle(&forge, &server);
}

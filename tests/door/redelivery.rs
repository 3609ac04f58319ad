//! Forges send a delivery twice, an organisation has two hooks, and people press "redeliver": one build comes of it.

use serde_json::json;

use crate::support::forge::{Forge, Kind};
use crate::support::server::{Server, Settings};

/// A repository without anything to install or to bundle.
const NOTHING_TO_DO: &[(&str, &str)] = &[("README.md", "# Shop\n")];

#[test]
fn ten_at_once_make_one_build() {
    let forge = Forge::start();
    let repo = forge.repo("acme/shop");
    let server = Server::start(&forge);
    let moved = repo.push("main", NOTHING_TO_DO);
    let delivery = repo.pushed(&moved);

    let mut replies: Vec<_> = std::thread::scope(|scope| {
        let sent: Vec<_> = (0..10).map(|_| scope.spawn(|| server.deliver(&delivery))).collect();
        sent.into_iter().map(|reply| reply.join().expect("answered")).collect()
    });
    replies.sort_by_key(|reply| reply.code);
    let codes: Vec<u16> = replies.iter().map(|reply| reply.code).collect();
    assert_eq!(codes, [200, 200, 200, 200, 200, 200, 200, 200, 200, 202]);
    let build = replies[9].build();
    for repeat in &replies[..9] {
        assert_eq!(repeat.json()["build"], build, "{repeat:?}");
        assert!(
            repeat.json()["ignored"].as_str().is_some_and(|said| said.contains("repeat of delivery")),
            "{repeat:?}"
        );
    }

    assert_eq!(server.finished(build)["outcome"], "passed");
    assert_eq!(server.builds().len(), 1);
    forge.final_status(&moved.after, "hookmill");
    forge.finish();
    let finals = forge.states_of(&moved.after).into_iter().filter(|state| state != "pending").count();
    assert_eq!(finals, 1);
}

#[test]
fn two_hooks_make_one_build() {
    let forge = Forge::start();
    let repo = forge.repo("acme/shop");
    // It has to be unfinished when the second one knocks.
    let server = Server::start_with(&forge, Settings { slots: 0, ..Settings::default() });
    let moved = repo.push("main", NOTHING_TO_DO);
    let delivery = repo.pushed(&moved);

    let build = server.deliver(&delivery).build();
    let second = server.deliver(&delivery.again());
    assert_eq!((second.code, &second.json()["build"]), (200, &json!(build)), "{second:?}");
    assert!(second.json()["ignored"].as_str().is_some_and(|said| said.contains("already building")), "{second:?}");
    assert_eq!(server.builds().len(), 1);

    forge.status_in(&moved.after, "pending");
    assert_eq!(server.post(&format!("/api/v1/builds/{build}/cancel"), "").code, 202);
    forge.finish();
    assert_eq!(forge.states_of(&moved.after), ["pending", "error"]);
}

#[test]
fn a_push_and_the_pull_request_of_its_branch_are_one_build() {
    let forge = Forge::start();
    let repo = forge.repo("acme/shop");
    let server = Server::start_with(&forge, Settings { slots: 0, ..Settings::default() });
    repo.push("main", NOTHING_TO_DO);
    let moved = repo.push("feature", &[("README.md", "# Shop, better\n")]);

    let build = server.deliver(&repo.pushed(&moved)).build();
    let opened = server.deliver(&repo.pull_request("opened", 1, "feature", &moved.after, false));
    assert_eq!((opened.code, &opened.json()["build"]), (200, &json!(build)), "{opened:?}");
    assert_eq!(server.builds().len(), 1);

    assert_eq!(server.post(&format!("/api/v1/builds/{build}/cancel"), "").code, 202);
    forge.finish();
}

#[test]
fn after_a_restart_it_is_still_a_repeat() {
    let forge = Forge::start();
    let repo = forge.repo_of(Kind::Github, "acme/shop");
    let mut server = Server::start(&forge);
    let moved = repo.push("main", NOTHING_TO_DO);
    let delivery = repo.pushed(&moved);
    let build = server.deliver(&delivery).build();
    assert_eq!(server.finished(build)["outcome"], "passed");
    forge.final_status(&moved.after, "hookmill");

    assert_eq!(server.stop(), Some(0), "a drain is a good end");
    server.restart();
    let repeat = server.deliver(&delivery);
    assert_eq!((repeat.code, &repeat.json()["build"]), (200, &json!(build)), "{repeat:?}");
    assert_eq!(repeat.json()["delivery"], delivery.id);

    server.kill9();
    server.restart();
    assert_eq!(server.deliver(&delivery).code, 200);
    assert_eq!(server.builds().len(), 1);
    forge.finish();
    let finals = forge.states_of(&moved.after).into_iter().filter(|state| state != "pending").count();
    assert_eq!(finals, 1, "nothing is said again");
}

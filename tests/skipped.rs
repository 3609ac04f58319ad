//! Pushes that need no build: `[paths] ignore` and `[skip ci]`.

use serde_json::json;

use crate::support::forge::Forge;
use crate::support::server::Server;

const FILE: (&str, &str) =
    (".hookmill.toml", "[bundle]\ncommand = ['node', 'bundle.js']\n[paths]\nignore = ['docs/**']\n");

#[test]
fn a_push_of_ignored_paths_is_skipped_but_never_over_a_failure() {
    let forge = Forge::start();
    let repo = forge.repo("acme/shop");
    let server = Server::start(&forge);
    let build = |branch: &str, files: &[(&str, &str)]| {
        let moved = repo.push(branch, files);
        let id = server.deliver(&repo.pushed(&moved)).build();
        (moved.after.clone(), server.finished(id))
    };
    let (passed, first) = build("main", &[FILE, ("bundle.js", ""), ("docs/a", "1")]);
    assert_eq!(first["outcome"], "passed", "{first:#}");
    let (docs, second) = build("main", &[("docs/a", "2")]);
    assert_eq!(second["outcome"], "skipped", "{second:#}");
    let words = format!("Passed without a build: only docs/** changed since {}", &passed[..7]);
    assert_eq!(second["reason"], json!(words));
    let status = forge.final_status(&docs, "hookmill");
    assert_eq!((status.state.as_str(), status.description.as_str()), ("success", words.as_str()));
    assert_eq!(second["steps"].as_array().map(Vec::len), Some(1), "the checkout alone: {second:#}");

    // A new branch is compared with the one it came from.
    let (_, topic) = build("topic", &[("docs/a", "3")]);
    assert_eq!(topic["outcome"], "skipped", "{topic:#}");
    let (_, broken) = build("main", &[("bundle.js", "process.exit(1)")]);
    assert_eq!(broken["outcome"], "failed", "{broken:#}");
    let (_, after) = build("main", &[("docs/a", "4")]);
    assert_eq!(after["outcome"], "failed", "a failure is not skipped over: {after:#}");

    let again = server.post(&format!("/api/v1/builds/{}/rerun", second["id"]), "");
    let rerun = server.finished(again.build());
    assert_eq!(rerun["outcome"], "passed", "asked for by hand: {rerun:#}");
    forge.finish();
}

#[test]
fn skip_ci_is_heeded_on_a_push_and_not_on_a_pull_request() {
    let forge = Forge::start();
    let repo = forge.repo("acme/shop");
    let server = Server::start(&forge);
    repo.push("main", &[("README.md", "# Shop\n")]);
    repo.write(&[("README.md", "# A shop\n")]);
    repo.commit("docs [skip ci]");
    let moved = repo.push_head("refs/heads/topic");
    let reply = server.deliver(&repo.pushed(&moved));
    assert!(reply.body.contains("asks for no build"), "{reply:?}");
    assert_eq!(server.builds().len(), 0);
    let opened = server.deliver(&repo.pull_request("opened", 3, "topic", &moved.after, false)).build();
    assert_eq!(server.finished(opened)["outcome"], "passed");
    forge.finish();
}

//! What ends a build before its own end: a person, a newer push, a branch that goes away. And what begins it again.

use serde_json::{Value, json};

use crate::support::forge::{Forge, Moved, Repo};
use crate::support::server::{Server, Settings, step};

const BUNDLE: &str = "[bundle]\ncommand = ['node', 'bundle.js']\n";
/// Says that it runs, and never ends by itself.
const FOREVER: &str = "console.log('bundling');\nsetInterval(() => {}, 1000);\n";
/// The same, and it has something better to do than to end.
const STUBBORN: &str = "process.on('SIGTERM', () => console.log('not now'));\n\
                        console.log('bundling');\nsetInterval(() => {}, 1000);\n";
/// It takes its time to end, so that nobody else gets its slot at once.
const SLOW_TO_END: &str = "process.on('SIGTERM', () => setTimeout(process.exit, 5000));\n\
                           console.log('bundling');\nsetInterval(() => {}, 1000);\n";
const QUICK: &str = "console.log('bundled');\n";

/// Pushes a tree whose bundle is this script.
fn push(repo: &Repo, branch: &str, script: &str) -> Moved {
    repo.push(branch, &[(".hookmill.toml", BUNDLE), ("bundle.js", script)])
}

/// Pushes a bundle that never ends, and waits until it runs.
fn running(server: &Server, repo: &Repo, branch: &str, script: &str) -> (Moved, i64) {
    let moved = push(repo, branch, script);
    let build = server.deliver(&repo.pushed(&moved)).build();
    server.wrote(build, "bundle", "bundling");
    (moved, build)
}

fn cancel(server: &Server, build: i64) -> u16 {
    server.post(&format!("/api/v1/builds/{build}/cancel"), "").code
}

fn assert_superseded(server: &Server, forge: &Forge, old: (&Moved, i64), new: (&Moved, i64)) {
    let build = server.finished(old.1);
    assert_eq!((&build["outcome"], &build["superseded_by"]), (&json!("cancelled"), &json!(new.1)), "{build:#}");
    assert_eq!(build["reason"], format!("superseded by #{}", new.1));
    let status = forge.final_status(&old.0.after, "hookmill");
    assert_eq!(status.state, "error");
    assert!(status.description.starts_with(&format!("Superseded by {}, pushed ", &new.0.after[..7])), "{status:?}");
}

#[test]
fn a_person_ends_a_build_that_will_not_end() {
    let forge = Forge::start();
    let repo = forge.repo("acme/shop");
    let server = Server::start(&forge);
    let (moved, build) = running(&server, &repo, "main", STUBBORN);
    assert_eq!(server.get_with(&format!("/api/v1/builds/{build}/cancel"), &[]).code, 405, "only by POST");

    assert_eq!(cancel(&server, build), 202);
    let ended = server.finished(build);
    assert_eq!((&ended["outcome"], &ended["reason"]), (&json!("cancelled"), &json!("cancelled by admin")), "{ended:#}");
    let bundle = step(&ended, "bundle");
    assert_eq!((&bundle["outcome"], &bundle["signal"]), (&json!("cancelled"), &json!("KILL")), "{bundle:#}");
    assert!(server.log(build, "bundle").contains("not now"), "it was asked first");

    let status = forge.final_status(&moved.after, "hookmill");
    assert_eq!((status.state.as_str(), status.description.as_str()), ("error", "Cancelled by admin"));
    assert_eq!(cancel(&server, build), 409, "it is finished");
    forge.finish();
    assert_eq!(forge.states_of(&moved.after), ["pending", "error"]);
}

#[test]
fn a_queued_build_is_ended_before_it_begins_and_the_one_that_runs_is_left_alone() {
    let forge = Forge::start();
    let repo = forge.repo("acme/shop");
    let server = Server::start(&forge);
    let (_, first) = running(&server, &repo, "main", FOREVER);
    let moved = push(&repo, "other", QUICK);
    let queued = server.deliver(&repo.pushed(&moved)).build();
    forge.status_in(&moved.after, "pending");

    let without_token = ureq::post(format!("{}/api/v1/builds/{queued}/cancel", server.url())).send_empty();
    assert!(matches!(without_token, Err(ureq::Error::StatusCode(403))), "{without_token:?}");
    assert_eq!(server.build(queued)["state"], "queued");

    assert_eq!(cancel(&server, queued), 202);
    let ended = server.build(queued);
    assert_eq!((&ended["state"], &ended["outcome"]), (&json!("finished"), &json!("cancelled")), "{ended:#}");
    assert_eq!((&ended["started_at"], &ended["steps"]), (&Value::Null, &json!([])), "it never began");
    assert_eq!(forge.final_status(&moved.after, "hookmill").description, "Cancelled by admin");

    assert_eq!(server.build(first)["state"], "running");
    assert_eq!(cancel(&server, first), 202);
    assert_eq!(server.finished(first)["outcome"], "cancelled");
    assert_eq!(cancel(&server, 4711), 404);
    forge.finish();
}

#[test]
fn the_newest_push_of_a_branch_takes_the_place_of_older_ones() {
    let forge = Forge::start();
    let repo = forge.repo("acme/shop");
    let server = Server::start(&forge);
    push(&repo, "main", QUICK);
    let (first_move, first) = running(&server, &repo, "feature", SLOW_TO_END);
    // With one slot this one waits, and is gone before it ever ran.
    let second_move = push(&repo, "feature", FOREVER);
    let third_move = push(&repo, "feature", QUICK);
    let second = server.deliver(&repo.pushed(&second_move)).build();
    let third = server.deliver(&repo.pushed(&third_move)).build();

    assert_eq!(server.finished(third)["outcome"], "passed");
    assert_superseded(&server, &forge, (&first_move, first), (&second_move, second));
    assert_superseded(&server, &forge, (&second_move, second), (&third_move, third));
    assert_eq!(forge.final_status(&third_move.after, "hookmill").state, "success");
    assert_eq!(server.build(second)["steps"], json!([]), "it never began");
    forge.finish();
}

#[test]
fn on_the_default_branch_every_push_is_built_unless_it_was_forced() {
    let forge = Forge::start();
    let repo = forge.repo("acme/shop");
    let server = Server::start_with(&forge, Settings { slots: 2, ..Settings::default() });
    let (first_move, first) = running(&server, &repo, "main", FOREVER);
    let second_move = push(&repo, "main", QUICK);
    let second = server.deliver(&repo.pushed(&second_move)).build();
    assert_eq!(server.finished(second)["outcome"], "passed");
    assert_eq!(server.build(first)["state"], "running", "it is left alone");

    repo.git(&["reset", "-q", "--hard", &first_move.after]);
    let forced = push(&repo, "main", "console.log('forced');\n");
    assert!(forced.forced, "history was rewritten");
    // Gitea does not say that a push was forced; GitHub's word is heard on every kind.
    let third = server.deliver(&repo.pushed(&forced)).build();
    assert_eq!(server.finished(third)["outcome"], "passed");
    assert_superseded(&server, &forge, (&first_move, first), (&forced, third));
    assert_eq!(server.build(second)["outcome"], "passed", "what was finished stays as it was");
    forge.finish();
}

#[test]
fn supersede_is_the_operators_to_choose() {
    let forge = Forge::start();
    let repo = forge.repo("acme/shop");
    let none = Settings { slots: 2, repo: "supersede = \"none\"".to_owned(), ..Settings::default() };
    let server = Server::start_with(&forge, none);
    push(&repo, "main", QUICK);
    let (_, first) = running(&server, &repo, "feature", FOREVER);
    let moved = push(&repo, "feature", QUICK);
    let second = server.deliver(&repo.pushed(&moved)).build();
    assert_eq!(server.finished(second)["outcome"], "passed");
    assert_eq!(server.build(first)["state"], "running");
    assert_eq!(cancel(&server, first), 202);
    server.finished(first);
    forge.finish();
}

#[test]
fn a_deleted_branch_needs_no_build_any_more() {
    let forge = Forge::start();
    let repo = forge.repo("acme/shop");
    let server = Server::start(&forge);
    push(&repo, "main", QUICK);
    let (running_move, first) = running(&server, &repo, "feature", FOREVER);
    let queued_move = push(&repo, "queued", QUICK);
    let queued = server.deliver(&repo.pushed(&queued_move)).build();

    // By the push without a commit after it, and by the event of its own: forges send both.
    let deletion = repo.pushed(&repo.delete("feature"));
    let reply = server.deliver(&deletion);
    assert_eq!((reply.code, &reply.json()["cancelled"]), (200, &json!([first])), "{reply:?}");
    let again = server.deliver(&repo.deleted("feature"));
    assert_eq!((again.code, &again.json()["cancelled"]), (200, &json!([])), "{again:?}");

    let ended = server.finished(first);
    assert_eq!((&ended["outcome"], &ended["reason"]), (&json!("cancelled"), &json!("branch feature was deleted")));
    let status = forge.final_status(&running_move.after, "hookmill");
    assert_eq!(status.description, "Cancelled: branch feature was deleted");

    // The slot is free now.
    assert_eq!(server.finished(queued)["outcome"], "passed");
    forge.finish();
}

#[test]
fn a_rerun_is_a_second_attempt_and_has_the_last_word() {
    let forge = Forge::start();
    let repo = forge.repo("acme/shop");
    let server = Server::start(&forge);
    let (moved, first) = running(&server, &repo, "main", FOREVER);
    let rerun = |build: i64, body: &str| server.post(&format!("/api/v1/builds/{build}/rerun"), body);
    assert_eq!(rerun(first, "").code, 409, "not while it runs");
    assert_eq!(cancel(&server, first), 202);
    server.finished(first);
    forge.status_in(&moved.after, "error");

    let second = rerun(first, r#"{"cache": false}"#).build();
    server.wrote(second, "bundle", "bundling");
    let build = server.build(second);
    assert_eq!((&build["attempt"], &build["rerun_of"], &build["event"]), (&json!(2), &json!(first), &json!("rerun")));
    assert_eq!((&build["sha"], &build["ref"]), (&json!(moved.after), &json!("refs/heads/main")));
    forge.status_in(&moved.after, "pending");
    assert_eq!(cancel(&server, second), 202);
    server.finished(second);
    forge.status_in(&moved.after, "error");

    let third = rerun(first, "").build();
    server.wrote(third, "bundle", "bundling");
    assert_eq!(server.build(third)["attempt"], 3, "attempts are counted for the commit");
    forge.status_in(&moved.after, "pending");
    assert_eq!(cancel(&server, third), 202);
    server.finished(third);
    assert_eq!(rerun(4711, "").code, 404);
    assert_eq!(rerun(first, r#"{"cash": true}"#).code, 400);
    forge.finish();
    let links: Vec<_> = forge.statuses_of(&moved.after).into_iter().map(|status| status.target_url).collect();
    let last = links.last().expect("statuses");
    assert!(last.starts_with(&format!("{}/builds/{third}?key=", server.url())), "{last}");
}

//! Slots run builds side by side, no more than there are, and a long queue holds up nobody.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::forge::Forge;
use crate::support::machine::{Database, NO_OP, peak, script};
use crate::support::server::{Server, Settings};

fn with_slots(slots: usize) -> Settings {
    Settings { slots, ..Settings::default() }
}

/// The most builds that ran at one moment, by their own times (RFC 3339 in UTC, which sorts as text).
fn most_at_once(builds: &[Value]) -> usize {
    let time = |build: &Value, name: &str| build[name].as_str().expect("a time").to_owned();
    let spans: Vec<_> = builds.iter().map(|build| (time(build, "started_at"), time(build, "finished_at"))).collect();
    let at = |moment: &String| spans.iter().filter(|(start, end)| start <= moment && moment < end).count();
    spans.iter().map(|(start, _)| at(start)).max().unwrap_or(0)
}

#[test]
fn two_slots_run_two_builds_and_never_a_third() {
    let forge = Forge::start();
    let repo = forge.repo("acme/shop");
    let server = Server::start_with(&forge, with_slots(2));
    let file = script("sleep 1");
    let push =
        |number: i32| repo.push(&format!("branch-{number}"), &[(".hookmill.toml", &file), ("n", &number.to_string())]);
    // A push takes a moment, in which a build could end.
    let pushes: Vec<_> = (0..6).map(push).collect();
    let ids: Vec<i64> = pushes.iter().map(|moved| server.deliver(&repo.pushed(moved)).build()).collect();
    let is_running = |build: &&Value| build["state"] == "running";
    let is_finished = |build: &Value| build["state"] == "finished";
    let builds = forge.wait(
        || {
            let builds = server.builds();
            assert!(builds.iter().filter(is_running).count() <= 2, "{builds:#?}");
            builds.iter().all(is_finished).then_some(builds)
        },
        || "they do not end".to_owned(),
    );
    assert_eq!(builds.len(), ids.len());
    assert!(builds.iter().all(|build| build["outcome"] == "passed"), "{builds:#?}");
    assert_eq!(most_at_once(&builds), 2, "{builds:#?}");
    forge.finish();
}

#[test]
fn thirty_branches_at_once_all_get_their_word() {
    let forge = Forge::start();
    let repo = forge.repo("acme/shop");
    let server = Server::start_with(&forge, with_slots(2));
    let pushes: Vec<_> =
        (0..30).map(|number| repo.push(&format!("branch-{number}"), &[NO_OP[0], ("n", &number.to_string())])).collect();
    std::thread::scope(|scope| {
        for moved in &pushes {
            scope.spawn(|| server.deliver(&repo.pushed(moved)).build());
        }
    });
    for moved in &pushes {
        assert_eq!(forge.final_status(&moved.after, "hookmill").state, "success");
    }
    forge.finish();
    let builds = server.builds();
    assert_eq!(builds.len(), 30);
    assert!(builds.iter().all(|build| build["outcome"] == "passed"), "{builds:#?}");
}

#[test]
fn a_long_queue_does_not_hold_up_the_start() {
    const QUEUED: i64 = 2001;
    let forge = Forge::start();
    let repo = forge.repo("acme/shop");
    let mut server = Server::start_with(&forge, with_slots(0));
    let moved = repo.push("main", NO_OP);
    let first = server.deliver(&repo.pushed(&moved)).build();
    forge.wait(|| forge.statuses_of(&moved.after).pop(), || "no pending".to_owned());
    assert_eq!(server.stop(), Some(0));

    // The same build for two thousand branches more.
    let mut database = Database::open(&server.data().join("hookmill.db"));
    database.run(
        "CREATE TEMP TABLE more AS
           WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000)
           SELECT builds.*, n.i FROM builds, n;
         UPDATE more SET id = id + i, git_ref = 'refs/heads/b' || i, branch = 'b' || i;
         ALTER TABLE more DROP COLUMN i;
         INSERT INTO builds SELECT * FROM more;
         UPDATE counters SET value = (SELECT max(id) FROM builds) WHERE name = 'build';",
    );
    assert_eq!(database.number("SELECT count(*) FROM builds WHERE state = 'queued'"), QUEUED);
    drop(database);
    let config = std::fs::read_to_string(server.config_file()).expect("written");
    std::fs::write(server.config_file(), config.replace("slots = 0", "slots = 1")).expect("written");

    let begun = Instant::now();
    server.restart();
    forge.wait(|| (server.get("/readyz").code == 200).then_some(()), || "never ready".to_owned());
    assert!(begun.elapsed() < Duration::from_secs(5), "ready after {:?}", begun.elapsed());
    assert_eq!(server.finished(first)["outcome"], "passed", "the oldest comes first");
    assert!(peak(server.pid()) < 100 << 20, "{} bytes", peak(server.pid()));
}

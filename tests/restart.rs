//! However the server ends (killed, asked, asked twice), nothing that it acknowledged is lost and nothing is left behind.

use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::forge::{self, Delivery, Forge, Moved, Status};
use crate::support::machine::{Database, NO_OP, adopt_orphans, nothing_left, of_builds, script};
use crate::support::server::{EXE, Server, Settings, step};

fn drains_for(limit: &str) -> Settings {
    let limit = ("HOOKMILL_AGENT__DRAIN_TIMEOUT".to_owned(), limit.to_owned());
    Settings { env: vec![limit], ..Settings::default() }
}

fn is_final(status: &&Status) -> bool {
    status.state != "pending"
}

fn is_running(build: &serde_json::Value, name: &str) -> bool {
    build["steps"]
        .as_array()
        .is_some_and(|steps| steps.iter().any(|one| one["name"] == name && one["state"] == "running"))
}

#[test]
fn acknowledged_and_killed_at_once() {
    let forge = Forge::start();
    let repo = forge.repo("acme/shop");
    let mut server = Server::start(&forge);
    for round in 0..3 {
        let moved = repo.push("main", &[NO_OP[0], ("round", &round.to_string())]);
        let build = server.deliver(&repo.pushed(&moved)).build();
        server.kill9();
        server.restart();
        assert_eq!(server.finished(build)["outcome"], "passed");
        assert_eq!(forge.final_status(&moved.after, "hookmill").state, "success");
    }
    forge.finish();
}

/// Sends a delivery whether or not somebody listens; true when it was acknowledged.
fn is_acknowledged(http: &ureq::Agent, url: &str, delivery: &Delivery) -> bool {
    let body = delivery.body();
    let mut request = http.post(format!("{url}{}", delivery.path()));
    for (name, value) in delivery.headers(&body) {
        request = request.header(name, value);
    }
    request.send(&body).is_ok_and(|answer| answer.status() == 202)
}

#[test]
fn killed_at_random_moments_under_load() {
    const KILLS: u32 = 8;
    adopt_orphans();
    let forge = Forge::start();
    let repo = forge.repo("acme/shop");
    let moved = repo.push_many(NO_OP, 80);
    let mut server = Server::start_with(&forge, Settings { slots: 2, ..Settings::default() });
    let (url, over) = (server.url(), AtomicBool::new(false));

    let acknowledged: Vec<&Moved> = std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let config = ureq::Agent::config_builder().proxy(None).http_status_as_error(false);
            let http = config.timeout_global(Some(Duration::from_secs(5))).build().new_agent();
            let mut acknowledged = Vec::new();
            for moved in &moved {
                if over.load(Ordering::Relaxed) {
                    break;
                }
                if is_acknowledged(&http, &url, &repo.pushed(moved)) {
                    acknowledged.push(moved);
                }
                // The load's rhythm, about ten a second; nothing is awaited by it.
                std::thread::sleep(Duration::from_millis(100));
            }
            acknowledged
        });
        for _ in 0..KILLS {
            let mut random = [0; 1];
            getrandom::fill(&mut random).expect("the system has random numbers");
            // The random moment of the kill.
            std::thread::sleep(Duration::from_millis(20 + 3 * u64::from(random[0])));
            server.kill9();
            server.restart();
        }
        over.store(true, Ordering::Relaxed);
        sender.join().expect("sent")
    });

    assert!(acknowledged.len() >= 5, "too little load: {}", acknowledged.len());
    for moved in &acknowledged {
        forge.final_status(&moved.after, "hookmill");
    }
    forge.finish();
    for moved in &acknowledged {
        let said = forge.statuses_of(&moved.after);
        // Killed between the forge's having it and our noting that, the same word comes again; never another one.
        let words: BTreeSet<_> = said.iter().filter(is_final).map(|status| &status.state).collect();
        assert_eq!(words.len(), 1, "{said:#?}");
        assert!(said.last().as_ref().is_some_and(is_final), "{said:#?}");
    }
    assert_eq!(server.stop(), Some(0));
    nothing_left(&forge, &url);
    let mut database = Database::open(&server.data().join("hookmill.db"));
    database.is_whole();
    assert_eq!(database.number("SELECT count(*) FROM builds WHERE state <> 'finished'"), 0);
}

#[test]
fn a_drain_lets_the_running_build_end() {
    let forge = Forge::start();
    let repo = forge.repo("acme/shop");
    let mut server = Server::start(&forge);
    let first = repo.push("main", &[(".hookmill.toml", &script("echo ready; sleep 8; echo done"))]);
    let second = repo.push("late", NO_OP);
    let running = server.deliver(&repo.pushed(&first)).build();
    server.wrote(running, "bundle", "ready");
    server.signal(Signal::TERM);
    forge.wait(|| server.log_text().contains("draining").then_some(()), || "no drain".to_owned());
    let late = server.deliver(&repo.pushed(&second)).build();
    assert_eq!(server.ended().code(), Some(0));
    // Its final word went out before the end.
    let word = forge.statuses_of(&first.after).pop().expect("a status");
    assert_eq!(word.state, "success", "{word:?}");
    let mut database = Database::open(&server.data().join("hookmill.db"));
    assert_eq!(database.number("SELECT count(*) FROM builds WHERE state = 'queued' AND claims = 0 AND fence = 0"), 1);
    drop(database);

    server.restart();
    assert_eq!(server.finished(late)["outcome"], "passed");
    forge.finish();
}

#[test]
fn a_drain_that_takes_too_long_gives_the_build_back() {
    adopt_orphans();
    let forge = Forge::start();
    let repo = forge.repo("acme/shop");
    let mut server = Server::start_with(&forge, drains_for("1s"));
    let moved = repo.push("main", &[(".hookmill.toml", &script("echo ready; sleep 10; echo done"))]);
    let build = server.deliver(&repo.pushed(&moved)).build();
    server.wrote(build, "bundle", "ready");
    assert_eq!(server.stop(), Some(0));
    nothing_left(&forge, &server.url());
    let word = forge.statuses_of(&moved.after).pop().expect("a status");
    assert_eq!(word.description, "Queued again: the agent that ran it is restarting");

    server.restart();
    let build = server.finished(build);
    assert_eq!((&build["outcome"], &build["attempt"]), (&"passed".into(), &1.into()));
    forge.finish();
    assert_eq!(forge.statuses_of(&moved.after).iter().filter(is_final).count(), 1);
}

#[test]
fn a_second_signal_ends_everything_at_once() {
    adopt_orphans();
    for require in ["available", "none"] {
        let forge = Forge::start();
        let repo = forge.repo("acme/shop");
        let tables = format!("[sandbox]\nrequire = \"{require}\"\n");
        let mut server = Server::start_with(&forge, Settings { tables, ..Settings::default() });
        let deaf = script("trap '' TERM; echo ready; sleep 600");
        let moved = repo.push("main", &[(".hookmill.toml", &deaf)]);
        let build = server.deliver(&repo.pushed(&moved)).build();
        server.wrote(build, "bundle", "ready");
        assert!(of_builds(&server.url()).len() >= 2, "the step and its holder are to be seen");
        server.signal(Signal::TERM);
        forge.wait(|| server.log_text().contains("draining").then_some(()), || "no drain".to_owned());
        let asked = Instant::now();
        server.signal(Signal::TERM);
        assert_eq!(server.ended().code(), Some(130));
        assert!(asked.elapsed() < Duration::from_secs(3), "after {:?}", asked.elapsed());
        nothing_left(&forge, &server.url());
        // Not even for the ten seconds that a step has to end after it was asked to.
        assert!(asked.elapsed() < Duration::from_secs(5), "gone after {:?}", asked.elapsed());

        server.restart();
        server.wait_for(build, |build| build["state"] == "running");
        assert_eq!(server.post(&format!("/api/v1/builds/{build}/cancel"), "").code, 202);
        assert_eq!(server.finished(build)["outcome"], "cancelled");
        forge.finish();
    }
}

#[test]
fn a_second_signal_does_not_wait_for_a_slow_forge() {
    let forge = Forge::start();
    let repo = forge.repo("acme/shop");
    let mut server = Server::start(&forge);
    forge.trouble(1, forge::Trouble::Hang);
    let moved = repo.push("main", NO_OP);
    server.deliver(&repo.pushed(&moved)).build();
    forge.wait(|| (!forge.posted().is_empty()).then_some(()), || "nothing was posted".to_owned());
    server.signal(Signal::TERM);
    forge.wait(|| server.log_text().contains("draining").then_some(()), || "no drain".to_owned());
    let asked = Instant::now();
    server.signal(Signal::TERM);
    assert_eq!(server.ended().code(), Some(130));
    assert!(asked.elapsed() < Duration::from_secs(5), "after {:?}", asked.elapsed());
    server.restart();
    forge.finish();
}

#[test]
fn an_agent_that_is_lost_three_times_is_not_tried_again() {
    adopt_orphans();
    let forge = Forge::start();
    let repo = forge.repo("acme/shop");
    let mut server = Server::start(&forge);
    let moved = repo.push("main", &[(".hookmill.toml", &script("sleep 600"))]);
    let build = server.deliver(&repo.pushed(&moved)).build();
    for _ in 0..3 {
        server.wait_for(build, |build| is_running(build, "bundle"));
        server.kill9();
        nothing_left(&forge, &server.url());
        server.restart();
    }
    let build = server.finished(build);
    assert_eq!((&build["outcome"], &build["reason"]), (&"broken".into(), &"agent lost".into()));
    assert_eq!(step(&build, "bundle")["outcome"], "broken");
    let word = forge.final_status(&moved.after, "hookmill");
    assert_eq!(word.state, "error");
    assert_eq!(word.description, "Not your commit: the agent was lost 3 times while it ran this build");
    forge.finish();
}

/// Starts a second server with the configuration of the first; its exit code and what it said.
fn start_again(server: &Server) -> (Option<i32>, String) {
    let mut command = Command::new(EXE);
    let output = command.arg("serve").arg("--config").arg(server.config_file()).stdin(Stdio::null()).output();
    let output = output.expect("started");
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn a_second_server_names_the_first() {
    let forge = Forge::start();
    let server = Server::start(&forge);
    let (code, said) = start_again(&server);
    assert_eq!(code, Some(2), "{said}");
    let holder = format!("is in use by process {}", server.pid().as_raw_nonzero());
    assert!(said.contains(&holder), "{said}");
    assert_eq!(server.get("/readyz").code, 200);
}

#[test]
fn a_newer_database_is_refused_and_left_alone() {
    let forge = Forge::start();
    let mut server = Server::start(&forge);
    assert_eq!(server.stop(), Some(0));
    let path = server.data().join("hookmill.db");
    Database::open(&path).run("INSERT INTO schema_version (version) VALUES (99)");
    let (code, said) = start_again(&server);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("schema version 99") && said.contains("run a newer hookmill"), "{said}");
    let mut database = Database::open(&path);
    database.is_whole();
    assert_eq!(database.number("SELECT max(version) FROM schema_version"), 99);
}

#[test]
fn a_reload_takes_all_or_nothing() {
    let forge = Forge::start();
    let repo = forge.repo("acme/shop");
    let tables = "[statuses]\ncontext = \"first\"\n".to_owned();
    let server = Server::start_with(&forge, Settings { tables, ..Settings::default() });
    let good = std::fs::read_to_string(server.config_file()).expect("written");
    let reload = |text: &str, heard: &str| {
        std::fs::write(server.config_file(), text).expect("written");
        server.signal(Signal::HUP);
        forge.wait(|| server.log_text().contains(heard).then_some(()), || server.log_text());
    };
    let context_of = |branch: &str| {
        let moved = repo.push(branch, NO_OP);
        server.deliver(&repo.pushed(&moved)).build();
        forge.wait(|| forge.statuses_of(&moved.after).pop(), || "no status".to_owned()).context
    };

    let second = good.replace("\"first\"", "\"second\"");
    reload(&format!("{second}\nnonsense = 1\n"), "the configuration was not changed");
    assert!(server.log_text().contains("nonsense"), "it does not say why: {}", server.log_text());
    assert_eq!(context_of("main"), "first");
    reload(&second, "configuration read again");
    assert_eq!(context_of("other"), "second");
    forge.finish();
}

//! Steps that do not end, leave something behind, or print what nobody should: the build gets its word all the same,
//! in the sandbox and without one.

use std::net::TcpListener;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::forge::{Forge, Repo, Status};
use crate::support::machine::{adopt_orphans, forget_peak, nothing_left, peak, script, script_with};
use crate::support::server::{Server, Settings, step};
use crate::support::{ordinary, port, server};

const MIB: u64 = 1 << 20;

/// The same story in the sandbox that this host gives, and in none.
fn in_both(story: fn(&Stage)) {
    adopt_orphans();
    for require in ["available", "none"] {
        let forge = Forge::start();
        let tables = format!("[sandbox]\nrequire = \"{require}\"\n");
        let server = Server::start_with(&forge, Settings { tables, ..Settings::default() });
        let stage = Stage { repo: forge.repo("acme/shop"), confined: require != "none", forge, server };
        story(&stage);
        nothing_left(&stage.forge, &stage.server.url());
        stage.forge.finish();
    }
}

struct Stage {
    forge: Forge,
    repo: Repo,
    server: Server,
    confined: bool,
}

/// A build that ended, and the forge's word on it.
struct Ended {
    id: i64,
    build: Value,
    word: Status,
    /// From before its delivery to after its end, by this process's clock. It runs at the pace of the server's timers,
    /// which the API's times, whole milliseconds of a clock that is corrected meanwhile, do not: what has to take so
    /// long at least is held against this.
    took: Duration,
}

impl Stage {
    /// Pushes this repository file and waits for the end.
    fn build(&self, file: &str) -> Ended {
        let moved = self.repo.push("main", &[(".hookmill.toml", file)]);
        let begun = Instant::now();
        let id = self.server.deliver(&self.repo.pushed(&moved)).build();
        let build = self.server.finished(id);
        let took = begun.elapsed();
        let word = self.forge.final_status(&moved.after, "hookmill");
        Ended { id, build, word, took }
    }
}

/// How long the bundle took, by the API's times (RFC 3339 with milliseconds).
fn lasted(ended: &Ended) -> Duration {
    let text = |name: &str| step(&ended.build, "bundle")[name].as_str().unwrap_or_default().to_owned();
    let seconds = |time: &str| -> f64 {
        let clock = time.split_once('T').expect("a time").1.trim_end_matches('Z');
        clock.split(':').fold(0.0, |sum, part| sum * 60.0 + part.parse::<f64>().expect("a number"))
    };
    let (start, end) = (seconds(&text("started_at")), seconds(&text("finished_at")));
    Duration::from_secs_f64((end - start).rem_euclid(86_400.0))
}

#[test]
fn a_step_that_hangs_is_ended_at_its_timeout() {
    in_both(|stage| {
        let ended = stage.build(&script_with("echo begun; sleep 600", "timeout = \"5s\""));
        assert_eq!(ended.build["outcome"], "timed_out");
        assert_eq!(step(&ended.build, "bundle")["outcome"], "timed_out");
        assert_eq!(step(&ended.build, "bundle")["signal"], "TERM");
        assert_eq!(
            (ended.word.state.as_str(), ended.word.description.as_str()),
            ("failure", "Timed out: bundle ran longer than 5s")
        );
        assert!(ended.took >= Duration::from_secs(5), "{:?}", ended.took);
        let lasted = lasted(&ended);
        assert!(lasted < Duration::from_secs(11), "{lasted:?}");
    });
}

#[test]
fn a_step_that_ignores_term_is_killed_after_the_grace() {
    in_both(|stage| {
        let deaf = "trap 'echo heard' TERM; echo begun; while :; do sleep 1; done";
        let ended = stage.build(&script_with(deaf, "timeout = \"5s\""));
        assert_eq!(ended.build["outcome"], "timed_out");
        assert_eq!(step(&ended.build, "bundle")["signal"], "KILL");
        assert_eq!(ended.word.state, "failure");
        // Asked once, and then given the whole grace.
        let log = stage.server.log(ended.id, "bundle");
        assert_eq!(log.matches("heard\n").count(), 1, "{log}");
        assert!(ended.took >= Duration::from_secs(15), "{:?}", ended.took);
        let lasted = lasted(&ended);
        assert!(lasted < Duration::from_secs(24), "{lasted:?}");
    });
}

#[test]
fn a_cancelled_step_that_ignores_term_is_cancelled() {
    in_both(|stage| {
        let moved = stage.repo.push("main", &[(".hookmill.toml", &script("trap '' TERM; echo begun; sleep 600"))]);
        let id = stage.server.deliver(&stage.repo.pushed(&moved)).build();
        stage.server.wrote(id, "bundle", "begun");
        assert_eq!(stage.server.post(&format!("/api/v1/builds/{id}/cancel"), "").code, 202);
        assert_eq!(stage.server.finished(id)["outcome"], "cancelled");
        assert_eq!(stage.forge.final_status(&moved.after, "hookmill").state, "error");
    });
}

/// Listens on a port from a session of its own, and lets its starter end once it does.
fn daemon(port: u16) -> String {
    let listen =
        format!("require('net').createServer().listen({port},'127.0.0.1',()=>require('fs').writeFileSync('up',''))");
    let start = format!(
        "const daemon = require('child_process').spawn(process.execPath, ['-e', {listen:?}], {{detached: true, stdio: 'ignore'}}); \
         daemon.unref(); \
         setInterval(() => {{ if (require('fs').existsSync('up')) {{ console.log('it is up'); process.exit(0); }} }}, 20);"
    );
    format!("[bundle]\ncommand = [\"node\", \"-e\", {}]\nnetwork = true\n", serde_json::json!(start))
}

#[test]
fn a_daemon_is_gone_with_its_step() {
    in_both(|stage| {
        let port = port::free();
        let ended = stage.build(&daemon(port));
        let after = Instant::now();
        assert_eq!(ended.build["outcome"], "passed", "{:#}", ended.build);
        assert_eq!(stage.server.log(ended.id, "bundle"), "it is up\n");
        nothing_left(&stage.forge, &stage.server.url());
        TcpListener::bind(("127.0.0.1", port)).expect("nobody holds the port");
        assert!(after.elapsed() < Duration::from_secs(5), "gone after {:?}", after.elapsed());
    });
}

#[test]
fn a_daemon_of_two_forks_is_gone_with_its_step() {
    in_both(|stage| {
        let daemon = "(setsid sh -c '(sleep 600 </dev/null >/dev/null 2>&1 &)' &); sleep 0.3; echo left";
        let ended = stage.build(&script(daemon));
        let after = Instant::now();
        assert_eq!(ended.build["outcome"], "passed");
        nothing_left(&stage.forge, &stage.server.url());
        assert!(after.elapsed() < Duration::from_secs(5), "gone after {:?}", after.elapsed());
    });
}

#[test]
fn a_child_that_holds_the_output_does_not_hold_the_build() {
    in_both(|stage| {
        let ended = stage.build(&script("sleep 600 & echo done"));
        assert_eq!(ended.build["outcome"], "passed");
        assert!(stage.server.log(ended.id, "bundle").starts_with("done\n"));
        let lasted = lasted(&ended);
        assert!(lasted < Duration::from_secs(8), "{lasted:?}");
    });
}

#[test]
fn the_environment_is_made_and_the_tree_is_there() {
    in_both(|stage| {
        let file = format!(
            "[env]\nGREETING = \"hello\"\n{}",
            script("echo $GREETING $CI_NAME $CI_BRANCH; ls -a | grep hookmill; pwd")
        );
        let ended = stage.build(&file);
        assert_eq!(ended.build["outcome"], "passed");
        let log = stage.server.log(ended.id, "bundle");
        assert!(log.starts_with("hello hookmill main\n.hookmill.toml\n"), "{log}");
        assert_eq!(log.ends_with("\n/build\n"), stage.confined, "{log}");
    });
}

#[test]
fn no_sandbox_is_said_loudly() {
    let forge = Forge::start();
    let tables = "[sandbox]\nrequire = \"none\"\n".to_owned();
    let server = Server::start_with(&forge, Settings { tables, ..Settings::default() });
    assert!(server.log_text().contains("SANDBOX DEGRADED"), "{}", server.log_text());
    let ready = server.get("/readyz");
    assert_eq!(ready.code, 200);
    let sandbox = &ready.json()["parts"]["sandbox"];
    assert_eq!(sandbox["ok"], false, "{sandbox}");
    assert!(sandbox["detail"].as_str().is_some_and(|detail| detail.contains("NONE")), "{sandbox}");

    let repo = forge.repo("acme/shop");
    let moved = repo.push("main", &[(".hookmill.toml", &script("true"))]);
    let id = server.deliver(&repo.pushed(&moved)).build();
    let build = server.finished(id);
    assert!(build["sandbox"].as_str().is_some_and(|name| name.starts_with("NONE")), "{build:#}");
    assert!(server.log(id, "checkout").starts_with("sandbox: NONE"), "{}", server.log(id, "checkout"));
    let page = server.get(&format!("/builds/{id}"));
    assert!(page.body.contains("NONE"), "{}", page.body);
    forge.finish();
}

#[test]
fn a_flood_of_output_is_cut_and_the_build_passes() {
    in_both(|stage| {
        let pid = stage.server.pid();
        forget_peak(pid);
        let before = peak(pid);
        let flood = "yes 0123456789012345678901234567890123456789012345678901234567890123456789 | head -c 300000000; echo; echo the end";
        let ended = stage.build(&script(flood));
        assert_eq!(ended.build["outcome"], "passed");
        let log = stage.server.log(ended.id, "bundle");
        let grown = peak(pid) - before;
        assert!(grown < 50 * MIB, "the agent grew by {} MiB", grown / MIB);
        assert!(log.len() as u64 <= 64 * MIB + 100, "{} bytes", log.len());
        assert!(log.ends_with("\nthe end\n"));
        assert!(log.contains(" bytes dropped ...]"), "no notice of what was cut");
    });
}

#[test]
fn a_line_without_end_is_served() {
    in_both(|stage| {
        let pid = stage.server.pid();
        forget_peak(pid);
        let before = peak(pid);
        let ended = stage.build(&script("head -c 100000000 /dev/zero | tr '\\0' x"));
        assert_eq!(ended.build["outcome"], "passed");
        let log = stage.server.get(&format!("/api/v1/builds/{}/log?step=bundle", ended.id));
        assert_eq!(log.code, 200);
        assert!(log.body.starts_with("xxxx") && log.body.len() as u64 <= 64 * MIB + 100);
        assert_eq!(stage.server.get(&format!("/builds/{}", ended.id)).code, 200);
        let events = stage.server.get(&format!("/api/v1/builds/{}/events", ended.id));
        assert!(events.body.contains("event: end\n"), "the stream stops before its end");
        let grown = peak(pid) - before;
        assert!(grown < 50 * MIB, "the agent grew by {} MiB", grown / MIB);
    });
}

#[test]
fn bytes_that_are_no_text_are_served() {
    in_both(|stage| {
        let odd = r"printf 'a\000b\nbad \377\376 x\nhalf \342\202\nwhole \342\202'; sleep 0.3; printf '\254\nend\n'";
        let ended = stage.build(&script(odd));
        assert_eq!(ended.build["outcome"], "passed");
        let log = stage.server.log(ended.id, "bundle");
        assert_eq!(log, "a\0b\nbad \u{fffd}\u{fffd} x\nhalf \u{fffd}\nwhole \u{20ac}\nend\n");
        assert_eq!(stage.server.get(&format!("/builds/{}", ended.id)).code, 200);
        let events = stage.server.get(&format!("/api/v1/builds/{}/events", ended.id)).body;
        for told in [r#""text":"a\u0000b""#, r#""text":"end""#, "whole \u{20ac}", "event: end\n"] {
            assert!(events.contains(told), "{told} is not in {events}");
        }
    });
}

#[test]
fn a_failing_step_takes_its_children_along() {
    in_both(|stage| {
        let ended = stage.build(&script("sleep 600 & sleep 600 & exit 3"));
        assert_eq!((&ended.build["outcome"], ended.word.state.as_str()), (&"failed".into(), "failure"));
        assert_eq!(step(&ended.build, "bundle")["exit_code"], 3);
    });
}

/// Without a sandbox whose step a process is goes by its session, its parents and its user.
#[test]
fn what_was_left_behind_as_an_ordinary_user() {
    server::path_with_bower();
    ordinary::again_one_by_one(&[
        "hanging_steps::a_daemon",
        "hanging_steps::a_child_that_holds",
        "hanging_steps::a_cancelled_step",
    ]);
}

//! The whole server against a forge that misbehaves.

use std::net::TcpListener;
use std::process::{Command, Output};
use std::time::{Duration, Instant, SystemTime};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::support::forge::{Forge, Kind, Moved, Repo, Trouble};
use crate::support::machine::script;
use crate::support::server::{ADMIN, EXE, Server};

/// A repository with nothing to install and nothing to bundle.
const NOTHING_TO_DO: &[(&str, &str)] = &[("README.md", "# Shop\n")];

/// The next commit of a branch, built; its verdict is in the store.
fn built(server: &Server, repo: &Repo, branch: &str) -> (Moved, i64) {
    let text = format!("{branch} {:?}\n", Instant::now());
    let moved = repo.push(branch, &[NOTHING_TO_DO[0], ("when", &text)]);
    let build = server.deliver(&repo.pushed(&moved)).build();
    assert_eq!(server.finished(build)["outcome"], "passed", "builds go on, whatever the forge does");
    (moved, build)
}

fn outbox_part(server: &Server) -> Value {
    let ready = server.get("/readyz");
    assert_eq!((ready.code, &ready.json()["ready"]), (200, &json!(true)), "{ready:?}");
    ready.json()["parts"]["outbox"].clone()
}

/// `hookmill ARGS` against the server, as its administrator.
fn cli(server: &Server, args: &[&str]) -> Output {
    Command::new(EXE)
        .args(args)
        .env("HOOKMILL_URL", server.url())
        .env("HOOKMILL_TOKEN", ADMIN)
        .env("NO_COLOR", "1")
        .output()
        .expect("started")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn resets_garbage_and_pages_of_strangers_lose_nothing_and_take_no_token_away() {
    let forge = Forge::start();
    let repo = forge.repo("acme/shop");
    // Whoever connects here is counted; nobody may.
    let elsewhere = TcpListener::bind("127.0.0.1:0").expect("loopback");
    elsewhere.set_nonblocking(true).expect("asked without waiting");
    let there = format!("Location: http://{}/api/v1/repos/a/b\r\n", elsewhere.local_addr().expect("bound"));
    let there: &'static str = Box::leak(there.into_boxed_str());
    let server = Server::start(&forge);
    let portal = "<html><title>Sign in to Hotel Wi-Fi</title></html>";
    forge.trouble(1, Trouble::Says(200, "", portal));
    forge.trouble(1, Trouble::Reset);
    forge.trouble(1, Trouble::Says(302, there, ""));
    forge.trouble(1, Trouble::Garbage);
    let (moved, _) = built(&server, &repo, "main");
    assert_eq!(forge.final_status(&moved.after, "hookmill").state, "success");
    assert!(forge.posted().len() >= 5, "{:#?}", forge.posted());
    let log = server.log_text();
    for words in ["Sign in to Hotel Wi-Fi", "which gets no token: correct the forge's api_url"] {
        assert!(log.contains(words), "{words} in {log}");
    }
    assert!(elsewhere.accept().is_err(), "somebody followed a redirect to another port");
    forge.finish();
}

#[test]
fn no_request_comes_before_its_time_also_after_a_restart() {
    const ASKED: Duration = Duration::from_secs(10);
    let forge = Forge::start();
    let repo = forge.repo("acme/shop");
    let mut server = Server::start(&forge);
    // A secondary limit as GitHub says it: the time is in another header, and as seconds since 1970.
    let (begun, now) = (Instant::now(), SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970"));
    let reset = (now + ASKED).as_secs();
    let due = begun + (Duration::from_secs(reset) - now);
    let limited = format!("X-RateLimit-Remaining: 0\r\nX-RateLimit-Reset: {reset}\r\n");
    forge.trouble(
        1,
        Trouble::Says(403, Box::leak(limited.into_boxed_str()), r#"{"message":"API rate limit exceeded"}"#),
    );
    let first = repo.push("main", NOTHING_TO_DO);
    server.deliver(&repo.pushed(&first)).build();
    let outbox = || outbox_part(&server)["detail"].to_string();
    forge.wait(|| outbox().contains("is left alone").then_some(()), outbox);
    server.kill9();
    server.restart();
    let (second, _) = built(&server, &repo, "other");
    for moved in [&first, &second] {
        assert_eq!(forge.final_status(&moved.after, "hookmill").state, "success");
    }
    let posted = forge.posted();
    let (limited, next) = (&posted[0], &posted[1]);
    assert_eq!(limited.answered, 403);
    assert!(next.at >= due, "asked {:?} before its time, {:?} after the first", due - next.at, next.at - limited.at);

    forge.trouble(1, Trouble::TooMany(2));
    let before = forge.posted().len();
    let (third, _) = built(&server, &repo, "third");
    forge.wait(|| (forge.posted().len() > before).then_some(()), || "it was never asked".to_owned());
    assert_eq!(server.stop(), Some(0));
    server.restart();
    assert_eq!(forge.final_status(&third.after, "hookmill").state, "success");
    let posted = forge.posted();
    let waited = posted[before + 1].at - posted[before].at;
    assert!(waited >= Duration::from_secs(2), "asked again after {waited:?}");
    forge.finish();
}

#[test]
fn a_late_answer_to_an_older_request_is_not_the_last_word() {
    let forge = Forge::start();
    let repo = forge.repo("acme/shop");
    let server = Server::start(&forge);
    forge.trouble(1, Trouble::Late);
    let moved = repo.push("main", NOTHING_TO_DO);
    let build = server.deliver(&repo.pushed(&moved)).build();
    forge.wait_for_late();
    assert_eq!(server.finished(build)["outcome"], "passed");
    // Another repository's words do not wait for it.
    let other = forge.repo("acme/desk");
    let (others, _) = built(&server, &other, "main");
    assert_eq!(forge.final_status(&others.after, "hookmill").state, "success");
    assert_eq!(forge.statuses_of(&moved.after), [], "its final word waits for the older request's end");
    forge.release();
    assert_eq!(forge.final_status(&moved.after, "hookmill").state, "success");
    assert_eq!(forge.states_of(&moved.after), ["pending", "success"]);
    forge.finish();
}

#[test]
fn a_refused_token_is_shown_and_a_mended_one_is_used_at_once() {
    let forge = Forge::start();
    let repo = forge.repo("acme/shop");
    let server = Server::start(&forge);
    forge.trouble(10_000, Trouble::Unauthorized);
    let moves: Vec<Moved> = ["main", "a", "b"].map(|branch| built(&server, &repo, branch).0).into();
    let part =
        forge.wait(|| Some(outbox_part(&server)).filter(|part| part["ok"] == false), || "never shown".to_owned());
    assert!(part["detail"].as_str().is_some_and(|detail| detail.contains("401")), "{part}");
    let page = server.get_with("/health", &[]).body;
    assert!(page.contains("gitea is left alone") && page.contains("401"), "{page}");
    let asked = forge.posted().len();
    assert!(asked < 10, "{asked} requests with a refused token");

    forge.mend();
    server.signal(Signal::HUP);
    let mended = Instant::now();
    for moved in &moves {
        assert_eq!(forge.final_status(&moved.after, "hookmill").state, "success");
    }
    assert!(mended.elapsed() < Duration::from_secs(25), "nobody waits out the pause for the old token");
    forge.finish();
}

#[test]
fn a_status_that_is_refused_stops_no_other_is_shown_and_can_be_sent_again() {
    let forge = Forge::start();
    let (bad, good) = (forge.repo("acme/shop"), forge.repo("acme/desk"));
    let server = Server::start(&forge);
    // Both words of the first commit.
    forge.trouble(2, Trouble::Says(422, "", r#"{"message":"Validation failed"}"#));
    let moved = bad.push("main", NOTHING_TO_DO);
    let build = server.deliver(&bad.pushed(&moved)).build();
    forge.wait(|| (!forge.posted().is_empty()).then_some(()), || "it was never asked".to_owned());
    assert_eq!(server.finished(build)["outcome"], "passed");
    let dead = || server.build(build)["statuses"].as_array().cloned().unwrap_or_default();
    forge.wait(
        || dead().iter().any(|told| told["fate"] == "dead" && told["state"] == "success").then_some(()),
        || format!("{:#?}", dead()),
    );
    let (others, _) = built(&server, &good, "main");
    assert_eq!(forge.final_status(&others.after, "hookmill").state, "success");

    let part = outbox_part(&server);
    assert!(part["ok"] == false && part["detail"].as_str().is_some_and(|text| text.contains("given up")), "{part}");
    assert_eq!(server.get("/api/v1/outbox").code, 403, "it is for the administrator");
    let letters =
        server.get_with("/api/v1/outbox", &[("authorization", &format!("Bearer {ADMIN}"))]).json()["dead"].clone();
    assert_eq!((letters.as_array().map(Vec::len), &letters[0]["build"]), (Some(1), &json!(build)), "{letters:#}");
    assert!(letters[0]["last_error"].as_str().is_some_and(|text| text.contains("Validation failed")), "{letters:#}");
    let metrics = server.get("/metrics").body;
    assert!(metrics.contains(r#"hookmill_statuses{state="dead"} 1"#), "{metrics}");
    let shown = cli(&server, &["builds", "show", &build.to_string()]);
    assert!(said(&shown).contains(&format!("hookmill builds resend {build}")), "{}", said(&shown));

    let sent = cli(&server, &["builds", "resend", &build.to_string()]);
    assert_eq!(sent.status.code(), Some(0), "{}", said(&sent));
    assert_eq!(forge.final_status(&moved.after, "hookmill").state, "success");
    forge.wait(|| (outbox_part(&server)["ok"] == true).then_some(()), || "still not well".to_owned());
    let again = cli(&server, &["builds", "resend", &build.to_string()]);
    assert_eq!(again.status.code(), Some(1), "{}", said(&again));
    assert!(said(&again).contains("nothing to send again"), "{}", said(&again));
    forge.finish();
}

#[test]
fn a_new_token_sends_again_what_the_old_one_could_not() {
    let forge = Forge::start();
    let repo = forge.repo("acme/shop");
    let server = Server::start(&forge);
    forge.trouble(2, Trouble::Says(403, "", r#"{"message":"Resource not accessible by personal access token"}"#));
    let moved = repo.push("main", NOTHING_TO_DO);
    let build = server.deliver(&repo.pushed(&moved)).build();
    forge.wait(|| (!forge.posted().is_empty()).then_some(()), || "it was never asked".to_owned());
    server.finished(build);
    let told = || server.build(build)["statuses"].as_array().cloned().unwrap_or_default();
    let is_dead = |told: &Value| told["fate"] == "dead" && told["state"] == "success";
    forge.wait(|| told().iter().any(is_dead).then_some(()), || "it was not given up".to_owned());
    let config = std::fs::read_to_string(server.config_file()).expect("read");
    let without = config.replace(&format!("token = \"{}\"\n", crate::support::forge::TOKEN), "");
    // Without a token first, then with one: that is a change.
    std::fs::write(server.config_file(), without).expect("written");
    server.signal(Signal::HUP);
    forge.wait(
        || (server.log_text().matches("configuration read again").count() == 1).then_some(()),
        || "not read".to_owned(),
    );
    std::fs::write(server.config_file(), config).expect("written");
    server.signal(Signal::HUP);
    assert_eq!(forge.final_status(&moved.after, "hookmill").state, "success");
    assert!(server.log_text().contains("statuses that were given up are sent again"), "{}", server.log_text());
    forge.finish();
}

/// Who reads the configuration again sends again what was given up, and ends the pause for a token that was refused. What
/// was under way then is refused a moment later.
#[test]
fn what_is_refused_while_the_configuration_is_read_again_is_sent_again() {
    // A refusal for good; and one for which the forge is left alone for half a minute, less up to a quarter.
    const PAUSE: Duration = Duration::from_secs(22);
    for refusal in [403, 401] {
        let forge = Forge::start();
        let repo = forge.repo("acme/shop");
        let server = Server::start(&forge);
        let moved = repo.push("main", &[(".hookmill.toml", &script("sleep 600"))]);
        let build = server.deliver(&repo.pushed(&moved)).build();
        forge.status_in(&moved.after, "pending");
        forge.trouble(1, Trouble::LateRefusal(refusal));
        assert_eq!(server.post(&format!("/api/v1/builds/{build}/cancel"), "").code, 202);
        forge.wait_for_late();
        let config = std::fs::read_to_string(server.config_file()).expect("read");
        let moved_away = config.replace("api_url = \"http://127.0.0.1:", "api_url = \"http://localhost:");
        assert_ne!(moved_away, config, "the forge has another address now");
        std::fs::write(server.config_file(), moved_away).expect("written");
        server.signal(Signal::HUP);
        let is_read = || server.log_text().contains("configuration read again");
        forge.wait(|| is_read().then_some(()), || "not read".to_owned());
        let released = Instant::now();
        forge.release();
        assert_eq!(forge.final_status(&moved.after, "hookmill").state, "error");
        assert!(released.elapsed() < PAUSE, "{refusal}: told after {:?}", released.elapsed());
        forge.finish();
    }
}

#[test]
fn a_token_that_will_end_is_warned_of() {
    let forge = Forge::start();
    let repo = forge.repo_of(Kind::Github, "acme/shop");
    let ends = SystemTime::now() + Duration::from_secs(9 * 86_400 + 3600);
    let ends = humantime::format_rfc3339_seconds(ends).to_string().replace('T', " ").replace('Z', " UTC");
    forge.also_say(&format!("GitHub-Authentication-Token-Expiration: {ends}\r\n"));
    let mut server = Server::start(&forge);
    let (moved, _) = built(&server, &repo, "main");
    forge.final_status(&moved.after, "hookmill");
    let detail = || outbox_part(&server)["detail"].as_str().unwrap_or_default().to_owned();
    forge.wait(|| detail().contains("the token of github ends in 9 days").then_some(()), detail);
    assert_eq!(outbox_part(&server)["ok"], true, "nothing is wrong yet");
    assert!(server.get("/health").body.contains("9 days left"));
    let doctor = cli(&server, &["doctor", "--json", "--config", &server.config_file().display().to_string()]);
    assert!(said(&doctor).contains("but not for long"), "{}", said(&doctor));
    server.kill9();
    server.restart();
    let (again, _) = built(&server, &repo, "other");
    forge.final_status(&again.after, "hookmill");
    let warned = server.log_text().matches("the forge's token ends").count();
    assert_eq!(warned, 1, "once a day, also over a restart: {}", server.log_text());
    // What `doctor` asks beside the statuses is nothing that a server asks: no `finish`.
}

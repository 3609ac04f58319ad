//! `hookmill builds` against a server of the test's own on loopback, which answers what the test says and remembers
//! what it was asked.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::thread::JoinHandle;

use hookmill::domain::build::Build;
use hookmill::domain::outcome::Outcome;
use hookmill::domain::step::{Step, StepKind, StepState};
use serde_json::{Value, json};

use crate::support::port;

/// A server that answers one connection after the other.
struct Api {
    url: String,
    /// Ends with the last answer, and gives back the requests, head and body.
    served: JoinHandle<Vec<String>>,
}

impl Api {
    fn answering(answers: Vec<String>) -> Api {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port of loopback");
        let url = format!("http://{}", listener.local_addr().expect("bound"));
        let serve = move || {
            let mut requests = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().expect("a connection");
                requests.push(request(&mut stream));
                stream.write_all(answer.as_bytes()).expect("an answer is taken");
            }
            requests
        };
        Api { url, served: std::thread::spawn(serve) }
    }

    /// Runs `hookmill builds` with these words; the requests that it made come with what it said.
    fn run(self, words: &[&str]) -> (Output, Vec<String>) {
        let output = builds(words).env("HOOKMILL_URL", &self.url).output().expect("it runs");
        (output, self.served.join().expect("every answer was fetched"))
    }
}

fn request(stream: &mut TcpStream) -> String {
    let mut reader = BufReader::new(stream);
    let (mut request, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a line of the head");
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a number");
        }
        request.push_str(&line);
        if line == "\r\n" || line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("the body");
    request + &String::from_utf8(body).expect("text")
}

fn builds(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hookmill"));
    command.arg("builds").args(words).stdin(Stdio::null());
    // A proxy of this machine must not matter: loopback is asked directly.
    command.env_remove("HOOKMILL_TOKEN").env("HTTPS_PROXY", "http://127.0.0.1:9");
    command
}

fn answer(status: &str, kind: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn document(body: &Value) -> String {
    answer("200 OK", "application/json", &body.to_string())
}

fn refusal(status: &str, message: &str) -> String {
    answer(status, "application/json", &json!({"error": {"code": "x", "message": message}}).to_string())
}

/// As the API shows a build, with a field that this version does not know.
fn failed_build() -> Value {
    json!({
        "id": 12, "repo": "github/acme/shop", "sha": "a".repeat(40), "built_sha": "a".repeat(40), "base_sha": null,
        "ref": "refs/heads/main", "branch": "main", "pull_request": null, "event": "push", "trust": "trusted",
        "attempt": 1, "rerun_of": null, "superseded_by": null, "state": "finished", "outcome": "failed",
        "reason": "Bundle failed: first src/cart.js:14 Can't resolve './price'", "approved_by": null,
        "created_at": "2026-11-22T10:00:00.000Z", "started_at": "2026-11-22T10:00:01.000Z",
        "finished_at": "2026-11-22T10:00:10.000Z", "sandbox": "userns+mount+pid+net+overlay+bwrap",
        "base_branch": null, "default_branch": "main", "title": "Add a cart\u{1b}]0;owned\u{7}", "author": "anna",
        "use_cache": true, "of_a_later_version": {"x": 1},
        "steps": [
            step("npm", "install", "passed", json!(0)),
            step("bundle", "bundle", "failed", json!(1)),
        ],
    })
}

fn step(name: &str, kind: &str, outcome: &str, exit_code: Value) -> Value {
    json!({
        "name": name, "kind": kind, "state": "finished", "outcome": outcome, "exit_code": exit_code, "signal": null,
        "cache": "miss", "started_at": "2026-11-22T10:00:01.000Z", "finished_at": "2026-11-22T10:00:07.000Z",
        "reason": null,
    })
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

#[test]
fn the_documents_of_these_tests_are_those_of_the_api() {
    let build: Build = serde_json::from_value(failed_build()).expect("a build");
    assert_eq!(build.outcome, Some(Outcome::Failed));
    let step = Step { state: StepState::Running, ..Step::queued("npm", StepKind::Install) };
    assert!(serde_json::to_value(step).expect("JSON").get("exit_code").is_some());
}

#[test]
fn a_list_asks_for_what_was_typed_and_prints_columns() {
    let folder = tempfile::tempdir().expect("a folder");
    let token = folder.path().join("token");
    std::fs::write(&token, "s3cret-of-the-admin\n").expect("written");
    let api = Api::answering(vec![document(&json!({"builds": [failed_build()], "next": 11}))]);
    let token = token.to_str().expect("text");
    let words = ["list", "--repo", "github/acme/shop", "--branch", "feature/x", "--state", "finished"];
    let (output, requests) = api.run(&[&words[..], &["--limit", "1", "--token-file", token]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    let expected =
        "GET /api/v1/builds?repo=github%2Facme%2Fshop&branch=feature%2Fx&state=finished&limit=1 HTTP/1.1\r\n";
    assert!(requests[0].starts_with(expected), "{}", requests[0]);
    assert!(requests[0].contains("authorization: Bearer s3cret-of-the-admin\r\n"), "{}", requests[0]);
    let columns = [
        "12",
        "failed",
        "github/acme/shop",
        "main",
        &"a".repeat(40),
        "2026-11-22T10:00:00.000Z",
        "9s",
        "Bundle failed: first src/cart.js:14 Can't resolve './price'",
    ];
    assert_eq!(out(&output), columns.join("\t") + "\n");
}

#[test]
fn json_is_the_servers_document() {
    let list = json!({"builds": [failed_build()], "next": null});
    let (output, _) = Api::answering(vec![document(&list)]).run(&["list", "--json"]);
    assert_eq!(out(&output), format!("{list}\n"));
    let (output, requests) = Api::answering(vec![document(&failed_build())]).run(&["show", "12", "--json"]);
    assert_eq!(out(&output), format!("{}\n", failed_build()));
    assert!(requests[0].starts_with("GET /api/v1/builds/12 HTTP/1.1\r\n"), "{}", requests[0]);
    assert!(!requests[0].contains("authorization"), "{}", requests[0]);
}

#[test]
fn one_build_is_shown_with_its_steps_and_nothing_that_a_terminal_obeys() {
    let (output, _) = Api::answering(vec![document(&failed_build())]).run(&["show", "12"]);
    let text = out(&output);
    for part in ["build 12: failed\n", "github/acme/shop, main\n", "Add a cart\n", "/builds/12\n", "exit 1", "bundle"] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
}

#[test]
fn one_build_shows_what_its_caches_did() {
    let mut build = failed_build();
    build["use_cache"] = json!(false);
    build["kept"] = json!([{"level": "packages", "bytes": 81_000_000}, {"level": "verdict", "bytes": 0}]);
    build["same_as"] = json!(9);
    build["steps"][0]["cache"] = json!("hit");
    build["steps"][0]["cache_note"] = json!("unchanged since build #9\u{1b}]0;owned\u{7}");
    let (output, _) = Api::answering(vec![document(&build)]).run(&["show", "12"]);
    let text = out(&output);
    for part in [
        "push, trusted, attempt 1, without caches\n",
        "  kept          packages 81 MB, verdict\n",
        "  same files as build 9, which passed: nothing had to run\n",
        "hit: unchanged since build #9\n",
    ] {
        assert!(text.contains(part), "{part:?} in {text}");
    }
    assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
    let (output, _) = Api::answering(vec![document(&failed_build())]).run(&["show", "12"]);
    let text = out(&output);
    assert!(!["without caches", "kept", "same files"].iter().any(|part| text.contains(part)), "{text}");
}

#[test]
fn changes_are_asked_for_and_answered() {
    let accepted = |id: i64| answer("202 Accepted", "application/json", &json!({"build": id}).to_string());
    let (output, requests) = Api::answering(vec![accepted(12)]).run(&["cancel", "12"]);
    assert_eq!((output.status.code(), out(&output).as_str()), (Some(0), "build 12 is being stopped\n"));
    assert!(requests[0].starts_with("POST /api/v1/builds/12/cancel HTTP/1.1\r\n"), "{}", requests[0]);
    for (words, body) in
        [(vec!["rerun", "12"], r#"{"cache":true}"#), (vec!["rerun", "12", "--no-cache"], r#"{"cache":false}"#)]
    {
        let api = Api::answering(vec![accepted(13)]);
        let page = format!("build 13: {}/builds/13\n", api.url);
        let (output, requests) = api.run(&words);
        assert_eq!((output.status.code(), out(&output)), (Some(0), page));
        assert!(requests[0].starts_with("POST /api/v1/builds/12/rerun HTTP/1.1\r\n"), "{}", requests[0]);
        assert!(requests[0].ends_with(&format!("\r\n\r\n{body}")), "{}", requests[0]);
    }
}

#[test]
fn an_approval_names_one_commit() {
    let sha = "a1b2c3d4".repeat(5);
    let accepted = || answer("202 Accepted", "application/json", &json!({"build": 12, "sha": sha}).to_string());
    for (words, body) in [
        (vec!["approve", "12"], String::new()),
        (vec!["approve", "12", "--sha", &sha], json!({ "sha": sha }).to_string()),
    ] {
        let (output, requests) = Api::answering(vec![accepted()]).run(&words);
        let told = format!("build 12 is queued; approved is commit {sha} and no other\n");
        assert_eq!((output.status.code(), out(&output)), (Some(0), told));
        assert!(requests[0].starts_with("POST /api/v1/builds/12/approve HTTP/1.1\r\n"), "{}", requests[0]);
        assert!(requests[0].ends_with(&format!("\r\n\r\n{body}")), "{}", requests[0]);
    }
}

#[test]
fn a_no_of_the_server_is_exit_code_1() {
    let (output, _) = Api::answering(vec![refusal("403 Forbidden", "a change needs the token")]).run(&["cancel", "12"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("a change needs the token\n  help: give the server's admin token"), "{output:?}");
    let finished = refusal("409 Conflict", "the build has finished already");
    let (output, _) = Api::answering(vec![finished]).run(&["cancel", "12"]);
    assert_eq!((output.status.code(), err(&output).as_str()), (Some(1), "hookmill: the build has finished already\n"));
    for words in [&["show", "7"][..], &["log", "7"], &["log", "-f", "7"]] {
        let (output, _) = Api::answering(vec![refusal("404 Not Found", "there is no such thing")]).run(words);
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        assert!(out(&output).is_empty() && err(&output).contains("no such thing"), "{output:?}");
    }
}

#[test]
fn what_can_not_be_used_is_exit_code_2() {
    let check = |words: &[&str], said: &str| {
        let output = builds(words).output().expect("it runs");
        assert_eq!(output.status.code(), Some(2), "{words:?}: {}", err(&output));
        assert!(err(&output).contains(said), "{words:?}: {}", err(&output));
    };
    check(&["list", "--state", "done"], "\"done\" is not a state");
    check(&["list", "--limit", "201"], "201");
    check(&["show", "0"], "0");
    check(&["list", "--server", "ftp://127.0.0.1"], "is not an http:// or https:// address");
    check(&["list", "--token-file", "/nonexistent/token"], "--token-file /nonexistent/token can't be read");
    check(&["approve", "12", "--sha", "a1b2c3d"], "is not a commit id");
    let output = builds(&["list"]).env("HOOKMILL_TOKEN", "two words").output().expect("it runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(!err(&output).contains("two words"), "{}", err(&output));
}

#[test]
fn a_server_that_is_not_there_is_exit_code_3() {
    let server = format!("http://127.0.0.1:{}", port::free());
    for words in [&["list"][..], &["log", "-f", "12"], &["cancel", "12"]] {
        let output = builds(words).args(["--server", &server]).output().expect("it runs");
        assert_eq!(output.status.code(), Some(3), "{words:?}");
        assert!(err(&output).contains(&format!("{server} can't be reached")), "{}", err(&output));
    }
    let check = |answered: String, said: &str| {
        let (output, _) = Api::answering(vec![answered]).run(&["show", "12"]);
        assert_eq!(output.status.code(), Some(3), "{}", err(&output));
        assert!(err(&output).contains(said), "{}", err(&output));
    };
    check(answer("200 OK", "text/html", "<h1>Welcome to nginx</h1>"), "not as Hookmill does");
    check(answer("502 Bad Gateway", "text/html", "<h1>502</h1>"), "can't answer now: 502");
    check(refusal("503 Service Unavailable", "the store does not answer"), "the store does not answer");
    let moved = "HTTP/1.1 301 Moved\r\nLocation: https://ci.acme.dev/\r\nContent-Length: 0\r\n\r\n".to_owned();
    check(moved, "it redirects to https://ci.acme.dev/");
}

#[test]
fn a_log_comes_byte_for_byte() {
    let log = "== npm ==\nadded 3 packages\r\n\u{1b}[32mok\u{1b}[0m";
    let api = Api::answering(vec![answer("200 OK", "text/plain; charset=utf-8", log)]);
    let (output, requests) = api.run(&["log", "12", "--step", "npm:client"]);
    assert_eq!((output.status.code(), out(&output).as_str()), (Some(0), log));
    assert!(requests[0].starts_with("GET /api/v1/builds/12/log?step=npm%3Aclient HTTP/1.1\r\n"), "{}", requests[0]);
}

/// An event stream that breaks off after these events.
fn stream(events: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/event-stream\r\n\r\n{events}")
}

fn event(kind: &str, id: &str, data: &Value) -> String {
    format!("event: {kind}\nid: {id}\ndata: {data}\n\n")
}

fn line(step: &str, n: u32, text: &str) -> String {
    let data = json!({"step": step, "n": n, "t": "2026-11-22T10:00:02.000Z", "text": text});
    event("line", &format!("1-{n}"), &data)
}

fn ended(outcome: &str) -> String {
    let mut build = failed_build();
    build["outcome"] = json!(outcome);
    event("end", "end", &build)
}

#[test]
fn a_followed_log_goes_on_where_the_connection_broke() {
    let mut running = failed_build();
    running["state"] = json!("running");
    running["outcome"] = Value::Null;
    let first =
        [&event("state", "1-0", &running), &line("npm", 1, "one"), &line("bundle", 2, "two"), ":\n\nevent: line"];
    let busy = "HTTP/1.1 503 Busy\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".to_owned();
    let second = [line("bundle", 3, "three"), event("of_a_later_version", "1-4", &json!({})), ended("failed")];
    let api = Api::answering(vec![stream(&first.map(ToString::to_string).concat()), busy, stream(&second.concat())]);
    let (output, requests) = api.run(&["log", "-f", "12"]);
    assert_eq!(out(&output), "npm    | one\nbundle | two\nbundle | three\n");
    assert_eq!(output.status.code(), Some(1), "as the build ended: {}", err(&output));
    assert_eq!(err(&output).matches("build 12: running").count(), 1, "{}", err(&output));
    assert!(err(&output).contains("build 12: failed: Bundle failed: first src/cart.js:14"), "{}", err(&output));
    assert!(requests[0].starts_with("GET /api/v1/builds/12/events HTTP/1.1\r\n"), "{}", requests[0]);
    assert!(!requests[0].contains("last-event-id"), "{}", requests[0]);
    assert!(requests[1..].iter().all(|request| request.contains("last-event-id: 1-2\r\n")), "{requests:?}");
}

#[test]
fn a_followed_log_ends_as_the_build_did() {
    for (outcome, code) in
        [("passed", 0), ("skipped", 0), ("failed", 1), ("timed_out", 1), ("broken", 3), ("cancelled", 130)]
    {
        let (output, _) = Api::answering(vec![stream(&ended(outcome))]).run(&["log", "-f", "12"]);
        assert_eq!(output.status.code(), Some(code), "{outcome}");
    }
}

#[test]
fn one_step_of_a_followed_log_is_text_alone() {
    let events = [line("npm", 1, "one"), line("bundle", 1, "two"), ended("passed")].concat();
    let (output, _) = Api::answering(vec![stream(&events)]).run(&["log", "-f", "12", "--step", "npm"]);
    assert_eq!((output.status.code(), out(&output).as_str()), (Some(0), "one\n"));
    let (output, _) = Api::answering(vec![stream(&events)]).run(&["log", "-f", "12", "--step", "yarn"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains("no step \"yarn\"; its steps: npm, bundle"), "{}", err(&output));
}

#[test]
fn a_reader_who_leaves_ends_the_command_without_a_word() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port of loopback");
    let server = format!("http://{}", listener.local_addr().expect("bound"));
    // Writes until nobody reads.
    let served = std::thread::spawn(move || {
        let (mut connection, _) = listener.accept().expect("a connection");
        request(&mut connection);
        connection.write_all(stream("").as_bytes()).expect("a head is taken");
        while connection.write_all(line("npm", 1, "on and on").as_bytes()).is_ok() {}
    });
    let mut child = builds(&["log", "-f", "12", "--server", &server])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut first = [0; 3];
    child.stdout.take().expect("piped").read_exact(&mut first).expect("a first word");
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((&first, output.status.code(), err(&output).as_str()), (b"npm", Some(0), ""));
    served.join().expect("the connection was closed");
}

//! The door for people and programs, over HTTP on loopback: who may see what, what is shown of
//! hostile text, and a live stream that loses and doubles nothing.

mod fake;
mod painted;

use std::sync::Arc;

use fake::{Event, Events, Got, Memory, NOON, Server, Setup, TOKEN, build, finished, step};
use hookmill::blobs::{Artifacts, BuildLog, Logs, StepLog};
use hookmill::config::server::Read;
use hookmill::domain::agent::{Agent, Order, Standing};
use hookmill::domain::build::{Build, BuildId, Cause, KeptLevel, State};
use hookmill::domain::outcome::Outcome;
use hookmill::domain::rule::{Rule, Ruling};
use hookmill::domain::snapshot::Level;
use hookmill::domain::spec::{Decision, Explanation};
use hookmill::domain::step::{CacheUse, Step, StepKind};
use hookmill::domain::time::Timestamp;
use hookmill::domain::trust::Trust;
use serde_json::json;

const HOME: &str = "http://127.0.0.1:4665";
const AUTH: (&str, &str) = ("authorization", "Bearer correct horse battery staple");
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
const MIB: u64 = 1024 * 1024;

/// A folder for logs that goes with the test, and empty records.
fn ground() -> (tempfile::TempDir, Logs, Arc<Memory>) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let logs = Logs::new(dir.path().join("logs"));
    (dir, logs, Arc::default())
}

fn claim(server: &Server, id: i64, claim: u64) -> BuildLog {
    let (hub, id) = (server.hub.clone(), BuildId(id));
    server.logs.create(id, claim, 4 * MIB, move || hub.publish(id)).expect("a log")
}

fn npm() -> Step {
    step("npm", StepKind::Install, None, 100, 0)
}

/// A finished build of two steps with logs, as number 12.
fn shop(server: &Server) {
    let steps = [("npm", Outcome::Passed), ("bundle", Outcome::Failed)];
    let kind = |name: &str| if name == "npm" { StepKind::Install } else { StepKind::Bundle };
    let steps: Vec<Step> =
        steps.iter().map(|(name, outcome)| step(name, kind(name), Some(*outcome), 100, 900)).collect();
    let log = claim(server, 12, 1);
    for ((index, step), text) in (0..).zip(&steps).zip(["added 2 packages", "one\ntwo\n"]) {
        let mut file = log.begin(index, step).expect("begun");
        file.append(text.as_bytes()).expect("written");
        file.finish(step).expect("finished");
    }
    let reason = Some("Bundle failed: first src/cart.js:14".into());
    server.memory.put(Build { steps, reason, ..finished(12, Outcome::Failed) });
}

#[test]
fn without_the_right_to_read_everything_is_the_unknown_thing() {
    for read in [Read::Link, Read::Token] {
        let (_dir, logs, memory) = ground();
        let server = Server::start(Setup { read, ..Setup::default() }, memory, &logs);
        shop(&server);
        for (there, not_there) in [
            ("/api/v1/builds/12", "/api/v1/builds/99"),
            ("/api/v1/builds/12/log", "/api/v1/builds/99/log"),
            ("/api/v1/builds/12/log?step=npm", "/api/v1/nothing"),
            ("/api/v1/builds/12/events", "/api/v1/builds/99/events"),
            ("/api/v1/builds/12/stats", "/api/v1/builds/99/stats"),
            ("/api/v1/builds/12/artifacts/x", "/api/v1/builds/99/artifacts/x"),
            ("/api/v1/builds", "/api/v1/nothing"),
            ("/api/v1/builds?x=1", "/api/v1/nothing"),
            ("/metrics", "/api/v1/nothing"),
            ("/repos/github/acme/shop/-/badge.svg", "/repos/github/acme/nothing/-/badge.svg"),
            ("/repos/github/acme/shop", "/repos/github/acme/nothing"),
            ("/builds/12", "/builds/99"),
            ("/builds/12?key=wrong", "/builds/99?key=wrong"),
        ] {
            let (one, other) = (server.get(there), server.get(not_there));
            assert_eq!(one.status, 404, "{there}");
            // The way back after signing in repeats the address that was asked for, and nothing else may differ.
            let neutral = |got: &Got| got.text().replace("99", "12").replace("nothing", "shop");
            assert_eq!(neutral(&one), neutral(&other), "{there}");
            let names = |got: &Got| got.headers.keys().map(ToString::to_string).collect::<Vec<_>>();
            assert_eq!(names(&one), names(&other), "{there}");
        }
        assert_eq!(*server.memory.asked.lock().expect("free"), 0, "nothing is looked up for whoever may not read");
        assert_eq!(server.get("/").status, 404);
        assert_eq!(server.get("/readyz").json(), json!({"ready": true}));
        assert_eq!(server.get("/healthz").text(), "ok");

        for path in [
            "/",
            "/builds/12",
            "/api/v1/builds",
            "/api/v1/builds/12/log",
            "/metrics",
            "/repos/github/acme/shop/-/badge.svg",
        ] {
            assert_eq!(server.get_with(path, &[AUTH]).status, 200, "{path}");
            assert_eq!(server.get_with(path, &[("cookie", &server.session())]).status, 200, "{path}");
            assert_eq!(server.get_with(path, &[("authorization", "Bearer wrong")]).status, 404, "{path}");
        }
        let ready = server.get_with("/readyz", &[AUTH]);
        assert_eq!(ready.status, 200, "a weaker sandbox is told, and ready");
        assert_eq!(ready.json()["parts"]["sandbox"]["ok"], false);
    }
}

#[test]
fn a_link_opens_its_own_build_and_its_key_goes_into_a_cookie() {
    let (_dir, logs, memory) = ground();
    let server = Server::start(Setup::default(), memory, &logs);
    shop(&server);
    server.memory.put(build(13));
    let key = server.key.link_key(BuildId(12));
    let got = server.get(&format!("/builds/12?key={key}"));
    assert_eq!((got.status, got.header("location")), (303, "/builds/12"));
    assert!(got.header("set-cookie").ends_with("; HttpOnly; SameSite=Lax; Secure"), "{got}");
    assert_eq!(got.header("referrer-policy"), "no-referrer");
    let cookie = got.cookie();
    for path in ["/builds/12", "/api/v1/builds/12", "/api/v1/builds/12/log", "/api/v1/builds/12/events"] {
        assert_eq!(server.get_with(path, &[("cookie", &cookie)]).status, 200, "{path}");
    }
    assert_eq!(server.get(&format!("/api/v1/builds/12/log?key={key}")).status, 200, "programs need no cookie");
    for path in ["/builds/13", "/", "/api/v1/builds", "/metrics"] {
        assert_eq!(server.get_with(path, &[("cookie", &cookie)]).status, 404, "{path}");
    }
    let second = format!("/builds/13?key={}", server.key.link_key(BuildId(13)));
    let both = server.get_with(&second, &[("cookie", &cookie)]).cookie();
    for path in ["/builds/12", "/builds/13"] {
        assert_eq!(server.get_with(path, &[("cookie", &both)]).status, 200, "{path}");
    }

    let closed = Server::start(Setup { read: Read::Token, ..Setup::default() }, Arc::clone(&server.memory), &logs);
    assert_eq!(closed.get(&format!("/builds/12?key={key}")).status, 404, "token closes all");
}

#[test]
fn reading_is_free_only_where_the_public_address_is_a_loopback_one() {
    let (_dir, logs, memory) = ground();
    let server = Server::start(Setup { public_url: HOME, ..Setup::default() }, Arc::clone(&memory), &logs);
    shop(&server);
    for path in ["/", "/builds/12", "/metrics", "/api/v1/builds/12", "/repos/github/acme/shop"] {
        assert_eq!(server.get(path).status, 200, "{path}");
        let rebound = server.get_with(path, &[("host", "evil.example")]);
        assert_eq!(rebound.status, 404, "{path}: a name that was pointed here is not loopback");
    }
    assert_eq!(server.post("/api/v1/builds/12/rerun", &[], "").status, 403, "free reading is no right to change");

    let public = Server::start(Setup { read: Read::Public, ..Setup::default() }, memory, &logs);
    assert_eq!(public.get("/builds/12").status, 200);
    let link = format!("/builds/12?key={}", public.key.link_key(BuildId(12)));
    assert_eq!(public.get(&link).header("location"), "/builds/12");
}

#[test]
fn changes_need_the_token_or_our_own_page() {
    let (_dir, logs, memory) = ground();
    let server = Server::start(Setup { public_url: "https://ci.acme.example", ..Setup::default() }, memory, &logs);
    shop(&server);
    let session = server.session();
    let cookie = ("cookie", session.as_str());
    let (ours, theirs, none) =
        (("origin", "https://ci.acme.example"), ("origin", "https://evil.example"), ("origin", "null"));
    let paths = [
        "/api/v1/builds/12/rerun",
        "/api/v1/builds/99/rerun",
        "/api/v1/builds/x/cancel",
        "/api/v1/builds/99/approve",
        "/api/v1/builds/12/resend",
        "/builds/12/resend",
        "/api/v1/repos/github/acme/shop/-/builds",
        "/builds/12/rerun",
        "/builds/99/cancel",
        "/builds/12/approve",
        "/builds/99/approve",
    ];
    for path in paths {
        for headers in [
            &[][..],
            &[theirs],
            &[AUTH, theirs],
            &[cookie],
            &[cookie, theirs],
            &[cookie, none],
            &[("authorization", "Bearer x")],
            &[("authorization", TOKEN)],
        ] {
            assert_eq!(server.post(path, headers, "{").status, 403, "{path} {headers:?}");
        }
    }
    assert_eq!(*server.memory.asked.lock().expect("free"), 0, "403 before anything is looked up");
    assert_eq!(server.get_with("/api/v1/deliveries", &[cookie, theirs]).status, 403);
    assert_eq!(server.get("/api/v1/deliveries").status, 403);
    let deliveries = server.get_with("/api/v1/deliveries", &[AUTH]).json();
    assert_eq!(deliveries["deliveries"][0]["builds"][0], 1);
    assert_eq!(deliveries["refusals"][0]["reason"], "signature wrong");

    let rerun = server.post("/api/v1/builds/12/rerun", &[AUTH], r#"{"cache":false}"#);
    assert_eq!((rerun.status, rerun.json()), (202, json!({"build": 2})));
    let error = |got: Got| (got.status, got.json()["error"]["code"].as_str().unwrap_or_default().to_owned());
    let conflict = |code: &str| (409, code.to_owned());
    assert_eq!(error(server.post("/api/v1/builds/2/rerun", &[AUTH], "")), conflict("not_finished"));
    assert_eq!(server.post("/api/v1/builds/2/cancel", &[cookie, ours], "").status, 202);
    assert_eq!(server.get_with("/api/v1/builds/2", &[AUTH]).json()["reason"], "cancelled by admin");
    assert_eq!(error(server.post("/api/v1/builds/2/cancel", &[AUTH], "")), conflict("already_finished"));
    assert_eq!(error(server.post("/api/v1/builds/99/cancel", &[AUTH], "")), (404, "not_found".into()));
    assert_eq!(error(server.post("/api/v1/builds/12/rerun", &[AUTH], r#"{"cash":true}"#)), (400, "bad_request".into()));
    assert_eq!(error(server.post("/api/v1/builds/12/approve", &[AUTH], "")), conflict("no_approval_needed"));
    assert_eq!(error(server.get_with("/api/v1/builds/12/stats", &[AUTH])), (501, "not_built_yet".into()));

    // A browser sends "null" from our pages, which send no referrer: the form's own token vouches then.
    let page = server.get_with("/builds/12", &[cookie]).text();
    let (_, rest) = page.split_once(r#"name="form" value=""#).expect("a form for the signed in");
    let form = format!("form={}&cache=false", rest.split('"').next().expect("its end"));
    let got = server.post("/builds/12/rerun", &[cookie, none, FORM], &form);
    assert_eq!((got.status, got.header("location")), (303, "/builds/3"));
    assert_eq!(server.post("/builds/12/rerun", &[cookie, theirs, FORM], &form).status, 403);
    assert_eq!(server.post("/builds/12/rerun", &[none, FORM], &form).status, 403, "the form without its session");
    assert_eq!(server.post("/builds/3/rerun", &[cookie, none, FORM], &form).status, 409);

    let unarmed = Server::start(Setup { token: None, ..Setup::default() }, Arc::clone(&server.memory), &logs);
    for headers in [&[AUTH][..], &[cookie, ours], &[("authorization", "Bearer ")]] {
        assert_eq!(unarmed.post("/api/v1/builds/12/rerun", headers, "").status, 403);
    }
    assert_eq!(unarmed.post("/login", &[FORM], "token=").status, 403);
}

#[test]
fn a_forks_commit_is_approved_from_its_page_and_the_audit_tells_by_whom() {
    let (_dir, logs, memory) = ground();
    let server = Server::start(Setup::default(), memory, &logs);
    let waiting = |id| Build {
        state: State::Waiting,
        reason: Some("first build of a fork's commit a1b2c3d needs approval".into()),
        trust: Trust::Fork,
        cause: Cause::PullRequest,
        git_ref: "refs/pull/7/head".parse().expect("legal"),
        branch: None,
        pull_request: Some(7),
        base_sha: Some("b".repeat(40).parse().expect("hex")),
        author: Some("<b>mallory</b>".into()),
        ..build(id)
    };
    (12..=14).for_each(|id| server.memory.put(waiting(id)));
    let sha = waiting(12).sha.to_string();

    let key = server.key.link_key(BuildId(12));
    let moved = server.get(&format!("/builds/12?key={key}"));
    let reader = moved.header("set-cookie").split(';').next().expect("a cookie");
    let seen = server.get_with("/builds/12", &[("cookie", reader)]).text();
    assert!(seen.contains("Sign in to approve") && !seen.contains("/builds/12/approve"), "{seen}");
    let session = server.session();
    let cookie = ("cookie", session.as_str());
    let page = server.get_with("/builds/12", &[cookie]).text();
    let diff = format!("https://github.com/acme/shop/compare/{}...{sha}", "b".repeat(40));
    let shown = [&sha, "&#60;b&#62;mallory&#60;/b&#62;", "in pull request 7", &diff, "Approve a1b2c3d"];
    for words in shown {
        assert!(page.contains(words), "{words} in {page}");
    }
    let (_, rest) = page.split_once(r#"name="form" value=""#).expect("a form for the signed in");
    let form = format!("form={}", rest.split('"').next().expect("its end"));
    let send = |form: &str| server.post("/builds/12/approve", &[cookie, ("origin", "null"), FORM], form);
    assert_eq!(send(&form).status, 400, "the form names no commit");
    assert_eq!(send(&format!("{form}&sha={}", "c".repeat(40))).status, 409, "another commit");
    let named = format!("{form}&sha={sha}");
    let got = send(&named);
    assert_eq!((got.status, got.header("location")), (303, "/builds/12"));
    assert_eq!(send(&named).status, 409, "once");
    let page = server.get_with("/builds/12", &[cookie]).text();
    assert!(page.contains("approved by <bdi>admin</bdi>") && !page.contains("Approve a1b2c3d"), "{page}");

    let approved = server.post("/api/v1/builds/13/approve", &[AUTH], "");
    assert_eq!((approved.status, approved.json()), (202, json!({"build": 13, "sha": sha})));
    let post = |body: &str| {
        let got = server.post("/api/v1/builds/14/approve", &[AUTH], body);
        (got.status, got.json()["error"]["code"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(post(&json!({"sha": "c".repeat(40)}).to_string()), (409, "other_commit".into()));
    assert_eq!(post(r#"{"sha":"a1b2c3d"}"#), (400, "bad_request".into()), "a few digits are no name");
    assert_eq!(post(r#"{"commit":"x"}"#), (400, "bad_request".into()));
    assert_eq!(post(&json!({"sha": sha}).to_string()), (202, String::new()));

    for path in ["/audit", "/api/v1/audit"] {
        assert_eq!(server.get(path).status, 403);
        assert_eq!(server.get_with(path, &[cookie, ("origin", "https://evil.example")]).status, 403);
        assert_eq!(server.get_with(&format!("{path}?who=jane"), &[cookie]).status, 400);
    }
    let document = server.get_with("/api/v1/audit?limit=2", &[AUTH]).json();
    let newest = &document["entries"][0];
    assert_eq!(
        (&newest["what"], &newest["who"], &newest["via"]),
        (&json!("approved"), &json!("admin"), &json!("token"))
    );
    assert_eq!((&newest["build"], &newest["sha"]), (&json!(14), &json!(sha)));
    assert_eq!(newest["says"], "approved commit a1b2c3d of pull request 7");
    assert_eq!(document["next"], 2);
    let rest = server.get_with("/api/v1/audit?before=2", &[AUTH]).json();
    assert_eq!((&rest["entries"][0]["via"], &rest["next"]), (&json!("session"), &json!(null)));
    let page = server.get_with("/audit?limit=2&repo=", &[cookie]).text();
    let shown = ["approved commit a1b2c3d of pull request 7", "/builds/14", "admin token · <bdi>github/acme/shop"];
    for words in shown.into_iter().chain(["Older entries"]) {
        assert!(page.contains(words), "{words} in {page}");
    }
    assert!(server.get_with("/audit?before=2", &[cookie]).text().contains("signed in · "));
}

#[test]
fn what_a_forge_never_took_is_shown_and_sent_again() {
    let (_dir, logs, memory) = ground();
    let setup = Setup { public_url: "https://ci.acme.example", ..Setup::default() };
    let server = Server::start(setup, memory, &logs);
    shop(&server);
    server.memory.give_up(12);
    assert_eq!(server.get("/health").status, 404);
    assert_eq!(server.get("/api/v1/outbox").status, 403);
    let letter = &server.get_with("/api/v1/outbox", &[AUTH]).json()["dead"][0];
    assert_eq!(
        (&letter["build"], &letter["repo"], &letter["state"]),
        (&json!(12), &json!("github/acme/shop"), &json!("failure"))
    );
    let told = &server.get_with("/api/v1/builds/12", &[AUTH]).json()["statuses"][0];
    assert_eq!((&told["context"], &told["fate"]), (&json!("hookmill"), &json!("dead")));

    let session = server.session();
    let cookie = ("cookie", session.as_str());
    let page = server.get_with("/health", &[cookie]).text();
    for words in
        ["github/acme/shop", "Bundle failed: &#60;script&#62;", "422", "gitea is left alone for 61", "Send again"]
    {
        assert!(page.contains(words), "{words} in {page}");
    }
    assert!(server.get_with("/builds/12", &[cookie]).text().contains("The forge was not told hookmill failure"));
    let (_, rest) = page.split_once(r#"name="form" value=""#).expect("a form for the signed in");
    let form = format!("form={}", rest.split('"').next().expect("its end"));
    let got = server.post("/builds/12/resend", &[cookie, ("origin", "null"), FORM], &form);
    assert_eq!((got.status, got.header("location")), (303, "/health"));
    assert!(!server.get_with("/health", &[cookie]).text().contains("Send again"));
    let again = server.post("/api/v1/builds/12/resend", &[AUTH], "");
    assert_eq!((again.status, &again.json()["error"]["code"]), (409, &json!("nothing_to_send")));
}

#[test]
fn signing_in_stays_here_and_a_changed_token_ends_every_session() {
    let (_dir, logs, memory) = ground();
    let server = Server::start(Setup { public_url: "https://acme.example/ci", ..Setup::default() }, memory, &logs);
    shop(&server);
    let token = form_urlencoded::Serializer::new(String::new()).append_pair("token", TOKEN).finish();
    for (next, location) in [
        ("/builds/12", "/ci/builds/12"),
        ("//evil.example", "/ci/"),
        ("https://evil.example", "/ci/"),
        ("/\\evil.example", "/ci/"),
    ] {
        let next = form_urlencoded::Serializer::new(String::new()).append_pair("next", next).finish();
        let got = server.post("/login", &[FORM], &format!("{token}&{next}"));
        assert_eq!((got.status, got.header("location")), (303, location), "{next}");
        assert!(!got.header("set-cookie").contains("correct"), "the cookie is not the token");
        assert!(got.header("set-cookie").contains("; Path=/ci; "), "{got}");
    }
    let (wrong, empty) = (server.post("/login", &[FORM], "token=wrong"), server.post("/login", &[FORM], ""));
    assert_eq!((wrong.status, wrong.text()), (403, empty.text()));
    let session = server.session();
    let page = server.get_with("/ci/builds/12", &[("cookie", &session)]);
    assert_eq!(page.status, 200, "the path of public_url may be left on by the proxy");
    assert!(!page.text().contains("href=\"/b") && page.text().contains("href=\"/ci/"), "every link begins with it");
    assert_eq!(server.get_with("/builds/12", &[("cookie", &session)]).status, 200, "or cut by it");
    let changed = Server::start(
        Setup { token: Some("another token, as long"), ..Setup::default() },
        Arc::clone(&server.memory),
        &logs,
    );
    assert_eq!(changed.get_with("/builds/12", &[("cookie", &session)]).status, 404);
    let forged = session.replace("hookmill_session=1", "hookmill_session=2");
    assert_eq!(server.get_with("/builds/12", &[("cookie", &forged)]).status, 404);
}

#[test]
fn every_page_is_fenced_and_no_path_leads_out() {
    let (_dir, logs, memory) = ground();
    let server = Server::start(Setup { public_url: HOME, ..Setup::default() }, memory, &logs);
    shop(&server);
    for (path, status) in [
        ("/", 200),
        ("/builds/12", 200),
        ("/login", 200),
        ("/builds/99", 404),
        ("/nothing", 404),
        ("/repos/github/acme/shop", 200),
        ("/?limit=0", 400),
    ] {
        let got = server.get(path);
        assert_eq!(got.status, status, "{path}");
        assert_eq!(
            got.header("content-security-policy"),
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
             frame-ancestors 'none'; base-uri 'none'; form-action 'self'",
            "{path}"
        );
        assert_eq!(got.header("x-content-type-options"), "nosniff");
        assert_eq!(got.header("referrer-policy"), "no-referrer");
        assert_eq!(got.header("cross-origin-opener-policy"), "same-origin");
        assert!(!got.text().contains("style=") && !got.text().contains("onclick"), "{path}: nothing inline");
    }
    for path in [
        "/logs/../../etc/passwd",
        "/logs/..%2f..%2fetc%2fpasswd",
        "/api/v1/builds/..%2f12",
        "/api/v1/builds/012",
        "/builds/12%00",
        "/api/v1/builds/12/log?step=../../../etc/passwd",
        "/repos/..%2f..%2fetc",
        "/assets/x/..%2flive.js",
        "/%c0%ae%c0%ae/etc/passwd",
    ] {
        assert!(matches!(server.get(path).status, 404 | 400), "{path} {}", server.get(path));
    }
    let page = server.get("/").text();
    let asset = page.split('"').find(|part| part.ends_with("hookmill.css")).expect("a style sheet");
    let got = server.get(asset);
    assert!(got.header("cache-control").contains("immutable"), "{got}");
    assert_eq!(server.get_with(asset, &[("if-none-match", got.header("etag"))]).status, 304);
}

#[test]
fn a_build_page_says_what_was_decided_and_why() {
    let (_dir, logs, memory) = ground();
    let server = Server::start(Setup { public_url: HOME, ..Setup::default() }, memory, &logs);
    shop(&server);
    let old = server.get("/builds/12").text();
    assert!(!old.contains("Worth knowing") && !old.contains("Why these steps"), "{old}");
    assert_eq!(server.get("/api/v1/builds/12").json()["notices"], json!([]), "a build of before the migration");
    assert_eq!(server.get("/api/v1/builds/12/plan").json(), json!({"rulings": [], "notices": [], "decisions": []}));

    let seen = Decision {
        seen: "yarn.lock".into(),
        decided: "yarn install --frozen-lockfile".into(),
        because: "<b>yarn</b> says so".into(),
    };
    let notice = "several lockfiles: yarn is used; delete package-lock.json";
    server.memory.explain(12, Explanation { notices: vec![notice.into()], decisions: vec![seen] });
    let page = server.get("/builds/12").text();
    let (_, folded) = page.split_once("<details class=\"plan\"").expect("a fold");
    let folded = folded.split_once("</details>").expect("its end").0;
    assert!(folded.contains("yarn install --frozen-lockfile") && folded.contains("&#60;b&#62;yarn"), "{folded}");
    assert!(!folded.contains(notice) && page.contains(notice), "notices are seen without unfolding: {page}");
    let build = server.get("/api/v1/builds/12").json();
    assert_eq!((&build["id"], &build["notices"]), (&json!(12), &json!([notice])));
    assert_eq!(server.get("/api/v1/builds/12/plan").json()["decisions"][0]["seen"], "yarn.lock");
    let listed = server.get("/api/v1/builds").json();
    assert!(listed["builds"][0].get("notices").is_none(), "lists are light: {listed}");
    assert_eq!(server.get("/api/v1/builds/13/plan").status, 404);
}

#[test]
fn a_build_page_says_which_rules_moved_it_and_why() {
    let (_dir, logs, memory) = ground();
    let server = Server::start(Setup { public_url: HOME, ..Setup::default() }, memory, &logs);
    shop(&server);
    assert!(!server.get("/builds/12").text().contains("What moved this build"), "nothing is known of an old build");
    let line = |rule, because: &str, other_build, delivery: Option<&str>| Ruling {
        at: Timestamp(NOON),
        rule,
        because: because.to_owned(),
        other_build,
        delivery: delivery.map(str::to_owned),
    };
    let rulings = vec![
        line(Rule::PushIsBuilt, "push of <b>topic</b> to a1b2c3d", None, Some("72d3<i>162e")),
        line(Rule::NewestPushWins, "Superseded by b2c3d4e, pushed 40s later", Some(BuildId(13)), None),
    ];
    server.memory.rule(12, rulings.clone());
    let page = server.get("/builds/12").text();
    let (_, folded) = page.split_once("id=\"history\"").expect("a fold");
    let folded = folded.split_once("</details>").expect("its end").0;
    for part in [
        "push of &#60;b&#62;topic&#60;/b&#62; to a1b2c3d",
        "<code>push_is_built</code>",
        "Delivery <bdi>72d3&#60;i&#62;162e</bdi>",
        "<bdi>Superseded by b2c3d4e, pushed 40s later</bdi> · <a href=\"/builds/13\">#13</a>",
        Rule::NewestPushWins.says(),
    ] {
        assert!(folded.contains(part), "{part} in {folded}");
    }
    let told = server.get("/api/v1/builds/12/plan").json();
    assert_eq!(told["rulings"], serde_json::to_value(&rulings).expect("JSON"));
    assert_eq!(told["rulings"][1]["rule"], "newest_push_wins");
}

#[test]
fn a_build_page_says_what_its_caches_did() {
    let (_dir, logs, memory) = ground();
    let server = Server::start(Setup { public_url: HOME, ..Setup::default() }, memory, &logs);
    let noted = |name: &str, kind, cache, note: Option<&str>| Step {
        cache,
        cache_note: note.map(str::to_owned),
        ..step(name, kind, Some(Outcome::Passed), 100, 900)
    };
    let steps = vec![
        noted("npm", StepKind::Install, CacheUse::Hit, Some("unchanged since build #9")),
        noted("bower", StepKind::Install, CacheUse::Miss, Some("<b>bower.json</b> changed since build #9")),
        noted("bundle", StepKind::Bundle, CacheUse::Off, Some("switched off in .hookmill.toml")),
        noted("test", StepKind::Check, CacheUse::Off, None),
    ];
    let kept =
        vec![KeptLevel { level: Level::Packages, bytes: 81_000_000 }, KeptLevel { level: Level::Verdict, bytes: 0 }];
    server.memory.put(Build { steps, kept, ..finished(12, Outcome::Passed) });
    let page = server.get("/builds/12").text();
    for part in [
        r#"cache hit">cache hit: <bdi>unchanged since build #9</bdi>"#,
        r#"cache miss">cache miss: <bdi>&#60;b&#62;bower.json&#60;/b&#62; changed since build #9</bdi>"#,
        r#"cache off">cache off: <bdi>switched off in .hookmill.toml</bdi>"#,
        "<dd>packages 81 MB, verdict</dd>",
    ] {
        assert!(page.contains(part), "{part} in {page}");
    }
    assert_eq!(page.matches("class=\"note cache").count(), 3, "a check without a cache says nothing of one: {page}");
    assert!(!page.contains("without caches") && !page.contains("Nothing had to run"), "{page}");
    let build = server.get("/api/v1/builds/12").json();
    assert_eq!(build["steps"][0]["cache_note"], "unchanged since build #9");
    assert_eq!(build["kept"][0], json!({"level": "packages", "bytes": 81_000_000}));

    let session = server.session();
    let page = server.get_with("/builds/12", &[("cookie", &session)]).text();
    let (_, rest) = page.split_once(r#"name="form" value=""#).expect("a form for the signed in");
    assert!(page.contains(r#"name="cache" value="false">Build again without caches</button>"#), "{page}");
    let form = format!("form={}&cache=false", rest.split('"').next().expect("its end"));
    let again = server.post("/builds/12/rerun", &[("cookie", &session), FORM], &form).header("location").to_owned();
    let page = server.get(&again).text();
    assert!(page.contains(r#"again of <a href="/builds/12">#12</a>, without caches</dd>"#), "{page}");
    assert_eq!(server.get(&format!("/api/v1{again}")).json()["use_cache"], false);
}

#[test]
fn a_verdict_that_was_taken_over_leads_to_the_build_that_ran() {
    let (dir, logs, memory) = ground();
    let artifacts = Artifacts::new(dir.path().join("artifacts"));
    let setup = || Setup { artifacts: artifacts.clone(), ..Setup::default() };
    let server = Server::start(Setup { public_url: HOME, ..setup() }, memory, &logs);
    let written = dir.path().join("main.js");
    std::fs::write(&written, "ran in 12").expect("written");
    let mut filling = artifacts.fill(BuildId(12)).expect("begun");
    let file = std::fs::File::open(&written).expect("there");
    filling.add("dist/main.js".into(), file, MIB).expect("added");
    filling.finish().expect("kept");
    let reason = Some("Passed without a build: same files as a1b2c3d".into());
    server.memory.put(finished(12, Outcome::Passed));
    server.memory.put(Build { same_as: Some(BuildId(12)), reason, ..finished(13, Outcome::Passed) });

    let page = server.get("/builds/13").text();
    let first = page.split_once("</header>\n<dl").expect("facts").0;
    assert!(first.contains(r#"<a href="/builds/12">build #12</a> passed with the same files"#), "{first}");
    assert!(first.contains(r##"<a href="#artifacts">artifacts</a>"##), "{first}");
    assert!(page.contains("/api/v1/builds/13/artifacts/dist/main.js"), "{page}");
    let listed = server.get("/api/v1/builds/13/artifacts").json();
    assert_eq!(listed["artifacts"][0]["path"], "dist/main.js");
    assert_eq!(server.get("/api/v1/builds/13/artifacts/dist/main.js").text(), "ran in 12");

    // A link's key opens one build: what it took over is told, and the other build stays closed.
    let closed = Server::start(setup(), Arc::clone(&server.memory), &logs);
    let key = closed.key.link_key(BuildId(13));
    let cookie = closed.get(&format!("/builds/13?key={key}")).cookie();
    let page = closed.get_with("/builds/13", &[("cookie", &cookie)]).text();
    assert!(page.contains("build #12 passed with the same files") && !page.contains(r#"href="/builds/12""#), "{page}");
    let file = "/api/v1/builds/13/artifacts/dist/main.js";
    assert_eq!(closed.get_with(file, &[("cookie", &cookie)]).status, 200);
    assert_eq!(closed.get_with(&file.replace("13", "12"), &[("cookie", &cookie)]).status, 404);
}

#[test]
fn hostile_text_is_text_everywhere() {
    let (_dir, logs, memory) = ground();
    let server = Server::start(Setup { public_url: HOME, ..Setup::default() }, memory, &logs);
    let evil = "\"><script>alert(1)</script>'\u{1b}[31m\u{202e}gpj.exe\nnext";
    let mut check = step(evil, StepKind::Check, Some(Outcome::Failed), 100, 900);
    check.reason = Some(evil.into());
    let log = claim(&server, 12, 1);
    let mut file = log.begin(0, &check).expect("begun");
    file.append(b"<script>alert(2)</script> \x1b[32mgreen\x1b[0m \x1b]8;;javascript:alert(3)\x1b\\link\x1b]8;;\x1b\\ \0\xff\xe2\x82").expect("written");
    file.append(b"\xac\n\ndata: forged\nevent: end\n\x9b31m").expect("written");
    file.finish(&check).expect("finished");
    server.memory.put(Build {
        title: Some(evil.into()),
        author: Some(evil.into()),
        reason: Some(evil.into()),
        approved_by: Some(evil.into()),
        sandbox: evil.into(),
        git_ref: "refs/heads/<script>alert(4)</script>".parse().expect("git allows it"),
        branch: Some("<script>alert(4)</script>".into()),
        steps: vec![check],
        ..finished(12, Outcome::Failed)
    });
    for path in [
        "/",
        "/builds/12",
        "/repos/github/acme/shop",
        "/?branch=%22%3E%3Cscript%3E",
        "/?repo=github/%22%3Cscript%3E/x",
        "/login?next=/%22%3E%3Cscript%3E",
    ] {
        let text = server.get(path).text();
        let scripts = text.matches("<script").count();
        assert_eq!(scripts, text.matches("/live.js\" defer></script>").count(), "{path}: only our own script\n{text}");
        assert!(!text.contains(['\u{1b}', '\u{202e}', '\0']), "{path}");
        assert!(!text.contains("javascript:"), "{path}");
    }
    let page = server.get("/builds/12").text();
    for shown in [
        "&#60;script&#62;alert(2)&#60;/script&#62; ",
        "<span class=\"f2\">green</span>",
        " link ␀\u{fffd}€</div>",
        "⟨U+202E⟩gpj.exe␊next",
        "\u{fffd}31m",
    ] {
        assert!(page.contains(shown), "{shown} in\n{page}");
    }
    let badge = server.get("/repos/github/acme/shop/-/badge.svg?branch=%3Cscript%3Ealert(4)%3C/script%3E");
    assert_eq!((badge.status, badge.header("content-type")), (200, "image/svg+xml"));
    assert!(badge.text().contains("failed") && !badge.text().contains("script"));
    assert_eq!(
        server.get_with("/repos/github/acme/shop/-/badge.svg", &[("if-none-match", badge.header("etag"))]).status,
        304
    );

    let raw = server.get("/api/v1/builds/12/log");
    assert_eq!(raw.header("content-type"), "text/plain; charset=utf-8");
    assert_eq!(raw.header("x-content-type-options"), "nosniff");
    assert!(raw.header("content-security-policy").contains("sandbox"));
    let events: Vec<Event> = Events::open(&server, "/api/v1/builds/12/events", None).collect();
    let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["step", "line", "line", "line", "line", "line", "step", "end"], "a log forges no event");
    assert_eq!(events[3].data["text"], "data: forged");
    assert_eq!(server.get("/api/v1/builds/12").json()["title"], evil);
}

#[test]
fn lists_are_filtered_paged_and_strict() {
    let (_dir, logs, memory) = ground();
    let server = Server::start(Setup { public_url: HOME, ..Setup::default() }, memory, &logs);
    assert!(server.get("/").text().contains("hookmill hook add --print"), "an empty page says what to do next");
    for id in 1..=5 {
        server.memory.put(if id == 3 { finished(id, Outcome::Failed) } else { build(id) });
    }
    let list = |query: &str| {
        let json = server.get(&format!("/api/v1/builds{query}")).json();
        let ids: Vec<i64> =
            json["builds"].as_array().expect("a list").iter().map(|b| b["id"].as_i64().expect("a number")).collect();
        (ids, json["next"].as_i64())
    };
    assert_eq!(list(""), (vec![5, 4, 3, 2, 1], None));
    assert_eq!(list("?limit=2"), (vec![5, 4], Some(4)));
    assert_eq!(list("?limit=2&before=4"), (vec![3, 2], Some(2)));
    assert_eq!(list("?limit=2&before=2"), (vec![1], None));
    assert_eq!(list("?outcome=failed&repo=github/ACME/shop&branch=main&state=finished"), (vec![3], None));
    for query in [
        "?limit=0",
        "?limit=201",
        "?limit=x",
        "?state=done",
        "?outcome=",
        "?page=2",
        "?before=-1",
        "?repo=shop",
        "?limit=1&limit=1",
    ] {
        let got = server.get(&format!("/api/v1/builds{query}"));
        assert_eq!((got.status, got.json()["error"]["code"].as_str()), (400, Some("bad_request")), "{query}");
    }
    let page = server.get("/?repo=&branch=&state=finished&outcome=");
    assert_eq!(page.status, 200, "a form sends its empty fields too");
    assert!(page.text().contains("/builds/3\"") && !page.text().contains("/builds/5\""));
    assert!(server.get("/?limit=2").text().contains("?limit=2&#38;before=4\""));
}

#[test]
fn logs_come_whole_in_parts_and_as_far_as_they_exist() {
    let (_dir, logs, memory) = ground();
    let server = Server::start(Setup { public_url: HOME, ..Setup::default() }, memory, &logs);
    shop(&server);
    let whole = "== npm ==\nadded 2 packages\n== bundle ==\none\ntwo\n";
    let got = server.get("/api/v1/builds/12/log");
    assert_eq!((got.text().as_str(), got.header("accept-ranges")), (whole, "bytes"));
    assert_eq!(got.header("content-length"), whole.len().to_string());
    assert_eq!(server.get("/api/v1/builds/12/log?step=bundle").text(), "one\ntwo\n");
    assert_eq!(server.get("/api/v1/builds/12/log?step=lint").status, 404);
    for (start, end) in [(0, 1), (5, 30), (9, 27), (26, whole.len()), (0, whole.len())] {
        let got = server.get_with("/api/v1/builds/12/log", &[("range", &format!("bytes={start}-{}", end - 1))]);
        assert_eq!((got.status, got.text().as_str()), (206, &whole[start..end]));
        assert_eq!(got.header("content-range"), format!("bytes {start}-{}/{}", end - 1, whole.len()));
    }
    let last = server.get_with("/api/v1/builds/12/log?step=bundle", &[("range", "bytes=-4")]);
    assert_eq!((last.status, last.text().as_str()), (206, "two\n"));
    let beyond = server.get_with("/api/v1/builds/12/log?step=bundle", &[("range", "bytes=8-")]);
    assert_eq!((beyond.status, beyond.header("content-range")), (416, "bytes */8"));

    server.memory.put(Build { steps: vec![npm()], state: State::Running, ..build(13) });
    assert_eq!(server.get("/api/v1/builds/13/log").text(), "", "nothing exists so far");
    let mut file = claim(&server, 13, 1).begin(0, &npm()).expect("begun");
    let line = "x".repeat(99) + "\n";
    for _ in 0..2_000 {
        file.append(line.as_bytes()).expect("written");
    }
    assert_eq!(server.get("/api/v1/builds/13/log?step=npm").bytes.len(), 200_000, "more than one piece");
    assert!(
        server.get("/builds/13").text().contains("log?step=npm\">whole log"),
        "the page shows the end and links the rest"
    );
}

fn lines(events: &[Event]) -> Vec<u64> {
    events
        .iter()
        .filter(|event| event.kind == "line")
        .map(|event| event.data["n"].as_u64().expect("a number"))
        .collect()
}

fn write(log: &mut StepLog, n: std::ops::RangeInclusive<u64>) {
    for n in n {
        log.append(format!("line {n}\n").as_bytes()).expect("written");
    }
}

#[test]
fn a_stream_is_followed_from_the_queue_to_the_end() {
    let (_dir, logs, memory) = ground();
    let server = Server::start(Setup { public_url: HOME, readers: 1, ..Setup::default() }, memory, &logs);
    server.memory.put(build(12));
    let mut events = Events::open(&server, "/api/v1/builds/12/events", None);
    let queued = events.next().expect("what is known at once");
    assert_eq!((queued.kind.as_str(), queued.data["state"].as_str()), ("state", Some("queued")));
    let excess = server.get("/api/v1/builds/12/events");
    assert_eq!((excess.status, excess.header("retry-after")), (503, "30"));

    let running = Build { state: State::Running, steps: vec![npm()], ..build(12) };
    server.memory.put(running.clone());
    let log = claim(&server, 12, 1);
    log.state(&running).expect("noted");
    let mut file = log.begin(0, &npm()).expect("begun");
    write(&mut file, 1..=3);
    let live: Vec<Event> = events.by_ref().take(5).collect();
    let kinds: Vec<&str> = live.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["state", "step", "line", "line", "line"]);
    assert_eq!(live[2].data, json!({"step": "npm", "n": 1, "t": live[2].data["t"], "text": "line 1"}));
    assert_eq!(live[1].data["state"], "running");

    let done = step("npm", StepKind::Install, Some(Outcome::Passed), 100, 900);
    file.finish(&done).expect("finished");
    server.memory.put(Build { steps: vec![done], ..finished(12, Outcome::Passed) });
    server.hub.publish(BuildId(12));
    let rest: Vec<Event> = events.collect();
    let kinds: Vec<&str> = rest.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(kinds, ["step", "end"], "and the server closes");
    assert_eq!(rest[1].data["outcome"], "passed");
    let after_end = server.get_with("/api/v1/builds/12/events", &[("last-event-id", &rest[1].id)]);
    assert_eq!((after_end.status, after_end.text().as_str()), (204, ""));
    let all: Vec<Event> = [live, rest].concat();
    assert!(all.iter().all(|event| event.id.len() <= 64));
}

#[test]
fn a_reader_who_comes_back_misses_nothing_and_sees_nothing_twice() {
    let (_dir, logs, memory) = ground();
    let setup = || Setup { public_url: HOME, ..Setup::default() };
    let server = Server::start(setup(), Arc::clone(&memory), &logs);
    let running = Build { state: State::Running, steps: vec![npm()], started_at: Some(Timestamp(NOON)), ..build(12) };
    memory.put(running.clone());
    let log = claim(&server, 12, 3);
    log.state(&running).expect("noted");
    let mut file = log.begin(0, &npm()).expect("begun");
    write(&mut file, 1..=20);
    let mut seen: Vec<Event> = Events::open(&server, "/api/v1/builds/12/events", None).take(9).collect();
    write(&mut file, 21..=40);
    // In the middle of what was written at once.
    file.append(b"line 41\nline 42\nline 43\n").expect("written");
    seen.extend(Events::open(&server, "/api/v1/builds/12/events", Some(&seen[8].id)).take(34));
    assert_eq!(lines(&seen), (1..=41).collect::<Vec<_>>());

    drop(server);
    let restarted = Server::start(setup(), Arc::clone(&memory), &logs);
    let last = seen.last().expect("some").id.clone();
    let mut events = Events::open(&restarted, "/api/v1/builds/12/events", Some(&last));
    seen.extend(events.by_ref().take(2));
    // What is written while somebody listens, in this process or another, arrives as well.
    write(&mut file, 44..=60);
    restarted.hub.publish(BuildId(12));
    seen.extend(events.by_ref().take(17));
    assert_eq!(lines(&seen), (1..=60).collect::<Vec<_>>());

    // Another agent takes over: its journal is told from the beginning.
    let again = claim(&restarted, 12, 4);
    let mut file = again.begin(0, &npm()).expect("begun");
    write(&mut file, 1..=2);
    let taken_over: Vec<Event> = events.by_ref().take(3).collect();
    assert_eq!(lines(&taken_over), [1, 2]);
    let resumed: Vec<Event> = Events::open(&restarted, "/api/v1/builds/12/events", Some(&last)).take(3).collect();
    assert_eq!(resumed, taken_over, "an id of the lost claim means: from the beginning");
    for foreign in ["garbage", "4.x.1", "\u{fffd}"] {
        let got: Vec<Event> = Events::open(&restarted, "/api/v1/builds/12/events", Some(foreign)).take(3).collect();
        assert_eq!(got, taken_over, "{foreign}");
    }
}

#[test]
fn a_page_and_its_stream_meet_without_a_gap() {
    let (_dir, logs, memory) = ground();
    let server = Server::start(Setup { public_url: HOME, ..Setup::default() }, memory, &logs);
    server.memory.put(Build {
        state: State::Running,
        steps: vec![npm()],
        started_at: Some(Timestamp(NOON)),
        ..build(12)
    });
    let mut file = claim(&server, 12, 1).begin(0, &npm()).expect("begun");
    write(&mut file, 1..=5);
    let page = server.get("/builds/12").text();
    assert!(page.contains("data-n=\"5\""), "{page}");
    let (_, rest) = page.split_once("data-events=\"").expect("a running build's page names its stream");
    let address = rest.split('"').next().expect("its end").to_owned();
    write(&mut file, 6..=7);
    let events: Vec<Event> =
        Events::open(&server, &address, None).filter(|event| event.kind == "line").take(2).collect();
    assert_eq!(lines(&events), [6, 7]);
}

#[test]
fn agents_are_shown_and_told_what_to_do_by_whoever_may() {
    let (_dir, logs, memory) = ground();
    memory.agents.lock().expect("no test panics while it holds this").push(Agent {
        name: "build 1/<b>".into(),
        version: "0.1.0".into(),
        sandbox: "bubblewrap".into(),
        slots: 2,
        busy: 1,
        order: Order::Run,
        standing: Standing::Working,
        started_at: Timestamp(NOON),
        seen_at: Timestamp(NOON),
        disk_low: Some("5 MiB free, <b>".into()),
        disk_low_since: Some(Timestamp(NOON)),
    });
    let server = Server::start(Setup { read: Read::Token, token: Some(TOKEN), ..Setup::default() }, memory, &logs);
    let bearer = format!("Bearer {TOKEN}");
    let admin = [("authorization", bearer.as_str())];
    for path in ["/agents", "/api/v1/agents"] {
        assert_eq!(server.get(path).status, 404, "{path} is not open to everybody");
    }
    let listed = server.get_with("/api/v1/agents", &admin).text();
    assert!(listed.contains(r#""standing":"working""#) && listed.contains(r#""busy":1"#), "{listed}");
    let page = server.get_with("/agents", &admin).text();
    assert!(page.contains("build 1/&#60;b&#62;") && page.contains("1 of 2 slots busy"), "{page}");
    assert!(page.contains("disk low since <time") && page.contains(": 5 MiB free, &#60;b&#62;"), "{page}");
    assert!(listed.contains(r#""disk_low":"5 MiB free, <b>""#), "{listed}");

    let order = "/api/v1/agents/build%201%2F%3Cb%3E/pause";
    assert_eq!(server.post(order, &[], "").status, 403);
    assert_eq!(server.post("/agents/build%201%2F%3Cb%3E/pause", &[], "form=guessed").status, 403);
    assert_eq!(server.post(order, &admin, "").status, 202);
    assert!(server.get_with("/api/v1/agents", &admin).text().contains(r#""order":"pause""#));
    assert_eq!(server.post("/api/v1/agents/nobody/pause", &admin, "").status, 404);
    assert_eq!(server.post("/api/v1/agents/build%201%2F%3Cb%3E/explode", &admin, "").status, 404);
}

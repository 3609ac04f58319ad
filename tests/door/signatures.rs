//! Who is let in: signatures of every recorded delivery, and everything that is not one.

use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use hookmill::domain::event::Event;
use hookmill::web::hook::NotTaken;
use sha2::Sha256;
use tokio::io::AsyncWriteExt;

use crate::support::door::{Door, Reply, forges, read_reply, recorded};

const SECRET: &str = "It's a Secret to Everybody";

const CONFIG: &str = r#"
[[forge]]
name = "github"
kind = "github"
web_url = "https://github.example"
token = "token-of-the-tests"
hook_secret = "It's a Secret to Everybody"

[[forge]]
name = "gitea"
kind = "gitea"
web_url = "https://gitea.example"
token = "token-of-the-tests"
hook_secret = "s3cret-Gitea!"

[[forge]]
name = "bare"
kind = "forgejo"
web_url = "https://forgejo.example"
token = "token-of-the-tests"

[[repo]]
forge = "github"
name = "acme/shop"
hook_secret = ["the old secret of acme/shop", "the new secret of acme/shop"]

[[repo]]
forge = "github"
name = "acme/blog"
hook_secret = "the secret of acme/blog"
"#;

const REFUSED: &str = r#"{"error":{"code":"unauthorized","message":"signature missing or wrong"}}"#;

fn signed(secret: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("any length");
    mac.update(body);
    let hex: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={hex}")
}

fn push_of(repo: &str) -> String {
    format!(
        r#"{{"ref":"refs/heads/main","before":"{}","after":"{}",
            "head_commit":{{"message":"Fix the cart"}},"repository":{{"id":1,"full_name":"{repo}"}}}}"#,
        "a".repeat(40),
        "b".repeat(40)
    )
}

/// A GitHub push, signed, with headers added (or replaced, when the name is the same).
async fn push(door: &Door, path: &str, secret: &str, body: &[u8], more: &[(&str, &str)]) -> Reply {
    let signature = signed(secret, body);
    let mut headers = vec![
        ("content-type", "application/json"),
        ("x-github-event", "push"),
        ("x-github-delivery", "d-1"),
        ("x-hub-signature-256", signature.as_str()),
    ];
    headers.retain(|(name, _)| more.iter().all(|(other, _)| other != name));
    headers.extend(more);
    headers.retain(|(_, value)| *value != "(none)");
    door.post(path, &headers, body).await
}

fn assert_error(reply: &Reply, status: u16, code: &str) {
    assert_eq!((reply.status, &reply.json()["error"]["code"]), (status, &code.into()), "{reply:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_recorded_signature_verifies_and_none_with_one_bit_changed() {
    let door = Door::open(CONFIG).await;
    for (folder, header) in [("github", "x-hub-signature-256"), ("gitea", "x-gitea-signature")] {
        let path = format!("/hooks/{folder}");
        for delivery in recorded(folder) {
            let reply = door.post(&path, &delivery.headers(), &delivery.body).await;
            assert!(matches!(reply.status, 200 | 202), "{}: {reply:?}", delivery.name);
            door.taken().pop().expect("taken");

            let mut body = delivery.body.clone();
            let middle = body.len() / 2;
            body[middle] ^= 1;
            let reply = door.post(&path, &delivery.headers(), &body).await;
            assert_eq!((reply.status, reply.body.as_str()), (401, REFUSED), "{}", delivery.name);

            let mut headers = delivery.headers.clone();
            let signature = &mut headers.iter_mut().find(|(name, _)| name == header).expect("signed").1;
            // The last hex digit's lowest bit.
            let last = signature.pop().and_then(|digit| digit.to_digit(16)).expect("hex") ^ 1;
            signature.push(char::from_digit(last, 16).expect("hex"));
            let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let reply = door.post(&path, &headers, &delivery.body).await;
            assert_eq!((reply.status, reply.body.as_str()), (401, REFUSED), "{}", delivery.name);
            assert!(door.taken().is_empty());
        }
    }
    door.close().await;
}

#[tokio::test]
async fn what_is_no_signature_is_refused_alike_and_remembered_apart() {
    let door = Door::open(CONFIG).await;
    let body = push_of("acme/shop");
    let shop = "/hooks/github/acme/shop";
    let sha256 = signed("the new secret of acme/shop", body.as_bytes());
    let check = async |path: &str, more: &[(&str, &str)], reason: &str| {
        let reply = push(&door, path, "the new secret of acme/shop", body.as_bytes(), more).await;
        assert_eq!((reply.status, reply.body.as_str()), (401, REFUSED), "{more:?}");
        let refusal = door.refusals.list().remove(0);
        assert!(refusal.reason.contains(reason), "{more:?}: {}", refusal.reason);
        assert_eq!((refusal.status, refusal.from.as_str()), (401, "127.0.0.1"));
        assert!(refusal.headers.contains(&"x-github-event".to_owned()), "{:?}", refusal.headers);
    };
    let hub = "x-hub-signature-256";
    // A3, A4, A5.
    check(shop, &[(hub, "(none)")], "missing").await;
    check(shop, &[(hub, "")], "not a SHA-256").await;
    check(shop, &[(hub, "sha256=")], "empty").await;
    check(shop, &[(hub, &sha256[..70])], "not a SHA-256").await;
    check(shop, &[(hub, &sha256[7..])], "not a SHA-256").await;
    check(shop, &[(hub, &format!("sha256={}", "g".repeat(64)))], "not a SHA-256").await;
    check(shop, &[(hub, &format!("sha1={}", "a".repeat(40)))], "not a SHA-256").await;
    check(shop, &[(hub, "(none)"), ("x-hub-signature", "sha1=8dff5adf30d626e069bfb15c4acba7e33ebb5d2c")], "missing")
        .await;
    check(shop, &[(hub, &sha256), (hub, &sha256)], "more than once").await;
    check(shop, &[(hub, "(none)"), ("x-gitea-signature", &sha256[7..])], "missing").await;
    // A repository that is not configured, a path that is no name, a forge without secrets: the same words.
    check("/hooks/github/acme/unknown", &[], "no secret").await;
    check("/hooks/github/acme/shop/", &[], "no secret").await;
    check("/hooks/github/shop", &[], "no secret").await;
    check("/hooks/github/acme/..%2fshop", &[], "no secret").await;
    check("/hooks/bare", &[("x-forgejo-signature", &sha256[7..])], "no secret").await;
    check("/hooks/bare/acme/shop", &[("x-forgejo-signature", &sha256[7..])], "no secret").await;
    // A7: the other repository's secret, and the forge's own.
    let other = signed("the secret of acme/blog", body.as_bytes());
    check(shop, &[(hub, &other)], "does not match").await;
    check(shop, &[(hub, &signed(SECRET, body.as_bytes()))], "does not match").await;
    assert!(door.taken().is_empty());
    door.close().await;
}

#[tokio::test]
async fn a_secret_can_be_changed_without_a_gap() {
    let door = Door::open(CONFIG).await;
    let body = push_of("acme/shop");
    let try_with =
        async |secret: &str| push(&door, "/hooks/github/acme/shop", secret, body.as_bytes(), &[]).await.status;
    assert_eq!(try_with("the old secret of acme/shop").await, 202);
    assert_eq!(try_with("the new secret of acme/shop").await, 202);
    let after = CONFIG.replace("\"the old secret of acme/shop\", ", "");
    door.forges.send_replace(forges(&after));
    assert_eq!(try_with("the old secret of acme/shop").await, 401);
    assert_eq!(try_with("the new secret of acme/shop").await, 202);
    door.close().await;
}

#[tokio::test]
async fn the_checks_come_in_the_order_of_the_contract() {
    let door = Door::open(CONFIG).await;
    let good = push_of("acme/shop");
    let secret = "the new secret of acme/shop";
    let shop = "/hooks/github/acme/shop";
    // Each request has its own fault and every later one: the first in order answers.
    let ask = async |method: &str, path: &str, head: &str| {
        let head = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{head}\r\n");
        door.send(head.into_bytes()).await
    };
    for method in ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        let reply = ask(method, "/hooks/nobody", "Content-Length: 0\r\n").await;
        assert_error(&reply, 405, "method_not_allowed");
        assert!(reply.head.contains("\r\nallow: post"), "{}", reply.head);
    }
    let far = "Content-Length: 99999999\r\nExpect: 100-continue\r\nContent-Type: text/plain\r\n";
    assert_error(&ask("POST", "/hooks/nobody", far).await, 404, "not_found");
    assert_error(&ask("POST", "/hooks/GitHub/acme/shop", "Content-Length: 0\r\n").await, 404, "not_found");
    assert_error(&ask("POST", "/hooks/%ff/acme/shop", "Content-Length: 0\r\n").await, 404, "not_found");
    assert_error(&ask("POST", shop, far).await, 413, "payload_too_large");

    let unsigned = ("x-hub-signature-256", "(none)");
    for media in ["text/plain", "application/jsonx", "(none)"] {
        let reply = push(&door, shop, secret, b"{", &[unsigned, ("content-type", media)]).await;
        assert_error(&reply, 415, "unsupported_media_type");
    }
    for encoding in ["gzip", "identity, gzip", "br"] {
        let reply = push(&door, shop, secret, b"{", &[unsigned, ("content-encoding", encoding)]).await;
        assert_error(&reply, 415, "unsupported_media_type");
    }
    assert_error(&push(&door, shop, secret, b"{", &[unsigned]).await, 401, "unauthorized");
    assert_error(&push(&door, shop, secret, b"{", &[]).await, 400, "bad_request");
    let reply = push(&door, shop, secret, push_of("acme/store").as_bytes(), &[]).await;
    assert_error(&reply, 409, "repository_mismatch");
    let message = reply.json()["error"]["message"].as_str().expect("a text").to_owned();
    assert!(["acme/shop", "acme/store", "renamed?"].iter().all(|part| message.contains(part)), "{message}");
    assert!(door.taken().is_empty());

    let tolerated = [
        ("content-type", "Application/JSON; charset=utf-8"),
        ("content-encoding", "identity"),
        ("x-hub-signature", "sha1=x"),
    ];
    assert_eq!(push(&door, shop, secret, good.as_bytes(), &tolerated).await.status, 202);
    assert_eq!(push(&door, "/hooks/github/ACME/Shop", secret, good.as_bytes(), &[]).await.status, 202);
    assert_eq!(push(&door, "/hooks/github", SECRET, good.as_bytes(), &[]).await.status, 202);
    // The forge's hook speaks for everybody; what is not configured is the intake's to ignore.
    assert_eq!(push(&door, "/hooks/github", SECRET, push_of("eve/x").as_bytes(), &[]).await.status, 200);
    let rules: Vec<bool> = door.taken().iter().map(|taken| taken.rules.is_some()).collect();
    assert_eq!(rules, [true, true, true, false]);
    door.close().await;
}

#[tokio::test]
async fn what_is_signed_but_not_acceptable_is_400() {
    let door = Door::open(CONFIG).await;
    let good = push_of("acme/shop");
    let check = async |body: &[u8], more: &[(&str, &str)], part: &str| {
        let reply = push(&door, "/hooks/github", SECRET, body, more).await;
        assert_error(&reply, 400, "bad_request");
        assert!(reply.body.contains(part), "{}", reply.body);
    };
    check(good.as_bytes(), &[("x-github-event", "(none)")], "x-github-event").await;
    check(good.as_bytes(), &[("x-github-event", " ")], "x-github-event").await;
    check(good.as_bytes(), &[("x-github-delivery", "(none)")], "x-github-delivery").await;
    check(good.as_bytes(), &[("x-github-delivery", &"d".repeat(129))], "x-github-delivery").await;
    check(b"", &[], "JSON").await;
    check(b"payload=%7B%7D", &[], "JSON").await;
    check(b"{} ]", &[], "JSON").await;
    // A13.
    check(format!("{}{}", "[".repeat(10_000), "]".repeat(10_000)).as_bytes(), &[], "deeper than 128").await;
    check(b"{\"ref\":\"\xff\"}", &[], "JSON").await;
    check(good.replace("\"after\"", "\"before\"").as_bytes(), &[], "before").await;
    let twice = good.replacen('{', &format!("{{\"after\":\"{}\",", "c".repeat(40)), 1);
    check(twice.as_bytes(), &[], "after").await;
    // Shapes.
    check(b"[]", &[], "shape").await;
    check(b"{}", &[], "missing field").await;
    check(good.replace("refs/heads/main", "main").as_bytes(), &[], "not a ref").await;
    check(good.replace("refs/heads/main", "refs/heads/a..b").as_bytes(), &[], "not a ref").await;
    check(good.replace("refs/heads/main", "refs/heads/\\u0000").as_bytes(), &[], "not a ref").await;
    check(good.replace(&"b".repeat(40), "HEAD").as_bytes(), &[], "not a commit id").await;
    check(good.replace("acme/shop", "../etc").as_bytes(), &[], "not a repository").await;
    check(good.as_bytes(), &[("content-type", "application/x-www-form-urlencoded")], "payload").await;
    assert!(door.taken().is_empty());

    // As long and as deep as may be.
    let longest = "d".repeat(128);
    let deep = good.replacen('{', &format!("{{\"x\":{}{},", "[".repeat(127), "]".repeat(127)), 1);
    let reply = push(&door, "/hooks/github", SECRET, deep.as_bytes(), &[("x-github-delivery", &longest)]).await;
    assert_eq!((reply.status, &reply.json()["delivery"]), (202, &longest.as_str().into()));
    door.close().await;
}

#[tokio::test]
async fn a_github_form_is_signed_over_the_raw_body() {
    let door = Door::open(CONFIG).await;
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let json = push_of("acme/shop");
    let body = format!("payload={}", form_urlencoded::byte_serialize(json.as_bytes()).collect::<String>());
    let path = "/hooks/github/acme/shop";
    let secret = "the new secret of acme/shop";
    assert_eq!(push(&door, path, secret, body.as_bytes(), &form).await.status, 202);
    // Signed over the field, as Gitea does it.
    let over_field = signed(secret, json.as_bytes());
    let more = [form[0], ("x-hub-signature-256", over_field.as_str())];
    assert_eq!(push(&door, path, secret, body.as_bytes(), &more).await.status, 401);
    // Bytes that are not UTF-8 are not made so.
    assert_eq!(push(&door, path, secret, b"payload=%7B%22a%22%3A%22%ff%22%7D", &form).await.status, 400);
    door.close().await;
}

#[tokio::test]
async fn pings_and_unknown_events_are_answered_and_ignored() {
    let door = Door::open(CONFIG).await;
    let body = br#"{"zen":"Keep it logically awesome.","action":"x\u0007y","repository":{"full_name":"acme/shop"}}"#;
    for event in ["ping", "an_event_of_2031"] {
        let reply = push(&door, "/hooks/github", SECRET, body, &[("x-github-event", event)]).await;
        assert_eq!(reply.status, 200);
        let json = reply.json();
        assert!(json["ignored"].as_str().is_some_and(|because| because.contains(event)), "{json}");
        assert_eq!(
            (&json["build"], &json["builds"], &json["cancelled"]),
            (&().into(), &[(); 0].into(), &[(); 0].into())
        );
    }
    // Without any repository, too.
    assert_eq!(push(&door, "/hooks/github", SECRET, b"{}", &[("x-github-event", "x")]).await.status, 200);
    let taken = door.taken();
    assert!(taken.iter().all(|taken| matches!(taken.heard.event, Event::Ignored { .. })));
    assert_eq!(taken[2].repo, None);
    door.close().await;
}

#[tokio::test]
async fn a_store_that_is_full_is_not_the_senders_fault() {
    let full = |_: &_| Err(NotTaken { why: "database or disk is full".to_owned() });
    let door = Door::open_with(CONFIG, full).await;
    let reply = push(&door, "/hooks/github", SECRET, push_of("acme/shop").as_bytes(), &[]).await;
    assert_error(&reply, 503, "unavailable");
    assert!(reply.head.contains("\r\nretry-after: 30"), "{}", reply.head);
    assert!(!reply.body.contains("disk"), "{}", reply.body);
    door.close().await;
}

/// A10.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_up_to_25_mib_are_taken_and_larger_ones_refused() {
    let door = Door::open(CONFIG).await;
    let padded = |megabytes: usize| {
        let padding = "x".repeat(megabytes * 1024 * 1024);
        push_of("acme/shop").replacen('{', &format!("{{\"padding\":\"{padding}\","), 1)
    };
    let reply = push(&door, "/hooks/github", SECRET, padded(24).as_bytes(), &[]).await;
    assert_eq!(reply.status, 202, "{}", reply.body);
    let large = padded(26);
    assert_error(&push(&door, "/hooks/github", SECRET, large.as_bytes(), &[]).await, 413, "payload_too_large");

    let mut chunked = b"POST /hooks/github HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for chunk in large.as_bytes().chunks(100_000) {
        chunked.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        chunked.extend_from_slice(chunk);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    assert_error(&door.send(chunked).await, 413, "payload_too_large");
    assert_eq!(door.taken().len(), 1);
    door.close().await;
}

/// A22, and 408 for a header (10 s) and a body (30 s) that come too late.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_open_connections_delay_nobody_and_are_closed() {
    let door = Door::open(CONFIG).await;
    let begun = Instant::now();
    let mut halves = tokio::task::JoinSet::new();
    let waiting = [
        "POST /hooks/github HTTP/1.1\r\nHost: x\r\nX-Slow: ",
        "",
        "POST /hooks/github HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\nContent-Type: application/json\r\n\r\n{",
    ];
    for number in 0..100 {
        let mut stream = door.connect().await;
        stream.write_all(waiting[number % 3].as_bytes()).await.expect("taken");
        halves.spawn(async move {
            let reply = read_reply(&mut stream).await;
            (number % 3, reply.status, begun.elapsed())
        });
    }
    let asked = Instant::now();
    let reply = push(&door, "/hooks/github", SECRET, push_of("acme/shop").as_bytes(), &[]).await;
    assert_eq!(reply.status, 202);
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    while let Some(half) = halves.join_next().await {
        let (kind, status, after) = half.expect("no panic");
        assert_eq!(status, 408);
        let (early, late) = if kind == 2 { (29, 33) } else { (9, 15) };
        assert!((early..late).contains(&after.as_secs()), "{kind} after {after:?}");
    }
    door.close().await;
}

#[tokio::test]
async fn a_header_without_end_is_refused() {
    let door = Door::open(CONFIG).await;
    let request = format!("POST /hooks/github HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n\r\n", "x".repeat(20_000));
    assert_eq!(door.send(request.into_bytes()).await.status, 431);
    door.close().await;
}

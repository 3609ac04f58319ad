//! The client against a server of its own on loopback that answers what the test says, and remembers.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use super::*;
use crate::config::secret::Secret;
use crate::domain::status::StatusState;
use crate::domain::time::Timestamp;

/// Answers one connection after the other with the given answers, and tells each request (head and body).
fn forge_that_answers(answers: Vec<String>) -> (Url, Receiver<String>) {
    forge_over("http", answers, |stream| stream)
}

fn forge_over<S: Read + Write + 'static>(
    scheme: &str,
    answers: Vec<String>,
    wrap: impl Fn(TcpStream) -> S + Send + 'static,
) -> (Url, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port of loopback");
    let url = format!("{scheme}://{}/api/v1", listener.local_addr().expect("bound")).parse().expect("a URL");
    let (told, requests) = channel();
    // It ends with the last answer; a test that asks less leaves it to the end of the process.
    std::thread::spawn(move || {
        for answer in answers {
            let (stream, _) = listener.accept().expect("a connection");
            let mut reader = BufReader::new(wrap(stream));
            // A client that does not trust us leaves within the handshake.
            let Ok(request) = read_request(&mut reader) else { continue };
            reader.get_mut().write_all(answer.as_bytes()).expect("an answer is taken");
            told.send(request).ok();
        }
    });
    (url, requests)
}

fn read_request(reader: &mut impl BufRead) -> std::io::Result<String> {
    let (mut request, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().expect("a number");
        }
        request.push_str(&line);
        if line == "\r\n" || line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(request + &String::from_utf8(body).expect("text"))
}

fn answer(head: &str, body: &str) -> String {
    format!("HTTP/1.1 {head}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

/// As every kind of forge answers a status that it took.
fn created() -> String {
    answer("201 Created", r#"{"id":1,"state":"success","context":"hookmill"}"#)
}

fn post(kind: ForgeKind, api_url: Url, network: &Network) -> Result<Accepted, PostError> {
    let forge = Forge {
        name: "test".parse().expect("a name"),
        kind,
        web_url: api_url.clone(),
        api_url,
        token: Some(Secret::new("t0ken-of-the-forge")),
        read_token: None,
        hook_secrets: vec![],
    };
    let status = Status {
        context: "hookmill".to_owned(),
        state: StatusState::Success,
        sentence: "Passed in 9s · dependencies unchanged".to_owned(),
    };
    let repo = "acme/shöp".parse().expect("a repository");
    let commit = "a".repeat(40).parse().expect("a commit");
    Client::new(network).post_status(&forge, &repo, &commit, &status, "https://ci.lan/builds/12?key=k")
}

#[test]
fn a_status_is_posted_as_each_kind_wants_it() {
    let check = |kind, authorization: &str| {
        let (url, requests) = forge_that_answers(vec![created()]);
        post(kind, url, &Network::default()).expect("the forge takes it");
        let request = requests.recv().expect("a request came");
        let path = format!("POST /api/v1/repos/acme/sh%C3%B6p/statuses/{} HTTP/1.1\r\n", "a".repeat(40));
        assert!(request.starts_with(&path), "{request}");
        assert!(request.contains(&format!("authorization: {authorization}\r\n")), "{request}");
        assert!(request.contains(concat!("user-agent: hookmill/", env!("CARGO_PKG_VERSION"))), "{request}");
        let (_, body) = request.split_once("\r\n\r\n").expect("a body");
        let body: serde_json::Value = serde_json::from_str(body).expect("JSON");
        let expected = json!({
            "state": "success", "context": "hookmill", "target_url": "https://ci.lan/builds/12?key=k",
            "description": "Passed in 9s · dependencies unchanged",
        });
        assert_eq!(body, expected);
    };
    check(ForgeKind::Github, "Bearer t0ken-of-the-forge");
    check(ForgeKind::Gitea, "token t0ken-of-the-forge");
    check(ForgeKind::Forgejo, "token t0ken-of-the-forge");
}

#[test]
fn a_redirect_within_the_forge_is_followed_and_keeps_the_request() {
    let moved = answer("307 Temporary Redirect\r\nLocation: /api/v1/repositories/7/statuses/x", "");
    let (url, requests) = forge_that_answers(vec![moved, created()]);
    post(ForgeKind::Github, url, &Network::default()).expect("the second answer counts");
    let (first, second) = (requests.recv().expect("first"), requests.recv().expect("second"));
    assert!(second.starts_with("POST /api/v1/repositories/7/statuses/x "), "{second}");
    assert!(second.contains("t0ken-of-the-forge"));
    assert_eq!(first.split_once("\r\n\r\n").map(|at| at.1), second.split_once("\r\n\r\n").map(|at| at.1));
}

#[test]
fn another_port_gets_no_token() {
    let (elsewhere, stolen) = forge_that_answers(vec![created()]);
    let (url, _requests) =
        forge_that_answers(vec![answer(&format!("302 Found\r\nLocation: {elsewhere}/repos/a/b"), "")]);
    let error = post(ForgeKind::Gitea, url, &Network::default()).expect_err("not followed");
    assert!(matches!(error, PostError::Retry { after: None, scope: Scope::Forge, .. }), "{error:?}");
    assert!(error.to_string().contains("correct the forge's api_url"), "{error}");
    assert!(stolen.try_recv().is_err(), "nothing was sent there");
}

fn github(api_url: Url) -> Forge {
    Forge {
        name: "test".parse().expect("a name"),
        kind: ForgeKind::Github,
        web_url: api_url.clone(),
        api_url,
        token: Some(Secret::new("t0ken-of-the-forge")),
        read_token: None,
        hook_secrets: vec![],
    }
}

#[test]
fn an_account_of_deliveries_is_read_page_by_page_at_our_own_address_only() {
    let (elsewhere, stolen) = forge_that_answers(vec![answer("200 OK", "[]")]);
    let page = |id: u64, at: &str| {
        format!(r#"[{{"id":{id},"guid":"g-{id}","delivered_at":"{at}","status_code":null,"event":"push","more":1}}]"#)
    };
    let next = format!("200 OK\r\nLink: <{elsewhere}/x?per_page=100&cursor=v1_a%2Bb>; rel=\"next\"");
    let (url, requests) = forge_that_answers(vec![
        answer(&next, &page(3, "2026-11-29T10:00:00Z")),
        answer(&next, &page(2, "2026-11-20T10:00:00Z")),
    ]);
    let since = Timestamp(1_795_942_800_000 - 86_400_000);
    let repo = "acme/shop".parse().expect("a repository");
    let attempts = Client::new(&Network::default()).attempts(&github(url), &repo, 7, since).expect("readable");
    let seen: Vec<(u64, bool)> = attempts.iter().map(|attempt| (attempt.id, attempt.is_taken())).collect();
    assert_eq!(seen, [(3, false)], "the second page is too old, and the last");
    let (first, second) = (requests.recv().expect("first"), requests.recv().expect("second"));
    assert!(first.starts_with("GET /api/v1/repos/acme/shop/hooks/7/deliveries?per_page=100 "), "{first}");
    assert!(second.contains("deliveries?per_page=100&cursor=v1_a%2Bb "), "{second}");
    assert!(stolen.try_recv().is_err(), "nothing was asked elsewhere");
}

#[test]
fn a_list_that_has_not_changed_is_not_read_again() {
    let tagged = answer("200 OK\r\nETag: \"one\"", "[]");
    let (url, requests) = forge_that_answers(vec![tagged, answer("304 Not Modified", "")]);
    let (forge, repo) = (github(url), "acme/shop".parse().expect("a repository"));
    let client = Client::new(&Network::default());
    let first = client.open_pulls(&forge, &repo, None).expect("readable").expect("a list");
    assert_eq!((first.open.len(), first.tag.as_deref()), (0, Some("\"one\"")));
    assert_eq!(client.open_pulls(&forge, &repo, first.tag.as_deref()).expect("readable"), None);
    assert!(!requests.recv().expect("first").contains("if-none-match"));
    let second = requests.recv().expect("second");
    assert!(second.contains("if-none-match: \"one\"\r\n") && second.contains("state=open"), "{second}");
}

#[test]
fn a_circle_of_redirects_ends() {
    let circle = answer("302 Found\r\nLocation: /again", "");
    let (url, requests) = forge_that_answers(vec![circle; REDIRECTS + 1]);
    let error = post(ForgeKind::Gitea, url, &Network::default()).expect_err("never stored");
    assert!(matches!(error, PostError::Retry { after: None, .. }), "{error:?}");
    assert_eq!(requests.iter().count(), REDIRECTS + 1);
}

#[test]
fn errors_name_the_cause_and_never_the_token() {
    let check = |head: &str, body: &str, expected: PostError| {
        let (url, _requests) = forge_that_answers(vec![answer(head, body)]);
        let error = post(ForgeKind::Github, url, &Network::default()).expect_err("not stored");
        assert_eq!(error, expected);
    };
    check(
        "401 Unauthorized",
        r#"{"message":"Bad\ncredentials: t0ken-of-the-forge"}"#,
        PostError::Unauthorized {
            why: "the forge answered 401 Unauthorized: Bad credentials: … (is the token revoked or expired?)"
                .to_owned(),
        },
    );
    check(
        "429 Too Many Requests\r\nRetry-After: 61",
        "slow down",
        PostError::Retry {
            after: Some(Duration::from_secs(61)),
            scope: Scope::Forge,
            why: "the forge answered 429 Too Many Requests".to_owned(),
        },
    );
    // Gitea's answer to a commit that it does not know (yet).
    check(
        "500 Internal Server Error",
        r#"{"message":"object does not exist"}"#,
        PostError::Retry {
            after: None,
            scope: Scope::Request,
            why: "the forge answered 500 Internal Server Error: object does not exist".to_owned(),
        },
    );
}

#[test]
fn a_success_that_is_no_status_is_none() {
    let portal = answer("200 OK\r\nContent-Type: text/html", "<html><title>Sign in to Hotel Wi-Fi</title></html>");
    let broken_off = "HTTP/1.1 201 Created\r\nContent-Length: 900\r\n\r\n{\"id\":".to_owned();
    let garbage = "HTTP/9 what\r\n\r\n".to_owned();
    for odd in [portal, broken_off, garbage, String::new()] {
        let (url, _requests) = forge_that_answers(vec![odd.clone()]);
        let error = post(ForgeKind::Github, url, &Network::default()).expect_err("not stored");
        assert!(matches!(error, PostError::Retry { after: None, scope: Scope::Forge, .. }), "{odd}: {error:?}");
    }
}

#[test]
fn the_end_of_the_token_comes_with_the_answer() {
    let said = "201 Created\r\nGitHub-Authentication-Token-Expiration: 2026-12-01 00:00:00 UTC";
    let (url, _requests) = forge_that_answers(vec![answer(said, r#"{"context":"hookmill"}"#)]);
    let accepted = post(ForgeKind::Github, url, &Network::default()).expect("stored");
    assert_eq!(accepted.token_ends, humantime::parse_rfc3339("2026-12-01T00:00:00Z").ok());
}

#[test]
fn a_forge_that_is_away_is_asked_again() {
    let url = "http://127.0.0.1:1".parse().expect("a URL");
    let error = post(ForgeKind::Github, url, &Network::default()).expect_err("nobody listens");
    assert!(matches!(error, PostError::Retry { after: None, scope: Scope::Unheard, .. }), "{error:?}");
    assert!(error.to_string().starts_with("127.0.0.1 can't be reached: "), "{error}");
}

#[test]
fn what_surely_never_left_is_told_from_what_may_be_acted_on() {
    let check = |what: &str, url: &str, network: &Network, expected: Scope| {
        let error = post(ForgeKind::Gitea, url.parse().expect("a URL"), network).expect_err(what);
        assert!(matches!(error, PostError::Retry { scope, .. } if scope == expected), "{what}: {error:?}");
    };
    let plain = Network::default();
    // No name of this kind is ever given to anybody (RFC 6761).
    check("no such host", "http://forge.invalid/api/v1", &plain, Scope::Unheard);
    let (url, _requests) = forge_that_answers(vec![created()]);
    check("no TLS", &url.as_str().replace("http:", "https:"), &plain, Scope::Unheard);
    let proxied = Network { proxy: Some("http://127.0.0.1:1".to_owned()), ..Network::default() };
    check("no proxy", "http://forge.invalid/api/v1", &proxied, Scope::Unheard);
    // Read, and the connection is gone: nobody knows whether it was acted on.
    let (url, _requests) = forge_that_answers(vec![String::new()]);
    check("no answer", url.as_str(), &plain, Scope::Forge);
    let (url, _requests) = forge_that_answers(vec![answer("502 Bad Gateway", "")]);
    check("no answer behind a gateway", url.as_str(), &plain, Scope::Forge);
    // The first request was answered, so the one that counts is the second.
    let gone = answer("307 Temporary Redirect\r\nConnection: close\r\nLocation: /again", "");
    let (url, requests) = forge_that_answers(vec![gone]);
    check("moved, and gone", url.as_str(), &plain, Scope::Unheard);
    assert_eq!(requests.iter().count(), 1);
}

#[test]
fn without_a_token_nothing_is_sent() {
    let forge = Forge {
        name: "test".parse().expect("a name"),
        kind: ForgeKind::Github,
        web_url: "http://127.0.0.1:1".parse().expect("a URL"),
        api_url: "http://127.0.0.1:1".parse().expect("a URL"),
        token: None,
        read_token: None,
        hook_secrets: vec![],
    };
    let status = Status { context: "hookmill".to_owned(), state: StatusState::Pending, sentence: "Queued".to_owned() };
    let (repo, commit) = ("a/b".parse().expect("a repository"), "b".repeat(40).parse().expect("a commit"));
    let error = Client::new(&Network::default()).post_status(&forge, &repo, &commit, &status, "");
    assert!(matches!(error, Err(PostError::Unauthorized { .. })), "{error:?}");
}

#[test]
fn a_proxy_is_used_unless_the_host_is_excepted() {
    let (url, _requests) = forge_that_answers(vec![created()]);
    let proxy = Some("http://user:hunter2@127.0.0.1:1".to_owned());
    let network = Network { proxy: proxy.clone(), ..Network::default() };
    let error = post(ForgeKind::Github, url.clone(), &network).expect_err("no proxy listens there");
    assert!(!error.to_string().contains("hunter2"), "{error}");
    let network = Network { proxy, no_proxy: vec!["127.0.0.1".to_owned()], ca_file: None };
    post(ForgeKind::Github, url, &network).expect("asked directly");
}

#[test]
fn a_forge_with_a_certificate_of_its_own_is_trusted_by_ca_file_only() {
    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use rustls::{ServerConfig, ServerConnection, StreamOwned};

    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tls");
    let certificate = CertificateDer::from_pem_file(folder.join("loopback.pem")).expect("a certificate");
    let key = PrivateKeyDer::from_pem_file(folder.join("loopback.key")).expect("a key");
    let config = ServerConfig::builder_with_provider(rustls::crypto::ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(vec![certificate], key))
        .expect("they fit");
    let config = Arc::new(config);
    let (url, requests) = forge_over("https", vec![created(); 2], move |stream| {
        StreamOwned::new(ServerConnection::new(config.clone()).expect("a connection"), stream)
    });

    let error = post(ForgeKind::Gitea, url.clone(), &Network::default()).expect_err("nobody vouches for it");
    assert!(matches!(error, PostError::Retry { scope: Scope::Unheard, .. }), "{error:?}");
    assert!(error.to_string().contains("certificate"), "{error}");
    assert!(requests.try_recv().is_err(), "no token left");
    let trusting = Network { ca_file: Some(folder.join("loopback.pem")), ..Network::default() };
    post(ForgeKind::Gitea, url.clone(), &trusting).expect("trusted");

    let absent = Network { ca_file: Some(folder.join("absent.pem")), ..Network::default() };
    let error = post(ForgeKind::Gitea, url, &absent).expect_err("no such file");
    assert!(error.to_string().starts_with("network.ca_file "), "{error}");
}

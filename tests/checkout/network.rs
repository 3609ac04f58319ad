//! A checkout and the world outside: who gets the token, who is believed, how long is waited.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hookmill::checkout::client::{self, CheckoutError};
use hookmill::checkout::{Credential, Job, RefusalKind};
use hookmill::domain::outcome::Outcome;
use tokio_util::sync::CancellationToken;

use crate::support::git_http::{Behaviour, GitServer};
use crate::support::port;
use crate::support::workbench::{EXE, Workbench, refused, remote, run};

fn credential(bench: &Workbench, job: &mut Job) {
    let origin = bench.clone_url();
    remote(job).credential = Some(Credential { username: "agent".into(), token: "s3cr3t-t0ken".into(), origin });
}

#[tokio::test]
async fn a_private_repository_takes_the_token_and_no_trace_of_it_is_left() {
    let bench = Workbench::new();
    let sha = bench.push(&[("a.js", "1")]);
    bench.server.behave(Behaviour::Auth("agent".into(), "s3cr3t-t0ken".into()));
    let mut job = bench.job(&sha, "refs/heads/main");
    let refusal = refused(run(&job).await);
    assert_eq!(refusal.kind, RefusalKind::Forbidden);
    assert!(refusal.message.contains("the token lacks read access, or the repository is gone (HTTP 401)"), "{refusal}");
    credential(&bench, &mut job);
    run(&job).await.expect("with the token");
    assert!(!format!("{job:?}").contains("s3cr3t"), "not in logs either");

    let data = bench.dir.path().join("data");
    for needle in ["s3cr3t-t0ken", "YWdlbnQ6czNjcjN0LXQwa2Vu"] {
        let found = Command::new("grep").args(["-r", "-a", "-l", needle]).arg(&data).output().expect("grep");
        assert_eq!(String::from_utf8_lossy(&found.stdout), "", "{needle}");
    }
}

#[tokio::test]
async fn statuses_have_words() {
    let bench = Workbench::new();
    let sha = bench.push(&[("a.js", "1")]);
    for (status, kind, retry) in [
        (403, RefusalKind::Forbidden, false),
        (404, RefusalKind::Forbidden, false),
        (429, RefusalKind::Unreachable, true),
        (503, RefusalKind::Unreachable, true),
    ] {
        bench.server.behave(Behaviour::Status(status));
        let refusal = refused(bench.checkout(&sha).await);
        assert_eq!((refusal.kind, refusal.may_retry()), (kind, retry), "{refusal}");
        assert!(refusal.message.contains(&format!("HTTP {status}")), "{refusal}");
        assert_eq!(refusal.verdict().outcome, Outcome::Broken);
    }
    bench.server.behave(Behaviour::Status(200));
    let refusal = refused(bench.checkout(&sha).await);
    assert_eq!(refusal.kind, RefusalKind::Untrusted, "{refusal}");
    let mut job = bench.job(&sha, "refs/heads/main");
    remote(&mut job).clone_url = "http://127.0.0.1:1/shop.git".parse().expect("an address");
    let refusal = refused(run(&job).await);
    assert_eq!(refusal.kind, RefusalKind::Unreachable, "{refusal}");
    for bad in ["file:///etc", "ext::sh -c touch% owned", "git://127.0.0.1/shop.git", "ssh://127.0.0.1/shop.git"] {
        remote(&mut job).clone_url = bad.parse().expect("an address");
        assert_eq!(refused(run(&job).await).kind, RefusalKind::Untrusted);
    }
}

#[tokio::test]
async fn a_redirect_to_another_host_or_port_never_gets_the_token() {
    let bench = Workbench::new();
    let sha = bench.push(&[("a.js", "1")]);
    let thief = GitServer::start(bench.dir.path());
    thief.behave(Behaviour::Status(401));
    let port = thief.origin().rsplit(':').next().expect("a port").to_owned();
    for target in [thief.origin(), format!("http://localhost:{port}"), "https://127.0.0.1:9".into()] {
        bench.server.behave(Behaviour::Redirect(target.clone()));
        let mut job = bench.job(&sha, "refs/heads/main");
        credential(&bench, &mut job);
        let refusal = refused(run(&job).await);
        assert_eq!(refusal.kind, RefusalKind::Untrusted, "{refusal}");
        assert!(refusal.message.contains(&target), "{refusal}");
        assert_eq!(refusal.verdict().outcome, Outcome::Broken);
    }
    assert_eq!(thief.requests().len(), 0, "not even asked");
}

#[tokio::test]
async fn a_token_of_another_origin_stays_at_home() {
    let bench = Workbench::new();
    let sha = bench.push(&[("a.js", "1")]);
    let mut job = bench.job(&sha, "refs/heads/main");
    for other in ["https://127.0.0.1", "http://127.0.0.1:1", "http://localhost"] {
        let origin = other.parse().expect("an address");
        remote(&mut job).credential = Some(Credential { username: "agent".into(), token: "t".into(), origin });
        run(&job).await.expect("a public repository");
    }
    assert!(bench.server.requests().iter().all(|request| request.authorization.is_none()));
}

#[tokio::test]
async fn a_renamed_repository_is_followed_within_its_origin() {
    let bench = Workbench::new();
    let sha = bench.push(&[("a.js", "1")]);
    bench.server.behave(Behaviour::Moved("/old.git", "/shop.git".to_owned()));
    let mut job = bench.job(&sha, "refs/heads/main");
    let old = format!("{}/old.git", bench.server.origin());
    remote(&mut job).clone_url = old.parse().expect("an address");
    run(&job).await.expect("followed");
    let lines: Vec<String> = bench.server.requests().into_iter().map(|request| request.line).collect();
    let expected = [
        "GET /old.git/info/refs?service=git-upload-pack",
        "GET /shop.git/info/refs?service=git-upload-pack",
        "POST /shop.git/git-upload-pack",
    ];
    assert_eq!(lines, expected);

    let next = bench.push(&[("a.js", "2")]);
    bench.server.behave(Behaviour::Redirect(format!("{}/deeper", bench.server.origin())));
    let refusal = refused(bench.checkout(&next).await);
    assert!(refusal.message.contains("redirects again and again"), "{refusal}");
}

#[tokio::test]
async fn a_bad_certificate_is_refused() {
    let bench = Workbench::new();
    let sha = bench.push(&[("a.js", "1")]);
    let (key, cert) = (bench.dir.path().join("key.pem"), bench.dir.path().join("cert.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&cert)
        .stderr(Stdio::null())
        .status()
        .expect("openssl is installed");
    assert!(made.success());
    let port = port::free();
    let mut server = Command::new("openssl")
        .args(["s_server", "-quiet", "-www", "-accept", &format!("127.0.0.1:{port}"), "-key"])
        .arg(&key)
        .arg("-cert")
        .arg(&cert)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl is installed");
    let begun = Instant::now();
    while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(20), "openssl listens");
        std::thread::yield_now();
    }
    let mut job = bench.job(&sha, "refs/heads/main");
    remote(&mut job).clone_url = format!("https://localhost:{port}/shop.git").parse().expect("an address");
    let refusal = refused(run(&job).await);
    remote(&mut job).network.ca_file = Some(cert);
    let trusted = refused(run(&job).await);
    server.kill().expect("ours");
    server.wait().expect("ours");
    assert_eq!(refusal.kind, RefusalKind::Untrusted, "{refusal}");
    assert!(refusal.message.contains("is not trusted") && refusal.message.contains("network.ca_file"), "{refusal}");
    // A self-signed certificate is no authority, so it may still be refused, but not for its issuer.
    assert!(!trusted.message.contains("UnknownIssuer"), "{trusted}");
}

#[tokio::test]
async fn a_server_that_hangs_is_left_at_the_deadline() {
    let bench = Workbench::new();
    let sha = bench.push(&[("a.js", &"x".repeat(100_000))]);
    for behaviour in [Behaviour::Hang, Behaviour::Stall] {
        bench.server.behave(behaviour.clone());
        let job = bench.job(&sha, "refs/heads/main");
        let begun = Instant::now();
        let answer = client::run(Path::new(EXE), &job, Duration::from_millis(700), CancellationToken::new()).await;
        let refusal = refused(answer);
        assert_eq!(refusal.kind, RefusalKind::TimedOut, "{behaviour:?}: {refusal}");
        assert_eq!(refusal.message, "the checkout took longer than 0.7s");
        assert!(refusal.may_retry() && refusal.verdict().outcome == Outcome::Broken);
        assert!(begun.elapsed() < Duration::from_secs(10));

        let mut job = bench.job(&sha, "refs/heads/main");
        remote(&mut job).network.patience = Duration::from_millis(300);
        let refusal = refused(run(&job).await);
        assert_eq!(refusal.kind, RefusalKind::Unreachable, "{behaviour:?}: {refusal}");
    }
}

#[tokio::test]
async fn cancelling_ends_the_child_at_once() {
    let bench = Workbench::new();
    let sha = bench.push(&[("a.js", "1")]);
    bench.server.behave(Behaviour::Hang);
    let (job, cancel) = (bench.job(&sha, "refs/heads/main"), CancellationToken::new());
    let running = client::run(Path::new(EXE), &job, Duration::from_secs(60), cancel.clone());
    let cancelling = async {
        while bench.server.requests().is_empty() {
            tokio::task::yield_now().await;
        }
        cancel.cancel();
    };
    let (answer, ()) = tokio::join!(running, cancelling);
    assert!(matches!(answer, Err(CheckoutError::Cancelled)), "{answer:?}");
}

#[tokio::test]
async fn an_agent_that_dies_leaves_no_checkout_behind() {
    let bench = Workbench::new();
    let sha = bench.push(&[("a.js", "1")]);
    bench.server.behave(Behaviour::Hang);
    let mut job = bench.job(&sha, "refs/heads/main");
    job.deadline = Duration::from_secs(60);
    let mut child = Command::new(EXE)
        .args(["internal", "checkout"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("our binary");
    let mut stdin = child.stdin.take().expect("piped");
    serde_json::to_writer(&mut stdin, &job).expect("a pipe");
    std::io::Write::write_all(&mut stdin, b"\n").expect("a pipe");
    while bench.server.requests().is_empty() {
        assert!(child.try_wait().expect("ours").is_none(), "it waits for the server");
        std::thread::yield_now();
    }
    // What the kernel does to the pipe of an agent that was killed.
    drop(stdin);
    assert!(!child.wait().expect("ours").success());
}

//! Our requests, judged by what the forges themselves publish of their APIs.

#[path = "support/published.rs"]
mod published;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::thread;

use hookmill::config::secret::Secret;
use hookmill::config::server::{Forge, ForgeKind, Network};
use hookmill::domain::repo::{CommitId, RepoPath};
use hookmill::domain::status::{Status, StatusState};
use hookmill::forge::api::{Client, PostError};
use serde_json::Value;

use published::{Gitea, Github};

/// Every path that we ask GitHub for. What is added to the client is added here.
const PATHS: [&str; 2] = ["/repos/{owner}/{repo}/statuses/{sha}", "/user"];

const TARGET: &str = "https://ci.acme.dev/hookmill/builds/12?key=k3y";
const STATES: [StatusState; 4] = [StatusState::Pending, StatusState::Success, StatusState::Failure, StatusState::Error];

fn forge(kind: ForgeKind, url: &url::Url) -> Forge {
    Forge {
        name: "test".parse().expect("a name"),
        kind,
        web_url: url.clone(),
        api_url: url.clone(),
        token: Some(Secret::new("t0ken-of-the-forge")),
        read_token: None,
        hook_secrets: vec![],
    }
}

fn repo() -> RepoPath {
    "acme/shop".parse().expect("a repository")
}

fn commit() -> CommitId {
    "a1b2c3d4e5".repeat(4).parse().expect("a commit")
}

fn status(context: &str, state: StatusState, sentence: &str) -> Status {
    Status { context: context.to_owned(), state, sentence: sentence.to_owned() }
}

#[test]
fn github_takes_our_requests_by_its_own_description() {
    let github = Github::with(&PATHS);
    let (client, forge) = (Client::new(&Network::default()), forge(ForgeKind::Github, &github.url));
    let long = "é".repeat(140);
    for state in STATES {
        for sentence in ["Queued", "Passed in 9s · main.js 312 kB (+4.1 kB vs main)", long.as_str()] {
            // The context of the description's own example: its answer is then what a status is answered with.
            let said = status("continuous-integration/jenkins", state, sentence);
            let answer = client.post_status(&forge, &repo(), &commit(), &said, TARGET);
            assert!(answer.is_ok(), "{said:?}: {answer:?}");
        }
    }
    let other = client.post_status(&forge, &repo(), &commit(), &status("hookmill", STATES[1], "Passed"), TARGET);
    assert!(matches!(&other, Err(PostError::Retry { why, .. }) if why.contains("is a success")), "{other:?}");
    let known = client.token(&forge).expect("the account");
    assert!(known.account.is_some(), "{known:?}");

    // The judge can say no.
    let http = ureq::Agent::config_builder().proxy(None).http_status_as_error(false).build().new_agent();
    let wrong = |path: &str, kind: &str, body: &str| {
        let url = format!("{}{path}", github.url);
        let asked = http.post(url).header("content-type", kind).header("authorization", "Bearer x").send(body);
        asked.expect("an answer").status().as_u16()
    };
    let path = format!("repos/acme/shop/statuses/{}", commit());
    assert_eq!(wrong(&path, "application/json", r#"{"state":"passed"}"#), 422);
    assert_eq!(wrong(&path, "application/json", r#"{"context":"hookmill"}"#), 422);
    assert_eq!(wrong(&path, "text/plain", "success"), 415);
    assert_eq!(wrong("repos/acme/shop/status", "application/json", r#"{"state":"success"}"#), 404);
}

/// What a request is made of, as far as a forge looks at it.
#[derive(Debug, PartialEq)]
struct Seen {
    line: String,
    authorization: String,
    body: Value,
}

/// Takes one request and answers as Gitea does.
fn see(listener: &TcpListener) -> Seen {
    let (stream, _) = listener.accept().expect("a connection");
    let mut reader = BufReader::new(stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).expect("a line");
        if line.trim().is_empty() {
            break;
        }
        lines.push(line.trim().to_owned());
    }
    let header = |name: &str| {
        let value =
            lines.iter().filter_map(|line| line.split_once(": ")).find(|(given, _)| given.eq_ignore_ascii_case(name));
        value.map(|(_, value)| value.to_owned()).unwrap_or_default()
    };
    let mut body = vec![0; header("content-length").parse().expect("a length")];
    reader.read_exact(&mut body).expect("a body");
    let stored = r#"{"id":1,"status":"success","context":"hookmill"}"#;
    let head = "HTTP/1.1 201 Created\r\nConnection: close\r\nContent-Type: application/json";
    write!(reader.get_mut(), "{head}\r\nContent-Length: {}\r\n\r\n{stored}", stored.len()).expect("answered");
    Seen {
        line: lines[0].clone(),
        authorization: header("authorization"),
        body: serde_json::from_slice(&body).expect("JSON"),
    }
}

#[test]
fn gitea_is_asked_as_the_client_of_its_own_description_asks() {
    let gitea = Gitea::installed();
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
    let origin = format!("http://{}", listener.local_addr().expect("bound"));
    let requests = thread::spawn(move || [see(&listener), see(&listener)]);
    let url = format!("{origin}/api/v1").parse().expect("a URL");
    let (client, said) = (Client::new(&Network::default()), status("hookmill", StatusState::Success, "Passed · in 9s"));
    client.post_status(&forge(ForgeKind::Gitea, &url), &repo(), &commit(), &said, TARGET).expect("taken");
    let theirs = format!(
        "import {{ giteaApi }} from 'gitea-js';\n\
         const api = giteaApi('{origin}', {{ token: 't0ken-of-the-forge' }});\n\
         const told = await api.repos.repoCreateStatus('acme', 'shop', '{}', {{ state: 'success', context: 'hookmill', \
         description: 'Passed · in 9s', target_url: '{TARGET}' }});\n\
         console.log(told.data.context);\n",
        commit()
    );
    assert_eq!(gitea.run("ask", &theirs).trim(), "hookmill");
    let [ours, theirs] = requests.join().expect("two requests");
    assert_eq!((&ours.line, &ours.body), (&theirs.line, &theirs.body));
    // Gitea takes a token under either word; ours is the one that its documentation begins with.
    assert_eq!(ours.authorization, "token t0ken-of-the-forge");
    assert_eq!(theirs.authorization, "Bearer t0ken-of-the-forge");

    // Each field is one that the description knows; and the answer has what we look for.
    let typed = |body: &str, field: &str| {
        format!(
            "import type {{ CommitStatus, CreateStatusOption }} from 'gitea-js';\n\
             export const body: CreateStatusOption = {body};\n\
             export const context = (told: CommitStatus): string | undefined => told.{field};\n"
        )
    };
    assert_eq!(gitea.compile("right", &typed(&ours.body.to_string(), "context")), Ok(()));
    let misspelt = ours.body.to_string().replace("target_url", "targetUrl");
    assert!(gitea.compile("wrong", &typed(&misspelt, "context")).is_err_and(|said| said.contains("targetUrl")));
    assert!(gitea.compile("wrong-answer", &typed(&ours.body.to_string(), "name")).is_err());
}

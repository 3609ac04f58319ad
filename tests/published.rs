//! Our requests, judged by what the forges themselves publish of their APIs: every one that the client can make, by the
//! list of its paths ([`Path::ALL`]).

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use hookmill::config::secret::Secret;
use hookmill::config::server::{Forge, ForgeKind, Network};
use hookmill::domain::repo::{CommitId, RepoPath};
use hookmill::domain::status::{Status, StatusState};
use hookmill::domain::time::Timestamp;
use hookmill::forge::api::missed::Attempt;
use hookmill::forge::api::{Client, Path, PostError};
use serde_json::{Value, json};
use url::Url;

use crate::support::published::{Gitea, Github};

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

/// Has the client ask for one thing, with everything that it says then; the answer must be understood.
fn ask(path: Path, client: &Client, forge: &Forge) {
    let (repo, commit) = (repo(), commit());
    let attempt = || Attempt {
        id: 17,
        guid: "58474f00-b361-11eb-836d-0e4f3503ccbe".to_owned(),
        delivered_at: Timestamp(0),
        status_code: Some(502),
        event: "push".to_owned(),
    };
    let heard = match path {
        Path::Status => {
            // The context of the description's own example: its answer is then what a status is answered with.
            let said = status("continuous-integration/jenkins", StatusState::Success, "Passed · in 9s");
            client.post_status(forge, &repo, &commit, &said, TARGET).map(drop)
        }
        Path::User => client.token(forge).map(|known| assert!(known.account.is_some(), "{known:?}")),
        Path::Repository => client.rights(forge, &repo).map(|rights| assert!(rights.read, "{rights:?}")),
        Path::Pulls => client.open_pulls(forge, &repo, Some("\"a tag\"")).map(|pulls| {
            let pulls = pulls.expect("a list");
            assert!(!pulls.open.is_empty(), "{pulls:?}");
        }),
        Path::Pull => client.is_open(forge, &repo, 7).map(|open| assert!(open)),
        Path::Commit => {
            client.commit(forge, &repo, &commit).map(|commit| assert!(commit.title.is_some(), "{commit:?}"))
        }
        Path::Hooks => client.hook(forge, &repo, "https://example.com/webhook").map(|hook| assert!(hook.is_some())),
        Path::Deliveries => client.attempts(forge, &repo, 12, Timestamp(0)).map(|seen| assert!(!seen.is_empty())),
        Path::Delivery => client.told(forge, &repo, 12, &attempt()).map(drop),
        Path::Attempts => client.send_again(forge, &repo, 12, &attempt()),
    };
    heard.unwrap_or_else(|error| panic!("{path:?}: {error}"));
}

#[test]
fn github_takes_every_request_of_ours_by_its_own_description() {
    let described = Path::ALL.map(|path| path.described(ForgeKind::Github).expect("GitHub has them all"));
    let github = Github::with(&described.map(|(_, path)| path));
    let judge = github.url.clone();
    let between = Between::start(move |seen| seen.passed_on(&judge));
    let (client, forge) = (Client::new(&Network::default()), forge(ForgeKind::Github, &between.url));
    for (path, (method, template)) in Path::ALL.into_iter().zip(described) {
        ask(path, &client, &forge);
        let seen: Vec<Seen> = between.seen.try_iter().collect();
        assert!(!seen.is_empty(), "{path:?} asks nothing");
        for seen in seen {
            assert!(seen.is_of(method, template), "{path:?} is asked as {seen:?}");
            assert_eq!(seen.authorization, "Bearer t0ken-of-the-forge");
            // Prism judges the values of those that it knows, and passes over others.
            let known = github.queries(method, template);
            assert!(seen.query.keys().all(|name| known.contains(name)), "{path:?}: {:?} of {known:?}", seen.query);
        }
    }

    let long = "é".repeat(140);
    for state in STATES {
        for sentence in ["Queued", "Passed in 9s · main.js 312 kB (+4.1 kB vs main)", long.as_str()] {
            let said = status("continuous-integration/jenkins", state, sentence);
            let answer = client.post_status(&forge, &repo(), &commit(), &said, TARGET);
            assert!(answer.is_ok(), "{said:?}: {answer:?}");
        }
    }
    let other = client.post_status(&forge, &repo(), &commit(), &status("hookmill", STATES[1], "Passed"), TARGET);
    assert!(matches!(&other, Err(PostError::Retry { why, .. }) if why.contains("is a success")), "{other:?}");
    can_say_no(&github);
}

fn can_say_no(github: &Github) {
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
    assert_eq!(wrong("repos/acme/shop/hooks/12/deliveries/x/attempts", "application/json", ""), 422);
    let read = |path: &str| {
        let url = format!("{}{path}", github.url);
        http.get(url).header("authorization", "Bearer x").call().expect("an answer").status().as_u16()
    };
    assert_eq!(read("repos/acme/shop/pulls?state=opened"), 422);
    assert_eq!(read("repos/acme/shop/pulls/first"), 422);
    assert!(!github.queries("GET", "/repos/{owner}/{repo}/pulls").contains("per-page"));
}

/// What a request is made of, as far as a forge looks at it.
#[derive(Debug)]
struct Seen {
    method: String,
    path: String,
    query: BTreeMap<String, String>,
    authorization: String,
    body: Value,
    whole: Vec<u8>,
}

impl Seen {
    fn read(reader: &mut impl BufRead) -> Option<Seen> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok().filter(|length| *length > 0)?;
            if line.trim().is_empty() {
                break;
            }
            lines.push(line.trim().to_owned());
        }
        let header = |name: &str| {
            let mut fields = lines.iter().filter_map(|line| line.split_once(": "));
            fields.find(|(given, _)| given.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
        };
        let mut body = vec![0; header("content-length").map_or(0, |length| length.parse().expect("a length"))];
        reader.read_exact(&mut body).expect("a body");
        let mut words = lines[0].split(' ');
        let method = words.next().expect("a method").to_owned();
        let url = Url::parse("http://forge").and_then(|base| base.join(words.next().expect("a path"))).expect("a URL");
        let head = lines.iter().filter(|line| !line.to_ascii_lowercase().starts_with("connection:"));
        let head: String = head.map(|line| format!("{line}\r\n")).collect();
        let mut whole = format!("{head}connection: close\r\n\r\n").into_bytes();
        whole.extend(&body);
        Some(Seen {
            method,
            path: url.path().to_owned(),
            query: url.query_pairs().into_owned().collect(),
            authorization: header("authorization").unwrap_or_default(),
            body: if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).expect("JSON") },
            whole,
        })
    }

    /// Whether it is made of this method and path of a description.
    fn is_of(&self, method: &str, template: &str) -> bool {
        let (parts, expected): (Vec<_>, Vec<_>) = (self.path.split('/').collect(), template.split('/').collect());
        let fits = |(part, expected): (&&str, &&str)| expected.starts_with('{') || part == expected;
        self.method == method && parts.len() == expected.len() && parts.iter().zip(&expected).all(fits)
    }

    /// The answer of another server to it.
    fn passed_on(&self, to: &Url) -> Vec<u8> {
        let address = (to.host_str().expect("a host"), to.port().expect("a port"));
        let mut stream = TcpStream::connect(address).expect("it listens");
        stream.write_all(&self.whole).expect("taken");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an answer");
        answer
    }
}

/// Stands where a forge would, and notes what it is asked.
struct Between {
    url: Url,
    seen: Receiver<Seen>,
}

impl Between {
    /// It ends with the test's process.
    fn start(answer: impl Fn(&Seen) -> Vec<u8> + Send + 'static) -> Between {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let url = format!("http://{}", listener.local_addr().expect("bound")).parse().expect("a URL");
        let (tell, seen) = channel();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut reader = BufReader::new(stream);
                let Some(request) = Seen::read(&mut reader) else { continue };
                let answered = answer(&request);
                // Told before it is answered: whoever has the answer finds it here.
                let _ = tell.send(request);
                let _ = reader.get_mut().write_all(&answered);
            }
        });
        Between { url, seen }
    }
}

/// Answers as Gitea does.
fn as_gitea(seen: &Seen) -> Vec<u8> {
    let sha = commit().to_string();
    let pull = json!({
        "number": 7, "state": "open", "title": "Fix", "user": {"login": "ann"},
        "head": {"ref": "fix", "sha": sha, "repo": {"id": 1, "full_name": "acme/shop"}},
        "base": {"ref": "main", "sha": sha, "repo": {"id": 1, "full_name": "acme/shop"}},
    });
    let (code, body) = match seen.path.trim_start_matches("/api/v1") {
        "/user" => ("200 OK", json!({"id": 1, "login": "bot"})),
        "/repos/acme/shop" => ("200 OK", json!({"id": 1, "permissions": {"push": true}})),
        "/repos/acme/shop/pulls" => ("200 OK", json!([pull])),
        "/repos/acme/shop/pulls/7" => ("200 OK", pull),
        path if path.contains("/git/commits/") => {
            ("200 OK", json!({"sha": sha, "commit": {"message": "Fix", "author": {"name": "Ann"}}}))
        }
        _ => ("201 Created", json!({"id": 1, "status": "success", "context": "continuous-integration/jenkins"})),
    };
    let body = body.to_string();
    let head = format!("HTTP/1.1 {code}\r\nConnection: close\r\nContent-Type: application/json");
    format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// How the client that is generated from Gitea's description asks for the same.
fn theirs(path: Path) -> Option<String> {
    let commit = commit();
    Some(match path {
        Path::Status => format!(
            "repos.repoCreateStatus('acme', 'shop', '{commit}', {{ state: 'success', \
             context: 'continuous-integration/jenkins', description: 'Passed · in 9s', target_url: '{TARGET}' }})"
        ),
        Path::User => "user.userGetCurrent()".to_owned(),
        Path::Repository => "repos.repoGet('acme', 'shop')".to_owned(),
        Path::Pulls => {
            "repos.repoListPullRequests('acme', 'shop', { state: 'open', sort: 'oldest', limit: 50, page: 1 })"
                .to_owned()
        }
        Path::Pull => "repos.repoGetPullRequest('acme', 'shop', 7)".to_owned(),
        Path::Commit => format!("repos.repoGetSingleCommit('acme', 'shop', '{commit}')"),
        Path::Hooks | Path::Deliveries | Path::Delivery | Path::Attempts => return None,
    })
}

#[test]
fn gitea_is_asked_as_the_client_of_its_own_description_asks() {
    let gitea = Gitea::installed();
    let between = Between::start(as_gitea);
    let api_url = between.url.join("api/v1").expect("a URL");
    let (client, forge) = (Client::new(&Network::default()), forge(ForgeKind::Gitea, &api_url));
    let asked: Vec<(Path, String)> = Path::ALL.into_iter().filter_map(|path| Some((path, theirs(path)?))).collect();
    let described: Vec<Path> =
        Path::ALL.into_iter().filter(|path| path.described(ForgeKind::Gitea).is_some()).collect();
    assert_eq!(asked.iter().map(|(path, _)| *path).collect::<Vec<_>>(), described, "each that we ask for");

    // The types of its description are the judges: of the questions, and of whether the answers have what we look for.
    let questions: String = asked.iter().map(|(_, question)| format!("await api.{question};\n")).collect();
    let client_of_theirs = format!(
        "import {{ giteaApi }} from 'gitea-js';\nconst api = giteaApi('{}', {{ token: 't0ken-of-the-forge' }});\n",
        between.url.as_str().trim_end_matches('/')
    );
    let looked_at = "import type { Commit, CommitStatus, PullRequest, Repository, User } from 'gitea-js';\n\
                     export const status = (told: CommitStatus) => told.context;\n\
                     export const user = (told: User) => told.login;\n\
                     export const repository = (told: Repository) => told.permissions?.push;\n\
                     export const pull = (told: PullRequest) => [told.number, told.state, told.title, told.user?.login, \
                     told.head?.ref, told.head?.sha, told.head?.repo?.id, told.head?.repo?.full_name, told.base?.ref, \
                     told.base?.sha, told.base?.repo?.id, told.base?.repo?.full_name];\n\
                     export const commit = (told: Commit) => [told.commit?.message, told.commit?.author?.name, \
                     told.author?.login];\n";
    let typed = format!("{client_of_theirs}{looked_at}{questions}");
    assert_eq!(gitea.compile("right", &typed), Ok(()));
    for (word, misspelt) in [("target_url", "targetUrl"), ("limit", "per_page"), ("told.login", "told.name")] {
        let said = gitea.compile("wrong", &typed.replace(word, misspelt)).expect_err("wrong");
        assert!(said.contains(misspelt.trim_start_matches("told.")), "{said}");
    }

    gitea.run("ask", &format!("{client_of_theirs}{questions}"));
    let theirs: Vec<Seen> = between.seen.try_iter().collect();
    assert_eq!(theirs.len(), asked.len(), "{theirs:#?}");
    for ((path, _), theirs) in asked.iter().zip(theirs) {
        let (method, template) = path.described(ForgeKind::Gitea).expect("it has that");
        ask(*path, &client, &forge);
        let ours = between.seen.try_recv().expect("asked");
        assert!(ours.is_of(method, &format!("/api/v1{template}")), "{path:?}: {ours:?}");
        assert_eq!((&ours.method, &ours.path, &ours.body), (&theirs.method, &theirs.path, &theirs.body));
        assert_eq!(ours.query, theirs.query, "{path:?}");
        // Gitea takes a token under either word; ours is the one that its documentation begins with.
        assert_eq!(ours.authorization, "token t0ken-of-the-forge");
        assert_eq!(theirs.authorization, "Bearer t0ken-of-the-forge");
    }
}

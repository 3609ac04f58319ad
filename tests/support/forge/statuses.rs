//! The statuses API of the fake forge: what it takes, what it remembers, and how it fails on demand.

use std::collections::BTreeSet;
use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;
use serde_json::{Value, json};

use super::lists::Lists;
use super::{Kind, git};
use crate::support::git_http::Asked;

/// Characters that GitHub takes of a description.
const LONGEST_SENTENCE: usize = 140;

/// How the API answers instead of as it should.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// This status.
    Status(u16),
    /// 429 with `Retry-After` of so many seconds.
    TooMany(u32),
    /// 401, as after the token was revoked.
    Unauthorized,
    /// Takes the request and never answers.
    Hang,
    /// This code with these header lines (each with its CRLF) and this body.
    Says(u16, &'static str, &'static str),
    /// Takes the request and breaks the connection off.
    Reset,
    /// Bytes that are no HTTP.
    Garbage,
    /// Takes the request and answers it as it should, but not before [`super::Forge::release`].
    Late,
    /// Takes the request and refuses it with this code, but not before [`super::Forge::release`].
    LateRefusal(u16),
    /// Takes it and keeps it as it should, but the answer is lost.
    Lost,
}

/// A status as it was posted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) repo: String,
    pub(crate) sha: String,
    pub(crate) context: String,
    pub(crate) state: String,
    pub(crate) description: String,
    pub(crate) target_url: String,
}

/// One request to the API.
#[derive(Clone, Debug)]
pub(crate) struct Posted {
    pub(crate) at: Instant,
    /// What was answered; 0 when nothing was.
    pub(crate) answered: u16,
    pub(crate) status: Status,
}

/// What came, and how the next requests are answered.
pub(super) struct Memory {
    pub(super) root: PathBuf,
    pub(super) posted: Mutex<Vec<Posted>>,
    /// What came and had not to come.
    pub(super) wrong: Mutex<Vec<String>>,
    /// How the next requests are answered.
    pub(super) trouble: Mutex<Vec<Trouble>>,
    /// The commits and contexts of requests that are under way.
    pub(super) under_way: Mutex<BTreeSet<String>>,
    /// Header lines of every good answer, each with its CRLF.
    pub(super) also: Mutex<String>,
    /// How many late answers may be given now, and how many wait.
    pub(super) late: Mutex<(usize, usize)>,
    pub(super) released: Condvar,
    pub(super) open: Mutex<Vec<TcpStream>>,
    pub(super) ended: Mutex<bool>,
    /// What it tells when it is asked.
    pub(super) lists: Lists,
}

/// What a lock guards.
pub(super) fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics while holding it")
}

impl Memory {
    /// Serves one connection to its end.
    pub(super) fn connection(&self, mut stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().expect("a handle"));
        while let Some(asked) = Asked::read(&mut reader) {
            let at = Instant::now();
            if let Some(told) = self.account(&asked).or_else(|| self.told(&asked)) {
                if stream.write_all(&told).is_err() {
                    return;
                }
                continue;
            }
            let Some((kind, status)) = self.understood(&asked) else {
                if stream.write_all(&answer(404, "", REFUSED)).is_err() {
                    return;
                }
                continue;
            };
            let trouble = {
                let mut troubles = held(&self.trouble);
                (!troubles.is_empty()).then(|| troubles.remove(0))
            };
            let key = format!("{} {} {}", status.repo, status.sha, status.context);
            if matches!(trouble, Some(Trouble::Late | Trouble::LateRefusal(_))) {
                self.wait_for_release();
            } else {
                self.enter(&key);
            }
            let judged = || self.judged(kind, &asked, &status);
            let (answered, told) = match trouble {
                None | Some(Trouble::Late) => {
                    let code = judged();
                    let stored = json!({"id": 1, "state": status.state, "context": status.context}).to_string();
                    let body = if code == 201 { stored.as_str() } else { REFUSED };
                    (code, answer(code, &held(&self.also), body))
                }
                Some(Trouble::Lost) => (judged(), Vec::new()),
                Some(Trouble::Status(code)) => (code, answer(code, "", REFUSED)),
                Some(Trouble::TooMany(seconds)) => (429, answer(429, &format!("Retry-After: {seconds}\r\n"), REFUSED)),
                Some(Trouble::LateRefusal(code)) => (code, answer(code, "", REFUSED)),
                Some(Trouble::Unauthorized) => (401, answer(401, "", REFUSED)),
                // 201 is only what was kept, whatever the words were.
                Some(Trouble::Says(code, fields, body)) => {
                    (if code == 201 { 0 } else { code }, answer(code, fields, body))
                }
                Some(Trouble::Garbage) => (0, b"\x00\x16 this is no answer\r\n\r\n".to_vec()),
                Some(Trouble::Hang | Trouble::Reset) => (0, Vec::new()),
            };
            held(&self.posted).push(Posted { at, answered, status });
            if trouble == Some(Trouble::Hang) {
                // Until the other side, or the end of the forge, closes the connection.
                let _ = reader.read(&mut [0]);
                held(&self.under_way).remove(&key);
                return;
            }
            held(&self.under_way).remove(&key);
            match trouble {
                Some(Trouble::Reset | Trouble::Lost) => {
                    // Closed so, and by nobody else held, the system sends a reset.
                    let _ = set_socket_linger(&stream, Some(Duration::ZERO));
                    let peer = stream.peer_addr().ok();
                    held(&self.open).retain(|other| other.peer_addr().ok() != peer);
                    return;
                }
                _ if stream.write_all(&told).is_err() || trouble == Some(Trouble::Garbage) => return,
                _ => {}
            }
        }
    }

    /// Notes that a request is under way; there must be no other of the same commit and context.
    fn enter(&self, key: &str) {
        /// How long we may take to see that the other side has closed a connection.
        const SEEN: Duration = Duration::from_secs(2);
        let deadline = Instant::now() + SEEN;
        while !held(&self.under_way).insert(key.to_owned()) {
            if Instant::now() > deadline {
                self.wrong(format!("two requests at a time for {key}"));
                return;
            }
            std::thread::sleep(super::LOOK_AGAIN);
        }
    }

    fn wait_for_release(&self) {
        let mut late = held(&self.late);
        late.1 += 1;
        while late.0 == 0 && !*held(&self.ended) {
            late = self.released.wait_timeout(late, Duration::from_millis(100)).expect("nobody panics").0;
        }
        late.0 = late.0.saturating_sub(1);
        late.1 -= 1;
    }

    /// A status, if that is what was asked for.
    fn understood(&self, asked: &Asked) -> Option<(Kind, Status)> {
        let understood = (|| {
            let target = asked.line.strip_prefix("POST ")?;
            let kind = [Kind::Gitea, Kind::Github].into_iter().find(|kind| target.starts_with(kind.api()))?;
            let rest = target.strip_prefix(kind.api())?.strip_prefix("/repos/")?;
            let (repo, sha) = rest.split_once("/statuses/")?;
            let body: Value = serde_json::from_slice(&asked.body).ok()?;
            let text = |name: &str| body[name].as_str().map(str::to_owned);
            let status = Status {
                repo: repo.to_owned(),
                sha: sha.to_owned(),
                context: text("context")?,
                state: text("state")?,
                description: text("description")?,
                target_url: text("target_url")?,
            };
            Some((kind, status))
        })();
        if understood.is_none() {
            self.wrong(format!("{} with {}", asked.line, String::from_utf8_lossy(&asked.body)));
        }
        understood
    }

    /// The code that a well forge answers, which is 201 unless something is wrong with the request.
    fn judged(&self, kind: Kind, asked: &Asked, status: &Status) -> u16 {
        if asked.header("authorization") != Some(kind.authorization()) {
            self.wrong(format!("{} with another token", asked.line));
            return 401;
        }
        let bare = self.root.join(format!("{}.git", status.repo));
        if !bare.exists() || !is_commit(&bare, &status.sha) {
            self.wrong(format!("{}: no such commit", asked.line));
            return 404;
        }
        if !["pending", "success", "failure", "error"].contains(&status.state.as_str()) {
            self.wrong(format!("no state of a status: {status:?}"));
            return 422;
        }
        let sentence = &status.description;
        if sentence.is_empty() || sentence.chars().count() > LONGEST_SENTENCE || sentence.contains(char::is_control) {
            self.wrong(format!("not one line of at most {LONGEST_SENTENCE} characters: {sentence:?}"));
            return 422;
        }
        201
    }

    pub(super) fn wrong(&self, what: String) {
        held(&self.wrong).push(what);
    }
}

fn is_commit(bare: &Path, sha: &str) -> bool {
    let object = format!("{sha}^{{commit}}");
    sha.len() == 40 && git(bare, bare, &["cat-file", "-e", &object]).is_ok()
}

/// The body of an answer that is no status.
const REFUSED: &str = r#"{"message":"as the test wants it"}"#;

fn answer(code: u16, fields: &str, body: &str) -> Vec<u8> {
    let kind = if body.starts_with('<') { "text/html" } else { "application/json" };
    let head = format!("HTTP/1.1 {code} Because\r\n{fields}Content-Type: {kind}\r\n");
    format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

impl Memory {
    /// What a forge tells of the account that asks: 401 without its token, GitHub also the token's scopes.
    fn account(&self, asked: &Asked) -> Option<Vec<u8>> {
        let is_asked = |kind: &Kind| asked.line == format!("GET {}/user", kind.api());
        let kind = [Kind::Gitea, Kind::Github].into_iter().find(is_asked)?;
        let known = asked.header("authorization") == Some(kind.authorization());
        let fields = format!("X-OAuth-Scopes: repo\r\n{}", held(&self.also));
        Some(if known { answer(200, &fields, REFUSED) } else { answer(401, "", REFUSED) })
    }
}

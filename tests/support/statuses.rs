//! The statuses API of the fake forge: what it takes, what it remembers, and how it fails on demand.

use std::io::{BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::Instant;

use serde_json::Value;

use super::lists::Lists;
use super::{Kind, git};
use crate::git_http::Asked;

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
            if let Some(told) = account(&asked).or_else(|| self.told(&asked)) {
                if stream.write_all(&told).is_err() {
                    return;
                }
                continue;
            }
            let Some((kind, status)) = self.understood(&asked) else {
                if stream.write_all(&answer(404, "")).is_err() {
                    return;
                }
                continue;
            };
            let trouble = {
                let mut troubles = held(&self.trouble);
                (!troubles.is_empty()).then(|| troubles.remove(0))
            };
            let (answered, fields) = match trouble {
                None => (self.judged(kind, &asked, &status), String::new()),
                Some(Trouble::Status(code)) => (code, String::new()),
                Some(Trouble::TooMany(seconds)) => (429, format!("Retry-After: {seconds}\r\n")),
                Some(Trouble::Unauthorized) => (401, String::new()),
                Some(Trouble::Hang) => (0, String::new()),
            };
            held(&self.posted).push(Posted { at, answered, status });
            if answered == 0 {
                // Until the other side, or the end of the forge, closes the connection.
                let _ = reader.read(&mut [0]);
                return;
            }
            if stream.write_all(&answer(answered, &fields)).is_err() {
                return;
            }
        }
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

fn answer(code: u16, fields: &str) -> Vec<u8> {
    let body = r#"{"message":"as the test wants it"}"#;
    let head = format!("HTTP/1.1 {code} Because\r\n{fields}Content-Type: application/json\r\n");
    format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// What a forge tells of the account that asks: 401 without its token, GitHub also the token's scopes.
fn account(asked: &Asked) -> Option<Vec<u8>> {
    let kind = [Kind::Gitea, Kind::Github].into_iter().find(|kind| asked.line == format!("GET {}/user", kind.api()))?;
    let known = asked.header("authorization") == Some(kind.authorization());
    Some(if known { answer(200, "X-OAuth-Scopes: repo\r\n") } else { answer(401, "") })
}

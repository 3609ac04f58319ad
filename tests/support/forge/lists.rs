//! What the fake forge tells when it is asked: open pull requests, commits, and GitHub's account of its deliveries, which
//! it can send again.

use std::sync::Mutex;
use std::thread;

use serde_json::{Value, json};

use super::statuses::{Memory, held};
use super::{Delivery, Kind, git};
use crate::support::git_http::Asked;

/// Pull requests on one page, whatever was asked for: Gitea has a bound of its own too.
const PAGE: usize = 3;

/// What is listed.
#[derive(Default)]
pub(super) struct Lists {
    pub(super) pulls: Mutex<Vec<Pull>>,
    pub(super) hook: Mutex<Option<Hook>>,
    pub(super) attempts: Mutex<Vec<Attempt>>,
    /// Answers every question so.
    pub(super) trouble: Mutex<Option<u16>>,
    pub(super) asked: Mutex<Vec<String>>,
}

/// A pull request as it is listed.
pub(super) struct Pull {
    pub(super) kind: Kind,
    pub(super) repo: String,
    pub(super) number: u64,
    pub(super) listed: Value,
}

/// A repository's hook.
#[derive(Clone)]
pub(super) struct Hook {
    pub(super) repo: String,
    pub(super) address: String,
}

/// A delivery that was tried.
#[derive(Clone)]
pub(super) struct Attempt {
    pub(super) delivery: Delivery,
    pub(super) status: u16,
    pub(super) redelivery: bool,
}

/// A question's answer: the code, further header fields and the body.
type Told = (u16, String, Value);

impl Memory {
    /// The answer to a question; `None` for what is none.
    pub(super) fn told(&self, asked: &Asked) -> Option<Vec<u8>> {
        let (method, target) = asked.line.split_once(' ')?;
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let kind = [Kind::Gitea, Kind::Github].into_iter().find(|kind| path.starts_with(kind.api()))?;
        let rest = path.strip_prefix(kind.api())?.strip_prefix("/repos/")?;
        let words: Vec<&str> = rest.split('/').collect();
        let [owner, name, question @ ..] = &words[..] else { return None };
        let repo = format!("{owner}/{name}");
        if method == "GET" && !matches!(question, ["pulls" | "commits" | "hooks" | "git", ..]) {
            return None;
        }
        if method == "POST" && !matches!(question, ["hooks", _, "deliveries", _, "attempts"]) {
            return None;
        }
        held(&self.lists.asked).push(asked.line.clone());
        let trouble = *held(&self.lists.trouble);
        let (code, fields, body) = match trouble {
            _ if asked.header("authorization") != Some(kind.authorization()) => {
                self.wrong(format!("{} with another token", asked.line));
                (401, String::new(), Value::Null)
            }
            Some(code) => (code, String::new(), json!({"message": "as the test wants it"})),
            None => self.answered(kind, &repo, question, query, asked).unwrap_or_else(|| {
                self.wrong(format!("{}: there is no such thing", asked.line));
                (404, String::new(), json!({"message": "Not Found"}))
            }),
        };
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let head = format!("HTTP/1.1 {code} Because\r\n{fields}Content-Type: application/json\r\n");
        Some(format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes())
    }

    fn answered(&self, kind: Kind, repo: &str, question: &[&str], query: &str, asked: &Asked) -> Option<Told> {
        let well = |body| Some((200, String::new(), body));
        match question {
            ["pulls"] => self.pulls(kind, repo, query, asked),
            ["pulls", number] => {
                let pulls = held(&self.lists.pulls);
                let open = pulls.iter().any(|pull| pull.repo == repo && pull.number.to_string() == *number);
                well(json!({"number": number.parse::<u64>().ok()?, "state": if open { "open" } else { "closed" }}))
            }
            ["commits", sha] if kind == Kind::Github => well(self.commit(repo, sha)?),
            ["git", "commits", sha] if kind == Kind::Gitea => well(self.commit(repo, sha)?),
            // Gitea keeps no account.
            ["hooks", ..] if kind == Kind::Gitea => None,
            ["hooks"] => {
                let mine = held(&self.lists.hook).clone().filter(|hook| hook.repo == repo);
                let other = json!({"id": 76, "active": true, "config": {"url": "http://127.0.0.1:1/other"}});
                let mine = mine.map(|hook| json!({"id": 77, "active": true, "config": {"url": hook.address}}));
                well([other].into_iter().chain(mine).collect())
            }
            ["hooks", "77", "deliveries"] => well(self.attempts_of(repo)),
            ["hooks", "77", "deliveries", id] => {
                let attempt = held(&self.lists.attempts).get(id.parse::<usize>().ok()?)?.clone();
                well(
                    json!({"id": id.parse::<u64>().ok()?, "guid": attempt.delivery.id, "event": attempt.delivery.event,
                            "request": {"headers": {}, "payload": attempt.delivery.payload}}),
                )
            }
            ["hooks", "77", "deliveries", id, "attempts"] => {
                self.send_again(id.parse().ok()?);
                Some((202, String::new(), json!({})))
            }
            _ => None,
        }
    }

    fn pulls(&self, kind: Kind, repo: &str, query: &str, asked: &Asked) -> Option<Told> {
        assert!(query.contains("state=open"), "{query}");
        let page: usize = query.split('&').find_map(|part| part.strip_prefix("page="))?.parse().ok()?;
        let pulls = held(&self.lists.pulls);
        let mine: Vec<&Value> =
            pulls.iter().filter(|pull| pull.kind == kind && pull.repo == repo).map(|pull| &pull.listed).collect();
        let listed: Vec<&&Value> = mine.iter().skip((page - 1) * PAGE).take(PAGE).collect();
        let body = json!(listed);
        let tag = format!(
            "\"{:x}\"",
            body.to_string().bytes().fold(7_u64, |sum, byte| sum.wrapping_mul(31) ^ u64::from(byte))
        );
        if asked.header("if-none-match").as_deref() == Some(&tag) {
            return Some((304, format!("ETag: {tag}\r\n"), Value::Null));
        }
        let mut fields = format!("ETag: {tag}\r\n");
        if page * PAGE < mine.len() {
            // The address of another host: only that there is a next page counts.
            fields.push_str(&format!("Link: <http://127.0.0.1:1/elsewhere?page={}>; rel=\"next\"\r\n", page + 1));
        }
        Some((200, fields, body))
    }

    fn commit(&self, repo: &str, sha: &str) -> Option<Value> {
        let bare = self.root.join(format!("{repo}.git"));
        let said = |format: &str| git(&bare, &bare, &["log", "-1", &format!("--format={format}"), sha]).ok();
        Some(json!({"sha": sha, "commit": {"message": said("%B")?, "author": {"name": said("%an")?}}, "author": null}))
    }

    /// The newest first.
    fn attempts_of(&self, repo: &str) -> Value {
        let now = humantime::format_rfc3339_seconds(std::time::SystemTime::now()).to_string();
        let attempts = held(&self.lists.attempts);
        let mine = attempts.iter().enumerate().rev().filter(|(_, attempt)| attempt.delivery.repo == repo);
        let listed = mine.map(|(id, attempt)| {
            json!({"id": id, "guid": attempt.delivery.id, "delivered_at": now, "redelivery": attempt.redelivery,
                   "status": "whatever", "status_code": attempt.status, "event": attempt.delivery.event, "action": null})
        });
        json!(listed.collect::<Vec<_>>())
    }

    /// As the forge does: with the same id, and a note in its account.
    fn send_again(&self, id: usize) {
        let delivery = held(&self.lists.attempts)[id].delivery.clone();
        let Some(hook) = held(&self.lists.hook).clone() else { return };
        let body = delivery.body();
        let headers = delivery.headers(&body);
        let sent = thread::spawn(move || {
            let agent: ureq::Agent =
                ureq::Agent::config_builder().proxy(None).http_status_as_error(false).build().into();
            let mut request = agent.post(&hook.address);
            for (name, value) in headers {
                request = request.header(name, value);
            }
            request.send(&body).map_or(0, |answer| answer.status().as_u16())
        });
        let status = sent.join().expect("no panic");
        held(&self.lists.attempts).push(Attempt { delivery, status, redelivery: true });
    }
}

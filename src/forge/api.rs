//! A small synchronous client of the forges' APIs. Call it where blocking is allowed.

mod answer;
mod limits;
pub mod missed;
mod path;
pub mod pulls;
pub mod token;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::Read;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use http::HeaderMap;
use serde_json::json;
use ureq::{Agent, SendBody};
use url::Url;

use crate::config::server::{Forge, ForgeKind, Network};
use crate::domain::repo::{CommitId, RepoPath};
use crate::domain::status::Status;
use crate::outside;

pub use answer::{Accepted, PostError, Scope};
pub use limits::budget;
pub use path::Path;

use path::Place;

const CONNECT: Duration = Duration::from_secs(5);
/// From the first name lookup to the last byte of the answer, redirects included. A request certainly has ended then.
pub const DEADLINE: Duration = Duration::from_secs(20);
/// GitHub asks clients to follow 301, 302 and 307, and so to survive a renamed repository.
const REDIRECTS: usize = 3;
/// Bytes of an answer that are read: enough for an error's message.
const ANSWER: u64 = 64 * 1024;
/// Bytes of a list that are read: GitHub tells 25 kB of each pull request.
const LIST: u64 = 16 << 20;

/// Speaks to the forges' APIs by the rules of `[network]`.
///
/// The certificates are read at the first request, not at start: a server whose forge is quiet starts
/// faster and holds less memory. A file that can't be read is tried again at the next request.
#[derive(Debug)]
pub struct Client {
    network: Network,
    /// One for each origin that was spoken to.
    agents: Mutex<BTreeMap<String, Agent>>,
}

impl Client {
    /// A client that has not connected to anything yet.
    pub fn new(network: &Network) -> Self {
        Self { network: network.clone(), agents: Mutex::default() }
    }

    /// Sets a commit's status. `Ok` means that the forge has stored it: it answered with that status. A page of somebody
    /// in between (a captive portal, a proxy) is no acceptance, whatever its code.
    ///
    /// Posting the same status twice is harmless at every kind: the forge lists the newest of a context.
    ///
    /// # Errors
    /// By what must be done: [`PostError`]. After [`DEADLINE`] at the latest.
    pub fn post_status(
        &self,
        forge: &Forge,
        repo: &RepoPath,
        commit: &CommitId,
        status: &Status,
        target_url: &str,
    ) -> Result<Accepted, PostError> {
        let (token, headers) = authorization(forge)?;
        let body = json!({
            "state": status.state.as_str(),
            "context": status.context,
            "description": status.sentence,
            "target_url": target_url,
        });
        let posted = self
            .post(forge, &Place::in_repo(Path::Status, repo, &[commit.as_str()]), &headers, body.to_string().as_bytes())
            .and_then(|(headers, text)| {
                answer::echoes(&text, &status.context)?;
                Ok(Accepted::read(&headers, SystemTime::now()))
            });
        posted.map_err(|error| error.without(token))
    }

    fn post(
        &self,
        forge: &Forge,
        place: &Place<'_>,
        headers: &[(&'static str, String)],
        body: &[u8],
    ) -> Result<(HeaderMap, String), PostError> {
        let kind = (!body.is_empty()).then(|| ("content-type", "application/json".to_owned()));
        let length = ("content-length", body.len().to_string());
        let headers: Headers = headers.iter().cloned().chain(kind).chain([length]).collect();
        // Without a body there is no telling.
        let begun = Cell::new(body.is_empty());
        let asked = self.ask(at(forge, place)?, ANSWER, |agent, url, left| {
            begun.set(body.is_empty());
            let request = agent.post(url.as_str());
            let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, value));
            let mut body = Watched { rest: body, begun: &begun };
            request.config().timeout_global(Some(left)).build().send(SendBody::from_reader(&mut body))
        });
        asked.map_err(|error| if begun.get() { error } else { error.unheard() })
    }

    /// Reads a place with the forge's token: the answer's headers and the beginning of its body.
    fn get(&self, forge: &Forge, place: &Place<'_>) -> Result<(HeaderMap, String), PostError> {
        self.read(forge, &Question { place, query: &[], unless: None, most: ANSWER })
    }

    /// The same with a query, a condition, or more of the body.
    fn read(&self, forge: &Forge, question: &Question<'_>) -> Result<(HeaderMap, String), PostError> {
        let (token, headers) = authorization(forge)?;
        let mut url = at(forge, question.place)?;
        if !question.query.is_empty() {
            url.query_pairs_mut().extend_pairs(question.query);
        }
        let unless = question.unless.map(|tag| ("if-none-match", tag.to_owned()));
        let headers: Headers = headers.into_iter().chain(unless).collect();
        let asked = self.ask(url, question.most, |agent, url, left| {
            let request = agent.get(url.as_str());
            let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, value));
            request.config().timeout_global(Some(left)).build().call()
        });
        asked.and_then(answer::from_an_api).map_err(|error| error.without(token))
    }

    /// One request and the redirects that stay at its origin, and so with its agent; each is sent with the time that is
    /// left.
    fn ask(
        &self,
        mut url: Url,
        most: u64,
        send: impl Fn(&Agent, &Url, Duration) -> Result<http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<(HeaderMap, String), PostError> {
        let agent = self.agent(&url)?;
        let begun = Instant::now();
        for _ in 0..=REDIRECTS {
            let left = DEADLINE.saturating_sub(begun.elapsed()).max(Duration::from_millis(1));
            let answered = send(&agent, &url, left);
            let mut response = answered.map_err(|error| PostError::unreachable(&url, &describe(&error)))?;
            // An error's status line has been said, whatever follows it; what was accepted is known by its body.
            let text = response.body_mut().with_config().limit(most).read_to_string().unwrap_or_default();
            match answer::location(response.status(), response.headers(), &url)? {
                Some(next) => url = next,
                None => {
                    answer::judge(response.status(), response.headers(), &text, SystemTime::now())?;
                    return Ok((response.headers().clone(), text));
                }
            }
        }
        Err(PostError::unreachable(&url, "it redirects in a circle"))
    }

    fn agent(&self, url: &Url) -> Result<Agent, PostError> {
        let mut kept = self.agents.lock().unwrap_or_else(PoisonError::into_inner);
        let origin = url.origin().ascii_serialization();
        if let Some(agent) = kept.get(&origin) {
            return Ok(agent.clone());
        }
        let client = outside::client(&self.network, url).map_err(|unusable| PostError::away(unusable.to_string()))?;
        let agent = client
            .timeout_resolve(Some(CONNECT))
            .timeout_connect(Some(CONNECT))
            .timeout_global(Some(DEADLINE))
            .build()
            .new_agent();
        kept.insert(origin, agent.clone());
        Ok(agent)
    }
}

/// What is read from an API.
struct Question<'q> {
    place: &'q Place<'q>,
    query: &'q [(&'q str, &'q str)],
    /// The `ETag` of an answer that is known; answered 304, which is [`PostError::Refused`], while it holds.
    unless: Option<&'q str>,
    /// Bytes of the body that are read; one that is longer counts as none.
    most: u64,
}

/// Notes whether the body of a request was begun. It is once the connection stands, TLS and headers included; nobody
/// can act on a request whose body never began.
struct Watched<'b> {
    rest: &'b [u8],
    begun: &'b Cell<bool>,
}

impl Read for Watched<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        self.begun.set(true);
        self.rest.read(into)
    }
}

/// An address of the forge's API.
fn at(forge: &Forge, place: &Place<'_>) -> Result<Url, PostError> {
    place.at(forge).ok_or_else(|| PostError::Refused {
        status: 404,
        why: format!("the API of a {} has nothing like it", forge.kind.as_str()),
    })
}

/// Reads the body of an answer; one that is not as documented may be so another time.
fn parsed<T: serde::de::DeserializeOwned>(what: &str, body: &str) -> Result<T, PostError> {
    serde_json::from_str(body).map_err(|error| PostError::Retry {
        after: None,
        scope: Scope::Forge,
        why: format!("the forge's answer is no {what}: line {} column {}", error.line(), error.column()),
    })
}

/// Names and values.
type Headers = Vec<(&'static str, String)>;

/// A forge's token, and the headers of a request that carries it.
fn authorization(forge: &Forge) -> Result<(&str, Headers), PostError> {
    let token = forge.token.as_ref().ok_or_else(|| PostError::Unauthorized {
        why: format!("the forge {} has no token: set token_file in its [[forge]] block", forge.name),
    })?;
    let token = std::str::from_utf8(token.expose())
        .map_err(|_| PostError::Unauthorized { why: format!("the token of the forge {} is not text", forge.name) })?;
    let headers = match forge.kind {
        ForgeKind::Github => super::github::status::headers(token),
        ForgeKind::Gitea | ForgeKind::Forgejo => super::gitea::status::headers(token),
    };
    Ok((token, headers))
}

/// The error and its causes in one line, without the address (which the caller names).
fn describe(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Timeout(_) => format!("no answer in time ({error})"),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests;

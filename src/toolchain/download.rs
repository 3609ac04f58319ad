//! Fetches files over HTTP for the tools: bounded in size and time, tried again when the other side fails.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;
use ureq::http::{Response, StatusCode, header};
use ureq::{Agent, Body};
use url::Url;

use super::digest::{Digests, Hashing};
use super::shelf::Patience;
use super::unmet::Unmet;
use crate::config::server::{Access, Network};
use crate::outside;

const CONNECT: Duration = Duration::from_secs(10);
const FIRST_BYTE: Duration = Duration::from_secs(60);
/// The largest tool is node: 60 MB.
const MAX_FILE: u64 = 300 << 20;
/// The registry's document of npm itself, with every version there was, is 3 MB.
const MAX_DOCUMENT: u64 = 64 << 20;
/// A registry may hand its files to a store of another host, which may have an address of its own for each.
const REDIRECTS: usize = 5;
/// The waits between tries of what failed on the other side.
const WAITS: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(3)];

/// How often something is asked for in all.
pub(super) const TRIES: u32 = 1 + WAITS.len() as u32;

/// The way to one registry or mirror.
#[derive(Debug, Clone)]
pub(super) struct Source {
    /// Ends in a slash.
    pub(super) base: Url,
    pub(super) network: Network,
    /// What opens it; `None` where nobody can say so, as for a mirror of node.
    pub(super) access: Option<Access>,
}

/// What was not fetched.
enum Failure {
    /// The file is not there.
    Missing,
    /// Another try may succeed.
    Outage(String),
    /// No other try will help.
    Final(Box<Unmet>),
}

impl Failure {
    fn for_good(unmet: Unmet) -> Self {
        Failure::Final(Box::new(unmet))
    }
}

impl Source {
    /// Scheme, host and port: how messages name it.
    pub(super) fn origin(&self) -> String {
        self.base.origin().ascii_serialization()
    }

    /// The JSON document at an address; `None` when there is none.
    pub(super) fn document<T: DeserializeOwned>(
        &self,
        url: &Url,
        what: &str,
        patience: &Patience,
    ) -> Result<Option<T>, Unmet> {
        self.tried(what, patience, || {
            let mut response =
                self.get(url, "application/vnd.npm.install-v1+json, application/json", what, patience)?;
            let reader = response.body_mut().with_config().limit(MAX_DOCUMENT).reader();
            serde_json::from_reader(io::BufReader::new(reader)).map_err(|error| match error.is_io() {
                true => Failure::Outage(format!("{} stopped sending", self.origin())),
                false => Failure::for_good(self.refused(what, "its answer is not the document of a package")),
            })
        })
    }

    /// A short text; `None` when there is none.
    pub(super) fn text(&self, url: &Url, what: &str, patience: &Patience) -> Result<Option<String>, Unmet> {
        self.tried(what, patience, || {
            let mut response = self.get(url, "*/*", what, patience)?;
            let text = response.body_mut().with_config().limit(MAX_DOCUMENT).read_to_string();
            text.map_err(|_| Failure::Outage(format!("{} stopped sending", self.origin())))
        })
    }

    /// A file, written to `place`, and what it hashes to; `None` when there is none.
    pub(super) fn file(
        &self,
        url: &Url,
        place: &Path,
        what: &str,
        patience: &Patience,
    ) -> Result<Option<Digests>, Unmet> {
        self.tried(what, patience, || {
            let mut response = self.get(url, "*/*", what, patience)?;
            let file = File::create(place).map_err(|error| Failure::for_good(Unmet::disk(place)(error)))?;
            let mut file = Hashing::new(file);
            let mut reader = response.body_mut().with_config().limit(MAX_FILE + 1).reader();
            let (mut buffer, mut length) = (vec![0; 1 << 16], 0);
            loop {
                patience.check(what).map_err(Failure::for_good)?;
                let read = match reader.read(&mut buffer) {
                    Ok(0) => return Ok(file.finish()),
                    Ok(read) => read,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(_) => return Err(Failure::Outage(format!("{} stopped sending", self.origin()))),
                };
                length += read as u64;
                if length > MAX_FILE {
                    return Err(Failure::for_good(self.refused(what, "it is larger than 300 MiB")));
                }
                file.write_all(&buffer[..read]).map_err(|error| Failure::for_good(Unmet::disk(place)(error)))?;
            }
        })
    }

    pub(super) fn refused(&self, what: &str, why: &str) -> Unmet {
        Unmet::Refused { what: what.to_owned(), origin: self.origin(), why: why.to_owned() }
    }

    fn tried<T>(
        &self,
        what: &str,
        patience: &Patience,
        attempt: impl Fn() -> Result<T, Failure>,
    ) -> Result<Option<T>, Unmet> {
        let mut waits = WAITS.iter();
        loop {
            patience.check(what)?;
            match attempt() {
                Ok(done) => return Ok(Some(done)),
                Err(Failure::Missing) => return Ok(None),
                Err(Failure::Final(unmet)) => return Err(*unmet),
                Err(Failure::Outage(why)) => match waits.next() {
                    Some(wait) => std::thread::sleep(*wait),
                    None => return Err(Unmet::Outage { what: what.to_owned(), why }),
                },
            }
        }
    }

    /// A successful answer, redirects followed.
    fn get(&self, url: &Url, accept: &str, what: &str, patience: &Patience) -> Result<Response<Body>, Failure> {
        let mut url = url.clone();
        for _ in 0..=REDIRECTS {
            let agent = self.agent(&url, patience)?;
            let mut request = agent.get(url.as_str()).header("accept", accept);
            // An archive that a server calls encoded would be unpacked on the way, and hash to something else.
            if !accept.contains("json") {
                request = request.header("accept-encoding", "identity");
            }
            let token = self.token_for(&url);
            if let Some(token) = token {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            let response = request.call().map_err(|error| Failure::Outage(unreachable(&url, &error)))?;
            let origin = url.origin().ascii_serialization();
            match response.status() {
                StatusCode::OK => return Ok(response),
                StatusCode::NOT_FOUND | StatusCode::GONE => return Err(Failure::Missing),
                status if status.is_redirection() => url = self.next(&url, &response, what)?,
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                    let why = format!("{origin} answered {}; {}", response.status(), self.mend());
                    return Err(Failure::for_good(self.refused(what, &why)));
                }
                status => return Err(Failure::Outage(format!("{origin} answered {status}"))),
            }
        }
        Err(Failure::for_good(self.refused(what, "it redirects in a circle")))
    }

    /// The token, for what lies below the address that it is configured for, and for no other: neither for a file that
    /// the registry has elsewhere, nor after a redirect. npm sends it so too.
    fn token_for(&self, url: &Url) -> Option<&str> {
        let is_below = url.origin() == self.base.origin() && url.path().starts_with(self.base.path());
        match &self.access {
            Some(Access::Token(token)) if is_below => std::str::from_utf8(token.expose()).ok(),
            _ => None,
        }
    }

    /// What helps against an answer of 401 or 403.
    fn mend(&self) -> String {
        let base = &self.base;
        match self.access {
            Some(Access::Open) => {
                format!("if it wants a token, write a [[registry]] with url = \"{base}\", repos and token_env or token_file")
            }
            Some(Access::Token(_)) => format!("correct the token of the [[registry]] with url = \"{base}\""),
            Some(Access::Withheld) => {
                "a fork's build is given no token; it may use what is kept once a build of the repository's own fetched it"
                    .to_owned()
            }
            None => "it has to be readable without a token".to_owned(),
        }
    }

    fn next(&self, url: &Url, response: &Response<Body>, what: &str) -> Result<Url, Failure> {
        let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
        let next = location.and_then(|location| url.join(location).ok());
        // What came by TLS is not taken from a place where anybody could have changed it, even with a digest.
        next.filter(|next| next.scheme() == "https" || next.scheme() == url.scheme())
            .ok_or_else(|| Failure::for_good(self.refused(what, "it redirects to nowhere")))
    }

    fn agent(&self, url: &Url, patience: &Patience) -> Result<Agent, Failure> {
        let client = outside::client(&self.network, url).map_err(|error| Failure::Outage(error.to_string()))?;
        let left = patience.deadline.saturating_duration_since(Instant::now());
        let client = client.timeout_resolve(Some(CONNECT)).timeout_connect(Some(CONNECT));
        Ok(client.timeout_recv_response(Some(FIRST_BYTE)).timeout_global(Some(left)).build().new_agent())
    }
}

fn unreachable(url: &Url, error: &ureq::Error) -> String {
    let origin = url.origin().ascii_serialization();
    match error {
        ureq::Error::Timeout(_) => format!("{origin} did not answer in time"),
        ureq::Error::HostNotFound => format!("there is no host {}", url.host_str().unwrap_or_default()),
        ureq::Error::Io(error) => format!("{origin}: {error}"),
        other => format!("{origin}: {other}"),
    }
}

//! A running server's API, as a client sees it.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde::Deserialize;
use ureq::http::{Response, StatusCode, header};
use ureq::{Agent, Body};
use url::Url;

use crate::cli::{REFUSED, USAGE, fields};
use crate::config::secret::Secret;
use crate::config::surroundings::Surroundings;
use crate::outside;

/// The server could not be reached, or does not speak as Hookmill does.
const UNREACHABLE: u8 = 3;

const CONNECT: Duration = Duration::from_secs(5);
/// From the request to the head of its answer.
const ANSWER: Duration = Duration::from_secs(30);
/// Longer than the server's silence between two signs of life, which is 15 s.
const SILENCE: Duration = Duration::from_secs(60);
/// Bytes of a document: 200 builds are far below.
const DOCUMENT: u64 = 64 * 1024 * 1024;
/// Bytes that are read of an answer that is not what was asked for.
const COMPLAINT: u64 = 64 * 1024;

/// The variable that holds the admin token where no file is named.
const TOKEN_VARIABLE: &str = "HOOKMILL_TOKEN";

/// Which server a command speaks with, and who it is there.
#[derive(Debug, Args)]
pub(super) struct Reach {
    /// The server's address: its `public_url`.
    #[arg(long, value_name = "URL", env = "HOOKMILL_URL", default_value = "http://127.0.0.1:4665", global = true)]
    server: Url,
    /// A file that holds the server's admin token; else the variable `HOOKMILL_TOKEN` has it.
    #[arg(long, value_name = "FILE", global = true)]
    token_file: Option<PathBuf>,
}

impl Reach {
    /// Lets a command speak with the server; what goes wrong is told to a person, and the exit code says it to programs.
    pub(super) fn speak(&self, command: impl FnOnce(&Server) -> Result<u8, CallError>) -> ExitCode {
        let server = Server::new(&self.server, self.token_file.as_deref());
        let done = server.and_then(|server| command(&server));
        ExitCode::from(done.unwrap_or_else(|error| {
            eprintln!("hookmill: {error}");
            if let Some(help) = error.help() {
                eprintln!("  help: {help}");
            }
            error.exit_code()
        }))
    }
}

/// Why a command could not do its work. The text is for a person.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// What was typed can't be used.
    #[error("{0}")]
    Usage(String),
    /// No answer came.
    #[error("{server} can't be reached: {why}")]
    Unreachable {
        /// Whom we asked.
        server: String,
        /// What went wrong.
        why: String,
    },
    /// The server is there and can't answer at this moment.
    #[error("{server} can't answer now: {why}")]
    Busy {
        /// Whom we asked.
        server: String,
        /// Its own words.
        why: String,
        /// When to ask again, if it says so.
        after: Option<Duration>,
    },
    /// Somebody answers, but not as Hookmill does.
    #[error("{server} answers, but not as Hookmill does: {why}")]
    Foreign {
        /// Whom we asked.
        server: String,
        /// What is odd.
        why: String,
    },
    /// The server says no.
    #[error("{0}")]
    Refused(String),
    /// The server says no to somebody without a token.
    #[error("{0}")]
    Forbidden(String),
}

impl CallError {
    /// What a person may try.
    pub(super) fn help(&self) -> Option<&'static str> {
        match self {
            CallError::Unreachable { .. } => {
                Some("is `hookmill serve` running there? --server or $HOOKMILL_URL names another")
            }
            CallError::Foreign { .. } => Some("--server is the server's public_url, its path included"),
            CallError::Forbidden(_) => {
                Some("give the server's admin token: --token-file FILE, or the variable HOOKMILL_TOKEN")
            }
            CallError::Usage(_) | CallError::Busy { .. } | CallError::Refused(_) => None,
        }
    }

    /// The exit code of `hookmill builds`.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            CallError::Usage(_) => USAGE,
            CallError::Refused(_) | CallError::Forbidden(_) => REFUSED,
            CallError::Unreachable { .. } | CallError::Busy { .. } | CallError::Foreign { .. } => UNREACHABLE,
        }
    }
}

/// How the server says no.
#[derive(Deserialize)]
struct Complaint {
    error: Said,
}

#[derive(Deserialize)]
struct Said {
    message: String,
}

/// One server, and who we are to it.
pub(super) struct Server {
    base: Url,
    token: Option<Secret>,
    agent: Agent,
}

impl Server {
    /// Nothing is sent yet.
    pub(super) fn new(base: &Url, token_file: Option<&Path>) -> Result<Self, CallError> {
        if !matches!(base.scheme(), "http" | "https") || base.host().is_none() {
            return Err(CallError::Usage(format!("--server {base} is not an http:// or https:// address")));
        }
        let around = Surroundings::of_this_process()
            .map_err(|error| CallError::Usage(format!("the current directory can't be read: {error}")))?;
        let mut network = around.network();
        // SSL_CERT_FILE is read with the system's authorities anyway.
        network.ca_file = None;
        if fields::is_loopback(base) {
            network.proxy = None;
        }
        let agent = outside::client(&network, base)
            .map_err(|_| CallError::Usage("the variable HTTPS_PROXY is not a proxy's address".to_owned()))?
            .timeout_resolve(Some(CONNECT))
            .timeout_connect(Some(CONNECT))
            .timeout_recv_response(Some(ANSWER))
            .timeout_per_read(Some(SILENCE))
            .timeout_per_write(Some(SILENCE))
            .build()
            .new_agent();
        Ok(Self { base: base.clone(), token: token(token_file, &around)?, agent })
    }

    /// The page of a build, for people.
    pub(super) fn page(&self, id: i64) -> Url {
        self.address(&["builds", &id.to_string()], &[])
    }

    /// A document: its bytes as they came.
    pub(super) fn document(&self, path: &[&str], query: &[(&str, String)]) -> Result<Vec<u8>, CallError> {
        let answer = self.get(path, query, &[])?;
        self.whole(answer)
    }

    /// Something long, to be read as it comes.
    pub(super) fn stream(&self, path: &[&str], query: &[(&str, String)]) -> Result<impl Read + use<>, CallError> {
        Ok(reader(self.get(path, query, &[])?))
    }

    /// The events of a build after `last_id`; `None` when they had ended with it.
    pub(super) fn events(&self, id: i64, last_id: Option<&str>) -> Result<Option<impl Read + use<>>, CallError> {
        // Compressed, events would wait in somebody's buffer.
        let mut headers = vec![("accept", "text/event-stream"), ("accept-encoding", "identity")];
        headers.extend(last_id.map(|id| ("last-event-id", id)));
        let answer = self.get(&["api", "v1", "builds", &id.to_string(), "events"], &[], &headers)?;
        if answer.status() == StatusCode::NO_CONTENT {
            return Ok(None);
        }
        let kind = answer.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        if kind.is_none_or(|kind| !kind.starts_with("text/event-stream")) {
            return Err(self.foreign("that is no event stream"));
        }
        Ok(Some(reader(answer)))
    }

    /// Asks for a change of a build; the answer is the build that it is about.
    pub(super) fn change(&self, id: i64, verb: &str, body: &str) -> Result<i64, CallError> {
        #[derive(Deserialize)]
        struct Accepted {
            build: i64,
        }
        let bytes = self.post(&["api", "v1", "builds", &id.to_string(), verb], body)?;
        self.parse(&bytes).map(|accepted: Accepted| accepted.build)
    }

    /// Asks for a change; the answer is a document.
    pub(super) fn post(&self, path: &[&str], body: &str) -> Result<Vec<u8>, CallError> {
        let url = self.address(path, &[]);
        let mut request = self.agent.post(url.as_str()).header("content-type", "application/json");
        if let Some(value) = self.authorization() {
            request = request.header("authorization", value);
        }
        let answer = request.send(body).map_err(|error| self.unreachable(&error))?;
        let answer = self.judge(answer)?;
        self.whole(answer)
    }

    /// A document of the server, understood.
    pub(super) fn parse<'a, T: Deserialize<'a>>(&self, document: &'a [u8]) -> Result<T, CallError> {
        serde_json::from_slice(document).map_err(|error| self.foreign(&error.to_string()))
    }

    /// An answer ended before its end.
    pub(super) fn broken_off(&self, error: &io::Error) -> CallError {
        CallError::Unreachable { server: self.name(), why: format!("its answer broke off: {error}") }
    }

    fn get(
        &self,
        path: &[&str],
        query: &[(&str, String)],
        headers: &[(&str, &str)],
    ) -> Result<Response<Body>, CallError> {
        let mut request = self.agent.get(self.address(path, query).as_str());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(value) = self.authorization() {
            request = request.header("authorization", value);
        }
        self.judge(request.call().map_err(|error| self.unreachable(&error))?)
    }

    fn address(&self, path: &[&str], query: &[(&str, String)]) -> Url {
        let mut url = self.base.clone();
        url.set_query(None);
        url.set_fragment(None);
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    fn authorization(&self) -> Option<String> {
        // Only visible ASCII became a token.
        self.token.as_ref().map(|token| format!("Bearer {}", String::from_utf8_lossy(token.expose())))
    }

    fn name(&self) -> String {
        self.base.origin().ascii_serialization()
    }

    fn unreachable(&self, error: &ureq::Error) -> CallError {
        let why = match error {
            ureq::Error::Timeout(_) => "no answer in time".to_owned(),
            ureq::Error::HostNotFound => "there is no such host".to_owned(),
            ureq::Error::Io(error) => error.to_string(),
            other => other.to_string(),
        };
        CallError::Unreachable { server: self.name(), why }
    }

    fn foreign(&self, why: &str) -> CallError {
        CallError::Foreign { server: self.name(), why: why.to_owned() }
    }

    fn whole(&self, mut answer: Response<Body>) -> Result<Vec<u8>, CallError> {
        answer.body_mut().with_config().limit(DOCUMENT).read_to_vec().map_err(|error| self.unreachable(&error))
    }

    /// Lets through what was asked for; the rest gets words and an exit code.
    fn judge(&self, mut answer: Response<Body>) -> Result<Response<Body>, CallError> {
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        if status.is_redirection() {
            let target = answer.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
            let target = super::builds::screen::one_line(target.unwrap_or("no address"));
            // It would take the token along.
            return Err(self.foreign(&format!("it redirects to {target}, which is not followed")));
        }
        let after = answer.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let text = answer.body_mut().with_config().limit(COMPLAINT).read_to_string().unwrap_or_default();
        let Ok(Complaint { error }) = serde_json::from_str(&text) else {
            return Err(match status.as_u16() {
                // A reverse proxy whose Hookmill is down says so with a page of its own.
                502..=504 => CallError::Busy { server: self.name(), why: status.to_string(), after: None },
                _ => self.foreign(&format!("HTTP {status}")),
            });
        };
        let message = super::builds::screen::one_line(&error.message);
        Err(match status.as_u16() {
            500.. => CallError::Busy { server: self.name(), why: message, after: after.map(Duration::from_secs) },
            401 | 403 | 404 if self.token.is_none() => CallError::Forbidden(message),
            _ => CallError::Refused(message),
        })
    }
}

/// The library's own bound is 10 MB; a log may be longer.
fn reader(answer: Response<Body>) -> impl Read + use<> {
    answer.into_body().into_with_config().limit(u64::MAX).reader()
}

/// `--token-file`, else the variable; one line of visible characters.
fn token(file: Option<&Path>, around: &Surroundings) -> Result<Option<Secret>, CallError> {
    let (text, origin) = match file {
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .map_err(|error| CallError::Usage(format!("--token-file {} can't be read: {error}", path.display())))?;
            (text, format!("--token-file {}", path.display()))
        }
        None => match around.env.get(TOKEN_VARIABLE).filter(|text| !text.is_empty()) {
            Some(text) => (text.clone(), format!("the variable {TOKEN_VARIABLE}")),
            None => return Ok(None),
        },
    };
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(CallError::Usage(format!("{origin} holds no token: one line of visible characters")));
    }
    Ok(Some(Secret::new(token)))
}

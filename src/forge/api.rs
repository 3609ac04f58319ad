//! A small synchronous client of the forges' APIs. Call it where blocking is allowed.

mod answer;

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use serde_json::json;
use ureq::Agent;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig};
use url::Url;

use crate::config::server::{Forge, ForgeKind, Network};
use crate::domain::repo::{CommitId, RepoPath};
use crate::domain::status::Status;

pub use answer::PostError;

const CONNECT: Duration = Duration::from_secs(5);
/// For one request from name lookup to the last byte of the answer.
const WHOLE: Duration = Duration::from_secs(20);
/// GitHub asks clients to follow 301, 302 and 307, and so to survive a renamed repository.
const REDIRECTS: usize = 3;
/// Bytes of an answer that are read: enough for an error's message.
const ANSWER: u64 = 64 * 1024;

/// Speaks to the forges' APIs by the rules of `[network]`.
///
/// The certificates are read at the first request, not at start: a server whose forge is quiet starts
/// faster and holds less memory. A file that can't be read is tried again at the next request.
#[derive(Debug)]
pub struct Client {
    network: Network,
    agent: Mutex<Option<Agent>>,
}

impl Client {
    /// A client that has not connected to anything yet.
    pub fn new(network: &Network) -> Self {
        Self { network: network.clone(), agent: Mutex::new(None) }
    }

    /// Sets a commit's status. `Ok` means that the forge has stored it.
    ///
    /// Posting the same status twice is harmless at every kind: the forge lists the newest of a context.
    pub fn post_status(
        &self,
        forge: &Forge,
        repo: &RepoPath,
        commit: &CommitId,
        status: &Status,
        target_url: &str,
    ) -> Result<(), PostError> {
        let token = forge.token.as_ref().ok_or_else(|| PostError::Unauthorized {
            why: format!("the forge {} has no token: set token_file in its [[forge]] block", forge.name),
        })?;
        let token = std::str::from_utf8(token.expose()).map_err(|_| PostError::Unauthorized {
            why: format!("the token of the forge {} is not text", forge.name),
        })?;
        let headers = match forge.kind {
            ForgeKind::Github => super::github::status::headers(token),
            ForgeKind::Gitea | ForgeKind::Forgejo => super::gitea::status::headers(token),
        };
        let body = json!({
            "state": status.state.as_str(),
            "context": status.context,
            "description": status.sentence,
            "target_url": target_url,
        });
        let url = statuses_url(&forge.api_url, repo, commit);
        self.post(url, &headers, body.to_string().as_bytes()).map_err(|error| error.without(token))
    }

    fn post(&self, mut url: Url, headers: &[(&'static str, String)], body: &[u8]) -> Result<(), PostError> {
        let agent = self.agent()?;
        for _ in 0..=REDIRECTS {
            let mut request = agent.post(url.as_str()).header("content-type", "application/json");
            for (name, value) in headers {
                request = request.header(*name, value);
            }
            let mut response = request.send(body).map_err(|error| PostError::unreachable(&url, &describe(&error)))?;
            // A body that can't be read changes nothing: the status line has been said.
            let text = response.body_mut().with_config().limit(ANSWER).read_to_string().unwrap_or_default();
            match answer::location(response.status(), response.headers(), &url)? {
                Some(next) => url = next,
                None => return answer::judge(response.status(), response.headers(), &text, SystemTime::now()),
            }
        }
        Err(PostError::unreachable(&url, "it redirects in a circle"))
    }

    fn agent(&self) -> Result<Agent, PostError> {
        let mut kept = self.agent.lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some(agent) => Ok(agent.clone()),
            None => Ok(kept.insert(agent(&self.network)?).clone()),
        }
    }
}

/// `{api_url}/repos/{owner}/{repo}/statuses/{sha}`, alike at every kind so far.
fn statuses_url(api_url: &Url, repo: &RepoPath, commit: &CommitId) -> Url {
    let mut url = api_url.clone();
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().push("repos").extend(repo.as_str().split('/')).push("statuses").push(commit.as_str());
    }
    url
}

fn agent(network: &Network) -> Result<Agent, PostError> {
    let tls = TlsConfig::builder()
        .root_certs(RootCerts::from(certificates(network)?))
        .unversioned_rustls_crypto_provider(rustls::crypto::ring::default_provider().into())
        .build();
    Ok(Agent::config_builder()
        .tls_config(tls)
        .proxy(proxy(network)?)
        .user_agent(concat!("hookmill/", env!("CARGO_PKG_VERSION")))
        .http_status_as_error(false)
        .max_redirects(0)
        .timeout_resolve(Some(CONNECT))
        .timeout_connect(Some(CONNECT))
        .timeout_global(Some(WHOLE))
        .build()
        .new_agent())
}

/// The system's authorities (`SSL_CERT_FILE` is heeded) and those of `network.ca_file`.
fn certificates(network: &Network) -> Result<Vec<Certificate<'static>>, PostError> {
    let system = rustls_native_certs::load_native_certs().certs;
    let mut found: Vec<_> = system.iter().map(|der| Certificate::from_der(der).to_owned()).collect();
    if let Some(file) = &network.ca_file {
        let unreadable = |why: String| PostError::Retry {
            after: None,
            why: format!("network.ca_file {} can't be read: {why}", file.display()),
        };
        let pem = std::fs::read(file).map_err(|error| unreadable(error.to_string()))?;
        for item in ureq::tls::parse_pem(&pem) {
            if let PemItem::Certificate(certificate) = item.map_err(|error| unreadable(error.to_string()))? {
                found.push(certificate);
            }
        }
    }
    Ok(found)
}

fn proxy(network: &Network) -> Result<Option<ureq::Proxy>, PostError> {
    let Some(address) = &network.proxy else { return Ok(None) };
    // The address may hold a password, so no text quotes it.
    let unusable = |_| PostError::Retry { after: None, why: "network.proxy is not a proxy's address".to_owned() };
    let parsed = ureq::Proxy::new(address).map_err(unusable)?;
    let mut builder = ureq::Proxy::builder(parsed.protocol()).host(parsed.host()).port(parsed.port());
    if let Some(name) = parsed.username() {
        builder = builder.username(name);
    }
    if let Some(password) = parsed.password() {
        builder = builder.password(password);
    }
    for host in &network.no_proxy {
        builder = builder.no_proxy(host);
    }
    builder.build().map(Some).map_err(unusable)
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

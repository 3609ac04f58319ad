//! The hooks: where forges deliver. Reads, verifies and understands a delivery, hands it to the intake,
//! and answers what became of it.
//!
//! The checks stand in `Door::hear` in the order of the contract; the first that fails answers.

mod answer;
mod body;
mod refusals;

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use http::request::Parts;
use http::{HeaderMap, Method, header};
use sha2::{Digest, Sha256};
use tokio::sync::{Semaphore, watch};

use super::listener::Peer;
use crate::config::secret::Secret;
use crate::config::server::{Forge, ForgeKind, Forges, RepoRules};
use crate::domain::event::Heard;
use crate::domain::repo::{ForgeName, RepoId, RepoPath};
use crate::domain::time::Timestamp;
use crate::forge::{self, Delivery, Envelope};

use answer::No;
pub use answer::{Answer, NotTaken};
pub use refusals::{Refusal, Refusals};

/// Bytes of a body from which verifying and parsing leave the threads that serve connections.
const HEAVY: usize = 256 * 1024;

/// A delivery that was verified and understood, for the intake.
#[derive(Debug, Clone)]
pub struct Taken {
    /// The forge that sent it.
    pub forge: ForgeName,
    /// The repository: from the address for a repository's own hook, from the payload for a forge's.
    pub repo: Option<RepoId>,
    /// The forge's id of the delivery, at most 128 bytes.
    pub delivery_id: String,
    /// The event's name as the forge gives it, at most 128 bytes.
    pub event_name: String,
    /// What it means.
    pub heard: Heard,
    /// The repository's rules; `None` when there is no repository, or no block names it.
    pub rules: Option<RepoRules>,
    /// When its header had come.
    pub received_at: Timestamp,
    /// The body's size.
    pub body_bytes: usize,
    /// The body's SHA-256.
    pub body_sha256: [u8; 32],
}

/// What the intake promises: `Ok` once delivery, builds and statuses are on disk.
pub type Taking = Pin<Box<dyn Future<Output = Result<Answer, NotTaken>> + Send>>;

/// Hands a delivery to the intake.
pub type TakeFn = Arc<dyn Fn(Taken) -> Taking + Send + Sync>;

/// What the hooks need.
#[derive(Clone)]
pub struct Hooks {
    /// Who may knock; replaced whole when the configuration is read again.
    pub forges: watch::Receiver<Arc<Forges>>,
    /// The intake.
    pub take: TakeFn,
    /// Where refusals are remembered.
    pub refusals: Refusals,
}

/// `/hooks/{forge}` (an App's or organisation's one hook) and `/hooks/{forge}/{path…}` (a repository's own).
pub fn routes(hooks: Hooks) -> Router {
    let door = Door { hooks, large_bodies: Semaphore::new(body::LARGE_AT_ONCE) };
    Router::new()
        .route("/hooks/{forge}", any(forge_hook))
        .route("/hooks/{forge}/{*path}", any(repository_hook))
        .with_state(Arc::new(door))
}

async fn forge_hook(
    State(door): State<Arc<Door>>,
    address: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    let address = address.map(|Path(forge)| Address { forge, path: None });
    door.answer(address.unwrap_or_default(), request).await
}

async fn repository_hook(
    State(door): State<Arc<Door>>,
    address: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Response {
    let address = address.map(|Path((forge, path))| Address { forge, path: Some(path) });
    door.answer(address.unwrap_or_default(), request).await
}

/// What the URL names, as it was written. One that can't be decoded is empty, and so names no forge.
#[derive(Debug, Default)]
struct Address {
    forge: String,
    path: Option<String>,
}

struct Door {
    hooks: Hooks,
    large_bodies: Semaphore,
}

/// Whose secrets a delivery is checked against.
struct Hook {
    forge: Arc<Forge>,
    /// The repository of a repository's own hook; `None` on a forge's hook, or where the path is no name.
    repo: Option<RepoId>,
    rules: Option<RepoRules>,
    secrets: Vec<Secret>,
}

/// A delivery whose signature held.
struct Understood {
    envelope: Envelope,
    heard: Heard,
    body_sha256: [u8; 32],
}

impl Door {
    async fn answer(&self, address: Address, request: Request) -> Response {
        let (at, begun) = (Timestamp::from(SystemTime::now()), Instant::now());
        let (parts, mut body) = request.into_parts();
        let no = match self.hear(&address, &parts, &mut body, at).await {
            Ok(taken) => match self.take(taken, begun).await {
                Ok(answer) => return answer.into_response(),
                Err(no) => no,
            },
            Err(no) => no,
        };
        if no.leaves_a_body() && !parts.headers.contains_key(header::EXPECT) {
            body::discard(&mut body).await;
        }
        self.refuse(no, at, address, &parts)
    }

    /// From bytes to meaning, in the order of the contract.
    async fn hear(&self, address: &Address, parts: &Parts, body: &mut Body, at: Timestamp) -> Result<Taken, No> {
        if parts.method != Method::POST {
            return Err(No::Method);
        }
        let forges = self.hooks.forges.borrow().clone();
        let hook = find(&forges, address).ok_or(No::Forge)?;
        let received = body::read(body, &self.large_bodies).await?;
        check_media_type(hook.forge.kind, &parts.headers)?;
        let delivery = Delivery { kind: hook.forge.kind, headers: parts.headers.clone(), body: received.bytes.clone() };
        let Understood { envelope, heard, body_sha256 } = understand(delivery, hook.secrets).await?;
        if let (Some(hook), Some(payload)) = (&hook.repo, &heard.repo)
            && hook.path != *payload
        {
            return Err(No::Mismatch { hook: hook.path.clone(), payload: payload.clone() });
        }
        let (repo, rules) = match (hook.repo, &heard.repo) {
            (None, Some(path)) => {
                let repo = RepoId { forge: hook.forge.name.clone(), path: path.clone() };
                let rules = forges.rules(&repo);
                (Some(repo), rules)
            }
            (repo, _) => (repo, hook.rules),
        };
        Ok(Taken {
            forge: hook.forge.name.clone(),
            repo,
            delivery_id: envelope.delivery_id,
            event_name: envelope.event,
            heard,
            rules,
            received_at: at,
            body_bytes: received.bytes.len(),
            body_sha256,
        })
    }

    async fn take(&self, taken: Taken, begun: Instant) -> Result<Answer, No> {
        let (delivery, event, forge) = (taken.delivery_id.clone(), taken.event_name.clone(), taken.forge.clone());
        let repo = taken.repo.as_ref().map(|repo| repo.path.to_string()).unwrap_or_default();
        let took = || u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        let answer = (self.hooks.take)(taken).await.inspect_err(|error| {
            tracing::error!(delivery, %forge, repo, event, status = 503, ms = took(), "not taken: {error}");
        })?;
        let status = answer.status().as_u16();
        tracing::info!(delivery, %forge, repo, event, status, ms = took(), "delivery: {}", answer.what_became());
        Ok(answer)
    }

    /// Remembers the refusal, says it in one line, and answers it.
    fn refuse(&self, no: No, at: Timestamp, address: Address, parts: &Parts) -> Response {
        if let No::Store(_) = no {
            // Not the sender's fault, and already in the log.
            return no.into_response();
        }
        let refusal = Refusal {
            at,
            status: no.status().as_u16(),
            reason: no.reason(),
            from: source(parts),
            forge: address.forge,
            path: address.path,
            headers: refusals::telling_names(&parts.headers),
        };
        let Refusal { status, reason, from, forge, path, .. } = &refusal;
        // Debug forms: both come from the URL and may hold anything.
        tracing::warn!(?forge, ?path, status, from, "delivery refused: {reason}");
        self.hooks.refusals.record(refusal);
        no.into_response()
    }
}

/// The hook that the URL names; `None` when there is no such forge. A repository that is not configured has
/// a hook without secrets, so that it is answered like one whose signature is wrong.
fn find(forges: &Forges, address: &Address) -> Option<Hook> {
    let name: ForgeName = address.forge.parse().ok()?;
    let forge = forges.by_name.get(&name)?.clone();
    let Some(path) = &address.path else {
        let secrets = forge.hook_secrets.clone();
        return Some(Hook { forge, repo: None, rules: None, secrets });
    };
    let repo = path.parse::<RepoPath>().ok().map(|path| RepoId { forge: name, path });
    let rules = repo.as_ref().and_then(|repo| forges.rules(repo));
    let secrets = rules.as_ref().map(|rules| rules.hook_secrets.clone()).unwrap_or_default();
    Some(Hook { forge, repo, rules, secrets })
}

/// Only JSON in plain bytes. GitHub also sends forms, which it signs raw; Gitea signs a form's decoded
/// field, so that the bytes as received can't be verified, and is refused.
fn check_media_type(kind: ForgeKind, headers: &HeaderMap) -> Result<(), No> {
    let (form_too, wanted) = match kind {
        ForgeKind::Github => (true, "application/json or application/x-www-form-urlencoded"),
        ForgeKind::Gitea | ForgeKind::Forgejo => (false, "application/json"),
    };
    let mut types = headers.get_all(header::CONTENT_TYPE).iter();
    let named = match (types.next(), types.next()) {
        (Some(value), None) => value.to_str().map(forge::media_type).unwrap_or_default(),
        _ => "",
    };
    let good = named.eq_ignore_ascii_case("application/json")
        || (form_too && named.eq_ignore_ascii_case("application/x-www-form-urlencoded"));
    let plain = |value: &header::HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"identity");
    if good && headers.get_all(header::CONTENT_ENCODING).iter().all(plain) {
        Ok(())
    } else {
        Err(No::MediaType(wanted))
    }
}

async fn understand(delivery: Delivery, secrets: Vec<Secret>) -> Result<Understood, No> {
    let heavy = delivery.body.len() > HEAVY;
    let judge = move || {
        let verified = forge::verify(delivery, &secrets).map_err(No::Signature)?;
        Ok(Understood {
            envelope: forge::envelope(&verified)?,
            heard: forge::read(&verified)?,
            body_sha256: Sha256::digest(&verified.get().body).into(),
        })
    };
    match heavy {
        // A panic in there goes on here: it would be a bug like any other in a handler.
        true => {
            tokio::task::spawn_blocking(judge).await.unwrap_or_else(|end| std::panic::resume_unwind(end.into_panic()))
        }
        false => judge(),
    }
}

/// The peer, and the address that a reverse proxy on this machine says it speaks for.
fn source(parts: &Parts) -> String {
    let Some(peer) = parts.extensions.get::<Peer>() else { return String::new() };
    let named = parts.headers.get_all("x-forwarded-for").iter().next_back();
    let last = named.and_then(|value| value.to_str().ok()?.rsplit(',').next()?.trim().parse::<IpAddr>().ok());
    match last {
        Some(behind) if peer.is_this_machine() => format!("{peer} for {behind}"),
        _ => peer.to_string(),
    }
}

//! GitHub's own account of what it delivered: read, and told to deliver again.
//!
//! Documented at docs.github.com "REST API endpoints for repository webhooks" and "… for repository webhook deliveries". Gitea
//! and Forgejo have nothing like it.

use serde::Deserialize;

use super::pulls::next;
use super::{Client, LIST, Path, Place, PostError, Question, authorization, parsed};
use crate::config::server::{Forge, ForgeKind};
use crate::domain::event::Heard;
use crate::domain::repo::RepoPath;
use crate::domain::time::Timestamp;
use crate::forge::github;

/// Pages of 100 deliveries that are read of a hook.
const PAGES: usize = 5;

/// A delivery that the forge made, or tried to.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Attempt {
    /// The number by which it is read and sent again.
    pub id: u64,
    /// Its delivery id, the same for every attempt.
    pub guid: String,
    /// When it was tried.
    pub delivered_at: Timestamp,
    /// The status of our answer; none, or 0, when there was no answer.
    #[serde(default)]
    pub status_code: Option<u16>,
    /// The event's name.
    pub event: String,
}

impl Attempt {
    /// Whether it was taken.
    pub fn is_taken(&self) -> bool {
        self.status_code.is_some_and(|code| (200..300).contains(&code))
    }
}

#[derive(Deserialize)]
struct Hook {
    id: u64,
    config: HookConfig,
}

#[derive(Deserialize)]
struct HookConfig {
    #[serde(default)]
    url: String,
}

#[derive(Deserialize)]
struct Detail {
    request: DetailRequest,
}

#[derive(Deserialize)]
struct DetailRequest {
    payload: serde_json::Value,
}

impl Client {
    /// The number of the repository's hook that leads to `address`, if it has one.
    ///
    /// # Errors
    /// As for statuses; [`PostError::Refused`] with 403 or 404 where the token may not read hooks.
    pub fn hook(&self, forge: &Forge, repo: &RepoPath, address: &str) -> Result<Option<u64>, PostError> {
        let place = Place::in_repo(Path::Hooks, repo, &[]);
        let query = [("per_page", "100")];
        let (_, body) = self.read(forge, &Question { place: &place, query: &query, unless: None, most: LIST })?;
        let hooks: Vec<Hook> = parsed("list of hooks", &body)?;
        let plain = |url: &str| url.trim_end_matches('/').to_lowercase();
        Ok(hooks.into_iter().find(|hook| plain(&hook.config.url) == plain(address)).map(|hook| hook.id))
    }

    /// What was delivered to a hook since `since`, the newest first.
    ///
    /// # Errors
    /// As [`Client::hook`].
    pub fn attempts(
        &self,
        forge: &Forge,
        repo: &RepoPath,
        hook: u64,
        since: Timestamp,
    ) -> Result<Vec<Attempt>, PostError> {
        let hook = hook.to_string();
        let place = Place::in_repo(Path::Deliveries, repo, &[&hook]);
        let (mut all, mut cursor) = (Vec::new(), None::<String>);
        for _ in 0..PAGES {
            let mut query = vec![("per_page", "100")];
            query.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
            let (headers, body) =
                self.read(forge, &Question { place: &place, query: &query, unless: None, most: LIST })?;
            let page: Vec<Attempt> = parsed("list of deliveries", &body)?;
            let is_last = page.last().is_none_or(|oldest| oldest.delivered_at < since);
            all.extend(page.into_iter().filter(|attempt| attempt.delivered_at >= since));
            cursor = next(&headers).and_then(cursor_of).filter(|_| !is_last);
            if cursor.is_none() {
                break;
            }
        }
        Ok(all)
    }

    /// What a delivery said; `None` for one that has nothing to do with builds, or can't be read.
    ///
    /// # Errors
    /// As [`Client::hook`].
    pub fn told(
        &self,
        forge: &Forge,
        repo: &RepoPath,
        hook: u64,
        attempt: &Attempt,
    ) -> Result<Option<Heard>, PostError> {
        let (hook, id) = (hook.to_string(), attempt.id.to_string());
        let place = Place::in_repo(Path::Delivery, repo, &[&hook, &id]);
        // A payload has up to 25 MB; one that is larger than a list is left to the comparison of heads.
        let (_, body) = self.read(forge, &Question { place: &place, query: &[], unless: None, most: LIST })?;
        let detail: Detail = parsed("delivery", &body)?;
        Ok(github::read(&attempt.event, detail.request.payload.to_string().as_bytes()).ok())
    }

    /// Has the forge send a delivery again. `Ok` means that it will, not that it has.
    ///
    /// # Errors
    /// As [`Client::hook`].
    pub fn send_again(&self, forge: &Forge, repo: &RepoPath, hook: u64, attempt: &Attempt) -> Result<(), PostError> {
        let (token, headers) = authorization(forge)?;
        let (hook, id) = (hook.to_string(), attempt.id.to_string());
        let place = Place::in_repo(Path::Attempts, repo, &[&hook, &id]);
        self.post(forge, &place, &headers, b"").map(drop).map_err(|error| error.without(token))
    }
}

/// Whether a forge of this kind keeps an account of its deliveries.
pub fn is_kept(kind: ForgeKind) -> bool {
    kind == ForgeKind::Github
}

/// The `cursor` of the next page's address; no other part of it is used.
fn cursor_of(next: &str) -> Option<String> {
    let url = url::Url::parse(next).ok()?;
    url.query_pairs().find(|(name, _)| name == "cursor").map(|(_, cursor)| cursor.into_owned())
}

//! What a forge says about pull requests and commits, for whoever missed a delivery.
//!
//! Documented at docs.github.com "List pull requests", "Get a commit", and in Gitea's and Forgejo's swagger
//! (`repoListPullRequests`, `repoGetSingleCommit`); the shapes of pull requests are those of their deliveries.

use http::{HeaderMap, header};
use serde::Deserialize;

use super::{Client, LIST, Path, Place, PostError, Question, parsed};
use crate::config::server::{Forge, ForgeKind};
use crate::domain::event::PullRequest;
use crate::domain::repo::{CommitId, RepoPath};
use crate::forge::wire;

/// Pages that are read: some thousand pull requests. Who has more open hears of the others by their deliveries.
const PAGES: u32 = 40;

/// The open pull requests of a repository.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Pulls {
    /// As their deliveries would tell them.
    pub open: Vec<PullRequest>,
    /// With this the next question is answered "unchanged", where all of them stood on one page.
    pub tag: Option<String>,
}

/// What a commit says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Commit {
    /// Its message asks for no build.
    pub skip_ci: bool,
    /// Its first line. Hostile text.
    pub title: Option<String>,
    /// Who wrote it. Hostile text.
    pub author: Option<String>,
}

#[derive(Deserialize)]
struct One {
    state: String,
}

impl Client {
    /// Lists the open pull requests; `None` when nothing changed since the answer that `tag` came with.
    ///
    /// # Errors
    /// As for statuses.
    pub fn open_pulls(&self, forge: &Forge, repo: &RepoPath, tag: Option<&str>) -> Result<Option<Pulls>, PostError> {
        // The oldest first, so that a new one moves no other to another page.
        let (size, sort, direction) = match forge.kind {
            ForgeKind::Github => (("per_page", "100"), "created", Some(("direction", "asc"))),
            ForgeKind::Gitea | ForgeKind::Forgejo => (("limit", "50"), "oldest", None),
        };
        let mut pulls = Pulls::default();
        for page in 1..=PAGES {
            let page = page.to_string();
            let mut query = vec![("state", "open"), ("sort", sort), size, ("page", &page)];
            query.extend(direction);
            let unless = tag.filter(|_| page == "1");
            let asked = Question { place: &Place::in_repo(Path::Pulls, repo, &[]), query: &query, unless, most: LIST };
            let (headers, body) = match self.read(forge, &asked) {
                Err(PostError::Refused { status: 304, .. }) => return Ok(None),
                answer => answer?,
            };
            let listed: Vec<wire::PullRequest> = parsed("list of pull requests", &body)?;
            let more = !listed.is_empty() && has_next(&headers);
            // One whose names git forbids can't be built; its delivery would be answered so.
            pulls.open.extend(listed.into_iter().filter_map(|pull| pull.needs_build(true).ok()));
            if !more {
                let tag = headers.get(header::ETAG).and_then(|tag| tag.to_str().ok());
                pulls.tag = tag.filter(|_| page == "1").map(str::to_owned);
                break;
            }
        }
        Ok(Some(pulls))
    }

    /// Whether a pull request is open. One that is not there is not.
    ///
    /// # Errors
    /// As for statuses.
    pub fn is_open(&self, forge: &Forge, repo: &RepoPath, number: u64) -> Result<bool, PostError> {
        let number = number.to_string();
        let place = Place::in_repo(Path::Pull, repo, &[&number]);
        match self.read(forge, &Question { place: &place, query: &[], unless: None, most: LIST }) {
            Ok((_, body)) => Ok(parsed::<One>("pull request", &body)?.state == "open"),
            Err(PostError::Refused { status: 404, .. }) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// What a commit says of itself.
    ///
    /// # Errors
    /// As for statuses.
    pub fn commit(&self, forge: &Forge, repo: &RepoPath, commit: &CommitId) -> Result<Commit, PostError> {
        let place = Place::in_repo(Path::Commit, repo, &[commit.as_str()]);
        let (_, body) = self.read(forge, &Question { place: &place, query: &[], unless: None, most: LIST })?;
        let (skip_ci, title, author) = parsed::<wire::ListedCommit>("commit", &body)?.words();
        Ok(Commit { skip_ci, title, author })
    }
}

/// Whether the answer names a page after it (RFC 8288). Only that there is one: its address is made here.
pub(super) fn has_next(headers: &HeaderMap) -> bool {
    next(headers).is_some()
}

/// The address of the page after this one.
pub(super) fn next(headers: &HeaderMap) -> Option<&str> {
    let links = headers.get_all(header::LINK).iter().filter_map(|value| value.to_str().ok());
    let link = links.flat_map(|value| value.split(',')).find(|link| link.contains("rel=\"next\""))?;
    link.trim().strip_prefix('<')?.split('>').next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page() {
        let check = |value: &str, expected: Option<&str>| {
            let mut headers = HeaderMap::new();
            headers.insert(header::LINK, value.parse().expect("legal"));
            assert_eq!(next(&headers), expected, "{value}");
        };
        check("<https://f/x?page=2>; rel=\"next\", <https://f/x?page=9>; rel=\"last\"", Some("https://f/x?page=2"));
        check("<https://f/x?page=1>; rel=\"first\"", None);
        check("nonsense", None);
        assert!(!has_next(&HeaderMap::new()));
    }
}

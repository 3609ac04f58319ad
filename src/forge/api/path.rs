//! Every address that a forge is asked at. There is no other way to make one, so `tests/published.rs` can hold each to
//! what the forges themselves publish of their APIs.

use url::Url;

use crate::config::server::{Forge, ForgeKind};
use crate::domain::repo::RepoPath;

/// What a forge is asked for. GitHub's description is docs.github.com's own; Gitea's and Forgejo's is their swagger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// Sets a commit's status.
    Status,
    /// The token's account.
    User,
    /// A repository.
    Repository,
    /// A repository's pull requests.
    Pulls,
    /// One of them.
    Pull,
    /// A commit.
    Commit,
    /// A repository's webhooks.
    Hooks,
    /// What was delivered to a webhook.
    Deliveries,
    /// One of these deliveries.
    Delivery,
    /// Makes it once more.
    Attempts,
}

impl Path {
    /// All of them.
    pub const ALL: [Path; 10] = [
        Path::Status,
        Path::User,
        Path::Repository,
        Path::Pulls,
        Path::Pull,
        Path::Commit,
        Path::Hooks,
        Path::Deliveries,
        Path::Delivery,
        Path::Attempts,
    ];

    /// The method, and the path as a kind of forge writes it in its description; `None` where it has nothing like it.
    pub fn described(self, kind: ForgeKind) -> Option<(&'static str, &'static str)> {
        let is_github = kind == ForgeKind::Github;
        let (method, path) = match self {
            Path::Status => ("POST", "/repos/{owner}/{repo}/statuses/{sha}"),
            Path::User => ("GET", "/user"),
            Path::Repository => ("GET", "/repos/{owner}/{repo}"),
            Path::Pulls => ("GET", "/repos/{owner}/{repo}/pulls"),
            Path::Pull if is_github => ("GET", "/repos/{owner}/{repo}/pulls/{pull_number}"),
            Path::Pull => ("GET", "/repos/{owner}/{repo}/pulls/{index}"),
            Path::Commit if is_github => ("GET", "/repos/{owner}/{repo}/commits/{ref}"),
            Path::Commit => ("GET", "/repos/{owner}/{repo}/git/commits/{sha}"),
            Path::Hooks | Path::Deliveries | Path::Delivery | Path::Attempts if !is_github => return None,
            Path::Hooks => ("GET", "/repos/{owner}/{repo}/hooks"),
            Path::Deliveries => ("GET", "/repos/{owner}/{repo}/hooks/{hook_id}/deliveries"),
            Path::Delivery => ("GET", "/repos/{owner}/{repo}/hooks/{hook_id}/deliveries/{delivery_id}"),
            Path::Attempts => ("POST", "/repos/{owner}/{repo}/hooks/{hook_id}/deliveries/{delivery_id}/attempts"),
        };
        Some((method, path))
    }
}

/// An address below `{api_url}`: a path with what stands in its gaps, from left to right.
pub(super) struct Place<'p> {
    path: Path,
    gaps: Vec<&'p str>,
}

impl<'p> Place<'p> {
    pub(super) fn of(path: Path) -> Self {
        Place { path, gaps: Vec::new() }
    }

    pub(super) fn in_repo(path: Path, repo: &'p RepoPath, more: &[&'p str]) -> Self {
        Place { path, gaps: repo.as_str().split('/').chain(more.iter().copied()).collect() }
    }

    /// `None` where this kind of forge has nothing like it.
    pub(super) fn at(&self, forge: &Forge) -> Option<Url> {
        let (_, described) = self.path.described(forge.kind)?;
        let mut url = forge.api_url.clone();
        let mut gaps = self.gaps.iter().copied();
        let parts = described.trim_start_matches('/').split('/');
        let filled = parts.map(|part| if part.starts_with('{') { gaps.next().unwrap_or_default() } else { part });
        url.path_segments_mut().ok()?.pop_if_empty().extend(filled);
        Some(url)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_are_filled_and_what_stands_in_them_stays_one_part() {
        let repo = "acme/shöp".parse().expect("a repository");
        let check = |kind, place: &Place<'_>, expected: Option<&str>| {
            let api_url: Url = "https://forge.lan/api/v1/".parse().expect("a URL");
            let forge = Forge {
                name: "test".parse().expect("a name"),
                kind,
                web_url: api_url.clone(),
                api_url,
                token: None,
                read_token: None,
                hook_secrets: vec![],
            };
            assert_eq!(place.at(&forge).as_ref().map(Url::as_str), expected);
        };
        let commit = Place::in_repo(Path::Commit, &repo, &["a/../b"]);
        check(ForgeKind::Gitea, &commit, Some("https://forge.lan/api/v1/repos/acme/sh%C3%B6p/git/commits/a%2F..%2Fb"));
        check(ForgeKind::Github, &commit, Some("https://forge.lan/api/v1/repos/acme/sh%C3%B6p/commits/a%2F..%2Fb"));
        check(ForgeKind::Forgejo, &Place::of(Path::User), Some("https://forge.lan/api/v1/user"));
        let hooks = Place::in_repo(Path::Hooks, &repo, &[]);
        check(ForgeKind::Forgejo, &hooks, None);
        check(ForgeKind::Github, &hooks, Some("https://forge.lan/api/v1/repos/acme/sh%C3%B6p/hooks"));
    }
}

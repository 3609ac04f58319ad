//! What a forge says about the token that it was given.

use std::time::{Duration, SystemTime};

use http::HeaderMap;
use serde::Deserialize;

use super::{Client, Path, Place, PostError};
use crate::config::server::{Forge, ForgeKind};
use crate::domain::repo::RepoPath;

/// A token that the forge knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// The account it belongs to; a token that may not read it is known all the same.
    pub account: Option<String>,
    /// Its scopes, where the forge says so (GitHub's classic tokens: `X-OAuth-Scopes`).
    pub scopes: Option<Vec<String>>,
    /// When it ends, if the forge says so.
    pub ends: Option<SystemTime>,
}

/// How long before its end a token is warned of.
pub const WARN_AHEAD: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// GitHub's header for the end of the token that a request carried.
const EXPIRATION: &str = "github-authentication-token-expiration";

/// What the token's account may do in a repository, as far as the forge says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rights {
    /// May read it; false is also the answer for a repository that is not there.
    pub read: bool,
    /// May write to it, which includes its commits' statuses.
    pub write: bool,
}

#[derive(Deserialize)]
struct User {
    login: String,
}

#[derive(Deserialize)]
struct Repository {
    permissions: Option<Permissions>,
}

#[derive(Deserialize)]
struct Permissions {
    #[serde(default)]
    push: bool,
}

impl Client {
    /// Asks the forge whose token `[[forge]] token` is.
    ///
    /// # Errors
    /// [`PostError::Unauthorized`] for a token that is wrong, revoked or expired; else as for statuses.
    pub fn token(&self, forge: &Forge) -> Result<Known, PostError> {
        match self.get(forge, &Place::of(Path::User)) {
            Ok((headers, body)) => Ok(known(&headers, &body)),
            // Gitea's scoped tokens, and GitHub's for an App, may be forbidden to read their own account.
            Err(PostError::Refused { status: 403, .. }) => Ok(Known::default()),
            Err(error) => Err(error),
        }
    }

    /// Asks what the token may do in a repository.
    ///
    /// # Errors
    /// As for statuses; a repository that the token does not see is an answer.
    pub fn rights(&self, forge: &Forge, repo: &RepoPath) -> Result<Rights, PostError> {
        match self.get(forge, &Place::in_repo(Path::Repository, repo, &[])) {
            Ok((_, body)) => Ok(rights(&body)),
            Err(PostError::Refused { status: 403 | 404, .. }) => Ok(Rights { read: false, write: false }),
            Err(error) => Err(error),
        }
    }
}

fn known(headers: &HeaderMap, body: &str) -> Known {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let scopes = text("x-oauth-scopes");
    let words =
        |list: String| list.split(',').map(|word| word.trim().to_owned()).filter(|word| !word.is_empty()).collect();
    Known {
        account: serde_json::from_str::<User>(body).ok().map(|user| user.login),
        scopes: scopes.map(words),
        ends: ends(headers),
    }
}

/// When the token ends, as the answer to any request with it says.
pub(super) fn ends(headers: &HeaderMap) -> Option<SystemTime> {
    date(headers.get(EXPIRATION)?.to_str().ok()?.trim())
}

/// `2026-12-01 00:00:00 UTC`, or with an offset instead of the zone's name: GitHub has written both.
fn date(text: &str) -> Option<SystemTime> {
    let (local, zone) = text.split_at_checked("2026-12-01 00:00:00".len())?;
    let local = humantime::parse_rfc3339_weak(local).ok()?;
    let (sign, digits) = match zone.trim() {
        "" | "UTC" | "GMT" | "Z" => return Some(local),
        zone => zone.split_at_checked(1)?,
    };
    let digits: u64 = digits.replace(':', "").parse().ok().filter(|digits| *digits < 2400)?;
    let offset = Duration::from_secs(digits / 100 * 3600 + digits % 100 * 60);
    match sign {
        "+" => local.checked_sub(offset),
        "-" => local.checked_add(offset),
        _ => None,
    }
}

/// Without a word on permissions the repository is at least readable.
fn rights(body: &str) -> Rights {
    let said = serde_json::from_str::<Repository>(body).ok().and_then(|repository| repository.permissions);
    Rights { read: true, write: said.is_none_or(|permissions| permissions.push) }
}

/// The scope that statuses need, where the forge told scopes and it is not among them.
pub fn missing_scope(kind: ForgeKind, known: &Known) -> Option<&'static str> {
    let scopes = known.scopes.as_ref().filter(|_| kind == ForgeKind::Github)?;
    let enough = scopes.iter().any(|scope| scope == "repo" || scope == "repo:status");
    (!enough).then_some("repo")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_forge_says() {
        let mut headers = HeaderMap::new();
        assert_eq!(known(&headers, "{}"), Known::default());
        headers.insert("x-oauth-scopes", "gist, read:org".parse().expect("legal"));
        headers.insert("github-authentication-token-expiration", "2026-12-01 00:00:00 UTC".parse().expect("legal"));
        let seen = known(&headers, r#"{"login":"hookmill-bot","id":7}"#);
        assert_eq!(seen.account.as_deref(), Some("hookmill-bot"));
        assert_eq!(seen.ends, date("2026-12-01 00:00:00 UTC"));
        assert_eq!(missing_scope(ForgeKind::Github, &seen), Some("repo"));
        assert_eq!(missing_scope(ForgeKind::Gitea, &seen), None);
        let enough = Known { scopes: Some(vec!["repo:status".into()]), ..Known::default() };
        assert_eq!(missing_scope(ForgeKind::Github, &enough), None);
        assert_eq!(missing_scope(ForgeKind::Github, &Known::default()), None, "a fine-grained token tells none");
    }

    #[test]
    fn the_end_of_a_token_is_read_in_both_forms() {
        let check = |text: &str, expected: Option<&str>| {
            let got = date(text).map(|at| humantime::format_rfc3339_seconds(at).to_string());
            assert_eq!(got.as_deref(), expected, "{text}");
        };
        check("2026-12-01 00:00:00 UTC", Some("2026-12-01T00:00:00Z"));
        check("2026-12-01 08:30:00 -0800", Some("2026-12-01T16:30:00Z"));
        check("2026-12-01 08:30:00 +05:30", Some("2026-12-01T03:00:00Z"));
        for bad in [
            "",
            "soon",
            "2026-12-01",
            "2026-13-01 00:00:00 UTC",
            "2026-12-01 00:00:00 PST",
            "2026-12-01 00:00:00 +9999",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn rights_in_a_repository() {
        assert_eq!(
            rights(r#"{"permissions":{"admin":false,"push":false,"pull":true}}"#),
            Rights { read: true, write: false }
        );
        assert_eq!(rights(r#"{"permissions":{"push":true}}"#), Rights { read: true, write: true });
        assert_eq!(rights("{}"), Rights { read: true, write: true });
    }
}

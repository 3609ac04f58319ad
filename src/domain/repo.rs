//! Names of repositories, refs and commits.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Why a name was refused. The text is a fragment that fits "…: {error}".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadName(pub String);

/// Implements the traits of a checked string: display, borrow, parse, and serde through the parser.
macro_rules! checked_string {
    ($name:ident) => {
        impl $name {
            /// The text as it was given.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
        impl TryFrom<String> for $name {
            type Error = BadName;
            fn try_from(text: String) -> Result<Self, BadName> {
                text.parse()
            }
        }
        impl From<$name> for String {
            fn from(name: $name) -> String {
                name.0
            }
        }
    };
}

/// The path segments that the server keeps for itself, so no forge may be called so.
pub const RESERVED_FORGE_NAMES: [&str; 10] =
    ["api", "hooks", "builds", "repos", "assets", "login", "logout", "healthz", "readyz", "metrics"];

/// The name of a configured forge, as in `[[forge]] name`: `[a-z0-9-]+`, and no reserved word.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ForgeName(String);
checked_string!(ForgeName);

impl FromStr for ForgeName {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if text.is_empty() || !text.chars().all(legal) {
            return Err(BadName(format!("{text:?} is not a forge name: use a-z, 0-9 and -")));
        }
        if RESERVED_FORGE_NAMES.contains(&text) {
            return Err(BadName(format!("{text:?} is a word of the server's own addresses; take another name")));
        }
        Ok(Self(text.to_owned()))
    }
}

/// A repository's path at its forge, `owner/name` (or deeper, for nested groups).
///
/// Compared without case, as forges do; shown as it was given.
#[derive(Debug, Clone, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RepoPath(String);
checked_string!(RepoPath);

impl RepoPath {
    /// The form that is compared and stored: lower case.
    pub fn folded(&self) -> String {
        self.0.to_lowercase()
    }
}

impl PartialEq for RepoPath {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0) || self.folded() == other.folded()
    }
}

impl std::hash::Hash for RepoPath {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.folded().hash(state);
    }
}

impl FromStr for RepoPath {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        let bad = |why: &str| Err(BadName(format!("{text:?} is not a repository: {why}")));
        if text.len() > 400 {
            return bad("it is longer than 400 bytes");
        }
        if text.split('/').count() < 2 {
            return bad("write owner/name");
        }
        for part in text.split('/') {
            if part.is_empty() || part == "." || part == ".." {
                return bad("a part of it is empty or made of dots");
            }
            if part == "-" {
                return bad("\"-\" alone is a word of the server's own addresses");
            }
            if part.chars().any(|c| c.is_control() || c.is_whitespace() || "\\?#%*:".contains(c)) {
                return bad("it holds a character that no forge allows in a name");
            }
        }
        Ok(Self(text.to_owned()))
    }
}

/// A repository of a configured forge, written `github/acme/shop`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RepoId {
    /// The forge's configured name.
    pub forge: ForgeName,
    /// The repository's path there.
    pub path: RepoPath,
}

impl fmt::Display for RepoId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.forge, self.path)
    }
}

impl FromStr for RepoId {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        let (forge, path) = text
            .split_once('/')
            .ok_or_else(|| BadName(format!("{text:?} is not a repository: write forge/owner/name")))?;
        Ok(Self { forge: forge.parse()?, path: path.parse()? })
    }
}

/// A full ref name: `refs/heads/…`, `refs/tags/…` or `refs/pull/<n>/head`.
///
/// Checked by the rules of git-check-ref-format(1), and never passed to a shell or as an option:
/// a legal ref may still read `--upload-pack=x` or `$(id)`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RefName(String);
checked_string!(RefName);

impl RefName {
    /// The ref of a branch, from its short name.
    pub fn branch(short: &str) -> Result<Self, BadName> {
        format!("refs/heads/{short}").parse()
    }

    /// The ref of a tag, from its short name.
    pub fn tag(short: &str) -> Result<Self, BadName> {
        format!("refs/tags/{short}").parse()
    }

    /// The ref under which builds of a fork's pull request run, on every forge.
    pub fn pull_request(number: u64) -> Self {
        Self(format!("refs/pull/{number}/head"))
    }

    /// The branch's short name, if this is a branch.
    pub fn as_branch(&self) -> Option<&str> {
        self.0.strip_prefix("refs/heads/")
    }

    /// The tag's short name, if this is a tag.
    pub fn as_tag(&self) -> Option<&str> {
        self.0.strip_prefix("refs/tags/")
    }

    /// The pull request's number, if this is the ref of one.
    pub fn as_pull_request(&self) -> Option<u64> {
        self.0.strip_prefix("refs/pull/")?.strip_suffix("/head")?.parse().ok()
    }

    /// What a person calls it: `main`, `v1.2`, `pull request 7`.
    pub fn short(&self) -> String {
        if let Some(name) = self.as_branch().or_else(|| self.as_tag()) {
            return name.to_owned();
        }
        match self.0.strip_prefix("refs/pull/").and_then(|rest| rest.strip_suffix("/head")) {
            Some(number) => format!("pull request {number}"),
            None => self.0.clone(),
        }
    }
}

impl FromStr for RefName {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        let bad = |why: &str| Err(BadName(format!("{text:?} is not a ref: {why}")));
        if text.len() > 1024 {
            return bad("it is longer than 1024 bytes");
        }
        if !text.starts_with("refs/") || text.split('/').count() < 3 {
            return bad("it does not begin with refs/heads/ or refs/tags/");
        }
        if text.chars().any(|c| c.is_ascii_control() || " ~^:?*[\\".contains(c)) {
            return bad("it holds a character that git forbids");
        }
        if text.contains("..") || text.contains("@{") || text.ends_with('.') || text.ends_with('/') {
            return bad("git forbids \"..\", \"@{\", and \".\" or \"/\" at the end");
        }
        if text.split('/').any(|part| part.is_empty() || part.starts_with('.') || part.ends_with(".lock")) {
            return bad("a part of it is empty, begins with \".\" or ends in \".lock\"");
        }
        Ok(Self(text.to_owned()))
    }
}

/// A full object id in lower-case hex: 40 characters (SHA-1) or 64 (SHA-256).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CommitId(String);
checked_string!(CommitId);

impl CommitId {
    /// True for the id of all zeros by which forges say "there is no commit".
    pub fn is_zero(&self) -> bool {
        self.0.bytes().all(|b| b == b'0')
    }

    /// The first seven characters, as people quote it.
    pub fn short(&self) -> &str {
        &self.0[..7]
    }
}

impl FromStr for CommitId {
    type Err = BadName;
    fn from_str(text: &str) -> Result<Self, BadName> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if !matches!(text.len(), 40 | 64) || !text.bytes().all(hex) {
            return Err(BadName(format!("{text:?} is not a commit id: 40 or 64 lower-case hex digits")));
        }
        Ok(Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ok<T: FromStr<Err = BadName>>(text: &str) -> bool {
        text.parse::<T>().is_ok()
    }

    #[test]
    fn forge_names() {
        assert!(ok::<ForgeName>("github") && ok::<ForgeName>("gitea-2"));
        for bad in ["", "GitHub", "a b", "hooks", "metrics", "é"] {
            assert!(!ok::<ForgeName>(bad), "{bad}");
        }
    }

    #[test]
    fn repositories_compare_without_case() {
        let a: RepoId = "github/Acme/Shop".parse().expect("legal");
        let b: RepoId = "github/acme/shop".parse().expect("legal");
        assert_eq!(a, b);
        assert_eq!(a.to_string(), "github/Acme/Shop");
        for bad in ["shop", "a//b", "a/../b", "a/b?c", "a/-/b", "a/b c"] {
            assert!(!ok::<RepoPath>(bad), "{bad}");
        }
        assert!(ok::<RepoPath>("group/sub/project.js"));
    }

    #[test]
    fn refs_that_look_like_commands_are_refs_and_broken_ones_are_not() {
        for good in [
            "refs/heads/main",
            "refs/heads/--upload-pack=touch${IFS}x",
            "refs/heads/$(id)",
            "refs/heads/a;b",
            "refs/heads/ü",
        ] {
            assert!(ok::<RefName>(good), "{good}");
        }
        for bad in [
            "main",
            "refs/heads/",
            "refs/heads/a..b",
            "refs/heads/a b",
            "refs/heads/.a",
            "refs/heads/a.lock",
            "refs/heads/a\u{1b}b",
            "refs/heads/x@{1}",
        ] {
            assert!(!ok::<RefName>(bad), "{bad}");
        }
        assert_eq!(RefName::pull_request(7).short(), "pull request 7");
        assert_eq!(RefName::pull_request(7).as_pull_request(), Some(7));
        assert_eq!(RefName::branch("pull/7/head").expect("legal").as_pull_request(), None);
    }

    #[test]
    fn commits() {
        assert!(ok::<CommitId>(&"a".repeat(40)) && ok::<CommitId>(&"0".repeat(64)));
        for bad in ["HEAD".to_owned(), "A".repeat(40), "a".repeat(41), String::new()] {
            assert!(!ok::<CommitId>(&bad), "{bad}");
        }
        assert!("0".repeat(40).parse::<CommitId>().expect("legal").is_zero());
    }
}

//! What goes to the child process, and what comes back.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Budget, Refusal};
use crate::domain::listing::Listing;
use crate::domain::repo::{CommitId, RefName};
use crate::domain::time::Timestamp;

/// One checkout to be made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Job {
    /// Where the files come from.
    pub source: Source,
    /// The slot's folder (absolute). Its `src` will hold the files; `state.json`, `index` and `trash` are ours.
    pub slot: PathBuf,
    /// The repository's bare mirror (absolute), made where it is missing; see [`super::folder_name`].
    pub mirror: PathBuf,
    /// Under which path the steps will see the mirror's `objects`, if not under its own.
    pub objects_seen_at: Option<PathBuf>,
    /// How much a commit may bring.
    pub budget: Budget,
    /// After this time the child gives up, whatever it is doing.
    pub deadline: Duration,
}

/// Where the files come from.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "from", rename_all = "snake_case")]
pub enum Source {
    /// A repository at a forge.
    Remote(Box<Remote>),
    /// A folder of this machine, for `hookmill run`.
    Local(Local),
}

/// A commit of a repository at a forge.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Remote {
    /// From the configuration, `http` or `https`; never from a payload.
    #[serde(with = "url_as_text")]
    pub clone_url: url::Url,
    /// The ref that is fetched where the server does not give commits by their id.
    pub git_ref: RefName,
    /// The commit.
    pub sha: CommitId,
    /// For a fork's pull request: where the repository file is read, and whose submodules may see the credential.
    pub base: Option<Base>,
    /// For a pull request: the commit of its base whose lockfiles are compared with its own, if the mirror has it.
    pub compared_with: Option<CommitId>,
    /// Commits of this repository whose builds passed or were skipped, newest first. A tree that differs from one of
    /// theirs only in ignored paths needs no build. Empty: it is built whatever changed.
    pub passed: Vec<CommitId>,
    /// Who we are to the forge, if it wants to know.
    pub credential: Option<Credential>,
    /// How the outside is reached.
    pub network: Network,
}

/// The commit that a fork's pull request wants to go into.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Base {
    /// Its branch, for servers that do not give commits by their id.
    pub git_ref: RefName,
    /// The commit, as the forge named it. Without it there is no repository file.
    pub sha: Option<CommitId>,
}

/// A folder's tracked and not ignored files; everything but packages, where it is no git repository.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Local {
    /// The folder (absolute). Nothing is ever written into it.
    pub dir: PathBuf,
    /// A revision of its repository in its place: a person's own words on their own repository.
    pub rev: Option<String>,
}

/// A name and token for one origin.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Credential {
    /// `x-access-token` for GitHub; Gitea and Forgejo take any name.
    pub username: String,
    /// The token.
    pub token: String,
    /// The scheme, host and port that it may be sent to; the path does not matter.
    #[serde(with = "url_as_text")]
    pub origin: url::Url,
}

impl Credential {
    /// A forge's token, for the origin of this address and no other.
    pub fn of_token(token: &[u8], clone_url: &url::Url) -> Credential {
        Credential {
            username: "x-access-token".to_owned(),
            token: String::from_utf8_lossy(token).into_owned(),
            origin: clone_url.clone(),
        }
    }
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credential({}…@{})", self.username, self.origin)
    }
}

/// How the outside is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// The proxy, if there is one.
    pub proxy: Option<String>,
    /// Hosts that are reached without it: `host`, `.domain`, `*`.
    pub no_proxy: Vec<String>,
    /// Certificate authorities beside the system's, PEM.
    pub ca_file: Option<PathBuf>,
    /// How long a connection, or a pause in an answer, may take.
    pub patience: Duration,
}

impl Default for Network {
    fn default() -> Self {
        // A busy forge may count objects for half a minute before the first byte.
        Network { proxy: None, no_proxy: Vec::new(), ca_file: None, patience: Duration::from_secs(60) }
    }
}

impl From<&crate::config::server::Network> for Network {
    fn from(network: &crate::config::server::Network) -> Self {
        Network {
            proxy: network.proxy.clone(),
            no_proxy: network.no_proxy.clone(),
            ca_file: network.ca_file.clone(),
            ..Network::default()
        }
    }
}

/// A checkout that was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// The folder that holds the files, the bottom of the build's view.
    pub src: PathBuf,
    /// The commit that was checked out; `None` for a folder that is no git repository.
    pub commit: Option<CommitId>,
    /// The id of its tree: equal trees have equal ids.
    pub tree: String,
    /// The commit's first line. Hostile text.
    pub title: Option<String>,
    /// The commit's author's name. Hostile text.
    pub author: Option<String>,
    /// The committer's time, for `SOURCE_DATE_EPOCH`.
    pub committed_at: Option<Timestamp>,
    /// What a plan is made from.
    pub listing: Listing,
    /// Set when nothing but ignored paths changed since a commit that passed.
    pub needless: Option<Needless>,
    /// What a person should know: LFS pointers, submodules. One sentence each.
    pub notices: Vec<String>,
    /// Files in the tree.
    pub files: u64,
    /// Bytes in the tree.
    pub bytes: u64,
    /// Paths that were written or removed in `src`.
    pub changed: u64,
    /// Bytes that came over the network.
    pub fetched_bytes: u64,
    /// True when no request was needed.
    pub mirror_had_it: bool,
    /// Folders of git objects that the steps must be able to read for `git` to work in `src`.
    pub objects: Vec<PathBuf>,
}

/// Why a tree needs no build.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Needless {
    /// The commit that passed.
    pub since: CommitId,
    /// The globs of `[paths] ignore` that the changed paths fall under, in the order of the file.
    pub globs: Vec<String>,
}

/// The one line that the child process prints.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// It is done.
    Done(Box<Done>),
    /// It is not, and this is why.
    Refused(Refusal),
}

pub(super) mod url_as_text {
    use serde::{Deserialize, Deserializer, Serializer};
    use url::Url;

    pub(in crate::checkout) fn serialize<S: Serializer>(url: &Url, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(url.as_str())
    }

    pub(in crate::checkout) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Url, D::Error> {
        Url::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

//! Where a repository's branches and tags stand, by git's own word: the first answer of a fetch, with nothing fetched.

use std::collections::BTreeMap;

use git2::{Direction, Remote};
use serde::{Deserialize, Serialize};

use super::job::{Credential, Network, url_as_text};
use super::refusal::Stop;
use super::transport::{Link, Switchboard, Traffic};
use super::{Refusal, RefusalKind};
use crate::domain::repo::{CommitId, RefName};

/// More than the list of any repository that builds: half a million refs.
const LARGEST_LIST: u64 = 64 << 20;

/// Which repository is asked, and how.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AskHeads {
    /// From the configuration, `http` or `https`; never from a payload.
    #[serde(with = "url_as_text")]
    pub clone_url: url::Url,
    /// Who we are to the forge, if it wants to know.
    pub credential: Option<Credential>,
    /// How the outside is reached.
    pub network: Network,
    /// Whether tags are wanted too; there may be thousands.
    pub tags: bool,
}

/// Where everything stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heads {
    /// The default branch, where the server says so.
    pub default_branch: Option<RefName>,
    /// Branches (and tags) with their commits. An annotated tag's is the commit that it names.
    pub refs: BTreeMap<RefName, CommitId>,
}

/// Asks. The caller has [prepared](super::prepare_unattended) the process; one question is all it does.
///
/// # Errors
/// When the forge can't be reached, refuses, or speaks no git.
pub fn heads(ask: &AskHeads) -> Result<Heads, Refusal> {
    let link = Link::new(&ask.clone_url, ask.credential.as_ref(), &ask.network, &Traffic::new(LARGEST_LIST))?;
    let switchboard = Switchboard::register().map_err(|error| Stop::from(error).refusal())?;
    switchboard.connect(&link);
    listed(ask).map_err(|error| {
        let host = ask.clone_url.host_str().unwrap_or_default();
        let words = || Refusal::new(RefusalKind::Unreachable, format!("{host} lists no refs: {}", error.message()));
        link.take_fault().unwrap_or_else(words)
    })
}

fn listed(ask: &AskHeads) -> Result<Heads, git2::Error> {
    let mut origin = Remote::create_detached(ask.clone_url.as_str())?;
    let connection = origin.connect_auth(Direction::Fetch, None, None)?;
    let mut heads = Heads::default();
    for head in connection.list()? {
        if head.name() == "HEAD" {
            heads.default_branch = head.symref_target().and_then(|name| name.parse().ok());
        }
        // What an annotated tag names follows it, and takes its place.
        let name = head.name().strip_suffix("^{}").unwrap_or(head.name());
        if !(name.starts_with("refs/heads/") || ask.tags && name.starts_with("refs/tags/")) {
            continue;
        }
        // A name that git forbids is no ref of ours.
        if let (Ok(name), Ok(commit)) = (name.parse::<RefName>(), head.oid().to_string().parse::<CommitId>()) {
            heads.refs.insert(name, commit);
        }
    }
    Ok(heads)
}

//! Forges, their repositories and what is ruled for those, once they were read and checked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::domain::repo::ForgeName;
use crate::domain::scripts::Scripts;
use crate::domain::spec::Limits;

use super::blocks::RepoBlock;
use super::root::Root;
use super::rules::PartialRules;
use super::secret::Secret;

/// The kinds of forge this version speaks with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ForgeKind {
    /// github.com or GitHub Enterprise Server.
    Github,
    /// Gitea.
    Gitea,
    /// Forgejo.
    Forgejo,
}

impl ForgeKind {
    /// The word in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            ForgeKind::Github => "github",
            ForgeKind::Gitea => "gitea",
            ForgeKind::Forgejo => "forgejo",
        }
    }
}

/// `[[forge]]`.
#[derive(Debug, Clone)]
pub struct Forge {
    /// Its name in addresses and in the store.
    pub name: ForgeName,
    /// Which rules it follows.
    pub kind: ForgeKind,
    /// The API's base address, without a slash at the end (`https://api.github.com`, `https://gitea.lan/api/v1`).
    pub api_url: url::Url,
    /// The pages' and git's base address, without a slash at the end.
    pub web_url: url::Url,
    /// The token for statuses and for reading private repositories.
    pub token: Option<Secret>,
    /// A token that only reads, for git dependencies; else [`Forge::token`] is.
    pub read_token: Option<Secret>,
    /// The secrets of an organisation's one hook; empty when it has none.
    pub hook_secrets: Vec<Secret>,
}

impl Forge {
    /// Whether its API is asked as `other`'s is: at the same address, with the same token. If not, what one was refused
    /// may be granted to the other.
    pub fn is_asked_like(&self, other: &Forge) -> bool {
        self.token == other.token && self.api_url == other.api_url
    }
}

/// What opens a registry to a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Access {
    /// It needs no token.
    Open,
    /// This token, sent as `Authorization: Bearer`.
    Token(Secret),
    /// There is a token, and this build gets none: it is a fork's.
    Withheld,
}

/// `[[registry]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registry {
    /// Its address, without a slash at the end.
    pub url: url::Url,
    /// The scopes that come from it (`@acme`); without any it is the default registry.
    pub scopes: Vec<String>,
    /// Patterns of repositories in lower case; asked through [`Registry::serves`].
    pub repos: Vec<String>,
    /// What opens it.
    pub access: Access,
}

/// `[[repo.secret]]`: a variable with a secret value, for some steps of some builds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepSecret {
    /// The variable.
    pub name: String,
    /// Its value; a text.
    pub value: Secret,
    /// The names of the steps that see it.
    pub steps: Vec<String>,
    /// Patterns of the branches whose builds are given it; `None` is the default branch.
    pub branches: Option<Vec<String>>,
}

/// What becomes of a fork's pull request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forks {
    /// It waits for a maintainer's word.
    Approve,
    /// It is built without one, as a fork's.
    Build,
    /// It is ignored.
    Ignore,
}

/// Which older builds a new push of the same ref ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Supersede {
    /// Those of every branch but the default one.
    Branches,
    /// Those of every branch.
    All,
    /// None.
    None,
}

/// The rules of one repository: its most exact `[[repo]]` block, then wider ones, then `[defaults]`.
#[derive(Debug, Clone)]
pub struct RepoRules {
    /// The repository's own hook secrets; empty when only the forge's hook speaks for it.
    pub hook_secrets: Vec<Secret>,
    /// Where git fetches from: built from `web_url` and the name, unless configured. Never from a payload.
    pub clone_url: url::Url,
    /// Patterns of branch names that are built.
    pub branches: Vec<String>,
    /// Whether tags are built.
    pub tags: bool,
    /// What becomes of forks.
    pub forks: Forks,
    /// What a new push ends.
    pub supersede: Supersede,
    /// Whether its builds read what earlier ones left, and leave something themselves.
    pub cache: bool,
    /// Whether the bundle may reach the network.
    pub network: bool,
    /// Whose install scripts run.
    pub scripts: Scripts,
    /// Whether installs of trusted and member builds may read the forge's private repositories.
    pub git_dependencies: bool,
    /// How often the forge is asked for new heads, where that takes a webhook's place.
    pub poll: Option<Duration>,
    /// Added to every step's environment.
    pub env: BTreeMap<String, String>,
    /// What its steps see instead of this machine's programs.
    pub root: Option<Root>,
    /// The package registries that are meant for it, each with its token.
    pub registries: Vec<Registry>,
    /// What some steps of its trusted builds are given, each name once.
    pub secrets: Vec<StepSecret>,
    /// The server's limits with the block's own on top.
    pub limits: Limits,
}

/// Every `[[forge]]`, `[defaults]` and `[[repo]]`, ready to be asked.
#[derive(Debug, Clone, Default)]
pub struct Forges {
    /// By name.
    pub by_name: BTreeMap<ForgeName, Arc<Forge>>,
    /// Every `[[registry]]`.
    pub registries: Vec<Registry>,
    /// Checked blocks, the most exact first; asked through [`Forges::rules`].
    pub(super) blocks: Vec<RepoBlock>,
    /// `[defaults]`.
    pub(super) defaults: PartialRules,
    /// `[limits]`, the base of every repository's.
    pub(super) limits: Option<Limits>,
    /// `[sandbox] root`, for repositories whose blocks name none.
    pub(super) root: Option<Root>,
}

//! What is kept from build to build: for whom, under which key, in which layers.
//!
//! A **scope** is repository, trust and ref, as the agent knows them; no part of it comes from the repository's files.
//! A build reads what its own scope kept, then its base's and its default branch's, and writes to its own alone, so
//! nothing that a pull request leaves is ever read by the branch that it wants to go into.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::build::{Build, BuildId};
use super::repo::{CommitId, RefName, RepoId};
use super::time::Timestamp;
use super::trust::Trust;

/// Whose a snapshot is.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Scope {
    /// The repository.
    pub repo: RepoId,
    /// Whose code wrote it.
    pub trust: Trust,
    /// The ref that was built: a branch, or a fork's pull request.
    pub git_ref: RefName,
}

impl Scope {
    /// A name for files: a hash, so that no branch name can mean another folder. 32 characters of hexadecimal.
    pub fn id(&self) -> String {
        let repo = format!("{}/{}", self.repo.forge, self.repo.path.folded());
        hex(&digest([repo.as_str(), self.trust.as_str(), self.git_ref.as_str()].map(str::as_bytes))[..16])
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} ({})", self.repo, self.git_ref.short(), self.trust.as_str())
    }
}

/// The scopes of a build: the one that it writes, and those that it may read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lineage {
    /// Read first, and the only one that is written.
    pub own: Scope,
    /// Read after it, in this order.
    pub above: Vec<Scope>,
}

impl Lineage {
    /// Those of a build. `None` for a tag: what is published from it is made from nothing.
    pub fn of(build: &Build) -> Option<Self> {
        if build.git_ref.as_tag().is_some() {
            return None;
        }
        let scope = |trust, git_ref| Scope { repo: build.repo.clone(), trust, git_ref };
        let own = scope(build.trust, build.git_ref.clone());
        let branch = |name: &Option<String>| RefName::branch(name.as_deref()?).ok();
        // A fork's ref is its pull request's, of which the repository itself has built nothing.
        let pushed = (build.trust == Trust::Member).then(|| build.git_ref.clone());
        let mut above: Vec<Scope> = Vec::new();
        for git_ref in [pushed, branch(&build.base_branch), branch(&build.default_branch)].into_iter().flatten() {
            let scope = scope(Trust::Trusted, git_ref);
            if scope != own && !above.contains(&scope) {
                above.push(scope);
            }
        }
        Some(Self { own, above })
    }

    /// Every scope that may be read, nearest first.
    pub fn readable(&self) -> impl Iterator<Item = &Scope> {
        std::iter::once(&self.own).chain(&self.above)
    }
}

/// What a snapshot is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// What npm, yarn, pnpm or bun installed. Found by its exact key.
    Packages,
    /// What bower installed. Found by its exact key.
    Bower,
    /// What bundlers and compilers keep for their next run. Found by its exact key.
    Work,
    /// What package managers downloaded. The newest of a scope is taken, whatever its inputs.
    Downloads,
    /// That a tree passed. Found by its exact key; has no layers.
    Verdict,
}

impl Level {
    /// The word in files, on pages and in commands.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Packages => "packages",
            Level::Bower => "bower",
            Level::Work => "work",
            Level::Downloads => "downloads",
            Level::Verdict => "verdict",
        }
    }

    /// All of them.
    pub const ALL: [Level; 5] = [Level::Packages, Level::Bower, Level::Work, Level::Downloads, Level::Verdict];
}

/// One thing that a snapshot depends on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// What it is, for people: `package-lock.json`, `node`, `.npmrc`.
    pub name: String,
    /// Its value where that is short (`20.11.1`), else a digest: `sha256:` and hexadecimal. Never a secret, nor a digest
    /// of one.
    pub value: String,
}

/// Everything that a snapshot depends on, in a fixed order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inputs(pub Vec<Input>);

impl Inputs {
    /// Adds one with a short value.
    pub fn add(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.0.push(Input { name: name.into(), value: value.into() });
    }

    /// Adds one by the digest of its bytes.
    pub fn add_bytes(&mut self, name: impl Into<String>, bytes: &[u8]) {
        self.add(name, format!("sha256:{}", hex(&Sha256::digest(bytes))));
    }

    /// The key: equal for equal inputs. 64 characters of hexadecimal.
    pub fn key(&self) -> String {
        let parts = self.0.iter().flat_map(|input| [input.name.as_bytes(), input.value.as_bytes()]);
        hex(&digest(parts))
    }

    /// The first input in which `self` (now) differs from `kept` (then): its name, and the value then and now.
    pub fn first_difference<'a>(&'a self, kept: &'a Inputs) -> Option<Difference<'a>> {
        let value = |inputs: &'a Inputs, name: &str| {
            inputs.0.iter().find(|input| input.name == name).map(|input| input.value.as_str())
        };
        let names = self.0.iter().chain(&kept.0).map(|input| input.name.as_str());
        let all = names.map(|name| Difference { name, then: value(kept, name), now: value(self, name) });
        all.into_iter().find(|one| one.then != one.now)
    }
}

/// Why a key missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Difference<'a> {
    /// The input.
    pub name: &'a str,
    /// What it was when the snapshot was kept; `None`: it was not there.
    pub then: Option<&'a str>,
    /// What it is now; `None`: it is not there.
    pub now: Option<&'a str>,
}

/// Where a layer belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// Over the sources.
    Tree,
    /// HOME's `.cache`: what an install leaves there (browsers, Electron) belongs to its result.
    Cache,
    /// HOME's folder for what package managers download.
    Downloads,
    /// HOME's folder for webpack's cache.
    Bundler,
}

impl Place {
    /// The folder of HOME, if it is one.
    pub fn in_home(self) -> Option<&'static str> {
        match self {
            Place::Tree => None,
            Place::Cache => Some(".cache"),
            Place::Downloads => Some(".downloads"),
            Place::Bundler => Some(".hookmill/webpack"),
        }
    }
}

/// The name of an immutable directory that snapshots are made of.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LayerId(pub String);

/// A layer of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Which directory.
    pub id: LayerId,
    /// Where it belongs.
    pub place: Place,
}

/// A snapshot, as it is kept beside its layers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Whose it is.
    pub scope: Scope,
    /// What it is of.
    pub level: Level,
    /// What it depends on; the key is their digest.
    pub inputs: Inputs,
    /// Its layers, the topmost first within each place. Those of another scope's snapshot may be among them.
    pub layers: Vec<Layer>,
    /// The build that left it.
    pub build: BuildId,
    /// That build's commit.
    pub sha: CommitId,
    /// When it was kept.
    pub kept_at: Timestamp,
    /// Nobody but it knows what this is: the sentence of a verdict, that dependencies were edited in place.
    #[serde(default)]
    pub note: Option<String>,
}

/// SHA-256 over parts, each with its length before it: no two lists of parts read alike.
fn digest<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(trust: Trust, git_ref: &str) -> Scope {
        Scope { repo: "github/acme/shop".parse().expect("legal"), trust, git_ref: git_ref.parse().expect("legal") }
    }

    #[test]
    fn a_scope_is_repository_trust_and_ref() {
        let main = scope(Trust::Trusted, "refs/heads/main");
        let folded = Scope { repo: "github/Acme/Shop".parse().expect("legal"), ..main.clone() };
        assert_eq!(main.id(), folded.id());
        for other in [scope(Trust::Member, "refs/heads/main"), scope(Trust::Trusted, "refs/heads/maim")] {
            assert_ne!(main.id(), other.id(), "{other}");
        }
        assert_eq!(main.to_string(), "github/acme/shop main (trusted)");
    }

    #[test]
    fn keys_follow_names_values_and_their_borders() {
        let inputs = |list: &[(&str, &str)]| {
            let mut inputs = Inputs::default();
            list.iter().for_each(|(name, value)| inputs.add(*name, *value));
            inputs
        };
        let one = inputs(&[("node", "20"), ("npm", "10")]);
        assert_eq!(one.key(), inputs(&[("node", "20"), ("npm", "10")]).key());
        for other in [inputs(&[("node", "2"), ("0npm", "10")]), inputs(&[("npm", "10"), ("node", "20")])] {
            assert_ne!(one.key(), other.key());
        }
        let then = inputs(&[("node", "18"), ("yarn", "1")]);
        let first = one.first_difference(&then).expect("they differ");
        assert_eq!((first.name, first.then, first.now), ("node", Some("18"), Some("20")));
        let gone = inputs(&[("node", "20")]);
        let first = gone.first_difference(&one).expect("they differ");
        assert_eq!((first.name, first.then, first.now), ("npm", Some("10"), None));
        assert_eq!(one.first_difference(&one), None);
    }
}

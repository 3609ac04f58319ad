//! A package registry, as far as tools are fetched from it.
//!
//! Its documents are those of <https://github.com/npm/registry/blob/main/docs/responses/package-metadata.md>.

use std::collections::BTreeMap;
use std::path::Path;

use nodejs_semver::{Range, Version};
use serde::Deserialize;
use serde_json::Value;
use url::Url;

use super::digest::Digests;
use super::download::Source;
use super::shelf::Patience;
use super::unmet::Unmet;

/// Where packages come from.
#[derive(Debug, Clone)]
pub(super) struct Registry(pub(super) Source);

/// Every version of a package.
#[derive(Debug, Deserialize)]
pub(super) struct Document {
    #[serde(default)]
    versions: BTreeMap<String, Release>,
}

/// One version of a package.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Release {
    name: String,
    version: String,
    #[serde(default)]
    engines: Value,
    dist: Dist,
}

#[derive(Debug, Clone, Deserialize)]
struct Dist {
    tarball: String,
    integrity: Option<String>,
}

impl Document {
    pub(super) fn versions(&self) -> Vec<Version> {
        self.versions.keys().filter_map(|version| Version::parse(version).ok()).collect()
    }

    pub(super) fn release(&self, version: &Version) -> Option<&Release> {
        self.versions.get(&version.to_string())
    }
}

impl Release {
    pub(super) fn version(&self) -> &str {
        &self.version
    }

    pub(super) fn is_of(&self, package: &str) -> bool {
        self.name == package
    }

    /// Whether it says that it runs on this node; one that says nothing does.
    pub(super) fn runs_on(&self, node: &Version) -> bool {
        runs_on(&self.engines, node)
    }
}

/// Reads `engines` of a `package.json`, which in old packages may be a list of words.
pub(super) fn runs_on(engines: &Value, node: &Version) -> bool {
    let range = engines.get("node").and_then(Value::as_str).and_then(|range| Range::parse(range).ok());
    range.is_none_or(|range| range.satisfies(node))
}

impl Registry {
    /// What there is of a package; `None` when the registry has no such package.
    pub(super) fn document(&self, package: &str, patience: &Patience) -> Result<Option<Document>, Unmet> {
        // A scoped name is one word of the path.
        let Ok(url) = self.0.base.join(&package.replace('/', "%2f")) else {
            return Err(self.0.refused(package, "its name is not one"));
        };
        self.0.document(&url, package, patience)
    }

    /// Fetches a version's tarball to `place`, and checks that it is what the registry says it is.
    pub(super) fn tarball(&self, release: &Release, place: &Path, patience: &Patience) -> Result<Digests, Unmet> {
        let what = format!("{}@{}", release.name, release.version);
        let gone = || Unmet::Outage { what: what.clone(), why: format!("{} does not have its file", self.0.origin()) };
        let address = self.address(release).ok_or_else(|| self.0.refused(&what, "its file has no address"))?;
        let digests = self.0.file(&address, place, &what, patience)?.ok_or_else(gone)?;
        digests.check_integrity(release.dist.integrity.as_deref()).map_err(|why| self.0.refused(&what, &why))?;
        Ok(digests)
    }

    /// A mirror often hands on the addresses of the registry that it mirrors, which the agent may not reach. Where
    /// the path is the usual one (`<name>/-/<file>.tgz`) the file is asked for where the document came from, as npm
    /// does it (`replace-registry-host`). The digest holds either way.
    fn address(&self, release: &Release) -> Option<Url> {
        let given = Url::parse(&release.dist.tarball).ok()?;
        let usual = format!("{}/-/", release.name);
        let file = given.path().replace("%2f", "/").rsplit_once(&usual).map(|(_, file)| file.to_owned());
        match file.filter(|file| given.origin() != self.0.base.origin() && !file.contains('/')) {
            Some(file) => self.0.base.join(&format!("{usual}{file}")).ok(),
            None => Some(given),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::server::Network;

    #[test]
    fn a_mirrors_files_are_asked_of_the_mirror() {
        let base = Url::parse("http://mirror.lan/npm/").expect("an address");
        let registry = Registry(Source { base, network: Network::default(), access: None });
        let check = |name: &str, tarball: &str, expected: &str| {
            let dist = Dist { tarball: tarball.to_owned(), integrity: None };
            let release = Release { name: name.to_owned(), version: "1.0.0".to_owned(), engines: Value::Null, dist };
            assert_eq!(registry.address(&release).expect("an address").as_str(), expected);
        };
        check("yarn", "https://other.example/yarn/-/yarn-1.0.0.tgz", "http://mirror.lan/npm/yarn/-/yarn-1.0.0.tgz");
        check("@a/b", "https://other.example/@a/b/-/b-1.0.0.tgz", "http://mirror.lan/npm/@a/b/-/b-1.0.0.tgz");
        check("@a/b", "https://other.example/@a%2fb/-/b-1.0.0.tgz", "http://mirror.lan/npm/@a/b/-/b-1.0.0.tgz");
        check("yarn", "https://other.example/files/17.tgz", "https://other.example/files/17.tgz");
        check("yarn", "http://mirror.lan/else/yarn/-/y.tgz", "http://mirror.lan/else/yarn/-/y.tgz");
    }

    #[test]
    fn which_node_a_package_runs_on() {
        let check = |engines: &str, node: &str, runs| {
            let engines = serde_json::from_str(engines).expect("JSON");
            assert_eq!(runs_on(&engines, &Version::parse(node).expect("a version")), runs, "{engines} {node}");
        };
        check(r#"{"node": "^18.17.0 || >=20.5.0"}"#, "18.20.8", true);
        check(r#"{"node": "^18.17.0 || >=20.5.0"}"#, "18.0.0", false);
        check(r#"{"npm": "1"}"#, "18.0.0", true);
        check(r#"["node >=0.8"]"#, "18.0.0", true);
        check("null", "18.0.0", true);
    }
}

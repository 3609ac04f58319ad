//! What a plan is made from: the paths of a tree and the manifests in it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// The files of a commit (or a folder) that say how it is built.
///
/// Paths are relative to the root, with `/`, and never inside `node_modules`, `bower_components`
/// or `.git`. Links are left out: a manifest that is a link is not read.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Listing {
    /// Every file whose name matters to a plan (manifests, lockfiles, configurations), at any depth up to six folders.
    pub paths: BTreeSet<String>,
    /// The contents of those that a plan reads, up to 2 MiB each.
    pub manifests: BTreeMap<String, Vec<u8>>,
}

impl Listing {
    /// True when there is a file at `path`.
    pub fn has(&self, path: &str) -> bool {
        self.paths.contains(path)
    }

    /// The text of a manifest, if it was read and is UTF-8.
    pub fn text(&self, path: &str) -> Option<&str> {
        std::str::from_utf8(self.manifests.get(path)?).ok()
    }

    /// True for file names that belong into a listing.
    pub fn matters(name: &str) -> bool {
        const NAMES: [&str; 27] = [
            "package.json",
            "package-lock.json",
            "npm-shrinkwrap.json",
            "yarn.lock",
            "pnpm-lock.yaml",
            "pnpm-workspace.yaml",
            "bun.lock",
            "bun.lockb",
            "bower.json",
            ".bowerrc",
            ".npmrc",
            ".yarnrc",
            ".yarnrc.yml",
            ".nvmrc",
            ".node-version",
            ".tool-versions",
            ".hookmill.toml",
            "Gruntfile.js",
            "gulpfile.js",
            "lerna.json",
            "nx.json",
            "turbo.json",
            "angular.json",
            "rspack.config.js",
            ".gitmodules",
            ".gitattributes",
            "component.json",
        ];
        const CONFIGURATIONS: [&str; 10] = [
            "webpack.",
            "webpackfile.",
            "rspack.",
            "rsbuild.config.",
            "vite.config.",
            "rollup.config.",
            "gulpfile.",
            "gruntfile.",
            "brunch-config.",
            ".angular-cli.json",
        ];
        let lower = name.to_ascii_lowercase();
        NAMES.contains(&name) || CONFIGURATIONS.iter().any(|prefix| lower.starts_with(prefix))
    }

    /// True for those whose contents a plan reads; the others need only be there.
    pub fn is_read(name: &str) -> bool {
        matches!(
            name,
            "package.json"
                | "bower.json"
                | ".bowerrc"
                | ".nvmrc"
                | ".node-version"
                | ".tool-versions"
                | ".hookmill.toml"
                | ".gitmodules"
                | ".gitattributes"
                | "pnpm-workspace.yaml"
                | "lerna.json"
        )
    }
}

//! What a plan is made from: the paths of a tree and the manifests in it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::lockfile::{self, Lockfile};
use super::time::Timestamp;

/// Languages that configurations are written in.
const CODE: [&str; 10] = [".js", ".cjs", ".mjs", ".ts", ".cts", ".mts", ".coffee", ".ls", ".json", ".es6"];

/// The files of a commit (or a folder) that say how it is built.
///
/// Paths are relative to the root, with `/`, and never inside `node_modules`, `bower_components`
/// or `.git`. A link counts as the file of the same tree that it leads to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Listing {
    /// Every file whose name matters to a plan (manifests, lockfiles, configurations), at any depth up to six folders.
    pub paths: BTreeSet<String>,
    /// The contents of those that a plan reads, up to 2 MiB each.
    #[serde(with = "contents")]
    pub manifests: BTreeMap<String, Vec<u8>>,
    /// The lockfiles that could be read, by path.
    #[serde(default)]
    pub lockfiles: BTreeMap<String, Lockfile>,
    /// Where a folder has several lockfiles: when the newest commit was made that changed one of them, for those that
    /// it changed.
    #[serde(default)]
    pub changed: BTreeMap<String, Timestamp>,
    /// Links with a name that matters which lead to no file that is listed, and where they point.
    #[serde(default)]
    pub dangling: BTreeMap<String, String>,
    /// Every file that compilers, loaders and linters read unseen: no plan depends on them, what tools keep does.
    #[serde(default)]
    pub settings: BTreeSet<String>,
    /// Folders that are repositories of their own.
    #[serde(default)]
    pub submodules: BTreeSet<String>,
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
        const NAMES: [&str; 26] = [
            "package.json",
            "pnpm-workspace.yaml",
            "bower.json",
            ".bowerrc",
            ".npmrc",
            ".yarnrc",
            ".yarnrc.yml",
            ".pnpmfile.cjs",
            ".nvmrc",
            ".node-version",
            ".tool-versions",
            ".hookmill.toml",
            "lerna.json",
            "nx.json",
            "turbo.json",
            "rush.json",
            "angular.json",
            ".angular-cli.json",
            "workspace.json",
            "project.json",
            "brunch-config.js",
            "ember-cli-build.js",
            ".gitmodules",
            ".gitattributes",
            "component.json",
            "bunfig.toml",
        ];
        /// Configurations of bundlers and task runners, before `.js`, `.config.ts`, `.babel.js` and so on; in any case.
        const CONFIGURATIONS: [&str; 15] = [
            "webpack",
            "webpackfile",
            "rspack.config",
            "rsbuild.config",
            "vite.config",
            "next.config",
            "nuxt.config",
            "vue.config",
            "rollup.config",
            "astro.config",
            "svelte.config",
            "karma.conf",
            "gulpfile",
            "gruntfile",
            "esbuild",
        ];
        let lower = name.to_ascii_lowercase();
        let code = || CODE.iter().any(|extension| lower.ends_with(extension));
        let configures = |prefix: &&str| lower.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('.'));
        NAMES.contains(&name) || lockfile::NAMES.contains(&name) || (CONFIGURATIONS.iter().any(configures) && code())
    }

    /// True for file names that belong into [`Listing::settings`].
    pub fn is_setting(name: &str) -> bool {
        /// What tools read by a name of their own, before its extension.
        const RC: [&str; 12] = [
            ".babelrc",
            ".browserslistrc",
            ".postcssrc",
            ".swcrc",
            ".eslintrc",
            ".eslintignore",
            ".stylelintrc",
            ".prettierrc",
            ".linaria",
            ".parcelrc",
            ".env",
            "browserslist",
        ];
        const CONFIGURATIONS: [&str; 5] = ["babel.config", "postcss.config", "tailwind.config", "tsconfig", "jsconfig"];
        let is = |prefix: &&str| {
            name.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '-']))
        };
        // `anything.config.js` configures something, and `tsconfig.app.json` extends another one.
        let (stem, extension) = name.rsplit_once('.').unwrap_or((name, ""));
        let is_code = CODE.iter().any(|code| &code[1..] == extension);
        RC.iter().any(is) || (is_code && (CONFIGURATIONS.iter().any(is) || stem.ends_with(".config")))
    }

    /// True for those whose contents a plan reads; the others need only be there.
    pub fn is_read(name: &str) -> bool {
        matches!(
            name,
            "package.json"
                | "bower.json"
                | ".bowerrc"
                | ".yarnrc.yml"
                | ".nvmrc"
                | ".node-version"
                | ".tool-versions"
                | ".hookmill.toml"
                | ".gitmodules"
                | ".gitattributes"
                | "pnpm-workspace.yaml"
                | "lerna.json"
                | "nx.json"
                | "angular.json"
                | ".angular-cli.json"
        )
    }
}

/// A path from a folder of a tree, both with `/`; `.` is the root. `None` outside the tree.
pub fn joined(dir: &str, target: &str) -> Option<String> {
    if target.starts_with(['/', '~']) {
        return None;
    }
    let mut parts: Vec<&str> = dir.split('/').filter(|part| *part != ".").collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    Some(if parts.is_empty() { ".".to_owned() } else { parts.join("/") })
}

/// Contents as text: a list of numbers, which serde makes of bytes, is four times as long.
mod contents {
    use std::collections::BTreeMap;

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

    pub(super) fn serialize<S: Serializer>(
        files: &BTreeMap<String, Vec<u8>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        let encoded: BTreeMap<&str, String> =
            files.iter().map(|(path, bytes)| (path.as_str(), BASE64.encode(bytes))).collect();
        encoded.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<String, Vec<u8>>, D::Error> {
        let encoded = BTreeMap::<String, String>::deserialize(deserializer)?;
        let decoded = encoded.into_iter().map(|(path, text)| Ok((path, BASE64.decode(text)?)));
        decoded.collect::<Result<_, base64::DecodeError>>().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_names_matter() {
        for good in [
            "package.json",
            "yarn.lock",
            "webpack.config.babel.js",
            "webpack.prod.js",
            "webpack.config.coffee",
            "rspack.config.ts",
            "vite.config.mts",
            "Gruntfile.js",
            "gulpfile.babel.js",
            "Gulpfile.js",
            "karma.conf.js",
            "angular.json",
        ] {
            assert!(Listing::matters(good), "{good}");
        }
        for bad in ["index.js", "webpack.md", "webpack-runtime.js", "my-webpack.config.js", ".babelrc", "Package.json"]
        {
            assert!(!Listing::matters(bad), "{bad}");
        }
    }

    #[test]
    fn which_names_tools_read() {
        for good in [
            ".babelrc",
            ".babelrc.js",
            "babel.config.json",
            "tsconfig.json",
            "tsconfig.app.json",
            "tsconfig-base.json",
            ".env.production",
            ".eslintrc.cjs",
            "postcss.config.mjs",
            "uno.config.ts",
            ".browserslistrc",
        ] {
            assert!(Listing::is_setting(good), "{good}");
        }
        for bad in ["index.js", "config.js", ".environment", "tsconfig.md", "app.config.scss", "package.json"] {
            assert!(!Listing::is_setting(bad), "{bad}");
        }
    }

    #[test]
    fn a_listing_survives_the_pipe() {
        let manifests = BTreeMap::from([("package.json".to_owned(), vec![0xff, 0, b'{'])]);
        let listing = Listing { manifests, ..Listing::default() };
        let json = serde_json::to_string(&listing).expect("JSON");
        assert_eq!(serde_json::from_str::<Listing>(&json).expect("a listing"), listing);
    }
}

//! Configurations of webpack and rspack: which of them are for production, and the command that runs one.

use super::package::Package;
use super::{Account, Listing, inside, relative, words};
use crate::plan::manifest::major;

/// Whose configuration it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bundler {
    Webpack,
    Rspack,
}

impl Bundler {
    pub(super) fn name(self) -> &'static str {
        match self {
            Bundler::Webpack => "webpack",
            Bundler::Rspack => "rspack",
        }
    }
}

/// What a configuration is for, as its name tells. In the order in which they are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Purpose {
    /// `webpack.prod.js`.
    Production,
    /// `webpack.config.js`.
    Any,
    /// `webpack.client.js`: a part, and who knows of what.
    Part,
    /// `webpack.dev.js`, `webpack.common.js`, `webpack.karma.js`.
    NotToBundle,
}

/// A configuration that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Configuration {
    /// From the tree's root.
    pub(super) path: String,
    pub(super) bundler: Bundler,
    purpose: Purpose,
    /// Whether it lies in the folder itself.
    here: bool,
}

/// Folders of a package that hold configurations.
const FOLDERS: [&str; 12] = [
    "webpack",
    "config",
    "configs",
    "conf",
    "build",
    ".webpack",
    "config/webpack",
    "configs/webpack",
    "build/webpack",
    "webpack/config",
    "webpack/configs",
    "internals/webpack",
];

/// Extensions that webpack's and rspack's commands load, the likely ones first.
const EXTENSIONS: [&str; 11] = ["babel.js", "js", "cjs", "mjs", "ts", "cts", "mts", "coffee", "ls", "json", "es6"];

/// Every configuration of a folder, the one to choose first.
pub(super) fn all(listing: &Listing, dir: &str) -> Vec<Configuration> {
    let mut found: Vec<Configuration> = listing.paths.iter().filter_map(|path| read(dir, path)).collect();
    let extension = |path: &str| EXTENSIONS.iter().position(|extension| path.ends_with(&format!(".{extension}")));
    let parts = |path: &str| path.split(['.', '-', '_']).count();
    found.sort_by_key(|one| (!one.here, one.purpose, parts(&one.path), extension(&one.path), one.path.clone()));
    found
}

fn read(dir: &str, path: &str) -> Option<Configuration> {
    let relative = relative(dir, path)?;
    let (folder, name) = relative.rsplit_once('/').unwrap_or(("", relative));
    if !folder.is_empty() && !FOLDERS.contains(&folder) {
        return None;
    }
    let (bundler, purpose) = purpose(name)?;
    Some(Configuration { path: path.to_owned(), bundler, purpose, here: folder.is_empty() })
}

/// Reads a file's name: `webpack.config.prod.js`, `webpack.prod.conf.js`, `rspack.config.ts`.
fn purpose(name: &str) -> Option<(Bundler, Purpose)> {
    const PRODUCTION: [&str; 6] = ["prod", "production", "release", "dist", "build", "prd"];
    const NOT_TO_BUNDLE: [&str; 32] = [
        "dev",
        "devel",
        "development",
        "develop",
        "common",
        "base",
        "shared",
        "parts",
        "test",
        "tests",
        "testing",
        "spec",
        "karma",
        "e2e",
        "jest",
        "storybook",
        "server",
        "ssr",
        "node",
        "local",
        "watch",
        "hot",
        "hmr",
        "dll",
        "serve",
        "analyze",
        "analyse",
        "stats",
        "helpers",
        "rules",
        "mix",
        "d",
    ];
    let lower = name.to_ascii_lowercase();
    let extension = EXTENSIONS.iter().find(|extension| lower.ends_with(&format!(".{extension}")))?;
    let stem = lower.strip_suffix(extension)?.trim_end_matches('.');
    let mut parts = stem.split(['.', '-', '_']);
    let bundler = match parts.next()? {
        "webpack" | "webpackfile" => Bundler::Webpack,
        "rspack" => Bundler::Rspack,
        _ => return None,
    };
    let rest: Vec<&str> = parts.filter(|part| !["config", "conf", "cfg", "babel"].contains(part)).collect();
    let any = |list: &[&str]| rest.iter().any(|part| list.contains(part));
    let purpose = match () {
        () if rest.is_empty() => Purpose::Any,
        () if any(&NOT_TO_BUNDLE) => Purpose::NotToBundle,
        () if any(&PRODUCTION) => Purpose::Production,
        () => Purpose::Part,
    };
    Some((bundler, purpose))
}

/// Decides about all of them; the command of the chosen one.
pub(super) fn choose(package: &Package<'_>, all: &[Configuration], account: &mut Account) -> Option<Vec<String>> {
    let parts = all.iter().filter(|one| one.purpose == Purpose::Part).count();
    let mut chosen: Option<(&Configuration, Vec<String>)> = None;
    for one in all {
        let example = || format!("to bundle with it, write [bundle] command = [\"npx\", {}]", quoted(package, one));
        if let Some((first, _)) = &chosen {
            account.decide(&one.path, "not used", format!("{} is used; {}", first.path, example()));
            continue;
        }
        let because = match one.purpose {
            Purpose::Production => "by its name the one for production",
            Purpose::Any => "a configuration, and its bundler is a dependency",
            Purpose::Part if parts == 1 => "the only configuration",
            Purpose::Part => {
                account.decide(&one.path, "not run by itself", format!("one of several parts; {}", example()));
                continue;
            }
            Purpose::NotToBundle => {
                let why = "by its name it is not the one for production";
                account.decide(&one.path, "not run by itself", format!("{why}; {}", example()));
                continue;
            }
        };
        match command(package, one) {
            Ok(argv) => {
                account.decide(&one.path, argv.join(" "), because);
                chosen = Some((one, argv));
            }
            Err(why) => account.decide(&one.path, "not run by itself", why),
        }
    }
    chosen.map(|(_, argv)| argv)
}

/// The words of a command with this configuration, as a list in a file has them.
fn quoted(package: &Package<'_>, one: &Configuration) -> String {
    let file = relative(package.dir, &one.path).unwrap_or(&one.path);
    let verb = if one.bundler == Bundler::Rspack { "\"rspack\", \"build\"" } else { "\"webpack\"" };
    format!("{verb}, \"--config\", {file:?}")
}

/// The command in production mode, or why it can't be run directly.
fn command(package: &Package<'_>, one: &Configuration) -> Result<Vec<String>, String> {
    let manifest = inside(package.dir, "package.json");
    let mut argv = match one.bundler {
        Bundler::Rspack if package.dependency("@rspack/cli").is_some() => words("rspack build --mode production"),
        Bundler::Rspack => return Err(format!("rspack needs @rspack/cli, which is not a dependency in {manifest}")),
        Bundler::Webpack => webpack(package, &manifest)?,
    };
    let file = relative(package.dir, &one.path).unwrap_or(&one.path);
    let standard = format!("{}.config.", one.bundler.name());
    let found_by_itself = file.strip_prefix(&standard).is_some_and(|rest| EXTENSIONS.contains(&rest));
    if !found_by_itself {
        argv.extend(["--config".to_owned(), file.to_owned()]);
    }
    Ok(package.program(argv))
}

/// webpack 1 to 3 have a command of their own, which knows no `--mode`; since 4 it is webpack-cli's.
fn webpack(package: &Package<'_>, manifest: &str) -> Result<Vec<String>, String> {
    let (webpack, cli) = (package.dependency("webpack"), package.dependency("webpack-cli"));
    let encore = package.dependency("@symfony/webpack-encore").is_some();
    match webpack.and_then(major) {
        _ if encore => Ok(words("encore production")),
        Some(0..=3) => Ok(words("webpack -p")),
        _ if cli.is_some() => Ok(words("webpack --mode production")),
        _ if webpack.is_some() => Err(format!("webpack needs webpack-cli, which is not a dependency in {manifest}")),
        _ => Err(format!("neither webpack nor webpack-cli is a dependency in {manifest}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_the_purpose() {
        let check = |name: &str, expected: Option<Purpose>| {
            assert_eq!(purpose(name).map(|(_, purpose)| purpose), expected, "{name}");
        };
        for name in ["webpack.config.js", "webpack.config.babel.js", "webpackfile.cjs", "webpack.config.coffee"] {
            check(name, Some(Purpose::Any));
        }
        for name in ["webpack.prod.js", "webpack.config.production.ts", "webpack.prod.conf.js", "webpack.prod.babel.js"]
        {
            check(name, Some(Purpose::Production));
        }
        for name in ["webpack.dev.js", "webpack.common.js", "webpack.config.test.js", "webpack.server.prod.js"] {
            check(name, Some(Purpose::NotToBundle));
        }
        check("webpack.client.js", Some(Purpose::Part));
        check("rspack.config.ts", Some(Purpose::Any));
        check("webpack.md", None);
        check("index.js", None);
    }
}

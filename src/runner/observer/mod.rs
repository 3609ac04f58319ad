//! Bundlers get a persistent cache, and say what they found in it, without a change to the repository.
//!
//! A small preloaded file (`CommonJS`) is loaded into every node of a step by `NODE_OPTIONS=--require=…` (nodejs.org,
//! "Command-line API"). It gives a webpack 5 or rspack compiler a cache where its configuration says nothing of one (webpack.js.org,
//! "Cache"; rspack.rs, `cache`), and writes one line for each compiler that ran. Scripts replace `NODE_OPTIONS`
//! (`cross-env NODE_OPTIONS=…`): therefore a `node` of ours stands first on `PATH`, that puts the file back and becomes
//! the next `node` there.
//!
//! All of it is in HOME, where a step can change it: it is written anew before each stage, and what is read from there
//! is believed as far as a sentence on a page.

pub mod kept;
mod observed;

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::tree::{Dir, NewFile, TreeError};

pub use observed::{CacheOf, Observed, observed};

/// The directory of HOME for everything of ours in it.
const OURS: &str = ".hookmill";
/// What is loaded into every node, in [`OURS`].
const PRELOAD: &str = "observer.cjs";
/// What it does; `settings` is put above it.
const PRELOAD_SOURCE: &str = include_str!("observer.cjs");
/// The folder of the launcher, in [`OURS`].
const BIN: &str = "bin";
/// A cache that nothing has used for so long is dropped by the bundler. It is also bounded by the layers' size.
const MAX_AGE_MS: u64 = 14 * 24 * 60 * 60 * 1000;

/// What a build's bundlers are given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Where their caches go, as a step sees it: see [`cache_dir`].
    pub cache_dir: PathBuf,
    /// Whether dependencies come from a snapshot whose content is known. If not, a bundler looks at every file of
    /// `node_modules` instead of at its packages' versions, since an edit in place changes no version.
    pub managed: bool,
    /// The root of the tree, as a step sees it.
    pub tree: PathBuf,
    /// When the tree was ready for the first step that does not install. What a step changes in dependencies after this
    /// is in no key: a bundler that finds such a change gets no cache of ours.
    pub ready: SystemTime,
    /// Files on which the whole cache depends, as a step sees them: configuration files, the lockfile. Those that are
    /// not there are left out.
    pub build_dependencies: Vec<PathBuf>,
    /// Another version voids the cache; node's own is added. Never a secret, nor a digest of one.
    pub version: String,
}

/// As the preloaded file finds them.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Embedded<'a> {
    cache_dir: Cow<'a, str>,
    managed: bool,
    tree: Cow<'a, str>,
    /// Nanoseconds since 1970, as text: a number of JavaScript does not hold so many digits.
    ready: String,
    build_dependencies: Vec<Cow<'a, str>>,
    version: &'a str,
    max_age: u64,
    observed: String,
    preload: String,
    node_options: String,
    bin: Cow<'a, str>,
}

/// Where the caches are that a bundler keeps through us, beneath HOME: this directory makes a layer of its own.
pub fn cache_dir(home: &Path) -> PathBuf {
    home.join(OURS).join("webpack")
}

/// Writes the preloaded file and the launcher into the HOME that the agent knows as `home_on_host` and a step as
/// `home_inside`. Whatever a step left in their place, a link too, is replaced and never followed.
///
/// # Errors
/// When a file can't be written.
pub fn write(home_on_host: &Path, home_inside: &Path, settings: &Settings) -> Result<(), TreeError> {
    let home = Dir::open(home_on_host)?;
    let ours = own_dir(&home, Path::new(OURS))?;
    let bin = own_dir(&ours, Path::new(BIN))?;
    let new = |executable| NewFile { executable, modified: None };
    ours.replace(Path::new(PRELOAD), preload(home_inside, settings).as_bytes(), new(false))?;
    bin.replace(Path::new("node"), launcher(home_inside).as_bytes(), new(true))
}

/// Whether a node can load the file. Older ones know neither its language nor `--require=`, and no bundler runs on them
/// that could be given a cache: webpack 5 asks for node 10.13, rspack for 16.
pub fn runs_on(node: &str) -> bool {
    const OLDEST: u32 = 12;
    node.split('.').next().and_then(|major| major.parse::<u32>().ok()).is_some_and(|major| major >= OLDEST)
}

/// What every node of a step is asked: an option for `NODE_OPTIONS`.
pub fn node_options(home_inside: &Path) -> String {
    let path = preload_path(home_inside);
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+@:".contains(c);
    if path.chars().all(plain) {
        return format!("--require={path}");
    }
    // nodejs.org, `NODE_OPTIONS`: a value with spaces stands in double quotes, in which a backslash escapes.
    format!("--require=\"{}\"", path.replace('\\', "\\\\").replace('"', "\\\""))
}

/// The folder that goes first on `PATH`, before the tree's own commands.
pub fn path_folder(home_inside: &Path) -> PathBuf {
    home_inside.join(OURS).join(BIN)
}

fn preload_path(home_inside: &Path) -> String {
    home_inside.join(OURS).join(PRELOAD).to_string_lossy().into_owned()
}

/// Opens the folder `rel`, made anew where something else stands in its place.
fn own_dir(parent: &Dir, rel: &Path) -> Result<Dir, TreeError> {
    if parent.make_dir(rel).is_err() {
        parent.remove(rel)?;
        parent.make_dir(rel)?;
    }
    parent.open_dir(rel)
}

fn preload(home_inside: &Path, settings: &Settings) -> String {
    let bin = path_folder(home_inside);
    let embedded = Embedded {
        cache_dir: settings.cache_dir.to_string_lossy(),
        managed: settings.managed,
        tree: settings.tree.to_string_lossy(),
        ready: settings.ready.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos().to_string(),
        build_dependencies: settings.build_dependencies.iter().map(|file| file.to_string_lossy()).collect(),
        version: &settings.version,
        max_age: MAX_AGE_MS,
        observed: home_inside.join(OURS).join(observed::FILE).to_string_lossy().into_owned(),
        preload: preload_path(home_inside),
        node_options: node_options(home_inside),
        bin: bin.to_string_lossy(),
    };
    let json = serde_json::to_string(&embedded).expect("strings, numbers and lists of them are always JSON");
    format!("const settings = {json};\n{PRELOAD_SOURCE}")
}

/// A shell that becomes the next `node` on `PATH`. Builtins only: it costs what starting a shell costs.
fn launcher(home_inside: &Path) -> String {
    let quoted = |text: &str| format!("'{}'", text.replace('\'', r"'\''"));
    let preload = quoted(&preload_path(home_inside));
    let options = quoted(&node_options(home_inside));
    let folder = quoted(&path_folder(home_inside).to_string_lossy());
    // After our own folder: managers put a `node` of theirs before it, that comes back here (yarn's proxy scripts).
    format!(
        "#!/bin/sh\n\
         case \" $NODE_OPTIONS\" in\n\
         *{preload}* | *{options}*) ;;\n\
         *) NODE_OPTIONS={options}${{NODE_OPTIONS:+ $NODE_OPTIONS}}; export NODE_OPTIONS ;;\n\
         esac\n\
         own={folder}\n\
         case \":$PATH:\" in *\":$own:\"*) ours= ;; *) ours=1 ;; esac\n\
         IFS=:; set -f\n\
         for folder in $PATH; do\n\
         if [ \"$folder\" = \"$own\" ]; then ours=1\n\
         elif [ \"$ours\" ] && [ -f \"${{folder:-.}}/node\" ] && [ -x \"${{folder:-.}}/node\" ]; then\n\
         exec \"${{folder:-.}}/node\" \"$@\"\n\
         fi\n\
         done\n\
         echo 'node: not found on PATH' >&2\n\
         exit 127\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> Settings {
        Settings {
            cache_dir: cache_dir(Path::new("/home/build")),
            managed: false,
            tree: "/build".into(),
            ready: UNIX_EPOCH,
            build_dependencies: vec!["/build/package-lock.json".into()],
            version: "1".into(),
        }
    }

    #[test]
    fn options_are_quoted_where_node_would_split_them() {
        let check = |home: &str, expected: &str| assert_eq!(node_options(Path::new(home)), expected, "{home}");
        check("/home/build", "--require=/home/build/.hookmill/observer.cjs");
        check("/my home", r#"--require="/my home/.hookmill/observer.cjs""#);
        check(r#"/a"b\c"#, r#"--require="/a\"b\\c/.hookmill/observer.cjs""#);
    }

    #[test]
    fn settings_stand_at_the_head() {
        let text = preload(Path::new("/home/build"), &settings());
        let json = text.lines().next().and_then(|line| line.strip_prefix("const settings = ")?.strip_suffix(';'));
        let json: serde_json::Value = serde_json::from_str(json.expect("the first line")).expect("JSON");
        assert_eq!(json["cacheDir"], "/home/build/.hookmill/webpack");
        assert_eq!(json["buildDependencies"][0], "/build/package-lock.json");
        assert_eq!(json["observed"], "/home/build/.hookmill/observed.jsonl");
    }

    #[test]
    fn what_a_step_put_in_our_place_is_replaced_and_not_followed() {
        let dir = tempfile::tempdir().expect("a folder");
        let (home, precious) = (dir.path().join("home"), dir.path().join("precious"));
        for folder in [&home, &precious] {
            std::fs::create_dir(folder).expect("a folder");
        }
        let inside = Path::new("/home/build");
        std::os::unix::fs::symlink(&precious, home.join(".hookmill")).expect("a link");
        write(&home, inside, &settings()).expect("written");
        std::fs::create_dir_all(cache_dir(&home)).expect("a cache");
        std::fs::remove_dir_all(home.join(".hookmill/bin")).expect("removed");
        std::os::unix::fs::symlink(&precious, home.join(".hookmill/bin")).expect("a link");
        std::fs::remove_file(home.join(".hookmill/observer.cjs")).expect("removed");
        std::os::unix::fs::symlink(precious.join("x"), home.join(".hookmill/observer.cjs")).expect("a link");
        write(&home, inside, &settings()).expect("written again");
        assert_eq!(std::fs::read_dir(&precious).expect("readable").count(), 0);
        assert!(home.join(".hookmill/bin/node").symlink_metadata().expect("there").is_file());
        assert!(cache_dir(&home).is_dir(), "the cache stays");
    }
}

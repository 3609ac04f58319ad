//! What bundlers and compilers leave beside the sources for their next run.

use std::path::{Path, PathBuf};

use crate::tree::{Dir, Kind, TreeError};

/// Folders and files, relative to any project's directory, that their tools keep from run to run and check by
/// themselves.
///
/// Not among them, although they look alike: `.nuxt` and `.svelte-kit` (results, made anew by each build; what these
/// frameworks keep is in `node_modules`), Gatsby's `.cache` (of no use without `public`, a result), and
/// `*.tsbuildinfo` where a build emits: it says that the results are there, and without them `tsc` makes nothing.
pub const KEPT: [&str; 16] = [
    // The convention of find-cache-dir: Babel, Terser, ESLint and Prettier, Create React App, Storybook, Nuxt, vue-cli,
    // and webpack's own place for its cache (webpack.js.org, `cache.cacheDirectory`).
    "node_modules/.cache",
    // The same with Plug'n'Play (webpack.js.org, `cache.cacheDirectory`).
    ".pnp/.cache",
    ".yarn/.cache",
    // vite.dev, `cacheDir`.
    "node_modules/.vite",
    // docs.astro.build, `cacheDir`.
    "node_modules/.astro",
    // nextjs.org, "Continuous Integration (CI) Build Caching".
    ".next/cache",
    // angular.dev, "Workspace configuration", `cache.path`.
    ".angular/cache",
    // parceljs.org, `--cache-dir`.
    ".parcel-cache",
    // turborepo.com, `cacheDir`.
    ".turbo/cache",
    // nx.dev, `cacheDirectory`.
    ".nx/cache",
    // eslint.org, `--cache-location`.
    ".eslintcache",
    // stylelint.io, `cacheLocation`.
    ".stylelintcache",
    // @rollup/plugin-typescript, `cacheDir`.
    ".rollup.cache",
    // rollup-plugin-typescript2, `cacheRoot`.
    ".rpt2_cache",
    // swc.rs, `jsc.experimental.cacheRoot`.
    ".swc",
    // linaria.dev, `cacheDirectory`.
    ".linaria-cache",
];

/// What was taken out of a build's writes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Extracted {
    /// What is in the new layer, relative to the tree's root.
    pub paths: Vec<PathBuf>,
    /// What could not be taken, for a notice: the path, and why.
    pub refused: Vec<(PathBuf, String)>,
}

/// Moves what is [`KEPT`] in `project_dirs` (relative to the tree's root, `.` for itself) and what `extra` names
/// (`[cache] paths`) out of a build's writes `upper` into the directory `into`, under the same relative paths.
///
/// By renames, so `into` is on the same file system, and an overlay's whiteouts and opaque directories go with their
/// folders. A link on the way is never followed: named by `extra` it is refused, else it is left where it is. `None`
/// where nothing was moved and nothing refused.
///
/// # Errors
/// When one of the two directories can't be opened or made.
pub fn extract(
    upper: &Path,
    project_dirs: &[String],
    extra: &[String],
    into: &Path,
) -> Result<Option<Extracted>, TreeError> {
    std::fs::create_dir_all(into).map_err(|source| TreeError::Io { path: into.to_owned(), source })?;
    let (from, to) = (Dir::open(upper)?, Dir::open(into)?);
    let mut extracted = Extracted::default();
    for path in known(project_dirs) {
        // What is in the way of a tool's own folder is the tool's affair, not a reader's.
        let _ = extracted.take(&from, &to, path);
    }
    for path in named(extra) {
        if let Err(why) = extracted.take(&from, &to, path.clone()) {
            extracted.refused.push((path, why));
        }
    }
    Ok((extracted != Extracted::default()).then_some(extracted))
}

/// Every path, relative to the tree's root, that [`extract`] would take.
pub fn paths(project_dirs: &[String], extra: &[String]) -> Vec<PathBuf> {
    known(project_dirs).chain(named(extra)).collect()
}

fn known(project_dirs: &[String]) -> impl Iterator<Item = PathBuf> {
    project_dirs.iter().flat_map(|dir| KEPT.map(|kept| plain(&Path::new(dir).join(kept))))
}

fn named(extra: &[String]) -> impl Iterator<Item = PathBuf> {
    extra.iter().map(|name| plain(Path::new(name)))
}

fn plain(path: &Path) -> PathBuf {
    path.components().filter(|part| part.as_os_str() != ".").collect()
}

impl Extracted {
    fn take(&mut self, from: &Dir, to: &Dir, path: PathBuf) -> Result<(), String> {
        if path.as_os_str().is_empty() || path.starts_with(".git") {
            return Err("this is not a cache".to_owned());
        }
        let kind = match from.kind(&path) {
            Err(error) if error.is_not_found() => return Ok(()),
            answer => answer.map_err(|error| error.to_string())?,
        };
        // An overlay's whiteout is a device: that a cache was removed is part of what the build left.
        if kind == Kind::Link {
            return Err("a link: only folders and files are kept".to_owned());
        }
        let moved = || {
            if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                to.make_dir(parent)?;
            }
            from.rename_into(&path, to)
        };
        moved().map_err(|error: TreeError| error.to_string())?;
        self.paths.push(path);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn file(root: &Path, path: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        fs::write(path, "kept").expect("a file");
    }

    #[test]
    fn known_and_named_folders_move_and_the_rest_stays() {
        let dir = tempfile::tempdir().expect("a folder");
        let (upper, into) = (dir.path().join("upper"), dir.path().join("into"));
        for path in ["node_modules/.cache/a/b", "node_modules/x/index.js", "web/.next/cache/c", "web/.next/d", "mine/e"]
        {
            file(&upper, path);
        }
        file(&upper, ".eslintcache");
        let dirs = [".".to_owned(), "web".to_owned(), "not/there".to_owned()];
        let extracted = extract(&upper, &dirs, &["./mine/".to_owned(), "absent".to_owned()], &into).expect("readable");
        let extracted = extracted.expect("there is something");
        let expected = ["node_modules/.cache", ".eslintcache", "web/.next/cache", "mine"];
        assert_eq!(extracted.paths, expected.map(PathBuf::from));
        assert_eq!(extracted.refused, []);
        for moved in ["node_modules/.cache/a/b", "web/.next/cache/c", "mine/e", ".eslintcache"] {
            assert!(into.join(moved).is_file() && !upper.join(moved).exists(), "{moved}");
        }
        for left in ["node_modules/x/index.js", "web/.next/d"] {
            assert!(upper.join(left).is_file(), "{left}");
        }
    }

    #[test]
    fn nothing_leaves_by_a_link_and_the_reader_learns_of_what_he_named() {
        let dir = tempfile::tempdir().expect("a folder");
        let (upper, precious) = (dir.path().join("upper"), dir.path().join("precious"));
        file(&precious, ".cache/mine");
        file(&precious, "cache/mine");
        fs::create_dir(&upper).expect("a folder");
        std::os::unix::fs::symlink(&precious, upper.join("node_modules")).expect("a link");
        std::os::unix::fs::symlink(&precious, upper.join("named")).expect("a link");
        let extra = ["named", "named/cache", "../precious", "/etc", ".git/hooks", "."].map(str::to_owned);
        let extracted = extract(&upper, &[".".to_owned()], &extra, &dir.path().join("into")).expect("readable");
        let extracted = extracted.expect("refusals");
        assert_eq!(extracted.paths, [] as [PathBuf; 0]);
        assert_eq!(extracted.refused.len(), extra.len(), "{extracted:?}");
        assert!(precious.join(".cache/mine").exists() && precious.join("cache/mine").exists());
        assert_eq!(extract(&upper, &[".".to_owned()], &[], &dir.path().join("into")).expect("readable"), None);
    }
}

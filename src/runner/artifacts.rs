//! Keeps what a build wrote and its repository file asks for.
//!
//! The steps have ended when this runs, and nothing of theirs is running any more. The tree is still theirs: it is read
//! through [`tree`], no link in it is followed, and what is no regular file is left out.

use std::io;
use std::path::Path;

use super::Parts;
use crate::blobs::Artifacts;
use crate::config::repo_file::{self, Keep};
use crate::domain::build::BuildId;
use crate::domain::outcome::Outcome;
use crate::domain::sentence::size;
use crate::tree::{self, Dir, Kind, TreeError, Visit};

/// The most files of one build. A whole `node_modules` that was named by mistake has more.
const MAX_FILES: usize = 20_000;
/// The most bytes of one build.
const MAX_BYTES: u64 = 1 << 30;

/// Globs over the paths of a tree; what matches a folder takes all that is in it.
pub(super) struct Chosen<'a>(pub(super) &'a [String]);

impl Chosen<'_> {
    /// Whether the file is asked for, itself or with a folder above it.
    pub(super) fn takes(&self, path: &str) -> bool {
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        ends.into_iter().any(|end| self.0.iter().any(|glob| fast_glob::glob_match(glob, &path[..end])))
    }

    /// Whether something in the folder may be asked for. Spares a walk through what nobody meant: only a glob that
    /// names `node_modules` looks into one.
    pub(super) fn may_be_in(&self, folder: &str) -> bool {
        self.takes(folder) || self.0.iter().any(|glob| leads_into(glob, folder))
    }
}

fn leads_into(glob: &str, folder: &str) -> bool {
    let mut wanted = glob.split('/');
    for name in folder.split('/') {
        match wanted.next() {
            Some("**") => return !["node_modules", "bower_components", ".git"].contains(&name),
            // Braces may hold slashes, and then the parts of the glob are not those of the path.
            Some(part) if part.contains(['{', '}']) => return true,
            Some(part) if fast_glob::glob_match(part, name) => {}
            _ => return false,
        }
    }
    wanted.next().is_some()
}

/// A file to be kept.
struct Found {
    path: String,
    bytes: u64,
}

/// What is to be kept, and what of it is left out.
#[derive(Default)]
struct Selection {
    files: Vec<Found>,
    bytes: u64,
    /// A bound was reached.
    is_cut: bool,
    /// Links, pipes, sockets and devices that were asked for.
    special: usize,
    /// Files whose names are no text.
    nameless: usize,
}

fn select(root: &Path, asked: &[String]) -> Result<Selection, TreeError> {
    let chosen = Chosen(asked);
    let mut selection = Selection::default();
    tree::walk(root, |entry| {
        let Some(path) = entry.path.to_str() else {
            selection.nameless += usize::from(entry.kind == Kind::File);
            return Visit::Skip;
        };
        match entry.kind {
            Kind::Dir if chosen.may_be_in(path) => return Visit::Continue,
            Kind::Dir => return Visit::Skip,
            _ if !chosen.takes(path) => {}
            Kind::File if selection.files.len() >= MAX_FILES || selection.bytes + entry.size > MAX_BYTES => {
                selection.is_cut = true;
            }
            Kind::File => {
                selection.bytes += entry.size;
                selection.files.push(Found { path: path.to_owned(), bytes: entry.size });
            }
            Kind::Link => selection.special += 1,
            // overlayfs writes a device in the place of what a build removed.
            Kind::Other => {}
        }
        Visit::Continue
    })?;
    selection.files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    Ok(selection)
}

impl Selection {
    /// What a person should know of it.
    fn notices(&self, asked: &[String]) -> Vec<String> {
        let mut notices = Vec::new();
        for glob in asked {
            let only = Chosen(std::slice::from_ref(glob));
            if !self.is_cut && !self.files.iter().any(|file| only.takes(&file.path)) {
                notices.push(format!("[artifacts] {glob:?} matches nothing that this build wrote"));
            }
        }
        if self.is_cut {
            notices.push(format!(
                "[artifacts]: only {} files, {} are kept of what is asked for (at most {MAX_FILES} files, {} a build): name less",
                self.files.len(),
                size(self.bytes),
                size(MAX_BYTES),
            ));
        }
        if self.special > 0 {
            notices.push(format!("[artifacts]: {} links are not kept: they are not followed", self.special));
        }
        if self.nameless > 0 {
            notices.push(format!("[artifacts]: {} files are not kept: their names are not UTF-8", self.nameless));
        }
        notices
    }
}

/// Forgets what an earlier try of this build kept: the build is begun anew.
pub(super) async fn forget(parts: &Parts, build: BuildId) {
    let Some(artifacts) = parts.artifacts.clone() else { return };
    let removed = tokio::task::spawn_blocking(move || artifacts.remove(build)).await;
    if let Ok(Err(error)) = removed {
        tracing::warn!(build = build.0, %error, "artifacts of an earlier try could not be removed");
    }
}

/// Keeps what `asked` names of the tree at `root`; answers with what people should know. It never fails a build.
pub(super) async fn keep(
    parts: &Parts,
    build: BuildId,
    root: &Path,
    asked: &repo_file::Artifacts,
    outcome: Outcome,
) -> Vec<String> {
    let wanted = match asked.when {
        Keep::Passed => outcome == Outcome::Passed,
        Keep::Always => outcome != Outcome::Cancelled,
    };
    if asked.paths.is_empty() || !wanted {
        return Vec::new();
    }
    let (artifacts, root, paths) = (parts.artifacts.clone(), root.to_owned(), asked.paths.clone());
    let kept = tokio::task::spawn_blocking(move || collect(artifacts.as_ref(), build, &root, &paths)).await;
    match kept.map_err(io::Error::other).and_then(|kept| kept) {
        Ok(notices) => notices,
        Err(error) => {
            tracing::warn!(build = build.0, %error, "artifacts could not be kept");
            vec![format!("[artifacts] could not be kept: {error}")]
        }
    }
}

fn collect(artifacts: Option<&Artifacts>, build: BuildId, root: &Path, asked: &[String]) -> io::Result<Vec<String>> {
    let selection = select(root, asked).map_err(io::Error::other)?;
    let mut notices = selection.notices(asked);
    let Some(artifacts) = artifacts else {
        let (files, bytes) = (selection.files.len(), size(selection.bytes));
        notices.push(format!("[artifacts]: {files} files, {bytes}; the server keeps them, `hookmill run` does not"));
        return Ok(notices);
    };
    if selection.files.is_empty() {
        return Ok(notices);
    }
    let top = Dir::open(root).map_err(io::Error::other)?;
    let mut filling = artifacts.fill(build)?;
    for Found { path, bytes } in selection.files {
        match top.open_file(Path::new(&path)) {
            Ok(content) => {
                filling.add(path, content, bytes)?;
            }
            Err(error) => notices.push(format!("[artifacts] {error}")),
        }
    }
    filling.finish()?;
    Ok(notices)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_take_files_and_whole_folders() {
        let check = |glob: &str, path: &str, expected: bool| {
            assert_eq!(Chosen(&[glob.to_owned()]).takes(path), expected, "{glob} {path}");
        };
        check("dist", "dist", true);
        check("dist", "dist/a/b.js", true);
        check("dist", "distant/a", false);
        check("dist/*.js", "dist/a.js", true);
        check("dist/*.js", "dist/a/b.js", false);
        check("dist/*", "dist/a/b.js", true);
        check("**/*.html", "a/b/c.html", true);
        check("packages/*/dist", "packages/a/dist/x", true);
        check("packages/*/dist", "packages/a/src/x", false);
        check("{dist,build}/x", "build/x/y", true);
    }

    #[test]
    fn only_folders_that_may_hold_something_are_walked() {
        let check = |glob: &str, folder: &str, expected: bool| {
            assert_eq!(Chosen(&[glob.to_owned()]).may_be_in(folder), expected, "{glob} {folder}");
        };
        check("dist", "dist", true);
        check("dist", "dist/a", true);
        check("dist", "node_modules", false);
        check("packages/*/dist", "packages", true);
        check("packages/*/dist", "packages/a", true);
        check("packages/*/dist", "packages/a/src", false);
        check("**/report.xml", "a", true);
        check("**/report.xml", "node_modules", false);
        check("node_modules/.cache", "node_modules", true);
        check("node_modules/.cache", "node_modules/react", false);
        check("{a/b,c}/d", "a", true);
    }

    #[test]
    fn links_and_what_was_removed_are_left_out() {
        let root = tempfile::tempdir().expect("a folder");
        std::fs::create_dir_all(root.path().join("dist/a")).expect("a folder");
        std::fs::write(root.path().join("dist/a/one.js"), "1").expect("a file");
        std::os::unix::fs::symlink("/etc/passwd", root.path().join("dist/passwd")).expect("a link");
        std::os::unix::fs::symlink("/etc", root.path().join("out")).expect("a link");
        let asked = ["dist".to_owned(), "out".to_owned(), "gone".to_owned()];
        let selection = select(root.path(), &asked).expect("readable");
        assert_eq!(selection.files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(), ["dist/a/one.js"]);
        assert_eq!((selection.bytes, selection.special), (1, 2));
        let notices = selection.notices(&asked).join("\n");
        assert!(notices.contains("\"gone\" matches nothing") && notices.contains("2 links"), "{notices}");
    }
}

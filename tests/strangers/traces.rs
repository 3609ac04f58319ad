//! What a build that was refused may leave on the agent's disk: nothing that anybody has to clear.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::support::forge::{LOOK_AGAIN, PATIENCE};
use crate::support::server::Server;

/// Waits until nothing is left: no file in a workspace, no build's own folder, no rubbish, and no half of anything in a
/// mirror.
#[track_caller]
pub(crate) fn nothing_is_left(server: &Server) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let left = left(&server.data());
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < deadline, "left behind: {left:#?}");
        std::thread::sleep(LOOK_AGAIN);
    }
}

fn left(data: &Path) -> Vec<PathBuf> {
    let mut left = Vec::new();
    walk(&data.join("trash"), &mut |path| left.push(path.to_owned()));
    walk(&data.join("slots"), &mut |path| {
        let inside = |name: &str| path.components().any(|part| part.as_os_str() == name);
        if inside("src") || inside("trash") && !path.ends_with("trash") || inside("builds") && !path.ends_with("builds")
        {
            left.push(path.to_owned());
        }
    });
    walk(&data.join("mirrors"), &mut |path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // The lock of a mirror lies beside it, and stays.
        let is_lock = name.ends_with(".lock") && path.parent() != Some(&data.join("mirrors"));
        if is_lock || name.starts_with("tmp_") || name.contains("_git2_") {
            left.push(path.to_owned());
        }
    });
    left
}

fn walk(folder: &Path, seen: &mut impl FnMut(&Path)) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        seen(&entry.path());
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), seen);
        }
    }
}

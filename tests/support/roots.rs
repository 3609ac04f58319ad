//! A root file system made of what this machine has: a few programs, what they are loaded with, node and npm, and a
//! program that this machine has not.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// What package scripts and these tests start.
const PROGRAMS: [&str; 13] =
    ["sh", "env", "cat", "chmod", "cp", "find", "id", "ls", "mkdir", "rm", "stat", "uname", "node"];

/// Prints [`ONLY_HERE_SAYS`], and is on no machine.
pub(crate) const ONLY_HERE: &str = "only-in-the-root";
pub(crate) const ONLY_HERE_SAYS: &str = "this is another root";

/// A root with node and npm. Its links are absolute, so that nobody follows them from outside by luck.
pub(crate) fn with_node() -> TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    let root = dir.path();
    for folder in ["etc", "opt", "root", "usr/bin", "var/lib"] {
        fs::create_dir_all(root.join(folder)).expect("a folder");
    }
    symlink("/usr/bin", root.join("bin")).expect("a link");
    let mut libraries = BTreeSet::new();
    for program in PROGRAMS {
        let found = on_path(program);
        libraries.extend(loaded_with(&found));
        copy(&found, &root.join("usr/bin").join(program));
    }
    for library in libraries {
        copy(&library, &inside(root, &library));
    }
    let npm = on_path("npm").canonicalize().expect("it is there");
    let package = npm.parent().and_then(Path::parent).expect("npm/bin/npm-cli.js");
    let copied = Command::new("cp").arg("-rL").arg(package).arg(root.join("opt/npm")).status().expect("cp runs");
    assert!(copied.success());
    for program in ["npm", "npx"] {
        let link = root.join("usr/bin").join(program);
        symlink(format!("/opt/npm/bin/{program}-cli.js"), link).expect("a link");
    }
    script(root, ONLY_HERE, &format!("echo {ONLY_HERE_SAYS}"));
    fs::write(root.join("etc/os-release"), "ID=test\nPRETTY_NAME=\"Test Root 1\"\n").expect("a file");
    fs::write(root.join("root/letter"), "of the root's own\n").expect("a file");
    fs::set_permissions(root, fs::Permissions::from_mode(0o755)).expect("set");
    dir
}

/// Adds a program to a root.
pub(crate) fn script(root: &Path, name: &str, script: &str) {
    let program = root.join("usr/bin").join(name);
    fs::write(&program, format!("#!/bin/sh\n{script}\n")).expect("a file");
    fs::set_permissions(program, fs::Permissions::from_mode(0o755)).expect("set");
}

fn on_path(program: &str) -> PathBuf {
    let searched = std::env::var_os("PATH").expect("set");
    let found = std::env::split_paths(&searched).map(|dir| dir.join(program)).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("{program} is not on PATH"))
}

/// The libraries that a program names, the loader among them, as ldd(1) tells.
fn loaded_with(program: &Path) -> Vec<PathBuf> {
    let told = Command::new("ldd").arg(program).output().expect("ldd runs");
    let text = String::from_utf8_lossy(&told.stdout).into_owned();
    let paths = text.split_whitespace().filter(|word| word.starts_with('/'));
    paths.map(|path| PathBuf::from(path.trim_end_matches(':'))).collect()
}

fn inside(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").expect("absolute"))
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
    fs::copy(from, to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
}

//! What tells one root file system from another, and from itself after a change.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::TOOLS;
use super::search::STANDARD;
use crate::config::root::Root;

/// Folders whose time changes with what is installed or removed, and what package managers write down of it.
const TELLING: [&str; 31] = [
    "/",
    "/bin",
    "/etc",
    "/etc/alternatives",
    "/etc/ld.so.cache",
    "/lib",
    "/lib/apk/db/installed",
    "/lib64",
    "/nix/store",
    "/opt",
    "/sbin",
    "/usr",
    "/usr/bin",
    "/usr/include",
    "/usr/lib",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib/apk/db/installed",
    "/usr/lib/node_modules",
    "/usr/lib/sysimage/rpm/rpmdb.sqlite",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib64",
    "/usr/local",
    "/usr/local/bin",
    "/usr/local/include",
    "/usr/local/lib",
    "/usr/local/lib/node_modules",
    "/usr/sbin",
    "/usr/share",
    "/var/lib/dpkg/status",
    "/var/lib/pacman/local",
    "/var/lib/rpm/rpmdb.sqlite",
];

/// What native modules are compiled by and for.
const COMPILERS: [&str; 9] = ["cc", "c++", "gcc", "g++", "clang", "make", "python3", "python", "sh"];

/// A text that changes when the root does: its path, the system that it says it is, and a digest of the times of
/// its folders, of the lists of its package managers, and of its programs that builds use. It takes some hundred looks at
/// files and reads none: a file that is written in place, deeper than these, is not noticed.
pub fn identity(root: &Root) -> String {
    let mut seen = String::new();
    let mut look = |path: &Path| {
        let Ok(real) = root.resolve(path) else { return };
        let Ok(data) = fs::symlink_metadata(root.on_host(&real)) else { return };
        let size = if data.is_dir() { 0 } else { data.len() };
        let modified = data.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        // Writing to a String can't fail.
        let _ = writeln!(seen, "{} {} {size} {modified:?}", path.display(), real.display());
    };
    TELLING.iter().for_each(|path| look(Path::new(path)));
    for folder in STANDARD {
        TOOLS.iter().chain(&COMPILERS).for_each(|program| look(&Path::new(folder).join(program)));
    }
    let digest = Sha256::digest(seen.as_bytes());
    let digest: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let system = root.system().unwrap_or_default();
    [root.dir().to_string_lossy().into_owned(), system, digest].join(" ")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_change_is_another_root() {
        let dir = tempfile::tempdir().expect("a folder");
        let program = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            fs::write(&path, text).expect("a file");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("set");
        };
        program("bin/sh", "");
        program("usr/bin/env", "");
        program("usr/bin/node", "18");
        let root = Root::open(dir.path().to_owned()).expect("a root");
        let first = identity(&root);
        assert_eq!(identity(&root), first, "nothing changed");
        assert!(first.starts_with(&dir.path().display().to_string()), "{first}");
        program("usr/bin/node", "20.1");
        let second = identity(&root);
        assert_ne!(second, first, "a program written in place");
        program("usr/bin/new", "");
        assert_ne!(identity(&root), second, "a program came");
    }
}

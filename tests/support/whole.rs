//! Packages of the real registry, made into one tarball each with all that they need in it, so that a registry on
//! loopback can serve webpack: to every manager it is a package without dependencies.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::registry::Package;

/// What nothing needs at run time, which is half of the files.
const LEFT_OUT: [&str; 8] = [".d.ts", ".d.mts", ".d.cts", ".map", ".md", ".flow", "LICENSE", "package-lock.json"];
/// The same, of whole folders.
const FOLDERS_LEFT_OUT: [&str; 3] = [".bin", "features", "regions"];

/// A package with its dependencies in it. It is fetched once for all tests, by the npm of this machine; root has to do it
/// for those of an ordinary user.
pub(crate) fn whole(name: &str, version: &str) -> Package {
    let modules = fetched(&format!("{name}@{version}")).join("node_modules");
    let mut manifest: Value =
        serde_json::from_slice(&fs::read(modules.join(name).join("package.json")).expect("installed")).expect("JSON");
    let version = manifest["version"].as_str().expect("a version").to_owned();
    let mut package = Package::new(name, &version);
    for key in ["main", "bin", "exports", "engines"] {
        if !manifest[key].is_null() {
            package = package.field(key, manifest[key].take());
        }
    }
    // Thousands of files are read and made small once, and not by every test.
    let tarball = modules.with_file_name("package.tgz");
    if let Ok(made) = fs::read(&tarball) {
        return package.packed(made);
    }
    let mut files = Vec::new();
    walk(&modules, &mut files);
    for file in files {
        let inside = file.strip_prefix(&modules).expect("below");
        let (place, own) = match inside.strip_prefix(name) {
            Ok(own) => (own.to_owned(), true),
            Err(_) => (Path::new("node_modules").join(inside), false),
        };
        if !(own && place == Path::new("package.json")) {
            package = package.bytes(place.to_str().expect("UTF-8"), fs::read(&file).expect("installed"));
        }
    }
    let made = package.tarball();
    // Who may not write there is an ordinary user in a test of root's.
    if let Ok(mut staging) = tempfile::NamedTempFile::new_in(modules.parent().expect("it has one")) {
        staging.write_all(&made).expect("written");
        staging.as_file().set_permissions(fs::Permissions::from_mode(0o644)).expect("ours");
        staging.persist(&tarball).expect("renamed");
    }
    package.packed(made)
}

/// A folder with the package installed in it.
fn fetched(package: &str) -> PathBuf {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("whole-{}", package.replace('/', "-")));
    // Nobody but who made it can lock it; it came by a rename, and is whole.
    if home.exists() {
        return home;
    }
    // The lock is given back with the file, also when another test's process is killed.
    let lock = File::create(home.with_added_extension("lock")).expect("a lock");
    lock.lock().expect("locked");
    if !home.exists() {
        let staging = home.with_added_extension("new");
        let _ = fs::remove_dir_all(&staging);
        fs::create_dir_all(&staging).expect("a folder");
        let installed = Command::new("npm")
            .args(["install", "--ignore-scripts", "--legacy-peer-deps", "--no-audit", "--no-fund", "--prefix"])
            .arg(&staging)
            .arg(package)
            .stdin(Stdio::null())
            .output()
            .expect("npm is installed");
        assert!(installed.status.success(), "{package}: {}", String::from_utf8_lossy(&installed.stderr));
        fs::rename(&staging, &home).expect("renamed");
    }
    home
}

fn walk(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a folder") {
        let entry = entry.expect("readable");
        let name = entry.file_name().into_string().expect("UTF-8");
        if entry.file_type().expect("known").is_dir() {
            if !FOLDERS_LEFT_OUT.contains(&name.as_str()) {
                walk(&entry.path(), files);
            }
        } else if !LEFT_OUT.iter().any(|end| name.ends_with(end)) && name != ".package-lock.json" {
            files.push(entry.path());
        }
    }
}

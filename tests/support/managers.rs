//! Real package managers beside npm, each on a `PATH` of its own, installed once for all tests by the npm of this machine.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

/// The command, the package that brings it, and the program in the package.
const MANAGERS: [(&str, &str, &str, &str); 10] = [
    ("npm6", "npm", "npm@6.14.18", "npm/bin/npm-cli.js"),
    ("npm8", "npm", "npm@8.19.4", "npm/bin/npm-cli.js"),
    ("npm10", "npm", "npm@10.9.9", "npm/bin/npm-cli.js"),
    ("pnpm8", "pnpm", "pnpm@8.15.9", "pnpm/bin/pnpm.cjs"),
    ("pnpm12", "pnpm", "pnpm@12.21.0", "pnpm/pnpm"),
    ("yarn1", "yarn", "yarn@1.22.22", "yarn/bin/yarn.js"),
    ("berry", "yarn", "@yarnpkg/cli-dist@4.9.2", "@yarnpkg/cli-dist/bin/yarn.js"),
    ("pnpm", "pnpm", "pnpm@10.12.1", "pnpm/bin/pnpm.cjs"),
    ("bower", "bower", "bower@1.8.14", "bower/bin/bower"),
    ("bun", "bun", "@oven/bun-linux-x64@1.2.18", "@oven/bun-linux-x64/bin/bun"),
];

/// This process's `PATH` with a manager first; `npm` is this machine's.
pub(crate) fn path_with(manager: &str) -> String {
    let path = std::env::var("PATH").expect("set");
    let Some((name, command, package, program)) = MANAGERS.into_iter().find(|known| known.0 == manager) else {
        return path;
    };
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join(package.replace('/', "-"));
    let path = format!("{}:{path}", home.join("bin").display());
    // Nobody but who made it can lock it; it came by a rename, and is whole.
    if home.exists() {
        return path;
    }
    // The lock is given back with the file, also when another test's process is killed.
    let lock = File::create(home.with_added_extension("lock")).expect("a lock");
    lock.lock().expect("locked");
    if !home.exists() {
        let staging = home.with_added_extension("new");
        let _ = fs::remove_dir_all(&staging);
        fs::create_dir_all(staging.join("bin")).expect("a folder");
        let installed = Command::new("npm")
            .args(["install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix"])
            .arg(&staging)
            .arg(package)
            .stdin(Stdio::null())
            .output()
            .expect("npm is installed");
        assert!(installed.status.success(), "{name}: {}", String::from_utf8_lossy(&installed.stderr));
        let link = staging.join("bin").join(command);
        std::os::unix::fs::symlink(Path::new("../node_modules").join(program), link).expect("a link");
        fs::rename(&staging, &home).expect("renamed");
    }
    path
}

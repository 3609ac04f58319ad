//! What a step can't do to the agent, to other builds and to the machine: real servers, hostile steps.
#![cfg(target_os = "linux")]

#[expect(dead_code, reason = "each file of tests asks for another part")]
#[path = "../support/forge.rs"]
mod forge;
#[expect(dead_code, reason = "each file of tests steers another part")]
#[path = "../support/git_http.rs"]
mod git_http;
#[expect(dead_code, reason = "each file of tests asks for another part")]
#[path = "../support/machine.rs"]
mod machine;
#[path = "../support/roots.rs"]
mod roots;
#[expect(dead_code, reason = "each file of tests asks for another part")]
#[path = "../support/runner.rs"]
mod runner;
#[expect(dead_code, reason = "each file of tests asks for another part")]
#[path = "../support/server.rs"]
mod server;

mod bounds;
mod policy;
mod reach;
mod root;

use std::process::Command;

/// A server without a bower of its own, which an ordinary user could not get for it.
fn plain() -> server::Settings {
    let path = std::env::var("PATH").expect("set");
    server::Settings { path: Some(path), ..server::Settings::default() }
}

/// Root's namespaces differ in detail from an ordinary user's, so all of this runs as one too.
#[test]
fn all_of_this_as_an_ordinary_user() {
    if !rustix::process::geteuid().is_root() {
        return;
    }
    let ordinary = || {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "54321", "--regid", "54321", "--clear-groups"]);
        command
    };
    let this = std::env::current_exe().expect("this test");
    let here = std::env::current_dir().expect("the package");
    for (what, kind) in [(this.as_path(), "-x"), (server::EXE.as_ref(), "-x"), (here.as_path(), "-r")] {
        if !ordinary().args(["test", kind]).arg(what).status().expect("setpriv runs").success() {
            eprintln!("NOT TRIED: an ordinary user can't use {}", what.display());
            return;
        }
    }
    let told = ordinary()
        .arg(&this)
        .args(["--skip", "as_an_ordinary_user", "--test-threads", "2"])
        .env_remove("TMPDIR")
        .env("HOME", "/nonexistent")
        .output()
        .expect("setpriv runs");
    let text = String::from_utf8_lossy(&told.stdout);
    assert!(told.status.success(), "{text}{}", String::from_utf8_lossy(&told.stderr));
}

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
#[path = "../support/ordinary.rs"]
mod ordinary;
#[path = "../support/roots.rs"]
mod roots;
#[expect(dead_code, reason = "each file of tests asks for another part")]
#[path = "../support/runner.rs"]
mod runner;
#[expect(dead_code, reason = "each file of tests asks for another part")]
#[path = "../support/server.rs"]
mod server;

mod bounds;
mod leftovers;
mod policy;
mod reach;
mod root;

/// A server without a bower of its own, which an ordinary user could not get for it.
fn plain() -> server::Settings {
    let path = std::env::var("PATH").expect("set");
    server::Settings { path: Some(path), ..server::Settings::default() }
}

/// Root's namespaces differ in detail from an ordinary user's, so all of this runs as one too.
#[test]
fn all_of_this_as_an_ordinary_user() {
    ordinary::again(&[]);
}

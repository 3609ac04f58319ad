//! What a step can't do to the agent, to other builds and to the machine: real servers, hostile steps.
#![cfg(target_os = "linux")]

mod bounds;
mod leftovers;
mod policy;
mod reach;
mod root;
use crate::support::{ordinary, server};

/// A server without a bower of its own, which an ordinary user could not get for it.
fn plain() -> server::Settings {
    let path = std::env::var("PATH").expect("set");
    server::Settings { path: Some(path), ..server::Settings::default() }
}

/// Root's namespaces differ in detail from an ordinary user's, so all of this runs as one too.
#[test]
fn all_of_this_as_an_ordinary_user() {
    ordinary::again_one_by_one(&["fence::"]);
}

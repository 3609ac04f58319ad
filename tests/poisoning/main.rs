//! Nobody's build changes what a build of another scope is made of.
//!
//! A build that means ill edits whatever it can write and whatever may be kept of it: what is installed, what package
//! managers and webpack keep for their next run, its HOME. Sizes and times stay. The next build of `main` must not see
//! it. Uses git, node, npm, and the registry that npm here is configured for.

#[expect(dead_code, reason = "each file of tests asks for another part")]
#[path = "../support/forge.rs"]
mod forge;
#[expect(dead_code, reason = "each file of tests steers another part")]
#[path = "../support/git_http.rs"]
mod git_http;
#[path = "../support/lockfiles.rs"]
mod lockfiles;
#[path = "../support/managers.rs"]
mod managers;
#[path = "../support/ordinary.rs"]
mod ordinary;
#[expect(dead_code, reason = "each file of tests asks for another part")]
#[path = "../support/registry.rs"]
mod registry;
#[expect(dead_code, reason = "each file of tests asks for another part")]
#[path = "../support/runner.rs"]
mod runner;
#[expect(dead_code, reason = "each file of tests asks for another part")]
#[path = "../support/server.rs"]
mod server;
#[path = "../support/whole.rs"]
mod whole;

mod damage;
mod forks;
mod links;
mod scopes;
mod shop;
mod trusts;

/// What is kept is taken out of namespaces and given into others, in which root is another one than who is not.
#[test]
fn what_is_kept_as_an_ordinary_user() {
    managers::path_with("yarn1");
    ordinary::again(&["forks::", "links::", "trusts::", "scopes::what_failed_or_was_cancelled_is_not_kept_by_yarn_1"]);
}

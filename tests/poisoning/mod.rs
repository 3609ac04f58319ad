//! Nobody's build changes what a build of another scope is made of.
//!
//! A build that means ill edits whatever it can write and whatever may be kept of it: what is installed, what package
//! managers and webpack keep for their next run, its HOME. Sizes and times stay. The next build of `main` must not see
//! it. Uses git, node, npm, and the registry that npm here is configured for.

mod damage;
mod forks;
mod links;
mod scopes;
pub(crate) mod shop;
mod trusts;
use crate::support::{managers, ordinary};

/// What is kept is taken out of namespaces and given into others, in which root is another one than who is not.
#[test]
fn what_is_kept_as_an_ordinary_user() {
    managers::path_with("yarn1");
    ordinary::again(&[
        "poisoning::forks::",
        "poisoning::links::",
        "poisoning::trusts::",
        "poisoning::scopes::what_failed_or_was_cancelled_is_not_kept_by_yarn_1",
    ]);
}

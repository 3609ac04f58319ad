//! Strangers' code against the running server: hostile repositories, hostile forges, and a program that looks for a way
//! out of every place where a repository's code runs. All of it as root and as an ordinary user.
//!
//! Which behaviour is proven where (`A…` as in the requirements; *child*: by the real child process, without a server):
//!
//! | | here, against the running server | and |
//! |---|---|---|
//! | A25 branches that look like commands | `trees::a_branch_is_a_name` | `push_to_status.rs`, `checkout/tree.rs` (child) |
//! | A26 `.git/config`, `..`, absolute paths | `trees::names_that_lead_elsewhere_fail_the_commit` | `checkout/hostile.rs` (child), `src/checkout/names.rs` |
//! | A27 `package.json` → `/etc/passwd` | `trees::links_out_show_nothing_and_reach_nothing` | `checkout/hostile.rs` (child), `poisoning/links.rs` |
//! | A28 `dist` → a folder of the host's | `trees::links_out_show_nothing_and_reach_nothing` | `artifacts.rs`, `checkout/hostile.rs` (child) |
//! | A29 submodules with commands and schemes | `trees::submodules_and_lfs_pointers_have_words` | `checkout/hostile.rs`, `checkout/parts.rs` (child) |
//! | A30 Git LFS pointers | `trees::submodules_and_lfs_pointers_have_words` | `checkout/parts.rs` (child) |
//! | A31 a redirect elsewhere | `forges::a_forge_that_misbehaves_is_left_and_nobody_else_gets_the_token` | `checkout/network.rs` (child) |
//! | A32 a bad certificate | `forges::a_forge_that_misbehaves_is_left_and_nobody_else_gets_the_token` | `checkout/network.rs` (child) |
//! | A33 a server that hangs, or drips | `forges::a_forge_that_misbehaves_is_left_and_nobody_else_gets_the_token` | `checkout/network.rs` (child) |
//! | A34 a commit that is gone | `forges::a_forge_that_misbehaves_is_left_and_nobody_else_gets_the_token` | `checkout/tree.rs` (child) |
//! | A35 no token in `.git`, processes, environment | `forges::the_token_is_in_nobodys_sight_during_and_after` | `push_to_status.rs` |
//! | A36 only the documented environment | `probe` (each way in) | `push_to_status.rs` |
//! | A42 what other repositories have | `others` | `fence/reach.rs`, `poisoning/` |
//! | bombs, depth, size, refs, differences | `bombs` | `checkout/hostile.rs` (child) |
//! | files, processes, sockets, devices, privileges | `probe` | `confine/` |
//!
//! What is proven elsewhere, against the running server and as both too:
//!
//! | | by |
//! |---|---|
//! | A19 which events of a pull request build what | `approval/requests.rs`, `src/intake/tests` |
//! | A37 the agent's memory, environment, descriptors | `secrets/reach.rs`, `fence/reach.rs` |
//! | A38, A40 what an install reaches | `network/installs.rs`, `network/elsewhere.rs` (a whole network) |
//! | A39 what a bundle reaches | `network/mod.rs`, `network/reported.rs` |
//! | A41 what a build wrote is gone | `fence/reach.rs` |
//! | A43, A44 processes and memory | `fence/bounds.rs` |
//! | A45, A46 daemons, deaf steps, a killed agent | `hanging_steps.rs`, `fence/leftovers.rs`, `confine/stories.rs` |
//! | A47, A83 a host without namespaces, `doctor` | `fence/policy.rs`, `cli/doctor.rs` |
//! | A48, A49 approval, a fork's own settings | `approval/stranger.rs`, `approval/lapses.rs` |
//! | A50, A51 what is kept, of whom, for whom | `poisoning/trusts.rs`, `poisoning/scopes.rs` |

mod bombs;
mod forges;
mod memory;
mod objects;
mod others;
mod probe;
mod traces;
mod trees;

use objects::Id;

use crate::support::forge::{Moved, Repo};
use crate::support::ordinary;
use crate::support::server::{Server, Settings};

/// A commit id that stands for none.
const NOTHING: &str = "0000000000000000000000000000000000000000";

/// A server without bower, which nothing here needs: an ordinary user can't install it where the tests keep theirs.
fn settings() -> Settings {
    Settings { slots: 4, path: std::env::var("PATH").ok(), ..Settings::default() }
}

/// Lets a branch of the forge stand at a commit that was written by hand, and delivers that; the build.
fn pushed(server: &Server, repo: &Repo, branch: &str, commit: Id) -> i64 {
    let after = hex::encode(commit);
    let git_ref = format!("refs/heads/{branch}");
    let file = repo.bare.join(&git_ref);
    std::fs::create_dir_all(file.parent().expect("inside")).expect("a folder");
    std::fs::write(file, format!("{after}\n")).expect("a ref");
    let moved =
        Moved { git_ref, before: NOTHING.to_owned(), after, forced: false, message: "A friendly change".into() };
    server.deliver(&repo.pushed(&moved)).build()
}

/// root may do what others may not, and others may not do what root may: both have to be safe.
#[test]
fn all_of_this_as_an_ordinary_user() {
    ordinary::again(&["strangers::"]);
}

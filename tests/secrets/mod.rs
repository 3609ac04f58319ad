//! What a build may know and what is shown of it: `[[repo.secret]]`, what is hidden in logs, and what is in no build's reach.

mod given;
mod reach;
mod scripts;
mod traces;
use crate::support::{managers, ordinary, server};

/// What others may look at of a process, and of its files, goes by who they are.
#[test]
fn what_is_secret_as_an_ordinary_user() {
    server::path_with_bower();
    ordinary::again(&["secrets::reach::"]);
}

/// Who keeps a secret is not who runs a step with it, and for root neither is the same user.
#[test]
fn what_is_given_as_an_ordinary_user() {
    server::path_with_bower();
    ordinary::again(&["secrets::given::"]);
}

/// Managers do otherwise with scripts for root than for others.
#[test]
fn which_scripts_run_as_an_ordinary_user() {
    for manager in scripts::MANAGERS {
        managers::path_with(manager);
    }
    server::path_with_bower();
    ordinary::again(&["secrets::scripts::"]);
}

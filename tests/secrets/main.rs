//! What a build may know and what is shown of it: `[[repo.secret]]`, what is hidden in logs, and what is in no build's reach.

#[expect(dead_code, reason = "each file of tests asks for another part")]
#[path = "../support/events.rs"]
mod events;
#[expect(dead_code, reason = "each file of tests asks for another part")]
#[path = "../support/forge.rs"]
mod forge;
#[expect(dead_code, reason = "each file of tests steers another part")]
#[path = "../support/git_http.rs"]
mod git_http;
#[path = "../support/managers.rs"]
mod managers;
#[path = "../support/ordinary.rs"]
mod ordinary;
#[expect(dead_code, reason = "each file of tests asks for another part")]
#[path = "../support/postgres.rs"]
mod postgres;
#[expect(dead_code, reason = "each file of tests asks for another part")]
#[path = "../support/registry.rs"]
mod registry;
#[expect(dead_code, reason = "each file of tests asks for another part")]
#[path = "../support/server.rs"]
mod server;

mod given;
mod reach;
mod scripts;
mod traces;

/// What others may look at of a process, and of its files, goes by who they are.
#[test]
fn what_is_secret_as_an_ordinary_user() {
    server::path_with_bower();
    ordinary::again(&["reach::"]);
}

/// Who keeps a secret is not who runs a step with it, and for root neither is the same user.
#[test]
fn what_is_given_as_an_ordinary_user() {
    server::path_with_bower();
    ordinary::again(&["given::"]);
}

/// Managers do otherwise with scripts for root than for others.
#[test]
fn which_scripts_run_as_an_ordinary_user() {
    for manager in scripts::MANAGERS {
        managers::path_with(manager);
    }
    server::path_with_bower();
    ordinary::again(&["scripts::"]);
}

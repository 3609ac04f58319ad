//! A stranger's pull request, from the wait for a maintainer's word to its end, against the running server.
//!
//! Uses git, node, npm, bower, webpack, and the registry that npm here is configured for.

mod lapses;
mod requests;
mod stranger;

use std::process::{Command, Output};

use serde_json::Value;

use crate::support::forge::{Moved, Repo};
use crate::support::server::{ADMIN, EXE, Server};
use crate::support::{ordinary, server, whole};

/// The sentence that design and forge know.
fn waits_for_a_maintainer(sha: &str) -> String {
    format!("Waiting for a maintainer: first build of a fork's commit {} needs approval", &sha[..7])
}

/// `hookmill …` as the administrator.
fn hookmill(server: &Server, words: &[&str]) -> Output {
    Command::new(EXE)
        .args(words)
        .args(["--server", &server.url()])
        .env("HOOKMILL_TOKEN", ADMIN)
        .output()
        .expect("it ran")
}

/// What a change was refused with, by the API.
fn refusal(server: &Server, path: &str, body: &str) -> (u16, String) {
    let reply = server.post(path, body);
    (reply.code, reply.json()["error"]["code"].as_str().unwrap_or_default().to_owned())
}

fn approve(server: &Server, build: i64, body: &str) -> (u16, String) {
    refusal(server, &format!("/api/v1/builds/{build}/approve"), body)
}

/// What was done, the newest first, each with its build.
fn audit(server: &Server) -> Vec<Value> {
    let told = server.get_with("/api/v1/audit?limit=200", &[("authorization", &format!("Bearer {ADMIN}"))]).json();
    told["entries"].as_array().expect("a list").clone()
}

/// The names of the rules that moved a build.
fn rules(server: &Server, build: i64) -> Vec<String> {
    let told = server.get(&format!("/api/v1/builds/{build}/plan")).json();
    let lines = told["rulings"].as_array().expect("a list");
    lines.iter().map(|line| line["rule"].as_str().expect("a name").to_owned()).collect()
}

/// A commit of somebody's fork upon ours, where the forge shows it as the head of pull request 7.
fn pushed_to_the_fork(repo: &Repo, files: &[(&str, &str)]) -> Moved {
    let ours = repo.git(&["rev-parse", "HEAD"]);
    repo.write(files);
    repo.commit("a change of eve's");
    let moved = repo.push_head("refs/pull/7/head");
    // What is pushed next is no child of hers.
    repo.git(&["reset", "-q", "--hard", &ours]);
    moved
}

#[test]
fn all_of_this_as_an_ordinary_user() {
    for (name, version) in [("webpack", "5"), ("webpack-cli", "6")] {
        whole::whole(name, version);
    }
    server::path_with_bower();
    ordinary::again(&["approval::"]);
}

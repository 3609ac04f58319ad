//! The words of the house: plain values that every floor shares.
//!
//! Nothing here knows tokio, axum, git2, SQL, a clock or a disk. A value that exists is a value
//! that was checked: names, refs and commit ids are parsed once, at the edge, and trusted after.

pub mod agent;
pub mod audit;
pub mod budget;
pub mod build;
pub mod cache_note;
pub mod cpus;
pub mod event;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod lease;
pub mod link;
pub mod listing;
pub mod lockfile;
pub mod log;
pub mod mask;
pub mod newcomers;
pub mod outbox;
pub mod outcome;
pub mod repo;
pub mod rule;
pub mod scripts;
pub mod sentence;
pub mod snapshot;
pub mod spec;
pub mod status;
pub mod step;
pub mod time;
pub mod trust;
pub mod view;
pub mod workspaces;

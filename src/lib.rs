//! Hookmill: a signed push becomes concurrent installs, a bundle and a commit status.

// words
pub mod config;
pub mod domain;

// ground: the machine
pub mod confine;
pub mod process;

// abilities
pub mod forge;
pub mod plan;
pub mod store;

// flow
pub mod intake;
pub mod runner;

// doors
pub mod cli;
pub mod inside;
pub mod web;

// the join
pub mod telemetry;

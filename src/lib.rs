//! Hookmill: a signed push becomes concurrent installs, a bundle and a commit status.

// words
pub mod config;
pub mod domain;

// abilities
pub mod plan;
pub mod toolchain;

// flow
pub mod runner;

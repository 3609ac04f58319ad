//! Hookmill: a signed push becomes concurrent installs, a bundle and a commit status.

// words
pub mod config;
pub mod domain;

// abilities
pub mod blobs;
pub mod live;

// flow
pub mod runner;

// doors
pub mod web;

//! Hookmill: a signed push becomes concurrent installs, a bundle and a commit status.

// words
pub mod config;
pub mod domain;

// ground: the machine
pub mod tree;

// abilities
pub mod checkout;

// doors
pub mod inside;

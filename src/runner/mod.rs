//! Runs builds, and lets others watch.

pub mod follow;

//! The repositories that teams have, built as they are: nothing in them is ours, and nothing is set by hand.
//!
//! Each row is a small repository under `tests/data/repositories`. Where the plan is the whole question,
//! `hookmill run --explain` answers it; where a tool has to prove itself, it is installed and run. Uses git,
//! node, npm, and the registry that npm here is configured for.

mod again;
mod bundlers;
mod components;
mod layouts;
mod lockfiles;
mod managers;
mod repository;
mod toolchains;

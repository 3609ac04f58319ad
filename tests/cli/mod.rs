//! Subcommands, as somebody runs them.

mod builds;
mod cache;
mod demo;
mod doctor;
mod run;

//! What the operator and the repository may say, read and checked.
//!
//! [`server`] holds the checked settings, one small struct for each consumer; [`repo_file`] is
//! `.hookmill.toml`; [`secret`] is a value that will not print; [`root`] is what steps may see instead of this machine; [`load`] reads the layers; a
//! [`problem`] is a fault with its place and its fix.

mod blocks;
mod data;
mod document;
pub mod fingerprint;
mod forges;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod hosts;
mod known;
mod limits;
pub mod load;
mod parts;
pub mod problem;
mod registries;
pub mod repo_file;
pub mod repo_on;
mod repo_reader;
mod repo_values;
pub mod root;
mod rules;
pub mod schema;
pub mod secret;
mod section;
pub mod server;
mod step_secrets;
mod store_url;
pub mod surroundings;
mod values;

//! What the operator and the repository may say, read and checked.
//!
//! [`server`] holds the checked settings, one small struct for each consumer; [`repo_file`] is
//! `.hookmill.toml`; [`secret`] is a value that will not print; [`load`] reads the layers.

pub mod load;
pub mod repo_file;
pub mod secret;
pub mod server;

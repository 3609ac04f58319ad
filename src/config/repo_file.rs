//! `.hookmill.toml`.

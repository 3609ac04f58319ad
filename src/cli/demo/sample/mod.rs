//! The sample: a front-end repository and the bower components it asks for, as trees of files.
//!
//! Everything is generated alike on every machine, so that two demos differ only in their ports.

mod components;
mod shop;

use std::collections::BTreeMap;

pub(super) use components::components;
pub(super) use shop::{Condition, shop};

/// A package of the sample's lockfile that is small to ask for, as `name@version`.
pub(super) const SMALL_PACKAGE: &str = "js-tokens@4.0.0";

/// The files of one commit, by their path with `/` between its parts.
pub(super) type Tree = BTreeMap<String, String>;

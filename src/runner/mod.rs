//! One build from its checkout to its verdict.

pub mod diagnosis;

//! Running a plan's steps.

pub mod diagnosis;
pub mod environment;

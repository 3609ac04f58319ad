//! The web's doors: they translate between HTTP and the flow, and decide nothing.

pub mod hook;
pub mod listener;

//! The fence on Linux: our side of it.

pub mod bubblewrap;
mod holder;
mod probe;
pub mod wire;

pub use holder::Holder;
pub use probe::probe;

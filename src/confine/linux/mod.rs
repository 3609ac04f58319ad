//! The fence on Linux: our side of it.

pub mod bubblewrap;
mod cgroup;
mod conversation;
mod holder;
pub mod launch;
mod probe;
mod visit;
pub mod wire;

pub use cgroup::{look as look_for_cgroup, take as take_cgroup};
pub use holder::Holder;
pub use probe::{probe, probe_bare};
pub use visit::Visit;

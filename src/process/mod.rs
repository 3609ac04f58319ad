//! A command in, events out.
//!
//! This folder starts a program, hands over what it prints and how it ends, and stops it by a
//! protocol: ask, keep draining, wait a grace, kill. It knows no npm and no namespace. Who else
//! starts programs (the holder of a build) gives its own [`Domain`] and gets the same [`Running`].

mod capture;
mod direct;
mod exit;
mod pipe;
mod running;

pub use capture::{LINE_MAX, Lines};
pub use direct::{Spawn, harden, spawn};
pub use exit::{Bound, Exit};
pub use pipe::output_pipe;
pub use running::{Domain, Event, Exiting, GRACE, Running};

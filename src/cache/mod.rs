//! What builds leave for the next ones, and by which keys it is found.

pub mod inputs;

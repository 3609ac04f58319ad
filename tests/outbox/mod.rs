//! The outbox under fire: whatever the forge does, each commit's last word is its newest verdict, nothing is asked before
//! its time, and what can't be said is shown.

mod flapping;
mod misbehaving;
mod sender;
mod taking;

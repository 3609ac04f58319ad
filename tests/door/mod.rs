//! Deliveries at the door: who may knock, what is read of them, what comes twice.

mod payloads;
mod redelivery;
mod signatures;

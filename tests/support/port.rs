//! A port for a program that is told its port.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU32, Ordering};

/// Below those that Linux gives to whoever asks for any (`net.ipv4.ip_local_port_range`, from 32768), and above those of
/// well-known services: between our look and the program's own, and while it is started again, no other program is given it.
const FIRST: u32 = 10_000;
const LAST: u32 = 32_000;
/// How many a process has before it takes those of the next one: tests run side by side, most of them in a process each.
const EACH: u32 = 16;

/// A port on which nobody listens, and which no other test of this machine is likely to be given for a while.
#[track_caller]
pub(crate) fn free() -> u16 {
    free_on("127.0.0.1")
}

/// The same of another address of ours.
#[track_caller]
pub(crate) fn free_on(host: &str) -> u16 {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let range = LAST - FIRST;
    let start = std::process::id().wrapping_mul(EACH) % range;
    for _ in 0..range {
        let port = FIRST + (start + TAKEN.fetch_add(1, Ordering::Relaxed)) % range;
        let port = u16::try_from(port).expect("below 32000");
        if TcpListener::bind((host, port)).is_ok() {
            return port;
        }
    }
    panic!("no port of {host} between {FIRST} and {LAST} is free");
}

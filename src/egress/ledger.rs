//! What went through a gate and what did not, host by host, as it happens.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Hosts that are told apart. A step that asks for more is up to something, and need not fill our memory with it.
const HOSTS: usize = 200;

/// What a step had to do with one host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Visit {
    /// `host:port`.
    pub host: String,
    /// Bytes in both directions.
    pub bytes: u64,
    /// Why it is closed; with bytes all the same where that is only reported.
    pub closed: Option<Closed>,
    /// Why it was not reached, although it is open: as node would say it (`ECONNREFUSED`), else in the system's words.
    pub away: Option<String>,
}

/// Why a host is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// It is not on the list.
    Unlisted,
    /// It is, and its name leads to this address, which no name opens.
    Private(IpAddr),
}

#[derive(Debug, Default)]
struct Entry {
    bytes: Arc<AtomicU64>,
    closed: Option<Closed>,
    away: Option<String>,
}

/// The account of one gate. Bytes are counted while they pass, since a step may end in the middle of a connection.
#[derive(Debug, Default)]
pub(super) struct Ledger(Mutex<BTreeMap<String, Entry>>);

impl Ledger {
    /// Where the bytes of a host are counted.
    pub(super) fn bytes(&self, host: &str) -> Arc<AtomicU64> {
        let mut counter = Arc::default();
        self.note(host, |entry| counter = Arc::clone(&entry.bytes));
        counter
    }

    pub(super) fn closed(&self, host: &str, why: Closed) {
        self.note(host, |entry| entry.closed = Some(why));
    }

    pub(super) fn away(&self, host: &str, why: &io::Error) {
        let word = match why.kind() {
            ErrorKind::ConnectionRefused if why.raw_os_error().is_some() => "ECONNREFUSED".to_owned(),
            ErrorKind::ConnectionReset => "ECONNRESET".to_owned(),
            ErrorKind::TimedOut => "ETIMEDOUT".to_owned(),
            ErrorKind::HostUnreachable => "EHOSTUNREACH".to_owned(),
            ErrorKind::NetworkUnreachable => "ENETUNREACH".to_owned(),
            _ if why.to_string().starts_with("failed to lookup address") => "ENOTFOUND".to_owned(),
            _ => why.to_string(),
        };
        self.note(host, |entry| entry.away = Some(word));
    }

    fn note(&self, host: &str, note: impl FnOnce(&mut Entry)) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.len() < HOSTS || entries.contains_key(host) {
            note(entries.entry(host.to_owned()).or_default());
        }
    }

    /// All of it, by host.
    pub(super) fn visits(&self) -> Vec<Visit> {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let visit = |(host, entry): (&String, &Entry)| Visit {
            host: host.clone(),
            bytes: entry.bytes.load(Ordering::Relaxed),
            closed: entry.closed,
            away: entry.away.clone(),
        };
        entries.iter().map(visit).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_asks_for_everything_fills_no_memory() {
        let ledger = Ledger::default();
        for number in 0..10 * HOSTS {
            ledger.closed(&format!("{number}.example:443"), Closed::Unlisted);
        }
        ledger.bytes("0.example:443").fetch_add(7, Ordering::Relaxed);
        let visits = ledger.visits();
        assert_eq!((visits.len(), visits[0].bytes, visits[0].closed), (HOSTS, 7, Some(Closed::Unlisted)));
    }
}

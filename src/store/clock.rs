//! Two readings of time: the wall clock for what is shown, a steady one for deadlines.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use crate::domain::time::Timestamp;

/// Where the wall clock's time comes from.
#[derive(Clone)]
pub struct WallClock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl WallClock {
    /// A clock of one's own, for tests that turn it.
    pub fn new(read: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }
}

impl Default for WallClock {
    fn default() -> Self {
        Self::new(|| SystemTime::now().into())
    }
}

impl std::fmt::Debug for WallClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("WallClock(…)")
    }
}

/// The store's time.
///
/// Leases and retries are stored as points of the *steady* time: the wall clock's reading when the store was opened
/// plus what a monotonic clock counted since. When somebody turns the wall clock by a day, no lease is lost and
/// no status is late. Points written by an earlier process are compared across whatever the wall clock did between the
/// two; for leases that does not matter, because a start recovers every claim at once (the process lock proves
/// that nobody else holds one), and a retry at worst comes early or late by the jump.
///
/// Where several machines share a database, their clocks differ, and the steady time is the database's: it is read at the
/// beginning of every transaction ([`Clock::set`]) and counted on from there.
#[derive(Debug, Clone)]
pub(super) struct Clock {
    wall: WallClock,
    /// A point of the steady time, and when it was.
    anchor: Arc<Mutex<(Timestamp, Instant)>>,
}

impl Clock {
    /// Anchors the steady time at the wall clock's present reading.
    pub(super) fn start(wall: WallClock) -> Self {
        let anchor = Arc::new(Mutex::new((wall.0(), Instant::now())));
        Self { wall, anchor }
    }

    /// The wall clock's reading: for times that people see.
    pub(super) fn wall(&self) -> Timestamp {
        self.wall.0()
    }

    /// The steady time: for deadlines.
    pub(super) fn steady(&self) -> Timestamp {
        let (point, at) = *self.anchor.lock().unwrap_or_else(PoisonError::into_inner);
        point.plus(at.elapsed())
    }

    /// Anchors the steady time at what the database says that it is.
    pub(super) fn set(&self, time: Timestamp) {
        *self.anchor.lock().unwrap_or_else(PoisonError::into_inner) = (time, Instant::now());
    }

    /// Both, for one transaction.
    pub(super) fn now(&self) -> Now {
        Now { wall: self.wall(), steady: self.steady() }
    }
}

/// Both readings at one moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    /// For times that people see.
    pub(super) wall: Timestamp,
    /// For deadlines.
    pub(super) steady: Timestamp,
}

//! The servers that are asked for heads: few requests at once, and none for a while to one that is away.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Semaphore, SemaphorePermit};
use url::Url;

use super::agenda::{backoff, jittered};

/// Repositories of one server that are looked at side by side.
const AT_ONCE: usize = 2;
/// One that has not answered so often in a row is away, whichever repository was asked for.
const AWAY_AFTER: u32 = 2;

/// Every server, by scheme, host and port.
#[derive(Clone, Default)]
pub(super) struct Origins(Arc<Mutex<HashMap<String, Arc<Origin>>>>);

/// One server.
pub(super) struct Origin {
    name: String,
    turns: Semaphore,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    silent: u32,
    away_until: Option<Instant>,
}

impl Origins {
    /// The server of an address.
    pub(super) fn of(&self, url: &Url) -> Arc<Origin> {
        let name = url.origin().ascii_serialization();
        let make = || Arc::new(Origin { name: name.clone(), turns: Semaphore::new(AT_ONCE), state: Mutex::default() });
        Arc::clone(held(&self.0).entry(name.clone()).or_insert_with(make))
    }

    /// Takes none for away any more: somebody wants to know now.
    pub(super) fn forgive(&self) {
        held(&self.0).values().for_each(|origin| *held(&origin.state) = State::default());
    }
}

impl Origin {
    /// Scheme, host and port.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Waits until it may be asked; others wait until the turn is dropped.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.turns.acquire().await.ok()
    }

    /// How long it is still not asked.
    pub(super) fn away(&self) -> Option<Duration> {
        let left = held(&self.state).away_until?.saturating_duration_since(Instant::now());
        (!left.is_zero()).then_some(left)
    }

    /// It answered.
    pub(super) fn answers(&self) {
        *held(&self.state) = State::default();
    }

    /// It did not answer; true when it is now away.
    pub(super) fn is_silent_again(&self) -> bool {
        let mut state = held(&self.state);
        state.silent = state.silent.saturating_add(1);
        let away = state.silent >= AWAY_AFTER;
        if away {
            state.away_until = Some(Instant::now() + jittered(backoff((state.silent - AWAY_AFTER).min(4) + 1)));
        }
        away
    }
}

fn held<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_away_after_a_second_silence() {
        let origins = Origins::default();
        let url = |text: &str| Url::parse(text).expect("legal");
        let origin = origins.of(&url("https://git.lan/acme/shop.git"));
        assert!(!origin.is_silent_again() && origin.away().is_none());
        assert!(origin.is_silent_again() && origin.away().is_some());
        assert!(origins.of(&url("https://git.lan/acme/icons.git")).away().is_some(), "for all its repositories");
        assert!(origins.of(&url("https://git.lan:8443/acme/shop.git")).away().is_none());
        origins.forgive();
        assert!(origin.away().is_none());
        origin.is_silent_again();
        origin.answers();
        assert!(!origin.is_silent_again());
    }
}

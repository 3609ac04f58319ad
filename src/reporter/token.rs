//! Tokens that will end are warned of in time.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::domain::repo::ForgeName;
use crate::domain::time::Timestamp;
use crate::forge::api::token::WARN_AHEAD;
use crate::store::Store;

/// Between two looks at what has to be warned of.
const LOOK_AGAIN: Duration = Duration::from_secs(60 * 60);

/// What forges said of the end of their tokens.
#[derive(Debug, Default)]
pub(super) struct TokenWatch {
    /// As the store has it, so that only news are written.
    known: Mutex<HashMap<ForgeName, Timestamp>>,
    /// When there is no news, the next look is not before.
    next_look: Mutex<Option<Instant>>,
}

impl TokenWatch {
    /// Remembers what the store has.
    pub(super) async fn load(&self, store: &Store) {
        match store.token_ends().await {
            Ok(ends) => held(&self.known).extend(ends),
            Err(error) => tracing::warn!(%error, "the ends of tokens could not be read"),
        }
    }

    /// An answer said when its token ends, or that it does not.
    pub(super) async fn heard(&self, store: &Store, forge: &ForgeName, ends: Option<SystemTime>) {
        let ends = ends.map(Timestamp::from);
        if held(&self.known).get(forge).copied() == ends {
            return;
        }
        if let Err(error) = store.set_token_end(forge, ends).await {
            tracing::warn!(%error, %forge, "the end of the token could not be kept");
            return;
        }
        match ends {
            Some(ends) => held(&self.known).insert(forge.clone(), ends),
            None => held(&self.known).remove(forge),
        };
        *held(&self.next_look) = None;
    }

    /// Logs each token that ends soon, once a day over all processes and restarts.
    pub(super) async fn warn(&self, store: &Store) {
        {
            let mut next_look = held(&self.next_look);
            if next_look.is_some_and(|at| Instant::now() < at) {
                return;
            }
            *next_look = Some(Instant::now() + LOOK_AGAIN);
        }
        match store.tokens_to_warn_of(WARN_AHEAD).await {
            Ok(ending) => {
                for (forge, ends) in ending {
                    tracing::warn!(%forge, %ends, "the forge's token ends: make a new one, put it into token_file, and send SIGHUP");
                }
            }
            Err(error) => tracing::warn!(%error, "the ends of tokens could not be looked at"),
        }
    }
}

fn held<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! The last deliveries that were refused: in memory only, since anybody can cause them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use http::HeaderMap;
use serde::Serialize;

use crate::domain::time::Timestamp;

/// How many are remembered.
const KEPT: usize = 200;
/// Characters of an address part, and header names, that are remembered of one.
const LONGEST: usize = 200;
const NAMES: usize = 20;

/// One delivery that was not taken. Holds no body, no header's value and no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// When it came.
    pub at: Timestamp,
    /// The HTTP status that it was answered.
    pub status: u16,
    /// Why, in more words than the answer had. For the operator only.
    pub reason: String,
    /// The peer's address, and the address that a proxy on this machine named.
    pub from: String,
    /// The forge in the address, as it was written. Hostile text.
    pub forge: String,
    /// The repository in the address, as it was written; `None` on a forge's own hook. Hostile text.
    pub path: Option<String>,
    /// The names of the signature, event and delivery headers that came. Hostile text.
    pub headers: Vec<String>,
}

/// The last 200 refusals, shared between the door that fills it and the API that shows it.
#[derive(Debug, Clone, Default)]
pub struct Refusals(Arc<Mutex<VecDeque<Refusal>>>);

impl Refusals {
    /// The newest first.
    pub fn list(&self) -> Vec<Refusal> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().rev().cloned().collect()
    }

    pub(super) fn record(&self, mut refusal: Refusal) {
        for text in [&mut refusal.forge].into_iter().chain(&mut refusal.path) {
            *text = text.chars().take(LONGEST).collect();
        }
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(refusal);
    }
}

/// The names among the headers by which forges sign, number and name their deliveries.
pub(super) fn telling_names(headers: &HeaderMap) -> Vec<String> {
    let telling = |name: &str| {
        ["x-github-", "x-gitea-", "x-forgejo-", "x-gogs-", "x-gitlab-", "x-hub-", "x-event-", "webhook-"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
    };
    headers.keys().map(|name| name.as_str()).filter(|name| telling(name)).take(NAMES).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_last_are_kept() {
        let refusals = Refusals::default();
        for number in 0..=KEPT {
            refusals.record(Refusal {
                at: Timestamp(0),
                status: 401,
                reason: number.to_string(),
                from: "192.0.2.1".to_owned(),
                forge: "x".repeat(10_000),
                path: Some("é".repeat(10_000)),
                headers: vec![],
            });
        }
        let list = refusals.list();
        assert_eq!(list.len(), KEPT);
        assert_eq!((list[0].reason.as_str(), list[KEPT - 1].reason.as_str()), ("200", "1"));
        assert_eq!(list[0].forge.len(), LONGEST);
    }
}

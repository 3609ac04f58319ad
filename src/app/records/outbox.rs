//! The outbox in the words of the doors.

use crate::domain::time::{Timestamp, brief};
use crate::forge::api::token::WARN_AHEAD;
use crate::store::{self, OutboxHealth, Store, StoreError};
use crate::web::{Outbox, PausedForge, TokenEnd, Told, Undelivered};

/// Letters that are shown; there may be more.
const SHOWN: u32 = 100;

/// The whole account.
pub(super) async fn document(store: &Store) -> Result<Outbox, StoreError> {
    let health = store.outbox_health().await?;
    let dead = store.undelivered(SHOWN).await?;
    let paused = |(forge, wait, reason): (crate::domain::repo::ForgeName, std::time::Duration, String)| PausedForge {
        forge: forge.to_string(),
        seconds: wait.as_secs(),
        reason,
    };
    Ok(Outbox {
        unsent: health.unsent,
        failing: health.failing,
        oldest_seconds: health.oldest.map(|oldest| oldest.as_secs()),
        last_error: health.last_error,
        paused: health.paused.into_iter().map(paused).collect(),
        tokens: health
            .tokens
            .into_iter()
            .map(|(forge, expires_at)| TokenEnd { forge: forge.to_string(), expires_at })
            .collect(),
        dead_count: health.dead,
        dead: dead.into_iter().map(undelivered).collect(),
    })
}

fn undelivered(letter: store::Undelivered) -> Undelivered {
    Undelivered {
        build: letter.build,
        repo: letter.repo.to_string(),
        sha: letter.sha.to_string(),
        context: letter.status.context,
        state: letter.status.state.as_str(),
        sentence: letter.status.sentence,
        attempts: letter.attempts,
        last_error: letter.last_error,
        at: letter.at,
    }
}

/// What a forge was told.
pub(super) fn told(told: store::Told) -> Told {
    Told {
        context: told.status.context,
        state: told.status.state.as_str(),
        sentence: told.status.sentence,
        last_error: told.last_error.filter(|_| told.fate != "sent"),
        fate: told.fate,
        attempts: told.attempts,
        sent_at: told.sent_at,
    }
}

/// Whether the outbox is as it should be, and one line for people.
pub(super) fn in_words(health: &OutboxHealth, now: Timestamp) -> (bool, String) {
    let mut wrong: Vec<String> = health
        .paused
        .iter()
        .map(|(forge, wait, why)| format!("{forge} is left alone for {}s: {why}", wait.as_secs()))
        .collect();
    if let (true, Some(error), true) = (wrong.is_empty(), &health.last_error, health.failing > 0) {
        wrong.push(format!("{} of {} statuses not accepted yet: {error}", health.failing, health.unsent));
    }
    if health.dead > 0 {
        wrong.push(format!("{} statuses were given up: see /health, or `hookmill builds resend`", health.dead));
    }
    let ended = health.tokens.iter().filter(|(_, ends)| *ends <= now);
    wrong.extend(ended.map(|(forge, ends)| format!("the token of {forge} ended at {ends}")));
    let ok = wrong.is_empty();
    let mut words = if ok { vec![format!("{} statuses to be sent", health.unsent)] } else { wrong };
    let ending = health.tokens.iter().filter(|(_, ends)| *ends > now && *ends <= now.plus(WARN_AHEAD));
    words.extend(ending.map(|(forge, ends)| {
        format!("the token of {forge} ends in {}, at {ends}: make a new one", in_days(*ends, now))
    }));
    (ok, words.join("; "))
}

fn in_days(ends: Timestamp, now: Timestamp) -> String {
    let left = ends.since(now);
    match left.as_secs() / 86_400 {
        0 => brief(left),
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_outbox_in_one_line() {
        const DAY: i64 = 86_400_000;
        let now = Timestamp(20_000 * DAY);
        let github = || "github".parse::<crate::domain::repo::ForgeName>().expect("legal");
        let check = |health: OutboxHealth, ok: bool, words: &[&str]| {
            let (got, detail) = in_words(&health, now);
            assert_eq!(got, ok, "{detail}");
            words.iter().for_each(|word| assert!(detail.contains(word), "{word} in {detail}"));
        };
        let nothing = OutboxHealth::default();
        check(nothing.clone(), true, &["0 statuses to be sent"]);
        let error = Some("the forge answered 502".to_owned());
        let failing = OutboxHealth { unsent: 3, failing: 1, last_error: error, ..nothing.clone() };
        check(failing, false, &["1 of 3", "502"]);
        let paused = vec![(github(), Duration::from_secs(61), "429".to_owned())];
        check(OutboxHealth { paused, ..nothing.clone() }, false, &["github is left alone for 61s: 429"]);
        check(OutboxHealth { dead: 2, ..nothing.clone() }, false, &["2 statuses were given up", "builds resend"]);
        let token =
            |days: i64| OutboxHealth { tokens: vec![(github(), Timestamp(now.0 + days * DAY + 1))], ..nothing.clone() };
        check(token(15), true, &["0 statuses to be sent"]);
        check(token(13), true, &["the token of github ends in 13 days"]);
        check(token(-1), false, &["the token of github ended at"]);
    }
}

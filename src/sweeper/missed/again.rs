//! Has GitHub send again what it could not deliver: it keeps an account of its deliveries for three days, and sends none again
//! by itself.
//!
//! Heads are compared first, and found their builds by then. What is sent again besides is what is still so: a push of a
//! commit that its branch has left would only build what nobody waits for.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::{Duration, Instant, SystemTime};

use crate::checkout::Heads;
use crate::domain::event::Heard;
use crate::domain::repo::CommitId;
use crate::domain::time::Timestamp;
use crate::forge::api::missed::{self, Attempt};
use crate::store::StoreError;

use super::Missed;
use super::compare::is_still_so;
use super::look::{Memory, Subject};

/// How long GitHub can send a delivery again.
const KEPT: Duration = Duration::from_secs(3 * 24 * 60 * 60);
/// The account is looked at no more often, unless a sweep is asked for: each time is two requests.
const SELDOM: Duration = Duration::from_secs(30 * 60);
/// Deliveries that are read and sent again in one look; the others in the next.
const AT_ONCE: usize = 20;
/// How often one is asked for. What is refused three times will be refused again.
const TRIES: u32 = 3;
/// What is not to be had of a forge whose token may not read hooks.
const ACCOUNT: &str = "failed deliveries (which takes a token with the right to repository hooks)";

impl Missed {
    /// Has failed deliveries sent again. Where the token may not, it is said once and done without.
    pub(super) async fn have_sent_again(
        &self,
        subject: &Subject<'_>,
        heads: &Heads,
        at_once: bool,
        memory: &mut Memory,
    ) -> Result<(), StoreError> {
        let (forge, repo) = (&subject.forge, subject.repo);
        let lately = memory.account_at.is_some_and(|at| at.elapsed() < SELDOM);
        let has_hook = !subject.rules.hook_secrets.is_empty();
        if !missed::is_kept(forge.kind) || forge.token.is_none() || !has_hook || (lately && !at_once) {
            return Ok(());
        }
        memory.account_at = Some(Instant::now());
        let address = format!("{}/hooks/{}/{}", self.web.base(), repo.forge, repo.path);
        let path = repo.path.clone();
        let since = Timestamp::from(SystemTime::now() - KEPT);
        let account = self.ask(subject, ACCOUNT, move |client, forge| {
            let Some(hook) = client.hook(forge, &path, &address)? else { return Ok(None) };
            Ok(Some((hook, client.attempts(forge, &path, hook, since)?)))
        });
        let Some((hook, attempts)) = account.await?.flatten() else { return Ok(()) };
        let ids: Vec<String> = attempts.iter().map(|attempt| attempt.guid.clone()).collect();
        let taken = self.store.taken(repo, &ids).await?;
        memory.asked.retain(|guid, _| ids.contains(guid));
        let open = memory.open.clone();
        for attempt in failed(&attempts, &taken, &memory.asked) {
            let so = self.is_still_so(subject, hook, &attempt, heads, open.as_ref()).await?;
            // Not read: another time. Not so any more: never.
            let Some(so) = so else { continue };
            let tries = memory.asked.entry(attempt.guid.clone()).or_default();
            if !so {
                *tries = TRIES;
                continue;
            }
            *tries += 1;
            let (path, guid, event) = (repo.path.clone(), attempt.guid.clone(), attempt.event.clone());
            let again =
                self.ask(subject, ACCOUNT, move |client, forge| client.send_again(forge, &path, hook, &attempt));
            if again.await?.is_some() {
                self.tally.sent_again();
                tracing::info!(repo = %repo, delivery = guid, event, "a failed delivery is sent again");
            }
        }
        Ok(())
    }

    async fn is_still_so(
        &self,
        subject: &Subject<'_>,
        hook: u64,
        attempt: &Attempt,
        heads: &Heads,
        open: Option<&BTreeMap<u64, CommitId>>,
    ) -> Result<Option<bool>, StoreError> {
        let (path, attempt) = (subject.repo.path.clone(), attempt.clone());
        let told = self.ask(subject, ACCOUNT, move |client, forge| client.told(forge, &path, hook, &attempt)).await?;
        let nothing = BTreeMap::new();
        let so =
            |told: Option<Heard>| told.is_some_and(|heard| is_still_so(&heard.event, heads, open.unwrap_or(&nothing)));
        Ok(told.map(so))
    }
}

/// The newest attempt of each delivery that was never taken: by the forge's account, by ours, and not given up. The
/// oldest deliveries first, as they happened.
fn failed(attempts: &[Attempt], taken: &HashSet<String>, asked: &HashMap<String, u32>) -> Vec<Attempt> {
    let well: HashSet<&str> =
        attempts.iter().filter(|attempt| attempt.is_taken()).map(|attempt| attempt.guid.as_str()).collect();
    let mut seen = HashSet::new();
    let mut failed: Vec<Attempt> = attempts
        .iter()
        .filter(|attempt| !well.contains(attempt.guid.as_str()) && !taken.contains(&attempt.guid))
        .filter(|attempt| asked.get(&attempt.guid).is_none_or(|tries| *tries < TRIES))
        .filter(|attempt| seen.insert(attempt.guid.as_str()))
        .cloned()
        .collect();
    failed.reverse();
    failed.truncate(AT_ONCE);
    failed
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(id: u64, guid: &str, status_code: u16) -> Attempt {
        Attempt {
            id,
            guid: guid.to_owned(),
            delivered_at: Timestamp(0),
            status_code: Some(status_code),
            event: "push".to_owned(),
        }
    }

    #[test]
    fn only_what_never_was_taken_is_sent_again() {
        // The newest first, as the forge lists them.
        let account = [
            attempt(9, "repaired", 202),
            attempt(8, "twice", 502),
            attempt(7, "known-here", 504),
            attempt(6, "given-up", 401),
            attempt(5, "twice", 503),
            attempt(4, "repaired", 503),
            attempt(3, "well", 200),
            attempt(2, "once", 0),
        ];
        let taken = HashSet::from(["known-here".to_owned()]);
        let asked = HashMap::from([("given-up".to_owned(), TRIES), ("twice".to_owned(), 1)]);
        let again = failed(&account, &taken, &asked);
        let again: Vec<(u64, &str)> = again.iter().map(|attempt| (attempt.id, attempt.guid.as_str())).collect();
        assert_eq!(again, [(2, "once"), (8, "twice")]);
    }
}

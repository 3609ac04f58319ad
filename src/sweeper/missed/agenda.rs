//! When each repository is looked at. No clock of its own: the moment is handed in.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::domain::repo::RepoId;

use super::look::Memory;

/// The wait after a first failure; doubled each time.
const FIRST_WAIT: Duration = Duration::from_secs(30);
/// No failure makes a repository wait longer, unless it is looked at more seldom anyway.
const LONGEST_WAIT: Duration = Duration::from_secs(10 * 60);

/// Every repository that is looked at.
#[derive(Default)]
pub(super) struct Agenda(HashMap<RepoId, Entry>);

struct Entry {
    every: Duration,
    next: Instant,
    /// Not at its time but at the next occasion.
    at_once: bool,
    under_way: bool,
    failures: u32,
    memory: Memory,
}

/// A repository whose time has come.
pub(super) struct Due {
    pub(super) repo: RepoId,
    pub(super) at_once: bool,
    pub(super) memory: Memory,
}

/// How a look ended, as far as the next one goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// It was looked at, here or by another process.
    Well,
    /// It could not be.
    Failed,
    /// Its forge is away: not before this has passed.
    PutOff(Duration),
}

impl Agenda {
    /// Takes over which repositories there are and how often each is looked at. New ones are looked at at once.
    pub(super) fn follow(&mut self, wanted: Vec<(RepoId, Duration)>, now: Instant) {
        let wanted: HashMap<_, _> = wanted.into_iter().collect();
        self.0.retain(|repo, entry| entry.under_way || wanted.contains_key(repo));
        for (repo, every) in wanted {
            let new =
                || Entry { every, next: now, at_once: true, under_way: false, failures: 0, memory: Memory::default() };
            let entry = self.0.entry(repo).or_insert_with(new);
            if entry.every != every {
                entry.every = every;
                entry.next = entry.next.min(now + jittered(every));
            }
        }
    }

    /// All of them at the next occasion; one that is just looked at, once more.
    pub(super) fn hurry(&mut self) {
        self.0.values_mut().for_each(|entry| entry.at_once = true);
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Those whose time has come; each is under way until it is [settled](Agenda::settle).
    pub(super) fn take_due(&mut self, now: Instant) -> Vec<Due> {
        let due = self.0.iter_mut().filter(|(_, entry)| !entry.under_way && (entry.at_once || entry.next <= now));
        let taken = due.map(|(repo, entry)| {
            entry.under_way = true;
            let at_once = std::mem::take(&mut entry.at_once);
            Due { repo: repo.clone(), at_once, memory: std::mem::take(&mut entry.memory) }
        });
        taken.collect()
    }

    /// A look has ended.
    pub(super) fn settle(&mut self, repo: &RepoId, memory: Memory, ended: Ended, now: Instant) {
        let Some(entry) = self.0.get_mut(repo) else { return };
        entry.under_way = false;
        entry.memory = memory;
        entry.failures = if ended == Ended::Failed { entry.failures.saturating_add(1) } else { 0 };
        let wait = match ended {
            Ended::Well => entry.every,
            Ended::PutOff(wait) => wait,
            Ended::Failed => backoff(entry.failures).min(entry.every.max(LONGEST_WAIT)),
        };
        entry.next = now + jittered(wait);
    }
}

/// Doubled for each failure in a row.
pub(super) fn backoff(failures: u32) -> Duration {
    FIRST_WAIT.saturating_mul(1 << failures.saturating_sub(1).min(8))
}

/// A tenth more or less, so that many repositories, and many processes, come not all at once.
pub(super) fn jittered(wait: Duration) -> Duration {
    let random = f64::from(getrandom::u32().unwrap_or(u32::MAX / 2)) / f64::from(u32::MAX);
    wait.mul_f64(0.9 + random / 5.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repo(name: &str) -> RepoId {
        format!("github/acme/{name}").parse().expect("legal")
    }

    fn names(due: &[Due]) -> Vec<String> {
        let mut names: Vec<_> = due.iter().map(|due| due.repo.path.to_string()).collect();
        names.sort();
        names
    }

    #[test]
    fn each_at_its_time_and_none_twice() {
        let (now, minute) = (Instant::now(), Duration::from_secs(60));
        let mut agenda = Agenda::default();
        agenda.follow(vec![(repo("shop"), minute * 5), (repo("icons"), minute)], now);
        assert_eq!(names(&agenda.take_due(now)), ["acme/icons", "acme/shop"], "at start");
        assert!(agenda.take_due(now + minute * 60).is_empty(), "under way");
        agenda.settle(&repo("shop"), Memory::default(), Ended::Well, now);
        agenda.settle(&repo("icons"), Memory::default(), Ended::Well, now);
        assert!(agenda.take_due(now + minute / 2).is_empty());
        assert_eq!(names(&agenda.take_due(now + minute * 2)), ["acme/icons"]);
        agenda.follow(vec![(repo("shop"), minute * 5), (repo("late"), minute * 5)], now);
        assert_eq!(names(&agenda.take_due(now + minute)), ["acme/late"], "heard of later, and the icons no more");
        assert_eq!(agenda.len(), 3, "two under way");
        agenda.settle(&repo("late"), Memory::default(), Ended::Well, now);
        agenda.settle(&repo("icons"), Memory::default(), Ended::Well, now);
        agenda.follow(vec![(repo("shop"), minute * 5)], now);
        assert_eq!(agenda.len(), 1);
        agenda.hurry();
        let due = agenda.take_due(now);
        assert!(names(&due) == ["acme/shop"] && due[0].at_once);
        agenda.hurry();
        agenda.settle(&repo("shop"), Memory::default(), Ended::Well, now);
        assert_eq!(names(&agenda.take_due(now)), ["acme/shop"], "once more: it was asked for while under way");
    }

    #[test]
    fn failures_make_it_wait_longer_and_only_it() {
        let (now, minute) = (Instant::now(), Duration::from_secs(60));
        let mut agenda = Agenda::default();
        agenda.follow(vec![(repo("shop"), minute)], now);
        for (failures, after) in [(1, 33), (2, 66), (3, 132), (9, 660), (30, 660)] {
            let entry = agenda.0.get_mut(&repo("shop")).expect("there");
            entry.failures = failures - 1;
            agenda.settle(&repo("shop"), Memory::default(), Ended::Failed, now);
            let wait = agenda.0[&repo("shop")].next - now;
            let most = Duration::from_secs(after);
            assert!(wait <= most && wait >= most.mul_f64(0.8), "{failures}: {wait:?}");
        }
        agenda.settle(&repo("shop"), Memory::default(), Ended::Well, now);
        assert!(agenda.0[&repo("shop")].next - now <= minute.mul_f64(1.1));
    }
}

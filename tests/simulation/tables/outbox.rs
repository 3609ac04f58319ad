//! Statuses on their way to the forge.

use std::time::Duration;

use hookmill::domain::build::BuildId;
use hookmill::domain::outbox::{Fate, needs_final_word};
use hookmill::domain::repo::CommitId;
use hookmill::domain::status::{Status, StatusState};
use hookmill::domain::time::Timestamp;

use super::{Now, Tables, Without};

/// What a forge lists one status for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) sha: CommitId,
    pub(crate) context: String,
}

/// A status' row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) id: i64,
    pub(crate) build: BuildId,
    pub(crate) forge: String,
    pub(crate) key: Key,
    pub(crate) state: StatusState,
    pub(crate) sentence: String,
    pub(crate) fate: Fate,
    pub(crate) created_at: Timestamp,
    pub(crate) next_attempt: Timestamp,
    pub(crate) attempts: u32,
    /// Whose request is under way, and until when it certainly has ended.
    pub(crate) taken: Option<(String, Timestamp)>,
}

impl Said {
    fn is_taken(&self, now: Timestamp) -> bool {
        self.taken.as_ref().is_some_and(|(_, until)| *until > now)
    }
}

/// What became of a request for a status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settled {
    /// The forge took it.
    Sent,
    /// It did not, and is to be asked again after this time.
    Later(Duration),
    /// Nobody knows: no answer came. Its key stays taken until whatever is under way has certainly ended.
    Unknown,
}

impl Tables {
    pub(crate) fn say(&mut self, build: BuildId, status: &Status, now: Timestamp) {
        let row = &self.builds[&build];
        let key = Key { sha: row.new.sha.clone(), context: status.context.clone() };
        let forge = row.new.repo.forge.to_string();
        let newest = self.outbox.values().filter(|said| said.key == key).map(|said| said.build).max();
        let newest = newest.filter(|_| self.without != Without::NewestOwnsTheCommit);
        let fate = Fate::of_word(build, newest);
        if fate == Fate::Due {
            self.outbox.retain(|_, said| said.key != key || said.fate != Fate::Due || said.is_taken(now));
        }
        self.words.push((build, status.context.clone(), status.state));
        self.last_said += 1;
        let said = Said {
            id: self.last_said,
            build,
            forge,
            key,
            state: status.state,
            sentence: status.sentence.clone(),
            fate,
            created_at: now,
            next_attempt: now,
            attempts: 0,
            taken: None,
        };
        self.outbox.insert(said.id, said);
    }

    pub(super) fn say_own(&mut self, build: BuildId, state: StatusState, sentence: &str, now: Timestamp) {
        let context = self.builds[&build].new.status.context.clone();
        self.say(build, &Status { context, state, sentence: sentence.to_owned() }, now);
    }

    /// Gives every context that the build left pending its final word.
    pub(super) fn settle_build(&mut self, build: BuildId, state: StatusState, sentence: &str, now: Timestamp) {
        if self.without == Without::Settling {
            return;
        }
        let mut last: Vec<&Said> = Vec::new();
        for said in self.outbox.values().filter(|said| said.build == build) {
            last.retain(|before| before.key != said.key);
            last.push(said);
        }
        let pending = last.into_iter().filter(|said| needs_final_word(said.state));
        for context in pending.map(|said| said.key.context.clone()).collect::<Vec<_>>() {
            self.say(build, &Status { context, state, sentence: sentence.to_owned() }, now);
        }
    }

    /// What is due now, oldest first, whoever sends it.
    pub(crate) fn due(&self, limit: usize, now: Timestamp) -> Vec<&Said> {
        let paused = |forge: &str| self.pauses.get(forge).is_some_and(|until| *until > now);
        let due = |said: &&Said| said.fate == Fate::Due && said.next_attempt <= now && !paused(&said.forge);
        self.outbox.values().filter(due).take(limit).collect()
    }

    /// Takes what `sender` may send now, final words first.
    pub(crate) fn take(&mut self, sender: &str, limit: usize, lease: Duration, now: Timestamp) -> Vec<Said> {
        let alone = |said: &Said| {
            let mut others = self.outbox.values().filter(|other| other.key == said.key && other.id != said.id);
            others.all(|other| {
                let newer = other.id > said.id && other.fate != Fate::Dropped;
                let under_way = other.id < said.id && other.fate == Fate::Due && other.is_taken(now);
                !newer && (!under_way || self.without == Without::OneRequestAKey)
            })
        };
        let due = self.due(usize::MAX, now).into_iter().filter(|said| !said.is_taken(now) && alone(said));
        let mut ids: Vec<_> = due.map(|said| (said.state == StatusState::Pending, said.id)).collect();
        ids.sort_unstable();
        ids.truncate(limit);
        let mut taken = Vec::new();
        for (_, id) in ids {
            let said = self.outbox.get_mut(&id).expect("it was just found");
            said.taken = Some((sender.to_owned(), now.plus(lease)));
            taken.push(said.clone());
        }
        taken
    }

    /// Writes what became of a status that `sender` took.
    pub(crate) fn settle(&mut self, sender: &str, said: &Said, settled: Settled, now: Timestamp) {
        let careful = self.without != Without::CareAfterLateRequests;
        let mut in_time = false;
        if let Some(row) = self.outbox.get_mut(&said.id)
            && row.fate == Fate::Due
            && row.taken.as_ref().is_some_and(|(by, _)| by == sender)
        {
            in_time = row.is_taken(now);
            row.attempts += 1;
            match settled {
                Settled::Sent => (row.fate, row.taken) = (Fate::Sent, None),
                Settled::Later(wait) => (row.next_attempt, row.taken) = (now.plus(wait), None),
                Settled::Unknown if careful => {}
                Settled::Unknown => row.taken = None,
            }
        }
        match settled {
            Settled::Sent => self.drop_older(said, now),
            Settled::Later(_) => self.drop_if_replaced(said, now),
            Settled::Unknown => {}
        }
        if !in_time && careful {
            self.repeat_newest(said, now);
        }
    }

    /// What is older of the same key has nothing to say any more.
    fn drop_older(&mut self, said: &Said, now: Timestamp) {
        for older in self.outbox.values_mut().filter(|older| older.key == said.key && older.id < said.id) {
            if older.fate == Fate::Due && !older.is_taken(now) {
                older.fate = Fate::Dropped;
            }
        }
    }

    /// What failed is not tried again once there is a newer word.
    fn drop_if_replaced(&mut self, said: &Said, now: Timestamp) {
        let newer = |other: &Said| other.key == said.key && other.id > said.id && other.fate != Fate::Dropped;
        let replaced = self.outbox.values().any(newer);
        if let Some(row) = self.outbox.get_mut(&said.id)
            && replaced
            && row.fate == Fate::Due
            && !row.is_taken(now)
        {
            row.fate = Fate::Dropped;
        }
    }

    /// A newer word may have been heard before this one: it is said once more.
    fn repeat_newest(&mut self, said: &Said, now: Timestamp) {
        let newer = |other: &&mut Said| other.key == said.key && other.id > said.id && other.fate != Fate::Dropped;
        if let Some(newest) = self.outbox.values_mut().filter(newer).last()
            && newest.fate == Fate::Sent
        {
            (newest.fate, newest.next_attempt) = (Fate::Due, now);
        }
    }

    pub(crate) fn sent(&mut self, id: i64) {
        if let Some(said) = self.outbox.get_mut(&id) {
            said.fate = Fate::Sent;
            said.attempts += 1;
        }
    }

    pub(crate) fn postpone(&mut self, id: i64, wait: Duration, now: Timestamp) {
        if let Some(said) = self.outbox.get_mut(&id).filter(|said| said.fate == Fate::Due) {
            said.next_attempt = now.plus(wait);
            said.attempts += 1;
        }
    }

    pub(crate) fn dead(&mut self, id: i64) {
        if let Some(said) = self.outbox.get_mut(&id).filter(|said| said.fate == Fate::Due) {
            said.fate = Fate::Dead;
            said.attempts += 1;
        }
    }

    pub(crate) fn pause(&mut self, forge: &str, wait: Duration, now: Now) {
        let until = now.steady.plus(wait);
        let kept = self.pauses.entry(forge.to_owned()).or_insert(until);
        *kept = until.max(*kept);
    }
}

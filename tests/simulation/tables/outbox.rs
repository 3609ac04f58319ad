//! Statuses on their way to the forge.

use std::time::Duration;

use hookmill::domain::build::BuildId;
use hookmill::domain::outbox::{Fate, needs_final_word};
use hookmill::domain::repo::CommitId;
use hookmill::domain::status::{Status, StatusState};
use hookmill::domain::time::Timestamp;
use hookmill::store::{ForgeNews, OutboxItem, RowNews, Settled};

use super::{Tables, Without};

/// What a forge lists one status for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) sha: CommitId,
    pub(crate) context: String,
}

impl Key {
    /// There is one repository.
    pub(crate) fn of(item: &OutboxItem) -> Self {
        Key { sha: item.sha.clone(), context: item.status.context.clone() }
    }
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
    /// Whose request is under way.
    taken_by: Option<String>,
    /// Until when that request, or one that nobody answered, may be heard.
    taken_until: Option<Timestamp>,
}

impl Said {
    fn may_be_heard(&self, now: Timestamp) -> bool {
        self.taken_until.is_some_and(|until| until > now)
    }

    fn is_under_way(&self, now: Timestamp) -> bool {
        self.taken_by.is_some() && self.may_be_heard(now)
    }

    pub(crate) fn status(&self) -> Status {
        Status { context: self.key.context.clone(), state: self.state, sentence: self.sentence.clone() }
    }
}

/// For how long a forge is left alone.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pause {
    until: Timestamp,
    /// By its own word.
    asked_until: Timestamp,
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
            self.outbox.retain(|_, said| said.key != key || said.fate != Fate::Due || said.may_be_heard(now));
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
            taken_by: None,
            taken_until: None,
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
    pub(crate) fn due(&self, now: Timestamp) -> impl Iterator<Item = &Said> {
        let paused = move |forge: &str| self.pauses.get(forge).is_some_and(|pause| pause.until > now);
        let due = move |said: &&Said| said.fate == Fate::Due && said.next_attempt <= now && !paused(&said.forge);
        self.outbox.values().filter(due)
    }

    /// Takes what `sender` may send now, final words first. A forge that did not answer well lately is asked one question,
    /// with what was tried least.
    pub(crate) fn take(
        &mut self,
        forge: &str,
        sender: &str,
        limit: usize,
        lease: Duration,
        now: Timestamp,
    ) -> Vec<OutboxItem> {
        let careful = self.pauses.contains_key(forge);
        if careful && self.outbox.values().any(|said| said.fate == Fate::Due && said.is_under_way(now)) {
            return Vec::new();
        }
        let due = self.due(now).filter(|said| !said.is_under_way(now) && self.is_its_turn(said, now));
        let order =
            |said: &Said| (if careful { said.attempts } else { 0 }, said.state == StatusState::Pending, said.id);
        let mut ids: Vec<_> = due.map(order).collect();
        ids.sort_unstable();
        ids.truncate(if careful { limit.min(1) } else { limit });
        ids.into_iter().map(|(_, _, id)| self.mark(id, sender, now.plus(lease), now)).collect()
    }

    /// It is the newest word of its key, and no request for an older one may still be heard.
    fn is_its_turn(&self, said: &Said, now: Timestamp) -> bool {
        let any_number = self.without == Without::OneRequestAKey;
        !self.outbox.values().any(|other| {
            let newer = other.id > said.id && other.fate != Fate::Dropped;
            let older = other.id < said.id && other.may_be_heard(now) && !any_number;
            // The key last: it is the dearest to compare.
            (newer || older) && other.key == said.key
        })
    }

    fn mark(&mut self, id: i64, sender: &str, until: Timestamp, now: Timestamp) -> OutboxItem {
        let said = self.outbox.get_mut(&id).expect("it was just found");
        let unclear_until = said.taken_until.filter(|until| *until > now);
        said.taken_by = Some(sender.to_owned());
        said.taken_until = Some(until);
        OutboxItem {
            id,
            build: said.build,
            repo: self.builds[&said.build].new.repo.clone(),
            sha: said.key.sha.clone(),
            status: said.status(),
            attempts: said.attempts,
            age: now.since(said.created_at),
            unclear_until,
        }
    }

    /// Writes what became of a status that `sender` took.
    pub(crate) fn settle(&mut self, sender: &str, item: &OutboxItem, settled: &Settled, now: Timestamp) {
        let careful = self.without != Without::CareAfterLateRequests;
        let (fate, tried, wait, lingers) = match settled.row {
            RowNews::Sent => (Fate::Sent, true, Duration::ZERO, None),
            RowNews::Later(wait) => (Fate::Due, true, wait, None),
            RowNews::Unanswered { again, lingers } => (Fate::Due, true, again, Some(now.plus(lingers))),
            RowNews::Dead => (Fate::Dead, true, Duration::ZERO, None),
            RowNews::Back => (Fate::Due, false, Duration::ZERO, None),
        };
        let mut in_time = false;
        if let Some(row) = self.outbox.get_mut(&item.id)
            && row.fate == Fate::Due
            && row.taken_by.as_deref() == Some(sender)
        {
            in_time = row.may_be_heard(now);
            row.fate = fate;
            row.attempts += u32::from(tried);
            row.next_attempt = now.plus(wait);
            row.taken_by = None;
            row.taken_until = lingers.max(item.unclear_until).filter(|until| careful && *until > now);
        }
        match settled.row {
            RowNews::Sent | RowNews::Dead => self.drop_older(item, now),
            RowNews::Later(_) | RowNews::Unanswered { .. } => self.drop_if_replaced(item, now),
            RowNews::Back => {}
        }
        let may_be_heard = matches!(settled.row, RowNews::Sent | RowNews::Later(_) | RowNews::Unanswered { .. });
        if !in_time && may_be_heard && careful {
            self.repeat_newest(item, now);
        }
        self.settle_forge(item.repo.forge.as_str(), settled, now);
    }

    /// What is older of the same key has nothing to say any more.
    fn drop_older(&mut self, item: &OutboxItem, now: Timestamp) {
        let key = Key::of(item);
        for older in self.outbox.values_mut().filter(|older| older.key == key && older.id < item.id) {
            if older.fate == Fate::Dead || (older.fate == Fate::Due && !older.may_be_heard(now)) {
                older.fate = Fate::Dropped;
            }
        }
    }

    /// What failed is not tried again once there is a newer word.
    fn drop_if_replaced(&mut self, item: &OutboxItem, now: Timestamp) {
        let key = Key::of(item);
        let newer = |other: &Said| other.key == key && other.id > item.id && other.fate != Fate::Dropped;
        let replaced = self.outbox.values().any(newer);
        if let Some(row) = self.outbox.get_mut(&item.id)
            && replaced
            && row.fate == Fate::Due
            && !row.is_under_way(now)
        {
            row.fate = Fate::Dropped;
        }
    }

    /// A newer word may have been heard before this one: it is said once more.
    fn repeat_newest(&mut self, item: &OutboxItem, now: Timestamp) {
        let key = Key::of(item);
        let newer = |other: &&mut Said| other.key == key && other.id > item.id && other.fate != Fate::Dropped;
        if let Some(newest) = self.outbox.values_mut().filter(newer).last()
            && newest.fate == Fate::Sent
        {
            (newest.fate, newest.next_attempt) = (Fate::Due, now);
        }
    }

    fn settle_forge(&mut self, forge: &str, settled: &Settled, now: Timestamp) {
        match settled.forge {
            ForgeNews::Nothing => {}
            ForgeNews::Answers => {
                self.forgive(forge, now);
            }
            ForgeNews::Asked(wait) => self.pause(forge, wait, now),
            ForgeNews::Careful(wait) => self.leave_alone(forge, now.plus(wait), Timestamp(0)),
        }
        if matches!(settled.row, RowNews::Later(_) | RowNews::Unanswered { .. }) {
            let too_old = |said: &&mut Said| said.fate == Fate::Due && now.since(said.created_at) > settled.give_up;
            for said in self.outbox.values_mut().filter(too_old).filter(|said| !said.may_be_heard(now)) {
                said.fate = Fate::Dead;
            }
        }
    }

    /// Ends a pause that the forge did not ask for, and makes due what waits out of caution; false when there is none.
    fn forgive(&mut self, forge: &str, now: Timestamp) -> bool {
        let ended = self.pauses.get(forge).is_some_and(|pause| pause.asked_until <= now);
        if ended {
            self.pauses.remove(forge);
            for said in self.outbox.values_mut().filter(|said| said.fate == Fate::Due) {
                said.next_attempt = said.next_attempt.min(now);
            }
        }
        ended
    }

    /// Leaves a forge alone by its own word.
    pub(crate) fn pause(&mut self, forge: &str, wait: Duration, now: Timestamp) {
        self.leave_alone(forge, now.plus(wait), now.plus(wait));
    }

    fn leave_alone(&mut self, forge: &str, until: Timestamp, asked_until: Timestamp) {
        let kept = self.pauses.entry(forge.to_owned()).or_insert(Pause { until, asked_until });
        kept.until = until.max(kept.until);
        kept.asked_until = asked_until.max(kept.asked_until);
    }

    /// Somebody mended what was wrong.
    pub(crate) fn resume(&mut self, forge: &str, now: Timestamp) {
        if !self.forgive(forge, now)
            && let Some(pause) = self.pauses.get_mut(forge)
        {
            pause.until = pause.asked_until;
        }
    }
}

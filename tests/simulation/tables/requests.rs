//! What people and newer pushes ask of a build.

use std::time::Duration;

use hookmill::domain::build::{BuildId, Cause, State};
use hookmill::domain::outcome::Outcome;
use hookmill::domain::status::{Status, StatusState};
use hookmill::domain::trust::Trust;
use hookmill::store::{CancelAnswer, NewBuild, RerunAnswer};

use super::{Now, Tables};

/// A build that is to be ended, with all words.
pub(super) struct End {
    pub(super) build: BuildId,
    pub(super) reason: String,
    pub(super) sentence: String,
    pub(super) superseded_by: Option<BuildId>,
}

impl Tables {
    pub(super) fn end(&mut self, words: End, now: Now) -> CancelAnswer {
        let Some(row) = self.builds.get_mut(&words.build) else { return CancelAnswer::NotFound };
        match row.state {
            State::Waiting | State::Queued => {
                row.state = State::Finished;
                row.outcome = Some(Outcome::Cancelled);
                row.reason = Some(words.reason);
                row.superseded_by = words.superseded_by;
                row.finished_at = Some(now.wall);
                self.say_own(words.build, StatusState::Error, &words.sentence, now.steady);
                self.settle_build(words.build, StatusState::Error, &words.sentence, now.steady);
                CancelAnswer::Cancelled
            }
            State::Running => {
                if row.cancel.is_none() {
                    row.cancel = Some((words.reason, words.sentence));
                    row.superseded_by = words.superseded_by;
                }
                CancelAnswer::Requested
            }
            State::Finished => CancelAnswer::AlreadyFinished,
        }
    }

    pub(crate) fn cancel(&mut self, build: BuildId, by: &str, now: Now) -> CancelAnswer {
        let (reason, sentence) = (format!("cancelled by {by}"), format!("Cancelled by {by}"));
        self.end(End { build, reason, sentence, superseded_by: None }, now)
    }

    pub(crate) fn rerun(&mut self, id: BuildId, use_cache: bool, by: &str, now: Now) -> RerunAnswer {
        let Some(old) = self.builds.get(&id) else { return RerunAnswer::NotFound };
        if old.state != State::Finished {
            return RerunAnswer::NotFinished;
        }
        let asked_before = self.of_ref(&old.new.git_ref).filter(|row| {
            row.state != State::Finished && row.new.rerun_of == Some(id) && row.new.use_cache == use_cache
        });
        if let Some(asked_before) = asked_before.last() {
            return RerunAnswer::Made(asked_before.id);
        }
        let attempts = self.of_commit(&old.new.git_ref, &old.new.sha).map(|row| row.attempt);
        let attempt = attempts.max().unwrap_or(0) + 1;
        let unapproved = old.new.trust == Trust::Fork && old.new.approved_by.is_none();
        let short = old.new.sha.short();
        let new = NewBuild {
            state: if unapproved { State::Waiting } else { State::Queued },
            reason: unapproved.then(|| format!("a fork's commit {short} needs approval")),
            status: Status {
                context: old.new.status.context.clone(),
                state: StatusState::Pending,
                sentence: if unapproved {
                    format!("Waiting for a maintainer: a fork's commit {short} needs approval")
                } else {
                    format!("Queued again by {by}")
                },
            },
            cause: Cause::Rerun,
            rerun_of: Some(id),
            use_cache,
            ..old.new.clone()
        };
        RerunAnswer::Made(self.insert(new, attempt, now.wall, now))
    }

    pub(crate) fn lapse_waiting(&mut self, wait: Duration, now: Now) -> Vec<BuildId> {
        let cut = now.wall.0 - i64::try_from(wait.as_millis()).expect("some days");
        let waits = self.builds.values().filter(|row| row.state == State::Waiting && row.created_at.0 < cut);
        let lapsed: Vec<BuildId> = waits.map(|row| row.id).collect();
        let days = wait.as_secs() / 86_400;
        for &build in &lapsed {
            let reason = format!("nobody approved it within {days} days");
            let sentence = format!("Cancelled: nobody approved this fork's commit within {days} days");
            self.end(End { build, reason, sentence, superseded_by: None }, now);
        }
        lapsed
    }
}

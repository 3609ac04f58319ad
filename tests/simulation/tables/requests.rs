//! What people and newer pushes ask of a build.

use std::time::Duration;

use hookmill::config::server::Forks;
use hookmill::domain::build::{BuildId, Cause, State};
use hookmill::domain::outcome::Outcome;
use hookmill::domain::repo::CommitId;
use hookmill::domain::status::{Status, StatusState};
use hookmill::domain::trust::{APPROVAL_HOLDS, Trust};
use hookmill::store::{Approval, ApproveAnswer, CancelAnswer, HeadMoved, NewBuild, Rerun, RerunAnswer};

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

    pub(crate) fn approve(&mut self, id: BuildId, sha: Option<&CommitId>, by: &str, now: Now) -> ApproveAnswer {
        let Some(row) = self.builds.get(&id) else { return ApproveAnswer::NotFound };
        if sha.is_some_and(|sha| *sha != row.new.sha) {
            return ApproveAnswer::OtherCommit(row.new.sha.clone());
        }
        let waits = row.state == State::Waiting;
        let lapsed = row.new.trust == Trust::Fork && row.state == State::Finished && row.started_at.is_none();
        if (waits || lapsed)
            && let Some(moved) = self.moved(id)
        {
            return ApproveAnswer::HeadMoved(moved);
        }
        if !waits {
            return ApproveAnswer::NotNeeded;
        }
        let row = self.builds.get_mut(&id).expect("it was there");
        (row.state, row.reason) = (State::Queued, None);
        row.new.approval = Some(Approval { by: by.to_owned(), at: now.wall });
        let sha = row.new.sha.clone();
        self.say_own(id, StatusState::Pending, &format!("Queued, approved by {by}"), now.steady);
        ApproveAnswer::Approved(sha)
    }

    /// Every ref that has a build was heard of, so there is always a last word.
    fn moved(&self, id: BuildId) -> Option<HeadMoved> {
        let new = &self.builds.get(&id)?.new;
        match self.heads.get(new.git_ref.as_str()).expect("heard of") {
            Some(sha) if *sha == new.sha => None,
            Some(sha) => Some(HeadMoved::To(sha.clone())),
            None => Some(HeadMoved::Closed),
        }
    }

    pub(crate) fn rerun(&mut self, id: BuildId, asked: Rerun, by: &str, now: Now) -> RerunAnswer {
        let use_cache = asked.use_cache;
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
        let free = old.new.trust != Trust::Fork || asked.forks == Forks::Build;
        if !free && let Some(moved) = self.moved(id) {
            return RerunAnswer::HeadMoved(moved);
        }
        let holds = |approval: &Approval| now.wall.since(approval.at) < APPROVAL_HOLDS;
        let approval = old.new.approval.clone().filter(holds).filter(|_| !free);
        let unapproved = !free && approval.is_none();
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
            approval,
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

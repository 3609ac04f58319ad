//! Claims with a lease and a fence.

use std::time::Duration;

use hookmill::domain::build::{BuildId, State};
use hookmill::domain::lease::{Afterwards, Gone, Lease, afterwards};
use hookmill::domain::outcome::Verdict;
use hookmill::domain::status::{Status, StatusState};
use hookmill::store::{Claim, Returned};

use super::{Now, Row, Tables, Without};

/// What a holder is given with its claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claimed {
    pub(crate) claim: Claim,
    pub(crate) context: String,
    pub(crate) claims: u32,
}

impl Tables {
    pub(crate) fn claim(&mut self, lease: Duration, now: Now) -> Option<Claimed> {
        let raise = i64::from(self.without != Without::RisingFence);
        let next = self.next_build()?;
        let row = self.builds.get_mut(&next)?;
        row.state = State::Running;
        row.lease_until = Some(now.steady.plus(lease));
        row.started_at = Some(now.wall);
        row.fence += raise;
        row.claims += 1;
        Some(Claimed {
            claim: Claim { build: row.id, fence: row.fence },
            context: row.new.status.context.clone(),
            claims: row.claims,
        })
    }

    /// Whose turn it is: the oldest that waits, since there is one repository.
    fn next_build(&self) -> Option<BuildId> {
        self.builds.values().find(|row| row.state == State::Queued).map(|row| row.id)
    }

    fn held(&mut self, claim: &Claim) -> Option<&mut Row> {
        let any_fence = self.without == Without::Fence;
        let row = self.builds.get_mut(&claim.build)?;
        (row.state == State::Running && (any_fence || row.fence == claim.fence)).then_some(row)
    }

    pub(crate) fn renew(&mut self, claim: &Claim, lease: Duration, now: Now) -> Lease {
        self.held(claim).map_or(Lease::Lost, |row| {
            row.lease_until = Some(now.steady.plus(lease));
            asked(row)
        })
    }

    pub(crate) fn lease(&mut self, claim: &Claim) -> Lease {
        self.held(claim).map_or(Lease::Lost, |row| asked(row))
    }

    pub(crate) fn report(&mut self, claim: &Claim, statuses: &[Status], now: Now) -> bool {
        let held = self.held(claim).is_some();
        for status in statuses.iter().filter(|_| held) {
            self.say(claim.build, status, now.steady);
        }
        held
    }

    pub(crate) fn finish(&mut self, claim: &Claim, verdict: &Verdict, statuses: &[Status], now: Now) -> bool {
        let Some(row) = self.held(claim) else { return false };
        end(row, verdict, now);
        if verdict.outcome != hookmill::domain::outcome::Outcome::Cancelled {
            row.superseded_by = None;
        }
        for status in statuses {
            self.say(claim.build, status, now.steady);
        }
        self.settle_build(claim.build, verdict.outcome.into(), &verdict.reason, now.steady);
        true
    }

    pub(crate) fn release(&mut self, claim: &Claim, now: Now) -> Option<Returned> {
        self.held(claim)?;
        Some(self.give_back(claim.build, Gone::Drained, now))
    }

    pub(crate) fn expire_leases(&mut self, now: Now) -> Vec<Returned> {
        if self.without == Without::TakingBack {
            return Vec::new();
        }
        let over = |row: &&Row| row.lease_until.is_some_and(|until| until < now.steady);
        let over: Vec<BuildId> = self.builds.values().filter(over).map(|row| row.id).collect();
        over.into_iter().map(|id| self.give_back(id, Gone::Lost, now)).collect()
    }

    fn give_back(&mut self, id: BuildId, gone: Gone, now: Now) -> Returned {
        let row = self.builds.get_mut(&id).expect("it was just found");
        match afterwards(asked(row), row.claims, gone) {
            Afterwards::Again { sentence, .. } => {
                row.state = State::Queued;
                row.lease_until = None;
                row.started_at = None;
                row.claims -= u32::from(gone == Gone::Drained);
                self.say_own(id, StatusState::Pending, sentence, now.steady);
                Returned::Queued(id)
            }
            Afterwards::Ended { verdict, sentence, .. } => {
                end(row, &verdict, now);
                let state = verdict.outcome.into();
                self.say_own(id, state, &sentence, now.steady);
                self.settle_build(id, state, &sentence, now.steady);
                Returned::Finished(id, verdict.outcome)
            }
        }
    }
}

fn asked(row: &Row) -> Lease {
    let (reason, sentence) = row.cancel.clone().unzip();
    Lease::held(reason, sentence, row.superseded_by)
}

fn end(row: &mut Row, verdict: &Verdict, now: Now) {
    row.state = State::Finished;
    row.outcome = Some(verdict.outcome);
    row.reason = Some(verdict.reason.clone());
    row.finished_at = Some(now.wall);
    row.lease_until = None;
}

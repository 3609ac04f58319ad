//! The way to the database and back: requests are late or lost, answers too, and each operation is whole or not at all.

use hookmill::config::server::Forks;
use hookmill::domain::build::BuildId;
use hookmill::domain::lease::Lease;
use hookmill::domain::outcome::Verdict;
use hookmill::domain::status::Status;
use hookmill::store::{Accepted, Claim, OutboxItem, Rerun, Settled};

use super::super::ledger::Broken;
use super::super::payloads::FORGE;
use super::super::tables::{Claimed, Without};
use super::agent::LEASE;
use super::server::SENDING;
use super::{Event, Note, World, name};

/// What is asked of it.
#[derive(Debug, Clone)]
pub(super) enum Op {
    Accept(usize),
    Claim,
    Renew(Claim),
    Look(Claim),
    Report(Claim, Status),
    Finish(Claim, Verdict, Status),
    Release(Claim),
    Expire,
    /// At most so many statuses.
    Take(usize),
    Settle(OutboxItem, Settled),
    Cancel(BuildId),
    Rerun(BuildId),
}

/// What it answers.
#[derive(Debug, Clone)]
pub(super) enum Answer {
    Accepted(Accepted),
    Claimed(Option<Claimed>),
    Lease(Lease),
    /// Written, or not the asker's to write any more.
    Wrote,
    Taken(Vec<OutboxItem>),
    Done,
}

impl World {
    /// Asks; the number by which the answer, or its being overdue after `patience`, is known.
    pub(super) fn ask(&mut self, who: usize, op: Op, patience: u64) -> u64 {
        self.asks += 1;
        let (ask, epoch, way) = (self.asks, self.processes[who].epoch, self.way());
        self.later(way, Event::Asked { who, epoch, ask, op });
        self.note_in(who, patience, Note::Overdue(ask));
        ask
    }

    fn way(&mut self) -> u64 {
        if self.is_troubled() && self.rng.u8(..50) == 0 { self.rng.u64(100..15_000) } else { self.rng.u64(1..20) }
    }

    fn is_reached_by(&mut self, who: usize) -> bool {
        let lost = self.is_troubled() && self.rng.u8(..100) == 0;
        !lost && self.database_back_at <= self.time && self.processes[who].cut_until <= self.time
    }

    pub(super) fn asked(&mut self, who: usize, epoch: u32, ask: u64, op: Op) -> Result<(), Broken> {
        if !self.is_reached_by(who) {
            return Ok(());
        }
        // What a process asked before it died is done all the same; nobody hears the answer.
        let answer = self.perform(who, op)?;
        if self.is_reached_by(who) {
            let way = self.way();
            self.later(way, Event::To { who, epoch, note: Note::Answer(ask, answer) });
        } else {
            self.tell(|| format!("{}: the answer is lost", name(who)));
        }
        Ok(())
    }

    fn perform(&mut self, who: usize, op: Op) -> Result<Answer, Broken> {
        let (now, sender) = (self.now(), name(who));
        if !matches!(op, Op::Expire | Op::Claim | Op::Take(_) | Op::Look(_)) {
            self.tell(|| format!("{sender} asks {op:?}"));
        }
        Ok(match op {
            Op::Accept(delivery) => {
                let answer = self.tables.accept(&self.deliveries[delivery].arrival, now);
                self.wake_all();
                Answer::Accepted(answer)
            }
            Op::Claim => {
                let claimed = self.tables.claim(LEASE, now);
                if let Some(claimed) = &claimed {
                    self.tell(|| {
                        format!("{sender} claims build {} under {}", claimed.claim.build, claimed.claim.fence)
                    });
                    self.ledger.claimed(claimed.claim)?;
                }
                Answer::Claimed(claimed)
            }
            Op::Renew(claim) => Answer::Lease(self.tables.renew(&claim, LEASE, now)),
            Op::Look(claim) => Answer::Lease(self.tables.lease(&claim)),
            Op::Report(claim, status) => self.wrote(claim, |world| world.tables.report(&claim, &[status], now))?,
            Op::Finish(claim, verdict, status) => {
                self.wrote(claim, |world| world.tables.finish(&claim, &verdict, &[status], now))?
            }
            Op::Release(claim) => self.wrote(claim, |world| world.tables.release(&claim, now).is_some())?,
            Op::Expire => {
                let returned = self.tables.expire_leases(now);
                if !returned.is_empty() {
                    self.tell(|| format!("{sender} takes back {returned:?}"));
                    self.wake_all();
                }
                Answer::Done
            }
            Op::Take(limit) => Answer::Taken(self.tables.take(FORGE, &sender, limit, SENDING, now.steady)),
            Op::Settle(item, settled) => {
                self.tables.settle(&sender, &item, &settled, now.steady);
                Answer::Done
            }
            Op::Cancel(build) => {
                self.tables.cancel(build, "jane", now);
                self.wake_all();
                Answer::Done
            }
            Op::Rerun(build) => {
                self.tables.rerun(build, Rerun { use_cache: true, forks: Forks::Approve }, "jane", now);
                self.wake_all();
                Answer::Done
            }
        })
    }

    fn wrote(&mut self, claim: Claim, write: impl FnOnce(&mut Self) -> bool) -> Result<Answer, Broken> {
        let wrote = write(self);
        if wrote {
            self.ledger.wrote(claim)?;
            self.wake_all();
        }
        Ok(Answer::Wrote)
    }

    pub(super) fn lacks(&self, rule: Without) -> bool {
        self.tables.without == rule
    }
}

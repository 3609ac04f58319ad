//! An agent with one slot: claims, runs, renews, settles. What it makes of an answer, or of none, is decided by the
//! production's `domain::lease`.

use std::time::Duration;

use hookmill::domain::build::BuildId;
use hookmill::domain::lease::{Hold, Lease};
use hookmill::domain::outcome::{Outcome, Verdict};
use hookmill::domain::status::{Status, StatusState};
use hookmill::store::Claim;

use super::super::ledger::Broken;
use super::super::tables::{Claimed, Without};
use super::database::{Answer, Op};
use super::{Note, World, millis, name};

const POLL: u64 = 5_000;
/// How long a claim, or a holder that settles, waits for the database.
const PATIENCE: u64 = 10_000;
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(5);
/// `agent.lease`.
pub(super) const LEASE: Duration = Duration::from_secs(60);
/// How long steps may take to heed the word that they are to end.
const GRACE: u64 = 10_000;
/// How long it takes to kill them.
const KILLED: u64 = 100;

/// What an agent knows.
#[derive(Debug, Default)]
pub(super) struct Agent {
    /// The question for a build, and when it was asked.
    claiming: Option<(u64, Duration)>,
    holding: Option<Holding>,
}

/// A build in its slot.
#[derive(Debug)]
struct Holding {
    claim: Claim,
    context: String,
    hold: Hold,
    /// The question that renews, and when it was asked.
    renewing: Option<(u64, Duration)>,
    /// Its steps are running.
    runs: bool,
    end: End,
    /// The question that writes the end, and how long to wait before the next one.
    settling: Option<(u64, Duration)>,
}

/// What is to be written once the steps have ended.
#[derive(Debug, Clone)]
enum End {
    Verdict(Verdict, String),
    Nothing,
}

impl Agent {
    pub(super) fn builds(&self) -> Vec<BuildId> {
        self.holding.iter().map(|holding| holding.claim.build).collect()
    }

    fn held(&mut self, claim: Claim) -> Option<&mut Holding> {
        self.holding.as_mut().filter(|holding| holding.claim == claim)
    }
}

impl World {
    pub(super) fn agent(&mut self, who: usize, note: Note) -> Result<(), Broken> {
        match note {
            Note::Poll => {
                self.look_for_work(who);
                self.note_in(who, POLL, Note::Poll);
            }
            Note::Woken => {
                self.look_for_work(who);
                self.look_at_lease(who);
            }
            Note::Beat(claim) => self.beat(who, claim),
            Note::Step(claim) => self.begin_step(who, claim),
            Note::Through(claim) => self.through(who, claim),
            Note::Again(claim) => self.settle(who, claim),
            Note::Answer(ask, answer) => self.heard(who, ask, answer)?,
            Note::Overdue(ask) => self.overdue(who, ask),
            Note::Drain => self.drain(who),
            Note::Delivery(_) | Note::Judged(..) | Note::Sweep => {}
        }
        Ok(())
    }

    fn here(&mut self, who: usize) -> &mut Agent {
        &mut self.agents[who - super::SERVERS]
    }

    /// By a clock that nobody turns.
    fn clock(&self) -> Duration {
        Duration::from_millis(self.time)
    }

    fn look_for_work(&mut self, who: usize) {
        let agent = self.here(who);
        if agent.claiming.is_none() && agent.holding.is_none() {
            let asked = self.clock();
            let ask = self.ask(who, Op::Claim, PATIENCE);
            self.here(who).claiming = Some((ask, asked));
        }
    }

    fn heard(&mut self, who: usize, ask: u64, answer: Answer) -> Result<(), Broken> {
        let now = self.clock();
        let agent = self.here(who);
        match answer {
            Answer::Claimed(claimed) => {
                if let Some((_, asked)) = agent.claiming.take_if(|(asked_as, _)| *asked_as == ask)
                    && let Some(claimed) = claimed
                {
                    self.begin(who, claimed, asked)?;
                }
            }
            Answer::Lease(lease) => {
                let Some(holding) = &mut agent.holding else { return Ok(()) };
                let claim = holding.claim;
                if let Some((_, asked)) = holding.renewing.take_if(|(asked_as, _)| *asked_as == ask) {
                    holding.hold.answered(asked, &lease);
                    self.next_beat(who, claim, now);
                }
                self.learned(who, claim, lease);
            }
            Answer::Wrote => {
                // Either way it is over.
                let settling = agent.holding.as_ref().and_then(|holding| holding.settling);
                if settling.is_some_and(|(asked_as, _)| asked_as == ask) {
                    self.forget(who);
                }
            }
            Answer::Accepted(_) | Answer::Taken(_) | Answer::Done => {}
        }
        Ok(())
    }

    fn begin(&mut self, who: usize, claimed: Claimed, asked: Duration) -> Result<(), Broken> {
        let (claim, hold) = (claimed.claim, Hold::since(asked, LEASE));
        if hold.is_over(self.clock()) && !self.lacks(Without::StoppingInTime) {
            return Ok(());
        }
        let outcome = match self.rng.u8(..10) {
            0..6 => Outcome::Passed,
            6..9 => Outcome::Failed,
            _ => Outcome::Broken,
        };
        let verdict = Verdict::new(outcome, format!("{} in fence {}", outcome.as_str(), claim.fence));
        let sentence = verdict.reason.clone();
        self.here(who).holding = Some(Holding {
            claim,
            context: claimed.context,
            hold,
            renewing: None,
            runs: true,
            end: End::Verdict(verdict, sentence),
            settling: None,
        });
        self.processes[who].was_stopped = false;
        let (processes, ahead) = (&self.processes, self.database_ahead);
        // A clock that jumps ends leases before their time; then too only one of them can write.
        self.ledger.began(claim.build, who, |other| processes[other].was_stopped || ahead > 0)?;
        let now = self.clock();
        self.next_beat(who, claim, now);
        let long = self.rng.u8(..8) == 0;
        let work = if long { self.rng.u64(60_000..240_000) } else { self.rng.u64(50..30_000) };
        if self.rng.bool() {
            self.note_in(who, work / 3, Note::Step(claim));
        }
        self.note_in(who, work, Note::Through(claim));
        Ok(())
    }

    fn next_beat(&mut self, who: usize, claim: Claim, now: Duration) {
        let Some(holding) = self.here(who).held(claim) else { return };
        let beat = millis(holding.hold.next_beat().saturating_sub(now));
        self.note_in(who, beat, Note::Beat(claim));
    }

    fn beat(&mut self, who: usize, claim: Claim) {
        let asked = self.clock();
        let Some(holding) = self.here(who).held(claim) else { return };
        if !holding.runs || holding.renewing.is_some() || asked < holding.hold.next_beat() {
            return;
        }
        if holding.hold.is_over(asked) {
            return self.over(who, claim);
        }
        let patience = millis(holding.hold.patience(asked));
        let ask = self.ask(who, Op::Renew(claim), patience);
        if let Some(holding) = self.here(who).held(claim) {
            holding.renewing = Some((ask, asked));
        }
    }

    fn look_at_lease(&mut self, who: usize) {
        if let Some(claim) = self.here(who).holding.as_ref().filter(|holding| holding.runs).map(|held| held.claim) {
            self.ask(who, Op::Look(claim), PATIENCE);
        }
    }

    fn overdue(&mut self, who: usize, ask: u64) {
        let now = self.clock();
        let agent = self.here(who);
        agent.claiming.take_if(|(asked_as, _)| *asked_as == ask);
        let Some(holding) = &mut agent.holding else { return };
        let claim = holding.claim;
        if holding.renewing.take_if(|(asked_as, _)| *asked_as == ask).is_some() {
            holding.hold.unanswered(now);
            self.next_beat(who, claim, now);
        } else if let Some((_, wait)) = holding.settling.filter(|(asked_as, _)| *asked_as == ask) {
            self.note_in(who, millis(wait), Note::Again(claim));
        }
    }

    /// Nothing was heard for so long that somebody else may have the build.
    fn over(&mut self, who: usize, claim: Claim) {
        if !self.lacks(Without::StoppingInTime) {
            self.learned(who, claim, Lease::Lost);
        }
    }

    /// What a holder does by what it learns.
    fn learned(&mut self, who: usize, claim: Claim, lease: Lease) {
        if self.here(who).held(claim).is_none_or(|holding| !holding.runs) {
            return;
        }
        let (end, within) = match lease {
            Lease::Held => return,
            Lease::CancelRequested { reason, sentence, .. } => {
                (End::Verdict(Verdict::new(Outcome::Cancelled, reason), sentence), GRACE)
            }
            Lease::Lost => (End::Nothing, KILLED),
        };
        self.tell(|| format!("{} stops build {}: {end:?}", name(who), claim.build));
        if let Some(holding) = self.here(who).held(claim) {
            holding.end = end;
        }
        self.soon(who, Note::Through(claim), 1..within);
    }

    fn begin_step(&mut self, who: usize, claim: Claim) {
        let Some(holding) = self.here(who).held(claim).filter(|holding| holding.runs) else { return };
        let context = format!("{}/npm", holding.context);
        let status = Status { context, state: StatusState::Pending, sentence: "npm is running".to_owned() };
        self.ask(who, Op::Report(claim, status), PATIENCE);
    }

    /// Its steps have ended, by themselves or because they were told to.
    fn through(&mut self, who: usize, claim: Claim) {
        let Some(holding) = self.here(who).held(claim).filter(|holding| holding.runs) else { return };
        holding.runs = false;
        self.ledger.ended(claim.build, who);
        self.settle(who, claim);
    }

    fn settle(&mut self, who: usize, claim: Claim) {
        let now = self.clock();
        let goes_on = self.lacks(Without::StoppingInTime);
        let Some(holding) = self.here(who).held(claim) else { return };
        let is_over = holding.hold.is_over(now) && !goes_on;
        let End::Verdict(verdict, sentence) = holding.end.clone() else { return self.forget(who) };
        if is_over {
            return self.forget(who);
        }
        let wait = holding.settling.map_or(FIRST_WAIT, |(_, wait)| (wait * 2).min(LONGEST_WAIT));
        let state = StatusState::from(verdict.outcome);
        let status = Status { context: holding.context.clone(), state, sentence };
        let ask = self.ask(who, Op::Finish(claim, verdict, status), PATIENCE);
        if let Some(holding) = self.here(who).held(claim) {
            holding.settling = Some((ask, wait));
        }
    }

    fn forget(&mut self, who: usize) {
        self.here(who).holding = None;
        self.look_for_work(who);
    }

    /// Ends in order: what runs is cut off and given back.
    fn drain(&mut self, who: usize) {
        let runs = self.here(who).holding.as_ref().filter(|holding| holding.runs).map(|holding| holding.claim);
        if let Some(claim) = runs {
            self.tell(|| format!("{} gives build {} back", name(who), claim.build));
            self.ledger.ended(claim.build, who);
            self.ask(who, Op::Release(claim), PATIENCE);
        }
        self.kill(who, 500);
    }
}

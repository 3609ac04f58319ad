//! The queue: claims with a lease and a fence.
//!
//! A claim's fence is higher than every earlier one of the same build. Every write of a holder names its fence; when
//! somebody else has claimed the build since, or it was finished, no row fits and the holder learns that it must stop.

use std::time::Duration;

use super::clock::Now;
use super::news::Topic;
use super::outbox::{Speaker, speaker_columns};
use super::sql::{self, Connection, Query, Row, Value};
use super::{Store, StoreError, builds, locks, row, rulings, steps, turns};
use crate::domain::build::{Build, BuildId, KeptLevel};
use crate::domain::lease::{Afterwards, Gone, Lease, afterwards};
use crate::domain::outcome::{Outcome, Verdict};
use crate::domain::repo::CommitId;
use crate::domain::rule::{Rule, Ruling};
use crate::domain::status::{Status, StatusState};

/// The right to run a build, as long as nobody claimed it since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Claim {
    /// The build.
    pub build: BuildId,
    /// Which claim of the build this is.
    pub fence: i64,
}

/// A build that was claimed.
#[derive(Debug, Clone, PartialEq)]
pub struct Claimed {
    /// The right to run it.
    pub claim: Claim,
    /// The build, now running.
    pub build: Build,
    /// The context of its status.
    pub context: String,
    /// 1, or more when leases were lost.
    pub claims: u32,
}

/// What became of a build whose holder no longer has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Returned {
    /// It is queued again.
    Queued(BuildId),
    /// It was finished: cancelled where that was asked, else broken.
    Finished(BuildId, Outcome),
}

/// Which running builds go back.
#[derive(Debug, Clone)]
enum Which {
    /// Those whose lease ran out; the claim counts.
    Expired,
    /// Those of this agent, which is starting; the claims count.
    Left(String),
    /// The one that its holder gives back; the claim does not count.
    Held(Claim),
}

impl Store {
    /// Claims a queued build for `agent`, which must renew before `lease` is over: the oldest one of the repository whose
    /// turn it is (`turns`). `None`: nothing is queued, or the agent was asked to pause.
    pub async fn claim(&self, agent: &str, lease: Duration) -> Result<Option<Claimed>, StoreError> {
        let (agent, clock) = (agent.to_owned(), self.inner.clock.clone());
        self.write(false, move |connection| {
            Box::pin(async move {
                let (until, now) = (clock.steady().plus(lease).0, clock.wall().0);
                let ask = |statement| sql::query(statement).bind(agent.clone()).bind(until).bind(now);
                let mut claimed = ask(turns::CLAIM).fetch_optional(&mut *connection).await?;
                if claimed.is_none() && connection.is_shared() {
                    claimed = ask(turns::CLAIM_ANY).fetch_optional(&mut *connection).await?;
                }
                let Some(claimed) = claimed else { return Ok(None) };
                turns::served(connection, &claimed).await?;
                let claimed = read_claimed(&claimed)?;
                connection.tell(Topic::Build(claimed.build.id));
                Ok(Some(claimed))
            })
        })
        .await
    }

    /// Holds a claim for another `lease`.
    pub async fn renew(&self, claim: &Claim, lease: Duration) -> Result<Lease, StoreError> {
        let (claim, clock) = (*claim, self.inner.clock.clone());
        self.write(false, move |connection| {
            Box::pin(async move {
                let held = sql::query(
                    "UPDATE builds SET lease_until = $1 WHERE id = $2 AND fence = $3 AND state = 'running' \
                     RETURNING cancel_reason, cancel_sentence, superseded_by",
                )
                .bind(clock.steady().plus(lease).0)
                .bind(claim.build.0)
                .bind(claim.fence)
                .fetch_optional(connection)
                .await?;
                held.as_ref().map_or(Ok(Lease::Lost), read_lease)
            })
        })
        .await
    }

    /// Whether a claim holds and whether its build is to be ended, without renewing it: cheap, for a holder that was
    /// told of a change.
    pub async fn lease(&self, claim: &Claim) -> Result<Lease, StoreError> {
        let held = sql::query(
            "SELECT cancel_reason, cancel_sentence, superseded_by FROM builds \
             WHERE id = $1 AND fence = $2 AND state = 'running'",
        )
        .bind(claim.build.0)
        .bind(claim.fence)
        .fetch_optional(&self.inner.readers)
        .await?;
        held.as_ref().map_or(Ok(Lease::Lost), read_lease)
    }

    /// Writes which layers confine the build. False: the claim is lost, nothing was written.
    pub async fn set_sandbox(&self, claim: &Claim, sandbox: &str) -> Result<bool, StoreError> {
        let statement = "UPDATE builds SET sandbox = $1 WHERE id = $2 AND fence = $3 AND state = 'running'";
        self.set(claim, statement, sandbox.to_owned()).await
    }

    /// Writes which commit was checked out. False: the claim is lost, nothing was written.
    pub async fn set_built_sha(&self, claim: &Claim, sha: &CommitId) -> Result<bool, StoreError> {
        let statement = "UPDATE builds SET built_sha = $1 WHERE id = $2 AND fence = $3 AND state = 'running'";
        self.set(claim, statement, sha.to_string()).await
    }

    /// Writes whose verdict the build takes over. False: the claim is lost, nothing was written.
    pub async fn set_same_as(&self, claim: &Claim, other: BuildId) -> Result<bool, StoreError> {
        let statement = "UPDATE builds SET same_as = $1 WHERE id = $2 AND fence = $3 AND state = 'running'";
        self.set(claim, statement, other.0).await
    }

    /// Writes what a finished build left for later ones: that is kept after its end, so it has no lease any more. False:
    /// somebody else finished it, nothing was written.
    pub async fn set_kept(&self, claim: &Claim, kept: &[KeptLevel]) -> Result<bool, StoreError> {
        let statement = "UPDATE builds SET kept = $1 WHERE id = $2 AND fence = $3 AND state = 'finished'";
        let kept = serde_json::to_string(kept).expect("words and numbers always have a JSON form");
        self.set(claim, statement, kept).await
    }

    async fn set(
        &self,
        claim: &Claim,
        statement: &'static str,
        value: impl Into<Value<'static>>,
    ) -> Result<bool, StoreError> {
        let (claim, value) = (*claim, value.into());
        self.write(false, move |connection| {
            Box::pin(async move {
                let updated = sql::query(statement).bind(value).bind(claim.build.0).bind(claim.fence);
                Ok(updated.execute(connection).await?.rows_affected() > 0)
            })
        })
        .await
    }

    /// Says something on the way (a step begins). False: the claim is lost, nothing was written.
    pub async fn report(&self, claim: &Claim, statuses: &[Status]) -> Result<bool, StoreError> {
        let (claim, statuses, now) = (*claim, statuses.to_vec(), self.inner.clock.steady());
        self.write(false, move |connection| {
            Box::pin(async move {
                locks::of_builds(connection, &[claim.build]).await?;
                let held = sql::query(concat!(
                    "SELECT ",
                    speaker_columns!(),
                    " FROM builds WHERE id = $1 AND fence = $2 AND state = 'running' /*pg: FOR UPDATE */"
                ))
                .bind(claim.build.0)
                .bind(claim.fence)
                .fetch_optional(&mut *connection)
                .await?;
                let Some(held) = held else { return Ok(false) };
                let speaker = Speaker::from_row(&held)?;
                for status in &statuses {
                    speaker.say(connection, status, now).await?;
                }
                Ok(true)
            })
        })
        .await
    }

    /// Finishes a build with its final statuses, and gives every context that it left pending the verdict's reason as
    /// its final word. False: the claim is lost, nothing was written.
    pub async fn finish(&self, claim: &Claim, verdict: &Verdict, statuses: &[Status]) -> Result<bool, StoreError> {
        let (claim, verdict, statuses, clock) = (*claim, verdict.clone(), statuses.to_vec(), self.inner.clock.clone());
        self.write(false, move |connection| {
            Box::pin(async move {
                locks::of_builds(connection, &[claim.build]).await?;
                let finished = sql::query(concat!(
                    "UPDATE builds SET state = 'finished', outcome = $1, reason = $2, finished_at = $3, agent = NULL, \
                     lease_until = NULL, \
                     superseded_by = CASE WHEN $1 = 'cancelled' THEN superseded_by ELSE NULL END \
                     WHERE id = $4 AND fence = $5 AND state = 'running' RETURNING ",
                    speaker_columns!()
                ))
                .bind(verdict.outcome.as_str())
                .bind(&verdict.reason)
                .bind(clock.wall().0)
                .bind(claim.build.0)
                .bind(claim.fence)
                .fetch_optional(&mut *connection)
                .await?;
                let Some(finished) = finished else { return Ok(false) };
                let speaker = Speaker::from_row(&finished)?;
                for status in &statuses {
                    speaker.say(connection, status, clock.steady()).await?;
                }
                speaker.settle(connection, verdict.outcome.into(), &verdict.reason, clock.steady()).await?;
                connection.tell(Topic::Build(claim.build));
                Ok(true)
            })
        })
        .await
    }

    /// Gives a build back (its agent drains); the claim does not count. `None`: the claim was lost before.
    pub async fn release(&self, claim: &Claim) -> Result<Option<Returned>, StoreError> {
        let returned = self.give_back(Which::Held(*claim)).await?;
        Ok(returned.first().copied())
    }

    /// Takes back the builds whose lease ran out. Leases go by the steady clock: turning the wall clock loses none.
    pub async fn expire_leases(&self) -> Result<Vec<Returned>, StoreError> {
        self.give_back(Which::Expired).await
    }

    /// At the start of an agent, before its first claim: takes back the builds that it ran when it ended. In a SQLite
    /// file these are all that run, whatever the agent was called then: the process lock proves that whoever held them
    /// is gone. In a shared database they are those of this name, and no two agents may have the same; the others'
    /// leases run out by themselves.
    pub async fn recover(&self, agent: &str) -> Result<Vec<Returned>, StoreError> {
        self.give_back(Which::Left(agent.to_owned())).await
    }

    async fn give_back(&self, which: Which) -> Result<Vec<Returned>, StoreError> {
        let clock = self.inner.clock.clone();
        self.write(false, move |connection| {
            Box::pin(async move {
                let now = clock.now();
                let looked = which.query(connection, Which::LOOK, now).fetch_all(&mut *connection).await?;
                let found = looked.iter().map(|row| row.try_get("id").map(BuildId)).collect::<Result<Vec<_>, _>>()?;
                // Under their repositories' locks they are looked at again: one may have been finished meanwhile.
                locks::of_builds(connection, &found).await?;
                let rows = which.query(connection, Which::TAKE, now).fetch_all(&mut *connection).await?;
                let gone = if matches!(which, Which::Held(_)) { Gone::Drained } else { Gone::Lost };
                let mut returned = Vec::with_capacity(rows.len());
                for held in &rows {
                    if found.contains(&BuildId(held.try_get("id")?)) {
                        returned.push(give_one_back(connection, held, gone, now).await?);
                    }
                }
                Ok(returned)
            })
        })
        .await
    }
}

/// Running builds that fit a condition.
macro_rules! running {
    ($condition:literal) => {
        [
            concat!("SELECT id FROM builds WHERE finished_at IS NULL AND state = 'running' AND ", $condition),
            concat!(
                "SELECT * FROM builds WHERE finished_at IS NULL AND state = 'running' AND ",
                $condition,
                " ORDER BY id /*pg: FOR UPDATE */"
            ),
        ]
    };
}

impl Which {
    /// To look at them.
    const LOOK: usize = 0;
    /// To change them.
    const TAKE: usize = 1;

    fn query(&self, connection: &Connection, purpose: usize, now: Now) -> Query<'static> {
        match self {
            Which::Left(agent) => sql::query(running!("(agent = $1 OR $2 = 0)")[purpose])
                .bind(agent.clone())
                .bind(i64::from(connection.is_shared())),
            Which::Expired => sql::query(running!("lease_until < $1")[purpose]).bind(now.steady.0),
            Which::Held(claim) => {
                sql::query(running!("id = $1 AND fence = $2")[purpose]).bind(claim.build.0).bind(claim.fence)
            }
        }
    }
}

fn read_claimed(from: &Row) -> Result<Claimed, StoreError> {
    let build = builds::build(from)?;
    Ok(Claimed {
        claim: Claim { build: build.id, fence: from.try_get("fence")? },
        build,
        context: from.try_get("context")?,
        claims: row::number(from, "claims")?,
    })
}

fn read_lease(from: &Row) -> Result<Lease, StoreError> {
    let superseded_by = row::build_if(from, "superseded_by")?;
    Ok(Lease::held(from.try_get("cancel_reason")?, from.try_get("cancel_sentence")?, superseded_by))
}

/// Puts a running build back into the queue, or finishes it where it was to be cancelled or was lost too often.
async fn give_one_back(connection: &mut Connection, held: &Row, gone: Gone, now: Now) -> Result<Returned, StoreError> {
    let speaker = Speaker::from_row(held)?;
    connection.tell(Topic::Build(speaker.build));
    let (rule, sentence) = match afterwards(read_lease(held)?, row::number(held, "claims")?, gone) {
        Afterwards::Again { rule, sentence } => (rule, sentence),
        Afterwards::Ended { rule, verdict, sentence } => {
            tell(connection, speaker.build, rule, &sentence, now).await?;
            return end_lost(connection, &speaker, &verdict, &sentence, now).await;
        }
    };
    sql::query(
        "UPDATE builds SET state = 'queued', agent = NULL, lease_until = NULL, started_at = NULL, built_sha = NULL, \
         sandbox = '', same_as = NULL, claims = claims - $1 WHERE id = $2 AND state = 'running'",
    )
    .bind(i64::from(gone == Gone::Drained))
    .bind(speaker.build.0)
    .execute(&mut *connection)
    .await?;
    steps::delete(connection, speaker.build).await?;
    connection.tell(Topic::Queue);
    speaker.say_own(connection, StatusState::Pending, sentence, now.steady).await?;
    tell(connection, speaker.build, rule, sentence, now).await?;
    Ok(Returned::Queued(speaker.build))
}

/// Writes a line of the build's history.
async fn tell(
    connection: &mut Connection,
    build: BuildId,
    rule: Rule,
    because: &str,
    now: Now,
) -> Result<(), StoreError> {
    let ruling = Ruling { at: now.wall, rule, because: because.to_owned(), other_build: None, delivery: None };
    rulings::write(connection, &[(build, ruling)]).await
}

async fn end_lost(
    connection: &mut Connection,
    speaker: &Speaker,
    verdict: &Verdict,
    sentence: &str,
    now: Now,
) -> Result<Returned, StoreError> {
    sql::query(
        "UPDATE builds SET state = 'finished', outcome = $1, reason = $2, finished_at = $3, agent = NULL, \
         lease_until = NULL WHERE id = $4 AND state = 'running'",
    )
    .bind(verdict.outcome.as_str())
    .bind(&verdict.reason)
    .bind(now.wall.0)
    .bind(speaker.build.0)
    .execute(&mut *connection)
    .await?;
    sql::query(
        "UPDATE steps SET outcome = CASE WHEN state = 'running' THEN $1 ELSE 'cancelled' END, state = 'finished', \
         finished_at = $2 WHERE build_id = $3 AND state <> 'finished'",
    )
    .bind(verdict.outcome.as_str())
    .bind(now.wall.0)
    .bind(speaker.build.0)
    .execute(&mut *connection)
    .await?;
    speaker.say_own(connection, verdict.outcome.into(), sentence, now.steady).await?;
    speaker.settle(connection, verdict.outcome.into(), sentence, now.steady).await?;
    Ok(Returned::Finished(speaker.build, verdict.outcome))
}

//! The queue: claims with a lease and a fence.
//!
//! A claim's fence is higher than every earlier one of the same build. Every write of a holder names its fence; when
//! somebody else has claimed the build since, or it was finished, no row fits and the holder learns that it must stop.

use std::time::Duration;

use sqlx::Row as _;

use super::clock::Now;
use super::outbox::{Speaker, speaker_columns};
use super::sqlite::{Connection, Row};
use super::{Store, StoreError, builds, row, rulings, steps, turns};
use crate::domain::build::{Build, BuildId, KeptLevel};
use crate::domain::outcome::{Outcome, Verdict};
use crate::domain::repo::CommitId;
use crate::domain::rule::{Rule, Ruling};
use crate::domain::status::{Status, StatusState};

/// After so many claims whose lease was lost, a build ends broken.
pub const MAX_CLAIMS: u32 = 3;

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

/// What a holder learns when it renews.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lease {
    /// Go on.
    Held,
    /// Go on only to end it: stop the steps and finish it as cancelled, with these words.
    CancelRequested {
        /// The build's reason: `cancelled by jane`, `superseded by #13`.
        reason: String,
        /// Its status' sentence.
        sentence: String,
        /// The newer build, if one took its place.
        superseded_by: Option<BuildId>,
    },
    /// Somebody else has it, or it is finished: kill its steps and write nothing.
    Lost,
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
#[derive(Debug, Clone, Copy)]
enum Which {
    /// Those whose lease ran out; the claim counts.
    Expired,
    /// All of them; the claims count.
    All,
    /// The one that its holder gives back; the claim does not count.
    Held(Claim),
}

impl Store {
    /// Claims a queued build for `agent`, which must renew before `lease` is over: the oldest one of the repository whose
    /// turn it is (`turns`). `None`: nothing is queued.
    pub async fn claim(&self, agent: &str, lease: Duration) -> Result<Option<Claimed>, StoreError> {
        let (agent, clock) = (agent.to_owned(), self.inner.clock.clone());
        self.write(false, move |connection| {
            Box::pin(async move {
                let claimed = sqlx::query(turns::CLAIM)
                    .bind(agent)
                    .bind(clock.steady().plus(lease).0)
                    .bind(clock.wall().0)
                    .fetch_optional(&mut *connection)
                    .await?;
                let Some(claimed) = claimed else { return Ok(None) };
                turns::served(connection, &claimed).await?;
                read_claimed(&claimed).map(Some)
            })
        })
        .await
    }

    /// Holds a claim for another `lease`.
    pub async fn renew(&self, claim: &Claim, lease: Duration) -> Result<Lease, StoreError> {
        let (claim, clock) = (*claim, self.inner.clock.clone());
        self.write(false, move |connection| {
            Box::pin(async move {
                let held = sqlx::query(
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
        let held = sqlx::query(
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
        self.set(claim, statement, other.to_string()).await
    }

    /// Writes what a finished build left for later ones: that is kept after its end, so it has no lease any more. False:
    /// somebody else finished it, nothing was written.
    pub async fn set_kept(&self, claim: &Claim, kept: &[KeptLevel]) -> Result<bool, StoreError> {
        let statement = "UPDATE builds SET kept = $1 WHERE id = $2 AND fence = $3 AND state = 'finished'";
        let kept = serde_json::to_string(kept).expect("words and numbers always have a JSON form");
        self.set(claim, statement, kept).await
    }

    async fn set(&self, claim: &Claim, statement: &'static str, value: String) -> Result<bool, StoreError> {
        let claim = *claim;
        self.write(false, move |connection| {
            Box::pin(async move {
                let updated = sqlx::query(statement).bind(value).bind(claim.build.0).bind(claim.fence);
                Ok(updated.execute(connection).await?.rows_affected() > 0)
            })
        })
        .await
    }

    /// Says something on the way (a step begins). False: the claim is lost, nothing was written.
    pub async fn report(&self, claim: &Claim, statuses: &[Status]) -> Result<bool, StoreError> {
        let (claim, statuses, now) = (*claim, statuses.to_vec(), self.inner.clock.steady());
        self.write(true, move |connection| {
            Box::pin(async move {
                let held = sqlx::query(concat!(
                    "SELECT ",
                    speaker_columns!(),
                    " FROM builds WHERE id = $1 AND fence = $2 AND state = 'running'"
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
        self.write(true, move |connection| {
            Box::pin(async move {
                let finished = sqlx::query(concat!(
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

    /// At the start of a process, before the first claim: takes back every running build. The process lock proves that
    /// whoever held them is gone, whatever its agent was called and whatever the clock says.
    pub async fn recover(&self) -> Result<Vec<Returned>, StoreError> {
        self.give_back(Which::All).await
    }

    async fn give_back(&self, which: Which) -> Result<Vec<Returned>, StoreError> {
        let clock = self.inner.clock.clone();
        self.write(true, move |connection| {
            Box::pin(async move {
                let now = clock.now();
                let (all, expired, held) = (
                    "SELECT * FROM builds WHERE finished_at IS NULL AND state = 'running' ORDER BY id",
                    "SELECT * FROM builds WHERE finished_at IS NULL AND state = 'running' AND lease_until < $1 ORDER BY id",
                    "SELECT * FROM builds WHERE state = 'running' AND id = $1 AND fence = $2",
                );
                let query = match which {
                    Which::All => sqlx::query(all),
                    Which::Expired => sqlx::query(expired).bind(now.steady.0),
                    Which::Held(claim) => sqlx::query(held).bind(claim.build.0).bind(claim.fence),
                };
                let rows = query.fetch_all(&mut *connection).await?;
                let counts = !matches!(which, Which::Held(_));
                let mut returned = Vec::with_capacity(rows.len());
                for held in &rows {
                    returned.push(give_one_back(connection, held, counts, now).await?);
                }
                Ok(returned)
            })
        })
        .await
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
    let reason: Option<String> = from.try_get("cancel_reason")?;
    let sentence: Option<String> = from.try_get("cancel_sentence")?;
    Ok(match reason {
        None => Lease::Held,
        Some(reason) => Lease::CancelRequested {
            sentence: sentence.unwrap_or_else(|| reason.clone()),
            reason,
            superseded_by: row::build_if(from, "superseded_by")?,
        },
    })
}

/// Puts a running build back into the queue, or finishes it where it was to be cancelled or was lost too often.
async fn give_one_back(
    connection: &mut Connection,
    held: &Row,
    counts: bool,
    now: Now,
) -> Result<Returned, StoreError> {
    let speaker = Speaker::from_row(held)?;
    let claims: u32 = row::number(held, "claims")?;
    if let Lease::CancelRequested { reason, sentence, .. } = read_lease(held)? {
        let verdict = Verdict::new(Outcome::Cancelled, reason);
        return end_lost(connection, &speaker, &verdict, &sentence, now).await;
    }
    if counts && claims >= MAX_CLAIMS {
        let sentence = format!("Not your commit: the agent was lost {claims} times while it ran this build");
        let verdict = Verdict::new(Outcome::Broken, "agent lost");
        tell(connection, speaker.build, Rule::AgentLostTooOften, &sentence, now).await?;
        return end_lost(connection, &speaker, &verdict, &sentence, now).await;
    }
    let (given_back, rule, sentence) = if counts {
        (0, Rule::AgentLost, "Queued again: the agent that ran it was lost")
    } else {
        (1, Rule::AgentDrains, "Queued again: the agent that ran it is restarting")
    };
    sqlx::query(
        "UPDATE builds SET state = 'queued', agent = NULL, lease_until = NULL, started_at = NULL, built_sha = NULL, \
         sandbox = '', same_as = NULL, claims = claims - $1 WHERE id = $2 AND state = 'running'",
    )
    .bind(given_back)
    .bind(speaker.build.0)
    .execute(&mut *connection)
    .await?;
    steps::delete(connection, speaker.build).await?;
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
    sqlx::query(
        "UPDATE builds SET state = 'finished', outcome = $1, reason = $2, finished_at = $3, agent = NULL, \
         lease_until = NULL WHERE id = $4 AND state = 'running'",
    )
    .bind(verdict.outcome.as_str())
    .bind(&verdict.reason)
    .bind(now.wall.0)
    .bind(speaker.build.0)
    .execute(&mut *connection)
    .await?;
    sqlx::query(
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

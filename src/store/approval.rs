//! A maintainer's word on a fork's build: given for one commit, and only while that is the head of its pull request.

use std::time::Duration;

use super::clock::Now;
use super::news::Topic;
use super::outbox::{Speaker, speaker_columns};
use super::requests::{End, end};
use super::sql::{self, Connection};
use super::{Store, StoreError, audit, builds, locks, row, rulings};
use crate::domain::audit::{Act, Actor, Deed};
use crate::domain::build::{Build, BuildId, State};
use crate::domain::repo::CommitId;
use crate::domain::rule::{Rule, Ruling};
use crate::domain::status::StatusState;
use crate::domain::time::Timestamp;
use crate::domain::trust::{APPROVAL_HOLDS, Trust};

/// Who approved a fork's commit, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approval {
    /// Their name.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

/// What a request to approve came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ApproveAnswer {
    /// The build is queued; this is the commit that was approved.
    Approved(CommitId),
    /// The build does not wait for anybody's word.
    NotNeeded,
    /// Its commit is no longer the head of its pull request.
    HeadMoved(Moved),
    /// The request names another commit than the build's, which is this.
    OtherCommit(CommitId),
    /// There is none of that number.
    NotFound,
}

/// Where the head of a pull request went from a build's commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Moved {
    /// To this commit.
    To(CommitId),
    /// Nowhere: the pull request is closed.
    Closed,
}

impl Store {
    /// Approves a waiting build in the name of `by`. `sha`, where it is given, must be the build's commit.
    pub async fn approve(&self, id: BuildId, sha: Option<CommitId>, by: &Actor) -> Result<ApproveAnswer, StoreError> {
        let (by, clock) = (by.clone(), self.inner.clock.clone());
        self.write(false, move |connection| {
            Box::pin(async move {
                locks::of_builds(connection, &[id]).await?;
                let Some(build) = builds::one(connection, id).await? else { return Ok(ApproveAnswer::NotFound) };
                if let Some(answer) = refusal(connection, &build, sha.as_ref()).await? {
                    return Ok(answer);
                }
                approve(connection, build, &by, clock.now()).await
            })
        })
        .await
    }

    /// Ends the forks' builds that have waited longer than `wait` for approval.
    pub async fn lapse_waiting(&self, wait: Duration) -> Result<Vec<BuildId>, StoreError> {
        let clock = self.inner.clock.clone();
        self.write(false, move |connection| {
            Box::pin(async move {
                let now = clock.now();
                let cut = now.wall.0.saturating_sub(row::stored(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)));
                let lapsed: Vec<i64> = sql::query_scalar(
                    "SELECT id FROM builds WHERE finished_at IS NULL AND state = 'waiting' AND created_at < $1 \
                     ORDER BY id",
                )
                .bind(cut)
                .fetch_all(&mut *connection)
                .await?;
                let lapsed: Vec<BuildId> = lapsed.into_iter().map(BuildId).collect();
                locks::of_builds(connection, &lapsed).await?;
                let mut ended = Vec::with_capacity(lapsed.len());
                for id in lapsed {
                    let days = wait.as_secs() / 86_400;
                    let words = End {
                        build: id,
                        reason: format!("nobody approved it within {days} days"),
                        sentence: format!("Cancelled: nobody approved this fork's commit within {days} days"),
                        superseded_by: None,
                        rule: Rule::NobodyApproved,
                        delivery: None,
                    };
                    // Approved meanwhile, it is another's to end.
                    if is_waiting(connection, id).await? {
                        end(connection, &words, now).await?;
                        ended.push(id);
                    }
                }
                Ok(ended)
            })
        })
        .await
    }
}

async fn is_waiting(connection: &mut Connection, build: BuildId) -> Result<bool, StoreError> {
    let waiting = sql::query("SELECT id FROM builds WHERE id = $1 AND state = 'waiting'").bind(build.0);
    Ok(waiting.fetch_optional(connection).await?.is_some())
}

/// Why a build can't be approved, if it can't.
async fn refusal(
    connection: &mut Connection,
    build: &Build,
    sha: Option<&CommitId>,
) -> Result<Option<ApproveAnswer>, StoreError> {
    if sha.is_some_and(|sha| *sha != build.sha) {
        return Ok(Some(ApproveAnswer::OtherCommit(build.sha.clone())));
    }
    let waits = build.state == State::Waiting;
    // It ended before anybody approved it: mostly since its pull request moved on, which is then the thing to say.
    let lapsed = build.trust == Trust::Fork && build.state == State::Finished && build.started_at.is_none();
    if (waits || lapsed)
        && let Some(moved) = moved(connection, build).await?
    {
        return Ok(Some(ApproveAnswer::HeadMoved(moved)));
    }
    Ok((!waits).then_some(ApproveAnswer::NotNeeded))
}

async fn approve(connection: &mut Connection, build: Build, by: &Actor, now: Now) -> Result<ApproveAnswer, StoreError> {
    let approved = sql::query(concat!(
        "UPDATE builds SET state = 'queued', reason = NULL, approved_by = $1, approved_at = $2 \
         WHERE id = $3 AND state = 'waiting' RETURNING ",
        speaker_columns!()
    ))
    .bind(&by.who)
    .bind(now.wall.0)
    .bind(build.id.0)
    .fetch_optional(&mut *connection)
    .await?;
    let Some(approved) = approved else { return Ok(ApproveAnswer::NotNeeded) };
    connection.tell(Topic::Queue);
    connection.tell(Topic::Build(build.id));
    let sentence = format!("Queued, approved by {}", by.who);
    Speaker::from_row(&approved)?.say_own(connection, StatusState::Pending, &sentence, now.steady).await?;
    let because = format!("{} approved commit {}", by.who, build.sha.short());
    let line = Ruling { at: now.wall, rule: Rule::ForkApproved, because, other_build: None, delivery: None };
    rulings::write(connection, &[(build.id, line)]).await?;
    let act = Act::Approved { sha: build.sha.clone(), pull_request: build.pull_request };
    let deed = Deed { actor: by.clone(), act, build: Some(build.id), repo: Some(build.repo) };
    audit::write(connection, &[deed], now).await?;
    Ok(ApproveAnswer::Approved(build.sha))
}

/// Where the head of a fork's pull request went, if it is no longer at the build's commit: by the last word on it, or,
/// where none is known, by its newer builds.
pub(super) async fn moved(connection: &mut Connection, build: &Build) -> Result<Option<Moved>, StoreError> {
    let head = sql::query("SELECT sha FROM heads WHERE forge = $1 AND repo = $2 AND name = $3")
        .bind(build.repo.forge.as_str())
        .bind(build.repo.path.folded())
        .bind(build.git_ref.as_str())
        .fetch_optional(&mut *connection)
        .await?;
    if let Some(head) = head {
        let now: Option<CommitId> = row::parsed_if(&head, "sha")?;
        return Ok(match now {
            Some(sha) if sha == build.sha => None,
            Some(sha) => Some(Moved::To(sha)),
            None => Some(Moved::Closed),
        });
    }
    let newer = sql::query(
        "SELECT sha FROM builds WHERE forge = $1 AND repo = $2 AND git_ref = $3 AND id > $4 AND sha <> $5 \
         ORDER BY id DESC LIMIT 1",
    )
    .bind(build.repo.forge.as_str())
    .bind(build.repo.path.folded())
    .bind(build.git_ref.as_str())
    .bind(build.id.0)
    .bind(build.sha.as_str())
    .fetch_optional(connection)
    .await?;
    newer.map(|from| Ok(Moved::To(row::parsed(&from, "sha")?))).transpose()
}

/// The approval of a build, if it holds still for another one of the same commit.
pub(super) fn holds(build: &Build, now: Now) -> Option<Approval> {
    let (by, at) = (build.approved_by.clone()?, build.approved_at?);
    (now.wall.since(at) < APPROVAL_HOLDS).then_some(Approval { by, at })
}

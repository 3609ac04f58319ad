//! What people and newer pushes ask of a build: to end it, to repeat it.

use std::time::Duration;

use super::clock::Now;
use super::deliveries::{Ending, NewBuild};
use super::news::Topic;
use super::outbox::{Speaker, speaker_columns};
use super::sql::{self, Connection};
use super::{Store, StoreError, builds, locks, outbox, row, rulings};
use crate::domain::build::{BuildId, Cause, State};
use crate::domain::rule::{Rule, Ruling};
use crate::domain::status::{Status, StatusState};
use crate::domain::trust::Trust;

/// What a request to cancel came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelAnswer {
    /// It had not begun: it is finished as cancelled.
    Cancelled,
    /// It runs: its holder is asked to end it.
    Requested,
    /// It was finished before.
    AlreadyFinished,
    /// There is none of that number.
    NotFound,
}

/// What a request to repeat came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RerunAnswer {
    /// The new build (or the one that the same request made a moment ago and that is not finished yet).
    Made(BuildId),
    /// The build is not finished.
    NotFinished,
    /// There is none of that number.
    NotFound,
}

/// A build that is to be ended, with all words.
pub(super) struct End {
    pub(super) build: BuildId,
    pub(super) reason: String,
    pub(super) sentence: String,
    pub(super) superseded_by: Option<BuildId>,
    /// The rule that ends it, for its history.
    pub(super) rule: Rule,
    /// The delivery that brought it.
    pub(super) delivery: Option<String>,
}

impl End {
    /// That of a cancelled build.
    pub(super) fn of(ending: &Ending, rule: Rule, delivery: Option<&str>) -> Self {
        Self {
            build: ending.build,
            reason: ending.reason.clone(),
            sentence: ending.sentence.clone(),
            superseded_by: None,
            rule,
            delivery: delivery.map(str::to_owned),
        }
    }

    /// The line of the build's history.
    fn ruling(&self, now: Now) -> (BuildId, Ruling) {
        let (because, delivery) = (self.sentence.clone(), self.delivery.clone());
        let ruling = Ruling { at: now.wall, rule: self.rule, because, other_build: self.superseded_by, delivery };
        (self.build, ruling)
    }
}

impl Store {
    /// Cancels a build in the name of `by`.
    pub async fn cancel(&self, id: BuildId, by: &str) -> Result<CancelAnswer, StoreError> {
        let words = End {
            build: id,
            reason: format!("cancelled by {by}"),
            sentence: format!("Cancelled by {by}"),
            superseded_by: None,
            rule: Rule::CancelledByPerson,
            delivery: None,
        };
        let clock = self.inner.clock.clone();
        self.write(false, move |connection| {
            Box::pin(async move {
                locks::of_builds(connection, &[id]).await?;
                end(connection, &words, clock.now()).await
            })
        })
        .await
    }

    /// Repeats a finished build as a new one, in the name of `by`; `use_cache` false reads no cache. A fork's build
    /// that nobody approved waits again: a repetition is no approval.
    pub async fn rerun(&self, id: BuildId, use_cache: bool, by: &str) -> Result<RerunAnswer, StoreError> {
        let (by, clock) = (by.to_owned(), self.inner.clock.clone());
        self.write(false, move |connection| {
            Box::pin(async move {
                locks::of_builds(connection, &[id]).await?;
                rerun(connection, id, use_cache, &by, clock.now()).await
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

/// Ends a build that has not begun, at once and with its final status; asks the holder of one that runs. The first
/// request's words stay.
pub(super) async fn end(connection: &mut Connection, words: &End, now: Now) -> Result<CancelAnswer, StoreError> {
    let superseded_by = words.superseded_by.map(|id| id.0);
    // Where others write, too, nobody claims it or gives it back between the two words that follow.
    sql::query("SELECT id FROM builds WHERE id = $1 /*pg: FOR UPDATE */")
        .bind(words.build.0)
        .fetch_optional(&mut *connection)
        .await?;
    connection.tell(Topic::Build(words.build));
    let finished = sql::query(concat!(
        "UPDATE builds SET state = 'finished', outcome = 'cancelled', reason = $1, superseded_by = $2, \
         finished_at = $3 WHERE id = $4 AND state IN ('waiting', 'queued') RETURNING ",
        speaker_columns!()
    ))
    .bind(&words.reason)
    .bind(superseded_by)
    .bind(now.wall.0)
    .bind(words.build.0)
    .fetch_optional(&mut *connection)
    .await?;
    if let Some(finished) = finished {
        let speaker = Speaker::from_row(&finished)?;
        speaker.say_own(connection, StatusState::Error, &words.sentence, now.steady).await?;
        speaker.settle(connection, StatusState::Error, &words.sentence, now.steady).await?;
        rulings::write(connection, &[words.ruling(now)]).await?;
        return Ok(CancelAnswer::Cancelled);
    }
    let asked = sql::query(
        "UPDATE builds SET cancel_reason = $1, cancel_sentence = $2, superseded_by = $3 \
         WHERE id = $4 AND state = 'running' AND cancel_reason IS NULL",
    )
    .bind(&words.reason)
    .bind(&words.sentence)
    .bind(superseded_by)
    .bind(words.build.0)
    .execute(&mut *connection)
    .await?;
    if asked.rows_affected() > 0 {
        rulings::write(connection, &[words.ruling(now)]).await?;
    }
    let state: Option<String> = sql::query_scalar("SELECT state FROM builds WHERE id = $1")
        .bind(words.build.0)
        .fetch_optional(connection)
        .await?;
    Ok(match state.as_deref() {
        None => CancelAnswer::NotFound,
        Some("running") => CancelAnswer::Requested,
        Some(_) => CancelAnswer::AlreadyFinished,
    })
}

async fn is_waiting(connection: &mut Connection, build: BuildId) -> Result<bool, StoreError> {
    let waiting = sql::query("SELECT id FROM builds WHERE id = $1 AND state = 'waiting'").bind(build.0);
    Ok(waiting.fetch_optional(connection).await?.is_some())
}

async fn rerun(
    connection: &mut Connection,
    id: BuildId,
    use_cache: bool,
    by: &str,
    now: Now,
) -> Result<RerunAnswer, StoreError> {
    let found = sql::query("SELECT * FROM builds WHERE id = $1").bind(id.0).fetch_optional(&mut *connection).await?;
    let Some(found) = found else { return Ok(RerunAnswer::NotFound) };
    let old = builds::build(&found)?;
    if old.state != State::Finished {
        return Ok(RerunAnswer::NotFinished);
    }
    let asked_before: Option<i64> = sql::query_scalar(
        "SELECT max(id) FROM builds WHERE finished_at IS NULL AND forge = $1 AND repo = $2 AND git_ref = $3 \
         AND rerun_of = $4 AND use_cache = $5",
    )
    .bind(old.repo.forge.as_str())
    .bind(old.repo.path.folded())
    .bind(old.git_ref.as_str())
    .bind(id.0)
    .bind(i64::from(use_cache))
    .fetch_one(&mut *connection)
    .await?;
    if let Some(asked_before) = asked_before {
        return Ok(RerunAnswer::Made(BuildId(asked_before)));
    }
    let highest: i64 = sql::query_scalar(
        "SELECT max(attempt) FROM builds WHERE forge = $1 AND repo = $2 AND git_ref = $3 AND sha = $4",
    )
    .bind(old.repo.forge.as_str())
    .bind(old.repo.path.folded())
    .bind(old.git_ref.as_str())
    .bind(old.sha.as_str())
    .fetch_one(&mut *connection)
    .await?;
    let unapproved = old.trust == Trust::Fork && old.approved_by.is_none();
    let new = NewBuild {
        state: if unapproved { State::Waiting } else { State::Queued },
        reason: unapproved.then(|| format!("a fork's commit {} needs approval", old.sha.short())),
        status: Status {
            context: found.try_get("context")?,
            state: StatusState::Pending,
            sentence: if unapproved {
                format!("Waiting for a maintainer: a fork's commit {} needs approval", old.sha.short())
            } else {
                format!("Queued again by {by}")
            },
        },
        pushed: row::yes(&found, "pushed")?,
        repo: old.repo,
        sha: old.sha,
        base_sha: old.base_sha,
        before: row::parsed_if(&found, "before_sha")?,
        pushed_at: row::time_if(&found, "pushed_at")?,
        git_ref: old.git_ref,
        pull_request: old.pull_request,
        cause: Cause::Rerun,
        trust: old.trust,
        approved_by: old.approved_by,
        rerun_of: Some(id),
        base_branch: old.base_branch,
        default_branch: old.default_branch,
        title: old.title,
        author: old.author,
        use_cache,
    };
    let made = builds::reserve_ids(connection, 1).await?;
    let attempt = u32::try_from(highest).unwrap_or(u32::MAX).saturating_add(1);
    let numbered = [builds::Numbered { id: made, attempt, created_at: now.wall, build: &new }];
    builds::insert(connection, &numbered).await?;
    outbox::insert_first(connection, &numbered, now.steady).await?;
    let line = |because, other_build| {
        let other_build = Some(other_build);
        Ruling { at: now.wall, rule: Rule::RerunIsANewBuild, because, other_build, delivery: None }
    };
    let lines =
        [(made, line(format!("asked for by {by}: #{id} again"), id)), (id, line(format!("built again by {by}"), made))];
    rulings::write(connection, &lines).await?;
    Ok(RerunAnswer::Made(made))
}

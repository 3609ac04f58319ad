//! What people and newer pushes ask of a build: to end it, to repeat it.

use super::approval::{self, Approval, Moved};
use super::clock::Now;
use super::deliveries::{Ending, NewBuild};
use super::news::Topic;
use super::outbox::{Speaker, speaker_columns};
use super::sql::{self, Connection};
use super::{Store, StoreError, audit, builds, locks, outbox, row, rulings};
use crate::config::server::Forks;
use crate::domain::audit::{Act, Actor};
use crate::domain::build::{Build, BuildId, Cause, State};
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

/// How a build is to be repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rerun {
    /// False: nothing that other builds left is read.
    pub use_cache: bool,
    /// What becomes of a fork's build. Where approval is asked for, a repetition is none: the new build waits, unless
    /// the approval of the old one holds still, and a commit that is no longer a head is not built again.
    pub forks: Forks,
}

/// What a request to repeat came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RerunAnswer {
    /// The new build (or the one that the same request made a moment ago and that is not finished yet).
    Made(BuildId),
    /// The build is not finished.
    NotFinished,
    /// It is a fork's, and its commit is no longer the head of its pull request, so that nobody could approve it.
    HeadMoved(Moved),
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
    pub async fn cancel(&self, id: BuildId, by: &Actor) -> Result<CancelAnswer, StoreError> {
        let by = by.clone();
        let words = End {
            build: id,
            reason: format!("cancelled by {}", by.who),
            sentence: format!("Cancelled by {}", by.who),
            superseded_by: None,
            rule: Rule::CancelledByPerson,
            delivery: None,
        };
        let clock = self.inner.clock.clone();
        self.write(false, move |connection| {
            Box::pin(async move {
                locks::of_builds(connection, &[id]).await?;
                let now = clock.now();
                let answer = end(connection, &words, now).await?;
                if matches!(answer, CancelAnswer::Cancelled | CancelAnswer::Requested) {
                    audit::write_of_build(connection, id, &by, &Act::Cancelled, now).await?;
                }
                Ok(answer)
            })
        })
        .await
    }

    /// Repeats a finished build as a new one, in the name of `by`.
    pub async fn rerun(&self, id: BuildId, asked: Rerun, by: &Actor) -> Result<RerunAnswer, StoreError> {
        let (by, clock) = (by.clone(), self.inner.clock.clone());
        self.write(false, move |connection| {
            Box::pin(async move {
                locks::of_builds(connection, &[id]).await?;
                rerun(connection, id, asked, &by, clock.now()).await
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

async fn rerun(
    connection: &mut Connection,
    id: BuildId,
    asked: Rerun,
    by: &Actor,
    now: Now,
) -> Result<RerunAnswer, StoreError> {
    let found = sql::query("SELECT * FROM builds WHERE id = $1").bind(id.0).fetch_optional(&mut *connection).await?;
    let Some(found) = found else { return Ok(RerunAnswer::NotFound) };
    let old = builds::build(&found)?;
    if old.state != State::Finished {
        return Ok(RerunAnswer::NotFinished);
    }
    if let Some(asked_before) = asked_before(connection, &old, asked).await? {
        return Ok(RerunAnswer::Made(asked_before));
    }
    let standing = match standing(connection, &old, asked, now).await? {
        Ok(standing) => standing,
        Err(moved) => return Ok(RerunAnswer::HeadMoved(moved)),
    };
    let highest: i64 = sql::query_scalar(
        "SELECT max(attempt) FROM builds WHERE forge = $1 AND repo = $2 AND git_ref = $3 AND sha = $4",
    )
    .bind(old.repo.forge.as_str())
    .bind(old.repo.path.folded())
    .bind(old.git_ref.as_str())
    .bind(old.sha.as_str())
    .fetch_one(&mut *connection)
    .await?;
    let waits = standing == Standing::Waits;
    let act = Act::Rerun { of: id, cache: asked.use_cache };
    let moves = moves(&standing, &old, by, now);
    let new = NewBuild {
        state: if waits { State::Waiting } else { State::Queued },
        reason: waits.then(|| format!("a fork's commit {} needs approval", old.sha.short())),
        status: Status {
            context: found.try_get("context")?,
            state: StatusState::Pending,
            sentence: if waits {
                format!("Waiting for a maintainer: a fork's commit {} needs approval", old.sha.short())
            } else {
                format!("Queued again by {}", by.who)
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
        approval: if let Standing::Approved(approval) = standing { Some(approval) } else { None },
        rerun_of: Some(id),
        base_branch: old.base_branch,
        default_branch: old.default_branch,
        title: old.title,
        author: old.author,
        use_cache: asked.use_cache,
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
    let who = &by.who;
    let mut lines = vec![
        (made, line(format!("asked for by {who}: #{id} again"), id)),
        (id, line(format!("built again by {who}"), made)),
    ];
    lines.extend(moves.map(|ruling| (made, ruling)));
    rulings::write(connection, &lines).await?;
    audit::write_of_build(connection, made, by, &act, now).await?;
    Ok(RerunAnswer::Made(made))
}

/// The build that the same request made before, if that is not finished.
async fn asked_before(connection: &mut Connection, old: &Build, asked: Rerun) -> Result<Option<BuildId>, StoreError> {
    let before: Option<i64> = sql::query_scalar(
        "SELECT max(id) FROM builds WHERE finished_at IS NULL AND forge = $1 AND repo = $2 AND git_ref = $3 \
         AND rerun_of = $4 AND use_cache = $5",
    )
    .bind(old.repo.forge.as_str())
    .bind(old.repo.path.folded())
    .bind(old.git_ref.as_str())
    .bind(old.id.0)
    .bind(i64::from(asked.use_cache))
    .fetch_one(connection)
    .await?;
    Ok(before.map(BuildId))
}

/// What a repetition may do.
#[derive(PartialEq, Eq)]
enum Standing {
    /// Its code needs nobody's word.
    Free,
    /// The word that was given for its commit holds.
    Approved(Approval),
    /// It waits for one.
    Waits,
}

/// What a repetition may do, or where the head is that alone can be approved.
async fn standing(
    connection: &mut Connection,
    old: &Build,
    asked: Rerun,
    now: Now,
) -> Result<Result<Standing, Moved>, StoreError> {
    if old.trust != Trust::Fork || asked.forks == Forks::Build {
        return Ok(Ok(Standing::Free));
    }
    if let Some(moved) = approval::moved(connection, old).await? {
        return Ok(Err(moved));
    }
    Ok(Ok(approval::holds(old, now).map_or(Standing::Waits, Standing::Approved)))
}

/// The line of a fork's repetition on its approval.
fn moves(standing: &Standing, old: &Build, by: &Actor, now: Now) -> Option<Ruling> {
    let commit = old.sha.short();
    let (rule, because) = match standing {
        Standing::Free if old.trust == Trust::Fork => (Rule::ForkIsBuilt, format!("commit {commit} needs no approval")),
        Standing::Free => return None,
        Standing::Approved(approval) => (Rule::ApprovalHolds, format!("{} approved commit {commit}", approval.by)),
        Standing::Waits => (Rule::ForkWaits, format!("what {} asked for is no approval of commit {commit}", by.who)),
    };
    Some(Ruling { at: now.wall, rule, because, other_build: None, delivery: None })
}

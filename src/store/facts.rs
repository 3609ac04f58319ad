//! What the decision on a delivery is made from: loaded for many deliveries in few statements.

use super::deletions::Deletion;
use super::deliveries::{About, Accepted, Pending, answer};
use super::sql::{self, Connection, MAX_ROWS, QueryBuilder, Row};
use super::{StoreError, deletions, row};
use crate::domain::build::{BuildId, Cause, State};
use crate::domain::outcome::Outcome;
use crate::domain::repo::CommitId;
use crate::domain::time::Timestamp;

/// What the store knows when a delivery arrives.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// What the same delivery was answered before.
    pub first_answer: Option<Accepted>,
    /// The unfinished builds of the same repository and ref, oldest first; empty when they were not asked for.
    pub unfinished: Vec<Known>,
    /// The newest build of the same repository, ref and commit, finished or not.
    pub same: Option<Known>,
    /// There is such a build, and what it is asked for (the ref, the pull request) still stands at its commit.
    pub same_is_head: bool,
    /// A newer word came on what the sweep's list was compared with.
    pub outrun: bool,
    /// The last builds of the same repository and ref, finished ones too, oldest first; empty when they were not asked for.
    pub recent: Vec<Known>,
    /// The deletions of the same ref that were heard lately, oldest first; empty when they were not asked for.
    pub deletions: Vec<Deletion>,
}

/// A build, as far as decisions look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Its number.
    pub id: BuildId,
    /// Its commit.
    pub sha: CommitId,
    /// Where its ref stood before the push that made it.
    pub before: Option<CommitId>,
    /// When the forge says that its push was made.
    pub pushed_at: Option<Timestamp>,
    /// Where it stands.
    pub state: State,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// Why it exists.
    pub cause: Cause,
    /// A push wants it; else only a pull request does.
    pub pushed: bool,
    /// The pull request that asked for it.
    pub pull_request: Option<u64>,
    /// The newer build that took its place.
    pub superseded_by: Option<BuildId>,
    /// Which attempt at its commit it is.
    pub attempt: u32,
    /// It runs and was asked to end: whoever wants its commit built needs another build.
    pub ending: bool,
    /// When its delivery was taken.
    pub created_at: Timestamp,
}

/// What is known about each member of a round, in few statements for all of them and one more for what the sweep found.
pub(super) async fn load(connection: &mut Connection, round: &[&Pending]) -> Result<Vec<Facts>, StoreError> {
    let mut facts = vec![Facts::default(); round.len()];
    for (chunk, facts) in round.chunks(MAX_ROWS).zip(facts.chunks_mut(MAX_ROWS)) {
        load_answers(connection, chunk, facts).await?;
        load_unfinished(connection, chunk, facts).await?;
        load_same(connection, chunk, facts).await?;
        load_outrun(connection, chunk, facts).await?;
        load_recent(connection, chunk, facts).await?;
        deletions::load(connection, chunk, facts).await?;
    }
    Ok(facts)
}

// What is asked is joined as a table of its own, the outer one: for a row value in a list of them (`(a, b) IN (…)`) SQLite
// reads the whole table. Its first column is the place in the round, so that rows find back to their question.

pub(super) const ANSWERS: &str = ") SELECT asked.n, d.answer FROM asked CROSS JOIN deliveries d \
                       WHERE d.forge = asked.forge AND d.repo = asked.repo AND d.delivery = asked.delivery";

macro_rules! known_columns {
    () => {
        "asked.n, b.id, b.sha, b.before_sha, b.pushed_at, b.state, b.outcome, b.cause, b.pushed, b.pull_request, \
         b.superseded_by, b.attempt, CASE WHEN b.cancel_reason IS NULL THEN 0 ELSE 1 END AS ending, b.created_at"
    };
}

pub(super) const UNFINISHED: &str = concat!(
    ") SELECT ",
    known_columns!(),
    " FROM asked CROSS JOIN builds b WHERE b.forge = asked.forge AND b.repo = asked.repo \
     AND b.git_ref = asked.git_ref AND b.finished_at IS NULL ORDER BY b.id"
);

pub(super) const SAME: &str = concat!(
    ") SELECT ",
    known_columns!(),
    ", h.sha AS head FROM asked CROSS JOIN builds b \
     LEFT JOIN heads h ON h.forge = asked.forge AND h.repo = asked.repo AND h.name = asked.head \
     WHERE b.sha = asked.sha AND b.forge = asked.forge AND b.repo = asked.repo \
     AND b.git_ref = asked.git_ref ORDER BY b.id"
);

/// Twenty builds of a ref are looked at: a push is not delivered after so many later ones. The twentieth is a bound of the
/// index and not a list of ids, for which PostgreSQL asks about every build that there is.
pub(super) const RECENT: &str = concat!(
    ") SELECT ",
    known_columns!(),
    " FROM asked CROSS JOIN builds b WHERE b.forge = asked.forge AND b.repo = asked.repo AND b.git_ref = asked.git_ref \
     AND b.id >= coalesce((SELECT r.id FROM builds r WHERE r.forge = asked.forge AND r.repo = asked.repo \
     AND r.git_ref = asked.git_ref ORDER BY r.id DESC LIMIT 1 OFFSET 19), 0) ORDER BY b.id"
);

async fn load_answers(connection: &mut Connection, round: &[&Pending], facts: &mut [Facts]) -> Result<(), StoreError> {
    let mut statement = QueryBuilder::new("WITH asked (n, forge, repo, delivery) AS (");
    statement.push_values(round.iter().zip(0_i64..), |mut values, (one, n)| {
        let (forge, repo, id) = one.delivery.key();
        values.push_bind(n).push_bind(forge).push_bind(repo).push_bind(id);
    });
    for from in &statement.push(ANSWERS).build().fetch_all(connection).await? {
        facts[row::number::<usize>(from, "n")?].first_answer = Some(answer(from.try_get("answer")?)?);
    }
    Ok(())
}

async fn load_unfinished(
    connection: &mut Connection,
    round: &[&Pending],
    facts: &mut [Facts],
) -> Result<(), StoreError> {
    let asked: Vec<_> = asked(round).filter(|(_, about)| about.unfinished).collect();
    if asked.is_empty() {
        return Ok(());
    }
    let mut statement = refs_asked(&asked);
    for from in &statement.push(UNFINISHED).build().fetch_all(connection).await? {
        facts[row::number::<usize>(from, "n")?].unfinished.push(known(from)?);
    }
    Ok(())
}

async fn load_same(connection: &mut Connection, round: &[&Pending], facts: &mut [Facts]) -> Result<(), StoreError> {
    let asked: Vec<_> = asked(round).filter_map(|(n, about)| about.sha.as_ref().map(|sha| (n, about, sha))).collect();
    if asked.is_empty() {
        return Ok(());
    }
    let mut statement = QueryBuilder::new("WITH asked (n, forge, repo, git_ref, sha, head) AS (");
    statement.push_values(&asked, |mut values, (n, about, sha)| {
        values.push_bind(*n).push_bind(about.repo.forge.to_string()).push_bind(about.repo.path.folded());
        values.push_bind(about.git_ref.to_string()).push_bind(sha.to_string()).push_bind(about.head.to_string());
    });
    for from in &statement.push(SAME).build().fetch_all(connection).await? {
        let facts = &mut facts[row::number::<usize>(from, "n")?];
        // The rows rise, so the newest is the one that stays.
        let same = known(from)?;
        facts.same_is_head = row::parsed_if::<CommitId>(from, "head")?.is_some_and(|head| head == same.sha);
        facts.same = Some(same);
    }
    Ok(())
}

/// Only what the sweep found stands on anything.
async fn load_outrun(connection: &mut Connection, round: &[&Pending], facts: &mut [Facts]) -> Result<(), StoreError> {
    for (n, about) in asked(round) {
        for (name, changes) in &about.stands_on {
            let now: Option<i64> =
                sql::query_scalar("SELECT changes FROM heads WHERE forge = $1 AND repo = $2 AND name = $3")
                    .bind(about.repo.forge.as_str())
                    .bind(about.repo.path.folded())
                    .bind(name.as_str())
                    .fetch_optional(&mut *connection)
                    .await?;
            facts[usize::try_from(n).unwrap_or_default()].outrun |= now != *changes;
        }
    }
    Ok(())
}

async fn load_recent(connection: &mut Connection, round: &[&Pending], facts: &mut [Facts]) -> Result<(), StoreError> {
    let asked: Vec<_> = asked(round).filter(|(_, about)| about.order && about.unfinished).collect();
    if asked.is_empty() {
        return Ok(());
    }
    let mut statement = refs_asked(&asked);
    for from in &statement.push(RECENT).build().fetch_all(connection).await? {
        facts[row::number::<usize>(from, "n")?].recent.push(known(from)?);
    }
    Ok(())
}

/// A statement that begins with the table `asked` of refs.
pub(super) fn refs_asked(asked: &[(i64, &About)]) -> QueryBuilder<'static> {
    let mut statement = QueryBuilder::new("WITH asked (n, forge, repo, git_ref) AS (");
    statement.push_values(asked, |mut values, (n, about)| {
        values.push_bind(*n).push_bind(about.repo.forge.to_string()).push_bind(about.repo.path.folded());
        values.push_bind(about.git_ref.to_string());
    });
    statement
}

/// What is asked about builds, with each question's place in the round.
pub(super) fn asked<'r>(round: &[&'r Pending]) -> impl Iterator<Item = (i64, &'r About)> {
    round.iter().zip(0_i64..).filter_map(|(one, n)| one.about.as_ref().map(|about| (n, about)))
}

fn known(from: &Row) -> Result<Known, StoreError> {
    Ok(Known {
        id: BuildId(from.try_get("id")?),
        sha: row::parsed(from, "sha")?,
        before: row::parsed_if(from, "before_sha")?,
        pushed_at: row::time_if(from, "pushed_at")?,
        state: row::parsed(from, "state")?,
        outcome: row::parsed_if(from, "outcome")?,
        cause: row::parsed(from, "cause")?,
        pushed: row::yes(from, "pushed")?,
        pull_request: row::number_if(from, "pull_request")?,
        superseded_by: row::build_if(from, "superseded_by")?,
        attempt: row::number(from, "attempt")?,
        ending: row::yes(from, "ending")?,
        created_at: row::time(from, "created_at")?,
    })
}

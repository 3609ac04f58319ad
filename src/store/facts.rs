//! What the decision on a delivery is made from: loaded for many deliveries in three statements.

use std::collections::HashMap;

use sqlx::{QueryBuilder, Row as _};

use super::deliveries::{About, Accepted, Pending, answer};
use super::sqlite::{Connection, Database, MAX_ROWS, Row};
use super::{StoreError, row};
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

/// What is known about each member of a round, in three statements for all of them.
pub(super) async fn load(connection: &mut Connection, round: &[&Pending]) -> Result<Vec<Facts>, StoreError> {
    let mut facts = vec![Facts::default(); round.len()];
    for (chunk, facts) in round.chunks(MAX_ROWS).zip(facts.chunks_mut(MAX_ROWS)) {
        load_answers(connection, chunk, facts).await?;
        load_unfinished(connection, chunk, facts).await?;
        load_same(connection, chunk, facts).await?;
    }
    Ok(facts)
}

async fn load_answers(connection: &mut Connection, round: &[&Pending], facts: &mut [Facts]) -> Result<(), StoreError> {
    let mut statement = QueryBuilder::<Database>::new(
        "SELECT forge, repo, delivery, answer FROM deliveries WHERE (forge, repo, delivery) IN (",
    );
    statement.push_values(round, |mut values, one| {
        let (forge, repo, id) = one.delivery.key();
        values.push_bind(forge).push_bind(repo).push_bind(id);
    });
    let rows = statement.push(")").build().fetch_all(connection).await?;
    let index: HashMap<_, _> = round.iter().enumerate().map(|(index, one)| (one.delivery.key(), index)).collect();
    for from in &rows {
        let key = (from.try_get("forge")?, from.try_get("repo")?, from.try_get("delivery")?);
        if let Some(&index) = index.get(&key) {
            facts[index].first_answer = Some(answer(from.try_get("answer")?)?);
        }
    }
    Ok(())
}

const KNOWN: &str = "SELECT id, forge, repo, git_ref, sha, before_sha, state, outcome, cause, pushed, pull_request, \
                     superseded_by, attempt, cancel_reason IS NOT NULL AS ending, created_at FROM builds WHERE ";

async fn load_unfinished(
    connection: &mut Connection,
    round: &[&Pending],
    facts: &mut [Facts],
) -> Result<(), StoreError> {
    let asked: Vec<(usize, &About)> = asked(round).into_iter().filter(|(_, about)| about.unfinished).collect();
    if asked.is_empty() {
        return Ok(());
    }
    let mut statement = QueryBuilder::<Database>::new(KNOWN);
    statement.push("finished_at IS NULL AND (forge, repo, git_ref) IN (");
    statement.push_values(&asked, |mut values, (_, about)| {
        values.push_bind(about.repo.forge.to_string()).push_bind(about.repo.path.folded());
        values.push_bind(about.git_ref.to_string());
    });
    let rows = statement.push(") ORDER BY id").build().fetch_all(connection).await?;
    let index: HashMap<_, _> = asked
        .iter()
        .map(|(index, about)| ((about.repo.forge.as_str(), about.repo.path.folded(), about.git_ref.as_str()), *index))
        .collect();
    for from in &rows {
        let key = (from.try_get("forge")?, from.try_get("repo")?, from.try_get("git_ref")?);
        if let Some(&index) = index.get(&key) {
            facts[index].unfinished.push(known(from)?);
        }
    }
    Ok(())
}

async fn load_same(connection: &mut Connection, round: &[&Pending], facts: &mut [Facts]) -> Result<(), StoreError> {
    let asked: Vec<(usize, &About, &CommitId)> = asked(round)
        .into_iter()
        .filter_map(|(index, about)| about.sha.as_ref().map(|sha| (index, about, sha)))
        .collect();
    if asked.is_empty() {
        return Ok(());
    }
    let mut statement = QueryBuilder::<Database>::new(KNOWN);
    statement.push("(forge, repo, git_ref, sha) IN (");
    statement.push_values(&asked, |mut values, (_, about, sha)| {
        values.push_bind(about.repo.forge.to_string()).push_bind(about.repo.path.folded());
        values.push_bind(about.git_ref.to_string()).push_bind(sha.to_string());
    });
    let rows = statement.push(") ORDER BY id").build().fetch_all(connection).await?;
    let index: HashMap<_, _> = asked
        .iter()
        .map(|(index, about, sha)| {
            let repo = (about.repo.forge.as_str(), about.repo.path.folded());
            ((repo.0, repo.1, about.git_ref.as_str(), sha.as_str()), *index)
        })
        .collect();
    for from in &rows {
        let key = (from.try_get("forge")?, from.try_get("repo")?, from.try_get("git_ref")?, from.try_get("sha")?);
        if let Some(&index) = index.get(&key) {
            // The rows rise, so the newest is the one that stays.
            facts[index].same = Some(known(from)?);
        }
    }
    Ok(())
}

fn asked<'r>(round: &[&'r Pending]) -> Vec<(usize, &'r About)> {
    round.iter().enumerate().filter_map(|(index, one)| one.about.as_ref().map(|about| (index, about))).collect()
}

fn known(from: &Row) -> Result<Known, StoreError> {
    Ok(Known {
        id: BuildId(from.try_get("id")?),
        sha: row::parsed(from, "sha")?,
        before: row::parsed_if(from, "before_sha")?,
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

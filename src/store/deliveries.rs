//! Taking deliveries: what is known is loaded for all of them, the rules decide one by one, and what follows is
//! written in few statements.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};

use super::approval::Approval;
use super::clock::Now;
use super::deletions::Gone;
use super::effects::Effects;
use super::facts::{self, Facts};
use super::sql::{self, Connection, MAX_ROWS, QueryBuilder, Row};
use super::{Store, StoreError, builds, heads, row};
use crate::domain::build::{BuildId, Cause, State};
use crate::domain::repo::{CommitId, ForgeName, RefName, RepoId, RepoPath};
use crate::domain::rule::Rule;
use crate::domain::snapshot::Scope;
use crate::domain::status::Status;
use crate::domain::time::Timestamp;
use crate::domain::trust::Trust;

/// What is kept of a delivery. Never its payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// The forge whose signature held.
    pub forge: ForgeName,
    /// The repository it speaks of; none for a forge's word on itself.
    pub repo: Option<RepoPath>,
    /// The forge's own id, unique for each forge and repository.
    pub id: String,
    /// The name of the event, from the header.
    pub event: String,
    /// When it was received.
    pub received_at: Timestamp,
    /// The length of the body.
    pub body_bytes: u64,
    /// The SHA-256 of the body.
    pub body_sha256: [u8; 32],
}

impl Delivery {
    /// What makes it the same delivery again.
    pub(super) fn key(&self) -> (String, String, String) {
        let repo = self.repo.as_ref().map(RepoPath::folded).unwrap_or_default();
        (self.forge.to_string(), repo, self.id.clone())
    }
}

/// What the decision on a delivery looks at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// The repository.
    pub repo: RepoId,
    /// The ref that moved or went.
    pub git_ref: RefName,
    /// The commit to build, if there is one.
    pub sha: Option<CommitId>,
    /// Whether the decision looks at the ref's unfinished builds. Where it does not, there may be thousands of them.
    pub unfinished: bool,
    /// Whether it is a push, whose place among others of its ref matters: the decision looks at the ref's last builds and
    /// deletions.
    pub order: bool,
    /// What the commit is a word on: the ref, or `refs/pull/<n>/head` for a pull request.
    pub head: RefName,
    /// For what the sweep found: the heads that its list was compared with, each with its [`Head::changes`](super::Head::changes) of that
    /// moment, none where nothing was known. Empty for a delivery.
    pub stands_on: Vec<(RefName, Option<i64>)>,
}

/// The rules, asked with the facts within the transaction. They may be asked more than once.
pub type Decide = Box<dyn Fn(&Facts) -> Decision + Send + Sync>;

/// What becomes of a delivery.
#[derive(Debug, Clone, PartialEq)]
pub enum Decision {
    /// It was answered before: say the same builds again, store nothing.
    Repeat {
        /// The sentence of the answer.
        because: String,
        /// What was answered first.
        first: Accepted,
    },
    /// Nothing to do.
    Ignore {
        /// The rule that says so.
        rule: Rule,
        /// The sentence of the answer.
        because: String,
        /// The build that there is instead of one; its history tells of it.
        instead: Option<BuildId>,
    },
    /// It came late: its ref has moved on, so it is no word on where that stands. Otherwise as [`Decision::Ignore`].
    Behind {
        /// The rule that says so.
        rule: Rule,
        /// The sentence of the answer.
        because: String,
        /// The build that there is instead of one; its history tells of it.
        instead: Option<BuildId>,
    },
    /// The sweep found it, and a newer word came while it listed: store nothing.
    Outrun {
        /// The sentence of the answer.
        because: String,
    },
    /// There is a build for it already.
    Already {
        /// The rule that says so.
        rule: Rule,
        /// That build.
        build: BuildId,
        /// The sentence of the answer.
        because: String,
        /// A push wants that build now, too: the end of a pull request does not end it any more.
        pushed: bool,
    },
    /// A build is made.
    Make {
        /// The rule that says so.
        rule: Rule,
        /// The build.
        build: Box<NewBuild>,
        /// Older builds whose place it takes.
        supersedes: Vec<Superseded>,
    },
    /// Builds are cancelled.
    Cancel {
        /// The rule that says so.
        rule: Rule,
        /// The sentence of the answer.
        because: String,
        /// The builds, each with its words.
        endings: Vec<Ending>,
        /// Scopes that end with it: what their builds left for later ones goes.
        drops: Vec<Scope>,
        /// The branch or tag that went, to be remembered.
        gone: Option<Gone>,
    },
}

impl Decision {
    /// The rule that acted.
    pub fn rule(&self) -> Rule {
        match self {
            Decision::Repeat { .. } => Rule::RepeatedDelivery,
            Decision::Outrun { .. } => Rule::SweepOutrun,
            Decision::Ignore { rule, .. }
            | Decision::Behind { rule, .. }
            | Decision::Already { rule, .. }
            | Decision::Make { rule, .. }
            | Decision::Cancel { rule, .. } => *rule,
        }
    }
}

/// A build whose place a new one takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superseded {
    /// The build.
    pub build: BuildId,
    /// The rule that says so.
    pub rule: Rule,
    /// Its status' sentence.
    pub sentence: String,
}

/// A build that is to be cancelled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// The build.
    pub build: BuildId,
    /// Its reason: `cancelled by jane`.
    pub reason: String,
    /// Its status' sentence.
    pub sentence: String,
}

/// A build to be made. Number, attempt and times are the store's.
#[derive(Debug, Clone, PartialEq)]
pub struct NewBuild {
    /// The repository.
    pub repo: RepoId,
    /// The commit that gets the status.
    pub sha: CommitId,
    /// The base branch's commit.
    pub base_sha: Option<CommitId>,
    /// Where the ref stood before.
    pub before: Option<CommitId>,
    /// When the forge says that the push was made.
    pub pushed_at: Option<Timestamp>,
    /// The ref.
    pub git_ref: RefName,
    /// The pull request.
    pub pull_request: Option<u64>,
    /// Why.
    pub cause: Cause,
    /// A push wants it.
    pub pushed: bool,
    /// Whose code it runs.
    pub trust: Trust,
    /// `Waiting` or `Queued`.
    pub state: State,
    /// Why it waits.
    pub reason: Option<String>,
    /// Who approved it.
    pub approval: Option<Approval>,
    /// The build it repeats.
    pub rerun_of: Option<BuildId>,
    /// Where a pull request wants to go, or the default branch.
    pub base_branch: Option<String>,
    /// The default branch.
    pub default_branch: Option<String>,
    /// The commit's first line or the pull request's title.
    pub title: Option<String>,
    /// Who pushed.
    pub author: Option<String>,
    /// Whether caches are read.
    pub use_cache: bool,
    /// Its first status, pending; the context stays its own to the end.
    pub status: Status,
}

/// What a delivery was answered; the door turns it into 202 or 200.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// The forge's id of the delivery.
    pub delivery: String,
    /// The builds that it made or that are there for it.
    pub builds: Vec<BuildId>,
    /// Why none was made.
    pub ignored: Option<String>,
    /// Builds that it cancelled, or whose holder was asked to end them.
    pub cancelled: Vec<BuildId>,
    /// Builds whose place the new one took.
    #[serde(default)]
    pub superseded: Vec<BuildId>,
    /// A build was made: 202.
    pub made: bool,
    /// The rule that acted; none in answers of versions that knew no rules.
    #[serde(default)]
    pub rule: Option<Rule>,
}

/// A delivery as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeliveryRecord {
    /// What is kept of it.
    pub delivery: Delivery,
    /// What became of it.
    pub answer: Accepted,
}

/// A delivery with its question, on its way to the writing task.
pub(super) struct Pending {
    pub(super) delivery: Delivery,
    pub(super) about: Option<About>,
    decide: Decide,
}

impl Store {
    /// Takes a delivery: delivery, decision, builds and pending statuses are on disk when this returns.
    pub async fn accept(
        &self,
        delivery: Delivery,
        about: Option<About>,
        decide: Decide,
    ) -> Result<Accepted, StoreError> {
        self.inner.writer.accept(Pending { delivery, about, decide }).await
    }

    /// The last deliveries, newest first.
    pub async fn deliveries(&self, limit: u32) -> Result<Vec<DeliveryRecord>, StoreError> {
        let rows = sql::query("SELECT * FROM deliveries ORDER BY id DESC LIMIT $1")
            .bind(i64::from(limit))
            .fetch_all(&self.inner.readers)
            .await?;
        rows.iter().map(record).collect()
    }
}

fn record(from: &Row) -> Result<DeliveryRecord, StoreError> {
    let shown: &str = from.try_get("repo_shown")?;
    let digest: Vec<u8> = from.try_get("body_sha256")?;
    let delivery = Delivery {
        forge: row::parsed(from, "forge")?,
        repo: if shown.is_empty() { None } else { Some(row::parsed(from, "repo_shown")?) },
        id: from.try_get("delivery")?,
        event: from.try_get("event")?,
        received_at: row::time(from, "received_at")?,
        body_bytes: row::number(from, "body_bytes")?,
        body_sha256: digest
            .try_into()
            .map_err(|bytes| StoreError::Unreadable { column: "body_sha256", value: format!("{bytes:?}") })?,
    };
    Ok(DeliveryRecord { delivery, answer: answer(from.try_get("answer")?)? })
}

/// Reads a stored answer back.
pub(super) fn answer(text: &str) -> Result<Accepted, StoreError> {
    serde_json::from_str(text).map_err(|_| StoreError::Unreadable { column: "answer", value: text.to_owned() })
}

/// Takes many deliveries within the transaction that is open. Those that touch the same delivery, ref or commit are
/// taken in successive rounds, so that each sees what the one before it did.
pub(super) async fn accept(
    connection: &mut Connection,
    pending: &[Pending],
    now: Now,
) -> Result<Vec<Accepted>, StoreError> {
    let mut answers: Vec<Option<Accepted>> = vec![None; pending.len()];
    let mut left: Vec<usize> = (0..pending.len()).collect();
    while !left.is_empty() {
        let (round, rest) = independent(pending, &left);
        let taken: Vec<&Pending> = round.iter().map(|&index| &pending[index]).collect();
        for (index, accepted) in round.iter().zip(accept_round(connection, &taken, now).await?) {
            answers[*index] = Some(accepted);
        }
        left = rest;
    }
    Ok(answers.into_iter().flatten().collect())
}

/// Splits off those that need not know of each other, in their order.
fn independent(pending: &[Pending], left: &[usize]) -> (Vec<usize>, Vec<usize>) {
    let (mut deliveries, mut commits) = (HashSet::new(), HashSet::new());
    // For each ref, whether one of this round looks at its unfinished builds.
    let mut refs = HashMap::new();
    left.iter().partition(|&&index| {
        let one = &pending[index];
        let mut free = deliveries.insert(one.delivery.key());
        if let Some(about) = &one.about {
            let repo = (about.repo.forge.as_str(), about.repo.path.folded());
            let before = refs.insert((repo.clone(), about.git_ref.as_str()), about.unfinished);
            free &= before.is_none_or(|looks| !looks && !about.unfinished);
            free &= about.sha.as_ref().is_none_or(|sha| commits.insert((repo, sha.as_str())));
        }
        free
    })
}

async fn accept_round(connection: &mut Connection, round: &[&Pending], now: Now) -> Result<Vec<Accepted>, StoreError> {
    let facts = facts::load(connection, round).await?;
    let decisions: Vec<Decision> = round.iter().zip(&facts).map(|(one, facts)| (one.decide)(facts)).collect();

    let made = decisions.iter().filter(|decision| matches!(decision, Decision::Make { .. })).count();
    let next_id = if made > 0 { builds::reserve_ids(connection, made).await? } else { BuildId(0) };
    let mut effects = Effects::from(next_id);
    let mut answers = Vec::with_capacity(round.len());
    for ((one, decision), facts) in round.iter().zip(&decisions).zip(&facts) {
        answers.push(effects.of(one, decision, facts));
    }
    effects.write(connection, now).await?;
    heads::heard(connection, round, &decisions).await?;
    insert_deliveries(connection, round, &decisions, &answers).await?;
    Ok(answers)
}

async fn insert_deliveries(
    connection: &mut Connection,
    round: &[&Pending],
    decisions: &[Decision],
    answers: &[Accepted],
) -> Result<(), StoreError> {
    let stored: Vec<(&Delivery, &Accepted)> = round
        .iter()
        .zip(decisions)
        .zip(answers)
        .filter(|((_, decision), _)| !matches!(decision, Decision::Repeat { .. } | Decision::Outrun { .. }))
        .map(|((one, _), answer)| (&one.delivery, answer))
        .collect();
    for chunk in stored.chunks(MAX_ROWS) {
        let mut statement = QueryBuilder::new(
            "INSERT INTO deliveries \
             (forge, repo, repo_shown, delivery, event, received_at, body_bytes, body_sha256, answer) ",
        );
        statement.push_values(chunk, |mut values, (delivery, answer)| {
            let (forge, repo, id) = delivery.key();
            let shown = delivery.repo.as_ref().map(ToString::to_string).unwrap_or_default();
            let answer = serde_json::to_string(answer).expect("numbers and texts always have a JSON form");
            values.push_bind(forge).push_bind(repo).push_bind(shown).push_bind(id);
            values.push_bind(delivery.event.clone()).push_bind(delivery.received_at.0);
            values.push_bind(row::stored(delivery.body_bytes)).push_bind(delivery.body_sha256.to_vec());
            values.push_bind(answer);
        });
        statement.build().execute(&mut *connection).await?;
    }
    Ok(())
}

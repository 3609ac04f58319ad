//! Builds as rows: made, read, listed and counted.

use super::deliveries::NewBuild;
use super::news::Topic;
use super::sql::{self, Connection, MAX_ROWS, QueryBuilder, Row};
use super::{Store, StoreError, row, steps};
use crate::domain::build::{Build, BuildId, State};
use crate::domain::outcome::Outcome;
use crate::domain::repo::{CommitId, RefName, RepoId};
use crate::domain::time::Timestamp;

/// Which builds are listed, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filter {
    /// Only of this repository.
    pub repo: Option<RepoId>,
    /// Only of this branch, by its short name.
    pub branch: Option<String>,
    /// Only in this state.
    pub state: Option<State>,
    /// Only with this outcome.
    pub outcome: Option<Outcome>,
    /// Only older than this one.
    pub before: Option<BuildId>,
    /// The most that are returned.
    pub limit: u32,
}

/// How many builds there are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Forks' builds that wait for approval.
    pub waiting: u64,
    /// Ready to be claimed.
    pub queued: u64,
    /// Claimed.
    pub running: u64,
    /// Finished and still kept, by outcome.
    pub finished: Vec<(Outcome, u64)>,
}

/// A repository that has builds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The repository.
    pub repo: RepoId,
    /// Its newest build.
    pub newest: BuildId,
}

impl Store {
    /// One build with its steps, if there is one of that number.
    pub async fn build(&self, id: BuildId) -> Result<Option<Build>, StoreError> {
        let mut connection = self.inner.readers.acquire().await?;
        let found =
            sql::query("SELECT * FROM builds WHERE id = $1").bind(id.0).fetch_optional(&mut *connection).await?;
        let Some(found) = found else { return Ok(None) };
        let mut builds = [build(&found)?];
        steps::load(&mut connection, &mut builds).await?;
        let [build] = builds;
        Ok(Some(build))
    }

    /// The builds that fit `filter`, newest first, with their steps.
    pub async fn builds(&self, filter: &Filter) -> Result<Vec<Build>, StoreError> {
        let mut connection = self.inner.readers.acquire().await?;
        let rows = listing("SELECT * FROM builds", filter).build().fetch_all(&mut *connection).await?;
        let mut builds: Vec<Build> = rows.iter().map(build).collect::<Result<_, _>>()?;
        steps::load(&mut connection, &mut builds).await?;
        Ok(builds)
    }

    /// The commits of a repository's ref whose builds passed or were skipped, newest first, each once.
    pub async fn passed_commits(
        &self,
        repo: &RepoId,
        git_ref: &RefName,
        limit: u32,
    ) -> Result<Vec<CommitId>, StoreError> {
        let rows = sql::query(
            "SELECT coalesce(built_sha, sha) AS commit_id, max(id) AS newest FROM builds \
             WHERE forge = $1 AND repo = $2 AND git_ref = $3 AND outcome IN ('passed', 'skipped') \
             GROUP BY coalesce(built_sha, sha) ORDER BY newest DESC LIMIT $4",
        )
        .bind(repo.forge.to_string())
        .bind(repo.path.folded())
        .bind(git_ref.to_string())
        .bind(i64::from(limit))
        .fetch_all(&self.inner.readers)
        .await?;
        rows.iter().map(|from| row::parsed(from, "commit_id")).collect()
    }

    /// How many builds there are in each state.
    pub async fn counts(&self) -> Result<Counts, StoreError> {
        let mut counts = Counts::default();
        let unfinished = "SELECT state, count(*) AS n FROM builds WHERE finished_at IS NULL GROUP BY state";
        for from in &sql::query(unfinished).fetch_all(&self.inner.readers).await? {
            let n = row::number(from, "n")?;
            match row::parsed(from, "state")? {
                State::Waiting => counts.waiting = n,
                State::Queued => counts.queued = n,
                State::Running => counts.running = n,
                State::Finished => {}
            }
        }
        let finished =
            "SELECT outcome, count(*) AS n FROM builds WHERE outcome IS NOT NULL GROUP BY outcome ORDER BY outcome";
        for from in &sql::query(finished).fetch_all(&self.inner.readers).await? {
            counts.finished.push((row::parsed(from, "outcome")?, row::number(from, "n")?));
        }
        Ok(counts)
    }

    /// The repositories that have builds, those with the newest build first.
    pub async fn repos(&self) -> Result<Vec<Seen>, StoreError> {
        let newest = "SELECT id, forge, repo_shown FROM builds \
                      WHERE id IN (SELECT max(id) FROM builds GROUP BY forge, repo) ORDER BY id DESC";
        let rows = sql::query(newest).fetch_all(&self.inner.readers).await?;
        rows.iter().map(|from| Ok(Seen { repo: row::repo(from)?, newest: BuildId(from.try_get("id")?) })).collect()
    }
}

/// The statement of a listing.
pub(super) fn listing(select: &'static str, filter: &Filter) -> QueryBuilder<'static> {
    let mut statement = QueryBuilder::new(select);
    statement.push(" WHERE id < ").push_bind(filter.before.map_or(i64::MAX, |id| id.0));
    if let Some(repo) = &filter.repo {
        statement.push(" AND forge = ").push_bind(repo.forge.to_string());
        statement.push(" AND repo = ").push_bind(repo.path.folded());
    }
    if let Some(branch) = &filter.branch {
        statement.push(" AND git_ref = ").push_bind(format!("refs/heads/{branch}"));
    }
    if let Some(state) = filter.state {
        if state != State::Finished {
            // The words of the partial index, so that a few unfinished builds are found among many finished ones.
            statement.push(" AND finished_at IS NULL");
        }
        statement.push(" AND state = ").push_bind(state.as_str());
    }
    if let Some(outcome) = filter.outcome {
        statement.push(" AND outcome = ").push_bind(outcome.as_str());
    }
    statement.push(" ORDER BY id DESC LIMIT ").push_bind(i64::from(filter.limit));
    statement
}

/// A build from its row, without its steps.
pub(super) fn build(from: &Row) -> Result<Build, StoreError> {
    Ok(Build {
        id: BuildId(from.try_get("id")?),
        repo: row::repo(from)?,
        sha: row::parsed(from, "sha")?,
        built_sha: row::parsed_if(from, "built_sha")?,
        base_sha: row::parsed_if(from, "base_sha")?,
        git_ref: row::parsed(from, "git_ref")?,
        branch: from.try_get("branch")?,
        pull_request: row::number_if(from, "pull_request")?,
        cause: row::parsed(from, "cause")?,
        trust: row::parsed(from, "trust")?,
        attempt: row::number(from, "attempt")?,
        rerun_of: row::build_if(from, "rerun_of")?,
        superseded_by: row::build_if(from, "superseded_by")?,
        state: row::parsed(from, "state")?,
        outcome: row::parsed_if(from, "outcome")?,
        reason: from.try_get("reason")?,
        approved_by: from.try_get("approved_by")?,
        approved_at: row::time_if(from, "approved_at")?,
        created_at: row::time(from, "created_at")?,
        started_at: row::time_if(from, "started_at")?,
        finished_at: row::time_if(from, "finished_at")?,
        sandbox: from.try_get("sandbox")?,
        base_branch: from.try_get("base_branch")?,
        default_branch: from.try_get("default_branch")?,
        title: from.try_get("title")?,
        author: from.try_get("author")?,
        use_cache: row::yes(from, "use_cache")?,
        same_as: row::build_if(from, "same_as")?,
        agent: from.try_get("ran_on")?,
        kept: row::json_if(from, "kept")?.unwrap_or_default(),
        steps: Vec::new(),
    })
}

/// A build within the transaction that is open, without its steps.
pub(super) async fn one(connection: &mut Connection, id: BuildId) -> Result<Option<Build>, StoreError> {
    let found = sql::query("SELECT * FROM builds WHERE id = $1").bind(id.0).fetch_optional(connection).await?;
    found.as_ref().map(build).transpose()
}

/// A new build with what only the store knows.
pub(super) struct Numbered<'b> {
    pub(super) id: BuildId,
    pub(super) attempt: u32,
    pub(super) created_at: Timestamp,
    pub(super) build: &'b NewBuild,
}

/// Takes `count` numbers; the first of them. They are never given again.
pub(super) async fn reserve_ids(connection: &mut Connection, count: usize) -> Result<BuildId, StoreError> {
    let count = i64::try_from(count).expect("a batch is far smaller");
    let last: i64 = sql::query_scalar("UPDATE counters SET value = value + $1 WHERE name = 'build' RETURNING value")
        .bind(count)
        .fetch_one(connection)
        .await?;
    Ok(BuildId(last - count + 1))
}

/// Inserts new builds, many in one statement.
pub(super) async fn insert(connection: &mut Connection, new: &[Numbered<'_>]) -> Result<(), StoreError> {
    for chunk in new.chunks(MAX_ROWS) {
        let mut statement = QueryBuilder::new(
            "INSERT INTO builds (id, forge, repo, repo_shown, sha, base_sha, before_sha, pushed_at, git_ref, branch, \
             pull_request, \
             cause, pushed, trust, attempt, rerun_of, state, reason, approved_by, approved_at, created_at, base_branch, \
             default_branch, title, author, use_cache, context) ",
        );
        statement.push_values(chunk, |mut values, new| {
            let build = new.build;
            values.push_bind(new.id.0).push_bind(build.repo.forge.to_string()).push_bind(build.repo.path.folded());
            values.push_bind(build.repo.path.to_string()).push_bind(build.sha.to_string());
            values.push_bind(build.base_sha.as_ref().map(ToString::to_string));
            values.push_bind(build.before.as_ref().map(ToString::to_string));
            values.push_bind(build.pushed_at.map(|at| at.0));
            values.push_bind(build.git_ref.to_string()).push_bind(build.git_ref.as_branch().map(str::to_owned));
            values.push_bind(build.pull_request.map(row::stored)).push_bind(build.cause.as_str());
            values.push_bind(i64::from(build.pushed)).push_bind(build.trust.as_str());
            values.push_bind(i64::from(new.attempt)).push_bind(build.rerun_of.map(|id| id.0));
            values.push_bind(build.state.as_str()).push_bind(build.reason.clone());
            values.push_bind(build.approval.as_ref().map(|approval| approval.by.clone()));
            values.push_bind(build.approval.as_ref().map(|approval| approval.at.0)).push_bind(new.created_at.0);
            values.push_bind(build.base_branch.clone()).push_bind(build.default_branch.clone());
            values.push_bind(build.title.clone()).push_bind(build.author.clone());
            values.push_bind(i64::from(build.use_cache)).push_bind(build.status.context.clone());
        });
        statement.build().execute(&mut *connection).await?;
    }
    if new.iter().any(|new| new.build.state == State::Queued) {
        connection.tell(Topic::Queue);
    }
    Ok(())
}

/// Notes that a push wants a build that a pull request asked for.
pub(super) async fn mark_pushed(connection: &mut Connection, id: BuildId) -> Result<(), StoreError> {
    sql::query("UPDATE builds SET pushed = 1 WHERE id = $1").bind(id.0).execute(connection).await?;
    Ok(())
}

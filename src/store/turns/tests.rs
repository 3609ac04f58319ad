//! Whose turn it is, and that finding out costs as much with ten builds as with ten thousand. Steps of SQLite's virtual
//! machine are counted, not time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::super::sql::{self, Connection};
use super::super::sqlite::{MIGRATIONS, writer};
use super::super::{builds, schema};
use super::{CLAIM, served};
use crate::domain::build::Build;

async fn empty() -> (tempfile::TempDir, Connection) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.db");
    let mut connection = writer(&path).await.expect("opens");
    schema::migrate(&mut connection, MIGRATIONS).await.expect("migrates");
    (folder, connection)
}

/// Queues `each` builds of every one of `repos` repositories, those of one after those of the other.
async fn queue(connection: &mut Connection, first_repo: i64, repos: i64, each: i64) {
    let sql = "WITH RECURSIVE n (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n + 1 < $1 * $2) \
               INSERT INTO builds (forge, repo, repo_shown, sha, git_ref, cause, pushed, trust, attempt, state, created_at, \
               use_cache, context) SELECT 'github', 'acme/r' || ($3 + n / $2), 'acme/r' || ($3 + n / $2), \
               printf('%040x', n + 1), 'refs/heads/main', 'push', 1, 'trusted', 1, 'queued', 0, 1, 'hookmill' FROM n";
    sql::query(sql).bind(repos).bind(each).bind(first_repo).execute(connection).await.expect("queued");
}

async fn claim(connection: &mut Connection) -> Option<Build> {
    let claimed = sql::query(CLAIM).bind("agent").bind(1_i64).bind(1_i64).fetch_optional(&mut *connection).await;
    let claimed = claimed.expect("claims")?;
    served(connection, &claimed).await.expect("served");
    Some(builds::build(&claimed).expect("readable"))
}

async fn finish(connection: &mut Connection, build: &Build) {
    let sql =
        "UPDATE builds SET state = 'finished', outcome = 'passed', finished_at = 1, lease_until = NULL WHERE id = $1";
    sql::query(sql).bind(build.id.0).execute(connection).await.expect("finished");
}

/// The repositories of the next `count` claims, each of which is finished at once.
async fn served_next(connection: &mut Connection, count: usize) -> Vec<String> {
    let mut names = Vec::new();
    for _ in 0..count {
        let build = claim(connection).await.expect("something is queued");
        finish(connection, &build).await;
        names.push(build.repo.path.to_string().replace("acme/", ""));
    }
    names
}

#[tokio::test]
async fn repositories_take_turns_and_the_oldest_build_of_each_comes_first() {
    let (_folder, mut connection) = empty().await;
    queue(&mut connection, 0, 1, 500).await;
    assert_eq!(served_next(&mut connection, 2).await, ["r0", "r0"], "nobody else waits");
    queue(&mut connection, 1, 2, 2).await;
    assert_eq!(served_next(&mut connection, 6).await, ["r1", "r2", "r0", "r1", "r2", "r0"]);
    assert_eq!(served_next(&mut connection, 2).await, ["r0", "r0"]);
    // One that comes again and again is no more than one of two.
    let mut order = Vec::new();
    for _ in 0..3 {
        queue(&mut connection, 1, 1, 1).await;
        order.extend(served_next(&mut connection, 2).await);
    }
    assert_eq!(order, ["r1", "r0", "r1", "r0", "r1", "r0"]);
    let next = claim(&mut connection).await.expect("queued");
    let oldest: i64 = sql::query_scalar("SELECT min(id) FROM builds WHERE state = 'queued' AND repo = 'acme/r0'")
        .fetch_one(&mut connection)
        .await
        .expect("counted");
    assert_eq!(next.id.0 + 1, oldest, "in the order in which they came");
}

#[tokio::test]
async fn who_runs_the_fewest_comes_first() {
    let (_folder, mut connection) = empty().await;
    queue(&mut connection, 0, 2, 10).await;
    let [first, second] =
        [claim(&mut connection).await, claim(&mut connection).await].map(|build| build.expect("queued"));
    assert_eq!((first.repo.path.as_str(), second.repo.path.as_str()), ("acme/r0", "acme/r1"));
    finish(&mut connection, &second).await;
    // r0 was served longer ago, but it has one running.
    let third = claim(&mut connection).await.expect("queued");
    assert_eq!(third.repo.path.as_str(), "acme/r1");
    finish(&mut connection, &third).await;
    finish(&mut connection, &first).await;
    assert_eq!(claim(&mut connection).await.expect("queued").repo.path.as_str(), "acme/r0");
}

/// The steps of the virtual machine that one claim and its end take, in hundreds.
async fn steps_of_a_claim(connection: &mut Connection) -> u64 {
    let counted = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&counted);
    let mut handle = connection.sqlite().lock_handle().await.expect("it is open");
    handle.set_progress_handler(100, move || {
        count.fetch_add(1, Ordering::Relaxed);
        true
    });
    drop(handle);
    let build = claim(connection).await.expect("queued");
    finish(connection, &build).await;
    connection.sqlite().lock_handle().await.expect("it is open").remove_progress_handler();
    counted.load(Ordering::Relaxed)
}

#[tokio::test]
async fn a_claim_costs_the_same_however_many_builds_wait() {
    let (_folder, mut connection) = empty().await;
    queue(&mut connection, 0, 1, 20).await;
    let few = steps_of_a_claim(&mut connection).await;
    queue(&mut connection, 0, 1, 10_000).await;
    let first = steps_of_a_claim(&mut connection).await;
    sql::query(
        "UPDATE builds SET state = 'finished', outcome = 'passed', finished_at = 1 WHERE state = 'queued' \
         AND id < (SELECT max(id) - 5 FROM builds)",
    )
    .execute(&mut connection)
    .await
    .expect("finished");
    let last = steps_of_a_claim(&mut connection).await;
    assert!(
        first <= few + 2 && last <= few + 2,
        "in hundreds of steps: {few} with 20, {first} with 10 000, {last} at the end"
    );
}

#[tokio::test]
async fn a_claim_looks_once_at_each_repository_that_waits() {
    let (_folder, mut connection) = empty().await;
    queue(&mut connection, 0, 1_000, 1).await;
    let one_each = steps_of_a_claim(&mut connection).await;
    queue(&mut connection, 0, 1_000, 10).await;
    let first = steps_of_a_claim(&mut connection).await;
    for _ in 0..50 {
        steps_of_a_claim(&mut connection).await;
    }
    let later = steps_of_a_claim(&mut connection).await;
    assert!(one_each < 2_000, "{one_each} hundreds of steps for a thousand repositories");
    assert!(first <= one_each + one_each / 5 && later <= first + first / 5, "{one_each}, {first}, {later}");
}

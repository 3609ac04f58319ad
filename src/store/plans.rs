//! How SQLite finds the rows of the statements that run often or over many rows: by an index, never by reading a table.

use sqlx::AssertSqlSafe;

use super::sql::{self, Connection, Row};
use super::sqlite::{MIGRATIONS, writer};
use super::{AuditFilter, Filter, audit, builds, deletions, facts, outbox, schema, turns};
use crate::domain::build::State;
use crate::domain::outcome::Outcome;
use crate::domain::time::Timestamp;

async fn empty() -> (tempfile::TempDir, Connection) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.db");
    let mut connection = writer(&path).await.expect("opens");
    schema::migrate(&mut connection, MIGRATIONS).await.expect("migrates");
    (folder, connection)
}

fn joined(rows: Vec<Row>) -> String {
    rows.iter().map(|row| row.try_get::<String, _>("detail").expect("a text")).collect::<Vec<_>>().join("; ")
}

#[tokio::test]
async fn listings_go_by_an_index_and_sort_nothing() {
    let (_folder, mut connection) = empty().await;
    let repo = Some("github/acme/shop".parse().expect("legal"));
    let filters = [
        Filter::default(),
        Filter { repo: repo.clone(), ..Filter::default() },
        Filter { repo, branch: Some("main".into()), ..Filter::default() },
        Filter { state: Some(State::Queued), ..Filter::default() },
        Filter { outcome: Some(Outcome::Failed), ..Filter::default() },
    ];
    for filter in filters {
        let mut statement = builds::listing("EXPLAIN QUERY PLAN SELECT * FROM builds", &filter);
        let plan = joined(statement.build().fetch_all(&mut connection).await.expect("explains"));
        assert!(plan.contains("SEARCH") && !plan.contains("SCAN"), "{filter:?}: {plan}");
        assert!(!plan.contains("TEMP B-TREE"), "{filter:?}: {plan}");
    }
    let repo = Some("github/acme/shop".parse().expect("legal"));
    for filter in [AuditFilter::default(), AuditFilter { repo, since: Some(Timestamp(1)), ..AuditFilter::default() }] {
        let mut statement = audit::listing("EXPLAIN QUERY PLAN SELECT * FROM audit", &filter);
        let plan = joined(statement.build().fetch_all(&mut connection).await.expect("explains"));
        assert!(plan.contains("SEARCH") && !plan.contains("TEMP B-TREE"), "{filter:?}: {plan}");
    }
}

#[tokio::test]
async fn what_is_sent_next_is_found_without_sorting_what_waits() {
    let (_folder, mut connection) = empty().await;
    let statement = format!("EXPLAIN QUERY PLAN {}", outbox::NEXT);
    let plan = joined(sql::query(AssertSqlSafe(statement)).fetch_all(&mut connection).await.expect("explains"));
    assert!(plan.contains("USING INDEX outbox_in_order") && !plan.contains("TEMP B-TREE"), "{plan}");
    let statement = format!("EXPLAIN QUERY PLAN {}", outbox::DUE_FORGES);
    let plan = joined(sql::query(AssertSqlSafe(statement)).fetch_all(&mut connection).await.expect("explains"));
    assert!(!plan.contains("SCAN o;") && !plan.contains("SCAN d"), "{plan}");
}

#[tokio::test]
async fn the_busy_statements_read_no_table() {
    let (_folder, mut connection) = empty().await;
    let two = |columns: &str, after: &str| {
        let row = vec!["'x'"; columns.split(", ").count()].join(", ");
        format!("WITH {columns} AS (VALUES ({row}), ({row}){after}")
    };
    let statements = [
        two("asked (n, forge, repo, delivery)", facts::ANSWERS),
        two("asked (n, forge, repo, git_ref)", facts::UNFINISHED),
        two("asked (n, forge, repo, git_ref, sha, head)", facts::SAME),
        two("asked (n, forge, repo, git_ref)", facts::RECENT),
        two("asked (n, forge, repo, git_ref)", deletions::DELETIONS),
        two("said (forge, repo, sha, context)", &format!("{}0)", outbox::REPLACE)),
        turns::CLAIM.to_owned(),
        outbox::DUE_FORGES.to_owned(),
        outbox::NEXT.to_owned(),
        outbox::NEWEST_SPOKE.to_owned(),
    ];
    for statement in statements {
        let explain = sql::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}")));
        let plan = joined(explain.fetch_all(&mut connection).await.expect("explains"));
        for table in ["deliveries", "builds", "outbox", "heads", "d", "b", "r", "h", "n"] {
            assert!(
                !plan.contains(&format!("SCAN {table};")) && !plan.ends_with(&format!("SCAN {table}")),
                "{statement}: {plan}"
            );
        }
    }
}

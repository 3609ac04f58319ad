//! How SQLite finds the rows of the statements that run often or over many rows: by an index, never by reading a table.

use sqlx::{AssertSqlSafe, Row as _};

use super::sqlite::{Connection, MIGRATIONS, writer};
use super::{Filter, builds, deletions, facts, outbox, schema, turns};
use crate::domain::build::State;
use crate::domain::outcome::Outcome;

async fn empty() -> (tempfile::TempDir, Connection) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.db");
    let mut connection = writer(&path).await.expect("opens");
    schema::migrate(&mut connection, &path, MIGRATIONS).await.expect("migrates");
    (folder, connection)
}

fn joined(rows: Vec<super::sqlite::Row>) -> String {
    rows.iter().map(|row| row.get::<String, _>("detail")).collect::<Vec<_>>().join("; ")
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
        two("asked (n, forge, repo, git_ref, sha)", facts::SAME),
        two("asked (n, forge, repo, git_ref)", facts::RECENT),
        two("asked (n, forge, repo, git_ref)", deletions::DELETIONS),
        two("said (forge, repo, sha, context)", outbox::REPLACE),
        turns::CLAIM.to_owned(),
        outbox::DUE.to_owned(),
        outbox::NEWER_SPOKE.to_owned(),
    ];
    for statement in statements {
        let explain = sqlx::query(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}")));
        let plan = joined(explain.fetch_all(&mut connection).await.expect("explains"));
        for table in ["deliveries", "builds", "outbox", "d", "b", "r", "h", "n"] {
            assert!(
                !plan.contains(&format!("SCAN {table};")) && !plan.ends_with(&format!("SCAN {table}")),
                "{statement}: {plan}"
            );
        }
    }
}

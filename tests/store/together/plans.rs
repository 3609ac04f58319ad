//! How PostgreSQL finds the rows of what runs often, among ten thousand others: by an index, and not by looking at all of
//! one. `auto_explain` writes the plan of each statement that the store really sends into the server's log, with the rows that
//! each part of it looked at.

use std::time::Duration;

use hookmill::domain::budget::{Bound, Budget};
use hookmill::domain::status::{Status, StatusState};
use hookmill::store::{ForgeNews, HostBudget, RowNews, Settled};

use super::*;

/// The first row of each table, many times over: every column as it is, but for those named. The older half of the builds has
/// ended.
const MANY: &str = "
    INSERT INTO builds SELECT (jsonb_populate_record(b, jsonb_build_object('id', n, 'repo', 'acme/r' || n % 50,
        'sha', md5(n::text) || '00000000', 'git_ref', 'refs/heads/b' || n, 'branch', 'b' || n))).*
        FROM builds b, generate_series(11001, 21000) n WHERE b.id = 1;
    INSERT INTO builds SELECT (jsonb_populate_record(b, jsonb_build_object('id', n, 'repo', 'acme/r' || n % 50,
        'sha', md5(n::text) || '00000000', 'git_ref', 'refs/heads/b' || n, 'branch', 'b' || n, 'state', 'finished',
        'outcome', CASE WHEN n % 20 = 0 THEN 'failed' ELSE 'passed' END, 'finished_at', b.created_at + n))).*
        FROM builds b, generate_series(1001, 11000) n WHERE b.id = 1;
    INSERT INTO deliveries SELECT (jsonb_populate_record(d, jsonb_build_object('id', n, 'repo', 'acme/r' || n % 50,
        'delivery', 'm' || n, 'received_at', d.received_at + n))).*
        FROM deliveries d, generate_series(1001, 21000) n WHERE d.id = 1;
    INSERT INTO outbox SELECT (jsonb_populate_record(o, jsonb_build_object('id', n, 'build_id', n, 'repo', 'acme/r' || n % 50,
        'sha', md5(n::text) || '00000000', 'fate', CASE WHEN n <= 11000 THEN 'due' ELSE 'sent' END))).*
        FROM outbox o, generate_series(1001, 21000) n WHERE o.id = 1;
    INSERT INTO heads SELECT (jsonb_populate_record(h, jsonb_build_object('repo', 'acme/r' || n % 50,
        'name', 'refs/heads/b' || n, 'git_ref', 'refs/heads/b' || n, 'sha', md5(n::text) || '00000000'))).*
        FROM heads h, generate_series(1001, 21000) n WHERE h.repo = 'acme/shop';
    INSERT INTO rulings (build_id, at, rule, because)
        SELECT n, 0, r.rule, r.because FROM rulings r, generate_series(1001, 21000) n WHERE r.id = 1;
    INSERT INTO steps (build_id, position, name, kind, state, cache)
        SELECT n, p, 'step' || p, 'install', 'queued', 'off' FROM generate_series(1001, 21000) n, generate_series(0, 1) p;
    INSERT INTO explanations (build_id, notices, decisions) SELECT n, '[]', '[]' FROM generate_series(1001, 21000) n;
    INSERT INTO deletions (forge, repo, git_ref, at)
        SELECT 'github', 'acme/r' || n % 50, 'refs/heads/d' || n, 0 FROM generate_series(1001, 21000) n;
    UPDATE counters SET value = 21000 WHERE name = 'build';
    ALTER TABLE deliveries ALTER COLUMN id RESTART WITH 21001;
    ALTER TABLE outbox ALTER COLUMN id RESTART WITH 21001;
    ALTER TABLE rulings ALTER COLUMN id RESTART WITH 30001;";

/// What a queue, a door and a sender do all day.
async fn work(store: &Store) {
    let repo = arrival("acme/r7", "", push("main", 1)).delivery.repo.expect("named");
    let repo = hookmill::domain::repo::RepoId { forge: "github".parse().expect("legal"), path: repo };
    take(store, "acme/r7", "one", push("b11007", 7)).await;
    take(store, "acme/r7", "one", push("b11007", 7)).await;
    take(store, "acme/r7", "two", push("b11007", 8)).await;
    // While one is written the others come, and are looked up together.
    let at_once = (0..8)
        .map(async |n| take(store, "acme/r9", &format!("at once {n}"), push(&format!("b{}09", 110 + n), 20 + n)).await);
    futures_util::future::join_all(at_once).await;
    let claimed = claim(store, "agent").await.expect("ten thousand wait");
    assert_eq!(store.renew(&claimed.claim, LEASE).await, Ok(Lease::Held));
    assert_eq!(store.lease(&claimed.claim).await, Ok(Lease::Held));
    let pending = Status { context: "hookmill".into(), state: StatusState::Pending, sentence: "Running".into() };
    assert_eq!(store.report(&claimed.claim, &[pending]).await, Ok(true));
    assert_eq!(store.finish(&claimed.claim, &passed(), &[]).await, Ok(true));
    let given_back = claim(store, "agent").await.expect("queued");
    store.release(&given_back.claim).await.expect("store");
    store.expire_leases().await.expect("store");
    store.recover("agent").await.expect("store");
    let waiting = take(store, "acme/r8", "three", push("b11008", 9)).await.builds[0];
    assert_eq!(store.cancel(waiting, &jane()).await, Ok(CancelAnswer::Cancelled));
    store.rerun(waiting, AGAIN, &jane()).await.expect("store");

    const BUDGET: Budget = Budget(&[Bound { window: LEASE, most: 80 }]);
    let host = || Some(HostBudget { host: "api".into(), budget: BUDGET });
    assert_eq!(store.due_forges().await.expect("store"), std::slice::from_ref(&repo.forge));
    let taken = store.take(&repo.forge, "sender", 4, Duration::from_secs(45), host()).await.expect("store");
    assert_eq!(taken.items.len(), 4);
    // What failed looks through all that is due for what is too old: no more often than a forge that is away is asked.
    for (item, row) in taken.items.iter().zip([RowNews::Sent, RowNews::Dead, RowNews::Back, RowNews::Sent]) {
        let settled = Settled { row, forge: ForgeNews::Nothing, why: String::new(), give_up: LEASE * 10_000 };
        store.settle("sender", item, settled).await.expect("store");
    }

    let filters = [
        Filter::default(),
        Filter { repo: Some(repo.clone()), ..Filter::default() },
        Filter { repo: Some(repo.clone()), branch: Some("b11007".into()), ..Filter::default() },
        Filter { state: Some(State::Queued), ..Filter::default() },
        Filter { state: Some(State::Running), ..Filter::default() },
        Filter { outcome: Some(Outcome::Failed), ..Filter::default() },
        Filter { before: Some(BuildId(15_000)), ..Filter::default() },
    ];
    for filter in filters {
        store.builds(&Filter { limit: 50, ..filter }).await.expect("store");
    }
    store.build(waiting).await.expect("store").expect("there");
    store.told(waiting).await.expect("store");
    store.rulings(waiting).await.expect("store");
    store.explanation(waiting).await.expect("store");
    store.deliveries(100).await.expect("store");
    store.due(100).await.expect("store");
    store.heads(&repo).await.expect("store");
    store.undelivered(100).await.expect("store");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn among_ten_thousand_rows_no_busy_statement_looks_at_most_of_a_table() {
    // Of its own: its log is read.
    let cluster = Arc::new(Cluster::start());
    let database = cluster.make_database().await;
    let shared = Shared { cluster, database };
    let store = shared.open().await;
    take(&store, "acme/shop", "first", push("main", 1)).await;
    store.close().await;
    let say = async |statement: &str| shared.cluster.say(&shared.database, statement).await;
    say(MANY).await;
    // As PostgreSQL does of itself, a while after so many rows came.
    say("VACUUM ANALYZE").await;
    let explained = format!(
        "ALTER DATABASE {0} SET session_preload_libraries = 'auto_explain';
         ALTER DATABASE {0} SET auto_explain.log_min_duration = 0;
         ALTER DATABASE {0} SET auto_explain.log_analyze = on;
         ALTER DATABASE {0} SET auto_explain.log_timing = off;",
        shared.database
    );
    say(&explained).await;

    let store = shared.open().await;
    let before = shared.cluster.log_text().len();
    work(&store).await;
    store.close().await;
    // The test can fail: questions that have no index, and that go through all of one, are seen.
    let table = "SELECT count(*) FROM builds WHERE author = 'nobody'";
    let index = "SELECT count(b.author) FROM builds b WHERE b.id > 0 AND b.author = 'nobody'";
    say(table).await;
    say(&format!("SET enable_seqscan = off; {index}")).await;
    let log = shared.cluster.log_text()[before..].to_owned();
    let plans: Vec<&str> = log.split("plan:\n").skip(1).collect();
    assert!(plans.len() > 60, "{} plans", plans.len());
    let is_marker = |plan: &&str| plan.contains(table) || plan.contains(index);
    let (expected, found): (Vec<&str>, Vec<&str>) =
        plans.into_iter().filter(|plan| reads_a_table(plan) || most_rows(plan) > FEW).partition(is_marker);
    assert_eq!(expected.len(), 2, "auto_explain tells of every statement");
    assert!(found.is_empty(), "{}", found.join("\n\n"));
}

/// Whether it reads a table with many rows, however soon it ends.
fn reads_a_table(plan: &str) -> bool {
    let tables = ["builds", "deliveries", "outbox", "heads", "rulings", "deletions", "steps", "explanations"];
    tables.iter().any(|table| plan.contains(&format!("Seq Scan on {table}")))
}

/// More rows than any part of a busy statement has to look at.
const FEW: u64 = 1000;

/// How many rows the part of a plan looked at that looked at most: those that it gave on and those that it left out, as
/// often as it was run.
fn most_rows(plan: &str) -> u64 {
    let (mut most, mut loops) = (0, 1);
    for line in plan.lines() {
        let number = |name: &str| {
            let digits = line.split_once(name)?.1.split(|letter: char| !letter.is_ascii_digit()).next()?;
            digits.parse::<u64>().ok()
        };
        if let (Some(rows), Some(times)) = (number("(actual rows="), number(" loops=")) {
            loops = times;
            most = most.max(rows * times);
        }
        let removed = ["Rows Removed by Filter: ", "Rows Removed by Join Filter: "].into_iter().filter_map(number);
        most = most.max(removed.sum::<u64>() * loops);
    }
    most
}

//! What the store promises of a SQLite file alone.

use hookmill::domain::rule::Rule;
use hookmill::domain::time::Timestamp;
use hookmill::store::{Decision, Delivery, Options, Store, StoreError};

fn delivery(n: u64) -> Delivery {
    Delivery {
        forge: "github".parse().expect("legal"),
        repo: Some("acme/shop".parse().expect("legal")),
        id: format!("d{n}"),
        event: "ping".into(),
        received_at: Timestamp(1_763_820_000_000),
        body_bytes: 20_000,
        body_sha256: [7; 32],
    }
}

async fn take(store: &Store, n: u64) -> Result<(), StoreError> {
    let ignore = |_: &_| Decision::Ignore { rule: Rule::NothingToBuild, because: "ping".into(), instead: None };
    store.accept(delivery(n), None, Box::new(ignore)).await.map(drop)
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_may_read_the_database() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("data/hookmill.db");
    let store = Store::open(&path, Options::default()).await.expect("opens");
    take(&store, 1).await.expect("taken");
    for name in ["hookmill.db", "hookmill.db-wal"] {
        let mode = std::fs::metadata(path.with_file_name(name)).expect("there").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{name}");
    }
}

#[tokio::test]
async fn a_full_disk_is_unavailable_and_recovers() {
    let folder = tempfile::tempdir().expect("a folder");
    let options = Options { max_pages: Some(80), ..Options::default() };
    let store = Store::open(&folder.path().join("a.db"), options).await.expect("opens");
    let mut n = 0;
    let error = loop {
        n += 1;
        assert!(n < 10_000, "the bound is never reached");
        if let Err(error) = take(&store, n).await {
            break error;
        }
    };
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    store.check().await.expect_err("not ready");
    let kept = store.deliveries(10_000).await.expect("still readable").len();
    assert_eq!(kept as u64, n - 1, "what was answered is there, the refused one is not");

    let later = Timestamp(i64::MAX);
    assert_eq!(store.forget(later, later).await.expect("deleting is possible").deliveries, n - 1);
    store.check().await.expect("ready again");
    take(&store, n).await.expect("taken");
    store.close().await;
    let again = Store::open(&folder.path().join("a.db"), Options::default()).await.expect("opens");
    assert_eq!(again.deliveries(9).await.expect("store").len(), 1);
}

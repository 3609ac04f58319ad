//! What the store promises of a SQLite file alone, and `hookmill store`, which looks at it, copies it and puts it back.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use hookmill::config::server::StoreUrl;
use hookmill::domain::rule::Rule;
use hookmill::domain::time::Timestamp;
use hookmill::store::inspect::inspect;
use hookmill::store::{Decision, Delivery, Options, Store, StoreError};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _};

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

#[tokio::test]
async fn only_the_owner_may_read_the_database() {
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
    assert!(matches!(error, StoreError::Unavailable(_)) && error.to_string().contains("no space left"), "{error}");
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

/// A data directory with a database, and what `hookmill store` says of it.
struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    fn new() -> Home {
        Home { folder: tempfile::tempdir().expect("a folder") }
    }

    fn database(&self) -> PathBuf {
        self.folder.path().join("data/hookmill.db")
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    async fn open(&self) -> Store {
        Store::open(&self.database(), Options::default()).await.expect("opens")
    }

    /// Changes rows behind the store's back.
    async fn say(&self, statements: &str) {
        let mut connection: SqliteConnection =
            SqliteConnectOptions::new().filename(self.database()).foreign_keys(false).connect().await.expect("opens");
        sqlx::raw_sql(AssertSqlSafe(statements)).execute(&mut connection).await.expect(statements);
        connection.close().await.expect("ends");
    }

    /// A finished build and its words.
    async fn build(&self, id: i64) {
        let build = format!(
            "INSERT INTO builds (id, forge, repo, repo_shown, sha, git_ref, cause, pushed, trust, attempt, state, outcome, \
             created_at, finished_at, use_cache, context) VALUES ({id}, 'github', 'acme/shop', 'acme/shop', 'c{id}', \
             'refs/heads/main', 'push', 1, 'trusted', 1, 'finished', 'passed', 1, 2, 1, 'hookmill'); \
             UPDATE counters SET value = {id} WHERE name = 'build';"
        );
        self.say(&build).await;
        for (state, fate) in [("pending", "sent"), ("success", "due")] {
            let word = format!(
                "INSERT INTO outbox (build_id, forge, repo, sha, context, state, sentence, fate, created_at, next_attempt) \
                 VALUES ({id}, 'github', 'acme/shop', 'c{id}', 'hookmill', '{state}', 'so', '{fate}', 1, 1);"
            );
            self.say(&word).await;
        }
    }

    /// `hookmill store …`: its exit code and all that it wrote.
    fn store(&self, words: &[&str]) -> (Option<i32>, String) {
        self.store_at(&format!("sqlite://{}", self.database().display()), words)
    }

    fn store_at(&self, url: &str, words: &[&str]) -> (Option<i32>, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hookmill"));
        command.arg("store").args(words).current_dir(self.folder.path());
        command.env("HOOKMILL_STORE__URL", url).env("HOOKMILL_DATA__DIR", self.folder.path().join("data"));
        let output = command.output().expect("started");
        let text = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&text).into_owned())
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("there").permissions().mode() & 0o777
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_is_made_while_the_store_is_worked_on_and_becomes_a_store_again() {
    let home = Home::new();
    let (code, said) = home.store(&["check"]);
    assert!(code == Some(0) && said.contains("no database yet"), "{said}");
    let (code, said) = home.store(&["backup", "copy.db"]);
    assert!(code == Some(1) && said.contains("there is nothing in it"), "{said}");

    let store = home.open().await;
    let key = store.link_key();
    for n in 1..=3 {
        take(&store, n).await.expect("taken");
        home.build(i64::try_from(n).expect("small")).await;
    }
    let (code, said) = home.store(&["check"]);
    assert!(code == Some(0) && said.contains("3 builds, 3 deliveries: good (9 promises looked at)"), "{said}");
    let (code, said) = home.store(&["backup", "copy.db"]);
    assert!(code == Some(0) && said.contains("copy.db: 3 builds of "), "{said}");
    assert_eq!(mode(&home.file("copy.db")), 0o600, "it holds a key");
    let (code, said) = home.store(&["backup", "copy.db"]);
    assert!(code == Some(1) && said.contains("is there already"), "{said}");
    let (code, said) = home.store(&["restore", "copy.db"]);
    let holder = format!("in use by process {}", std::process::id());
    assert!(code == Some(1) && said.contains(&holder), "{said}");

    take(&store, 4).await.expect("nothing of that stopped the store");
    home.build(4).await;
    store.close().await;
    drop(store);
    std::fs::create_dir_all(home.file("data/logs/7/1")).expect("a folder");
    let (code, said) = home.store(&["restore", "copy.db"]);
    assert!(code == Some(0) && said.contains("3 builds of copy.db; the next one is 8\n"), "{said}");
    let aside = home.file("data/hookmill.db.before-restore-1");
    assert!(said.contains(&format!("what was there is {}", aside.display())), "{said}");
    assert_eq!(mode(&home.database()), 0o600);
    let left: Vec<_> = std::fs::read_dir(home.file("data")).expect("there").flatten().map(|e| e.file_name()).collect();
    assert!(!left.iter().any(|name| name == "hookmill.db.restored"), "{left:?}");

    for (path, deliveries) in [(home.database(), 3), (aside, 4)] {
        let store = Store::open(&path, Options::default()).await.expect("opens");
        assert_eq!(store.deliveries(9).await.expect("store").len(), deliveries, "{}", path.display());
        assert_eq!(store.link_key(), key, "links in statuses still open");
        store.close().await;
    }
    let looked = inspect(&StoreUrl::from(&home.database())).await.expect("readable").expect("a database");
    assert_eq!((looked.broken, looked.builds), (vec![], 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_as_it_must_be_is_named() {
    let home = Home::new();
    home.open().await.close().await;
    for id in 1..=8 {
        home.build(id).await;
    }
    let good = home.store(&["check"]);
    assert!(good.0 == Some(0) && good.1.contains("8 builds, 0 deliveries: good"), "{good:?}");
    home.say(
        "DELETE FROM outbox WHERE build_id IN (1, 2, 3, 4, 5, 6) AND state = 'success';
         UPDATE builds SET superseded_by = 1 WHERE id = 2;
         UPDATE builds SET state = 'running', outcome = NULL, finished_at = NULL, lease_until = 9 WHERE id = 8;
         UPDATE outbox SET sha = 'other' WHERE build_id = 7;
         INSERT INTO outbox (build_id, forge, repo, sha, context, state, sentence, fate, created_at, next_attempt)
             VALUES (6, 'github', 'acme/shop', 'c8', 'hookmill', 'success', 'so', 'due', 1, 1);
         INSERT INTO steps (build_id, position, name, kind, state, cache) VALUES (99, 0, 'npm', 'install', 'queued', 'off');
         UPDATE counters SET value = 7 WHERE name = 'build';
         UPDATE meta SET value = x'00' WHERE name = 'link_key';",
    )
    .await;
    let (code, said) = home.store(&["check"]);
    assert_eq!(code, Some(1), "{said}");
    for words in [
        "a finished build has a final word in each of its contexts: build 1, hookmill; build 2, hookmill;",
        "no build speaks after a newer one of its commit and context: build 6 after build 8",
        "a status speaks of its build's commit: build 7, status",
        "who runs a build is known: build 8",
        "what supersedes a build is newer: build 2 by build 1",
        "no build's number is given twice: build 8",
        "the key of status links is there: it has 1 bytes",
        "what a row refers to is there: steps row",
        "8 of 9 promises not kept",
    ] {
        assert!(said.contains(words), "{words} in\n{said}");
    }

    // What is damaged is neither copied nor put in anybody's place.
    let whole = std::fs::read(home.database()).expect("read");
    let mut damaged = whole.clone();
    damaged[4096 * 3..4096 * 6].fill(0x5a);
    std::fs::write(home.file("damaged.db"), &damaged).expect("written");
    std::fs::write(home.file("text.db"), "no database at all, but long enough to be looked at").expect("written");
    for name in ["damaged.db", "text.db", "absent.db"] {
        let (code, said) = home.store(&["restore", name]);
        assert!(code == Some(1) && said.contains(name), "{name}: {said}");
        assert_eq!(std::fs::read(home.database()).expect("read"), whole, "{name}: the store is as it was");
    }
    let (code, said) = home.store_at(&format!("sqlite://{}", home.file("damaged.db").display()), &["check"]);
    assert_eq!(code, Some(1), "{said}");

    home.say("INSERT INTO schema_version (version) VALUES (1000)").await;
    std::fs::copy(home.database(), home.file("newer.db")).expect("copied");
    home.say("DELETE FROM schema_version WHERE version = 1000").await;
    let (code, said) = home.store(&["restore", "newer.db"]);
    assert!(code == Some(1) && said.contains("schema version 1000") && said.contains("run a newer hookmill"), "{said}");
    home.say("DELETE FROM schema_version WHERE version > 7").await;
    let (_, said) = home.store(&["check"]);
    assert!(said.contains("schema version 7, which the next start brings up to"), "{said}");
}

#[test]
fn of_a_postgresql_the_commands_of_its_own_tools_are_named() {
    let home = Home::new();
    let url = "postgres://hookmill:hunter2@db.lan/hookmill";
    for (words, expected) in [
        (["backup", "copy.dump"], "pg_dump --format=custom --file=copy.dump 'postgres://hookmill@db.lan/hookmill'"),
        (["restore", "copy.dump"], "--single-transaction --dbname='postgres://hookmill@db.lan/hookmill' copy.dump"),
    ] {
        let (code, said) = home.store_at(url, &words);
        assert!(code == Some(1) && said.contains(expected) && !said.contains("hunter2"), "{said}");
    }
}

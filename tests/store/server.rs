//! The store on a PostgreSQL server: who may open it, what it says when it can't be, and what several processes do to it
//! at once.

use std::path::PathBuf;
use std::process::Command;

use hookmill::config::server::StoreUrl;
use hookmill::store::inspect::inspect;
use hookmill::store::{Found, OpenError, Options, PostgresError, Store, examine};

use crate::support::postgres::Cluster;
use crate::support::{port, postgres};

fn at(url: &str) -> StoreUrl {
    StoreUrl::Postgres(url.parse().expect("legal"))
}

async fn open(url: &str) -> Result<Store, OpenError> {
    Store::open(at(url), Options::default()).await
}

async fn refused(url: &str) -> PostgresError {
    match open(url).await.expect_err("refused") {
        OpenError::Postgres(error) => error,
        other => panic!("{other}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn several_that_start_at_once_make_the_tables_once() {
    let cluster = Cluster::shared();
    let url = cluster.url(&cluster.make_database().await);
    assert!(matches!(examine(at(&url)).await.expect("reachable"), Found::Shared { version: 0, .. }));
    let starting: Vec<_> = (0..6)
        .map(|_| {
            let url = url.clone();
            tokio::spawn(async move { open(&url).await.expect("opens").link_key() })
        })
        .collect();
    let mut keys = Vec::new();
    for started in starting {
        keys.push(started.await.expect("no panic"));
    }
    keys.dedup();
    assert_eq!(keys.len(), 1, "one key for all");
    let found = examine(at(&url)).await.expect("reachable");
    assert!(matches!(found, Found::Shared { version, known, .. } if version == known), "{found:?}");
}

#[tokio::test]
async fn what_keeps_it_from_opening_is_named_with_its_fix_and_without_the_password() {
    let cluster = Cluster::shared();
    let database = cluster.make_database().await;
    let knocking =
        |user: &str, database: &str, port: u16| format!("postgres://{user}:hunter2@127.0.0.1:{port}/{database}");

    let error = refused(&knocking("hookmill", "nowhere", cluster.port)).await;
    assert!(matches!(error, PostgresError::Missing { .. }) && error.to_string().contains("createdb"), "{error}");

    let free = port::free();
    let error = refused(&knocking("hookmill", "nowhere", free)).await;
    assert!(matches!(error, PostgresError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains(&free.to_string()) && !error.to_string().contains("hunter2"), "{error}");

    let error = refused(&knocking("nobody", &database, cluster.port)).await;
    assert!(matches!(error, PostgresError::Denied { .. }) && error.to_string().contains("password"), "{error}");

    cluster.say(&database, "CREATE ROLE guest LOGIN; REVOKE CREATE ON SCHEMA public FROM PUBLIC").await;
    let error = refused(&knocking("guest", &database, cluster.port)).await;
    assert!(matches!(error, PostgresError::NoRights { .. }) && error.to_string().contains("OWNER TO"), "{error}");
    let error = examine(at(&knocking("guest", &database, cluster.port))).await.expect_err("no rights").to_string();
    assert!(error.contains("CREATE on schema public"), "{error}");

    cluster.say("postgres", "CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0").await;
    let error = refused(&cluster.url("latin")).await;
    assert!(matches!(error, PostgresError::Encoding { .. }) && error.to_string().contains("UTF8"), "{error}");

    let error = refused(&format!("{}?sslmode=verify-full", cluster.url(&database))).await;
    assert!(matches!(error, PostgresError::Untrusted { .. }), "{error}");
}

#[tokio::test]
async fn a_schema_of_a_newer_version_is_refused() {
    let cluster = Cluster::shared();
    let database = cluster.make_database().await;
    let url = cluster.url(&database);
    assert_eq!(inspect(&at(&url)).await.expect("reachable"), None, "no tables yet");
    open(&url).await.expect("opens").close().await;
    let found = inspect(&at(&url)).await.expect("readable").expect("tables");
    assert_eq!((found.broken, found.looked_at), (vec![], 7));
    cluster.say(&database, "INSERT INTO schema_version (version) VALUES (1000)").await;
    let error = refused(&url).await;
    assert!(matches!(error, PostgresError::Newer { found: 1000, .. }), "{error}");
    assert!(error.to_string().contains("run a newer hookmill"), "{error}");
}

#[tokio::test]
async fn a_socket_is_an_address_too() {
    let cluster = Cluster::shared();
    let database = cluster.make_database().await;
    let (socket, port) = (cluster.socket(), cluster.port);
    let url = format!("postgres://{}@localhost/{database}?host={}&port={port}", postgres::ROLE, socket.display());
    let store = open(&url).await.expect("opens");
    store.check().await.expect("usable");
}

/// An authority that exists for one test, and certificates by it.
struct Authority(tempfile::TempDir);

impl Authority {
    fn new() -> Authority {
        let authority = Authority(tempfile::tempdir().expect("a folder"));
        let to = ["-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=an authority of a test"];
        authority.openssl(&[&["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"][..], &to].concat());
        authority
    }

    /// A certificate for a name, and its key.
    fn certify(&self, name: &str) -> (PathBuf, PathBuf) {
        let to = ["-keyout", "server.key", "-out", "server.pem", "-subj", "/CN=a server"];
        let by = ["-CA", "ca.pem", "-CAkey", "ca.key", "-addext", &format!("subjectAltName=DNS:{name}")];
        let new =
            ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-addext", "basicConstraints=CA:FALSE"];
        self.openssl(&[&new[..], &to, &by].concat());
        (self.0.path().join("server.pem"), self.0.path().join("server.key"))
    }

    fn openssl(&self, arguments: &[&str]) {
        let output = Command::new("openssl").args(arguments).current_dir(self.0.path()).output();
        let output = output.expect("openssl is installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("ca.pem")
    }
}

#[tokio::test]
async fn a_certificate_is_asked_for_as_the_address_says() {
    let (ours, strange) = (Authority::new(), Authority::new());
    let cluster = Cluster::start();
    let (certificate, key) = ours.certify("localhost");
    cluster.encrypts_with(&certificate, &key);
    cluster.crash();
    cluster.run();
    assert!(cluster.answers(), "it starts with a certificate");
    let database = cluster.make_database().await;
    let url = |host: &str, mode: &str, authority: &Authority| {
        let authority = authority.file();
        let at = format!("postgres://{}@{host}:{}/{database}", postgres::ROLE, cluster.port);
        format!("{at}?sslmode={mode}&sslrootcert={}", authority.display())
    };
    let mut direct = cluster.connect(&database).await;

    let store = open(&url("localhost", "verify-full", &ours)).await.expect("the one that it is meant for");
    store.check().await.expect("usable");
    let encrypted = "SELECT count(*) FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) \
                     WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND s.ssl = $1";
    let mut count = async |ssl: bool| -> i64 {
        sqlx::query_scalar(encrypted).bind(ssl).fetch_one(&mut direct).await.expect("answered")
    };
    assert!(count(true).await > 0, "nothing is encrypted");
    assert_eq!(count(false).await, 0, "every connection is encrypted, the listener's too");
    store.close().await;
    open(&url("127.0.0.1", "verify-ca", &ours)).await.expect("any name of the authority's").close().await;

    for (what, url) in [
        ("another name", url("127.0.0.1", "verify-full", &ours)),
        ("another authority", url("localhost", "verify-full", &strange)),
        ("another authority and any name", url("localhost", "verify-ca", &strange)),
    ] {
        let error = refused(&url).await;
        assert!(matches!(error, PostgresError::Untrusted { .. }), "{what}: {error:?}");
        assert!(error.to_string().contains("sslrootcert"), "{what}: {error}");
    }
    let absent = format!("{}/absent.pem", ours.0.path().display());
    let error =
        open(&url("localhost", "verify-full", &ours).replace(&ours.file().display().to_string(), &absent)).await;
    let error = error.expect_err("no such file").to_string();
    assert!(error.starts_with(&absent) && error.contains("correct sslrootcert"), "{error}");
}

//! A PostgreSQL of the test's own: a cluster in a folder, reachable on loopback and by a socket, gone with the test.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, getuid, kill_process};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection as _};
use tempfile::TempDir;

use crate::support::port;

/// A start on a busy machine takes a second or two.
const PATIENCE: Duration = Duration::from_secs(60);

/// The role that owns everything; whoever reaches the cluster is believed to be it.
pub(crate) const ROLE: &str = "hookmill";

/// A running cluster. Dropped it is stopped at once, and its folder goes.
pub(crate) struct Cluster {
    folder: TempDir,
    host: String,
    pub(crate) port: u16,
    server: Mutex<Option<Child>>,
    databases: AtomicU32,
}

impl Cluster {
    /// Starts one of its own.
    pub(crate) fn start() -> Cluster {
        Cluster::start_at("127.0.0.1")
    }

    /// Reached at this address of the machine's, from anywhere that reaches it.
    pub(crate) fn start_at(host: &str) -> Cluster {
        let folder = tempfile::Builder::new().prefix("hookmill-pg").tempdir().expect("a folder");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("ours");
        copy_template(&folder.path().join("data"));
        let access = File::options().append(true).open(folder.path().join("data/pg_hba.conf"));
        access.and_then(|mut file| file.write_all(b"host all all samenet trust\n")).expect("a file");
        let socket = folder.path().join("socket");
        fs::create_dir(&socket).expect("a folder");
        give(&socket);
        let mut cluster =
            Cluster { folder, host: host.to_owned(), port: 0, server: Mutex::new(None), databases: AtomicU32::new(0) };
        for _ in 0..5 {
            // Somebody else may take the port between our asking and PostgreSQL's: then another one.
            cluster.port = port::free_on(host);
            cluster.run();
            if cluster.answers() {
                return cluster;
            }
        }
        panic!("PostgreSQL did not start: {}", fs::read_to_string(cluster.log()).unwrap_or_default());
    }

    /// The one that is running in this process, else a new one: it goes when nobody holds it any more.
    pub(crate) fn shared() -> Arc<Cluster> {
        static SHARED: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(running) = shared.upgrade() {
            return running;
        }
        let started = Arc::new(Cluster::start());
        *shared = Arc::downgrade(&started);
        started
    }

    /// Runs the server on the folder that is there.
    pub(crate) fn run(&self) {
        let log = File::options().create(true).append(true).open(self.log()).expect("a file");
        let mut server = as_ordinary_user(&binary("postgres"));
        server.arg("-D").arg(self.folder.path().join("data")).arg("-k").arg(self.folder.path().join("socket"));
        server.args(["-p", &self.port.to_string(), "-c", &format!("listen_addresses={}", self.host)]);
        // Nothing here outlives the machine, and many tests run at once.
        for setting in ["fsync=off", "full_page_writes=off", "shared_buffers=16MB", "max_connections=60"] {
            server.args(["-c", setting]);
        }
        server.stdin(Stdio::null()).stdout(log.try_clone().expect("a file")).stderr(log);
        *self.server() = Some(server.spawn().expect("PostgreSQL is installed"));
    }

    /// Ends the server at once, as a crash would; it recovers when it is run again.
    pub(crate) fn crash(&self) {
        let Some(mut server) = self.server().take() else { return };
        let _ = kill_process(Pid::from_child(&server), Signal::QUIT);
        let _ = server.wait();
    }

    /// Waits until it answers; false when it ended instead.
    pub(crate) fn answers(&self) -> bool {
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            let ready = Command::new(binary("pg_isready"))
                // A user without an entry in passwd has no name of their own to ask with.
                .args(["-q", "-U", ROLE, "-h", &self.host, "-p", &self.port.to_string()])
                .status()
                .expect("PostgreSQL is installed");
            if ready.success() {
                return true;
            }
            let ended = self.server().as_mut().is_none_or(|server| server.try_wait().expect("ours").is_some());
            if ended {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }

    /// A new database; its name.
    pub(crate) async fn make_database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.say("postgres", &format!("CREATE DATABASE {name}")).await;
        name
    }

    /// Says something to a database as the owner of everything.
    pub(crate) async fn say(&self, database: &str, statement: &str) {
        let mut connection = self.connect(database).await;
        sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await.expect(statement);
        connection.close().await.expect("ends");
    }

    /// A connection of the test's own.
    pub(crate) async fn connect(&self, database: &str) -> PgConnection {
        let options = PgConnectOptions::new_without_pgpass().host(&self.host).port(self.port);
        PgConnection::connect_with(&options.username(ROLE).database(database)).await.expect("answers")
    }

    /// The address of a database for `[store] url`.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://{ROLE}@{}:{}/{database}", self.host, self.port)
    }

    /// The folder of its socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }

    /// The folder of its data.
    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// What the server has logged so far.
    pub(crate) fn log_text(&self) -> String {
        fs::read_to_string(self.log()).unwrap_or_default()
    }

    /// Encrypts for whoever wants that, with a certificate and its key, from the next [`Cluster::run`] on.
    pub(crate) fn encrypts_with(&self, certificate: &Path, key: &Path) {
        for (from, name) in [(certificate, "server.crt"), (key, "server.key")] {
            let to = self.data().join(name);
            fs::copy(from, &to).expect("copied");
            // It refuses a key that others may read.
            fs::set_permissions(&to, fs::Permissions::from_mode(0o600)).expect("ours");
            give(&to);
        }
        let settings = File::options().append(true).open(self.data().join("postgresql.conf"));
        settings.and_then(|mut file| file.write_all(b"ssl = on\n")).expect("a file");
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn server(&self) -> std::sync::MutexGuard<'_, Option<Child>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.crash();
        if std::thread::panicking() {
            eprintln!("PostgreSQL's log:\n{}", fs::read_to_string(self.log()).unwrap_or_default());
        }
    }
}

/// Making a cluster takes seconds, copying one a moment: the first test makes it for all, whoever they run as.
fn copy_template(to: &Path) {
    let version = binary("initdb").parent().and_then(Path::parent).and_then(Path::file_name).map(PathBuf::from);
    let version = version.unwrap_or_default();
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cluster-{}", version.display()));
    // Nobody but who made it can lock it; it came by a rename, and is whole.
    if !kept.exists() {
        let lock = File::create(kept.with_extension("lock")).expect("a file");
        lock.lock().expect("a lock");
        if !kept.exists() {
            make(&kept);
        }
    }
    copy(&kept, to);
    // It refuses data that others may read.
    fs::set_permissions(to, fs::Permissions::from_mode(0o700)).expect("ours");
}

fn make(kept: &Path) {
    let made = tempfile::Builder::new().prefix("hookmill-initdb").tempdir().expect("a folder");
    give(made.path());
    let cluster = made.path().join("data");
    let output = as_ordinary_user(&binary("initdb"))
        .args(["--no-sync", "--no-locale", "--encoding=UTF8", "--auth=trust", "--wal-segsize=1", "-U", ROLE, "-D"])
        .arg(&cluster)
        .output()
        .expect("PostgreSQL is installed");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let half = kept.with_extension("half");
    let _ = fs::remove_dir_all(&half);
    copy(&cluster, &half);
    let status = Command::new("chmod").args(["-R", "a+rX"]).arg(&half).status().expect("chmod");
    assert!(status.success(), "{} can't be opened to all", half.display());
    fs::rename(&half, kept).expect("beside each other");
}

fn copy(from: &Path, to: &Path) {
    let status = Command::new("cp").args(["-a", "--reflink=auto"]).args([from, to]).status().expect("cp");
    assert!(status.success(), "{} can't be copied", from.display());
}

/// PostgreSQL refuses to run as root: then it runs as the user that its package made.
fn as_ordinary_user(program: &Path) -> Command {
    let mut command = Command::new(program);
    if let Some((user, group)) = ordinary_user() {
        command.uid(user).gid(group).current_dir("/");
    }
    command
}

/// Gives a folder to whoever the server runs as.
fn give(folder: &Path) {
    if let Some((user, group)) = ordinary_user() {
        chown(folder, Some(user), Some(group)).expect("we are root");
    }
}

fn ordinary_user() -> Option<(u32, u32)> {
    if !getuid().is_root() {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").expect("there");
    let find = |name: &str| {
        let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
        let mut ids = line.split(':').skip(2);
        Some((ids.next()?.parse().ok()?, ids.next()?.parse().ok()?))
    };
    Some(find("postgres").or_else(|| find("nobody")).expect("there is somebody who is not root"))
}

/// On `PATH`, else where Debian puts it: the newest.
fn binary(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    if let Some(found) = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| {
        // pg_wrapper stands on PATH for some of them, and picks a cluster of the machine's.
        file.is_file() && fs::canonicalize(file).is_ok_and(|real| real.file_name() == Some(name.as_ref()))
    }) {
        return found;
    }
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions.max_by_key(|entry| entry.file_name().to_string_lossy().parse::<u32>().unwrap_or(0));
    newest.expect("PostgreSQL is installed (Debian: postgresql)").path().join("bin").join(name)
}

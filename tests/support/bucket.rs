//! A real server of S3's protocol on loopback, with one bucket. It is installed once for all tests.

use std::fs::{self, File};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::support::port;

const VERSION: &str = "3.7.1";
const NAME: &str = "hookmill-logs";
/// The key that this server knows.
const KEY: &str = "S3RVER";

/// The server; it ends when it is dropped.
pub(crate) struct Bucket {
    dir: TempDir,
    port: u16,
    child: Option<Child>,
}

impl Bucket {
    pub(crate) fn start() -> Bucket {
        let dir = tempfile::tempdir().expect("a folder");
        let port = port::free();
        let mut bucket = Bucket { dir, port, child: None };
        bucket.restart();
        bucket
    }

    /// Lines of `[data]` that name it.
    pub(crate) fn settings(&self) -> String {
        format!(
            "blobs_url = \"s3://{NAME}/ci\"\nblobs_endpoint = \"http://127.0.0.1:{}\"\nblobs_key_id = \"{KEY}\"\n\
             blobs_key = \"{KEY}\"\n",
            self.port
        )
    }

    /// Every key that is there; a directory a key, as this server keeps them.
    pub(crate) fn keys(&self) -> Vec<String> {
        let root = self.dir.path().join(NAME).join("ci");
        let mut found = Vec::new();
        walk(&root, &root, &mut found);
        found.sort();
        found
    }

    pub(crate) fn stop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("a child of ours");
            child.wait().expect("a child of ours");
        }
    }

    /// Starts it, again or for the first time, on the same port with what it held.
    pub(crate) fn restart(&mut self) {
        let child = Command::new(program())
            .args(["--address", "127.0.0.1", "--silent", "--configure-bucket", NAME, "--port", &self.port.to_string()])
            .arg("--directory")
            .arg(self.dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("started");
        self.child = Some(child);
        let deadline = Instant::now() + Duration::from_secs(60);
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(Instant::now() < deadline, "the bucket's server does not listen");
            std::thread::sleep(Duration::from_millis(40));
        }
    }
}

impl Drop for Bucket {
    fn drop(&mut self) {
        self.stop();
    }
}

fn walk(root: &Path, dir: &Path, found: &mut Vec<String>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            walk(root, &path, found);
        } else if let Some(key) = path.to_string_lossy().strip_suffix("._S3rver_object") {
            let key = Path::new(key).strip_prefix(root).expect("below");
            found.push(key.to_string_lossy().into_owned());
        }
    }
}

fn program() -> PathBuf {
    let home = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("s3rver-{VERSION}"));
    let program = home.join("node_modules/.bin/s3rver");
    // The lock is given back with the file, also when another test's process is killed.
    let lock = File::create(home.with_extension("lock")).expect("a lock");
    lock.lock().expect("locked");
    if !program.exists() {
        let staging = home.with_extension("new");
        for old in [&home, &staging] {
            let _ = fs::remove_dir_all(old);
        }
        fs::create_dir_all(&staging).expect("a folder");
        let installed = Command::new("npm")
            .args(["install", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix"])
            .arg(&staging)
            .arg(format!("s3rver@{VERSION}"))
            .stdin(Stdio::null())
            .output()
            .expect("npm is installed");
        assert!(installed.status.success(), "{}", String::from_utf8_lossy(&installed.stderr));
        fs::rename(&staging, &home).expect("renamed");
    }
    program
}

//! Where bower gets its components from: a registry of names and a git server, both on loopback.

use std::io::{BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::json;
use tempfile::TempDir;

use crate::any_repository::repository::git;
use crate::support::git_http::{Asked, GitServer};

/// The last `angular` there was.
const ANGULAR: &str = "1.8.3";

/// Knows one component, `angular`; ends when it is dropped.
pub(crate) struct Components {
    /// `http://127.0.0.1:<port>`, for `registry` of a `.bowerrc`.
    pub(crate) registry: String,
    ended: Arc<AtomicBool>,
    answering: Option<thread::JoinHandle<()>>,
    _git: GitServer,
    _dir: TempDir,
}

impl Components {
    /// Makes the component from its npm package, which holds the same files.
    pub(crate) fn start() -> Components {
        let dir = tempfile::tempdir().expect("a folder");
        angular(dir.path());
        let server = GitServer::start(dir.path());
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let registry = format!("http://{}", listener.local_addr().expect("bound"));
        let address = format!("{}/angular/.git", server.origin());
        let ended = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&ended);
        let answering = thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if until.load(Ordering::SeqCst) {
                    return;
                }
                answer(&stream, &address);
            }
        });
        Components { registry, ended, answering: Some(answering), _git: server, _dir: dir }
    }
}

impl Drop for Components {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        // Wakes the answering thread, which then sees that it has ended.
        let _ = TcpStream::connect(self.registry.trim_start_matches("http://"));
        if let Some(answering) = self.answering.take() {
            let _ = answering.join();
        }
    }
}

/// `GET /packages/<name>`, as bower's registry answers it.
fn answer(mut stream: &TcpStream, address: &str) {
    let Some(asked) = Asked::read(&mut BufReader::new(stream)) else { return };
    let (status, body) = match asked.line.as_str() {
        "GET /packages/angular" => ("200 OK", json!({"name": "angular", "url": address}).to_string()),
        _ => ("404 Not Found", String::new()),
    };
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n");
    let _ = stream.write_all(format!("{head}Connection: close\r\n\r\n{body}").as_bytes());
}

fn angular(dir: &Path) {
    let packed = Command::new("npm")
        .args(["pack", "--silent", "--pack-destination"])
        .arg(dir)
        .arg(format!("angular@{ANGULAR}"))
        .current_dir(dir)
        .stdin(Stdio::null())
        .output()
        .expect("npm is installed");
    assert!(packed.status.success(), "{}", String::from_utf8_lossy(&packed.stderr));
    let unpacked = Command::new("tar").arg("-xzf").arg(format!("angular-{ANGULAR}.tgz")).current_dir(dir).status();
    assert!(unpacked.expect("tar is installed").success());
    let folder = dir.join("angular");
    std::fs::rename(dir.join("package"), &folder).expect("renamed");
    git(&folder, &["init", "-q", "-b", "main"]);
    git(&folder, &["add", "-A", "-f"]);
    git(&folder, &["commit", "-q", "-m", ANGULAR]);
    git(&folder, &["tag", &format!("v{ANGULAR}")]);
}

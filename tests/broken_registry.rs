//! The npm registry fails, or npm itself is not there: the word is that it is not the commit's fault.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use crate::support::forge::{Forge, Moved, Repo};
use crate::support::machine;
use crate::support::port;
use crate::support::server::{Server, Settings, step};

/// A registry that knows one package, `tiny`, without any file; it ends when it is dropped.
struct Registry {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    /// So many requests are answered 503 before the first that is not.
    failing: AtomicUsize,
    asked: Mutex<Vec<String>>,
    ended: AtomicBool,
}

impl Registry {
    fn failing(times: usize) -> Registry {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("bound");
        let shared = Arc::new(Shared { failing: AtomicUsize::new(times), ..Shared::default() });
        let serving = Arc::clone(&shared);
        let accepting = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if serving.ended.load(Ordering::Relaxed) {
                    return;
                }
                serving.answer(address, stream);
            }
        });
        Registry { address, shared, accepting: Some(accepting) }
    }

    fn asked(&self) -> Vec<String> {
        self.shared.asked.lock().expect("no panic").clone()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        // Wakes the accepting thread, which then sees that it has ended.
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

impl Shared {
    /// One request of one connection: the answer closes it.
    fn answer(&self, address: SocketAddr, mut stream: TcpStream) {
        let lines = BufReader::new(stream.try_clone().expect("a handle")).lines();
        let head: Vec<String> = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
        let Some(path) = head.first().and_then(|line| line.split(' ').nth(1)) else { return };
        self.asked.lock().expect("no panic").push(path.to_owned());
        let fail = |left: usize| left.checked_sub(1);
        let fails = self.failing.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fail).is_ok();
        let (code, body) = if fails { (503, Vec::new()) } else { document(address, path) };
        let head = format!("HTTP/1.1 {code} Because\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        // npm may have gone away.
        let _ = stream.write_all(&[head.as_bytes(), &body].concat());
    }
}

fn document(address: SocketAddr, path: &str) -> (u16, Vec<u8>) {
    match path {
        "/tiny" => {
            let dist = serde_json::json!({"tarball": format!("http://{address}/tiny/-/tiny-1.0.0.tgz")});
            let version = serde_json::json!({"name": "tiny", "version": "1.0.0", "dist": dist});
            let document =
                serde_json::json!({"name": "tiny", "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": version}});
            (200, document.to_string().into_bytes())
        }
        "/tiny/-/tiny-1.0.0.tgz" => (200, tarball()),
        _ => (404, Vec::new()),
    }
}

/// `package/package.json`, as tar(1) packs it.
fn tarball() -> Vec<u8> {
    let dir = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(dir.path().join("package")).expect("a folder");
    std::fs::write(dir.path().join("package/package.json"), r#"{"name":"tiny","version":"1.0.0"}"#).expect("a file");
    let packed = std::process::Command::new("tar").args(["-czf", "-", "-C"]).arg(dir.path()).arg("package").output();
    packed.expect("tar is installed").stdout
}

/// A repository that needs `tiny` from the registry there. npm itself does not try again, which would be a minute.
fn push(repo: &Repo, address: &str) -> Moved {
    repo.push(
        "main",
        &[
            ("package.json", r#"{"name":"shop","version":"1.0.0","private":true,"dependencies":{"tiny":"1.0.0"}}"#),
            (".npmrc", &format!("registry=http://{address}/\n")),
            (
                ".hookmill.toml",
                "[env]\nnpm_config_fetch_retries = \"0\"\n[bundle]\ncommand = [\"ls\", \"node_modules\"]\n",
            ),
        ],
    )
}

#[test]
fn a_registry_that_answers_503_is_not_the_commits_fault() {
    let forge = Forge::start();
    let (repo, server) = (forge.repo("acme/shop"), Server::start(&forge));
    let registry = Registry::failing(usize::MAX);
    let moved = push(&repo, &registry.address.to_string());
    let id = server.deliver(&repo.pushed(&moved)).build();
    let build = server.finished(id);
    assert_eq!(build["outcome"], "broken");
    assert_eq!(step(&build, "npm")["outcome"], "broken");
    assert_eq!(step(&build, "bundle")["outcome"], "cancelled");
    let word = forge.final_status(&moved.after, "hookmill");
    assert_eq!(word.state, "error");
    assert_eq!(word.description, "Not your commit: the npm registry answered 503 three times");
    assert_eq!(registry.asked(), ["/tiny"; 3], "one request a try");
    let log = server.log(id, "npm");
    assert_eq!(log.matches("== the npm registry answered 503; trying again in ").count(), 2, "{log}");
    forge.finish();
}

#[test]
fn a_registry_that_recovers_is_not_told_of() {
    let forge = Forge::start();
    let (repo, server) = (forge.repo("acme/shop"), Server::start(&forge));
    let registry = Registry::failing(1);
    let moved = push(&repo, &registry.address.to_string());
    let id = server.deliver(&repo.pushed(&moved)).build();
    let build = server.finished(id);
    assert_eq!(build["outcome"], "passed", "{}", server.log(id, "npm"));
    assert_eq!(server.log(id, "bundle"), "tiny\n");
    assert_eq!(registry.asked(), ["/tiny", "/tiny", "/tiny/-/tiny-1.0.0.tgz"]);
    assert_eq!(server.log(id, "npm").matches("; trying again in ").count(), 1);
    assert_eq!(forge.final_status(&moved.after, "hookmill").state, "success");
    forge.finish();
}

#[test]
fn a_registry_that_refuses_the_connection_is_not_the_commits_fault() {
    let forge = Forge::start();
    let (repo, server) = (forge.repo("acme/shop"), Server::start(&forge));
    let moved = push(&repo, &format!("127.0.0.1:{}", port::free()));
    let build = server.finished(server.deliver(&repo.pushed(&moved)).build());
    assert_eq!(build["outcome"], "broken");
    let word = forge.final_status(&moved.after, "hookmill");
    assert_eq!(word.state, "error");
    assert_eq!(word.description, "Not your commit: the npm registry refused the connection (ECONNREFUSED) three times");
    forge.finish();
}

#[test]
fn a_missing_npm_is_named_with_its_cure() {
    let forge = Forge::start();
    let repo = forge.repo("acme/shop");
    let path = machine::only(&forge.dir.path().join("bin"), &["node", "git", "sh"]);
    let server = Server::start_with(&forge, Settings { path: Some(path), ..Settings::default() });
    let moved = push(&repo, "127.0.0.1:1");
    let build = server.finished(server.deliver(&repo.pushed(&moved)).build());
    assert_eq!(build["outcome"], "broken");
    let word = forge.final_status(&moved.after, "hookmill");
    assert_eq!(word.state, "error");
    let cure = "npm is not installed on the agent (install Node.js 20 or newer with npm)";
    assert_eq!(word.description, format!("Not your commit: {cure}"));
    forge.finish();
}

//! A git server over HTTP on loopback: `git http-backend` behind a few lines of HTTP, with the
//! faults of real servers on demand. It remembers every request.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use base64::Engine as _;

/// Between two bytes of [`Behaviour::Drip`].
const DRIP: Duration = Duration::from_millis(100);

/// How the server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// As git http-backend does.
    Serve,
    /// 401 without this name and token.
    Auth(String, String),
    /// As `Auth` for `x-access-token`, with the token of the first of these that the path begins with.
    Tokens(Vec<(&'static str, &'static str)>),
    /// 302 to the same path and query below this address.
    Redirect(String),
    /// As `Serve`, with 301 from paths that begin with the first to the same below the second.
    Moved(&'static str, String),
    /// This status and nothing else.
    Status(u16),
    /// Takes the request and never answers.
    Hang,
    /// Answers the first bytes of everything and then never goes on.
    Stall,
    /// As `Serve`, a byte at a time: each comes before anybody's patience with it ends.
    Drip,
    /// For paths that begin with the first of one of these the second, for all others `Serve`.
    Each(Vec<(&'static str, Behaviour)>),
}

/// One request, as it came.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    /// `GET /shop.git/info/refs?service=git-upload-pack`.
    pub(crate) line: String,
    /// The value of `Authorization`.
    pub(crate) authorization: Option<String>,
}

/// The server; it ends when it is dropped.
pub(crate) struct GitServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<thread::JoinHandle<()>>,
}

struct Shared {
    root: PathBuf,
    behaviour: Mutex<Behaviour>,
    requests: Mutex<Vec<Request>>,
    open: Mutex<Vec<TcpStream>>,
    ended: Mutex<bool>,
}

impl GitServer {
    /// Serves the bare repositories in `root`.
    pub(crate) fn start(root: &Path) -> GitServer {
        GitServer::start_at(root, "127.0.0.1")
    }

    /// Reached at this address of the machine's.
    pub(crate) fn start_at(root: &Path, host: &str) -> GitServer {
        let listener = TcpListener::bind((host, 0)).expect("an address of ours");
        let address = listener.local_addr().expect("bound");
        let shared = Arc::new(Shared {
            root: root.to_owned(),
            behaviour: Mutex::new(Behaviour::Serve),
            requests: Mutex::default(),
            open: Mutex::default(),
            ended: Mutex::new(false),
        });
        let served = Arc::clone(&shared);
        let accepting = thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if *served.ended.lock().expect("no panic") {
                    return;
                }
                served.open.lock().expect("no panic").push(stream.try_clone().expect("a handle"));
                let served = Arc::clone(&served);
                thread::spawn(move || {
                    served.connection(&stream);
                    // `open` has a handle too, without which the other side would see the end here.
                    let _ = stream.shutdown(Shutdown::Both);
                });
            }
        });
        GitServer { address, shared, accepting: Some(accepting) }
    }

    /// `http://127.0.0.1:<port>`.
    pub(crate) fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Answers differently from now on.
    pub(crate) fn behave(&self, behaviour: Behaviour) {
        *self.shared.behaviour.lock().expect("no panic") = behaviour;
    }

    /// What was asked so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().expect("no panic").clone()
    }
}

impl Drop for GitServer {
    fn drop(&mut self) {
        *self.shared.ended.lock().expect("no panic") = true;
        for stream in self.shared.open.lock().expect("no panic").drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
        // Wakes the accepting thread, which then sees that it has ended.
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

impl Shared {
    fn connection(&self, mut stream: &TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().expect("a handle"));
        while let Some(asked) = Asked::read(&mut reader) {
            self.requests
                .lock()
                .expect("no panic")
                .push(Request { line: asked.line.clone(), authorization: asked.header("authorization") });
            let mut behaviour = self.behaviour.lock().expect("no panic").clone();
            if let Behaviour::Each(paths) = behaviour {
                let found = paths.into_iter().find(|(path, _)| asked.target().starts_with(path));
                behaviour = found.map_or(Behaviour::Serve, |(_, behaviour)| behaviour);
            }
            let drips = behaviour == Behaviour::Drip;
            let answer = match behaviour {
                Behaviour::Each(_) => panic!("a path has one behaviour"),
                Behaviour::Serve | Behaviour::Drip => self.backend(&asked),
                // Whoever was given an address for contents has the headers that go with it.
                Behaviour::Auth(..) if asked.target().starts_with("/lfs-contents/") => self.backend(&asked),
                Behaviour::Auth(name, token) => self.for_holders(&asked, &name, &token),
                Behaviour::Tokens(tokens) => {
                    let token = tokens.iter().find(|(path, _)| asked.target().starts_with(path));
                    let (_, token) = token.unwrap_or_else(|| panic!("who may read {}?", asked.line));
                    self.for_holders(&asked, "x-access-token", token)
                }
                Behaviour::Redirect(to) => bare("302 Found", &format!("Location: {to}{}\r\n", asked.target())),
                Behaviour::Moved(from, to) => match asked.target().strip_prefix(from) {
                    Some(rest) => bare("301 Moved Permanently", &format!("Location: {to}{rest}\r\n")),
                    None => self.backend(&asked),
                },
                Behaviour::Status(code) => bare(&format!("{code} Because"), ""),
                Behaviour::Hang => {
                    // Until the other side, or the end of the server, closes the connection.
                    let _ = reader.read(&mut [0]);
                    return;
                }
                Behaviour::Stall => {
                    let whole = self.backend(&asked);
                    let _ = stream.write_all(&whole[..whole.len().min(200)]);
                    let _ = reader.read(&mut [0]);
                    return;
                }
            };
            if drips {
                for byte in answer.chunks(1) {
                    if *self.ended.lock().expect("no panic") || stream.write_all(byte).is_err() {
                        return;
                    }
                    thread::sleep(DRIP);
                }
                continue;
            }
            let is_last = asked.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
            if stream.write_all(&answer).is_err() || is_last {
                return;
            }
        }
    }

    /// The answer for whoever has the token, else 401.
    fn for_holders(&self, asked: &Asked, name: &str, token: &str) -> Vec<u8> {
        let pair = base64::engine::general_purpose::STANDARD.encode(format!("{name}:{token}"));
        match asked.header("authorization") == Some(format!("Basic {pair}")) {
            true => self.backend(asked),
            false => bare("401 Unauthorized", "WWW-Authenticate: Basic realm=\"git\"\r\n"),
        }
    }

    /// What Git LFS asks, where there is a folder `lfs` beside the repositories with files named by their SHA-256.
    fn lfs(&self, asked: &Asked) -> Option<Vec<u8>> {
        let store = self.root.join("lfs");
        if asked.line.starts_with("POST ") && asked.target().ends_with("/info/lfs/objects/batch") && store.is_dir() {
            let body: serde_json::Value = serde_json::from_slice(&asked.body).expect("JSON");
            let objects = body["objects"].as_array().expect("objects").iter().map(|object| {
                let oid = object["oid"].as_str().expect("an id");
                if !store.join(oid).exists() {
                    return serde_json::json!({"oid": oid, "error": {"code": 404, "message": "Object does not exist"}});
                }
                let href = format!("http://{}/lfs-contents/{oid}", asked.header("host").expect("a host"));
                serde_json::json!({"oid": oid, "actions": {"download": {"href": href, "header": {"X-Pass": "sesame"}}}})
            });
            let body = serde_json::json!({"transfer": "basic", "objects": objects.collect::<Vec<_>>()}).to_string();
            return Some(with_body("application/vnd.git-lfs+json", body.as_bytes()));
        }
        // A storage service, as one stands behind the servers of forges: it refuses what was meant for another.
        if let Some(oid) = asked.target().strip_prefix("/storage/") {
            let foreign = asked.header("x-pass").is_some() || asked.header("authorization").is_some();
            let contents = std::fs::read(store.join(oid)).ok().filter(|_| !foreign);
            let answer = contents.map(|contents| with_body("application/octet-stream", &contents));
            return Some(answer.unwrap_or_else(|| bare("400 Bad Request", "")));
        }
        let oid = asked.target().strip_prefix("/lfs-contents/")?;
        if asked.header("x-pass").as_deref() != Some("sesame") || asked.header("authorization").is_some() {
            return Some(bare("403 Forbidden", ""));
        }
        Some(with_body("application/octet-stream", &std::fs::read(store.join(oid)).expect("kept")))
    }

    /// One CGI call (RFC 3875).
    fn backend(&self, asked: &Asked) -> Vec<u8> {
        if let Some(answer) = self.lfs(asked) {
            return answer;
        }
        let (method, target) = asked.line.split_once(' ').expect("a request line");
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut command = Command::new("git");
        command
            .arg("http-backend")
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_COUNT", "1")
            .env("GIT_CONFIG_KEY_0", "safe.directory")
            .env("GIT_CONFIG_VALUE_0", "*")
            .env("GIT_PROJECT_ROOT", &self.root)
            .env("GIT_HTTP_EXPORT_ALL", "1")
            .env("REQUEST_METHOD", method)
            .env("PATH_INFO", path)
            .env("QUERY_STRING", query)
            .env("CONTENT_LENGTH", asked.body.len().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        for (variable, header) in [
            ("CONTENT_TYPE", "content-type"),
            ("HTTP_CONTENT_ENCODING", "content-encoding"),
            ("HTTP_GIT_PROTOCOL", "git-protocol"),
        ] {
            if let Some(value) = asked.header(header) {
                command.env(variable, value);
            }
        }
        let mut child = command.spawn().expect("git is installed");
        let mut stdin = child.stdin.take().expect("piped");
        let body = asked.body.clone();
        let writing = thread::spawn(move || {
            let _ = stdin.write_all(&body);
        });
        let output = child.wait_with_output().expect("a child of ours").stdout;
        writing.join().expect("no panic");
        let split = output.windows(4).position(|four| four == b"\r\n\r\n").map_or(output.len(), |at| at + 2);
        let (head, body) = (&output[..split], output.get(split + 2..).unwrap_or_default());
        let head = String::from_utf8_lossy(head);
        let status = head.lines().find_map(|line| line.strip_prefix("Status: ")).unwrap_or("200 OK").to_owned();
        let fields: String =
            head.lines().filter(|line| !line.starts_with("Status: ")).map(|line| format!("{line}\r\n")).collect();
        let mut answer = format!("HTTP/1.1 {status}\r\n{fields}Content-Length: {}\r\n\r\n", body.len()).into_bytes();
        answer.extend_from_slice(body);
        answer
    }
}

fn with_body(kind: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

fn bare(status: &str, fields: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\n{fields}Content-Length: 0\r\n\r\n").into_bytes()
}

/// One request over HTTP/1.1, whole.
pub(crate) struct Asked {
    /// `GET /path?query`.
    pub(crate) line: String,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    /// The next request of a connection; none at its end.
    pub(crate) fn read(reader: &mut impl BufRead) -> Option<Asked> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if line.trim_end().is_empty() {
                break;
            }
            lines.push(line.trim_end().to_owned());
        }
        let first = lines.first()?.strip_suffix(" HTTP/1.1")?.to_owned();
        let headers = lines[1..]
            .iter()
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        let mut asked = Asked { line: first, headers, body: Vec::new() };
        if asked.header("transfer-encoding").is_some() {
            asked.body = chunks(reader)?;
        } else {
            let length = asked.header("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
            asked.body = vec![0; length];
            reader.read_exact(&mut asked.body).ok()?;
        }
        Some(asked)
    }

    /// A header's first value, by its name in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<String> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    }

    fn target(&self) -> &str {
        self.line.split_once(' ').map_or("", |(_, target)| target)
    }
}

/// A chunked body, as git's own client sends large requests.
fn chunks(reader: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut size = String::new();
        reader.read_line(&mut size).ok()?;
        let size = usize::from_str_radix(size.trim(), 16).ok()?;
        let mut chunk = vec![0; size + 2];
        reader.read_exact(&mut chunk).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.extend_from_slice(&chunk[..size]);
    }
}

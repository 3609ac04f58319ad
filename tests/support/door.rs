//! The real door on loopback: router and listener as in the server, with an intake that remembers.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use hookmill::config::load;
use hookmill::config::server::{Forges, Listen};
use hookmill::domain::build::BuildId;
use hookmill::domain::event::Event;
use hookmill::web::hook::{Answer, Hooks, NotTaken, Refusals, TakeFn, Taken, routes};
use hookmill::web::listener::{Listener, serve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A door that is open until it is closed.
pub(crate) struct Door {
    address: SocketAddr,
    pub(crate) forges: watch::Sender<Arc<Forges>>,
    pub(crate) refusals: Refusals,
    taken: Arc<Mutex<Vec<Taken>>>,
    stop: CancellationToken,
    served: JoinHandle<std::io::Result<()>>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// Lower case, one header a line.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

pub(crate) fn forges(config: &str) -> Arc<Forges> {
    let loaded = load::from_text(config, Path::new("/nonexistent")).unwrap_or_else(|problems| {
        panic!("{}", problems.render(false));
    });
    loaded.server.forges
}

impl Door {
    /// With an intake that takes everything.
    pub(crate) async fn open(config: &str) -> Door {
        Self::open_with(config, answer_as_expected).await
    }

    pub(crate) async fn open_with(config: &str, intake: fn(&Taken) -> Result<Answer, NotTaken>) -> Door {
        let taken = Arc::new(Mutex::new(Vec::new()));
        let remember = taken.clone();
        let take: TakeFn = Arc::new(move |delivery| {
            let answer = intake(&delivery);
            remember.lock().expect("unpoisoned").push(delivery);
            Box::pin(std::future::ready(answer))
        });
        let (forges, receiver) = watch::channel(forges(config));
        let refusals = Refusals::default();
        let router = routes(Hooks { forges: receiver, take, refusals: refusals.clone() });
        let loopback = Listen::Tcp("127.0.0.1:0".parse().expect("an address"));
        let listener = Listener::bind(&loopback).await.expect("a port of loopback");
        let address = listener.tcp_address().expect("TCP");
        let stop = CancellationToken::new();
        let served = tokio::spawn(serve(listener, router, stop.clone()));
        Door { address, forges, refusals, taken, stop, served }
    }

    pub(crate) async fn close(self) {
        self.stop.cancel();
        self.served.await.expect("the door does not panic").expect("the door ends well");
    }

    /// What reached the intake since the last call.
    pub(crate) fn taken(&self) -> Vec<Taken> {
        std::mem::take(&mut *self.taken.lock().expect("unpoisoned"))
    }

    /// Posts with these headers; the length is added.
    pub(crate) async fn post(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let mut head = format!("POST {path} HTTP/1.1\r\nHost: door\r\nContent-Length: {}\r\n", body.len());
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        self.send([head.as_bytes(), b"Connection: close\r\n\r\n", body].concat()).await
    }

    /// A bare connection.
    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("it listens")
    }

    /// Sends bytes and reads to the end.
    pub(crate) async fn send(&self, request: Vec<u8>) -> Reply {
        let (mut reader, mut writer) = self.connect().await.into_split();
        // Written beside reading: an answer may come before everything is sent.
        let writing = tokio::spawn(async move {
            writer.write_all(&request).await.ok();
            writer
        });
        let reply = read_reply(&mut reader).await;
        writing.await.expect("no panic");
        reply
    }
}

pub(crate) async fn read_reply(reader: &mut (impl AsyncReadExt + Unpin)) -> Reply {
    let mut bytes = Vec::new();
    reader.read_to_end(&mut bytes).await.expect("an answer");
    let text = String::from_utf8(bytes).expect("text");
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status line");
    Reply { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}

/// The contract's answers without a store: builds for what builds, cancels for what ends.
fn answer_as_expected(taken: &Taken) -> Result<Answer, NotTaken> {
    let mut answer =
        Answer { delivery: taken.delivery_id.clone(), builds: vec![], ignored: None, cancelled: vec![], rule: None };
    match &taken.heard.event {
        _ if taken.rules.is_none() => answer.ignored = Some("not configured".to_owned()),
        Event::Push(push) if push.git_ref.as_tag().is_some() => answer.ignored = Some("tags are off".to_owned()),
        Event::Push(_) | Event::PullRequest(_) => answer.builds = vec![BuildId(12)],
        Event::Deleted { .. } | Event::PullRequestClosed { .. } => answer.cancelled = vec![BuildId(7)],
        Event::Ignored { because } => answer.ignored = Some(because.clone()),
    }
    Ok(answer)
}

/// One recorded delivery.
pub(crate) struct Recorded {
    pub(crate) name: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Recorded {
    pub(crate) fn headers(&self) -> Vec<(&str, &str)> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }
}

/// Every delivery of a folder of `tests/data/payloads`, in name order.
pub(crate) fn recorded(folder: &str) -> Vec<Recorded> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/payloads").join(folder);
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(&folder).expect("the folder").map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    files
        .iter()
        .map(|file| {
            let head = std::fs::read_to_string(file.with_extension("headers")).expect("its headers");
            let headers = head.lines().filter_map(|line| line.split_once(':'));
            Recorded {
                name: file.file_stem().expect("a name").to_string_lossy().into_owned(),
                headers: headers
                    .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
                    // The client of these tests says these itself.
                    .filter(|(name, _)| !["host", "content-length"].contains(&name.as_str()))
                    .collect(),
                body: std::fs::read(file).expect("its body"),
            }
        })
        .collect()
}

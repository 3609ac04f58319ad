//! A package registry on loopback that serves packages made up by a test, and can refuse whoever has no token.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha512};
use tokio::sync::oneshot;

/// One version of a package, before it is published.
pub(crate) struct Package {
    manifest: Value,
    files: Vec<(String, Vec<u8>, u32)>,
    integrity: Option<String>,
    packed: Option<Vec<u8>>,
}

impl Package {
    /// A package with a manifest of these two fields.
    pub(crate) fn new(name: &str, version: &str) -> Package {
        Package {
            manifest: json!({ "name": name, "version": version }),
            files: Vec::new(),
            integrity: None,
            packed: None,
        }
    }

    /// Sets a field of its `package.json`, which is also in the registry's document.
    pub(crate) fn field(mut self, key: &str, value: Value) -> Package {
        self.manifest[key] = value;
        self
    }

    /// Adds a file.
    pub(crate) fn file(mut self, path: &str, text: &str) -> Package {
        self.files.push((path.to_owned(), text.as_bytes().to_vec(), 0o644));
        self
    }

    /// Adds a file that need not be text. It may be executed, as what `bin` names has to be.
    pub(crate) fn bytes(mut self, path: &str, bytes: Vec<u8>) -> Package {
        self.files.push((path.to_owned(), bytes, 0o755));
        self
    }

    /// Adds a file that may be executed.
    pub(crate) fn program(mut self, path: &str, text: &str) -> Package {
        self.files.push((path.to_owned(), text.as_bytes().to_vec(), 0o755));
        self
    }

    /// The registry will say this of the tarball instead of the truth.
    pub(crate) fn claiming(mut self, integrity: &str) -> Package {
        self.integrity = Some(integrity.to_owned());
        self
    }

    /// Its tarball is this one, which [`Package::tarball`] made before.
    pub(crate) fn packed(mut self, tarball: Vec<u8>) -> Package {
        self.packed = Some(tarball);
        self
    }

    /// Its version.
    pub(crate) fn version(&self) -> String {
        self.text("version")
    }

    fn text(&self, key: &str) -> String {
        self.manifest[key].as_str().expect("set by new").to_owned()
    }

    /// The tarball, as `npm pack` makes one.
    pub(crate) fn tarball(&self) -> Vec<u8> {
        if let Some(packed) = &self.packed {
            return packed.clone();
        }
        let gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        let mut tar = tar::Builder::new(gzip);
        let manifest = ("package.json".to_owned(), self.manifest.to_string().into_bytes(), 0o644);
        for (path, bytes, mode) in std::iter::once(&manifest).chain(&self.files) {
            let mut head = tar::Header::new_gnu();
            head.set_size(bytes.len() as u64);
            head.set_mode(*mode);
            head.set_cksum();
            tar.append_data(&mut head, format!("package/{path}"), bytes.as_slice()).expect("memory");
        }
        tar.into_inner().and_then(flate2::write::GzEncoder::finish).expect("memory")
    }
}

/// One request that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Path without its encoding: `/@acme/ui`.
    pub(crate) path: String,
    /// The `Authorization` header.
    pub(crate) authorization: Option<String>,
}

#[derive(Default)]
struct Shared {
    origin: String,
    /// Sent as `Authorization: Bearer …`, or the answer is 401.
    token: Option<String>,
    /// So many requests are answered 503 before the first that is not.
    failing: Mutex<usize>,
    documents: Mutex<BTreeMap<String, Value>>,
    tarballs: Mutex<BTreeMap<String, Vec<u8>>>,
    asked: Mutex<Vec<Asked>>,
}

/// A registry; it ends when it is dropped.
pub(crate) struct Registry {
    shared: Arc<Shared>,
    stop: Option<oneshot::Sender<()>>,
    serving: Option<JoinHandle<()>>,
}

impl Registry {
    /// One that serves everybody.
    pub(crate) fn start() -> Registry {
        Registry::serving(None)
    }

    /// One that answers 401 to requests without this token.
    pub(crate) fn refusing_without(token: &str) -> Registry {
        Registry::serving(Some(token.to_owned()))
    }

    fn serving(token: Option<String>) -> Registry {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address: SocketAddr = listener.local_addr().expect("bound");
        listener.set_nonblocking(true).expect("a socket");
        let shared = Arc::new(Shared { origin: format!("http://{address}"), token, ..Shared::default() });
        let (stop, stopped) = oneshot::channel::<()>();
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let serving = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
                tokio::select! {
                    served = axum::serve(listener, router) => served.expect("loopback"),
                    _ = stopped => {}
                }
            });
        });
        Registry { shared, stop: Some(stop), serving: Some(serving) }
    }

    /// Its address, as `npm config get registry` prints one.
    pub(crate) fn url(&self) -> String {
        format!("{}/", self.shared.origin)
    }

    /// Adds a version; the last of a package is its `latest`.
    pub(crate) fn publish(&self, package: &Package) {
        let (name, version) = (package.text("name"), package.text("version"));
        let tarball = package.tarball();
        let file = format!("/{name}/-/{}-{version}.tgz", name.rsplit('/').next().expect("a name"));
        let integrity = format!("sha512-{}", STANDARD.encode(Sha512::digest(&tarball)));
        let mut manifest = package.manifest.clone();
        manifest["dist"] = json!({
            "tarball": format!("{}{file}", self.shared.origin),
            "integrity": package.integrity.clone().unwrap_or(integrity),
        });
        let mut documents = self.shared.documents.lock().expect("no panic");
        let document = documents.entry(format!("/{name}")).or_insert_with(|| json!({ "name": name, "versions": {} }));
        document["dist-tags"] = json!({ "latest": version });
        document["versions"][&version] = manifest;
        self.shared.tarballs.lock().expect("no panic").insert(file, tarball);
    }

    /// Answers this at a path, which need not be a package's.
    pub(crate) fn answer(&self, path: &str, document: Value) {
        self.shared.documents.lock().expect("no panic").insert(path.to_owned(), document);
    }

    /// What npm's lockfile says of a published version that needs no others.
    pub(crate) fn locked(&self, name: &str, version: &str) -> Value {
        let documents = self.shared.documents.lock().expect("no panic");
        let manifest = &documents[&format!("/{name}")]["versions"][version];
        let dist = &manifest["dist"];
        let mut locked = json!({ "version": version, "resolved": dist["tarball"], "integrity": dist["integrity"] });
        if !manifest["bin"].is_null() {
            locked["bin"] = manifest["bin"].clone();
        }
        locked
    }

    /// The next so many requests are answered 503.
    pub(crate) fn fail(&self, times: usize) {
        *self.shared.failing.lock().expect("no panic") = times;
    }

    /// What was asked, in order.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().expect("no panic").clone()
    }

    /// How often a path was asked for.
    pub(crate) fn times(&self, path: &str) -> usize {
        self.asked().iter().filter(|asked| asked.path == path).count()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(serving) = self.serving.take() {
            let _ = serving.join();
        }
    }
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let path = percent_encoding::percent_decode_str(request.uri().path()).decode_utf8_lossy().into_owned();
    let header = request.headers().get(header::AUTHORIZATION);
    let authorization = header.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let known = shared.token.as_ref().is_none_or(|token| authorization.as_ref() == Some(&format!("Bearer {token}")));
    shared.asked.lock().expect("no panic").push(Asked { path: path.clone(), authorization });
    {
        let mut failing = shared.failing.lock().expect("no panic");
        if *failing > 0 {
            *failing -= 1;
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        }
    }
    if !known {
        return (StatusCode::UNAUTHORIZED, axum::Json(json!({ "error": "a token is needed" }))).into_response();
    }
    if let Some(tarball) = shared.tarballs.lock().expect("no panic").get(&path) {
        return ([(header::CONTENT_TYPE, "application/octet-stream")], tarball.clone()).into_response();
    }
    match shared.documents.lock().expect("no panic").get(&path) {
        Some(document) => axum::Json(document.clone()).into_response(),
        None => (StatusCode::NOT_FOUND, axum::Json(json!({ "error": "not found" }))).into_response(),
    }
}

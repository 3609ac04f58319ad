//! What stands between a company's builds and the outside: a proxy, and TLS by an authority of its own. Both on loopback.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

/// A connection that nobody uses for so long is given up.
const IDLE: Duration = Duration::from_secs(20);

/// An authority that no system knows, in a PEM file.
pub(crate) fn authority() -> PathBuf {
    data("company-ca.pem")
}

fn data(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/tls")).join(name)
}

/// Accepts connections, each on a thread, until it is dropped.
struct Listening {
    address: SocketAddr,
    ended: Arc<Mutex<bool>>,
    accepting: Option<JoinHandle<()>>,
}

impl Listening {
    fn start(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Listening {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let address = listener.local_addr().expect("bound");
        let ended = Arc::new(Mutex::new(false));
        let (over, serve) = (Arc::clone(&ended), Arc::new(serve));
        let accepting = std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if *over.lock().expect("no panic") {
                    return;
                }
                stream.set_read_timeout(Some(IDLE)).expect("a socket");
                let serve = Arc::clone(&serve);
                std::thread::spawn(move || serve(stream));
            }
        });
        Listening { address, ended, accepting: Some(accepting) }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        *self.ended.lock().expect("no panic") = true;
        // Wakes the accepting thread, which then sees that it has ended.
        let _ = TcpStream::connect(self.address);
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}

/// A proxy that knows the names of a company's own network, and remembers what was asked for.
pub(crate) struct Proxy {
    listening: Listening,
    session: Option<TlsFront>,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// Brings a request for one of these hosts to its address; another's connection ends without an answer.
    pub(crate) fn to(hosts: &[(&'static str, SocketAddr)]) -> Proxy {
        let heads = Arc::new(Mutex::new(Vec::new()));
        let (remembered, hosts) = (Arc::clone(&heads), hosts.to_vec());
        let listening = Listening::start(move |stream| {
            // A client that goes away in the middle is no fault of the test's.
            let _ = pass(stream, &hosts, &remembered);
        });
        Proxy { listening, session: None, heads }
    }

    /// The same, spoken to by TLS, with a certificate of [`authority`].
    pub(crate) fn by_tls(hosts: &[(&'static str, SocketAddr)]) -> Proxy {
        let plain = Proxy::to(hosts);
        Proxy { session: Some(TlsFront::before(plain.listening.address)), ..plain }
    }

    /// Where it is, with this in front of the address: nothing, or `user:password@`.
    pub(crate) fn url_as(&self, user: &str) -> String {
        match &self.session {
            Some(front) => format!("https://{user}{}", front.address),
            None => format!("http://{user}{}", self.listening.address),
        }
    }

    pub(crate) fn url(&self) -> String {
        self.url_as("")
    }

    /// Whole heads, as they came.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().expect("no panic").clone()
    }

    /// First lines, as they came: `CONNECT npm.acme.test:80`, `GET http://npm.acme.test/tiny`.
    pub(crate) fn asked(&self) -> Vec<String> {
        let request = |head: &String| Some(head.lines().next()?.rsplit_once(' ')?.0.to_owned());
        self.heads().iter().filter_map(request).collect()
    }
}

/// One request by its absolute form, or the tunnel of a CONNECT (RFC 9110, 9.3.6; RFC 9112, 3.2.2).
fn pass(mut stream: TcpStream, hosts: &[(&str, SocketAddr)], heads: &Mutex<Vec<String>>) -> std::io::Result<()> {
    let head = read_head(&mut stream)?;
    let Some((request, _)) = head.lines().next().and_then(|line| line.rsplit_once(' ')) else { return Ok(()) };
    heads.lock().expect("no panic").push(head.clone());
    let Some(&(_, to)) = hosts.iter().find(|(host, _)| request.contains(host)) else { return Ok(()) };
    if !request.starts_with("CONNECT ") {
        let (method, address) = request.split_once(' ').unwrap_or_default();
        let path = address.split_once("://").and_then(|(_, rest)| rest.find('/').map(|at| &rest[at..])).unwrap_or("/");
        forward(&mut stream, &head.replacen(request, &format!("{method} {path}"), 1), to)?;
        return stream.shutdown(Shutdown::Both);
    }
    let onward = TcpStream::connect(to)?;
    onward.set_read_timeout(Some(IDLE))?;
    stream.write_all(b"HTTP/1.1 200 Connected\r\n\r\n")?;
    let (mut client, mut forth, mut back) = (stream.try_clone()?, onward.try_clone()?, onward);
    let upward = std::thread::spawn(move || {
        let _ = std::io::copy(&mut client, &mut forth);
        let _ = forth.shutdown(Shutdown::Write);
    });
    let copied = std::io::copy(&mut back, &mut stream).map(|_| ());
    let _ = stream.shutdown(Shutdown::Both);
    let _ = upward.join();
    copied
}

/// The head of a request with the empty line after it.
fn read_head(stream: &mut impl Read) -> std::io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// Passes one request on, and its answer back, after which its connection is to end.
fn forward(stream: &mut (impl Read + Write), head: &str, to: SocketAddr) -> std::io::Result<()> {
    let length =
        head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body)?;
    let keeps = |line: &&str| !line.is_empty() && !line.to_ascii_lowercase().starts_with("connection:");
    let kept: String = head.lines().filter(keeps).map(|line| format!("{line}\r\n")).collect();
    let mut onward = TcpStream::connect(to)?;
    write!(onward, "{kept}Connection: close\r\n\r\n")?;
    onward.write_all(&body)?;
    std::io::copy(&mut onward, stream).map(|_| ())
}

/// A door that speaks TLS with a certificate of [`authority`] and passes each request on to a plain server.
pub(crate) struct TlsDoor {
    listening: Listening,
}

impl TlsDoor {
    pub(crate) fn before(plain: SocketAddr) -> TlsDoor {
        let config = certified();
        let listening = Listening::start(move |stream| {
            let session = ServerConnection::new(Arc::clone(&config)).expect("a session");
            // Who does not trust the certificate hangs up.
            let _ = one_request(StreamOwned::new(session, stream), plain);
        });
        TlsDoor { listening }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.listening.address
    }

    /// `https://127.0.0.1:PORT/`.
    pub(crate) fn url(&self) -> String {
        format!("https://{}/", self.listening.address)
    }
}

/// With the certificate that the company's authority signed.
fn certified() -> Arc<ServerConfig> {
    let chain = vec![CertificateDer::from_pem_file(data("company.pem")).expect("a certificate")];
    let key = PrivateKeyDer::from_pem_file(data("company.key")).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|config| config.with_no_client_auth().with_single_cert(chain, key));
    Arc::new(config.expect("a certificate and its key"))
}

/// Speaks TLS and passes all that comes on to a plain server, until it is dropped.
struct TlsFront {
    address: SocketAddr,
    runtime: Option<Runtime>,
}

impl TlsFront {
    fn before(plain: SocketAddr) -> TlsFront {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).expect("loopback");
        let address = listener.local_addr().expect("bound");
        let acceptor = TlsAcceptor::from(certified());
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    // Who does not trust the certificate hangs up.
                    let mut session = acceptor.accept(stream).await?;
                    let mut onward = tokio::net::TcpStream::connect(plain).await?;
                    tokio::io::copy_bidirectional(&mut session, &mut onward).await
                });
            }
        });
        TlsFront { address, runtime: Some(runtime) }
    }
}

impl Drop for TlsFront {
    fn drop(&mut self) {
        self.runtime.take().into_iter().for_each(Runtime::shutdown_background);
    }
}

fn one_request(mut stream: StreamOwned<ServerConnection, TcpStream>, plain: SocketAddr) -> std::io::Result<()> {
    let head = read_head(&mut stream)?;
    forward(&mut stream, &head, plain)?;
    stream.conn.send_close_notify();
    stream.flush()
}

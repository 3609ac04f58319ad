//! Accepts connections and serves a router on them, with the deadlines and bounds that a door on the
//! internet needs (axum's own `serve` has none of them).

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::config::server::Listen;

/// From the first moment of a connection, or the end of the answer before, to the end of a request's header.
const HEADER: Duration = Duration::from_secs(10);
/// Bytes of one request's header; more is answered 431.
const HEADER_BYTES: usize = 16 * 1024;
/// Connections at once. Further ones wait in the kernel's queue until one ends.
const CONNECTIONS: usize = 1024;
/// Of these, connections from one address (one /64 of IPv6), so that a single peer can't take them all.
/// Loopback and Unix sockets are free of it: behind a reverse proxy everybody comes from there.
const PER_PEER: usize = 256;
/// How long requests that are being answered may go on after a stop.
const FINISH: Duration = Duration::from_secs(10);
/// After an accept that failed for want of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const TOO_LATE: &[u8] = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// A socket that listens.
#[derive(Debug)]
pub enum Listener {
    /// On a TCP address.
    Tcp(TcpListener),
    /// On a path.
    Unix(UnixListener),
}

/// Who is at the other end of a request's connection; an extension of every request.
///
/// For logs and counting only. Behind a reverse proxy it is the proxy, so no right may depend on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// A TCP peer.
    Tcp(SocketAddr),
    /// A process of this machine, over the Unix socket.
    Unix,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Tcp(address) => address.ip().to_canonical().fmt(f),
            Peer::Unix => f.write_str("unix socket"),
        }
    }
}

impl Peer {
    /// True for what can be a reverse proxy on this machine.
    pub fn is_this_machine(self) -> bool {
        match self {
            Peer::Tcp(address) => address.ip().to_canonical().is_loopback(),
            Peer::Unix => true,
        }
    }

    /// The address whose connections are counted together.
    fn counted_as(self) -> Option<IpAddr> {
        match self {
            _ if self.is_this_machine() => None,
            Peer::Unix => None,
            Peer::Tcp(address) => Some(match address.ip().to_canonical() {
                IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)).into(),
                address => address,
            }),
        }
    }
}

impl Listener {
    /// Listens where the configuration says. A Unix socket that nobody listens on any more is replaced.
    pub async fn bind(listen: &Listen) -> io::Result<Self> {
        match listen {
            Listen::Tcp(address) => TcpListener::bind(address).await.map(Listener::Tcp),
            Listen::Unix(path) => {
                let left = UnixStream::connect(path).await.is_err_and(|e| e.kind() == io::ErrorKind::ConnectionRefused);
                if left {
                    std::fs::remove_file(path)?;
                }
                UnixListener::bind(path).map(Listener::Unix)
            }
        }
    }

    /// The TCP address, which tells the port where the configuration left it open.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        match self {
            Listener::Tcp(listener) => listener.local_addr().ok(),
            Listener::Unix(_) => None,
        }
    }

    async fn accept(&self) -> io::Result<(Box<dyn Stream>, Peer)> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                // Answers are small and complete; without it the last part of one waits for an acknowledgement.
                stream.set_nodelay(true)?;
                Ok((Box::new(stream), Peer::Tcp(address)))
            }
            Listener::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok((Box::new(stream), Peer::Unix))
            }
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// Serves the router until `stop`; then accepts nothing more, lets answers that are under way go on for
/// ten seconds, and cuts what is left.
///
/// Connections that fail are theirs to notice. An accept that fails is tried again: nothing short of the
/// stop ends the door.
pub async fn serve(listener: Listener, router: Router, stop: CancellationToken) -> io::Result<()> {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let crowd = Crowd::default();
    let (tasks, cut) = (TaskTracker::new(), CancellationToken::new());
    while let Some(accepted) = stop.run_until_cancelled(next(&listener, &room)).await {
        let (stream, peer, place) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let Some(seat) = crowd.enter(peer) else {
            tracing::warn!(%peer, "connection closed: {PER_PEER} are open from this address");
            continue;
        };
        let talk = talk(stream, peer, router.clone(), stop.clone());
        let cut = cut.clone();
        tasks.spawn(async move {
            cut.run_until_cancelled(talk).await;
            drop((seat, place));
        });
    }
    drop(listener);
    tasks.close();
    if timeout(FINISH, tasks.wait()).await.is_err() {
        cut.cancel();
        tasks.wait().await;
    }
    Ok(())
}

/// The next connection, as soon as there is room for it.
async fn next(
    listener: &Listener,
    room: &Arc<Semaphore>,
) -> io::Result<(Box<dyn Stream>, Peer, tokio::sync::OwnedSemaphorePermit)> {
    let place = room.clone().acquire_owned().await.expect("the semaphore is never closed");
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, place))
}

/// One connection, from its first request to its last.
async fn talk(mut stream: Box<dyn Stream>, peer: Peer, router: Router, stop: CancellationToken) {
    let service = service_fn(|mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer);
        router.clone().oneshot(request.map(Body::new))
    });
    let ended = {
        let mut connection = pin!(http().serve_connection(TokioIo::new(&mut stream), service));
        match stop.run_until_cancelled(connection.as_mut()).await {
            Some(ended) => ended,
            None => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    };
    // hyper only closes when the header is late; the contract promises a word.
    if ended.is_err_and(|error| error.is_timeout()) {
        let farewell = async {
            stream.write_all(TOO_LATE).await?;
            stream.shutdown().await
        };
        timeout(Duration::from_secs(1), farewell).await.ok();
    }
}

fn http() -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEADER).max_header_size(HEADER_BYTES);
    http
}

/// How many connections each peer has.
#[derive(Debug, Clone, Default)]
struct Crowd(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// A peer's one connection; leaves the crowd when dropped.
struct Seat {
    crowd: Crowd,
    address: Option<IpAddr>,
}

impl Crowd {
    /// A seat, unless this peer has all of its own.
    fn enter(&self, peer: Peer) -> Option<Seat> {
        let address = peer.counted_as();
        if let Some(address) = address {
            let mut crowd = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let seats = crowd.entry(address).or_default();
            if *seats == PER_PEER {
                return None;
            }
            *seats += 1;
        }
        Some(Seat { crowd: self.clone(), address })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let Some(address) = self.address else { return };
        let mut crowd = self.crowd.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(seats) = crowd.get_mut(&address) {
            *seats -= 1;
            if *seats == 0 {
                crowd.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(address: &str) -> Peer {
        Peer::Tcp(SocketAddr::new(address.parse().expect("an address"), 4000))
    }

    #[test]
    fn one_peer_has_its_share_and_gives_it_back() {
        let crowd = Crowd::default();
        let seats: Vec<_> = (0..PER_PEER).map(|_| crowd.enter(peer("203.0.113.7")).expect("its share")).collect();
        assert!(crowd.enter(peer("203.0.113.7")).is_none());
        assert!(crowd.enter(peer("::ffff:203.0.113.7")).is_none(), "the same address in another form");
        assert!(crowd.enter(peer("203.0.113.8")).is_some());
        drop(seats);
        assert!(crowd.enter(peer("203.0.113.7")).is_some());
        assert!(crowd.0.lock().expect("unpoisoned").is_empty(), "nobody is remembered");
    }

    #[test]
    fn loopback_is_not_counted_and_a_network_of_ipv6_is_one_peer() {
        let check = |address: &str, expected: Option<&str>| {
            let expected = expected.map(|text| text.parse().expect("an address"));
            assert_eq!(peer(address).counted_as(), expected, "{address}");
        };
        check("127.0.0.1", None);
        check("::1", None);
        check("::ffff:127.0.0.1", None);
        check("2001:db8:1:2:aaaa::1", Some("2001:db8:1:2::"));
        check("2001:db8:1:2:bbbb::9", Some("2001:db8:1:2::"));
        assert_eq!(Peer::Unix.counted_as(), None);
    }

    #[tokio::test]
    async fn a_socket_left_by_a_dead_process_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let listen = Listen::Unix(dir.path().join("door.sock"));
        let first = Listener::bind(&listen).await.expect("free");
        assert!(Listener::bind(&listen).await.is_err(), "somebody listens");
        drop(first);
        Listener::bind(&listen).await.expect("the file is left, the listener is not");
    }

    #[tokio::test]
    async fn a_stop_lets_an_answer_finish_and_lets_nobody_in() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("door.sock");
        let (asked, go_on) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        let steps = (asked.clone(), go_on.clone());
        let slow = async move |peer: axum::Extension<Peer>| {
            steps.0.add_permits(1);
            steps.1.acquire().await.expect("open").forget();
            peer.to_string()
        };
        let router = Router::new().route("/", axum::routing::get(slow));
        let listener = Listener::bind(&Listen::Unix(path.clone())).await.expect("free");
        let stop = CancellationToken::new();
        let served = tokio::spawn(serve(listener, router, stop.clone()));

        let idle = UnixStream::connect(&path).await.expect("it listens");
        let mut stream = UnixStream::connect(&path).await.expect("it listens");
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("taken");
        asked.acquire().await.expect("open").forget();
        stop.cancel();
        while UnixStream::connect(&path).await.is_ok() {
            tokio::task::yield_now().await;
        }
        go_on.add_permits(1);
        let mut answer = String::new();
        tokio::io::AsyncReadExt::read_to_string(&mut stream, &mut answer).await.expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200 OK") && answer.ends_with("unix socket"), "{answer}");
        served.await.expect("no panic").expect("ends well");
        drop(idle);
    }
}

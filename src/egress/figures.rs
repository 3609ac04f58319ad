//! What one request a connection costs, which is how the gate passes plain http on: `cargo test --release --lib egress::figures
//! -- --ignored --nocapture`.
//!
//! A debug build on two busy cores: 0.15 ms a request on kept connections, 0.65 ms on a new one each, 2.0 ms through the gate. An
//! install of 300 packages asks 600 times and so loses about a second of computing to a plain registry, and nothing to
//! one of https, which it has a tunnel to. A door of this machine's loopback passes connections on as they are.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::{Gate, Rules};
use crate::config::server::Network;

/// As many sockets as npm opens to one registry.
const SOCKETS: usize = 15;
const REQUESTS: usize = 3000;
const BODY: usize = 20_000;

/// Answers any number of requests a connection, until it is asked to close.
async fn registry() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let answer =
                    [format!("HTTP/1.1 200 OK\r\nContent-Length: {BODY}\r\n\r\n").as_bytes(), &[b'x'; BODY]].concat();
                let mut head = Vec::new();
                while stream.read_buf(&mut head).await.is_ok_and(|length| length > 0) {
                    if head.ends_with(b"\r\n\r\n") {
                        stream.write_all(&answer).await.expect("sent");
                        if String::from_utf8_lossy(&head).contains("Connection: close") {
                            return;
                        }
                        head.clear();
                    }
                }
            });
        }
    });
    address
}

/// Asks for one thing over a connection; `None` when the other side has ended it.
async fn ask(stream: &mut TcpStream, far: SocketAddr) -> Option<()> {
    stream.write_all(format!("GET http://{far}/a HTTP/1.1\r\nHost: {far}\r\n\r\n").as_bytes()).await.ok()?;
    let mut answer = Vec::with_capacity(2 * BODY);
    while answer.len() < BODY + 40 {
        if stream.read_buf(&mut answer).await.ok()? == 0 {
            return None;
        }
    }
    Some(())
}

/// All requests, by so many sockets at once, each kept as long as it can be.
async fn all(near: SocketAddr, far: SocketAddr, keeps: bool) -> Duration {
    let began = Instant::now();
    let workers = (0..SOCKETS).map(|_| {
        tokio::spawn(async move {
            let mut kept: Option<TcpStream> = None;
            for _ in 0..REQUESTS / SOCKETS {
                let mut stream = match kept.take().filter(|_| keeps) {
                    Some(stream) => stream,
                    None => TcpStream::connect(near).await.expect("it listens"),
                };
                ask(&mut stream, far).await.expect("answered");
                kept = Some(stream);
            }
        })
    });
    for worker in workers.collect::<Vec<_>>() {
        worker.await.expect("done");
    }
    began.elapsed()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a benchmark"]
async fn one_request_a_connection_against_many() {
    let far = registry().await;
    let door = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = door.local_addr().expect("bound");
    let rules = Rules::new([far.to_string().as_str()]);
    let _gate = Gate::open(vec![door], rules, Arc::new(Network::default())).expect("opened");
    for _ in 0..3 {
        let kept = all(far, far, true).await;
        let anew = all(far, far, false).await;
        let gated = all(address, far, false).await;
        let each = |time: Duration| time.as_secs_f64() * 1e6 / REQUESTS as f64;
        println!(
            "a request in µs: {:.0} on kept connections, {:.0} on a new one each, {:.0} through the gate",
            each(kept),
            each(anew),
            each(gated)
        );
    }
}

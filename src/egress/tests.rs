use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use super::{Gate, Rules};
use crate::config::server::Network;

/// A server that answers every connection's first request with `said` and ends it.
fn server(said: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut head = [0; 4096];
            let length = stream.read(&mut head).expect("a request");
            let first = String::from_utf8_lossy(&head[..length]).lines().next().unwrap_or_default().to_owned();
            let _ = write!(stream, "{said} to {first}");
        }
    });
    address
}

fn gate(hosts: &[&str], network: Network) -> (Gate, SocketAddr) {
    let door = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = door.local_addr().expect("bound");
    (Gate::open(door, Rules::new(hosts.iter().copied()), Arc::new(network)).expect("opened"), address)
}

/// What comes back for a request, all of it.
async fn ask(door: SocketAddr, request: String) -> String {
    let asked = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(door).expect("the gate listens");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("ended");
        answer
    });
    asked.await.expect("asked")
}

#[tokio::test]
async fn what_is_written_down_is_reached_and_counted() {
    let far = server("hello");
    let (gate, door) = gate(&[&far.to_string()], Network::default());
    let plain = ask(door, format!("GET http://{far}/font.woff2 HTTP/1.1\r\nHost: {far}\r\n\r\n")).await;
    assert_eq!(plain, "hello to GET /font.woff2 HTTP/1.1");
    let tunnel = ask(door, format!("CONNECT {far} HTTP/1.1\r\n\r\nping\r\n")).await;
    assert_eq!(tunnel, "HTTP/1.1 200 Connection established\r\n\r\nhello to ping");
    let traffic = gate.traffic();
    assert!(traffic.passed[&far.to_string()] > 0 && traffic.refused.is_empty(), "{traffic:?}");
}

#[tokio::test]
async fn the_rest_is_refused_by_name() {
    let far = server("never");
    // An address behind a name that is allowed is looked at: localhost is this machine.
    let by_name = format!("localhost:{}", far.port());
    let (gate, door) = gate(&[&by_name, "10.0.0.1:80"], Network::default());
    for host in [far.to_string(), by_name, "registry.example:443".to_owned()] {
        let answer = ask(door, format!("CONNECT {host} HTTP/1.1\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
        assert!(answer.contains(&format!("{host} is closed to this step; allow it:")), "{answer}");
        assert_eq!(gate.traffic().refused[&host], 1);
    }
    assert!(gate.traffic().passed.is_empty());
}

#[tokio::test]
async fn the_companys_proxy_is_gone_through() {
    // It answers as a proxy that opened the tunnel and speaks for the far side.
    let proxy = server("HTTP/1.1 200 OK\r\n\r\nthe proxy");
    let network = Network { proxy: Some(format!("http://{proxy}")), ..Network::default() };
    let (_gate, door) = gate(&["fonts.example:443"], network);
    let answer = ask(door, "CONNECT fonts.example:443 HTTP/1.1\r\n\r\n".to_owned()).await;
    assert_eq!(answer, "HTTP/1.1 200 Connection established\r\n\r\nthe proxy to CONNECT fonts.example:443 HTTP/1.1");
}

#[tokio::test]
async fn a_closed_gate_ends_its_connections() {
    let (gate, door) = gate(&[], Network::default());
    let mut stream = TcpStream::connect(door).expect("the gate listens");
    stream.write_all(b"CONNECT ").expect("sent");
    drop(gate);
    let waiting = tokio::task::spawn_blocking(move || stream.read(&mut [0; 16]));
    // Reset or ended, by whether it was accepted already; never left waiting.
    assert!(matches!(waiting.await.expect("waited"), Ok(0) | Err(_)));
}

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use super::{Closed, Gate, Rules, Visit};
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
    gate_of(Rules::new(hosts.iter().copied()), network)
}

fn gate_of(rules: Rules, network: Network) -> (Gate, SocketAddr) {
    let door = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = door.local_addr().expect("bound");
    (Gate::open(vec![door], rules, Arc::new(network)).expect("opened"), address)
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
    let visits = gate.visits();
    assert!(visits.len() == 1 && visits[0].host == far.to_string() && visits[0].closed.is_none(), "{visits:?}");
    assert!(visits[0].bytes > 100, "{visits:?}");
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
        assert!(answer.contains(&format!("{host} is closed to this step")), "{answer}");
        let visits = gate.visits();
        let visit = visits.iter().find(|visit| visit.host == host).expect("it is told");
        let private = visit.host.starts_with("localhost");
        assert_eq!(
            matches!(visit.closed, Some(Closed::Private(address)) if address.is_loopback()),
            private,
            "{visit:?}"
        );
        assert_eq!(visit.bytes, 0);
    }
}

#[tokio::test]
async fn the_companys_proxy_is_gone_through() {
    // It answers as a proxy that opened the tunnel and speaks for the far side.
    let proxy = server("HTTP/1.1 200 OK\r\n\r\nthe proxy");
    let network = Network { proxy: Some(format!("http://{proxy}")), ..Network::default() };
    let (_gate, door) = gate(&["fonts.example:443"], network);
    let answer = ask(door, "CONNECT fonts.example:443 HTTP/1.1\r\n\r\n".to_owned()).await;
    assert_eq!(answer, "HTTP/1.1 200 Connection established\r\n\r\nthe proxy to CONNECT fonts.example:443 HTTP/1.1");
    let request = "GET http://fonts.example:443/a HTTP/1.1\r\n\r\n".to_owned();
    let answer = ask(door, request).await;
    assert!(answer.ends_with("the proxy to GET http://fonts.example:443/a HTTP/1.1"), "{answer}");
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

#[tokio::test]
async fn the_operators_registry_may_be_at_a_private_address_behind_a_name() {
    let far = server("hello");
    let mut rules = Rules::default();
    rules.open_inside(&format!("http://localhost:{}/npm/", far.port()).parse().expect("an address"));
    let (_gate, door) = gate_of(rules, Network::default());
    let answer = ask(door, format!("GET http://localhost:{}/a HTTP/1.1\r\n\r\n", far.port())).await;
    assert_eq!(answer, "hello to GET /a HTTP/1.1");
}

#[tokio::test]
async fn what_is_open_and_away_is_told() {
    let far = "127.0.0.1:1";
    let (gate, door) = gate(&[far], Network::default());
    let answer = ask(door, format!("CONNECT {far} HTTP/1.1\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
    assert!(gate.visits()[0].away.as_deref() == Some("ECONNREFUSED"), "{:?}", gate.visits());
}

#[tokio::test]
async fn where_it_is_only_reported_it_goes_through_and_is_told() {
    let far = server("hello");
    let (gate, door) = gate_of(Rules::default().reporting(), Network::default());
    let answer = ask(door, format!("GET http://{far}/a HTTP/1.1\r\n\r\n")).await;
    assert_eq!(answer, "hello to GET /a HTTP/1.1");
    let visits = gate.visits();
    assert!(matches!(&visits[..], [Visit { bytes: 1.., closed: Some(Closed::Unlisted), .. }]), "{visits:?}");
    let answer = ask(door, "CONNECT 169.254.169.254:80 HTTP/1.1\r\n\r\n".to_owned()).await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "not even then: {answer}");
}

#[tokio::test]
async fn the_hosts_that_a_registry_of_names_answers_with_are_open_from_then_on() {
    let far = server("hello");
    let names = TcpListener::bind("127.0.0.1:0").expect("a port");
    let registry = format!("http://{}", names.local_addr().expect("bound"));
    thread::spawn(move || {
        let (mut stream, _) = names.accept().expect("a question");
        let length = stream.read(&mut [0; 4096]).expect("a request");
        let body = format!("{{\"name\":\"one\",\"url\":\"http://{far}/one.git\"}}");
        let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        assert!(length > 0);
    });
    let url: url::Url = registry.parse().expect("an address");
    let mut rules = Rules::default();
    rules.open_inside(&url);
    rules.names(url);
    let (_gate, door) = gate_of(rules, Network::default());
    let git = || ask(door, format!("GET http://{far}/one.git HTTP/1.1\r\n\r\n"));
    assert!(git().await.starts_with("HTTP/1.1 403 "), "not yet");
    let path = registry.replace("http:/", "");
    let answer = ask(door, format!("GET {path}/packages/one HTTP/1.1\r\n\r\n")).await;
    assert!(answer.contains("one.git"), "{answer}");
    assert!(ask(door, "GET /elsewhere HTTP/1.1\r\n\r\n".to_owned()).await.starts_with("HTTP/1.1 404 "));
    assert_eq!(git().await, "hello to GET /one.git HTTP/1.1");
}

#[tokio::test]
async fn a_place_of_this_machines_loopback_has_a_door_of_its_own() {
    let far = server("hello");
    // In a step's network it would be at the place itself.
    let proxy = TcpListener::bind("127.0.0.1:0").expect("a port");
    let rules = Rules::new([far.to_string().as_str()]);
    assert_eq!(rules.doors(), [(far, "127.0.0.1")]);
    let closed = TcpListener::bind("127.0.0.1:0").expect("a port");
    let (at_proxy, elsewhere) = (proxy.local_addr().expect("bound"), closed.local_addr().expect("bound"));
    let gate = Gate::open(vec![proxy, closed], rules, Arc::new(Network::default())).expect("opened");
    let answer = ask(at_proxy, format!("CONNECT {far} HTTP/1.1\r\n\r\nping\r\n")).await;
    assert!(answer.ends_with("hello to ping"), "{answer}");
    // A socket that stands for nothing that is open is a proxy like the first.
    let answer = ask(elsewhere, "CONNECT 10.0.0.1:80 HTTP/1.1\r\n\r\n".to_owned()).await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert_eq!(gate.visits().len(), 2);
}

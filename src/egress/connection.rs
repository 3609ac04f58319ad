//! One connection of a step, from its request to its end.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use base64::Engine as _;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, copy_bidirectional};
use tokio::net::TcpStream;
use tokio::time::timeout;
use url::Url;

use super::Post;
use super::address::is_public;
use super::request::{self, Asked};
use super::rules::Opened;
use crate::outside;

/// For a request's head, for a name's addresses and for each address to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a request goes nowhere; the first word of the answer to the step.
enum Refused {
    /// 403: not on the list, or a private address behind a name.
    Closed,
    /// 502: on the list, and not to be had.
    Unreachable(io::Error),
}

pub(super) async fn serve(mut stream: TcpStream, post: &Post) -> io::Result<()> {
    let asked = timeout(PATIENCE, request::read(&mut stream)).await??;
    let name = asked.name();
    match reach(&asked, post).await {
        Ok(mut far) => {
            if asked.tunnel {
                stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
            }
            far.write_all(&asked.first).await?;
            let copied = copy_bidirectional(&mut stream, &mut far).await;
            let bytes = copied.as_ref().map_or(0, |(up, down)| up + down) + asked.first.len() as u64;
            post.note(|traffic| *traffic.passed.entry(name).or_default() += bytes);
            copied.map(|_| ())
        }
        Err(Refused::Closed) => {
            let body = format!("{name} is closed to this step; allow it: its network in .hookmill.toml\n");
            post.note(|traffic| *traffic.refused.entry(name).or_default() += 1);
            answer(&mut stream, "403 Forbidden", &body).await
        }
        Err(Refused::Unreachable(error)) => {
            answer(&mut stream, "502 Bad Gateway", &format!("{name} can't be reached: {error}\n")).await
        }
    }
}

async fn answer(stream: &mut TcpStream, status: &str, body: &str) -> io::Result<()> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await?;
    stream.shutdown().await
}

async fn reach(asked: &Asked, post: &Post) -> Result<TcpStream, Refused> {
    let opened = post.rules.opened(&asked.host, asked.port).ok_or(Refused::Closed)?;
    match outside::proxy_for(&post.network, &asked.host) {
        Some(proxy) => through(proxy, asked).await.map_err(Refused::Unreachable),
        None => directly(asked, opened).await,
    }
}

/// Connects to one of the addresses that were looked at: a second look-up could answer something else.
async fn directly(asked: &Asked, opened: Opened) -> Result<TcpStream, Refused> {
    let addresses: Vec<SocketAddr> = match asked.host.parse::<IpAddr>() {
        Ok(address) => vec![(address, asked.port).into()],
        Err(_) => timeout(PATIENCE, tokio::net::lookup_host((asked.host.as_str(), asked.port)))
            .await
            .map_err(|late| Refused::Unreachable(late.into()))?
            .map_err(Refused::Unreachable)?
            .collect(),
    };
    let open = |address: &&SocketAddr| opened == Opened::ByAddress || is_public(address.ip());
    if !addresses.is_empty() && !addresses.iter().any(|address| open(&address)) {
        return Err(Refused::Closed);
    }
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in addresses.iter().filter(open) {
        match timeout(PATIENCE, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(error)) => last = error,
            Err(late) => last = late.into(),
        }
    }
    Err(Refused::Unreachable(last))
}

/// A tunnel through the company's own proxy, which resolves the name itself.
async fn through(proxy: &str, asked: &Asked) -> io::Result<TcpStream> {
    let broken = |why: String| io::Error::new(io::ErrorKind::ConnectionRefused, why);
    let proxy = Url::parse(proxy).ok().filter(|proxy| proxy.scheme() == "http");
    let proxy = proxy.ok_or_else(|| broken("network.proxy is not an http one, and steps need one".to_owned()))?;
    let host = proxy.host_str().unwrap_or_default();
    let port = proxy.port_or_known_default().unwrap_or(80);
    let mut stream = timeout(PATIENCE, TcpStream::connect((host, port))).await??;
    let name = asked.name();
    let mut head = format!("CONNECT {name} HTTP/1.1\r\nHost: {name}\r\n");
    if !proxy.username().is_empty() {
        let decode = |text: &str| percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned();
        let pair = format!("{}:{}", decode(proxy.username()), decode(proxy.password().unwrap_or_default()));
        let credentials = base64::engine::general_purpose::STANDARD.encode(pair);
        head.push_str(&format!("Proxy-Authorization: Basic {credentials}\r\n"));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).await?;
    let status = timeout(PATIENCE, tunnel_status(&mut stream)).await??;
    if (200..300).contains(&status) { Ok(stream) } else { Err(broken(format!("network.proxy answered {status}"))) }
}

/// Reads the head of the proxy's answer, byte by byte from a buffer of one, so that nothing behind it is taken.
async fn tunnel_status(stream: &mut TcpStream) -> io::Result<u16> {
    let mut head = Vec::new();
    let mut reader = BufReader::with_capacity(1, stream.take(16 * 1024));
    while !head.ends_with(b"\r\n\r\n") {
        if reader.read_until(b'\n', &mut head).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    let status = head.split(|byte| *byte == b' ').nth(1).and_then(|word| std::str::from_utf8(word).ok()?.parse().ok());
    status.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "network.proxy does not speak HTTP"))
}

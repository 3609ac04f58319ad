//! One connection of a step, from its request to its end.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::Post;
use super::ledger::Closed;
use super::names::{self, Question};
use super::proxy::{Proxy, Stream};
use super::request::{self, Asked, Request};
use super::rules::Opened;
use crate::outside;

/// For a request's head, for a name's addresses and for each address to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// What is read at once of either side.
const PIECE: usize = 32 * 1024;

/// Why a request goes nowhere; the first word of the answer to the step.
enum Refused {
    /// 403: not on the list, or a private address behind a name.
    Closed(Closed),
    /// 502: on the list, and not to be had.
    Unreachable(io::Error),
}

/// The far side of a connection.
struct Far {
    stream: Box<dyn Stream>,
    /// What it hears first.
    first: Vec<u8>,
}

/// A connection to the proxy's own address.
pub(super) async fn serve(mut near: TcpStream, post: &Post) -> io::Result<()> {
    near.set_nodelay(true)?;
    let asked = match timeout(PATIENCE, request::read(&mut near)).await?? {
        Request::Pass(asked) => asked,
        Request::Own(path) => return look_up(&mut near, &path, post).await,
    };
    let name = asked.name();
    match reach(&asked, post).await {
        Ok(far) => {
            if asked.plain.is_none() {
                near.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await?;
            }
            carry(near, far, &post.ledger.bytes(&name)).await
        }
        Err(Refused::Closed(why)) => {
            post.ledger.closed(&name, why);
            let why = match why {
                Closed::Unlisted => String::new(),
                Closed::Private(address) => format!(" (it leads to {address})"),
            };
            answer(&mut near, "403 Forbidden", &format!("{name} is closed to this step{why}\n")).await
        }
        Err(Refused::Unreachable(error)) => {
            post.ledger.away(&name, &error);
            answer(&mut near, "502 Bad Gateway", &format!("{name} can't be reached: {error}\n")).await
        }
    }
}

/// A connection to an address that stands for one host: there is nothing to ask, and nobody to answer but that host.
pub(super) async fn pass(near: TcpStream, host: &str, port: u16, post: &Post) -> io::Result<()> {
    near.set_nodelay(true)?;
    let asked = Asked { host: host.to_owned(), port, plain: None, rest: Vec::new() };
    let name = asked.name();
    match reach(&asked, post).await {
        Ok(far) => carry(near, far, &post.ledger.bytes(&name)).await,
        Err(Refused::Closed(why)) => {
            post.ledger.closed(&name, why);
            Ok(())
        }
        Err(Refused::Unreachable(error)) => {
            post.ledger.away(&name, &error);
            Ok(())
        }
    }
}

async fn answer(near: &mut TcpStream, status: &str, body: &str) -> io::Result<()> {
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    near.write_all(head.as_bytes()).await?;
    near.write_all(body.as_bytes()).await?;
    near.shutdown().await
}

/// Asks a registry for a name, remembers which host it answered with, and hands the answer on.
async fn look_up(near: &mut TcpStream, path: &str, post: &Post) -> io::Result<()> {
    let Some(question) = Question::of(&post.rules, path) else {
        return answer(near, "404 Not Found", "this is a proxy\n").await;
    };
    match names::ask(&question, &post.network).await {
        Ok(found) => {
            post.answered.learn(&found);
            let bytes = (path.len() + found.body.len()) as u64;
            post.ledger.bytes(&question.host()).fetch_add(bytes, Ordering::Relaxed);
            let head = format!(
                "HTTP/1.1 {} Answered\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                found.status,
                found.body.len()
            );
            near.write_all(&[head.as_bytes(), found.body.as_bytes()].concat()).await?;
            near.shutdown().await
        }
        Err(error) => {
            post.ledger.away(&question.host(), &error);
            answer(near, "502 Bad Gateway", &format!("{} can't be reached: {error}\n", question.host())).await
        }
    }
}

/// Passes on what either side says until both have said all of it. An end of one is passed on, too.
async fn carry(mut near: TcpStream, mut far: Far, bytes: &AtomicU64) -> io::Result<()> {
    bytes.fetch_add(far.first.len() as u64, Ordering::Relaxed);
    far.stream.write_all(&far.first).await?;
    far.stream.flush().await?;
    let (from_near, to_near) = near.split();
    let (from_far, to_far) = tokio::io::split(far.stream);
    tokio::try_join!(pass_on(from_near, to_far, bytes), pass_on(from_far, to_near, bytes)).map(|_| ())
}

async fn pass_on(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    bytes: &AtomicU64,
) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        let length = match from.read(&mut piece).await {
            // Many proxies end a TLS session without a word. What is in it has ends of its own, which the step looks at.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => 0,
            read => read?,
        };
        if length == 0 {
            return to.shutdown().await;
        }
        bytes.fetch_add(length as u64, Ordering::Relaxed);
        to.write_all(&piece[..length]).await?;
        to.flush().await?;
    }
}

async fn reach(asked: &Asked, post: &Post) -> Result<Far, Refused> {
    let opened = post.rules.opened(&asked.host, asked.port);
    let opened = match opened.or_else(|| post.answered.opened(&asked.host, asked.port)) {
        Some(opened) => opened,
        None if post.rules.reports() => {
            post.ledger.closed(&asked.name(), Closed::Unlisted);
            reported(asked)?
        }
        None => return Err(Refused::Closed(Closed::Unlisted)),
    };
    match outside::proxy_for(&post.network, &asked.host) {
        Some(address) => {
            let proxy = post.proxy.get_or_init(|| Proxy::of(address, &post.network)).as_ref();
            let proxy = proxy.map_err(|why| Refused::Unreachable(io::Error::other(why.clone())))?;
            let (stream, first) = proxy.reach(asked).await.map_err(Refused::Unreachable)?;
            Ok(Far { stream, first })
        }
        None => directly(asked, opened, post).await,
    }
}

/// How a host is open that is let through only to be told of: also inside the house, but never where a cloud's metadata
/// service is.
fn reported(asked: &Asked) -> Result<Opened, Refused> {
    match asked.host.parse::<IpAddr>() {
        Ok(address) if !Opened::Inside.leads_to(address) => Err(Refused::Closed(Closed::Private(address))),
        _ => Ok(Opened::Inside),
    }
}

/// Connects to one of the addresses that were looked at: a second look-up could answer something else.
async fn directly(asked: &Asked, opened: Opened, post: &Post) -> Result<Far, Refused> {
    let addresses: Vec<SocketAddr> = match asked.host.parse::<IpAddr>() {
        Ok(address) => vec![(address, asked.port).into()],
        Err(_) => timeout(PATIENCE, tokio::net::lookup_host((asked.host.as_str(), asked.port)))
            .await
            .map_err(|late| Refused::Unreachable(late.into()))?
            .map_err(Refused::Unreachable)?
            .collect(),
    };
    let opened = match opened {
        Opened::ByName if post.rules.reports() => {
            if let Some(private) = addresses.iter().find(|address| !opened.leads_to(address.ip())) {
                post.ledger.closed(&asked.name(), Closed::Private(private.ip()));
            }
            Opened::Inside
        }
        opened => opened,
    };
    let open: Vec<&SocketAddr> = addresses.iter().filter(|address| opened.leads_to(address.ip())).collect();
    if let (Some(closed), []) = (addresses.first(), &open[..]) {
        return Err(Refused::Closed(Closed::Private(closed.ip())));
    }
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in open {
        match timeout(PATIENCE, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => {
                stream.set_nodelay(true).map_err(Refused::Unreachable)?;
                return Ok(Far { stream: Box::new(stream), first: asked.first() });
            }
            Ok(Err(error)) => last = error,
            Err(late) => last = late.into(),
        }
    }
    Err(Refused::Unreachable(last))
}

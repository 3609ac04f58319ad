//! What a step asks of its proxy.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};
use url::Url;

use crate::confine::DOOR;

/// A longer head is nobody's request for a package or a font.
const LONGEST_HEAD: usize = 32 * 1024;

/// One request's destination, and what the destination is to hear first.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) host: String,
    pub(super) port: u16,
    /// A request of http; `None` for `CONNECT`: the step speaks with the host itself from here on.
    pub(super) plain: Option<Plain>,
    /// What came after the head.
    pub(super) rest: Vec<u8>,
}

/// What comes to the gate's own address.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// A proxy's work.
    Pass(Asked),
    /// A question to the gate itself: the path of a GET in origin form (RFC 9112, 3.2.1).
    Own(String),
}

/// A request that is passed on as it was asked.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Plain {
    method: String,
    /// Path and query.
    path: String,
    /// Those for the destination, each with its line end.
    headers: Vec<u8>,
}

impl Asked {
    /// As rules and reports write it.
    pub(super) fn name(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// What the destination hears first.
    pub(super) fn first(&self) -> Vec<u8> {
        self.plain
            .as_ref()
            .map_or_else(Vec::new, |plain| plain.head("", ""))
            .into_iter()
            .chain(self.rest.clone())
            .collect()
    }

    /// What another proxy hears first, with a line for it alone.
    pub(super) fn first_for_a_proxy(&self, line: &str) -> Vec<u8> {
        let name = self.name();
        match &self.plain {
            Some(plain) => [plain.head(&format!("http://{name}"), line), self.rest.clone()].concat(),
            None => format!("CONNECT {name} HTTP/1.1\r\nHost: {name}\r\n{line}\r\n").into_bytes(),
        }
    }
}

impl Plain {
    fn head(&self, before_path: &str, line: &str) -> Vec<u8> {
        let mut head = format!("{} {before_path}{} HTTP/1.1\r\n{line}", self.method, self.path).into_bytes();
        head.extend_from_slice(&self.headers);
        // One request a connection: the next one may be for another host, which would have to be looked at.
        head.extend_from_slice(b"Connection: close\r\n\r\n");
        head
    }
}

/// Reads one request's head.
///
/// # Errors
/// `InvalidData` for what is no request to a proxy; `UnexpectedEof` when there was none.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Request> {
    let mut bytes = Vec::with_capacity(4096);
    loop {
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(asked) = parse(&bytes)? {
            return Ok(asked);
        }
        if bytes.len() > LONGEST_HEAD {
            return Err(bad("a request's head of more than 32 KiB"));
        }
    }
}

fn bad(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// `None` while the head is not whole.
pub(super) fn parse(bytes: &[u8]) -> io::Result<Option<Request>> {
    let mut headers = [httparse::EMPTY_HEADER; 100];
    let mut request = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(length) = request.parse(bytes).map_err(|_| bad("not an HTTP request"))? else {
        return Ok(None);
    };
    let (method, target) = (request.method.unwrap_or_default(), request.path.unwrap_or_default());
    let rest = bytes[length..].to_vec();
    if method == "CONNECT" {
        let (host, port) = target.rsplit_once(':').ok_or_else(|| bad("CONNECT without a port"))?;
        let port = port.parse().map_err(|_| bad("CONNECT without a port"))?;
        return Ok(Some(Request::Pass(Asked { host: bare(host)?, port, plain: None, rest })));
    }
    if method == "GET" && target.starts_with('/') {
        return Ok(Some(Request::Own(target.to_owned())));
    }
    let url = Url::parse(target).ok().filter(|url| url.scheme() == "http");
    let url = url.ok_or_else(|| bad("neither CONNECT nor an http address"))?;
    if method == "GET" && url.port() == Some(DOOR.port()) && url.host_str() == Some(&DOOR.ip().to_string()) {
        return Ok(Some(Request::Own(url.path().to_owned())));
    }
    let (host, port) = (url.host_str().ok_or_else(|| bad("an address without a host"))?, url.port());
    // Its own `Host` could name a server beside the one that was looked at (RFC 9112, 3.2.2).
    let port_of_host = port.map(|port| format!(":{port}")).unwrap_or_default();
    let mut headers = format!("Host: {host}{port_of_host}\r\n").into_bytes();
    for header in request.headers.iter().filter(|header| !is_for_the_proxy(header.name)) {
        headers.extend_from_slice(header.name.as_bytes());
        headers.extend_from_slice(b": ");
        headers.extend_from_slice(header.value);
        headers.extend_from_slice(b"\r\n");
    }
    let path = url[url::Position::BeforePath..url::Position::AfterQuery].to_owned();
    let plain = Plain { method: method.to_owned(), path, headers };
    Ok(Some(Request::Pass(Asked { host: bare(host)?, port: port.unwrap_or(80), plain: Some(plain), rest })))
}

/// Without the brackets of IPv6; never with what has no place in a name, since it is told and kept.
fn bare(host: &str) -> io::Result<String> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let sound = !host.is_empty() && host.len() <= 253 && host.bytes().all(|byte| byte.is_ascii_graphic());
    if sound { Ok(host.to_owned()) } else { Err(bad("a host that is none")) }
}

/// Headers between the step and this proxy only (RFC 9110, 7.6.1), and the one that is written anew.
fn is_for_the_proxy(name: &str) -> bool {
    ["host", "connection", "proxy-connection", "proxy-authorization", "keep-alive"]
        .iter()
        .any(|own| name.eq_ignore_ascii_case(own))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str) -> Option<Asked> {
        match parse(text.as_bytes()).expect("a request")? {
            Request::Pass(asked) => Some(asked),
            Request::Own(path) => panic!("{path} is asked of the gate itself"),
        }
    }

    #[test]
    fn tunnels_and_absolute_forms() {
        let tunnel =
            asked("CONNECT fonts.example:443 HTTP/1.1\r\nHost: fonts.example:443\r\n\r\nhello").expect("whole");
        assert_eq!(
            (tunnel.name().as_str(), &tunnel.plain, &tunnel.first()[..]),
            ("fonts.example:443", &None, &b"hello"[..])
        );
        let to_proxy = tunnel.first_for_a_proxy("Proxy-Authorization: Basic eA==\r\n");
        assert_eq!(
            String::from_utf8_lossy(&to_proxy),
            "CONNECT fonts.example:443 HTTP/1.1\r\nHost: fonts.example:443\r\nProxy-Authorization: Basic eA==\r\n\r\n"
        );
        let text = "GET http://mirror.example:8080/a?b=1 HTTP/1.1\r\nhost: inside.lan\r\nProxy-Connection: keep-alive\r\nA: b\r\n\r\n";
        let plain = asked(text).expect("whole");
        assert_eq!(plain.name(), "mirror.example:8080");
        assert_eq!(
            String::from_utf8_lossy(&plain.first()),
            "GET /a?b=1 HTTP/1.1\r\nHost: mirror.example:8080\r\nA: b\r\nConnection: close\r\n\r\n"
        );
        assert!(plain.first_for_a_proxy("").starts_with(b"GET http://mirror.example:8080/a?b=1 HTTP/1.1\r\nHost: "));
        assert_eq!(asked("CONNECT [fd00::1]:443 HTTP/1.1\r\n\r\n").expect("whole").name(), "[fd00::1]:443");
        assert_eq!(asked("CONNECT fonts.exam"), None);
    }

    #[test]
    fn what_is_asked_of_the_gate_itself() {
        let own = parse(b"GET /names/packages/a HTTP/1.1\r\nHost: 127.0.0.1:3128\r\n\r\n").expect("a request");
        assert_eq!(own, Some(Request::Own("/names/packages/a".to_owned())));
        let by_itself = parse(b"GET http://127.0.0.1:3128/names/packages/a HTTP/1.1\r\n\r\n").expect("a request");
        assert_eq!(by_itself, own);
    }

    #[test]
    fn what_is_no_request_to_a_proxy() {
        for text in [
            "POST /index.html HTTP/1.1\r\n\r\n",
            "CONNECT fonts.example HTTP/1.1\r\n\r\n",
            "CONNECT fonts\u{301}.example:443 HTTP/1.1\r\n\r\n",
            "GET https://fonts.example/ HTTP/1.1\r\n\r\n",
            "GET file:///etc/passwd HTTP/1.1\r\n\r\n",
            "\x16\x03\x01\x02\x00\x01\x00\x01",
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text:?}");
        }
    }
}

//! What a step asks of its proxy.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};
use url::Url;

/// A longer head is nobody's request for a package or a font.
const LONGEST_HEAD: usize = 32 * 1024;

/// One request's destination, and what the destination is to hear first.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) host: String,
    pub(super) port: u16,
    /// True for `CONNECT`: the step speaks with the host itself from here on.
    pub(super) tunnel: bool,
    /// What is passed on: of a tunnel what came after the head, else the request in origin form.
    pub(super) first: Vec<u8>,
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
}

/// Reads one request's head.
///
/// # Errors
/// `InvalidData` for what is no request to a proxy; `UnexpectedEof` when there was none.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Asked> {
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
pub(super) fn parse(bytes: &[u8]) -> io::Result<Option<Asked>> {
    let mut headers = [httparse::EMPTY_HEADER; 100];
    let mut request = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(length) = request.parse(bytes).map_err(|_| bad("not an HTTP request"))? else {
        return Ok(None);
    };
    let (method, target) = (request.method.unwrap_or_default(), request.path.unwrap_or_default());
    if method == "CONNECT" {
        let (host, port) = target.rsplit_once(':').ok_or_else(|| bad("CONNECT without a port"))?;
        let port = port.parse().map_err(|_| bad("CONNECT without a port"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        return Ok(Some(Asked { host, port, tunnel: true, first: bytes[length..].to_vec() }));
    }
    let url = Url::parse(target).ok().filter(|url| url.scheme() == "http");
    let url = url.ok_or_else(|| bad("neither CONNECT nor an http address"))?;
    let host = url.host_str().ok_or_else(|| bad("an address without a host"))?;
    let mut first =
        format!("{method} {} HTTP/1.1\r\n", &url[url::Position::BeforePath..url::Position::AfterQuery]).into_bytes();
    for header in request.headers.iter().filter(|header| !is_for_the_proxy(header.name)) {
        first.extend_from_slice(header.name.as_bytes());
        first.extend_from_slice(b": ");
        first.extend_from_slice(header.value);
        first.extend_from_slice(b"\r\n");
    }
    // One request a connection: the next one may be for another host, which would have to be looked at.
    first.extend_from_slice(b"Connection: close\r\n\r\n");
    first.extend_from_slice(&bytes[length..]);
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    Ok(Some(Asked { host, port: url.port_or_known_default().unwrap_or(80), tunnel: false, first }))
}

/// Headers between the step and this proxy only (RFC 9110, 7.6.1).
fn is_for_the_proxy(name: &str) -> bool {
    ["connection", "proxy-connection", "proxy-authorization", "keep-alive"]
        .iter()
        .any(|own| name.eq_ignore_ascii_case(own))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str) -> Option<Asked> {
        parse(text.as_bytes()).expect("a request")
    }

    #[test]
    fn tunnels_and_absolute_forms() {
        let tunnel =
            asked("CONNECT fonts.example:443 HTTP/1.1\r\nHost: fonts.example:443\r\n\r\nhello").expect("whole");
        assert_eq!(
            (tunnel.name().as_str(), tunnel.tunnel, &tunnel.first[..]),
            ("fonts.example:443", true, &b"hello"[..])
        );
        let text = "GET http://mirror.example:8080/a?b=1 HTTP/1.1\r\nHost: mirror.example:8080\r\nProxy-Connection: keep-alive\r\n\r\n";
        let plain = asked(text).expect("whole");
        assert_eq!((plain.name().as_str(), plain.tunnel), ("mirror.example:8080", false));
        assert_eq!(
            String::from_utf8_lossy(&plain.first),
            "GET /a?b=1 HTTP/1.1\r\nHost: mirror.example:8080\r\nConnection: close\r\n\r\n"
        );
        assert_eq!(asked("CONNECT [fd00::1]:443 HTTP/1.1\r\n\r\n").expect("whole").name(), "[fd00::1]:443");
        assert_eq!(asked("CONNECT fonts.exam"), None);
    }

    #[test]
    fn what_is_no_request_to_a_proxy() {
        for text in [
            "GET /index.html HTTP/1.1\r\n\r\n",
            "CONNECT fonts.example HTTP/1.1\r\n\r\n",
            "GET https://fonts.example/ HTTP/1.1\r\n\r\n",
            "GET file:///etc/passwd HTTP/1.1\r\n\r\n",
            "\x16\x03\x01\x02\x00\x01\x00\x01",
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{text:?}");
        }
    }
}

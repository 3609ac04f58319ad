//! What the proxy passes on promises to be: one request, for the host that was looked at.

use super::request::{Asked, Request, parse};
use crate::fuzz::Target;

/// See [`crate::fuzz`].
pub const TARGETS: &[Target] = &[Target {
    name: "proxy-request",
    real: &[
        b"CONNECT registry.example:443 HTTP/1.1\r\nHost: registry.example:443\r\nProxy-Connection: keep-alive\r\n\r\n\x16\x03\x01",
        b"GET http://mirror.example:8080/a/-/a-1.0.0.tgz?x=1#f HTTP/1.1\r\nHost: mirror.example:8080\r\nProxy-Authorization: Basic eDp5\r\nConnection: keep-alive\r\nAccept: */*\r\n\r\n",
        b"POST http://[fd00::1]/ HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nhello",
        b"CONNECT [::1]:443 HTTP/1.0\r\n\r\n",
    ],
    words: &[
        "CONNECT ", "GET ", "http://", "https://", "HTTP/1.1\r\n", "\r\n\r\n", "\r\n", "\n", ":", "@", "#", "?", "/", "\\", "%0d%0a", "%00", "[", "]", "..",
        "Host: ", "Transfer-Encoding: chunked", "Proxy-Authorization: ", "Connection: ", "127.0.0.1", "0x7f000001", "localhost", "\t", " ", "\0", "65536", "evil.example",
    ],
    tries: 4000,
    holds: requests,
}];

/// What is asked of a host is for that host: nothing of its name can be read as something else, what is passed on begins
/// with one request whose head has neither the step's credentials for us nor a promise to send another, and a head that
/// came in parts says the same.
fn requests(bytes: &[u8]) {
    let Some(asked) = passed_on(bytes) else { return };
    let (is_tunnel, first) = (asked.plain.is_none(), asked.first());
    let odd = |c: char| c.is_control() || c.is_whitespace() || matches!(c, '/' | '\\' | '?' | '#' | '@');
    assert!(!is_tunnel || bytes.ends_with(&first));
    assert!(
        !asked.host.contains(odd) || is_tunnel && !asked.host.chars().any(|c| c.is_control() || c.is_whitespace()),
        "{asked:?}"
    );
    if !is_tunnel {
        let mut headers = [httparse::EMPTY_HEADER; 128];
        let mut request = httparse::Request::new(&mut headers);
        let parsed = request.parse(&first).expect("a request");
        assert!(parsed.is_complete() && request.path.is_some_and(|path| path.starts_with('/')), "{asked:?}");
        let named = |name: &str| {
            request.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name)).collect::<Vec<_>>()
        };
        assert!(named("proxy-authorization").is_empty());
        assert!(matches!(named("connection")[..], [only] if only.value == b"close"), "{asked:?}");
    }
    let head = bytes.len() - if is_tunnel { first.len() } else { 0 };
    for cut in (0..head.min(300)).step_by(7) {
        if let Some(early) = passed_on(&bytes[..cut]) {
            assert_eq!((&early.host, early.port, early.plain.is_none()), (&asked.host, asked.port, is_tunnel));
        }
    }
}

/// What is for another host, and not for the gate itself.
fn passed_on(bytes: &[u8]) -> Option<Asked> {
    match parse(bytes) {
        Ok(Some(Request::Pass(asked))) => Some(asked),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn promises_hold() {
        super::TARGETS.iter().for_each(|target| target.try_it());
    }
}

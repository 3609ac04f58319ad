//! A build's stream of events, as a browser reads it.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;

use serde_json::Value;

use crate::support::forge::PATIENCE;
use crate::support::server::Server;

/// One server-sent event.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Event {
    pub(crate) kind: String,
    pub(crate) id: String,
    pub(crate) data: Value,
}

impl Event {
    /// Its text, if it is a line of the bundle.
    pub(crate) fn line(&self) -> Option<&str> {
        let mine = self.kind == "line" && self.data["step"] == "bundle";
        if mine { self.data["text"].as_str() } else { None }
    }
}

/// An open stream of events. Dropped, the connection breaks.
pub(crate) struct Stream {
    reader: BufReader<TcpStream>,
    pub(crate) code: u16,
}

impl Stream {
    pub(crate) fn open(server: &Server, build: i64, last: Option<&str>) -> Stream {
        let address = server.url();
        let host = address.strip_prefix("http://").expect("http");
        let mut stream = TcpStream::connect(host).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let last = last.map_or_else(String::new, |last| format!("Last-Event-ID: {last}\r\n"));
        write!(stream, "GET /api/v1/builds/{build}/events HTTP/1.1\r\nHost: {host}\r\n{last}\r\n").expect("sent");
        let mut reader = BufReader::new(stream);
        let mut first = String::new();
        reader.read_line(&mut first).expect("an answer");
        let code = first.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status line");
        let mut line = String::new();
        while reader.read_line(&mut line).expect("a head") > 2 {
            line.clear();
        }
        Stream { reader, code }
    }

    /// The next event; none at the end. The chunks of HTTP/1.1 are told from the stream by their shape alone: their
    /// sizes stand on lines of their own, and no field of an event is only hexadecimal digits.
    pub(crate) fn next(&mut self) -> Option<Event> {
        let (mut kind, mut id, mut data) = (String::new(), String::new(), String::new());
        loop {
            let mut line = String::new();
            if self.reader.read_line(&mut line).expect("the stream goes on") == 0 {
                return None;
            }
            match line.trim_end().split_once(": ") {
                Some(("event", value)) => kind = value.to_owned(),
                Some(("id", value)) => id = value.to_owned(),
                Some(("data", value)) => data = value.to_owned(),
                _ if !data.is_empty() => {
                    let data = serde_json::from_str(&data).expect("JSON");
                    return Some(Event { kind, id, data });
                }
                _ if line == "0\r\n" => return None,
                _ => {}
            }
        }
    }

    pub(crate) fn rest(mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.next()).collect()
    }
}

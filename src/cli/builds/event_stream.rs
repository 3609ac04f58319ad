//! Reads server-sent events (WHATWG HTML, section 9.2.6).
//!
//! Lines may end in LF or CR LF. A CR alone, which the standard also knows, is no line end here:
//! JSON holds none, and our server sends none.

use std::io::{self, BufRead, BufReader, Read};

/// No line of ours is longer: a build's document with all its steps is far below.
const LONGEST_LINE: u64 = 16 * 1024 * 1024;

/// One event.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Event {
    /// What kind; empty for the standard's default.
    pub(super) kind: String,
    /// What it says.
    pub(super) data: String,
    /// What to send as `Last-Event-ID` after this one; `None` while the server has given no id.
    pub(super) id: Option<String>,
}

/// The events of one connection.
pub(super) struct EventStream<R> {
    source: BufReader<R>,
    last_id: Option<String>,
}

impl<R: Read> EventStream<R> {
    /// Reads from an answer's body.
    pub(super) fn new(source: R) -> Self {
        Self { source: BufReader::new(source), last_id: None }
    }

    /// The next event; `None` when the connection ended. An event that was cut off by that is not told.
    pub(super) fn next(&mut self) -> io::Result<Option<Event>> {
        let mut event = Event::default();
        let mut has_data = false;
        while let Some(line) = self.line()? {
            if line.is_empty() {
                if has_data {
                    event.id = self.last_id.clone();
                    return Ok(Some(event));
                }
                event = Event::default();
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((&line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => event.kind = value.to_owned(),
                "data" => {
                    if has_data {
                        event.data.push('\n');
                    }
                    event.data.push_str(value);
                    has_data = true;
                }
                "id" if !value.contains('\0') => self.last_id = Some(value.to_owned()),
                // Comments have an empty name; what else there is, is not for us.
                _ => {}
            }
        }
        Ok(None)
    }

    /// The next whole line without its end.
    fn line(&mut self) -> io::Result<Option<String>> {
        let mut line = Vec::new();
        self.source.by_ref().take(LONGEST_LINE).read_until(b'\n', &mut line)?;
        if line.pop() != Some(b'\n') {
            return match line.len() as u64 {
                length if length + 1 < LONGEST_LINE => Ok(None),
                _ => Err(io::Error::new(io::ErrorKind::InvalidData, "a line of the event stream is too long")),
            };
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Ok(Some(String::from_utf8_lossy(&line).into_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(&str, &str, Option<&str>)]) {
        let mut stream = EventStream::new(text.as_bytes());
        for &(kind, data, id) in expected {
            let event = Event { kind: kind.into(), data: data.into(), id: id.map(str::to_owned) };
            assert_eq!(stream.next().expect("readable"), Some(event), "{text:?}");
        }
        assert_eq!(stream.next().expect("readable"), None, "{text:?}");
    }

    #[test]
    fn events_are_told_when_they_are_whole() {
        check("event: line\nid: 1-2\ndata: {\"n\":1}\n\n", &[("line", "{\"n\":1}", Some("1-2"))]);
        check("data: a\r\n\r\ndata:b\n\n", &[("", "a", None), ("", "b", None)]);
        check("data: a\ndata\ndata:  b\n\n", &[("", "a\n\n b", None)]);
        check("data: cut off\n", &[]);
        check("data: cut o", &[]);
        check("", &[]);
    }

    #[test]
    fn comments_are_signs_of_life_and_an_id_stays() {
        check(":\n\n: still here\n\nretry: 10\nid: 7\n\ndata: x\n\n", &[("", "x", Some("7"))]);
        check("id: 7\ndata: x\n\ndata: y\n\n", &[("", "x", Some("7")), ("", "y", Some("7"))]);
        check("id: 7\nid: a\0b\ndata: x\n\n", &[("", "x", Some("7"))]);
        check("event: end\n\ndata: x\n\n", &[("", "x", None)]);
    }

    #[test]
    fn a_line_without_end_is_not_kept_for_ever() {
        let mut stream = EventStream::new(io::repeat(b'x'));
        assert_eq!(stream.next().expect_err("too long").kind(), io::ErrorKind::InvalidData);
    }
}

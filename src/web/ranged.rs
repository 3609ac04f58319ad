//! Bytes of files as an answer: whole, or the range that is asked for (RFC 9110, section 14).

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

use super::body::{Pieces, ReaderGone, streamed};

/// How much of a file is read at a time.
const PIECE: u64 = 64 * 1024;

/// A stretch of the answer.
#[derive(Debug, Clone)]
pub(super) enum Part {
    Words(String),
    File { path: PathBuf, len: u64 },
}

impl Part {
    fn len(&self) -> u64 {
        match self {
            Part::Words(words) => words.len() as u64,
            Part::File { len, .. } => *len,
        }
    }
}

/// The parts in their order, or the range of them that `headers` ask for, under the headers `of_file`.
pub(super) fn answer(parts: Vec<Part>, headers: &HeaderMap, of_file: &[(header::HeaderName, String)]) -> Response {
    let length = parts.iter().map(Part::len).sum();
    // A log that grows has no version that `If-Range` could name: then the whole is sent.
    let range = headers.get(header::RANGE).filter(|_| !headers.contains_key(header::IF_RANGE));
    let asked = match range.and_then(|value| range_of(value.to_str().ok()?, length)) {
        None => None,
        Some(Ok(range)) => Some(range),
        Some(Err(Unsatisfiable)) => {
            let whole = format!("bytes */{length}");
            return (StatusCode::RANGE_NOT_SATISFIABLE, [(header::CONTENT_RANGE, whole)]).into_response();
        }
    };
    let range = asked.clone().unwrap_or(0..length);
    let (pieces, body) = streamed(Some(range.end - range.start));
    // Ends with its reader: a send fails once the body is dropped.
    tokio::spawn(send(parts, range.clone(), pieces));
    let mut response = ([(header::ACCEPT_RANGES, "bytes")], body).into_response();
    for (name, value) in of_file {
        let value = HeaderValue::from_str(value).expect("made of ASCII, whatever the file is called");
        response.headers_mut().insert(name, value);
    }
    if asked.is_some() {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let part = format!("bytes {}-{}/{length}", range.start, range.end - 1);
        let part = HeaderValue::from_str(&part).expect("digits and ASCII words make a header value");
        response.headers_mut().insert(header::CONTENT_RANGE, part);
    }
    response
}

async fn send(parts: Vec<Part>, range: Range<u64>, pieces: Pieces) -> Option<()> {
    let mut start = 0;
    for part in parts {
        let end = start + part.len();
        let (from, to) = (range.start.clamp(start, end) - start, range.end.clamp(start, end) - start);
        start = end;
        if from < to {
            match part {
                // Both ends lie within the words, since they were clamped to them.
                Part::Words(words) => {
                    let words = words.as_bytes().get(from as usize..to as usize).unwrap_or_default();
                    pieces.send(Ok(Bytes::copy_from_slice(words))).await.ok()?;
                }
                Part::File { path, .. } => send_file(path, from..to, &pieces).await.ok()?,
            }
        }
    }
    Some(())
}

async fn send_file(path: PathBuf, range: Range<u64>, pieces: &Pieces) -> Result<(), ReaderGone> {
    let mut at = range.start;
    while at < range.end {
        let (path, length) = (path.clone(), (range.end - at).min(PIECE));
        // Opened anew each time, so that a reader who dawdles holds no file that was removed.
        let read = tokio::task::spawn_blocking(move || {
            let mut piece = vec![0; length as usize];
            File::open(path)?.read_exact_at(&mut piece, at)?;
            Ok(Bytes::from(piece))
        });
        let piece = read.await.unwrap_or_else(|_stopping| Err(io::Error::other("the server is stopping")));
        let failed = piece.is_err();
        pieces.send(piece).await?;
        if failed {
            return Err(ReaderGone);
        }
        at += length;
    }
    Ok(())
}

/// The range lies behind the end (RFC 9110, section 15.5.17).
#[derive(Debug, PartialEq, Eq)]
struct Unsatisfiable;

/// A single range of bytes (RFC 9110, section 14.1.2); `None` for what may be ignored: other units, several ranges, nonsense.
fn range_of(header: &str, length: u64) -> Option<Result<Range<u64>, Unsatisfiable>> {
    let (first, last) = header.trim().strip_prefix("bytes=")?.split_once('-')?;
    let number = |text: &str| if text.bytes().all(|b| b.is_ascii_digit()) { text.parse::<u64>().ok() } else { None };
    let range = match (first.trim(), last.trim()) {
        ("", last) => length.saturating_sub(number(last)?)..length,
        (first, "") => number(first)?..length,
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            if last < first {
                return None;
            }
            first..last.saturating_add(1).min(length)
        }
    };
    Some(if range.start < range.end { Ok(range) } else { Err(Unsatisfiable) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let check = |header, expected| assert_eq!(range_of(header, 10), expected, "{header}");
        check("bytes=0-0", Some(Ok(0..1)));
        check("bytes=3-", Some(Ok(3..10)));
        check("bytes=-4", Some(Ok(6..10)));
        check("bytes=-40", Some(Ok(0..10)));
        check("bytes=5-99", Some(Ok(5..10)));
        check("bytes=9-18446744073709551615", Some(Ok(9..10)));
        check("bytes=10-", Some(Err(Unsatisfiable)));
        check("bytes=-0", Some(Err(Unsatisfiable)));
        for ignored in ["bytes=5-4", "bytes=0-1,3-4", "lines=1-2", "bytes=a-b", "bytes=-", "bytes=+1-2", ""] {
            check(ignored, None);
        }
    }
}

//! `GET /api/v1/builds/{id}/log`: what steps wrote, byte for byte, as far as it exists.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

use crate::blobs::{Logs, StepFile};
use crate::domain::build::Build;

use super::Pages;
use super::answer::{RAW_POLICY, Refused};
use super::api::{parameter, readable};
use super::body::{Pieces, ReaderGone, streamed};

/// How much of a log is read at a time.
const PIECE: u64 = 64 * 1024;

pub(super) async fn log(
    State(pages): State<Arc<Pages>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let build = readable(&pages, &id, query.as_deref(), &headers).await?;
    let step = parameter(query.as_deref(), "step");
    if step.as_ref().is_some_and(|step| !build.steps.iter().any(|known| known.name == *step)) {
        return Err(Refused::not_found());
    }
    let (logs, number) = (pages.logs.clone(), build.id);
    let parts = tokio::task::spawn_blocking(move || parts(&logs, &build, step.as_deref()));
    let parts = parts.await.map_err(|_stopping| io::Error::other("the server is stopping"))??;
    let length = parts.iter().map(Part::len).sum();
    Ok(answer(parts, length, &headers, &format!("hookmill-{number}.log")))
}

/// A stretch of the answer.
#[derive(Debug, Clone)]
enum Part {
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

/// One step's log, or every step's in the order of the plan, each under its name.
fn parts(logs: &Logs, build: &Build, only: Option<&str>) -> io::Result<Vec<Part>> {
    let mut parts = Vec::new();
    let mut at_line_start = true;
    for (index, step) in (0..).zip(&build.steps) {
        if only.is_some_and(|only| only != step.name) {
            continue;
        }
        let Some(StepFile { path, len, ends_line }) = logs.step_file(build.id, index, &step.name)? else { continue };
        if only.is_none() {
            let before = if at_line_start { "" } else { "\n" };
            parts.push(Part::Words(format!("{before}== {} ==\n", step.name)));
        }
        parts.push(Part::File { path, len });
        at_line_start = ends_line;
    }
    Ok(parts)
}

fn answer(parts: Vec<Part>, length: u64, headers: &HeaderMap, name: &str) -> Response {
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
    let mut response = (raw_headers(name), body).into_response();
    if asked.is_some() {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let part = format!("bytes {}-{}/{length}", range.start, range.end - 1);
        let part = HeaderValue::from_str(&part).expect("digits and ASCII words make a header value");
        response.headers_mut().insert(header::CONTENT_RANGE, part);
    }
    response
}

fn raw_headers(name: &str) -> [(header::HeaderName, String); 4] {
    [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8".to_owned()),
        (header::CONTENT_DISPOSITION, format!("inline; filename=\"{name}\"")),
        (header::ACCEPT_RANGES, "bytes".to_owned()),
        (header::CONTENT_SECURITY_POLICY, RAW_POLICY.to_owned()),
    ]
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

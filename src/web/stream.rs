//! `GET /api/v1/builds/{id}/events`: server-sent events (WHATWG HTML, section 9.2).

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;

use crate::domain::build::State as BuildState;
use crate::runner::follow::{Event, EventId, Follow};

use super::Pages;
use super::answer::Refused;
use super::api::{parameter, readable};
use super::body::{Pieces, streamed};

/// After so much silence a comment is sent, so that no proxy takes the stream for dead.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// Backlog, then live. `Last-Event-ID` (or `after` in the address, for a first request) says where to begin.
pub(super) async fn events(
    State(pages): State<Arc<Pages>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let build = readable(&pages, &id, query.as_deref(), &headers).await?;
    let last = match headers.get("last-event-id") {
        Some(id) => id.to_str().ok().map(str::to_owned),
        None => parameter(query.as_deref(), "after"),
    };
    // An id that is not ours says nothing about what its sender has seen: from the beginning.
    let from = match last.and_then(|last| last.parse().ok()) {
        Some(EventId::End) if build.state == BuildState::Finished => return Ok(StatusCode::NO_CONTENT.into_response()),
        Some(EventId::After(cursor)) => Some(cursor),
        Some(EventId::End) | None => None,
    };
    let records = Arc::clone(&pages.records);
    let look_up = move |id| {
        let records = Arc::clone(&records);
        Box::pin(async move { records.build(id).await }) as crate::runner::follow::Found
    };
    let follow = Follow::begin(build.id, from, &pages.words(), &pages.hub, look_up)
        .map_err(|_too_many| Refused::too_many_readers())?;
    let (pieces, body) = streamed(None);
    // Ends with the build or with its reader, whichever is first; both are seen in `tell`.
    tokio::spawn(tell(follow, pieces));
    let headers = [
        (header::CONTENT_TYPE, "text/event-stream"),
        (header::CACHE_CONTROL, "no-store"),
        // nginx would otherwise hold events back until its buffer is full.
        (HeaderName::from_static("x-accel-buffering"), "no"),
    ];
    Ok((headers, body).into_response())
}

async fn tell(mut follow: Follow, pieces: Pieces) {
    loop {
        let piece = tokio::select! {
            next = tokio::time::timeout(HEARTBEAT, follow.next()) => match next {
                Ok(Some(events)) => written(&events),
                Ok(None) => return,
                Err(_silence) => Bytes::from_static(b":\n\n"),
            },
            () = pieces.closed() => return,
        };
        if pieces.send(Ok(piece)).await.is_err() {
            return;
        }
    }
}

// JSON has no raw line end, so no text of a build can begin a field of the stream.
fn written(events: &[Event]) -> Bytes {
    let mut text = String::new();
    for Event { id, happening } in events {
        let data = serde_json::to_string(happening).expect("plain data with text keys is always JSON");
        write!(text, "event: {}\nid: {id}\ndata: {data}\n\n", happening.kind()).expect("a String takes any text");
    }
    text.into()
}

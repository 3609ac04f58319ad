//! `GET /api/v1/builds/{id}/artifacts[/{path}]`: what a build left to be kept.
//!
//! Every file is sent as an attachment of no type that a browser would show: it was written by whoever wrote the commit,
//! and would run on this origin.

use std::io;
use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;

use crate::blobs::Artifact;
use crate::domain::build::{Build, BuildId, State as BuildState};

use super::Pages;
use super::answer::{RAW_POLICY, Refused};
use super::api::readable;
use super::ranged::{Part, answer};

/// What `filename*` may hold as it is (RFC 8187, section 3.2.1).
const ATTR_CHAR: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// `GET /api/v1/builds/{id}/artifacts`
pub(super) async fn list(
    State(pages): State<Arc<Pages>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let build = readable(&pages, &id, query.as_deref(), &headers).await?;
    Ok(Json(json!({"artifacts": of_build(&pages, &build).await?})).into_response())
}

/// What is kept of a build, or of the one whose verdict it took over; nothing while it runs, since another try may follow.
pub(super) async fn of_build(pages: &Pages, build: &Build) -> io::Result<Vec<Artifact>> {
    if build.state != BuildState::Finished {
        return Ok(Vec::new());
    }
    let (artifacts, id) = (pages.artifacts.clone(), that_ran(build));
    super::elsewhere::bring_artifacts(pages, id).await;
    tokio::task::spawn_blocking(move || artifacts.list(id)).await.map_err(io::Error::other)?
}

/// The build whose steps wrote the artifacts.
fn that_ran(build: &Build) -> BuildId {
    build.same_as.unwrap_or(build.id)
}

/// `GET /api/v1/builds/{id}/artifacts/{path}`
pub(super) async fn file(
    State(pages): State<Arc<Pages>>,
    Path((id, path)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let build = readable(&pages, &id, query.as_deref(), &headers).await?;
    if build.state != BuildState::Finished {
        return Err(Refused::not_found());
    }
    let name = path.rsplit('/').next().unwrap_or_default().to_owned();
    let (artifacts, elsewhere, id) = (pages.artifacts.clone(), pages.elsewhere.clone(), that_ran(&build));
    super::elsewhere::bring_artifacts(&pages, id).await;
    let found = tokio::task::spawn_blocking(move || {
        elsewhere.bring_artifact(id, &path)?;
        artifacts.find(id, &path)
    });
    let found = found.await.map_err(|_stopping| io::Error::other("the server is stopping"))??;
    let (path, len) = found.ok_or_else(Refused::not_found)?;
    let of_file = [
        (header::CONTENT_TYPE, "application/octet-stream".to_owned()),
        (header::CONTENT_DISPOSITION, attachment(&name)),
        (header::CONTENT_SECURITY_POLICY, RAW_POLICY.to_owned()),
    ];
    Ok(answer(vec![Part::File { path, len }], &headers, &of_file))
}

/// The name under which a browser saves the file (RFC 6266): in ASCII, and as it is.
fn attachment(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-._ ".contains(c) { c } else { '_' };
    let ascii: String = name.chars().map(plain).collect();
    if ascii == name {
        return format!("attachment; filename=\"{ascii}\"");
    }
    format!("attachment; filename=\"{ascii}\"; filename*=UTF-8''{}", utf8_percent_encode(name, ATTR_CHAR))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_ends_the_header() {
        assert_eq!(attachment("main.3f2a.js"), "attachment; filename=\"main.3f2a.js\"");
        assert_eq!(
            attachment("a\"b\r\nX: ü.js"),
            "attachment; filename=\"a_b__X_ _.js\"; filename*=UTF-8''a%22b%0D%0AX%3A%20%C3%BC.js"
        );
    }
}

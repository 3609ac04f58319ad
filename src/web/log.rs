//! `GET /api/v1/builds/{id}/log`: what steps wrote, byte for byte, as far as it exists.

use std::io;
use std::sync::Arc;

use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;

use crate::blobs::{Logs, StepFile};
use crate::domain::build::Build;

use super::Pages;
use super::answer::{RAW_POLICY, Refused};
use super::api::{parameter, readable};
use super::ranged::{Part, answer};

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
    super::elsewhere::bring_log(&pages, &build).await;
    let unreachable =
        super::elsewhere::is_unreachable(&pages, &build).then(|| super::elsewhere::unreachable_in_words(&build));
    let (logs, number) = (pages.logs.clone(), build.id);
    let parts = tokio::task::spawn_blocking(move || parts(&logs, &build, step.as_deref()));
    let parts = parts.await.map_err(|_stopping| io::Error::other("the server is stopping"))??;
    if let Some(words) = unreachable.filter(|_| parts.is_empty()) {
        return Err(Refused::new(StatusCode::CONFLICT, "log_elsewhere", words));
    }
    Ok(answer(parts, &headers, &raw_headers(&format!("hookmill-{number}.log"))))
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

fn raw_headers(name: &str) -> [(header::HeaderName, String); 3] {
    [
        (header::CONTENT_TYPE, "text/plain; charset=utf-8".to_owned()),
        (header::CONTENT_DISPOSITION, format!("inline; filename=\"{name}\"")),
        (header::CONTENT_SECURITY_POLICY, RAW_POLICY.to_owned()),
    ]
}

//! How the server is, and what the forges were never told: as a document, as a page, and sent again.

use std::sync::Arc;

use askama::Template;
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse, Response};

use crate::domain::build::BuildId;
use crate::domain::time::brief;

use super::Pages;
use super::answer::Refused;
use super::api::{accepted, change};
use super::asker::Asker;
use super::forms::form_of_change;
use super::pages::{html, see_other};
use super::records::{Outbox, Undelivered};
use super::view::{Frame, Moment, now};

/// `GET /api/v1/outbox`
pub(super) async fn document(State(pages): State<Arc<Pages>>, headers: HeaderMap) -> Result<Json<Outbox>, Refused> {
    if !pages.site().may_see_deliveries(&headers) {
        return Err(Refused::for_maintainers());
    }
    Ok(Json(pages.records.outbox().await?))
}

/// `POST /api/v1/builds/{id}/resend`
pub(super) async fn resend(
    State(pages): State<Arc<Pages>>,
    Path(id): Path<String>,
    asker: Asker,
) -> Result<Response, Refused> {
    let (by, id) = change(&pages, &id, &asker)?;
    pages.records.resend(id, by).await??;
    Ok(accepted(id))
}

/// `POST /builds/{id}/resend`, from the page's own form.
pub(super) async fn resend_from_page(
    State(pages): State<Arc<Pages>>,
    Path(id): Path<String>,
    asker: Asker,
    body: Body,
) -> Result<Response, Refused> {
    let (by, id, _) = form_of_change(&pages, &id, &asker, body).await?;
    pages.records.resend(id, by).await??;
    Ok(see_other(&format!("{}/health", pages.site().base())))
}

#[derive(Template)]
#[template(path = "health.html")]
struct HealthPage {
    frame: Frame,
    parts: Vec<ShownPart>,
    waiting: String,
    paused: Vec<String>,
    tokens: Vec<ShownToken>,
    dead_count: u64,
    dead: Vec<Letter>,
}

struct ShownPart {
    name: &'static str,
    ok: bool,
    detail: String,
}

struct ShownToken {
    forge: String,
    ends: String,
    left: String,
}

/// A status that was given up.
struct Letter {
    build: BuildId,
    repo: String,
    commit: String,
    context: String,
    state: &'static str,
    sentence: String,
    why: String,
    at: Moment,
}

/// `GET /health`
pub(super) async fn page(State(pages): State<Arc<Pages>>, uri: Uri, headers: HeaderMap) -> Result<Response, Refused> {
    let site = pages.site();
    if !site.may_read_all(&headers) {
        return Err(Refused::not_found());
    }
    let outbox = pages.records.outbox().await?;
    let parts = pages.records.parts().await;
    let page = HealthPage {
        frame: Frame::new(&site, &headers, &uri, "Health · Hookmill"),
        parts: parts
            .into_iter()
            .map(|part| ShownPart { name: part.name, ok: part.ok, detail: shown(&part.detail) })
            .collect(),
        waiting: waiting(&outbox),
        paused: outbox
            .paused
            .iter()
            .map(|paused| {
                let reason = shown(&paused.reason);
                format!("{} is left alone for {} more seconds: {reason}", paused.forge, paused.seconds)
            })
            .collect(),
        tokens: outbox
            .tokens
            .iter()
            .map(|token| ShownToken {
                forge: token.forge.clone(),
                ends: token.expires_at.to_string(),
                left: days(token.expires_at.since(now()).as_secs()),
            })
            .collect(),
        dead_count: outbox.dead_count,
        dead: outbox.dead.iter().map(Letter::new).collect(),
    };
    Ok(html(&page).into_response())
}

impl Letter {
    fn new(letter: &Undelivered) -> Self {
        Letter {
            build: letter.build,
            repo: shown(&letter.repo),
            commit: letter.sha.chars().take(10).collect(),
            context: shown(&letter.context),
            state: letter.state,
            sentence: shown(&letter.sentence),
            why: shown(&letter.last_error),
            at: Moment::new(letter.at, now()),
        }
    }
}

fn shown(text: &str) -> String {
    super::ansi::shown(text)
}

fn waiting(outbox: &Outbox) -> String {
    if outbox.unsent == 0 {
        return "Every status was taken by its forge.".to_owned();
    }
    let oldest = outbox.oldest_seconds.map(std::time::Duration::from_secs).map(brief).unwrap_or_default();
    let failing = match (&outbox.last_error, outbox.failing) {
        (Some(error), failing) if failing > 0 => format!("; {failing} were not accepted yet: {}", shown(error)),
        _ => String::new(),
    };
    format!("{} wait to be sent, the oldest for {oldest}{failing}", outbox.unsent)
}

fn days(seconds: u64) -> String {
    match seconds / 86_400 {
        0 if seconds == 0 => "it has ended".to_owned(),
        0 => "less than a day left".to_owned(),
        days => format!("{days} days left"),
    }
}

//! Who runs builds: `GET /api/v1/agents`, `/agents`, and what operators ask of an agent.

use std::sync::Arc;

use askama::Template;
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::domain::agent::{Agent, Order, Standing};
use crate::domain::audit::Actor;

use super::Pages;
use super::answer::Refused;
use super::asker::Asker;
use super::pages::{html, see_other};
use super::view::{Frame, Moment, now};

/// `GET /api/v1/agents`
pub(super) async fn list(State(pages): State<Arc<Pages>>, headers: HeaderMap) -> Result<Response, Refused> {
    if !pages.site().may_read_all(&headers) {
        return Err(Refused::not_found());
    }
    Ok(Json(json!({"agents": pages.records.agents().await?})).into_response())
}

/// `POST /api/v1/agents/{name}/{pause,resume,drain}`
pub(super) async fn order(
    State(pages): State<Arc<Pages>>,
    Path((name, verb)): Path<(String, String)>,
    asker: Asker,
) -> Result<Response, Refused> {
    let by = asker.may_change(&pages)?;
    let order = give(&pages, &name, &verb, by).await?;
    Ok((StatusCode::ACCEPTED, Json(json!({"agent": name, "order": order}))).into_response())
}

async fn give(pages: &Pages, name: &str, verb: &str, by: Actor) -> Result<Order, Refused> {
    let order = match verb {
        "pause" => Order::Pause,
        "resume" => Order::Run,
        "drain" => Order::Drain,
        _ => return Err(Refused::not_found()),
    };
    if pages.records.order_agent(name, order, by).await? {
        return Ok(order);
    }
    Err(Refused::new(StatusCode::NOT_FOUND, "not_found", format!("there is no agent named {name:?}")))
}

#[derive(Template)]
#[template(path = "agents.html")]
struct AgentsPage {
    frame: Frame,
    rows: Vec<Row>,
}

/// An agent on the page.
struct Row {
    name: String,
    /// As it stands in addresses.
    address: String,
    /// The class of its mark.
    class: &'static str,
    standing: &'static str,
    busy: u32,
    slots: u32,
    seen: Moment,
    version: String,
    sandbox: String,
    /// Since when the disk holds builds back, and how little room it has.
    low: Option<(Moment, String)>,
    may_resume: bool,
}

impl Row {
    fn new(agent: &Agent) -> Self {
        Row {
            name: super::ansi::shown(&agent.name),
            address: percent_encoding::utf8_percent_encode(&agent.name, percent_encoding::NON_ALPHANUMERIC).to_string(),
            class: match agent.standing {
                Standing::Working if agent.is_held_back() => "waiting",
                Standing::Working => "passed",
                Standing::Paused | Standing::Draining => "waiting",
                Standing::Away => "cancelled",
            },
            standing: agent.standing.as_str(),
            busy: agent.busy,
            slots: agent.slots,
            seen: Moment::new(agent.seen_at, now()),
            version: super::ansi::shown(&agent.version),
            sandbox: super::ansi::shown(&agent.sandbox),
            low: agent.disk_low.as_ref().map(|words| {
                (Moment::new(agent.disk_low_since.unwrap_or(agent.seen_at), now()), super::ansi::shown(words))
            }),
            may_resume: agent.order != Order::Run,
        }
    }
}

/// `GET /agents`
pub(super) async fn page(State(pages): State<Arc<Pages>>, uri: Uri, headers: HeaderMap) -> Result<Response, Refused> {
    let site = pages.site();
    if !site.may_read_all(&headers) {
        return Err(Refused::not_found());
    }
    let agents = pages.records.agents().await?;
    let frame = Frame::new(&site, &headers, &uri, "Agents · Hookmill");
    Ok(html(&AgentsPage { frame, rows: agents.iter().map(Row::new).collect() }).into_response())
}

/// `POST /agents/{name}/{pause,resume,drain}`, from the page's own form.
pub(super) async fn order_from_page(
    State(pages): State<Arc<Pages>>,
    Path((name, verb)): Path<(String, String)>,
    asker: Asker,
    body: Body,
) -> Result<Response, Refused> {
    let (by, _) = asker.may_change_by_form(&pages, body).await?;
    give(&pages, &name, &verb, by).await?;
    Ok(see_other(&format!("{}/agents", pages.site().base())))
}

//! The JSON API. Rights come first in every handler: nothing is parsed or looked up before.

use std::sync::Arc;

use axum::Json;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::domain::audit::Actor;
use crate::domain::build::{Build, BuildId};
use crate::domain::rule::Ruling;
use crate::domain::spec::Explanation;

use super::answer::Refused;
use super::asker::Asker;
use super::elsewhere::why_it_waits;
use super::records::{BuildFilter, Told};
use super::{BODY_MAX, Pages, paging};

/// What is shown of deliveries when nobody says how much.
const DELIVERIES: u32 = 200;

/// `GET /api/v1/builds`
pub(super) async fn builds(
    State(pages): State<Arc<Pages>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    if !pages.site().may_read_all(&headers) {
        return Err(Refused::not_found());
    }
    let filter = filter(query.as_deref().unwrap_or_default()).map_err(Refused::bad_request)?;
    let (builds, next) = page_of_builds(&pages, filter).await?;
    let mut answer = json!({"builds": builds, "next": next});
    if let Some(waits) = why_it_waits(&pages, &builds).await? {
        answer["waits"] = waits.into();
    }
    Ok(Json(answer).into_response())
}

/// One page of builds, and the id before which the next page begins.
pub(super) async fn page_of_builds(
    pages: &Pages,
    mut filter: BuildFilter,
) -> Result<(Vec<Build>, Option<BuildId>), Refused> {
    let wanted = filter.limit;
    filter.limit += 1;
    let (builds, next) = paging::page(pages.records.builds(filter).await?, wanted, |build| build.id.0);
    Ok((builds, next.map(BuildId)))
}

/// Reads `repo`, `branch`, `state`, `outcome`, `limit`, `before`; anything else is refused by name.
pub(super) fn filter(query: &str) -> Result<BuildFilter, String> {
    let mut filter = BuildFilter::default();
    paging::each_parameter(query, "repo, branch, state, outcome, limit, before", |name, value| {
        match name {
            "repo" => filter.repo = Some(value.parse().map_err(|_| "write forge/owner/name")?),
            "branch" if value.is_empty() => return Err("name a branch".to_owned()),
            "branch" => filter.branch = Some(value.to_owned()),
            "state" => {
                let words = "one of waiting, queued, running, finished";
                filter.state = Some(value.parse().map_err(|_| words)?);
            }
            "outcome" => {
                let words = "one of passed, skipped, failed, timed_out, cancelled, broken";
                filter.outcome = Some(value.parse().map_err(|_| words)?);
            }
            "limit" => filter.limit = paging::limit(value)?,
            "before" => filter.before = Some(BuildId(paging::before(value, "a build")?)),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(filter)
}

/// A build that was asked for by itself: lists and events have no notices, nor what the forge was told.
#[derive(Serialize)]
pub(super) struct WholeBuild {
    #[serde(flatten)]
    build: Build,
    notices: Vec<String>,
    statuses: Vec<Told>,
    /// Why it has not begun, while it is queued.
    #[serde(skip_serializing_if = "Option::is_none")]
    waits: Option<String>,
}

/// `GET /api/v1/builds/{id}`
pub(super) async fn build(
    State(pages): State<Arc<Pages>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Json<WholeBuild>, Refused> {
    let build = readable(&pages, &id, query.as_deref(), &headers).await?;
    let notices = pages.records.explanation(build.id).await?.unwrap_or_default().notices;
    let statuses = pages.records.told(build.id).await?;
    let waits = why_it_waits(&pages, std::slice::from_ref(&build)).await?;
    Ok(Json(WholeBuild { build, notices, statuses, waits }))
}

/// A build's account: why it is there and what moved it, and why its plan is as it is.
#[derive(Serialize)]
pub(super) struct WholePlan {
    rulings: Vec<Ruling>,
    #[serde(flatten)]
    explanation: Explanation,
}

/// `GET /api/v1/builds/{id}/plan`: empty lists for a build whose plan was not kept.
pub(super) async fn plan(
    State(pages): State<Arc<Pages>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Json<WholePlan>, Refused> {
    let build = readable(&pages, &id, query.as_deref(), &headers).await?;
    let rulings = pages.records.rulings(build.id).await?;
    let explanation = pages.records.explanation(build.id).await?.unwrap_or_default();
    Ok(Json(WholePlan { rulings, explanation }))
}

/// The build that is asked for, when it is there and the request may read it.
pub(super) async fn readable(
    pages: &Pages,
    id: &str,
    query: Option<&str>,
    headers: &HeaderMap,
) -> Result<Build, Refused> {
    let id = build_id(id).ok_or_else(Refused::not_found)?;
    let key = parameter(query, "key");
    if !pages.site().may_read(id, headers, key.as_deref()) {
        return Err(Refused::not_found());
    }
    pages.records.build(id).await?.ok_or_else(Refused::not_found)
}

/// A build's number as it stands in addresses: digits only, so that one build has one address.
pub(super) fn build_id(text: &str) -> Option<BuildId> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    if digits { text.parse().ok().map(BuildId) } else { None }
}

/// The first value of a parameter.
pub(super) fn parameter(query: Option<&str>, name: &str) -> Option<String> {
    let mut pairs = form_urlencoded::parse(query?.as_bytes());
    pairs.find(|(given, _)| given == name).map(|(_, value)| value.into_owned())
}

/// Who asks for a change and the build that it is for, once the right to it is proven.
pub(super) fn change(pages: &Pages, id: &str, asker: &Asker) -> Result<(Actor, BuildId), Refused> {
    let by = asker.may_change(pages)?;
    Ok((by, build_id(id).ok_or_else(Refused::not_found)?))
}

/// `POST /api/v1/builds/{id}/cancel`
pub(super) async fn cancel(
    State(pages): State<Arc<Pages>>,
    Path(id): Path<String>,
    asker: Asker,
) -> Result<Response, Refused> {
    let (by, id) = change(&pages, &id, &asker)?;
    pages.records.cancel(id, by).await??;
    pages.hub.publish(id);
    Ok(accepted(id))
}

/// The body of a rerun; an empty one is the default.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rerun {
    #[serde(default = "yes")]
    cache: bool,
}

fn yes() -> bool {
    true
}

/// `POST /api/v1/builds/{id}/rerun`
pub(super) async fn rerun(
    State(pages): State<Arc<Pages>>,
    Path(id): Path<String>,
    asker: Asker,
    body: Body,
) -> Result<Response, Refused> {
    let (by, id) = change(&pages, &id, &asker)?;
    let Rerun { cache } = asked(body, r#"{"cache": true}"#).await?;
    Ok(accepted(pages.records.rerun(id, cache, by).await??))
}

/// What a change is asked to be, in JSON; an empty body is all defaults. A refusal shows the `example`.
pub(super) async fn asked<T: DeserializeOwned>(body: Body, example: &str) -> Result<T, Refused> {
    let body =
        to_bytes(body, BODY_MAX).await.map_err(|_| Refused::bad_request("the body is too long or was cut off"))?;
    let body = if body.trim_ascii().is_empty() { b"{}" } else { &body[..] };
    serde_json::from_slice(body).map_err(|error| Refused::bad_request(format!("send {example} or nothing: {error}")))
}

pub(super) fn accepted(build: BuildId) -> Response {
    (StatusCode::ACCEPTED, Json(json!({"build": build}))).into_response()
}

/// `GET /api/v1/deliveries`
pub(super) async fn deliveries(State(pages): State<Arc<Pages>>, headers: HeaderMap) -> Result<Response, Refused> {
    if !pages.site().may_see_deliveries(&headers) {
        return Err(Refused::for_maintainers());
    }
    let deliveries = pages.records.deliveries(DELIVERIES).await?;
    Ok(Json(json!({"deliveries": deliveries, "refusals": (pages.refusals)()})).into_response())
}

/// Reading that a later version answers.
pub(super) async fn not_built_yet(
    State(pages): State<Arc<Pages>>,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Refused {
    match readable(&pages, &id, query.as_deref(), &headers).await {
        Ok(_) => Refused::not_built_yet("bundle reports"),
        Err(refused) => refused,
    }
}

/// Changes that a later version makes.
pub(super) async fn change_not_built_yet(State(pages): State<Arc<Pages>>, asker: Asker) -> Refused {
    match asker.may_change(&pages) {
        Ok(_) => Refused::not_built_yet("builds by hand"),
        Err(refused) => refused,
    }
}

/// `GET /api/v1/openapi.json`
pub(super) async fn openapi() -> Refused {
    Refused::not_built_yet("OpenAPI document")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_read_whole_or_refused_by_name() {
        let good =
            filter("repo=github/acme/shop&branch=feature%2Fx&state=finished&outcome=timed_out&limit=200&before=12");
        let expected = BuildFilter {
            repo: Some("github/acme/shop".parse().expect("legal")),
            branch: Some("feature/x".into()),
            state: Some(crate::domain::build::State::Finished),
            outcome: Some(crate::domain::outcome::Outcome::TimedOut),
            before: Some(BuildId(12)),
            limit: 200,
        };
        assert_eq!(good, Ok(expected));
        assert_eq!(filter(""), Ok(BuildFilter::default()));
        for bad in [
            "x=1",
            "limit=0",
            "limit=201",
            "limit=-1",
            "limit=1&limit=2",
            "state=done",
            "outcome=ok",
            "before=x",
            "before=0",
            "repo=shop",
            "branch=",
            "state=",
        ] {
            let name = bad.split('=').next().expect("a name");
            assert!(filter(bad).is_err_and(|message| message.contains(name)), "{bad}");
        }
    }

    #[test]
    fn a_build_has_one_address() {
        let check = |text, id: Option<i64>| assert_eq!(build_id(text), id.map(BuildId), "{text}");
        check("12", Some(12));
        for bad in ["", "0", "012", "+12", "-12", "12a", "99999999999999999999", "../12"] {
            check(bad, None);
        }
    }
}

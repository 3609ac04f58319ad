//! What people send from pages: a build's cancel and rerun, signing in and out.

use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{Html, IntoResponse, Response};

use crate::domain::audit::Actor;
use crate::domain::build::BuildId;

use super::Pages;
use super::answer::Refused;
use super::api::{build_id, parameter};
use super::asker::{Asker, form};
use super::auth::local_path;
use super::pages::{html, see_other, set_cookie};
use super::view::Frame;

/// `POST /builds/{id}/cancel`, from the page's own form.
pub(super) async fn cancel(
    State(pages): State<Arc<Pages>>,
    Path(id): Path<String>,
    asker: Asker,
    body: Body,
) -> Result<Response, Refused> {
    let (by, id, _) = form_of_change(&pages, &id, &asker, body).await?;
    pages.records.cancel(id, by).await??;
    pages.hub.publish(id);
    Ok(to_build(&pages, id))
}

/// `POST /builds/{id}/rerun`, from the page's own form.
pub(super) async fn rerun(
    State(pages): State<Arc<Pages>>,
    Path(id): Path<String>,
    asker: Asker,
    body: Body,
) -> Result<Response, Refused> {
    let (by, id, form) = form_of_change(&pages, &id, &asker, body).await?;
    let cache = parameter(Some(&form), "cache").as_deref() != Some("false");
    Ok(to_build(&pages, pages.records.rerun(id, cache, by).await??))
}

/// Who asks, the build and the form of a change, once the right to it is proven.
pub(super) async fn form_of_change(
    pages: &Pages,
    id: &str,
    asker: &Asker,
    body: Body,
) -> Result<(Actor, BuildId, String), Refused> {
    let (by, form) = asker.may_change_by_form(pages, body).await?;
    Ok((by, build_id(id).ok_or_else(Refused::not_found)?, form))
}

pub(super) fn to_build(pages: &Pages, id: BuildId) -> Response {
    see_other(&format!("{}/builds/{id}", pages.site().base()))
}

/// How long a wrong token waits for its answer.
const WRONG_TOKEN: Duration = Duration::from_millis(400);

#[derive(Template)]
#[template(path = "login.html")]
struct LoginPage {
    frame: Frame,
    next: String,
    is_wrong: bool,
}

/// `GET /login`
pub(super) async fn login(
    State(pages): State<Arc<Pages>>,
    uri: Uri,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let next = parameter(query.as_deref(), "next").unwrap_or_default();
    login_page(&pages, &uri, &headers, &next, false).into_response()
}

fn login_page(pages: &Pages, uri: &Uri, headers: &HeaderMap, next: &str, is_wrong: bool) -> Html<String> {
    let frame = Frame::new(&pages.site(), headers, uri, "Sign in · Hookmill");
    html(&LoginPage { frame, next: local_path(next).to_owned(), is_wrong })
}

/// `POST /login`
pub(super) async fn sign_in(State(pages): State<Arc<Pages>>, uri: Uri, headers: HeaderMap, body: Body) -> Response {
    let form = form(body).await;
    let token = parameter(Some(&form), "token").unwrap_or_default();
    let next = parameter(Some(&form), "next").unwrap_or_default();
    let site = pages.site();
    if !site.is_admin_token(token.trim().as_bytes()) {
        tokio::time::sleep(WRONG_TOKEN).await;
        return (StatusCode::FORBIDDEN, login_page(&pages, &uri, &headers, &next, true)).into_response();
    }
    let mut response = see_other(&format!("{}{}", site.base(), local_path(&next)));
    set_cookie(&mut response, &site.open_session());
    response
}

/// `POST /logout`
pub(super) async fn sign_out(State(pages): State<Arc<Pages>>) -> Response {
    let site = pages.site();
    let mut response = see_other(&format!("{}/", site.base()));
    set_cookie(&mut response, &site.close_session());
    response
}

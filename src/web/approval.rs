//! A maintainer's word on a fork's commit, over the API and from the page of its build.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;

use crate::domain::build::Build;
use crate::domain::repo::CommitId;

use super::Pages;
use super::answer::Refused;
use super::api::{asked, change, parameter};
use super::asker::Asker;
use super::auth::Site;
use super::forms::{form_of_change, to_build};
use super::view::path_encoded;

/// The body of an approval; an empty one approves the commit of the build that the address names.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Approve {
    /// The commit that was looked at, by its whole name: a few digits of one are found again within minutes.
    #[serde(default)]
    sha: Option<CommitId>,
}

/// `POST /api/v1/builds/{id}/approve`
pub(super) async fn approve(
    State(pages): State<Arc<Pages>>,
    Path(id): Path<String>,
    asker: Asker,
    body: Body,
) -> Result<Response, Refused> {
    let (by, id) = change(&pages, &id, &asker)?;
    let Approve { sha } = asked(body, r#"{"sha": "<the whole name of the commit>"}"#).await?;
    let sha = pages.records.approve(id, sha, by).await??;
    pages.hub.publish(id);
    Ok((StatusCode::ACCEPTED, Json(json!({"build": id, "sha": sha}))).into_response())
}

/// `POST /builds/{id}/approve`, from the page's own form, which names the commit that it shows.
pub(super) async fn approve_from_page(
    State(pages): State<Arc<Pages>>,
    Path(id): Path<String>,
    asker: Asker,
    body: Body,
) -> Result<Response, Refused> {
    let (by, id, form) = form_of_change(&pages, &id, &asker, body).await?;
    let sha = parameter(Some(&form), "sha").unwrap_or_default();
    let sha = sha.parse().map_err(|_| Refused::bad_request("the form names no commit: load the page again"))?;
    pages.records.approve(id, Some(sha), by).await??;
    pages.hub.publish(id);
    Ok(to_build(&pages, id))
}

/// What a maintainer is asked on the page of a build that waits.
pub(super) struct Question {
    /// The whole name of the commit.
    pub(super) sha: String,
    pub(super) pull_request: Option<u64>,
    pub(super) author: Option<String>,
    /// What exactly this commit changes, at the forge.
    pub(super) diff: Option<String>,
}

impl Question {
    pub(super) fn new(site: &Site, build: &Build) -> Self {
        Question {
            sha: build.sha.to_string(),
            pull_request: build.pull_request,
            author: build.author.as_deref().map(super::ansi::shown),
            diff: diff_url(site, build),
        }
    }
}

/// What the commit changes of the base that it was opened on. Both by their names and not by the pull request's number,
/// which shows what it holds by now. GitHub, Gitea and Forgejo have the same address for it.
fn diff_url(site: &Site, build: &Build) -> Option<String> {
    let forge = site.forge_page(&build.repo.forge)?.as_str().trim_end_matches('/');
    let base = build.base_sha.as_ref()?;
    Some(format!("{forge}/{}/compare/{base}...{}", path_encoded(build.repo.path.as_str()), build.sha))
}

//! The pages. They read without JavaScript; a little of it makes a running build live.

use std::sync::Arc;

use askama::Template;
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};

use crate::domain::build::{Build, BuildId, State as BuildState};
use crate::domain::repo::RepoId;
use crate::domain::spec::Explanation;

use super::Pages;
use super::answer::Refused;
use super::api::{build_id, filter, page_of_builds, parameter, readable};
use super::approval::Question;
use super::asset::short_hash;
use super::elsewhere::why_it_waits;
use super::paging::Given;
use super::records::BuildFilter;
use super::view::{
    Frame, KeptFiles, Lane, Mark, Moment, Moved, OtherBuild, Reasoned, Summary, lanes, now, path_encoded,
};

/// How much of a step's log stands on the page; the whole is a link away.
const TAIL_LINES: usize = 200;
const TAIL_BYTES: u64 = 32 * 1024;

#[derive(Template)]
#[template(path = "message.html")]
struct MessagePage {
    frame: Frame,
    heading: &'static str,
    message: String,
    offer_sign_in: bool,
}

/// Says to people, as a page, why they are refused.
pub(super) async fn with_refusals(
    State(pages): State<Arc<Pages>>,
    uri: Uri,
    headers: HeaderMap,
    request: Request,
    next: Next,
) -> Response {
    let mut answer = next.run(request).await;
    match answer.extensions_mut().remove::<Refused>() {
        Some(refused) => message(&pages, &uri, &headers, refused),
        None => answer,
    }
}

fn message(pages: &Pages, uri: &Uri, headers: &HeaderMap, refused: Refused) -> Response {
    let (status, message) = refused.into_parts();
    let heading = match status {
        StatusCode::NOT_FOUND => "Nothing here for you",
        StatusCode::FORBIDDEN => "Not allowed",
        StatusCode::CONFLICT => "Not now",
        StatusCode::BAD_REQUEST => "That makes no sense here",
        _ => "Something is wrong on our side",
    };
    let site = pages.site();
    let offer_sign_in = matches!(status, StatusCode::NOT_FOUND | StatusCode::FORBIDDEN);
    let frame = Frame::new(&site, headers, uri, heading);
    (status, html(&MessagePage { frame, heading, message, offer_sign_in })).into_response()
}

pub(super) fn html(page: &impl Template) -> Html<String> {
    Html(page.render().expect("templates are checked when compiled, and a String takes any text"))
}

/// What is no route: JSON for programs, a page for people.
pub(super) async fn unknown(State(pages): State<Arc<Pages>>, uri: Uri, headers: HeaderMap) -> Response {
    if uri.path().starts_with("/api/") {
        return Refused::not_found().into_response();
    }
    message(&pages, &uri, &headers, Refused::not_found())
}

#[derive(Template)]
#[template(path = "list.html")]
struct ListPage {
    frame: Frame,
    /// The repository, when the list is of one.
    repo: Option<String>,
    address: String,
    filter: BuildFilter,
    is_filtered: bool,
    rows: Vec<Summary>,
    /// Why queued builds are not started.
    waits: Option<String>,
    older: Option<String>,
}

/// `GET /`
pub(super) async fn list(
    State(pages): State<Arc<Pages>>,
    uri: Uri,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    list_page(&pages, &uri, query.as_deref(), &headers, None).await
}

/// `GET /repos/{forge}/{path}` and `…/-/badge.svg`
pub(super) async fn repository(
    State(pages): State<Arc<Pages>>,
    Path(rest): Path<String>,
    uri: Uri,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    if let Some(repo) = rest.strip_suffix("/-/badge.svg") {
        return badge(&pages, repo, query.as_deref(), &headers).await;
    }
    let repo = rest.parse().map_err(|_| Refused::not_found())?;
    list_page(&pages, &uri, query.as_deref(), &headers, Some(repo)).await
}

async fn list_page(
    pages: &Pages,
    uri: &Uri,
    query: Option<&str>,
    headers: &HeaderMap,
    repo: Option<RepoId>,
) -> Result<Response, Refused> {
    let site = pages.site();
    if !site.may_read_all(headers) {
        return Err(Refused::not_found());
    }
    let given = Given::in_query(query);
    let mut filter = filter(&given.query()).map_err(Refused::bad_request)?;
    if repo.is_some() {
        if filter.repo.is_some() {
            return Err(Refused::bad_request("the address names the repository already"));
        }
        filter.repo.clone_from(&repo);
    }
    let (builds, next) = page_of_builds(pages, filter.clone()).await?;
    let older = next.map(|next| given.older(next.0));
    let now = now();
    let title = repo.as_ref().map_or("Builds · Hookmill".to_owned(), |repo| format!("{repo} · Hookmill"));
    let page = ListPage {
        frame: Frame::new(&site, headers, uri, super::ansi::shown(&title)),
        repo: repo.map(|repo| super::ansi::shown(&repo.to_string())),
        address: site.address(),
        is_filtered: !given.is_empty(),
        filter,
        rows: builds.iter().map(|build| Summary::new(build, now)).collect(),
        waits: why_it_waits(pages, &builds).await?.map(|why| super::ansi::shown(&why)),
        older,
    };
    Ok(html(&page).into_response())
}

#[derive(Template)]
#[template(path = "badge.svg")]
struct Badge {
    mark: Mark,
    /// In pixels, by the usual width of a letter.
    label: usize,
    word: usize,
}

/// The state of a branch as a picture; by default of the default branch.
async fn badge(pages: &Pages, repo: &str, query: Option<&str>, headers: &HeaderMap) -> Result<Response, Refused> {
    if !pages.site().may_read_all(headers) {
        return Err(Refused::not_found());
    }
    let repo: RepoId = repo.parse().map_err(|_| Refused::not_found())?;
    let mut filter = BuildFilter { repo: Some(repo), limit: 1, ..BuildFilter::default() };
    filter.branch = parameter(query, "branch").filter(|branch| !branch.is_empty());
    let mut newest = pages.records.builds(filter.clone()).await?.into_iter().next();
    if filter.branch.is_none() {
        let default = newest.as_ref().and_then(|build| build.default_branch.clone());
        if let Some(default) =
            default.filter(|default| newest.as_ref().is_some_and(|build| build.branch.as_ref() != Some(default)))
        {
            filter.branch = Some(default);
            newest = pages.records.builds(filter).await?.into_iter().next().or(newest);
        }
    }
    let mark = Mark::of_build(&newest.ok_or_else(Refused::not_found)?);
    let width = |word: &str| word.chars().count() * 7 + 12;
    let picture = Badge { mark, label: width("hookmill"), word: width(mark.word) };
    let picture = html(&picture).0;
    let tag = format!("\"{}\"", short_hash([picture.as_str()]));
    let fixed = [(header::CONTENT_TYPE, "image/svg+xml"), (header::CACHE_CONTROL, "no-cache"), (header::ETAG, &tag)];
    if headers.get(header::IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == tag.as_bytes()) {
        return Ok((StatusCode::NOT_MODIFIED, fixed).into_response());
    }
    Ok((fixed, picture).into_response())
}

#[derive(Template)]
#[template(path = "build.html")]
struct BuildPage {
    frame: Frame,
    summary: Summary,
    lanes: Vec<Lane>,
    /// The places of the lanes in the order of their logs: those to look at first.
    logs: Vec<usize>,
    commit_url: Option<String>,
    event: &'static str,
    trust: &'static str,
    waited: Option<String>,
    sandbox: String,
    kept: Option<KeptFiles>,
    attempt: u32,
    rerun_of: Option<BuildId>,
    superseded_by: Option<BuildId>,
    same_as: Option<OtherBuild>,
    use_cache: bool,
    /// What it left for later builds.
    kept_levels: String,
    notices: Vec<String>,
    decisions: Vec<Reasoned>,
    /// What moved it, and why.
    history: Vec<Moved>,
    approved_by: Option<String>,
    approved_at: Option<Moment>,
    is_finished: bool,
    is_waiting: bool,
    /// What a maintainer decides on, while it waits.
    question: Option<Question>,
    /// Why it has not begun, while it is queued.
    waits: Option<String>,
    /// The agent that ran it or runs it.
    agent: Option<String>,
    /// Its log lies on that agent's disk alone.
    log_is_elsewhere: bool,
    /// Lines to paste that mend the build.
    mend: Option<String>,
    /// Where the live stream goes on from what the page shows.
    events: String,
}

/// `GET /builds/{id}`
pub(super) async fn build(
    State(pages): State<Arc<Pages>>,
    Path(id): Path<String>,
    uri: Uri,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    match parameter(query.as_deref(), "key") {
        Some(key) => without_key(&pages, &id, &key, &headers),
        None => build_page(&pages, &id, &uri, &headers).await,
    }
}

/// Moves a link's key into a cookie, so that it stands in no history, no referrer and no screenshot.
fn without_key(pages: &Pages, id: &str, key: &str, headers: &HeaderMap) -> Result<Response, Refused> {
    let site = pages.site();
    let id = build_id(id).filter(|&id| site.may_read(id, headers, Some(key))).ok_or_else(Refused::not_found)?;
    let mut response = see_other(&format!("{}/builds/{id}", site.base()));
    if !site.may_read(id, headers, None) {
        set_cookie(&mut response, &site.remember_key(headers, id, key));
    }
    Ok(response)
}

async fn build_page(pages: &Pages, id: &str, uri: &Uri, headers: &HeaderMap) -> Result<Response, Refused> {
    let build = readable(pages, id, None, headers).await?;
    let Explanation { mut notices, decisions } = pages.records.explanation(build.id).await?.unwrap_or_default();
    let rulings = pages.records.rulings(build.id).await?;
    notices.extend(pages.records.told(build.id).await?.iter().filter_map(super::view::never_told));
    super::elsewhere::bring_log(pages, &build).await;
    let (logs, id) = (pages.logs.clone(), build.id);
    let tails = tokio::task::spawn_blocking(move || logs.tails(id, TAIL_LINES, TAIL_BYTES));
    let tails = tails.await.map_err(|_stopping| std::io::Error::other("the server is stopping"))??;
    let log_is_elsewhere = tails.steps.is_empty() && super::elsewhere::is_unreachable(pages, &build);
    let kept = KeptFiles::of(&super::artifacts::of_build(pages, &build).await?);
    let (site, now) = (pages.site(), now());
    let may_open = |id| site.may_read(id, headers, None);
    let events = format!("{}/api/v1/builds/{id}/events?after={}", site.base(), tails.cursor);
    let summary = Summary::new(&build, now);
    let mut lanes = lanes(&build, tails, now);
    // What mends the build stands with its reason, above everything else.
    let at_fault = lanes.iter_mut().find(|lane| lane.mend.is_some() && lane.reason == summary.reason);
    let mend = at_fault.and_then(|lane| lane.mend.take());
    let mut logs: Vec<usize> = (0..lanes.len()).collect();
    if build.state == BuildState::Finished {
        logs.sort_by_key(|&at| !lanes[at].open);
    }
    let title = format!("{} #{id} {} · {}", summary.mark.sign, summary.title, summary.repo);
    let page = BuildPage {
        frame: Frame::new(&site, headers, uri, title),
        commit_url: commit_url(&site, &build),
        event: build.cause.words(),
        trust: build.trust.as_str(),
        waited: build.started_at.map(|start| crate::domain::time::brief(start.since(build.created_at))),
        sandbox: super::ansi::shown(&build.sandbox),
        kept,
        attempt: build.attempt,
        rerun_of: build.rerun_of,
        superseded_by: build.superseded_by,
        same_as: build.same_as.map(|id| OtherBuild { id, is_open: may_open(id) }),
        use_cache: build.use_cache,
        kept_levels: build.kept_in_words(),
        notices: notices.iter().map(|notice| super::ansi::shown(notice)).collect(),
        decisions: decisions.iter().map(Reasoned::new).collect(),
        history: rulings.iter().map(|ruling| Moved::new(ruling, now, may_open)).collect(),
        approved_by: build.approved_by.as_deref().map(super::ansi::shown),
        approved_at: build.approved_at.map(|at| Moment::new(at, now)),
        is_finished: build.state == BuildState::Finished,
        is_waiting: build.state == BuildState::Waiting,
        question: (build.state == BuildState::Waiting).then(|| Question::new(&site, &build)),
        waits: why_it_waits(pages, std::slice::from_ref(&build)).await?.map(|why| super::ansi::shown(&why)),
        agent: build.agent.as_deref().map(super::ansi::shown),
        log_is_elsewhere,
        events,
        mend,
        lanes,
        logs,
        summary,
    };
    Ok(html(&page).into_response())
}

/// The commit at its forge; GitHub, Gitea and Forgejo have the same address for it.
fn commit_url(site: &super::Site, build: &Build) -> Option<String> {
    let forge = site.forge_page(&build.repo.forge)?.as_str().trim_end_matches('/');
    Some(format!("{forge}/{}/commit/{}", path_encoded(build.repo.path.as_str()), build.sha))
}

pub(super) fn see_other(path: &str) -> Response {
    (StatusCode::SEE_OTHER, [(header::LOCATION, path)]).into_response()
}

pub(super) fn set_cookie(response: &mut Response, cookie: &str) {
    let cookie = HeaderValue::from_str(cookie).expect("cookies are made of numbers, base64url and our own words");
    response.headers_mut().append(header::SET_COOKIE, cookie);
}

//! Who changed what: `GET /api/v1/audit` and `/audit`, for whoever may change things.

use std::sync::Arc;

use askama::Template;
use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, Uri};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;

use crate::domain::audit::{Act, Actor, AuditEntry};
use crate::domain::build::BuildId;
use crate::domain::time::Timestamp;

use super::answer::Refused;
use super::pages::html;
use super::paging::Given;
use super::records::AuditFilter;
use super::view::{Frame, Moment, now};
use super::{Pages, paging};

/// An entry, as the API shows it.
#[derive(Serialize)]
struct Line {
    id: i64,
    at: Timestamp,
    #[serde(flatten)]
    actor: Actor,
    repo: Option<String>,
    build: Option<BuildId>,
    #[serde(flatten)]
    act: Act,
    /// The same in a sentence.
    says: String,
}

impl From<AuditEntry> for Line {
    fn from(entry: AuditEntry) -> Self {
        let AuditEntry { id, at, deed } = entry;
        let says = deed.says();
        Line {
            id,
            at,
            actor: deed.actor,
            repo: deed.repo.map(|repo| repo.to_string()),
            build: deed.build,
            act: deed.act,
            says,
        }
    }
}

/// `GET /api/v1/audit`
pub(super) async fn document(
    State(pages): State<Arc<Pages>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    if !pages.site().may_see_deliveries(&headers) {
        return Err(Refused::for_maintainers());
    }
    let filter = filter(query.as_deref().unwrap_or_default()).map_err(Refused::bad_request)?;
    let (entries, next) = page_of_entries(&pages, filter).await?;
    let entries: Vec<Line> = entries.into_iter().map(Line::from).collect();
    Ok(Json(json!({"entries": entries, "next": next})).into_response())
}

/// One page of entries, and the number before which the next page begins.
async fn page_of_entries(pages: &Pages, mut filter: AuditFilter) -> Result<(Vec<AuditEntry>, Option<i64>), Refused> {
    let wanted = filter.limit;
    filter.limit += 1;
    Ok(paging::page(pages.records.audit(filter).await?, wanted, |entry| entry.id))
}

/// Reads `repo`, `since`, `limit`, `before`; anything else is refused by name.
fn filter(query: &str) -> Result<AuditFilter, String> {
    let mut filter = AuditFilter::default();
    paging::each_parameter(query, "repo, since, limit, before", |name, value| {
        match name {
            "repo" => filter.repo = Some(value.parse().map_err(|_| "write forge/owner/name")?),
            "since" => {
                let at = humantime::parse_rfc3339(value).map_err(|_| "write 2026-01-31T00:00:00Z")?;
                filter.since = Some(at.into());
            }
            "limit" => filter.limit = paging::limit(value)?,
            "before" => filter.before = Some(paging::before(value, "an entry")?),
            _ => return Ok(false),
        }
        Ok(true)
    })?;
    Ok(filter)
}

#[derive(Template)]
#[template(path = "audit.html")]
struct AuditPage {
    frame: Frame,
    repo: String,
    is_filtered: bool,
    rows: Vec<Row>,
    older: Option<String>,
}

/// An entry on the page.
struct Row {
    at: Moment,
    who: String,
    via: &'static str,
    from: Option<String>,
    word: &'static str,
    says: String,
    repo: Option<String>,
    build: Option<BuildId>,
    /// The files of a configuration, each with the beginning of its digest.
    files: Vec<(String, String)>,
}

impl Row {
    fn new(entry: &AuditEntry, now: Timestamp) -> Self {
        let deed = &entry.deed;
        let files = match &deed.act {
            Act::ConfigurationLoaded { files, .. } => &files[..],
            _ => &[],
        };
        let digest = |sha256: &str| sha256.chars().take(12).collect();
        Row {
            at: Moment::new(entry.at, now),
            who: super::ansi::shown(&deed.actor.who),
            via: deed.actor.via.words(),
            from: deed.actor.from.as_deref().map(super::ansi::shown),
            word: deed.act.word(),
            says: super::ansi::shown(&deed.says()),
            repo: deed.repo.as_ref().map(|repo| super::ansi::shown(&repo.to_string())),
            build: deed.build,
            files: files.iter().map(|file| (super::ansi::shown(&file.path), digest(&file.sha256))).collect(),
        }
    }
}

/// `GET /audit`
pub(super) async fn page(
    State(pages): State<Arc<Pages>>,
    uri: Uri,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let site = pages.site();
    if !site.may_see_deliveries(&headers) {
        return Err(Refused::for_maintainers());
    }
    let given = Given::in_query(query.as_deref());
    let filter = filter(&given.query()).map_err(Refused::bad_request)?;
    let repo = filter.repo.as_ref().map(|repo| super::ansi::shown(&repo.to_string())).unwrap_or_default();
    let (entries, next) = page_of_entries(&pages, filter).await?;
    let older = next.map(|next| given.older(next));
    let now = now();
    let frame = Frame::new(&site, &headers, &uri, "Audit · Hookmill");
    let rows = entries.iter().map(|entry| Row::new(entry, now)).collect();
    Ok(html(&AuditPage { frame, repo, is_filtered: !given.is_empty(), rows, older }).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_read_whole_or_refused_by_name() {
        let good = filter("repo=github/acme/shop&since=2026-01-31T00:00:00Z&limit=3&before=9").expect("known");
        assert_eq!((good.limit, good.before), (3, Some(9)));
        assert_eq!(good.since.map(|at| at.to_string()).as_deref(), Some("2026-01-31T00:00:00.000Z"));
        assert_eq!(filter("").expect("nothing asked"), AuditFilter::default());
        for bad in ["repo=x", "since=yesterday", "limit=0", "limit=201", "before=0", "who=jane", "limit=1&limit=2"] {
            let said = filter(bad).expect_err(bad);
            assert!(said.contains(bad.split('=').next().unwrap_or(bad)), "{said}");
        }
    }
}

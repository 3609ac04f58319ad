//! The door for people and programs: pages, API, live stream, health.
//!
//! It translates and never decides: what a build is comes through [`Records`], what it wrote from
//! [`Logs`], and who may see or change it from [`auth`].

mod agents;
mod ansi;
mod answer;
mod api;
mod approval;
mod artifacts;
mod asker;
mod asset;
mod audit;
pub mod auth;
mod body;
mod elsewhere;
mod forms;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod health;
pub mod hook;
pub mod listener;
mod log;
mod outbox;
mod pages;
mod paging;
mod ranged;
mod records;
mod stream;
mod view;

use std::sync::{Arc, PoisonError, RwLock};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn_with_state, map_response};
use axum::routing::{get, post};

use crate::blobs::{Artifacts, Depot, Fetcher, Logs};
use crate::live::Hub;
use crate::runner::follow::Words;

pub use auth::Site;
pub use records::{
    Answer, AuditFilter, BuildFilter, ChangeRefused, Counts, Delivery, Outbox, Part, PausedForge, Records, Refusal,
    TokenEnd, Told, Unavailable, Undelivered,
};

/// No form and no body of the API is longer than this many bytes.
const BODY_MAX: usize = 16 * 1024;

/// Everything that the pages and the API are made from.
pub struct Pages {
    /// What is known of builds.
    pub records: Arc<dyn Records>,
    /// What builds wrote, line by line.
    pub logs: Logs,
    /// What builds left to be kept.
    pub artifacts: Artifacts,
    /// Brings both here from other machines.
    pub elsewhere: Fetcher,
    /// Who is told when there is news.
    pub hub: Hub,
    /// The last requests that the hooks refused, newest first.
    pub refusals: Box<dyn Fn() -> Vec<Refusal> + Send + Sync>,
    site: RwLock<Arc<Site>>,
}

/// What is kept of builds beside their records.
#[derive(Debug, Clone)]
pub struct Kept {
    /// Step output.
    pub logs: Logs,
    /// Files.
    pub artifacts: Artifacts,
    /// What several machines share.
    pub depot: Option<Depot>,
}

impl Pages {
    /// The parts, joined.
    pub fn new(
        site: Site,
        records: Arc<dyn Records>,
        kept: Kept,
        hub: Hub,
        refusals: impl Fn() -> Vec<Refusal> + Send + Sync + 'static,
    ) -> Self {
        let Kept { logs, artifacts, depot } = kept;
        let elsewhere = Fetcher::new(logs.clone(), artifacts.clone(), depot);
        Pages {
            records,
            logs,
            artifacts,
            elsewhere,
            hub,
            refusals: Box::new(refusals),
            site: RwLock::new(Arc::new(site)),
        }
    }

    /// Takes a configuration that was read again; requests that are being answered keep the old one.
    pub fn reconfigure(&self, site: Site) {
        *self.site.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(site);
    }

    fn words(&self) -> Words {
        Words { logs: self.logs.clone(), elsewhere: self.elsewhere.clone() }
    }

    fn site(&self) -> Arc<Site> {
        Arc::clone(&self.site.read().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Every route but the hooks'.
pub fn router(pages: Arc<Pages>) -> Router {
    let reading = Router::new()
        .route("/healthz", get(health::alive))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .route("/api/v1/builds", get(api::builds))
        .route("/api/v1/builds/{id}", get(api::build))
        .route("/api/v1/builds/{id}/plan", get(api::plan))
        .route("/api/v1/builds/{id}/log", get(log::log))
        .route("/api/v1/builds/{id}/events", get(stream::events))
        .route("/api/v1/builds/{id}/stats", get(api::not_built_yet))
        .route("/api/v1/builds/{id}/artifacts", get(artifacts::list))
        .route("/api/v1/builds/{id}/artifacts/{*path}", get(artifacts::file))
        .route("/api/v1/agents", get(agents::list))
        .route("/api/v1/deliveries", get(api::deliveries))
        .route("/api/v1/outbox", get(outbox::document))
        .route("/api/v1/audit", get(audit::document))
        .route("/api/v1/openapi.json", get(api::openapi))
        .route("/assets/{version}/{name}", get(asset::asset));
    let changing = Router::new()
        .route("/api/v1/builds/{id}/cancel", post(api::cancel))
        .route("/api/v1/builds/{id}/rerun", post(api::rerun))
        .route("/api/v1/builds/{id}/resend", post(outbox::resend))
        .route("/api/v1/builds/{id}/approve", post(approval::approve))
        .route("/api/v1/repos/{*rest}", post(api::change_not_built_yet))
        .route("/api/v1/agents/{name}/{order}", post(agents::order));
    let for_people = Router::new()
        .route("/", get(pages::list))
        .route("/repos/{*rest}", get(pages::repository))
        .route("/builds/{id}", get(pages::build))
        .route("/agents", get(agents::page))
        .route("/health", get(outbox::page))
        .route("/audit", get(audit::page))
        .route("/agents/{name}/{order}", post(agents::order_from_page))
        .route("/builds/{id}/cancel", post(forms::cancel))
        .route("/builds/{id}/rerun", post(forms::rerun))
        .route("/builds/{id}/resend", post(outbox::resend_from_page))
        .route("/builds/{id}/approve", post(approval::approve_from_page))
        .route("/login", get(forms::login).post(forms::sign_in))
        .route("/logout", post(forms::sign_out))
        .layer(from_fn_with_state(Arc::clone(&pages), pages::with_refusals));
    reading
        .merge(changing)
        .merge(for_people)
        .fallback(pages::unknown)
        .layer(DefaultBodyLimit::max(BODY_MAX))
        .layer(map_response(answer::fence))
        .with_state(pages)
}

/// The same routes with and without the path of `public_url` before them: some reverse proxies cut it, some don't.
///
/// `site` is as at the start; a path that changes later needs a restart.
pub fn under_public_path(site: &Site, router: Router) -> Router {
    match site.base() {
        "" => router,
        base => Router::new().nest(base, router.clone()).fallback_service(router),
    }
}

//! A small forge in the demo's own process: git over HTTP, the statuses API in Gitea's form, a page with the commits
//! and their checks, and signed deliveries of pushes.

mod git;
mod page;
mod push;
mod statuses;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::response::Redirect;
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::domain::repo::CommitId;
use crate::domain::status::Status;
use crate::domain::time::Timestamp;

pub(super) use push::{Answer, NotDelivered, Push};

/// The one repository, as the forge names it.
pub(super) const REPOSITORY: &str = "demo/shop";

/// A commit that was pushed.
#[derive(Debug, Clone)]
pub(super) struct Pushed {
    /// Its id.
    pub commit: CommitId,
    /// Its subject line.
    pub subject: String,
    /// When it was pushed.
    pub at: Timestamp,
}

/// A status as it came in by the API.
#[derive(Debug, Clone)]
pub(super) struct Received {
    /// The commit it is for.
    pub commit: CommitId,
    /// What it says.
    pub status: Status,
    /// The link it carries; empty when it carries none.
    pub target_url: String,
    /// When it came in.
    pub at: Timestamp,
}

/// What the forge remembers.
#[derive(Debug, Default)]
struct Memory {
    /// The oldest first.
    pushed: Vec<Pushed>,
    /// Everything that was ever received, by commit, the oldest first.
    statuses: HashMap<CommitId, Vec<Received>>,
}

/// What the routes share.
struct Shared {
    /// `http://127.0.0.1:PORT`.
    url: String,
    token: String,
    /// Where the bare repositories are.
    repositories: PathBuf,
    memory: Mutex<Memory>,
    heard: mpsc::UnboundedSender<Received>,
}

impl Shared {
    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The running forge. Dropping it stops it.
pub(super) struct Forge {
    shared: Arc<Shared>,
    serving: JoinHandle<()>,
}

impl Forge {
    /// Starts on a free loopback port. Each status is also sent to `heard`.
    ///
    /// # Errors
    /// When no port can be opened.
    pub(super) async fn start(
        repositories: &Path,
        token: String,
        heard: mpsc::UnboundedSender<Received>,
    ) -> std::io::Result<Self> {
        let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
        let shared = Arc::new(Shared {
            url: format!("http://{}", listener.local_addr()?),
            token,
            repositories: repositories.to_owned(),
            memory: Mutex::default(),
            heard,
        });
        let router = router(shared.clone());
        let serving = tokio::spawn(async move {
            // It ends only with the task: axum retries what accept(2) refuses.
            let _ = axum::serve(listener, router).await;
        });
        Ok(Self { shared, serving })
    }

    /// `http://127.0.0.1:PORT`: what the configuration calls `web_url`.
    pub(super) fn url(&self) -> &str {
        &self.shared.url
    }

    /// The page of the repository.
    pub(super) fn page(&self) -> String {
        format!("{}/{REPOSITORY}", self.shared.url)
    }

    /// The file system path of a repository that is served as `{url}/{name}.git`.
    pub(super) fn repository(&self, name: &str) -> PathBuf {
        self.shared.repositories.join(format!("{name}.git"))
    }

    /// Notes that a commit is there, so that the page shows it and statuses are taken for it.
    pub(super) fn remember(&self, pushed: Pushed) {
        self.shared.memory().pushed.push(pushed);
    }
}

impl Drop for Forge {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/", get(async || Redirect::to(&format!("/{REPOSITORY}"))))
        .route("/demo/shop", get(page::show))
        .route("/api/v1/repos/demo/shop/statuses/{sha}", post(statuses::create).get(statuses::list))
        .route("/api/v1/repos/demo/shop/commits/{sha}/statuses", get(statuses::list))
        .fallback(git::serve)
        .with_state(shared)
}

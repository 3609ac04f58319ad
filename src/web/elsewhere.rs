//! Brings what other machines built, before it is shown.

use std::time::Duration;

use crate::blobs::Presence;
use crate::domain::build::{Build, BuildId, State};

use super::Pages;

/// A page waits so long for what is elsewhere; then it shows what is here, and its live part the rest.
const PATIENCE: Duration = Duration::from_secs(2);

/// Brings a build's log as far as it is written, or as far as patience reaches.
pub(super) async fn bring_log(pages: &Pages, build: &Build) -> Presence {
    let has_begun = build.started_at.is_some();
    if !pages.elsewhere.is_shared() || !has_begun {
        return Presence::Here;
    }
    let (elsewhere, id, is_settled) = (pages.elsewhere.clone(), build.id, build.state == State::Finished);
    let bringing = tokio::task::spawn_blocking(move || elsewhere.bring(id, is_settled));
    tokio::time::timeout(PATIENCE, bringing).await.ok().and_then(Result::ok).unwrap_or(Presence::Partly)
}

/// Brings the list of a finished build's artifacts. Its log comes first: only that says whether there are any.
pub(super) async fn bring_artifacts(pages: &Pages, build: BuildId) {
    if !pages.elsewhere.is_shared() {
        return;
    }
    let elsewhere = pages.elsewhere.clone();
    let bringing = tokio::task::spawn_blocking(move || {
        elsewhere.bring(build, true);
        elsewhere.bring_list(build);
    });
    // What takes longer is there the next time.
    let _ = tokio::time::timeout(PATIENCE, bringing).await;
}

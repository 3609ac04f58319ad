//! Brings what other machines built, before it is shown.

use std::time::Duration;

use crate::blobs::Presence;
use crate::domain::agent;
use crate::domain::build::{Build, BuildId, State};

use super::Pages;
use super::answer::Refused;

/// A page waits so long for what is elsewhere; then it shows what is here, and its live part the rest.
const PATIENCE: Duration = Duration::from_secs(2);
/// How soon it is looked for again.
const AGAIN: Duration = Duration::from_millis(200);

/// Brings a build's log as far as it is written, or as far as patience reaches.
pub(super) async fn bring_log(pages: &Pages, build: &Build) -> Presence {
    let has_begun = build.started_at.is_some();
    if !pages.elsewhere.is_shared() || !has_begun {
        return Presence::Here;
    }
    let (elsewhere, id, is_settled) = (pages.elsewhere.clone(), build.id, build.state == State::Finished);
    let bringing = async {
        loop {
            let elsewhere = elsewhere.clone();
            let brought = tokio::task::spawn_blocking(move || elsewhere.bring(id, is_settled)).await;
            match brought {
                // The last lines of a build that just ended are on their way.
                Ok(Presence::Partly) if is_settled => tokio::time::sleep(AGAIN).await,
                Ok(found) => return found,
                Err(_stopping) => return Presence::Partly,
            }
        }
    };
    tokio::time::timeout(PATIENCE, bringing).await.unwrap_or(Presence::Partly)
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

/// Whether a build's log lies on another machine's disk, from which nobody brings it.
pub(super) fn is_unreachable(pages: &Pages, build: &Build) -> bool {
    let is_others = build.agent.as_deref().is_some_and(|agent| pages.records.own_agent() != Some(agent));
    is_others && build.started_at.is_some() && !pages.elsewhere.is_shared()
}

/// What is said instead of a log that can't be had.
pub(super) fn unreachable_in_words(build: &Build) -> String {
    let agent = build.agent.as_deref().unwrap_or_default();
    format!("the log is on agent {agent}; set [data] blobs_url, so that every server shows what any agent built")
}

/// Why those of the builds that are queued have not begun: for want of agents, or of room on a disk. `None` where none is
/// queued, and where one is about to begin.
pub(super) async fn why_it_waits(pages: &Pages, builds: &[Build]) -> Result<Option<String>, Refused> {
    if builds.iter().all(|build| build.state != State::Queued) {
        return Ok(None);
    }
    let of_agents = agent::why_it_waits(&pages.records.agents().await?);
    Ok(of_agents.or_else(|| pages.records.waits()))
}

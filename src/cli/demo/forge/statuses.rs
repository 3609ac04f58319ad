//! The statuses of a commit, by Gitea's API
//! (<https://docs.gitea.com/api>, `POST /repos/{owner}/{repo}/statuses/{sha}`).

use std::sync::Arc;
use std::time::SystemTime;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::domain::repo::CommitId;
use crate::domain::status::{Status, StatusState};
use crate::domain::time::Timestamp;

use super::{Received, Shared};

/// What a client sends.
#[derive(Debug, Deserialize)]
pub(super) struct CreateStatus {
    state: StatusState,
    #[serde(default)]
    target_url: String,
    #[serde(default)]
    description: String,
    context: String,
}

type Refusal = (StatusCode, Json<Value>);

pub(super) async fn create(
    State(shared): State<Arc<Shared>>,
    Path(sha): Path<String>,
    headers: HeaderMap,
    Json(body): Json<CreateStatus>,
) -> Result<(StatusCode, Json<Value>), Refusal> {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if given.strip_prefix("token ").or_else(|| given.strip_prefix("Bearer ")) != Some(shared.token.as_str()) {
        return Err(refuse(StatusCode::UNAUTHORIZED, "token is required"));
    }
    let commit = known(&shared, &sha)?;
    let received = Received {
        commit: commit.clone(),
        status: Status { context: body.context, state: body.state, sentence: body.description },
        target_url: body.target_url,
        at: Timestamp::from(SystemTime::now()),
    };
    let shown = as_gitea(&received);
    shared.memory().statuses.entry(commit).or_default().push(received.clone());
    // Nobody listens any more when the demo is ending.
    let _ = shared.heard.send(received);
    Ok((StatusCode::CREATED, Json(shown)))
}

pub(super) async fn list(State(shared): State<Arc<Shared>>, Path(sha): Path<String>) -> Result<Json<Value>, Refusal> {
    let commit = known(&shared, &sha)?;
    let memory = shared.memory();
    let received = memory.statuses.get(&commit).map(Vec::as_slice).unwrap_or_default();
    Ok(Json(received.iter().rev().map(as_gitea).collect()))
}

fn known(shared: &Shared, sha: &str) -> Result<CommitId, Refusal> {
    let memory = shared.memory();
    let pushed = memory.pushed.iter().find(|pushed| pushed.commit.as_str() == sha);
    pushed.map(|pushed| pushed.commit.clone()).ok_or_else(|| refuse(StatusCode::NOT_FOUND, "no such commit"))
}

fn refuse(code: StatusCode, message: &str) -> Refusal {
    (code, Json(json!({ "message": message })))
}

/// Gitea asks for `state` and answers `status`.
fn as_gitea(received: &Received) -> Value {
    json!({
        "status": received.status.state,
        "context": received.status.context,
        "description": received.status.sentence,
        "target_url": received.target_url,
        "created_at": received.at,
    })
}

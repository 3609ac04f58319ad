//! What a hook is answered.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use super::body::{LARGEST, Unread};
use crate::domain::build::BuildId;
use crate::domain::repo::RepoPath;
use crate::domain::rule::Rule;
use crate::forge::{BadPayload, Refused};

/// What became of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The forge's id of the delivery.
    pub delivery: String,
    /// The builds that it made, or that an earlier delivery of the same made.
    pub builds: Vec<BuildId>,
    /// Why no build was made; `None` when one was, or when builds were cancelled.
    pub ignored: Option<String>,
    /// The builds that it cancelled.
    pub cancelled: Vec<BuildId>,
    /// The rule that decided it.
    pub rule: Option<Rule>,
}

/// A delivery that could not be stored. The forge is asked to send it again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct NotTaken {
    /// Why, for the operator; the sender does not learn it.
    pub why: String,
}

impl Answer {
    /// 202 when this delivery made a build, else 200.
    pub(super) fn status(&self) -> StatusCode {
        match self.ignored.is_none() && !self.builds.is_empty() {
            true => StatusCode::ACCEPTED,
            false => StatusCode::OK,
        }
    }

    /// One phrase for the log.
    pub(super) fn what_became(&self) -> String {
        let list = |builds: &[BuildId]| builds.iter().map(|id| format!("#{id}")).collect::<Vec<_>>().join(", ");
        match (&self.ignored, self.builds.as_slice(), self.cancelled.as_slice()) {
            (Some(because), _, _) => format!("ignored: {because}"),
            (None, [], []) => "nothing to do".to_owned(),
            (None, [], cancelled) => format!("cancelled {}", list(cancelled)),
            (None, builds, []) => format!("builds {}", list(builds)),
            (None, builds, cancelled) => format!("builds {}, cancelled {}", list(builds), list(cancelled)),
        }
    }
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let status = self.status();
        let mut body = json!({ "delivery": self.delivery, "build": self.builds.first(), "builds": self.builds });
        if let Some(because) = self.ignored {
            body["ignored"] = Value::String(because);
        }
        if status == StatusCode::OK || !self.cancelled.is_empty() {
            body["cancelled"] = json!(self.cancelled);
        }
        if let Some(rule) = self.rule {
            body["rule"] = json!(rule);
        }
        (status, Json(body)).into_response()
    }
}

/// Why a delivery was not taken; the order of the variants is the order of the checks. The text is what
/// the sender is told.
#[derive(Debug, thiserror::Error)]
pub(super) enum No {
    #[error("a hook is a POST")]
    Method,
    #[error("no such forge")]
    Forge,
    #[error("the body is larger than {LARGEST} bytes")]
    TooLarge,
    #[error("the body did not arrive in time")]
    Late,
    #[error("the body broke off")]
    Cut,
    #[error("send {0}, without a Content-Encoding")]
    MediaType(&'static str),
    #[error("signature missing or wrong")]
    Signature(Refused),
    #[error(transparent)]
    Payload(#[from] BadPayload),
    #[error("this hook is for {hook}, the payload is about {payload}: renamed?")]
    Mismatch { hook: RepoPath, payload: RepoPath },
    #[error("the delivery can't be stored now; send it again")]
    Store(#[from] NotTaken),
}

impl From<Unread> for No {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::TooLarge => No::TooLarge,
            Unread::Late => No::Late,
            Unread::Cut => No::Cut,
        }
    }
}

impl No {
    pub(super) fn status(&self) -> StatusCode {
        self.status_and_code().0
    }

    /// More than the sender is told.
    pub(super) fn reason(&self) -> String {
        match self {
            No::Signature(refused) => refused.to_string(),
            No::Store(not_taken) => not_taken.to_string(),
            told => told.to_string(),
        }
    }

    /// True when the body may still be on its way.
    pub(super) fn leaves_a_body(&self) -> bool {
        matches!(self, No::Method | No::Forge | No::TooLarge)
    }

    fn status_and_code(&self) -> (StatusCode, &'static str) {
        match self {
            No::Method => (StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed"),
            No::Forge => (StatusCode::NOT_FOUND, "not_found"),
            No::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large"),
            No::Late => (StatusCode::REQUEST_TIMEOUT, "request_timeout"),
            No::MediaType(_) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type"),
            No::Signature(_) => (StatusCode::UNAUTHORIZED, "unauthorized"),
            No::Cut | No::Payload(_) => (StatusCode::BAD_REQUEST, "bad_request"),
            No::Mismatch { .. } => (StatusCode::CONFLICT, "repository_mismatch"),
            No::Store(_) => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        }
    }
}

impl IntoResponse for No {
    fn into_response(self) -> Response {
        let (status, code) = self.status_and_code();
        let body = Json(json!({ "error": { "code": code, "message": self.to_string() } }));
        let mut response = (status, body).into_response();
        let more = match self {
            No::Method => Some((header::ALLOW, "POST")),
            No::Store(_) => Some((header::RETRY_AFTER, "30")),
            // What is left of the body is not worth reading, so the connection can't be used again.
            No::TooLarge | No::Late => Some((header::CONNECTION, "close")),
            _ => None,
        };
        if let Some((name, value)) = more {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_is_202_and_everything_else_200() {
        let check = |ignored: Option<&str>, builds: &[i64], cancelled: &[i64], status: u16, words: &str| {
            let ids = |numbers: &[i64]| numbers.iter().copied().map(BuildId).collect();
            let answer = Answer {
                delivery: "d".to_owned(),
                builds: ids(builds),
                ignored: ignored.map(str::to_owned),
                cancelled: ids(cancelled),
                rule: None,
            };
            assert_eq!((answer.status().as_u16(), answer.what_became().as_str()), (status, words));
        };
        check(None, &[12], &[], 202, "builds #12");
        check(None, &[13], &[12], 202, "builds #13, cancelled #12");
        check(Some("repeat of delivery d"), &[12], &[], 200, "ignored: repeat of delivery d");
        check(None, &[], &[7, 8], 200, "cancelled #7, #8");
        check(None, &[], &[], 200, "nothing to do");
    }
}

//! The shapes that answers share: errors as JSON, the headers that fence every page.

use axum::Json;
use axum::http::StatusCode;
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::records::{ChangeRefused, Unavailable};

/// Nothing runs in our pages that we did not send, and nobody may frame them.
const PAGE_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'";
/// Text that builds wrote is shown as text; should a browser think otherwise, it may still do nothing.
pub(super) const RAW_POLICY: &str = "default-src 'none'; frame-ancestors 'none'; sandbox";

/// An answer that is not what was asked for: a document of the API, for people a page (`pages::with_refusals`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    status: StatusCode,
    code: &'static str,
    message: String,
}

impl Refused {
    /// The one answer for what is not there and for what one may not see: they must not differ in a byte.
    pub(super) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "there is no such thing, or it is not open to you")
    }

    /// The one answer to a change without the right to it, whatever it was about.
    pub(super) fn forbidden() -> Self {
        let message =
            "a change needs the admin token (Authorization: Bearer …), or a signed-in session and its own pages";
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    /// The answer to who would see deliveries, the outbox or the audit without the right to change things.
    pub(super) fn for_maintainers() -> Self {
        let message = "this is shown only with the admin token (Authorization: Bearer …), or in a signed-in session";
        Self::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    pub(super) fn not_built_yet(what: &str) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, "not_built_yet", format!("this version of Hookmill has no {what} yet"))
    }

    pub(super) fn too_many_readers() -> Self {
        let message = "too many readers follow builds at this moment; come back in a few seconds";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_readers", message)
    }

    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    /// For a page that says the same in HTML.
    pub(super) fn into_parts(self) -> (StatusCode, String) {
        (self.status, self.message)
    }
}

impl From<Unavailable> for Refused {
    fn from(unavailable: Unavailable) -> Self {
        tracing::error!(error = %unavailable, "the store did not answer a request");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "store_unavailable", "the store does not answer; try again soon")
    }
}

impl From<std::io::Error> for Refused {
    fn from(error: std::io::Error) -> Self {
        tracing::error!(%error, "what a build left could not be read");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "unreadable",
            "it is there but can't be read; see the server's log",
        )
    }
}

impl From<ChangeRefused> for Refused {
    fn from(refused: ChangeRefused) -> Self {
        let code = match refused {
            ChangeRefused::NoSuchBuild => return Self::not_found(),
            ChangeRefused::AlreadyFinished => "already_finished",
            ChangeRefused::NotFinished => "not_finished",
            ChangeRefused::NoApprovalNeeded => "no_approval_needed",
            ChangeRefused::HeadMoved(_) => "head_moved",
            ChangeRefused::OtherCommit(_) => "other_commit",
            ChangeRefused::NothingToSend => "nothing_to_send",
        };
        Self::new(StatusCode::CONFLICT, code, refused.to_string())
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let body = Json(json!({"error": {"code": self.code, "message": &self.message}}));
        let mut response = (self.status, body).into_response();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("30"));
        }
        response.extensions_mut().insert(self);
        response
    }
}

/// Adds what every answer carries, unless the handler chose something stricter.
pub(super) async fn fence(mut response: Response) -> Response {
    const ALWAYS: [(HeaderName, &str); 5] = [
        (header::CONTENT_SECURITY_POLICY, PAGE_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (header::CACHE_CONTROL, "private, no-cache"),
    ];
    for (name, value) in ALWAYS {
        response.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

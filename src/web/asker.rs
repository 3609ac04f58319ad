//! Who asks for a change: what the request proves, and where it came from.

use std::convert::Infallible;

use axum::body::{Body, to_bytes};
use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::request::Parts;

use crate::domain::audit::Actor;

use super::answer::Refused;
use super::api::parameter;
use super::auth::ADMIN;
use super::listener::Peer;
use super::{BODY_MAX, Pages};

/// A request for a change, before its right to it is looked at.
pub(super) struct Asker {
    headers: HeaderMap,
    from: Option<String>,
}

impl<S: Sync> FromRequestParts<S> for Asker {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        let from = parts.extensions.get::<Peer>().map(Peer::to_string);
        Ok(Asker { headers: parts.headers.clone(), from })
    }
}

impl Asker {
    /// Who it is, if they may change something.
    pub(super) fn may_change(&self, pages: &Pages) -> Result<Actor, Refused> {
        self.proven(pages, None)
    }

    /// The same for a form of our own pages, which have put a token into it; and the form.
    pub(super) async fn may_change_by_form(&self, pages: &Pages, body: Body) -> Result<(Actor, String), Refused> {
        let form = form(body).await;
        let by = self.proven(pages, parameter(Some(&form), "form").as_deref())?;
        Ok((by, form))
    }

    fn proven(&self, pages: &Pages, form: Option<&str>) -> Result<Actor, Refused> {
        let via = pages.site().may_change(&self.headers, form).map_err(|_| Refused::forbidden())?;
        Ok(Actor { who: ADMIN.to_owned(), via, from: self.from.clone() })
    }
}

/// The fields of a form, as they came.
pub(super) async fn form(body: Body) -> String {
    // What is no form has no token either, and is refused for that.
    let bytes = to_bytes(body, BODY_MAX).await.unwrap_or_default();
    String::from_utf8(bytes.into()).unwrap_or_default()
}

//! Who asks for a change: what the request proves, and where it came from.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::request::Parts;

use crate::domain::audit::Actor;

use super::Pages;
use super::answer::Refused;
use super::auth::ADMIN;
use super::listener::Peer;

/// A request for a change, before its right to it is looked at.
pub(super) struct Asker {
    pub(super) headers: HeaderMap,
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
    /// Who it is, if they may change something; `form` is the token that our own pages put into their forms.
    pub(super) fn may_change(&self, pages: &Pages, form: Option<&str>) -> Result<Actor, Refused> {
        let via = pages.site().may_change(&self.headers, form).map_err(|_| Refused::forbidden())?;
        Ok(Actor { who: ADMIN.to_owned(), via, from: self.from.clone() })
    }
}

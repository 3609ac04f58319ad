//! The forges: whose word a delivery is, what it means, and how a forge is told what became of a commit.
//!
//! A delivery passes through in one direction: [`verify`] turns its bytes into a [`Verified`] one,
//! [`envelope`] names it, [`read`] says what happened in words of the [`domain`](crate::domain). What a
//! forge's JSON looks like stays inside. [`api::Client`] speaks the other way.

pub mod api;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod gitea;
mod github;
mod json;
mod signature;
mod wire;

use std::borrow::Cow;

use http::HeaderName;

use crate::config::server::ForgeKind;
use crate::domain::event::Heard;

pub use signature::{Delivery, Refused, Verified, verify};

/// Bytes of an event's name or of a delivery id: the longest that is taken.
const LONGEST_NAME: usize = 128;

/// Why a delivery with a good signature can't be read. The texts quote no values of the payload except
/// names of refs, repositories and commits, so that they may be logged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPayload {
    /// The event's name is missing.
    #[error("the event header ({0}) must come once, with 1 to {LONGEST_NAME} printable characters")]
    Event(&'static str),
    /// The delivery's id is missing.
    #[error("the delivery header ({0}) must come once, with 1 to {LONGEST_NAME} printable characters")]
    DeliveryId(&'static str),
    /// A form without exactly one field `payload`.
    #[error("the form must have exactly one field named payload")]
    Form,
    /// Not JSON, not strict JSON, or nested too deep.
    #[error("the payload is not acceptable JSON: {0}")]
    Json(String),
    /// JSON, but not what this event looks like.
    #[error("the payload is not the shape of a {event} event: {why}")]
    Shape {
        /// The event's name.
        event: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

/// What names a delivery: both come from headers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The forge's id for this delivery; the same again when it is redelivered.
    pub delivery_id: String,
    /// The event's name as the forge gives it.
    pub event: String,
}

/// The delivery's id and its event's name.
pub fn envelope(delivery: &Verified<Delivery>) -> Result<Envelope, BadPayload> {
    let delivery = delivery.get();
    let (event, id) = match delivery.kind {
        ForgeKind::Github => ("x-github-event", "x-github-delivery"),
        ForgeKind::Gitea => ("x-gitea-event", "x-gitea-delivery"),
        ForgeKind::Forgejo => (
            present(delivery, "x-forgejo-event", "x-gitea-event"),
            present(delivery, "x-forgejo-delivery", "x-gitea-delivery"),
        ),
    };
    Ok(Envelope {
        event: printable(delivery, event).ok_or(BadPayload::Event(event))?,
        delivery_id: printable(delivery, id).ok_or(BadPayload::DeliveryId(id))?,
    })
}

/// Forgejo's own header where it is sent, else the one it inherited from Gitea.
fn present(delivery: &Delivery, own: &'static str, inherited: &'static str) -> &'static str {
    if delivery.headers.contains_key(own) { own } else { inherited }
}

fn printable(delivery: &Delivery, header: &'static str) -> Option<String> {
    let value = signature::only_value(&delivery.headers, &HeaderName::from_static(header)).ok().flatten()?;
    let text = value.to_str().ok()?.trim();
    (1..=LONGEST_NAME).contains(&text.len()).then(|| text.to_owned())
}

/// What the delivery says. Unknown events and actions are [`Ignored`](crate::domain::event::Event::Ignored)
/// with a sentence: forges add new ones at any time.
pub fn read(delivery: &Verified<Delivery>) -> Result<Heard, BadPayload> {
    let Envelope { event, .. } = envelope(delivery)?;
    let delivery = delivery.get();
    let json = match delivery.kind {
        ForgeKind::Github if is_form(delivery) => github::form_payload(&delivery.body)?,
        _ => Cow::Borrowed(delivery.body.as_ref()),
    };
    json::check(&json).map_err(|error| BadPayload::Json(error.to_string()))?;
    match delivery.kind {
        ForgeKind::Github => github::read(&event, &json),
        ForgeKind::Gitea | ForgeKind::Forgejo => gitea::read(&event, &json),
    }
}

fn is_form(delivery: &Delivery) -> bool {
    let named = delivery.headers.get(http::header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    named.is_some_and(|text| media_type(text).eq_ignore_ascii_case("application/x-www-form-urlencoded"))
}

/// The media type of a `Content-Type` value, without its parameters (RFC 9110, 8.3).
pub fn media_type(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

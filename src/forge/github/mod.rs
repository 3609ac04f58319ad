//! GitHub (github.com and Enterprise Server): events by docs.github.com "Webhook events and payloads".

mod payload;
pub(super) mod status;

pub(super) use payload::{form_payload, read};

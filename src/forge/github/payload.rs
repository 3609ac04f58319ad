//! What a GitHub event means.

use std::borrow::Cow;

use crate::domain::event::Heard;
use crate::forge::BadPayload;
use crate::forge::wire::{Push, ignored, pull_request, shape, unknown};

/// The JSON of a form-encoded delivery: its field `payload`.
///
/// Decoded to bytes, not to text: a lossy decoding would hide invalid UTF-8 from the check that follows.
pub(in crate::forge) fn form_payload(body: &[u8]) -> Result<Cow<'_, [u8]>, BadPayload> {
    let mut fields = body.split(|&byte| byte == b'&').filter_map(|field| field.strip_prefix(b"payload="));
    let (Some(field), None) = (fields.next(), fields.next()) else {
        return Err(BadPayload::Form);
    };
    let spaced: Vec<u8> = field.iter().map(|&byte| if byte == b'+' { b' ' } else { byte }).collect();
    Ok(Cow::Owned(percent_encoding::percent_decode(&spaced).collect()))
}

/// Reads checked JSON.
pub(in crate::forge) fn read(event: &str, json: &[u8]) -> Result<Heard, BadPayload> {
    let nothing = |because: &str| Ok(ignored(json, |_| because.to_owned()));
    match event {
        "push" => shape::<Push>("push", json)?.heard(),
        "pull_request" => pull_request(json, "synchronize"),
        "ping" => nothing("ping: this hook works"),
        // GitHub sends a push for each of these as well, and that is what builds or cancels.
        "create" | "delete" => nothing("the push of the same branch or tag decides"),
        "merge_group" => nothing("a merge queue's branch is built when it is pushed"),
        "check_run" | "check_suite" => {
            nothing("re-run requests of checks are not built yet: rerun from the build's page")
        }
        _ => Ok(unknown(event, json)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_field_payload_once() {
        let check = |body: &str, expected: Option<&[u8]>| {
            assert_eq!(form_payload(body.as_bytes()).ok().as_deref(), expected, "{body}");
        };
        check("payload=%7B%22a%22%3A+1%7D", Some(b"{\"a\": 1}"));
        check("x=1&payload=%7B%7D", Some(b"{}"));
        check("payload=%ff%2B", Some(b"\xff+"));
        check("payload=", Some(b""));
        check("payload=1&payload=2", None);
        check("x=1", None);
        check("", None);
    }
}

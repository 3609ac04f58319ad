//! What a forge's deliveries promise to be: signed, and either understood or refused.

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use sha2::Sha256;

use super::{Delivery, json, read, verify};
use crate::config::secret::Secret;
use crate::config::server::ForgeKind;
use crate::domain::event::{Event, Heard};
use crate::fuzz::Target;

const SECRET: &str = "a hook secret of enough bytes";
const BODY: &[u8] = b"{\"zen\": \"Keep it logically awesome.\"}";

/// See [`crate::fuzz`].
pub const TARGETS: &[Target] = &[
    Target {
        name: "payload",
        real: &[
            include_bytes!("../../tests/data/payloads/gitea/02-push.json"),
            include_bytes!("../../tests/data/payloads/gitea/05-pull_request.opened.json"),
            include_bytes!("../../tests/data/payloads/gitea/13-delete.json"),
            include_bytes!("../../tests/data/payloads/gitea/20-pull_request.closed.json"),
            br#"{"ref":"refs/heads/main","before":"0000000000000000000000000000000000000000","after":"a94a8fe5ccb19ba61c4c0873d391e987982fbbd3","created":true,"deleted":false,"forced":false,"head_commit":{"id":"a94a8fe5ccb19ba61c4c0873d391e987982fbbd3","message":"A change\n\n[skip ci]"},"repository":{"id":7,"full_name":"acme/shop","default_branch":"main","pushed_at":1750000000},"pusher":{"name":"ada"},"sender":{"login":"ada"}}"#,
            br#"{"action":"synchronize","number":7,"pull_request":{"number":7,"title":"A change","state":"open","user":{"login":"eve"},"head":{"ref":"fix","sha":"a94a8fe5ccb19ba61c4c0873d391e987982fbbd3","repo":null},"base":{"ref":"main","sha":"b94a8fe5ccb19ba61c4c0873d391e987982fbbd3","repo":{"id":7,"full_name":"acme/shop"}}},"repository":{"id":7,"full_name":"acme/shop"},"sender":{"login":"eve"}}"#,
        ],
        words: &[
            "\"ref\":\"refs/heads/", "refs/tags/", "refs/pull/1/head", "\"after\":\"", "\"deleted\":true", "null", "{}", "[]", "{", "[",
            "\"action\":\"closed\"", "\"number\":-1", "1e999", "18446744073709551616", "\\u0000", "\\ud800", "\\u202e", "..", "@{", "\"",
            "0000000000000000000000000000000000000000", "acme/../shop", "acme/shop/", "\"fork\":true", ",", ":", "\n",
        ],
        tries: 500,
        holds: payloads,
    },
    Target {
        name: "signature",
        real: &[
            b"sha256=2f0d3c9b8f3a1d0c57d40d3f3e1f6f6f3ccbf39f8ce0f0f61ae7b0a3ee4e2b7a",
            b"2f0d3c9b8f3a1d0c57d40d3f3e1f6f6f3ccbf39f8ce0f0f61ae7b0a3ee4e2b7a",
            b"sha1=da39a3ee5e6b4b0d3255bfef95601890afd80709",
        ],
        words: &["sha256=", "sha1=", "SHA256=", "=", ",", ";", "0x", " ", "\t", "00", "ff", "\0"],
        tries: 5000,
        holds: signatures,
    },
];

fn signature(body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("a key of any length");
    mac.update(body);
    hex::encode(mac.finalize().into_bytes())
}

fn delivery(kind: ForgeKind, event: &'static str, content: &'static str, body: &[u8]) -> Delivery {
    let signed = match kind {
        ForgeKind::Github => ("x-hub-signature-256", format!("sha256={}", signature(body))),
        ForgeKind::Gitea | ForgeKind::Forgejo => ("x-gitea-signature", signature(body)),
    };
    let (named, id) = match kind {
        ForgeKind::Github => ("x-github-event", "x-github-delivery"),
        ForgeKind::Gitea | ForgeKind::Forgejo => ("x-gitea-event", "x-gitea-delivery"),
    };
    let headers = [
        (signed.0, HeaderValue::from_str(&signed.1).expect("hex")),
        (named, HeaderValue::from_static(event)),
        (id, HeaderValue::from_static("one")),
        ("content-type", HeaderValue::from_static(content)),
    ];
    let headers = headers.into_iter().map(|(name, value)| (HeaderName::from_static(name), value)).collect();
    Delivery { kind, headers, body: Bytes::copy_from_slice(body) }
}

/// Whatever is signed is understood the same way each time, or refused; what is understood is one JSON document, and names
/// no ref, commit or repository that could not be one.
fn payloads(bytes: &[u8]) {
    const FORM: &str = "application/x-www-form-urlencoded";
    for (kind, content) in
        [(ForgeKind::Github, "application/json"), (ForgeKind::Github, FORM), (ForgeKind::Gitea, "application/json")]
    {
        for event in ["push", "pull_request", "delete", "create", "ping"] {
            let verified = verify(delivery(kind, event, content, bytes), &[Secret::new(SECRET)]).expect("signed by us");
            let first = read(&verified);
            assert_eq!(first, read(&verified));
            let Ok(heard) = first else { continue };
            if content != FORM {
                assert!(json::check(bytes).is_ok() && serde_json::from_slice::<Value>(bytes).is_ok());
            }
            // Everything that was read can be written down and read again: names are made by their own rules.
            let written = serde_json::to_vec(&heard).expect("JSON");
            assert_eq!(serde_json::from_slice::<Heard>(&written).expect("our own words"), heard);
            let texts = match &heard.event {
                Event::Push(push) => vec![&push.title, &push.author],
                Event::PullRequest(pull) => vec![&pull.title, &pull.author],
                _ => Vec::new(),
            };
            for text in texts.into_iter().flatten() {
                assert!(text.chars().count() <= 200 && !text.contains(['\n', '\0']), "{text:?}");
            }
        }
    }
}

/// No header but the right one opens anything, in no kind's form.
fn signatures(bytes: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(bytes) else { return };
    let right = signature(BODY);
    for (kind, header, prefix) in [
        (ForgeKind::Github, "x-hub-signature-256", "sha256="),
        (ForgeKind::Gitea, "x-gitea-signature", ""),
        (ForgeKind::Forgejo, "x-forgejo-signature", ""),
    ] {
        let headers = HeaderMap::from_iter([(HeaderName::from_static(header), value.clone())]);
        let delivery = Delivery { kind, headers, body: Bytes::from_static(BODY) };
        let opened = verify(delivery, &[Secret::new("another secret of enough bytes"), Secret::new(SECRET)]).is_ok();
        let claimed = value.as_bytes().strip_prefix(prefix.as_bytes());
        // Hexadecimal digits are the same in capitals.
        let is_right = claimed.is_some_and(|claimed| claimed.eq_ignore_ascii_case(right.as_bytes()));
        assert_eq!(opened, is_right, "{kind:?} {value:?}");
    }
    // The right one, with anything before or after it, or in its place.
    for (before, after) in [("", ""), ("sha256=", "")] {
        let mixed = [before.as_bytes(), right.as_bytes(), after.as_bytes(), bytes].concat();
        let Ok(value) = HeaderValue::from_bytes(&mixed) else { continue };
        let headers = HeaderMap::from_iter([(HeaderName::from_static("x-hub-signature-256"), value)]);
        let delivery = Delivery { kind: ForgeKind::Github, headers, body: Bytes::from_static(BODY) };
        let opened = verify(delivery, &[Secret::new(SECRET)]).is_ok();
        assert_eq!(opened, before == "sha256=" && bytes.is_empty(), "{}", mixed.escape_ascii());
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn promises_hold() {
        super::TARGETS.iter().for_each(|target| target.try_it());
    }
}

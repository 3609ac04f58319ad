//! The forms in which a secret is written by those who do not mean to.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use percent_encoding::{AsciiSet, CONTROLS, NON_ALPHANUMERIC, percent_encode};

use super::SHORTEST;

/// RFC 3986 leaves only its unreserved characters as they are.
const STRICT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
/// `encodeURIComponent`.
const COMPONENT: &AsciiSet = &STRICT.remove(b'!').remove(b'*').remove(b'\'').remove(b'(').remove(b')');
/// `encodeURI`.
const URI: &AsciiSet = &COMPONENT
    .remove(b';')
    .remove(b',')
    .remove(b'/')
    .remove(b'?')
    .remove(b':')
    .remove(b'@')
    .remove(b'&')
    .remove(b'=')
    .remove(b'+')
    .remove(b'$')
    .remove(b'#');
/// What `new URL` makes of a name or a password before the `@` (<https://url.spec.whatwg.org/#userinfo-percent-encode-set>).
const USERINFO: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'`')
    .add(b'{')
    .add(b'}')
    .add(b'/')
    .add(b':')
    .add(b';')
    .add(b'=')
    .add(b'@')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'|');

/// The forms of secrets, and which of them also stand in lines: what writes base64 (RFC 2045: 76 columns, PEM: 64) or
/// hexadecimal digits breaks them wherever its line is full, which is not where the secret has a place to break.
pub(super) type Forms = BTreeMap<Vec<u8>, bool>;

/// Adds every form of a secret and of each of its lines; none is shorter than [`SHORTEST`].
pub(super) fn add(secret: &[u8], forms: &mut Forms) {
    let mut add = |form: &[u8], in_lines: bool| {
        if form.len() >= SHORTEST {
            *forms.entry(form.to_vec()).or_default() |= in_lines;
        }
    };
    let lines = secret.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    // `-----BEGIN PRIVATE KEY-----` is the same in everybody's key.
    let lines = lines.filter(|line| !line.starts_with(b"-----"));
    for part in std::iter::once(secret).chain(lines).filter(|part| part.len() >= SHORTEST) {
        add(part, false);
        add(hex::encode(part).as_bytes(), true);
        add(hex::encode_upper(part).as_bytes(), true);
        in_base64(part, &mut add);
        in_addresses(part, &mut add);
        if let Ok(text) = std::str::from_utf8(part) {
            let quoted = serde_json::Value::from(text).to_string();
            add(&quoted.as_bytes()[1..quoted.len() - 1], false);
        }
    }
}

/// base64 writes three bytes as four characters, so a secret behind one or two other bytes (`user:secret`) looks
/// altogether different. Characters that also depend on what stands around it are left out; where nothing follows, the
/// last one and its padding belong to it.
fn in_base64(part: &[u8], add: &mut impl FnMut(&[u8], bool)) {
    for (before, first) in [(0, 0), (1, 2), (2, 3)] {
        let bytes = [&[0; 2][..before], part].concat();
        let decided = bytes.len() * 8 / 6;
        // Only the first alphabet is written in lines.
        for (bare, padded, in_lines) in [
            (STANDARD_NO_PAD.encode(&bytes), STANDARD.encode(&bytes), true),
            (URL_SAFE_NO_PAD.encode(&bytes), URL_SAFE.encode(&bytes), false),
        ] {
            add(&bare.as_bytes()[first..decided], in_lines);
            add(&bare.as_bytes()[first..], in_lines);
            add(&padded.as_bytes()[first..], in_lines);
        }
    }
}

/// What stands for a byte has hexadecimal digits in either case, and no two programs leave the same characters alone.
fn in_addresses(part: &[u8], add: &mut impl FnMut(&[u8], bool)) {
    let encoded = [STRICT, COMPONENT, URI, USERINFO].map(|set| percent_encode(part, set).to_string());
    let form = form_urlencoded::byte_serialize(part).collect();
    for upper in encoded.into_iter().chain([form]) {
        add(in_lower_case(&upper).as_bytes(), false);
        add(upper.as_bytes(), false);
    }
}

/// `%2F` as `%2f`.
fn in_lower_case(encoded: &str) -> String {
    let mut digits = 0;
    let lower = encoded.chars().map(|letter| {
        let is_digit = digits > 0;
        digits = if letter == '%' { 2 } else { digits.max(1) - 1 };
        if is_digit { letter.to_ascii_lowercase() } else { letter }
    });
    lower.collect()
}

//! What a forge's answer means for the status that was posted.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, StatusCode, header};
use url::Url;

use crate::domain::outbox::Rejection;

/// GitHub: without a better word, wait at least a minute after a rate limit.
const AT_LEAST: Duration = Duration::from_secs(60);
/// No word of a forge makes us wait longer.
const AT_MOST: Duration = Duration::from_secs(24 * 60 * 60);
/// Characters of a forge's own message that are quoted.
const QUOTED: usize = 200;

/// A status that was not stored, by what its sender must do. No text holds the token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PostError {
    /// Send it again.
    #[error("{why}")]
    Retry {
        /// Not before this time has passed, by the forge's own word; `None` leaves it to the sender's backoff.
        after: Option<Duration>,
        /// Why, for the operator.
        why: String,
    },
    /// The token is missing, wrong or revoked: nothing to this forge can succeed until a person acts.
    #[error("{why}")]
    Unauthorized {
        /// Why, for the operator.
        why: String,
    },
    /// The forge will never take this status: keep it as undeliverable and show it.
    #[error("{why}")]
    Refused {
        /// The HTTP status of the answer.
        status: u16,
        /// Why, for the operator.
        why: String,
    },
}

impl PostError {
    /// What kind it is, for the rules of sending.
    pub fn rejection(&self) -> Rejection {
        match self {
            PostError::Retry { after, .. } => Rejection::Later { after: *after },
            PostError::Unauthorized { .. } => Rejection::Unauthorized,
            PostError::Refused { .. } => Rejection::Never,
        }
    }

    /// No answer came.
    pub(super) fn unreachable(url: &Url, what: &str) -> Self {
        let host = url.host_str().unwrap_or_default();
        PostError::Retry { after: None, why: format!("{host} can't be reached: {what}") }
    }

    /// The same without the token, should the forge have echoed it.
    pub(super) fn without(mut self, token: &str) -> Self {
        let (PostError::Retry { why, .. } | PostError::Unauthorized { why } | PostError::Refused { why, .. }) =
            &mut self;
        if !token.is_empty() && why.contains(token) {
            *why = why.replace(token, "…");
        }
        self
    }
}

/// Where to ask instead, when the answer is a redirect.
///
/// Only to the same scheme, host and port: our token is for that one alone.
pub(super) fn location(status: StatusCode, headers: &HeaderMap, from: &Url) -> Result<Option<Url>, PostError> {
    if !matches!(status.as_u16(), 301 | 302 | 307 | 308) {
        return Ok(None);
    }
    let refused = |why: String| PostError::Refused { status: status.as_u16(), why };
    let target = headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
    let Some(target) = target.and_then(|text| from.join(text).ok()) else {
        return Err(refused(format!("the forge answered {status} without a usable Location")));
    };
    if target.origin() != from.origin() {
        let (from, target) = (from.origin().ascii_serialization(), target.origin().ascii_serialization());
        return Err(refused(format!("{from} redirects to {target}, which gets no token: correct the forge's api_url")));
    }
    Ok(Some(target))
}

/// What an answer that is no redirect means.
pub(super) fn judge(status: StatusCode, headers: &HeaderMap, body: &str, now: SystemTime) -> Result<(), PostError> {
    if status.is_success() {
        return Ok(());
    }
    let said = message(body);
    let why = if said.is_empty() {
        format!("the forge answered {status}")
    } else {
        format!("the forge answered {status}: {said}")
    };
    let code = status.as_u16();
    let limited = code == 429 || (code == 403 && is_rate_limit(headers, &said));
    Err(match code {
        _ if limited => PostError::Retry { after: Some(wait(headers, now).unwrap_or(AT_LEAST).min(AT_MOST)), why },
        401 => PostError::Unauthorized { why: format!("{why} (is the token revoked or expired?)") },
        408 | 500.. => PostError::Retry { after: wait(headers, now).map(|after| after.min(AT_MOST)), why },
        404 => PostError::Refused {
            status: code,
            why: format!("{why} (no such repository or commit, or the token may not set its statuses)"),
        },
        _ => PostError::Refused { status: code, why },
    })
}

/// GitHub says 403 both for "not allowed" and for its rate limits.
fn is_rate_limit(headers: &HeaderMap, said: &str) -> bool {
    let said = said.to_ascii_lowercase();
    headers.contains_key(header::RETRY_AFTER)
        || number(headers, "x-ratelimit-remaining") == Some(0)
        || said.contains("rate limit")
        || said.contains("abuse detection")
}

/// How long the forge asks us to wait: `Retry-After` as seconds or date (RFC 9110, 10.2.3), else GitHub's
/// `x-ratelimit-reset` (seconds since 1970) when nothing remains.
fn wait(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let until = |then: SystemTime| then.duration_since(now).unwrap_or_default();
    if let Some(text) = headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()) {
        let seconds = text.trim().parse().ok().map(Duration::from_secs);
        if let Some(after) = seconds.or_else(|| httpdate::parse_http_date(text.trim()).ok().map(until)) {
            return Some(after);
        }
    }
    match number(headers, "x-ratelimit-remaining") {
        // A second more, since the two clocks need not agree.
        Some(0) => number(headers, "x-ratelimit-reset")
            .and_then(|reset| UNIX_EPOCH.checked_add(Duration::from_secs(reset)))
            .map(|then| until(then) + Duration::from_secs(1)),
        _ => None,
    }
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

/// The forge's own words, in one line: GitHub and Gitea both call the field `message`.
fn message(body: &str) -> String {
    #[derive(serde::Deserialize)]
    struct Said {
        message: String,
    }
    let said = serde_json::from_str::<Said>(body).map(|said| said.message).unwrap_or_default();
    said.split_whitespace().collect::<Vec<_>>().join(" ").chars().filter(|c| !c.is_control()).take(QUOTED).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| ((*name).parse().expect("a name"), value.parse().expect("a value"))).collect()
    }

    #[derive(Debug, PartialEq)]
    enum Must {
        Nothing,
        RetryAfter(u64),
        Retry,
        Stop,
        Refuse,
    }

    #[test]
    fn answers_and_what_they_ask_of_the_sender() {
        use Must::{Nothing, Refuse, Retry, RetryAfter, Stop};
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let check = |code: u16, pairs: &[(&'static str, &str)], body: &str, expected: Must| {
            let status = StatusCode::from_u16(code).expect("legal");
            let got = match judge(status, &headers(pairs), body, now) {
                Ok(()) => Nothing,
                Err(PostError::Retry { after: Some(after), .. }) => RetryAfter(after.as_secs()),
                Err(PostError::Retry { after: None, .. }) => Retry,
                Err(PostError::Unauthorized { .. }) => Stop,
                Err(PostError::Refused { .. }) => Refuse,
            };
            assert_eq!(got, expected, "{code} {pairs:?} {body}");
        };
        check(201, &[], "{}", Nothing);
        check(200, &[], "", Nothing);
        check(401, &[], r#"{"message":"Bad credentials"}"#, Stop);
        check(403, &[], r#"{"message":"Resource not accessible by personal access token"}"#, Refuse);
        check(404, &[], "", Refuse);
        check(422, &[], r#"{"message":"Validation failed"}"#, Refuse);
        check(408, &[], "", Retry);
        check(500, &[], "", Retry);
        check(503, &[("retry-after", "7")], "", RetryAfter(7));
        check(429, &[("retry-after", "120")], "", RetryAfter(120));
        check(429, &[], "", RetryAfter(60));
        check(429, &[("retry-after", "soon")], "", RetryAfter(60));
        check(429, &[("retry-after", "99999999999")], "", RetryAfter(24 * 60 * 60));
        check(429, &[("retry-after", "Sun, 09 Sep 2001 01:48:10 GMT")], "", RetryAfter(90));
        check(429, &[("retry-after", "Sun, 09 Sep 2001 01:00:00 GMT")], "", RetryAfter(0));
        let reset = [("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1000000300")];
        check(403, &reset, "", RetryAfter(301));
        check(429, &[("x-ratelimit-remaining", "5"), ("x-ratelimit-reset", "1000000300")], "", RetryAfter(60));
        check(403, &[], r#"{"message":"You have exceeded a secondary rate limit."}"#, RetryAfter(60));
    }

    #[test]
    fn redirects_stay_at_the_origin() {
        let from: Url = "https://forge.lan/api/v1/repos/a/b/statuses/c".parse().expect("a URL");
        let check = |code: u16, target: &str, expected: Option<Option<&str>>| {
            let status = StatusCode::from_u16(code).expect("legal");
            let got = location(status, &headers(&[("location", target)]), &from).ok();
            assert_eq!(got.as_ref().map(|next| next.as_ref().map(Url::as_str)), expected, "{code} {target}");
        };
        check(201, "https://evil.example/", Some(None));
        check(
            307,
            "/api/v1/repositories/1/statuses/c",
            Some(Some("https://forge.lan/api/v1/repositories/1/statuses/c")),
        );
        check(301, "https://forge.lan:443/x", Some(Some("https://forge.lan/x")));
        check(302, "https://forge.lan:8443/x", None);
        check(302, "http://forge.lan/x", None);
        check(302, "https://evil.example/x", None);
        check(302, "//evil.example/x", None);
        check(303, "/x", Some(None));
    }

    #[test]
    fn an_echoed_token_is_cut() {
        let error = PostError::Refused { status: 400, why: "bad token s3cret!".to_owned() };
        assert_eq!(error.without("s3cret").to_string(), "bad token …!");
    }
}

//! What a forge's answer means for the status that was posted.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, StatusCode, header};
use url::Url;

/// GitHub: without a better word, wait at least a minute after a rate limit.
const AT_LEAST: Duration = Duration::from_secs(60);
/// No word of a forge makes us wait longer.
const AT_MOST: Duration = Duration::from_secs(24 * 60 * 60);
/// Characters of a forge's own message that are quoted.
const QUOTED: usize = 200;

/// A status that the forge has stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accepted {
    /// When the token ends, if the forge says so.
    pub token_ends: Option<SystemTime>,
    /// Nothing more is taken for so long: this was the last that the rate limit allowed.
    pub pause: Option<Duration>,
}

impl Accepted {
    /// What the headers of an answer say beside it.
    pub(super) fn read(headers: &HeaderMap, now: SystemTime) -> Self {
        let pause = (number(headers, "x-ratelimit-remaining") == Some(0)).then(|| wait(headers, now)).flatten();
        Accepted { token_ends: super::token::ends(headers), pause: pause.map(|pause| pause.min(AT_MOST)) }
    }
}

/// How far a failure reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Nobody answered, or somebody who is not the forge's API: whatever is sent there now fares the same.
    Forge,
    /// The same, and it was not even sent: nobody can act on it later.
    Unheard,
    /// The API failed at this request, which says little of others: Gitea answers 500 for an unknown commit.
    Request,
}

/// A status that was not stored, by what its sender must do. No text holds the token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PostError {
    /// Send it again.
    #[error("{why}")]
    Retry {
        /// Not before this time has passed, by the forge's own word; `None` leaves it to the sender's backoff.
        after: Option<Duration>,
        /// What else has to wait.
        scope: Scope,
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
    /// No answer came.
    pub(super) fn unreachable(url: &Url, what: &str) -> Self {
        PostError::away(format!("{} can't be reached: {what}", url.host_str().unwrap_or_default()))
    }

    /// The forge's API did not speak at all.
    pub(super) fn away(why: String) -> Self {
        PostError::Retry { after: None, scope: Scope::Forge, why }
    }

    /// The same of a request that never left.
    pub(super) fn unheard(mut self) -> Self {
        if let PostError::Retry { scope, .. } = &mut self {
            *scope = Scope::Unheard;
        }
        self
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

/// Whether an answer is the status that was posted: GitHub, Gitea and Forgejo all answer with it.
pub(super) fn echoes(body: &str, context: &str) -> Result<(), PostError> {
    #[derive(serde::Deserialize)]
    struct Stored {
        context: String,
    }
    if serde_json::from_str::<Stored>(body).is_ok_and(|stored| stored.context == context) {
        return Ok(());
    }
    let what = page(body).unwrap_or_else(|| "something that is no status".to_owned());
    Err(PostError::away(format!(
        "the answer is a success with {what}: a proxy or captive portal in between, or api_url is not the API's"
    )))
}

/// Refuses a page for people where an API had to answer, whatever its code was.
pub(super) fn from_an_api<T>((headers, body): (T, String)) -> Result<(T, String), PostError> {
    match page(&body) {
        None => Ok((headers, body)),
        Some(page) => Err(PostError::away(format!(
            "the answer is {page}: a proxy or captive portal in between, or api_url is not the API's"
        ))),
    }
}

/// Where to ask instead, when the answer is a redirect.
///
/// Only to the same scheme, host and port: our token is for that one alone.
pub(super) fn location(status: StatusCode, headers: &HeaderMap, from: &Url) -> Result<Option<Url>, PostError> {
    if !matches!(status.as_u16(), 301 | 302 | 307 | 308) {
        return Ok(None);
    }
    let target = headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
    let Some(target) = target.and_then(|text| from.join(text).ok()) else {
        return Err(PostError::away(format!("the forge answered {status} without a usable Location")));
    };
    if target.origin() != from.origin() {
        let (from, target) = (from.origin().ascii_serialization(), target.origin().ascii_serialization());
        let why = format!("{from} redirects to {target}, which gets no token: correct the forge's api_url");
        return Err(PostError::away(why));
    }
    Ok(Some(target))
}

/// What an answer that is no redirect means.
pub(super) fn judge(status: StatusCode, headers: &HeaderMap, body: &str, now: SystemTime) -> Result<(), PostError> {
    if status.is_success() {
        return Ok(());
    }
    let said = message(body);
    let strange = page(body);
    let why = match (&strange, said.as_str()) {
        (Some(page), _) => format!("the forge answered {status} with {page}"),
        (None, "") => format!("the forge answered {status}"),
        (None, said) => format!("the forge answered {status}: {said}"),
    };
    let code = status.as_u16();
    let limited = code == 429 || (code == 403 && is_rate_limit(headers, &said));
    Err(match code {
        _ if limited => {
            let after = Some(wait(headers, now).unwrap_or(AT_LEAST).min(AT_MOST));
            PostError::Retry { after, scope: Scope::Forge, why }
        }
        401 => PostError::Unauthorized { why: format!("{why} (is the token revoked or expired?)") },
        408 | 500.. => {
            let is_gateway = (502..=504).contains(&code) || strange.is_some();
            let scope = if is_gateway { Scope::Forge } else { Scope::Request };
            PostError::Retry { after: wait(headers, now).map(|after| after.min(AT_MOST)), scope, why }
        }
        // The API refuses in JSON. A page comes from somebody before it, who may be gone tomorrow.
        _ if strange.is_some() => PostError::away(format!("{why} (a proxy in between, or api_url is not the API's)")),
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

/// A page for people, by its title, where an API would have answered.
fn page(body: &str) -> Option<String> {
    if !body.trim_start().starts_with('<') {
        return None;
    }
    // Cut out of whatever it is, so that somebody recognises their proxy; it is only ever shown as text.
    let lower = body.to_ascii_lowercase();
    let title = lower.find("<title>").map(|at| at + "<title>".len()).and_then(|begin| {
        let end = lower[begin..].find('<').map(|length| begin + length)?;
        Some(one_line(&body[begin..end]))
    });
    Some(
        title
            .filter(|title| !title.is_empty())
            .map_or("an HTML page".to_owned(), |title| format!("the page {title:?}")),
    )
}

/// The forge's own words, in one line: GitHub and Gitea both call the field `message`.
fn message(body: &str) -> String {
    #[derive(serde::Deserialize)]
    struct Said {
        message: String,
    }
    one_line(&serde_json::from_str::<Said>(body).map(|said| said.message).unwrap_or_default())
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").chars().filter(|c| !c.is_control()).take(QUOTED).collect()
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
        RetryThisOne,
        Stop,
        Refuse,
    }

    #[test]
    fn answers_and_what_they_ask_of_the_sender() {
        use Must::{Nothing, Refuse, Retry, RetryAfter, RetryThisOne, Stop};
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let check = |code: u16, pairs: &[(&'static str, &str)], body: &str, expected: Must| {
            let status = StatusCode::from_u16(code).expect("legal");
            let got = match judge(status, &headers(pairs), body, now) {
                Ok(()) => Nothing,
                Err(PostError::Retry { after: Some(after), .. }) => RetryAfter(after.as_secs()),
                Err(PostError::Retry { after: None, scope: Scope::Forge | Scope::Unheard, .. }) => Retry,
                Err(PostError::Retry { after: None, scope: Scope::Request, .. }) => RetryThisOne,
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
        check(408, &[], "", RetryThisOne);
        check(500, &[], r#"{"message":"object does not exist"}"#, RetryThisOne);
        check(500, &[], "<html>", Retry);
        check(502, &[], "", Retry);
        check(504, &[], "", Retry);
        check(404, &[], "<!doctype html><title>Welcome to nginx!</title>", Retry);
        check(403, &[], "\n<HTML><body>Blocked by policy", Retry);
        check(401, &[], "<html>", Stop);
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
    fn only_the_status_itself_is_an_acceptance() {
        let check = |body: &str, expected: Result<(), &str>| {
            let got = echoes(body, "hookmill/npm");
            match expected {
                Ok(()) => assert_eq!(got, Ok(()), "{body}"),
                Err(words) => {
                    let error = got.expect_err(body);
                    assert!(matches!(error, PostError::Retry { after: None, scope: Scope::Forge, .. }), "{error:?}");
                    assert!(error.to_string().contains(words), "{error}");
                }
            }
        };
        check(r#"{"id":1,"state":"success","context":"hookmill/npm","creator":{"login":"bot"}}"#, Ok(()));
        check(r#"{"id":1,"status":"success","context":"hookmill/npm"}"#, Ok(()));
        check(r#"{"context":"hookmill"}"#, Err("no status"));
        check("", Err("no status"));
        check("{}", Err("no status"));
        check("[]", Err("no status"));
        check("\u{0}\u{1}garbage", Err("no status"));
        check("<html><TITLE>\n Hotel\tWi-Fi </TITLE>", Err("the page \"Hotel Wi-Fi\""));
        check("<html>é<title", Err("an HTML page"));
    }

    #[test]
    fn what_a_success_says_beside_it() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let reset = ("x-ratelimit-reset", "1000000300");
        let pause = |pairs: &[(&'static str, &str)]| Accepted::read(&headers(pairs), now).pause;
        assert_eq!(pause(&[]), None);
        assert_eq!(pause(&[("x-ratelimit-remaining", "17"), reset]), None);
        assert_eq!(pause(&[("x-ratelimit-remaining", "0"), reset]), Some(Duration::from_secs(301)));
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

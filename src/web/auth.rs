//! Who may read, who may change.
//!
//! Reading: by configuration everybody, or whoever has a build's key, or whoever has the admin token.
//! Where the public address is a loopback one, reading is free, unless the configuration closes it.
//! The peer's address never decides: behind a reverse proxy everybody is loopback.
//! Changing: the admin token in the request, or a session that was opened with it and asks from our own pages.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::{HeaderMap, HeaderName, header};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use url::{Host, Url};

use crate::config::secret::Secret;
use crate::config::server::{Read, Web};
use crate::domain::audit::Via;
use crate::domain::build::BuildId;
use crate::domain::link::InstanceKey;
use crate::domain::repo::ForgeName;

/// How long a sign-in holds.
const SESSION: Duration = Duration::from_secs(7 * 24 * 3600);
/// The builds whose keys a browser remembers: a cookie has to stay small.
const KEYS_REMEMBERED: usize = 24;
const SESSION_COOKIE: &str = "hookmill_session";
const KEYS_COOKIE: &str = "hookmill_keys";

/// The public side of this server: its address, who may do what, and where its forges' pages are.
#[derive(Debug, Clone)]
pub struct Site {
    base: String,
    origin: String,
    secure: bool,
    loopback: bool,
    read: Read,
    admin: Option<Secret>,
    key: InstanceKey,
    forge_pages: BTreeMap<ForgeName, Url>,
}

/// Who asks for a change that was allowed; stands in `cancelled by <who>` and in the audit.
pub(super) const ADMIN: &str = "admin";

/// The request is not allowed to change anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Forbidden;

impl Site {
    /// From `[server]`, this installation's key, and the `web_url` of each forge.
    pub fn new(web: &Web, key: InstanceKey, forge_pages: BTreeMap<ForgeName, Url>) -> Self {
        Site {
            base: web.public_url.path().trim_end_matches('/').to_owned(),
            origin: web.public_url.origin().ascii_serialization(),
            secure: web.public_url.scheme() == "https",
            loopback: web.public_url.host().is_some_and(|host| is_loopback(&host)),
            read: web.read,
            admin: web.admin_token.clone(),
            key,
            forge_pages,
        }
    }

    /// What stands before every path in a link: the path of `public_url`, without a slash at the end.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// The public address, as people copy it.
    pub(super) fn address(&self) -> String {
        format!("{}{}", self.origin, self.base)
    }

    pub(super) fn forge_page(&self, forge: &ForgeName) -> Option<&Url> {
        self.forge_pages.get(forge).filter(|url| matches!(url.scheme(), "http" | "https"))
    }

    /// True when an admin token is configured: without one nobody can sign in and nothing can be changed.
    pub(super) fn has_admin(&self) -> bool {
        self.admin.is_some()
    }

    /// May this request read lists and figures (everything that is not one build's)?
    pub(super) fn may_read_all(&self, headers: &HeaderMap) -> bool {
        self.is_open(headers) || self.is_admin(headers)
    }

    /// May this request read this build? `key` is the one in the address, if there is one.
    pub(super) fn may_read(&self, build: BuildId, headers: &HeaderMap, key: Option<&str>) -> bool {
        let has_key = || {
            key.is_some_and(|key| self.key.opens(build, key))
                || remembered_keys(headers).any(|(id, key)| id == build && self.key.opens(build, key))
        };
        self.may_read_all(headers) || (self.read == Read::Link && has_key())
    }

    /// May this request change anything, and by what? `form` is the token that our own pages put into their forms.
    pub(super) fn may_change(&self, headers: &HeaderMap, form: Option<&str>) -> Result<Via, Forbidden> {
        // Our pages send no referrer, and browsers then send "null" for a form's origin. That alone says
        // nothing about who asks, so such a request must carry the form's own token.
        let origin = text(headers, header::ORIGIN).filter(|&origin| origin != "null");
        if self.is_asked_by_others(headers) {
            return Err(Forbidden);
        }
        if self.has_bearer(headers) {
            return Ok(Via::Token);
        }
        let session = self.session(headers).ok_or(Forbidden)?;
        let own_form = form.is_some_and(|form| self.key.verify(&format!("form {session}"), form));
        if origin.is_some() || own_form { Ok(Via::Session) } else { Err(Forbidden) }
    }

    /// May this request see deliveries and refusals? Only whoever may change things, and not through others' pages.
    pub(super) fn may_see_deliveries(&self, headers: &HeaderMap) -> bool {
        self.is_admin(headers) && !self.is_asked_by_others(headers)
    }

    /// The token for the forms of a signed-in page; `None` when nobody is signed in.
    pub(super) fn form_token(&self, headers: &HeaderMap) -> Option<String> {
        self.session(headers).map(|session| self.key.seal(&format!("form {session}")))
    }

    /// True when `token` is the admin token; compared in constant time.
    pub(super) fn is_admin_token(&self, token: &[u8]) -> bool {
        // Codes are compared instead of the tokens, so that not even the length shows in the time taken.
        let words = |token: &[u8]| format!("token {}", URL_SAFE_NO_PAD.encode(token));
        let given = self.key.seal(&words(token));
        self.admin.as_ref().is_some_and(|admin| self.key.verify(&words(admin.expose()), &given))
    }

    /// The `Set-Cookie` of a new session: not the token, and worthless once the token is changed.
    pub(super) fn open_session(&self) -> String {
        let until = seconds_now().saturating_add(SESSION.as_secs());
        let session = format!("{until}.{}", self.key.seal(&self.session_words(until)));
        self.cookie(SESSION_COOKIE, &session, SESSION)
    }

    /// The `Set-Cookie` that ends a session in the browser.
    pub(super) fn close_session(&self) -> String {
        self.cookie(SESSION_COOKIE, "", Duration::ZERO)
    }

    /// The `Set-Cookie` that remembers a build's key beside those remembered already.
    pub(super) fn remember_key(&self, headers: &HeaderMap, build: BuildId, key: &str) -> String {
        let older = remembered_keys(headers).filter(|(id, _)| *id != build).map(|(id, key)| format!("{id}.{key}"));
        let keys: Vec<String> = std::iter::once(format!("{build}.{key}")).chain(older).take(KEYS_REMEMBERED).collect();
        self.cookie(KEYS_COOKIE, &keys.join("~"), Duration::from_secs(90 * 24 * 3600))
    }

    fn is_open(&self, headers: &HeaderMap) -> bool {
        match self.read {
            Read::Public => true,
            Read::Token => false,
            // A hostile page can make its own name point here (DNS rebinding); the name then stands in `Host`.
            Read::Link => self.loopback && asks_loopback(headers),
        }
    }

    /// True when a page of somebody else's made the browser ask.
    fn is_asked_by_others(&self, headers: &HeaderMap) -> bool {
        let origin = text(headers, header::ORIGIN).filter(|&origin| origin != "null");
        origin.is_some_and(|origin| !origin.eq_ignore_ascii_case(&self.origin))
    }

    fn is_admin(&self, headers: &HeaderMap) -> bool {
        self.has_bearer(headers) || self.session(headers).is_some()
    }

    fn has_bearer(&self, headers: &HeaderMap) -> bool {
        let given = text(headers, header::AUTHORIZATION).and_then(|value| value.split_once(' '));
        given.is_some_and(|(scheme, token)| {
            scheme.eq_ignore_ascii_case("bearer") && self.is_admin_token(token.trim().as_bytes())
        })
    }

    /// The session in the request, if it is ours and has not run out.
    fn session<'a>(&self, headers: &'a HeaderMap) -> Option<&'a str> {
        self.admin.as_ref()?;
        cookies(headers, SESSION_COOKIE).find(|session| {
            let Some((until, code)) = session.split_once('.') else { return false };
            let Ok(until) = until.parse::<u64>() else { return false };
            until > seconds_now() && self.key.verify(&self.session_words(until), code)
        })
    }

    fn session_words(&self, until: u64) -> String {
        let token = self.admin.as_ref().map(|admin| URL_SAFE_NO_PAD.encode(admin.expose())).unwrap_or_default();
        format!("session {until} {token}")
    }

    fn cookie(&self, name: &str, value: &str, age: Duration) -> String {
        let path = if self.base.is_empty() { "/" } else { &self.base };
        let secure = if self.secure { "; Secure" } else { "" };
        format!("{name}={value}; Path={path}; Max-Age={}; HttpOnly; SameSite=Lax{secure}", age.as_secs())
    }
}

/// Where to go after signing in: only ever a place of this server.
pub(super) fn local_path(next: &str) -> &str {
    let mut chars = next.chars();
    let local = chars.next() == Some('/') && !matches!(chars.next(), Some('/' | '\\'));
    let plain = next.len() <= 1024 && next.chars().all(|c| c.is_ascii_graphic() && c != '\\');
    if local && plain { next } else { "/" }
}

fn remembered_keys(headers: &HeaderMap) -> impl Iterator<Item = (BuildId, &str)> {
    cookies(headers, KEYS_COOKIE).flat_map(|keys| keys.split('~')).filter_map(|entry| {
        let (id, key) = entry.split_once('.')?;
        Some((BuildId(id.parse().ok()?), key))
    })
}

fn cookies<'a>(headers: &'a HeaderMap, name: &'static str) -> impl Iterator<Item = &'a str> {
    let pairs = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    pairs
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(move |(given, _)| *given == name)
        .map(|(_, value)| value)
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    // Something that is not text is still something: it must not count as absent.
    headers.get(name).map(|value| value.to_str().unwrap_or("\u{fffd}"))
}

fn asks_loopback(headers: &HeaderMap) -> bool {
    let Some(host) = text(headers, header::HOST) else { return false };
    Url::parse(&format!("http://{host}/")).is_ok_and(|url| url.host().is_some_and(|host| is_loopback(&host)))
}

fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => *name == "localhost" || name.ends_with(".localhost"),
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    }
}

fn seconds_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_signing_in_one_stays_here() {
        let check = |next, path| assert_eq!(local_path(next), path, "{next:?}");
        check("/builds/12?x=1", "/builds/12?x=1");
        check("/", "/");
        for bad in [
            "",
            "//evil.example",
            "/\\evil.example",
            "https://evil.example",
            "evil",
            "/a\r\nSet-Cookie: x",
            "/\u{2f}é",
            "/a\\b",
        ] {
            check(bad, "/");
        }
    }

    #[test]
    fn loopback_addresses() {
        let check = |url: &str, expected| {
            let url = Url::parse(url).expect("legal");
            assert_eq!(url.host().is_some_and(|host| is_loopback(&host)), expected, "{url}");
        };
        check("http://127.0.0.1:4665", true);
        check("http://127.8.9.1", true);
        check("http://[::1]:4665", true);
        check("http://localhost", true);
        check("http://localhost.evil.example", false);
        check("http://127.0.0.1.evil.example", false);
        check("http://10.0.0.1", false);
        check("http://[::ffff:8.8.8.8]", false);
    }
}

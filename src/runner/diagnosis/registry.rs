//! A registry that refuses a package, or says that it never heard of it: it may be a private one.

use super::{Diagnosis, Finished, mend};
use crate::domain::trust::Trust;

/// What a registry answered to whom.
pub(super) struct Refusal<'a> {
    /// How the package manager names the answer: `E404`, `FETCH_401`.
    pub(super) code: &'a str,
    /// The HTTP status, where it is known.
    pub(super) status: u16,
    /// The package as it was asked for, perhaps with a version: `@acme/ui@1.0.0`.
    pub(super) package: Option<String>,
    /// The address that was asked, where it was printed.
    pub(super) url: Option<&'a str>,
}

impl Refusal<'_> {
    /// The first `https://…` of a message.
    pub(super) fn url_in(text: &str) -> Option<&str> {
        let at = text.find("https://").or_else(|| text.find("http://"))?;
        text[at..].split([' ', '\n', '"', '\'']).next().map(|url| url.trim_end_matches(':'))
    }

    /// The package that an address asks for: scoped names come with their slash encoded.
    pub(super) fn package_of(url: &str) -> Option<String> {
        let decoded = percent_encoding::percent_decode_str(url).decode_utf8().ok()?;
        let path = decoded.split("://").nth(1)?.split_once('/')?.1;
        // A tarball's address goes on: `/@acme/ui/-/ui-1.0.0.tgz`.
        let path = path.split("/-/").next().unwrap_or(path).trim_end_matches('/');
        let mut names = path.rsplit('/');
        let name = names.next().filter(|name| !name.is_empty())?;
        let scope = names.next().filter(|scope| scope.starts_with('@'));
        Some(scope.map_or_else(|| name.to_owned(), |scope| format!("{scope}/{name}")))
    }

    /// Names the registry, the package and the lines that give the agent a token.
    pub(super) fn diagnosis(&self, step: &Finished<'_>) -> Diagnosis {
        let package = self.package.as_deref().unwrap_or("a package");
        let host = self.url.and_then(host).unwrap_or("the registry");
        let code = self.code;
        let scope = package.split_once('/').map(|(scope, _)| scope).filter(|scope| scope.starts_with('@'));
        if self.status == 404 && scope.is_none() {
            return Diagnosis::theirs(format!("{code}, {package} is not in the registry"));
        }
        let what = match self.status {
            404 => format!("{code}, {package} is not at {host}, or it is private"),
            403 => format!("{code}, {host} refuses {package}"),
            _ => format!("{code}, {host} wants a token for {package}"),
        };
        if step.trust == Trust::Fork {
            return Diagnosis::theirs(format!("{what}; a fork's build gets no registry token")).mended_by(
                "# a fork's build gets no registry token: a member has to push the same commit to a branch",
            );
        }
        let origin = self.url.and_then(origin).unwrap_or_else(|| "https://npm.example.com/".to_owned());
        let scopes = scope.map(|scope| format!("scopes = [\"{scope}\"]\n")).unwrap_or_default();
        Diagnosis::theirs(format!("{what}; [[registry]] in the server's configuration gives a token")).mended_by(
            mend::server(&format!(
                "[[registry]]\nurl = \"{origin}\"\n{scopes}token_file = \"/etc/hookmill/npm-token\""
            )),
        )
    }
}

fn host(url: &str) -> Option<&str> {
    url.split("://").nth(1)?.split(['/', ':']).next().filter(|host| !host.is_empty())
}

fn origin(url: &str) -> Option<String> {
    let origin = url::Url::parse(url).ok()?.origin();
    origin.is_tuple().then(|| format!("{}/", origin.ascii_serialization()))
}

//! `[[registry]]`: where packages of a scope come from, and the token that opens it.

use std::collections::HashSet;

use url::Url;

use super::document::Table;
use super::parts::base_url;
use super::problem::{Findings, Kind, Problem};
use super::secret;
use super::section::{Located, Section};
use super::server::{Access, Registry};
use super::surroundings::Surroundings;
use crate::domain::repo::RepoId;

/// Reads every `[[registry]]`, in the order of the layers.
pub(super) fn registries(tables: Vec<Table>, around: &Surroundings, findings: &mut Findings) -> Vec<Registry> {
    let mut seen = HashSet::new();
    let mut registries = Vec::new();
    for table in tables {
        let section = Section::new("registry", table, findings);
        let place = section.place();
        let Some(registry) = registry(section, around) else { continue };
        for repos in &registry.repos {
            let default = [String::new()];
            let scopes = if registry.scopes.is_empty() { &default[..] } else { &registry.scopes };
            for scope in scopes {
                if !seen.insert((scope.clone(), repos.clone())) {
                    let what = if scope.is_empty() { "no scope" } else { scope };
                    let message = format!("a second [[registry]] with {what} for {repos:?}");
                    findings.push(Problem::at(Kind::Wrong, &place, message).fix("keep one of them"));
                }
            }
        }
        registries.push(registry);
    }
    registries
}

fn registry(mut section: Section<'_>, around: &Surroundings) -> Option<Registry> {
    let place = section.place();
    if !section.has("url") {
        section.wrong(&place, "a [[registry]] needs a `url`", "write url = \"https://npm.acme.dev/\"");
    }
    if !section.has("repos") {
        // A token for every repository is nothing that somebody should get by leaving a line out.
        section.wrong(
            &place,
            "a [[registry]] needs `repos`",
            "write repos = [\"acme/*\"]; [\"**\"] is every repository",
        );
    }
    let url = section.text("url").and_then(|text| base_url(&mut section, "url", &text));
    let scopes = section.texts("scopes").unwrap_or_default();
    let scopes: Vec<String> = scopes.into_iter().filter_map(|text| scope(&mut section, text)).collect();
    let repos = section.texts("repos").unwrap_or_default();
    let repos: Vec<String> = repos.into_iter().filter_map(|text| glob(&mut section, text)).collect();
    let given = secret::TOKEN.given_in(&section);
    let token = secret::token(&mut section, &secret::TOKEN, around);
    if let Some(token) = &token
        && !token.expose().iter().all(|byte| is_plain(*byte))
    {
        let message = "the token of this [[registry]] holds a character that package managers read as syntax";
        section.wrong(&place, message, "a token is made of letters, digits and - . _ ~ + / = :");
    }
    section.finish();
    let access = match token {
        Some(token) => Access::Token(token),
        None if given => return None,
        None => Access::Open,
    };
    Some(Registry { url: url?, scopes, repos, access })
}

/// Those that RFC 6750 allows in a bearer token, and the colon: none of them ends a value of an `.npmrc`.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~+/=:".contains(&byte)
}

fn scope(section: &mut Section<'_>, text: Located<String>) -> Option<String> {
    let name = text.value.strip_prefix('@').unwrap_or_default();
    let good = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-._~".contains(&byte));
    if name.is_empty() || !good {
        section.wrong(&text.place, format!("{:?} is not a scope of packages", text.value), "write \"@acme\"");
        return None;
    }
    Some(text.value)
}

fn glob(section: &mut Section<'_>, text: Located<String>) -> Option<String> {
    if text.value.is_empty() || fast_glob::validate(&text.value).is_err() {
        let message = format!("{:?} is not a pattern of repositories", text.value);
        section.wrong(&text.place, message, "write \"acme/shop\", \"acme/*\" or \"**\"");
        return None;
    }
    Some(text.value.to_lowercase())
}

impl Registry {
    /// Whether it is meant for a repository's builds.
    pub fn serves(&self, repo: &RepoId) -> bool {
        let folded = repo.path.folded();
        self.repos.iter().any(|pattern| fast_glob::glob_match(pattern, &folded))
    }

    /// The same without its token: what a fork's build is given.
    pub fn without_token(&self) -> Registry {
        let access = match &self.access {
            Access::Open => Access::Open,
            Access::Token(_) | Access::Withheld => Access::Withheld,
        };
        Registry { access, ..self.clone() }
    }

    /// Its host, with the port if that is not its scheme's own: `npm.acme.dev`, `127.0.0.1:4873`.
    pub fn host(&self) -> String {
        host(&self.url)
    }
}

fn host(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::load;

    const GOOD: &str = "[[registry]]\nurl = \"https://npm.acme.dev/\"\nscopes = [\"@acme\"]\nrepos = [\"Acme/*\"]\n";

    fn faults(text: &str) -> String {
        load::from_text(text, Path::new("/")).map(|_| String::new()).unwrap_or_else(|problems| problems.render(false))
    }

    #[test]
    fn a_registry_is_for_the_repositories_that_it_names() {
        let text = format!("{GOOD}token = \"npm_0123456789abcdef\"\n");
        let loaded = load::from_text(&text, Path::new("/")).expect("good");
        let registry = &loaded.server.forges.registries[0];
        assert_eq!((registry.host().as_str(), registry.scopes.as_slice()), ("npm.acme.dev", &["@acme".to_owned()][..]));
        let serves = |repo: &str| registry.serves(&repo.parse().expect("a repository"));
        assert!(serves("github/acme/shop") && serves("github/ACME/Shop"));
        assert!(!serves("github/eve/shop") && !serves("gitea/acme/group/shop"));
        assert!(matches!(registry.access, Access::Token(_)));
        assert_eq!(registry.without_token().access, Access::Withheld);
        assert!(!format!("{loaded:?}").contains("npm_0123456789abcdef"));
    }

    #[test]
    fn what_is_refused() {
        let check = |text: &str, expected: &str| {
            let said = faults(text);
            assert!(said.contains(expected), "{text}\n{said}");
        };
        assert_eq!(faults(GOOD), "");
        check("[[registry]]\nrepos = [\"acme/*\"]", "a [[registry]] needs a `url`");
        check("[[registry]]\nurl = \"https://npm.acme.dev\"", "a [[registry]] needs `repos`");
        check("[[registry]]\nurl = \"ftp://x\"\nrepos = [\"**\"]", "not an http or https address");
        check(&GOOD.replace("@acme", "acme"), "\"acme\" is not a scope of packages");
        check(&format!("{GOOD}scope = 1"), "did you mean `scopes`?");
        check(&format!("{GOOD}{GOOD}"), "a second [[registry]] with @acme for \"acme/*\"");
        check(&format!("{GOOD}token = \"0123456789abcdef;x\""), "read as syntax");
        check(&format!("{GOOD}token_file = \"/nonexistent/token\""), "can't be read");
        check(&format!("{GOOD}token = \"a0123456789abcdef\"\ntoken_env = \"T\""), "keep exactly one");
    }
}

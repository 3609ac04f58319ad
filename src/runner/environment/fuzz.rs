//! What a repository's settings of its package managers promise: no token leaves for a host that it is not for.

use std::collections::BTreeMap;

use super::committed::{File, needed, tokens};
use crate::config::secret::Secret;
use crate::config::server::{Access, Registry};
use crate::fuzz::Target;

/// See [`crate::fuzz`].
pub const TARGETS: &[Target] = &[Target {
    name: "npmrc",
    real: &[
        b"//npm.acme.dev/js/:_authToken=${NPM_TOKEN}\n@acme:registry=https://npm.acme.dev/js/\nalways-auth=true\n",
        b"# export NPM_TOKEN=\n//npm.acme.dev/:_authToken = \"${NPM_TOKEN}\"\nregistry=https://evil.example/\n//evil.example/:_authToken=${OTHER_TOKEN}\n",
        b"//npm.acme.dev/js/:_authToken=${NPM_TOKEN}\n//evil.example/:_authToken=${NPM_TOKEN}\n; ${NPM_TOKEN}\nuserconfig=./x\n",
    ],
    words: &[
        "${NPM_TOKEN}", "${NPM_TOKEN:-x}", "${NPM_TOKEN-x}", "${OTHER_TOKEN}", "$NPM_TOKEN", "${", "}", "//npm.acme.dev/js/:_authToken=", "//evil.example/:_authToken=",
        "@", ":", "/", "//", "=", "\"", "'", "\\", "\\u005f", "\n", "\r", "\r\n", "\u{2028}", "\u{85}", ";", "#", "registry=https://", "userconfig=", "prefix=", "[", "]", "NPM_TOKEN", " ",
    ],
    tries: 4000,
    holds: settings,
}];

const TOKEN: &str = "npm_0123456789";

/// Where the token would go if every variable were replaced as npm replaces it (`@npmcli/config`, `env-replace.js`):
/// to the registry's own host, as its token, and nowhere else.
fn settings(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let registry = Registry {
        url: "https://npm.acme.dev/js".parse().expect("an address"),
        scopes: vec!["@acme".into()],
        repos: vec!["**".into()],
        access: Access::Token(Secret::new(TOKEN)),
    };
    let given: BTreeMap<String, String> = tokens(&[File { name: ".npmrc", text: text.clone() }], &[registry]);
    for name in needed(&text).iter().chain(given.keys()) {
        assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') && !name.is_empty(), "{name:?}");
    }
    // Who knows it already has no need of us.
    if given.is_empty() || text.contains(TOKEN) {
        return;
    }
    // ini(1) divides lines at any of these; a comment is one that begins with its sign.
    for line in text.split(['\r', '\n']).map(str::trim).filter(|line| !line.starts_with([';', '#'])) {
        let mut filled = line.to_owned();
        for (name, token) in &given {
            for (from, to) in [(format!("${{{name}}}"), token.clone()), (format!("${{{name}?}}"), token.clone())] {
                filled = filled.replace(&from, &to);
            }
            for default in ["-", ":-"] {
                while let Some(at) = filled.find(&format!("${{{name}{default}")) {
                    let Some(end) = filled[at..].find('}') else { break };
                    filled.replace_range(at..=at + end, token);
                }
            }
        }
        if filled.contains(TOKEN) {
            let (key, _) = filled.split_once('=').unwrap_or((&filled, ""));
            let place = key.trim().strip_prefix("//").and_then(|key| key.strip_suffix(":_authToken"));
            let host = place.map(|place| place.split('/').next().unwrap_or_default());
            assert_eq!(host, Some("npm.acme.dev"), "{line:?} of {text:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn promises_hold() {
        super::TARGETS.iter().for_each(|target| target.try_it());
    }
}

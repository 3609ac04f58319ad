//! The settings of package managers as they act, without what opens doors: no token, password or user is in a key.

use saphyr::{LoadableYamlNode, Yaml};

use super::NotKept;
use super::sources::{Sources, inside};
use crate::domain::listing::joined;
use crate::domain::snapshot::Inputs;

/// Files that say how a folder is installed. The first ones are read from every folder above, too, by one manager or
/// another; that they are looked for where they mean nothing costs a needless miss at most.
const SETTINGS: [&str; 9] = [
    ".npmrc",
    ".yarnrc",
    ".yarnrc.yml",
    "bunfig.toml",
    "pnpm-workspace.yaml",
    "lerna.json",
    ".pnpmfile.cjs",
    ".pnpmfile.mjs",
    "pnpmfile.js",
];

/// Folders whose files take part in an install.
const FOLDERS: [&str; 5] = ["patches", ".yarn/patches", ".yarn/plugins", ".yarn/releases", ".pnpm-patches"];

/// Adds the settings of one folder, and the files that they name (`yarnPath`, plugins, patches, `cafile`).
pub(super) fn add(inputs: &mut Inputs, sources: &Sources<'_>, dir: &str) -> Result<(), NotKept> {
    for name in SETTINGS {
        let path = inside(dir, name);
        let Some(bytes) = sources.read(&path)? else { continue };
        let text = String::from_utf8_lossy(&bytes);
        if let Some(what) = reads_more(name, &text) {
            return Err(NotKept::Code { path, what });
        }
        match as_it_acts(name, &text) {
            Some(acts) => inputs.add_bytes(format!("{path} (without tokens)"), acts.as_bytes()),
            None => inputs.add_bytes(path.as_str(), &bytes),
        }
        for named in words(&text).filter_map(|word| joined(dir, word)) {
            if named != path {
                sources.add(inputs, &named)?;
            }
        }
    }
    for folder in FOLDERS {
        let folder = inside(dir, folder);
        sources.add_folder(inputs, &folder, &folder, |_| true)?;
    }
    Ok(())
}

/// A hook of pnpm is a program. One that loads others of the tree, or opens files, may read anything.
fn reads_more(name: &str, text: &str) -> Option<&'static str> {
    if !name.contains("pnpmfile") {
        return None;
    }
    ["require(\"./", "require('./", "require(\"../", "require('../", "from './", "from \"./", "from '../", "from \"../"]
        .into_iter()
        .chain(["import(", "\"fs\"", "'fs'", "node:fs", "child_process", "process.env"])
        .find(|word| text.contains(word))
}

/// What could be a path of the tree.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let ends = |c: char| c.is_whitespace() || "\"'=,[]{}()<>".contains(c);
    let is_path = |word: &&str| word.contains(['/', '.']) && !word.contains(['$', '*', ':', '@']) && word.len() < 512;
    text.split(ends).map(|word| word.trim_end_matches(':')).filter(is_path)
}

/// The settings without secrets, comments and spaces; `None` for files that hold none.
fn as_it_acts(name: &str, text: &str) -> Option<String> {
    match name {
        ".npmrc" | ".yarnrc" => Some(lines(text)),
        ".yarnrc.yml" => Some(match Yaml::load_from_str(text.trim_start_matches('\u{feff}')) {
            Ok(documents) => {
                let mut plain = String::new();
                documents.iter().for_each(|document| canonical(document, &mut plain));
                plain
            }
            Err(_) => lines(text),
        }),
        "bunfig.toml" => Some(match text.parse::<toml::Table>() {
            Ok(mut table) => {
                table.retain(|key, value| !is_secret(key) && without_secrets(value));
                table.to_string()
            }
            Err(_) => lines(text),
        }),
        _ => None,
    }
}

/// `key = value` and `key value`, one a line, as npm and yarn 1 have them.
fn lines(text: &str) -> String {
    let kept = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with(['#', ';']));
    let kept = kept.filter(|line| {
        let key = line.split(|c: char| c == '=' || c.is_whitespace()).next().unwrap_or_default();
        let key = key.trim_matches(['"', '\'']);
        !is_secret(key.rsplit(':').next().unwrap_or(key)) && !is_secret(key)
    });
    kept.map(without_user).collect::<Vec<_>>().join("\n")
}

fn is_secret(key: &str) -> bool {
    const KEYS: [&str; 13] = [
        "_authtoken",
        "_auth",
        "_password",
        "password",
        "username",
        "email",
        "token",
        "key",
        "npmauthtoken",
        "npmauthident",
        "certfile",
        "keyfile",
        "otp",
    ];
    // `//host/:_authToken` may also be written with colons of YAML behind it.
    let key = key.trim_end_matches(':').to_ascii_lowercase();
    KEYS.contains(&key.as_str()) || key.ends_with(":_authtoken") || key.ends_with(":_auth")
}

/// An address without the user and password in it.
pub(super) fn without_user(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        plain.push_str(before);
        let end = after.find(|c: char| c == '/' || c.is_whitespace() || c == '"').unwrap_or(after.len());
        rest = match after[..end].rfind('@') {
            Some(user) => &after[user + 1..],
            None => after,
        };
    }
    plain.push_str(rest);
    plain
}

/// YAML in one form, whatever its spaces, quotes and comments were.
fn canonical(yaml: &Yaml<'_>, plain: &mut String) {
    if let Some(mapping) = yaml.as_mapping() {
        plain.push('{');
        for (key, value) in mapping {
            if key.as_str().is_some_and(is_secret) {
                continue;
            }
            canonical(key, plain);
            plain.push(':');
            canonical(value, plain);
            plain.push(',');
        }
        plain.push('}');
    } else if let Some(list) = yaml.as_vec() {
        plain.push('[');
        for item in list {
            canonical(item, plain);
            plain.push(',');
        }
        plain.push(']');
    } else if let Some(text) = yaml.as_str() {
        plain.push_str(&format!("{:?}", without_user(text)));
    } else {
        plain.push_str(&format!("{yaml:?}"));
    }
}

/// Takes secrets out of a TOML value; false for a value that is nothing but one.
fn without_secrets(value: &mut toml::Value) -> bool {
    match value {
        toml::Value::Table(table) => table.retain(|key, value| !is_secret(key) && without_secrets(value)),
        toml::Value::Array(items) => items.retain_mut(without_secrets),
        toml::Value::String(text) => *text = without_user(text),
        _ => {}
    }
    true
}

/// Whether npm's settings keep scripts from running.
pub(super) fn ignores_scripts(sources: &Sources<'_>, dir: &str) -> Result<bool, NotKept> {
    let Some(bytes) = sources.read(&inside(dir, ".npmrc"))? else { return Ok(false) };
    let text = String::from_utf8_lossy(&bytes);
    Ok(text.lines().any(|line| line.split_whitespace().collect::<String>() == "ignore-scripts=true"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_secret_stays() {
        let check = |name: &str, text: &str, expected: &str| {
            assert_eq!(as_it_acts(name, text).as_deref(), Some(expected), "{text}");
        };
        check(".npmrc", "# c\nregistry = https://u:p@npm.acme.dev/\n", "registry = https://npm.acme.dev/");
        check(".npmrc", "//npm.acme.dev/:_authToken=${TOKEN}\n//npm.acme.dev/:_password = x\n_auth=y", "");
        check(".npmrc", "//npm.acme.dev/:username=me\nalways-auth=true", "always-auth=true");
        check(
            ".yarnrc",
            "\"//npm.acme.dev/:_authToken\" abc\nyarn-offline-mirror \"./m\"",
            "yarn-offline-mirror \"./m\"",
        );
        check(".yarnrc.yml", "nodeLinker:   node-modules # c\nnpmAuthToken: s\n", "{\"nodeLinker\":\"node-modules\",}");
        check(
            ".yarnrc.yml",
            "npmScopes: {acme: {npmAuthIdent: a, npmRegistryServer: 'https://u@n/'}}",
            "{\"npmScopes\":{\"acme\":{\"npmRegistryServer\":\"https://n/\",},},}",
        );
        check(
            "bunfig.toml",
            "[install.scopes]\nacme = { token = \"$T\", url = \"https://u:p@n/\" }\n",
            "[install.scopes.acme]\nurl = \"https://n/\"\n",
        );
    }
}

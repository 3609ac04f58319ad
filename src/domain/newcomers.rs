//! Packages with install scripts that a pull request brings, as far as lockfiles tell.
//!
//! npm writes `hasInstallScript` from its version 7 on, pnpm wrote `requiresBuild` to its version 8. yarn, bun and later
//! pnpms say nothing of scripts: then only the names of new packages are known.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

/// So many packages are named in one sentence.
const NAMED: usize = 5;

/// What a lockfile tells of its packages.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Told {
    /// Those with an install script: a version of each, by name.
    Scripts(BTreeMap<String, String>),
    /// The names of all.
    Names(BTreeSet<String>),
}

/// A sentence on what the lockfile called `path` brings that `before` (the same file of the base, if it had one) did not
/// have. `None`: nothing new, or nothing that can be read.
pub fn notice(path: &str, before: Option<&[u8]>, now: &[u8]) -> Option<String> {
    let name = path.rsplit('/').next().unwrap_or(path);
    let before = before.and_then(|before| read(name, before));
    match read(name, now)? {
        Told::Scripts(now) => {
            let known = |package: &str| match &before {
                Some(Told::Scripts(before)) => before.contains_key(package),
                // Another format: what had a script is not known, what was there is.
                Some(Told::Names(before)) => before.contains(package),
                None => false,
            };
            let new: Vec<String> = now
                .iter()
                .filter(|(package, _)| !known(package))
                .map(|(package, version)| format!("{package}@{version}"))
                .collect();
            let (is, has) =
                if new.len() == 1 { ("is", "has an install script") } else { ("are", "have install scripts") };
            (!new.is_empty()).then(|| format!("{} {is} new in {path} and {has}", listed(&new)))
        }
        Told::Names(now) => {
            let Some(Told::Names(before)) = before else { return None };
            let new: Vec<String> = now.difference(&before).cloned().collect();
            let are = if new.len() == 1 { "is" } else { "are" };
            let what = listed(&new);
            (!new.is_empty())
                .then(|| format!("{what} {are} new in {path}, which does not say what has an install script"))
        }
    }
}

fn listed(all: &[String]) -> String {
    let named = all.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
    if all.len() > NAMED { format!("{named} and {} more", all.len() - NAMED) } else { named }
}

fn read(name: &str, bytes: &[u8]) -> Option<Told> {
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim_start_matches('\u{feff}').replace("\r\n", "\n");
    match name {
        "package-lock.json" | "npm-shrinkwrap.json" => npm(&text),
        "pnpm-lock.yaml" => Some(pnpm(&text)),
        "yarn.lock" => Some(yarn(&text)),
        "bun.lock" => Some(bun(&text)),
        _ => None,
    }
}

#[derive(Deserialize)]
struct NpmLock {
    packages: Option<BTreeMap<String, NpmPackage>>,
    #[serde(default)]
    dependencies: BTreeMap<String, serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NpmPackage {
    /// Where it is installed under another name.
    name: Option<String>,
    #[serde(default)]
    version: String,
    #[serde(default)]
    has_install_script: bool,
}

fn npm(text: &str) -> Option<Told> {
    let lock: NpmLock = serde_json::from_str(text).ok()?;
    // npm 5 and 6 said nothing of scripts.
    let Some(packages) = lock.packages else { return Some(Told::Names(lock.dependencies.into_keys().collect())) };
    let scripts = packages.into_iter().filter(|(_, package)| package.has_install_script);
    let named = scripts.filter_map(|(folder, package)| {
        // What is not below `node_modules` is the repository's own.
        let (_, name) = folder.rsplit_once("node_modules/")?;
        Some((package.name.unwrap_or_else(|| name.to_owned()), package.version))
    });
    Some(Told::Scripts(named.collect()))
}

/// Entries of `packages:` are `/name/1.0.0:`, then `/name@1.0.0:`, then `name@1.0.0:`, each with what stands further in.
fn pnpm(text: &str) -> Told {
    let text = text.rsplit("\n---\n").next().unwrap_or(text);
    let packages = text.split_once("\npackages:\n").map_or("", |(_, rest)| rest);
    let (mut names, mut scripts) = (BTreeSet::new(), BTreeMap::new());
    let mut last: Option<(String, String)> = None;
    for line in packages.lines().take_while(|line| line.is_empty() || line.starts_with(' ')) {
        let inner = line.strip_prefix("  ").unwrap_or(line);
        if inner.starts_with(|first: char| !first.is_whitespace()) {
            last = inner.strip_suffix(':').and_then(pnpm_entry);
            names.extend(last.iter().map(|(name, _)| name.clone()));
        } else if line.trim() == "requiresBuild: true" {
            scripts.extend(last.clone());
        }
    }
    // Since version 9 of the format a lockfile says nothing of scripts.
    let version = text.lines().find_map(|line| line.strip_prefix("lockfileVersion:"));
    let major =
        version.and_then(|version| version.trim().trim_matches(['"', '\'']).split('.').next()?.parse::<u32>().ok());
    if major.is_some_and(|major| major < 9) { Told::Scripts(scripts) } else { Told::Names(names) }
}

fn pnpm_entry(key: &str) -> Option<(String, String)> {
    let key = key.trim_matches(['"', '\'']);
    // Peers stand behind, in brackets or after `_`.
    let key = key.split('(').next().unwrap_or(key);
    let plain = key.trim_start_matches('/');
    let by_slash = plain.rsplit_once('/').filter(|(_, version)| {
        version.starts_with(|first: char| first.is_ascii_digit())
            && !version[..version.find('_').unwrap_or(version.len())].contains('@')
    });
    let (name, version) = by_slash.or_else(|| plain.rsplit_once('@').filter(|(name, _)| !name.is_empty()))?;
    Some((name.to_owned(), version.split('_').next().unwrap_or_default().to_owned()))
}

/// Entries are `"@a/b@^1.0.0", c@2:` at the beginning of a line; yarn 2 and later write `c@npm:2` and the repository's own.
fn yarn(text: &str) -> Told {
    let keys = text.lines().filter(|line| !line.starts_with([' ', '#']) && line.ends_with(':'));
    let patterns = keys.flat_map(|line| line.trim_end_matches(':').split(", ")).map(|key| key.trim_matches('"'));
    let packages = patterns.filter(|key| *key != "__metadata" && !key.contains("@workspace:"));
    Told::Names(packages.filter_map(name_of).collect())
}

/// Entries of `packages` are `"name": ["name@1.0.0", …]`, four spaces in.
fn bun(text: &str) -> Told {
    let packages = text.split_once("\n  \"packages\": {").map_or("", |(_, rest)| rest);
    let entries =
        packages.lines().filter_map(|line| line.strip_prefix("    \"")?.split_once("\": [\"")?.1.split('"').next());
    Told::Names(entries.filter(|entry| !entry.contains("@workspace:")).filter_map(name_of).collect())
}

/// `@a/b` of `@a/b@^1.0.0`.
fn name_of(pattern: &str) -> Option<String> {
    let at = pattern.get(1..)?.find('@')? + 1;
    Some(pattern[..at].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(path: &str, before: Option<&str>, now: &str, expected: Option<&str>) {
        assert_eq!(notice(path, before.map(str::as_bytes), now.as_bytes()).as_deref(), expected);
    }

    #[test]
    fn npm_says_what_has_a_script() {
        let lock = |entries: &str| {
            format!("{{\"lockfileVersion\": 3, \"packages\": {{\"\": {{\"name\": \"shop\"}}{entries}}}}}")
        };
        let esbuild = r#", "node_modules/esbuild": {"version": "0.21.5", "hasInstallScript": true}"#;
        let sharp = r#", "node_modules/a/node_modules/sharp": {"version": "0.33.5", "hasInstallScript": true}"#;
        let plain = r#", "node_modules/react": {"version": "19.1.0"}"#;
        let own = r#", "packages/ui": {"version": "1.0.0", "hasInstallScript": true}"#;
        check("package-lock.json", Some(&lock("")), &lock(plain), None);
        check("package-lock.json", Some(&lock("")), &lock(own), None);
        let told = "esbuild@0.21.5 is new in web/package-lock.json and has an install script";
        check("web/package-lock.json", Some(&lock(plain)), &lock(&format!("{plain}{esbuild}")), Some(told));
        let both = "esbuild@0.21.5, sharp@0.33.5 are new in package-lock.json and have install scripts";
        check("package-lock.json", None, &lock(&format!("{esbuild}{sharp}")), Some(both));
        let newer = esbuild.replace("0.21.5", "0.22.0");
        check("package-lock.json", Some(&lock(esbuild)), &lock(&newer), None);
        // A version without a script before, with one now.
        let before = esbuild.replace(", \"hasInstallScript\": true", "");
        check(
            "package-lock.json",
            Some(&lock(&before)),
            &lock(&newer),
            Some("esbuild@0.22.0 is new in package-lock.json and has an install script"),
        );
        check(
            "package-lock.json",
            Some("{"),
            &lock(esbuild),
            Some("esbuild@0.21.5 is new in package-lock.json and has an install script"),
        );
        check("package-lock.json", Some(&lock("")), "no JSON", None);
    }

    #[test]
    fn pnpm_said_so_to_its_version_8() {
        let old = |key: &str| {
            format!(
                "lockfileVersion: '6.0'\n\npackages:\n\n  {key}:\n    resolution: {{integrity: x}}\n    requiresBuild: true\n    dev: true\n\n  /react@19.1.0:\n    dev: false\n"
            )
        };
        let empty = "lockfileVersion: '6.0'\n\npackages:\n\n  /react@19.1.0:\n    dev: false\n";
        for (key, told) in [
            ("/esbuild@0.21.5", "esbuild@0.21.5"),
            ("/@a/b@1.0.0(react@19.1.0)", "@a/b@1.0.0"),
            ("/esbuild/0.21.5", "esbuild@0.21.5"),
            ("/@a/b/1.0.0_react@19.1.0", "@a/b@1.0.0"),
        ] {
            let expected = format!("{told} is new in pnpm-lock.yaml and has an install script");
            check("pnpm-lock.yaml", Some(empty), &old(key), Some(&expected));
            check("pnpm-lock.yaml", Some(&old(key)), &old(key), None);
        }
    }

    #[test]
    fn others_name_what_is_new() {
        let told = |path: &str| format!("esbuild is new in {path}, which does not say what has an install script");
        let pnpm = |entry: &str| {
            format!(
                "lockfileVersion: '9.0'\n\npackages:\n\n  react@19.1.0:\n    resolution: {{}}\n{entry}\nsnapshots:\n\n  zod@1.0.0: {{}}\n"
            )
        };
        check(
            "pnpm-lock.yaml",
            Some(&pnpm("")),
            &pnpm("\n  esbuild@0.21.5:\n    hasBin: true\n"),
            Some(&told("pnpm-lock.yaml")),
        );
        let classic =
            |entry: &str| format!("# yarn lockfile v1\n\n\n\"@a/b@^1\", \"@a/b@^2\":\n  version \"2.0.0\"\n{entry}");
        check(
            "yarn.lock",
            Some(&classic("")),
            &classic("\nesbuild@^0.21.5:\n  version \"0.21.5\"\n"),
            Some(&told("yarn.lock")),
        );
        let berry = |entry: &str| format!("__metadata:\n  version: 8\n\n\"shop@workspace:.\":\n  version: 0\n{entry}");
        check(
            "yarn.lock",
            Some(&berry("")),
            &berry("\n\"esbuild@npm:^0.21.5\":\n  version: 0.21.5\n"),
            Some(&told("yarn.lock")),
        );
        let bun = |entry: &str| {
            format!(
                "{{\n  \"lockfileVersion\": 1,\n  \"packages\": {{\n    \"react\": [\"react@19.1.0\", \"\", {{}}, \"x\"],\n{entry}  }}\n}}\n"
            )
        };
        check(
            "bun.lock",
            Some(&bun("")),
            &bun("    \"esbuild\": [\"esbuild@0.21.5\", \"\", {}, \"x\"],\n"),
            Some(&told("bun.lock")),
        );
        check("yarn.lock", None, &classic(""), None);
    }
}

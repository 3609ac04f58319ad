//! Which folders the patterns of a workspace mean: `workspaces` of npm, yarn and bun, `packages` of pnpm and lerna.

use saphyr::{LoadableYamlNode, Yaml};

/// `packages` of a `pnpm-workspace.yaml`; `None` for what is not YAML.
pub fn pnpm_packages(text: &str) -> Option<Vec<String>> {
    let documents = Yaml::load_from_str(text.trim_start_matches('\u{feff}')).ok()?;
    let packages = documents.first().and_then(|yaml| yaml.as_mapping_get("packages")?.as_vec());
    Some(packages.into_iter().flatten().filter_map(Yaml::as_str).map(str::to_owned).collect())
}

/// Whether a folder is a package of the workspace: the last pattern that fits decides, and `!` takes out.
/// `folder` is relative to the workspace's own.
pub fn is_member(patterns: &[String], folder: &str) -> bool {
    let mut member = false;
    for pattern in patterns {
        let (takes, glob) = match pattern.trim().strip_prefix('!') {
            Some(glob) => (false, glob),
            None => (true, pattern.trim()),
        };
        let glob = glob.trim_start_matches("./").trim_start_matches('/').trim_end_matches('/');
        let glob = glob.strip_suffix("/package.json").unwrap_or(glob);
        if fast_glob::glob_match(glob, folder) {
            member = takes;
        }
    }
    member
}

#[cfg(test)]
mod tests {
    use super::is_member;

    #[test]
    fn patterns_of_workspaces() {
        let check = |patterns: &[&str], folder: &str, expected: bool| {
            let patterns: Vec<String> = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
            assert_eq!(is_member(&patterns, folder), expected, "{patterns:?} {folder}");
        };
        check(&["packages/*"], "packages/a", true);
        check(&["packages/*"], "packages/a/b", false);
        check(&["./packages/*/"], "packages/a", true);
        check(&["packages/**"], "packages/a/b", true);
        check(&["packages/**"], "packages/a", true);
        check(&["packages/*", "!packages/old"], "packages/old", false);
        check(&["packages/*", "!packages/old"], "packages/new", true);
        check(&["!**/test/**", "packages/**"], "packages/test/x", true);
        check(&["packages/**", "!**/test/**"], "packages/a/test/x", false);
        check(&["{apps,libs}/*"], "libs/b", true);
        check(&["client"], "client", true);
        check(&["client"], "client2", false);
    }
}

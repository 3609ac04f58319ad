//! `[[repo.secret]]`: what some steps of a repository's trusted builds are given.

use std::collections::HashSet;

use super::document::Table;
use super::problem::Place;
use super::rules::branch_patterns;
use super::secret;
use super::section::{Located, Section};
use super::server::StepSecret;
use super::surroundings::Surroundings;
use crate::domain::build::Build;
use crate::domain::trust::Trust;

/// The steps of a secret that names none. An install runs the code of strangers, a bundle that of the repository.
const STEPS: [&str; 1] = ["bundle"];

/// Names by which a step works at all.
const OURS: [&str; 12] = [
    "PATH",
    "HOME",
    "USER",
    "SHELL",
    "LANG",
    "TZ",
    "TMPDIR",
    "TERM",
    "FORCE_COLOR",
    "CI",
    "SOURCE_DATE_EPOCH",
    "NODE_ENV",
];

/// Names that a shell, git, the proxy's users or node obey, and so would print, send or run what stands there.
const OBEYED: [&str; 20] = [
    "NODE_OPTIONS",
    "NODE_PATH",
    "NODE_EXTRA_CA_CERTS",
    "NODE_TLS_REJECT_UNAUTHORIZED",
    "NODE_USE_ENV_PROXY",
    "NODE_DEBUG",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "IFS",
    "ENV",
    "BASH_ENV",
    "GIT_ASKPASS",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GIT_EXEC_PATH",
    "GIT_DIR",
];

/// Beginnings of names that we set, or that loaders and package managers read as settings of their own: Berry would send
/// what stands in `YARN_NPM_AUTH_TOKEN` to any registry.
const PREFIXES: [&str; 12] = [
    "CI_",
    "HOOKMILL",
    "LD_",
    "DYLD_",
    "NPM_CONFIG_",
    "NPM_PACKAGE_CONFIG_",
    "PNPM_CONFIG_",
    "YARN_",
    "COREPACK_",
    "BUN_",
    "BOWER_",
    "GIT_CONFIG",
];

/// Reads the `secret`s of one block.
pub(super) fn read(block: &mut Section<'_>, around: &Surroundings) -> Vec<StepSecret> {
    let mut seen = HashSet::new();
    let mut secrets = Vec::new();
    for table in block.tables("secret") {
        let place = table.place.clone();
        let Some(secret) = one(block, table, around) else { continue };
        if !seen.insert(secret.name.clone()) {
            block.wrong(&place, format!("a second secret named {:?}", secret.name), "keep one of them");
        }
        secrets.push(secret);
    }
    secrets
}

fn one(block: &mut Section<'_>, table: Table, around: &Surroundings) -> Option<StepSecret> {
    let header = block.key("secret");
    let mut section = Section::new(header.clone(), table, block.findings);
    section.require("name", format!("a [[{header}]] needs a `name`"), "write name = \"SENTRY_AUTH_TOKEN\"");
    let place = section.place();
    let name = section.text("name").and_then(|text| name(&mut section, text));
    if !secret::VALUE.given_in(&section) {
        let message = format!("this [[{header}]] has no value");
        section.wrong(&place, message, "write value_file = \"…\", or value_env, credential or value");
    }
    let value = secret::value(&mut section, around);
    let steps = section.texts("steps").map(|steps| named_steps(&mut section, &place, steps));
    let branches = branch_patterns(&mut section);
    section.finish();
    let steps = steps.unwrap_or_else(|| STEPS.map(str::to_owned).to_vec());
    Some(StepSecret { name: name?, value: value?, steps, branches })
}

fn name(section: &mut Section<'_>, text: Located<String>) -> Option<String> {
    let Located { place, value } = text;
    let good = value.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if !good {
        let message = format!("{value:?} is not a name for a variable");
        section.wrong(&place, message, "use letters, digits and _");
        return None;
    }
    let upper = value.to_ascii_uppercase();
    let is_taken = OURS.contains(&upper.as_str())
        || OBEYED.contains(&upper.as_str())
        || PREFIXES.iter().any(|prefix| upper.starts_with(prefix));
    if is_taken {
        let message = format!("no secret can be named {value:?}: programs obey this variable, or it is one of ours");
        section.wrong(&place, message, "give it a name that only your own build reads, like SENTRY_AUTH_TOKEN");
        return None;
    }
    Some(value)
}

fn named_steps(section: &mut Section<'_>, place: &Place, steps: Vec<Located<String>>) -> Vec<String> {
    if steps.is_empty() {
        let message = format!("`{}` is an empty list: nothing would see it", section.key("steps"));
        section.wrong(place, message, "name a step: steps = [\"bundle\"]");
    }
    for step in steps.iter().filter(|step| step.value.trim().is_empty() || step.value == "checkout") {
        let message = format!("{:?} is no step that could be given a secret", step.value);
        section.wrong(&step.place, message, "write \"bundle\", \"npm\", or the name of a [[check]]");
    }
    steps.into_iter().map(|step| step.value).collect()
}

/// Of the blocks that speak for a repository, the most exact first: each name as the first that has it says.
pub(super) fn merged<'a>(blocks: impl Iterator<Item = &'a [StepSecret]>) -> Vec<StepSecret> {
    let mut merged: Vec<StepSecret> = Vec::new();
    for secret in blocks.flatten() {
        if merged.iter().all(|known| known.name != secret.name) {
            merged.push(secret.clone());
        }
    }
    merged
}

impl StepSecret {
    /// Why a build is not given it; `None` for one that is.
    pub fn withheld(&self, build: &Build) -> Option<String> {
        if build.trust != Trust::Trusted {
            return Some("pull requests are given no secret".to_owned());
        }
        let Some(branch) = build.git_ref.as_branch() else {
            return Some("only builds of branches are given secrets".to_owned());
        };
        match &self.branches {
            None if build.default_branch.as_deref() == Some(branch) => None,
            None => Some(format!("{branch} is not the default branch")),
            Some(patterns) if patterns.iter().any(|pattern| fast_glob::glob_match(pattern, branch)) => None,
            Some(patterns) if patterns.is_empty() => Some("its `branches` are none".to_owned()),
            Some(patterns) => Some(format!("{branch} is none of {}", patterns.join(", "))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::config::load;
    use crate::config::server::RepoRules;

    const FORGE: &str = "[[forge]]\nname = \"github\"\nkind = \"github\"\ntoken = \"a-token-of-enough-bytes\"\n\
                         hook_secret = \"a-secret-of-enough-bytes\"\n";

    fn secret(keys: &str) -> String {
        format!("{FORGE}[[repo]]\nforge = \"github\"\nname = \"acme/shop\"\n[[repo.secret]]\n{keys}\n")
    }

    fn rules(text: &str) -> RepoRules {
        let loaded = load::from_text(text, Path::new("/")).unwrap_or_else(|problems| panic!("{text}\n{problems}"));
        loaded.server.forges.rules(&"github/acme/shop".parse().expect("legal")).expect("configured")
    }

    #[test]
    fn by_default_it_is_for_the_bundle_of_the_default_branch() {
        let rules = rules(&secret("name = \"SENTRY_AUTH_TOKEN\"\nvalue = \"0123456789abcdef\""));
        let [secret] = rules.secrets.as_slice() else { panic!("{rules:?}") };
        assert_eq!((secret.name.as_str(), secret.branches.as_ref()), ("SENTRY_AUTH_TOKEN", None));
        assert_eq!(secret.value.expose(), b"0123456789abcdef");
        assert_eq!(secret.steps, ["bundle"]);
        assert!(!format!("{rules:?}").contains("0123456789abcdef"));
    }

    #[test]
    fn what_is_refused() {
        let check = |keys: &str, expected: &str| {
            let text = secret(keys);
            let problems = load::from_text(&text, Path::new("/")).expect_err(keys);
            let said = problems.render(false);
            assert!(said.contains(expected), "{keys}\n{said}");
            assert!(!said.contains("0123456789abcdef"), "{said}");
        };
        let good = "value = \"0123456789abcdef\"";
        check(good, "a [[repo.secret]] needs a `name`");
        check("name = \"A\"", "this [[repo.secret]] has no value");
        check("name = \"A\"\nvalue = \"\"", "`repo.secret.value` is empty");
        check("name = \"A\"\nvalue_env = \"NOBODY\"", "the variable NOBODY is not set");
        check("name = \"A\"\nvalue_file = \"/nonexistent/a\"", "can't be read");
        check("name = \"A\"\ncredential = \"a\"", "LoadCredential=a:");
        check("name = \"A\"\ncredential = \"../a\"", "is not the name of a credential");
        check(&format!("name = \"A\"\n{good}\nvalue_env = \"B\""), "keep exactly one");
        check(&format!("name = \"A\"\n{good}\nbranch = [\"x\"]"), "did you mean `branches`?");
        check(&format!("name = \"A\"\n{good}\nbranches = [\"\"]"), "is not a branch pattern");
        check(&format!("name = \"A\"\n{good}\nsteps = []"), "is an empty list");
        check(&format!("name = \"A\"\n{good}\nsteps = [\"checkout\"]"), "no step that could be given a secret");
        check(&format!("name = \"A\"\n{good}\n[[repo.secret]]\nname = \"A\"\n{good}"), "a second secret named \"A\"");
        for name in ["1A", "A-B", "", "A=B", "ä"] {
            check(&format!("name = {name:?}\n{good}"), "is not a name for a variable");
        }
        for name in ["PATH", "Path", "NODE_OPTIONS", "LD_PRELOAD", "CI", "CI_REPO", "HOOKMILL_X", "npm_config_registry"]
        {
            check(&format!("name = {name:?}\n{good}"), "no secret can be named");
        }
    }

    #[test]
    fn the_most_exact_block_has_the_word_on_each_name() {
        let text = format!(
            "{FORGE}[[defaults.secret]]\nname = \"A\"\nvalue = \"a-of-all-of-them\"\n\
             [[defaults.secret]]\nname = \"B\"\nvalue = \"b-of-all-of-them\"\n\
             [[repo]]\nforge = \"github\"\nname = \"acme/*\"\n\
             [[repo.secret]]\nname = \"B\"\nvalue = \"b-of-all-of-acme\"\nbranches = [\"release/*\"]\n\
             [[repo]]\nforge = \"github\"\nname = \"acme/shop\"\n\
             [[repo.secret]]\nname = \"A\"\nvalue = \"a-of-the-one-shop\"\nbranches = []\n"
        );
        let rules = rules(&text);
        let all: Vec<(&str, &[u8])> =
            rules.secrets.iter().map(|secret| (secret.name.as_str(), secret.value.expose())).collect();
        assert_eq!(all, [("A", b"a-of-the-one-shop".as_slice()), ("B", b"b-of-all-of-acme")]);
    }

    #[test]
    fn a_short_one_is_used_and_warned_of() {
        let loaded = load::from_text(&secret("name = \"A\"\nvalue = \"short\""), Path::new("/")).expect("legal");
        let said: Vec<String> = loaded.warnings.iter().map(|warning| warning.render(false)).collect();
        assert!(said.iter().any(|warning| warning.contains("is not hidden in logs")), "{said:?}");
    }
}

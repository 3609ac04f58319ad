//! The keys that `[[repo]]` and `[defaults]` share.

use std::collections::BTreeMap;
use std::time::Duration;

use url::Url;

use super::limits::PartialLimits;
use super::parts::base_url;
use super::root::{Root, root};
use super::secret::{self, Secret};
use super::section::{Located, Section};
use super::server::{Forks, StepSecret, Supersede};
use super::step_secrets;
use super::surroundings::Surroundings;

/// A forge is not asked for heads more often: each time is a child process and a connection.
const SHORTEST_POLL: Duration = Duration::from_secs(10);

/// The rules that one block names; the others come from wider blocks.
#[derive(Debug, Clone, Default)]
pub(super) struct PartialRules {
    pub(super) hook_secrets: Option<Vec<Secret>>,
    pub(super) clone_url: Option<Url>,
    pub(super) branches: Option<Vec<String>>,
    pub(super) tags: Option<bool>,
    pub(super) forks: Option<Forks>,
    pub(super) supersede: Option<Supersede>,
    pub(super) cache: Option<bool>,
    pub(super) network: Option<bool>,
    pub(super) scripts: Option<Whose>,
    pub(super) script_packages: Vec<String>,
    pub(super) git_dependencies: Option<bool>,
    /// `Some(None)` is `"off"`.
    pub(super) poll: Option<Option<Duration>>,
    pub(super) env: Option<BTreeMap<String, String>>,
    /// `Some` of `None` is this machine's own.
    pub(super) root: Option<Located<Option<Root>>>,
    pub(super) secrets: Vec<StepSecret>,
    pub(super) limits: PartialLimits,
}

/// Whose install scripts run, the packages of `"listed"` apart: these add up over all blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    All,
    Listed,
    None,
}

/// Reads those keys of one table; ends the section.
pub(super) fn rules(mut section: Section<'_>, around: &Surroundings) -> PartialRules {
    let secrets = step_secrets::read(&mut section, around);
    for key in ["ssh_key_file", "known_hosts_file"] {
        section.refuse(key, "git over ssh; use https and the forge's token");
    }
    section.word("pull_requests", &[("head", Some(())), ("merge", None)]);
    let rules = PartialRules {
        hook_secrets: secret::hook_secrets(&mut section, around),
        clone_url: clone_url(&mut section),
        branches: branch_patterns(&mut section),
        tags: section.flag("tags"),
        forks: section.word(
            "forks",
            &[("approve", Some(Forks::Approve)), ("build", Some(Forks::Build)), ("ignore", Some(Forks::Ignore))],
        ),
        supersede: section.word(
            "supersede",
            &[("branches", Some(Supersede::Branches)), ("all", Some(Supersede::All)), ("none", Some(Supersede::None))],
        ),
        cache: section.flag("cache"),
        network: section.flag("network"),
        scripts: section.word(
            "scripts",
            &[("all", Some(Whose::All)), ("listed", Some(Whose::Listed)), ("none", Some(Whose::None))],
        ),
        script_packages: packages(&mut section),
        git_dependencies: section.flag("git_dependencies"),
        poll: section.duration_or_off("poll", SHORTEST_POLL),
        env: section.variables("env"),
        root: root(&mut section),
        secrets,
        limits: match section.table("limits") {
            Some(table) => PartialLimits::read(Section::new(section.key("limits"), table, section.findings)),
            None => PartialLimits::default(),
        },
    };
    section.finish();
    rules
}

fn packages(section: &mut Section<'_>) -> Vec<String> {
    let mut names = Vec::new();
    for Located { place, value } in section.texts("script_packages").unwrap_or_default() {
        // What npm allows, and so nothing that a manager would take for an option, a version or a path.
        let good = |part: &str| {
            part.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_')
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte))
        };
        let is_name = match value.strip_prefix('@') {
            Some(scoped) => scoped.split_once('/').is_some_and(|(scope, name)| good(scope) && good(name)),
            None => good(&value),
        };
        if is_name {
            names.push(value);
        } else {
            section.wrong(&place, format!("{value:?} is not a package's name"), "write \"esbuild\" or \"@acme/icons\"");
        }
    }
    names
}

fn clone_url(section: &mut Section<'_>) -> Option<Url> {
    let text = section.text("clone_url")?;
    // `git@host:path` is how git writes ssh without its scheme.
    let scp = !text.value.contains("://") && text.value.contains(':');
    if scp || text.value.starts_with("ssh://") {
        section.not_built(&text.place, "git over ssh", "write clone_url = \"https://host/path\", or take it out");
        return None;
    }
    base_url(section, "clone_url", &text)
}

/// The patterns under `branches`.
pub(super) fn branch_patterns(section: &mut Section<'_>) -> Option<Vec<String>> {
    let patterns = section.texts("branches")?;
    for Located { place, value } in &patterns {
        if value.is_empty() || fast_glob::validate(value).is_err() {
            section.wrong(
                place,
                format!("{value:?} is not a branch pattern"),
                "write \"main\", \"release/*\" or \"**\"",
            );
        }
    }
    Some(patterns.into_iter().map(|pattern| pattern.value).collect())
}

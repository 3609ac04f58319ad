//! `[[forge]]`, `[defaults]` and `[[repo]]`: who may knock, and by which rules.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use url::Url;

use super::document::Table;
use super::parts::base_url;
use super::problem::{Findings, Kind, Place, Problem};
use super::root::Root;
use super::rules::{PartialRules, Whose, rules};
use super::schema::Shape;
use super::secret;
use super::section::{Located, Section};
use super::server::{Forge, ForgeKind, Forges, Forks, RepoRules, Supersede};
use super::step_secrets;
use super::surroundings::Surroundings;
use super::values;
use crate::domain::repo::{ForgeName, RepoId, RepoPath};
use crate::domain::scripts::Scripts;

/// The kinds of the documentation; `None` for those that are not built yet.
const KINDS: [(&str, Option<ForgeKind>); 5] = [
    ("github", Some(ForgeKind::Github)),
    ("gitea", Some(ForgeKind::Gitea)),
    ("forgejo", Some(ForgeKind::Forgejo)),
    ("gitlab", None),
    ("bitbucket", None),
];

/// One `[[repo]]`, unmerged.
#[derive(Debug, Clone)]
pub(super) struct RepoBlock {
    forge: ForgeName,
    /// In lower case; `*` stops at `/`, `**` does not.
    pattern: String,
    /// The name as it was written, when it is no glob.
    exact: Option<RepoPath>,
    pub(super) rules: PartialRules,
}

impl RepoBlock {
    fn matches(&self, forge: &ForgeName, folded: &str) -> bool {
        self.forge == *forge
            && match self.exact {
                Some(_) => self.pattern == folded,
                None => fast_glob::glob_match(&self.pattern, folded),
            }
    }

    /// Greater is more exact: a whole name, then more literal characters, then fewer stars.
    fn exactness(&self) -> (bool, usize, Reverse<usize>) {
        let stars = self.pattern.matches('*').count();
        (self.exact.is_some(), self.pattern.chars().count() - stars, Reverse(stars))
    }
}

/// Reads every `[[forge]]`.
pub(super) fn forges(
    tables: Vec<Table>,
    around: &Surroundings,
    findings: &mut Findings,
) -> BTreeMap<ForgeName, Arc<Forge>> {
    let mut forges = BTreeMap::new();
    for table in tables {
        let section = Section::new("forge", table, findings);
        let place = section.place();
        let Some(forge) = forge(section, around) else { continue };
        if forges.contains_key(&forge.name) {
            let message = format!("a second [[forge]] named {:?}", forge.name.as_str());
            findings.push(Problem::at(Kind::Wrong, &place, message).fix("give it another name"));
        }
        forges.insert(forge.name.clone(), Arc::new(forge));
    }
    forges
}

fn forge(mut section: Section<'_>, around: &Surroundings) -> Option<Forge> {
    let place = section.place();
    for key in ["name", "kind"] {
        section.require(key, format!("a [[forge]] needs a `{key}`"), format!("write {key} = \"github\""));
    }
    for key in ["app_id", "app_key_file"] {
        section.refuse(key, "GitHub Apps; use token_file");
    }
    let name = section.text("name").and_then(|text| parsed(&mut section, &text));
    let kind = section.word("kind", &KINDS);
    let web_given = section.has("web_url");
    let web_url = section.text("web_url").and_then(|text| base_url(&mut section, "web_url", &text));
    let api_url = section.text("api_url").and_then(|text| base_url(&mut section, "api_url", &text));
    if !web_given && kind.is_some_and(|kind| kind != ForgeKind::Github) {
        section.wrong(&place, "this [[forge]] needs a `web_url`", "write web_url = \"https://gitea.example.org\"");
    }
    if !secret::TOKEN.given_in(&section) {
        let message = "this forge has no token: no status can be posted, and only public repositories can be read";
        section.findings.push(Problem::at(Kind::Warning, &place, message).fix("write token_file = \"…\""));
    }
    let token = secret::token(&mut section, &secret::TOKEN, around);
    let read_token = secret::token(&mut section, &secret::READ_TOKEN, around);
    let hook_secrets = secret::hook_secrets(&mut section, around).unwrap_or_default();
    section.finish();
    let kind = kind?;
    let web_url = web_url.unwrap_or_else(|| constant("https://github.com"));
    let api_url = api_url.unwrap_or_else(|| api_of(kind, &web_url));
    Some(Forge { name: name?, kind, api_url, web_url, token, read_token, hook_secrets })
}

fn constant(address: &str) -> Url {
    Url::parse(address).expect("a constant that parses")
}

/// Where a forge keeps its API, unless it is configured: GitHub's own host, `/api/v3` of an Enterprise
/// Server, `/api/v1` of Gitea and Forgejo.
fn api_of(kind: ForgeKind, web_url: &Url) -> Url {
    let path = match kind {
        ForgeKind::Github if web_url.host_str() == Some("github.com") => return constant("https://api.github.com"),
        ForgeKind::Github => "api/v3",
        ForgeKind::Gitea | ForgeKind::Forgejo => "api/v1",
    };
    below(web_url, path)
}

/// An address further down.
fn below(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(path.split('/'));
    }
    url
}

/// A name that checks itself; its error is reported.
fn parsed<T: std::str::FromStr<Err = crate::domain::repo::BadName>>(
    section: &mut Section<'_>,
    text: &Located<String>,
) -> Option<T> {
    match text.value.parse() {
        Ok(value) => Some(value),
        Err(error) => {
            section.findings.push(Problem::at(Kind::Wrong, &text.place, error.to_string()));
            None
        }
    }
}

/// Reads `[defaults]`.
pub(super) fn defaults(table: Table, around: &Surroundings, findings: &mut Findings) -> PartialRules {
    let mut section = Section::new("defaults", table, findings);
    for key in ["forge", "name", "clone_url"] {
        if let Some(entry) = section.take_as(key, Shape::Refused) {
            let message = format!("`{key}` belongs to one repository, not to [defaults]");
            section.wrong(&entry.key, message, "move it into its [[repo]]");
        }
    }
    rules(section, around)
}

/// Reads every `[[repo]]`, the most exact first, and checks that each can be knocked for.
pub(super) fn repos(
    tables: Vec<Table>,
    forges: &BTreeMap<ForgeName, Arc<Forge>>,
    defaults: &PartialRules,
    around: &Surroundings,
    findings: &mut Findings,
) -> Vec<RepoBlock> {
    let mut seen = HashSet::new();
    let mut blocks: Vec<Located<RepoBlock>> = Vec::new();
    for table in tables {
        let section = Section::new("repo", table, findings);
        let Some(block) = repo(section, forges, around) else { continue };
        if !seen.insert((block.value.forge.clone(), block.value.pattern.clone())) {
            let message = format!("a second [[repo]] for {:?} of {}", block.value.pattern, block.value.forge);
            findings.push(Problem::at(Kind::Wrong, &block.place, message).fix("put its keys into the first one"));
        }
        blocks.push(block);
    }
    blocks.sort_by_key(|block| Reverse(block.value.exactness()));
    let places: Vec<Place> = blocks.iter().map(|block| block.place.clone()).collect();
    let blocks: Vec<RepoBlock> = blocks.into_iter().map(|block| block.value).collect();
    for (block, place) in blocks.iter().zip(&places) {
        let Some(forge) = forges.get(&block.forge) else { continue };
        if forge.read_token.is_none()
            && chain(&blocks, defaults, &block.forge, &block.pattern).find_map(|rules| rules.git_dependencies)
                == Some(true)
        {
            let message = format!("install scripts of {:?} can read the token that sets statuses", block.pattern);
            let fix = "give the [[forge]] a read_token_file that may only read; git_dependencies uses it";
            findings.push(Problem::at(Kind::Warning, place, message).fix(fix));
        }
        let whose = scripts(chain(&blocks, defaults, &block.forge, &block.pattern));
        if !block.rules.script_packages.is_empty() && !matches!(whose, Scripts::Listed(_)) {
            let message =
                format!("`script_packages` of {:?} changes nothing: scripts is not \"listed\"", block.pattern);
            let fix = "write scripts = \"listed\", or take it out";
            findings.push(Problem::at(Kind::Warning, place, message).fix(fix));
        }
        // A glob's own text stands for the names that it matches: a wider glob matches it too.
        let mut above = chain(&blocks, defaults, &block.forge, &block.pattern);
        let polls = above.clone().find_map(|rules| rules.poll).flatten().is_some();
        let unsigned = forge.hook_secrets.is_empty() && !above.any(|rules| rules.hook_secrets.is_some());
        if around.takes_hooks && !polls && unsigned {
            let message =
                format!("nobody can sign for {:?}: it has no hook secret, and {} has none", block.pattern, block.forge);
            let fix =
                "write hook_secret_file = \"…\" here or in the [[forge]]; or poll = \"1m\", which needs no webhook";
            findings.push(Problem::at(Kind::Wrong, place, message).fix(fix));
        }
        if polls && block.exact.is_none() {
            let message =
                format!("poll can't begin with {:?}: which repositories it names is not known", block.pattern);
            let fix = "give each its own [[repo]] with its whole name; the others are asked once they were heard of";
            findings.push(Problem::at(Kind::Warning, place, message).fix(fix));
        }
    }
    blocks
}

fn repo(
    mut section: Section<'_>,
    forges: &BTreeMap<ForgeName, Arc<Forge>>,
    around: &Surroundings,
) -> Option<Located<RepoBlock>> {
    for (key, example) in [("forge", "github"), ("name", "acme/shop")] {
        section.require(key, format!("a [[repo]] needs a `{key}`"), format!("write {key} = {example:?}"));
    }
    let forge = section.text("forge").and_then(|text| known_forge(&mut section, &text, forges));
    let name = section.text("name").and_then(|text| pattern(&mut section, &text));
    if let Some(Located { value: (_, None), .. }) = &name
        && let Some(entry) = section.take("clone_url")
    {
        section.wrong(
            &entry.key,
            "a glob has no `clone_url`: it names many repositories",
            "give each its own [[repo]]",
        );
    }
    let rules = rules(section, around);
    let Located { value: (pattern, exact), place } = name?;
    Some(Located { place, value: RepoBlock { forge: forge?, pattern, exact, rules } })
}

fn known_forge(
    section: &mut Section<'_>,
    text: &Located<String>,
    forges: &BTreeMap<ForgeName, Arc<Forge>>,
) -> Option<ForgeName> {
    let found = forges.keys().find(|name| name.as_str() == text.value);
    if found.is_none() {
        let names: Vec<&str> = forges.keys().map(ForgeName::as_str).collect();
        let fix = match values::nearest(&text.value, names.iter().copied()) {
            Some(meant) => format!("did you mean {meant:?}?"),
            None if names.is_empty() => "write a [[forge]] first".to_owned(),
            None => format!("there is a [[forge]] for: {}", names.join(", ")),
        };
        section.wrong(&text.place, format!("there is no [[forge]] named {:?}", text.value), fix);
    }
    found.cloned()
}

/// A repository's name, or a glob inside one owner: the pattern in lower case, and the name if it is one.
fn pattern(section: &mut Section<'_>, text: &Located<String>) -> Option<Located<(String, Option<RepoPath>)>> {
    if text.value.contains(['[', ']', '{', '}', '!']) {
        section.wrong(
            &text.place,
            format!("{:?}: a name holds no other pattern than `*` and `**`", text.value),
            "write one [[repo]] for each",
        );
        return None;
    }
    let exact = if text.value.contains('*') {
        if text.value.split('/').next().is_some_and(|owner| owner.contains('*')) {
            section.wrong(&text.place, format!("{:?} reaches over several owners", text.value), "write \"owner/*\"");
            return None;
        }
        // The literal rest has to be a name's.
        let filled = Located { place: text.place.clone(), value: text.value.replace('*', "x") };
        parsed::<RepoPath>(section, &filled)?;
        None
    } else {
        Some(parsed::<RepoPath>(section, text)?)
    };
    Some(Located { place: text.place.clone(), value: (text.value.to_lowercase(), exact) })
}

/// Every block that speaks for a repository, the most exact first, then `[defaults]`.
fn chain<'a>(
    blocks: &'a [RepoBlock],
    defaults: &'a PartialRules,
    forge: &'a ForgeName,
    folded: &'a str,
) -> impl Iterator<Item = &'a PartialRules> + Clone {
    let matching = blocks.iter().filter(move |block| block.matches(forge, folded));
    matching.map(|block| &block.rules).chain(std::iter::once(defaults))
}

/// The most exact word on whose scripts run, and every package that any block lists.
fn scripts<'a>(mut all: impl Iterator<Item = &'a PartialRules> + Clone) -> Scripts {
    let packages = all.clone().flat_map(|rules| rules.script_packages.iter().cloned());
    match all.find_map(|rules| rules.scripts) {
        None | Some(Whose::All) => Scripts::All,
        Some(Whose::Listed) => Scripts::Listed(packages.collect()),
        Some(Whose::None) => Scripts::None,
    }
}

impl Forges {
    /// The rules for a repository, or `None` when no `[[repo]]` block names it.
    pub fn rules(&self, repo: &RepoId) -> Option<RepoRules> {
        let folded = repo.path.folded();
        let mut matching = self.blocks.iter().filter(|block| block.matches(&repo.forge, &folded));
        let closest = matching.next()?;
        let forge = self.by_name.get(&repo.forge)?;
        let all = chain(&self.blocks, &self.defaults, &repo.forge, &folded);
        let name = closest.exact.as_ref().unwrap_or(&repo.path);
        let limits = self.limits.clone()?;
        let exact_first: Vec<&PartialRules> = all.clone().collect();
        Some(RepoRules {
            hook_secrets: all.clone().find_map(|rules| rules.hook_secrets.clone()).unwrap_or_default(),
            clone_url: all
                .clone()
                .find_map(|rules| rules.clone_url.clone())
                .unwrap_or_else(|| below(&forge.web_url, &format!("{name}.git"))),
            branches: all.clone().find_map(|rules| rules.branches.clone()).unwrap_or_default(),
            tags: all.clone().find_map(|rules| rules.tags).unwrap_or(false),
            forks: all.clone().find_map(|rules| rules.forks).unwrap_or(Forks::Approve),
            supersede: all.clone().find_map(|rules| rules.supersede).unwrap_or(Supersede::Branches),
            cache: all.clone().find_map(|rules| rules.cache).unwrap_or(true),
            network: all.clone().find_map(|rules| rules.network).unwrap_or(false),
            scripts: scripts(all.clone()),
            git_dependencies: all.clone().find_map(|rules| rules.git_dependencies).unwrap_or(false),
            poll: all.clone().find_map(|rules| rules.poll).flatten(),
            env: all.clone().find_map(|rules| rules.env.clone()).unwrap_or_default(),
            root: match all.clone().find_map(|rules| rules.root.as_ref()) {
                Some(own) => own.value.clone(),
                None => self.root.clone(),
            },
            secrets: step_secrets::merged(exact_first.iter().map(|rules| rules.secrets.as_slice())),
            registries: self.registries.iter().filter(|registry| registry.serves(repo)).cloned().collect(),
            limits: exact_first.iter().rev().fold(limits, |base, rules| rules.limits.over(&base)),
        })
    }

    /// Repositories that are named whole (without a glob), for `hook list` and start-up.
    pub fn named(&self) -> Vec<(ForgeName, RepoPath)> {
        let named = |block: &RepoBlock| Some((block.forge.clone(), block.exact.clone()?));
        self.blocks.iter().filter_map(named).collect()
    }

    /// Every root that steps of some repository are to see, each once.
    pub fn roots(&self) -> BTreeSet<Root> {
        let written = self.blocks.iter().map(|block| &block.rules).chain([&self.defaults]);
        let written = written.filter_map(|rules| rules.root.as_ref()?.value.clone());
        written.chain(self.root.clone()).collect()
    }

    /// How many `[[repo]]` blocks there are, globs included.
    pub fn blocks(&self) -> usize {
        self.blocks.len()
    }
}

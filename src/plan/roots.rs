//! The folders of a tree where something is installed.
//!
//! The tree's root is one when it has a `package.json`. A folder below is one when its own lockfile speaks for it, or,
//! where nothing above it is installed, something to build; unless a workspace above holds it, its name says that it
//! is not the product (vendored, fixtures, examples), or a script of a project above installs it already.

use std::collections::BTreeMap;

use super::account::Account;
use super::javascript::{self, Choice};
use super::manifest::{INSTALLED, Manifest};
use super::wishes::folder;
use super::{BadPlan, InstallWish, Steps, freshness, inside, nested, scripts, versions, workspaces};
use crate::domain::listing::Listing;
use crate::domain::spec::{NOBODY, Wanted};

/// A folder with a `package.json` that is installed by itself, with the packages that its install takes care of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Project {
    /// `.` is the tree's root.
    pub(super) dir: String,
    /// Its package manager and lockfile.
    pub(super) choice: Choice,
    /// The packages of its workspace, by folder; empty for a single package.
    pub(super) members: Vec<Member>,
    /// The node and the manager that its steps need.
    pub(super) tools: Vec<Wanted>,
    /// Whether it has anything to install. The tree's root is a project also without.
    pub(super) installs: bool,
    /// The script of a project above that installs it in place of a step of its own, as a sentence.
    pub(super) installed_by: Option<String>,
    /// The script of another project that builds it, as a sentence, so that it is not built once more by itself.
    pub(super) built_by: Option<String>,
}

impl Project {
    /// Whether its dependencies are there after the installs.
    pub(super) fn is_installed(&self) -> bool {
        self.installs || self.installed_by.is_some()
    }
}

/// A package of a workspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    /// From the tree's root.
    pub(super) dir: String,
    /// `name` of its `package.json`; the folder where it has none.
    pub(super) name: String,
    /// The names of the members that it depends on, in any of its fields of dependencies.
    pub(super) needs: Vec<String>,
}

/// More folders than this are not installed by guess.
const MOST_FOLDERS: usize = 8;
/// More folders than this are counted, not listed.
const LISTED_FOLDERS: usize = 20;

/// Every JavaScript project of the tree, the shallowest first, then by name.
pub(super) fn projects(listing: &Listing, steps: &Steps<'_>, account: &mut Account) -> Result<Vec<Project>, BadPlan> {
    let wished = wished(steps)?;
    let mut roots = Roots { listing, steps, projects: Vec::new(), guessed: 0, aside: Vec::new() };
    for dir in folders(listing) {
        roots.consider(&dir, wished.get(&dir).copied(), account)?;
    }
    roots.tell_aside(account);
    let mut projects = roots.projects;
    for at in 0..projects.len() {
        projects[at].built_by = nested::built_by(listing, steps, &projects, &projects[at].dir);
    }
    Ok(projects)
}

/// The wishes for an install by a package manager that reads `package.json`, by folder.
fn wished<'a>(steps: &Steps<'a>) -> Result<BTreeMap<String, &'a InstallWish>, BadPlan> {
    let wishes = steps.wishes.installs.iter().filter(|wish| wish.tool != "bower");
    wishes.map(|wish| Ok((folder(&format!("[[install]] {}", wish.tool), wish.dir.as_deref())?, wish))).collect()
}

/// Every folder with a `package.json`, the shallowest first, then by name.
fn folders(listing: &Listing) -> Vec<String> {
    let paths = listing.paths.iter().chain(listing.dangling.keys());
    let mut folders: Vec<String> = paths
        .filter_map(|path| match path.rsplit_once('/') {
            Some((dir, "package.json")) => Some(dir.to_owned()),
            None if path == "package.json" => Some(".".to_owned()),
            _ => None,
        })
        .collect();
    let depth = |dir: &str| if dir == "." { 0 } else { 1 + dir.matches('/').count() };
    folders.sort_by(|a, b| (depth(a), a).cmp(&(depth(b), b)));
    folders
}

/// What a folder below the root is.
enum Verdict {
    Project,
    /// One that a script installs, as this sentence says.
    InstalledBy(String),
    /// None, although a person may think so, for this reason.
    Aside(String),
    Nothing,
}

struct Roots<'a> {
    listing: &'a Listing,
    steps: &'a Steps<'a>,
    projects: Vec<Project>,
    /// Those below the root that nobody named.
    guessed: usize,
    /// Folders that are no projects, each with the reason.
    aside: Vec<(String, String)>,
}

impl Roots<'_> {
    fn consider(&mut self, dir: &str, wish: Option<&InstallWish>, account: &mut Account) -> Result<(), BadPlan> {
        let skipped = wish.is_some_and(|wish| wish.skip);
        // What is not the root and shall not be installed is no project.
        if skipped && dir != "." {
            return Ok(());
        }
        let mut installed_by = None;
        if wish.is_none() && dir != "." {
            match self.verdict(dir, account) {
                Verdict::Project => self.guessed += 1,
                Verdict::InstalledBy(sentence) => installed_by = Some(sentence),
                Verdict::Nothing => return Ok(()),
                Verdict::Aside(reason) => {
                    self.aside.push((dir.to_owned(), reason));
                    return Ok(());
                }
            }
        }
        let Some(package) = Manifest::read(self.listing, dir, "package.json")? else { return Ok(()) };
        let named = wish.and_then(|wish| javascript::named(self.listing, dir, &wish.tool, Some(&package)));
        let choice = named.unwrap_or_else(|| javascript::detect(self.listing, dir, &package, account));
        let project = self.project(dir, &package, choice, account)?;
        let installs = project.installs && !skipped && installed_by.is_none();
        self.projects.push(Project { installs, installed_by, ..project });
        Ok(())
    }

    /// Whether a folder below the root is a project.
    fn verdict(&self, dir: &str, account: &mut Account) -> Verdict {
        let is_member = |project: &Project| project.members.iter().any(|member| member.dir == dir);
        if self.projects.iter().any(is_member) {
            return Verdict::Nothing;
        }
        let within = |module: &&String| {
            dir.strip_prefix(module.as_str()).is_some_and(|rest| matches!(rest.chars().next(), None | Some('/')))
        };
        if let Some(module) = self.listing.submodules.iter().find(within) {
            return Verdict::Aside(format!("the submodule {module} is a repository of its own"));
        }
        if let Some(name) = dir.split('/').find(|name| not_the_product(name)) {
            return Verdict::Aside(format!("a folder called {name} holds no product"));
        }
        let package = match Manifest::read(self.listing, dir, "package.json") {
            Ok(Some(package)) => package,
            Ok(None) => return Verdict::Nothing,
            Err(error) => {
                account.notice(format!("{error}; the folder is left out"));
                return Verdict::Nothing;
            }
        };
        if package.asked(&INSTALLED).next().is_none() && package.workspaces().is_empty() {
            return Verdict::Nothing;
        }
        let above = covering(&self.projects, dir).filter(|project| project.is_installed());
        let installed_by = nested::installed_by(self.listing, self.steps, &self.projects, dir);
        if above.is_some() && dir.split('/').any(is_documentation) {
            let documentation = || "it looks like the documentation of what is built".to_owned();
            return Verdict::Aside(installed_by.unwrap_or_else(documentation));
        }
        if let Some(sentence) = installed_by {
            return Verdict::InstalledBy(sentence);
        }
        let locked = self.listing.paths.iter().any(|path| {
            path.rsplit_once('/').is_some_and(|(folder, name)| folder == dir && javascript::is_lockfile(name))
        });
        let builds = package.script("build").is_some() || has_bundler(self.listing, dir);
        match (locked, builds, above) {
            (true, ..) | (false, true, None) => {}
            (false, false, None) => {
                return Verdict::Aside("it has neither a lockfile nor something to build".to_owned());
            }
            (false, _, Some(above)) => {
                let above = inside(&above.dir, "package.json");
                return Verdict::Aside(format!("it has no lockfile of its own and is in no workspace of {above}"));
            }
        }
        if self.guessed == MOST_FOLDERS {
            return Verdict::Aside(format!("{MOST_FOLDERS} folders before it are installed, and more are not guessed"));
        }
        Verdict::Project
    }

    fn project(
        &self,
        dir: &str,
        package: &Manifest,
        mut choice: Choice,
        account: &mut Account,
    ) -> Result<Project, BadPlan> {
        let workspace = workspaces::of(self.listing, dir, package, account);
        let members = workspace.as_ref().map(|workspace| workspace.members.clone()).unwrap_or_default();
        if let Some(workspace) = &workspace {
            let number = workspace.members.len();
            let because = format!("a workspace is installed once, at its root ({})", inside(dir, "package.json"));
            account.decide(&workspace.said_by, format!("{number} packages belong to it"), because);
        }
        let mut tools = versions::of_project(self.listing, self.steps, dir, &choice, account)?;
        // What package.json does not bring itself is the agent's.
        let runs_bower = || {
            package
                .script_names()
                .any(|name| scripts::commands(package, dir, name).iter().any(|command| command.runs("bower")))
        };
        if package.dependency("bower").is_none() && runs_bower() {
            tools.push(versions::any("bower", &inside(dir, "package.json scripts")));
        }
        tools.extend(nested::managers(self.listing, self.steps, dir, package, &tools, account)?);
        let lockfile = choice.lockfile.as_ref().and_then(|path| self.listing.lockfiles.get(path));
        choice.stale = lockfile.and_then(|lockfile| {
            let unreadable = tools.iter().find(|tool| tool.tool == choice.manager.tool());
            let unreadable = unreadable.and_then(|tool| versions::unreadable(lockfile.format, tool));
            unreadable.or_else(|| freshness::difference(self.listing, lockfile, dir, &members))
        });
        let script = package.lifecycle_script().filter(|_| self.steps.settings.scripts.run_own());
        let installs = package.has_dependencies() || workspace.is_some() || script.is_some();
        Ok(Project { dir: dir.to_owned(), choice, members, tools, installs, installed_by: None, built_by: None })
    }

    /// Accounts for the folders that are no projects, with the lines that would make them some.
    fn tell_aside(&self, account: &mut Account) {
        for (dir, reason) in self.aside.iter().take(LISTED_FOLDERS) {
            let package = Manifest::read(self.listing, dir, "package.json").ok().flatten();
            let choice =
                package.map(|package| javascript::detect(self.listing, dir, &package, &mut Account::default()));
            let tool = choice.map_or("npm", |choice| choice.manager.tool());
            account.leave_out(&inside(dir, "package.json"), reason, &install_lines(dir, tool));
        }
        if self.aside.len() > LISTED_FOLDERS {
            let more = self.aside.len() - LISTED_FOLDERS;
            account.decide(
                format!("{more} more package.json in sub-folders"),
                "not installed",
                "no lockfile, no workspace and no place in the tree speaks for them",
            );
        }
        let over = self.aside.iter().filter(|(_, reason)| reason.ends_with("are not guessed")).count();
        if over > 0 {
            account.notice(format!(
                "{} folders have a package.json and a lockfile of their own, and only the first {MOST_FOLDERS} are installed; name the others by [[install]] in .hookmill.toml",
                MOST_FOLDERS + over
            ));
        }
    }
}

/// Names of folders whose contents come from elsewhere, or show, test or start something else than the product.
/// Hidden folders are among them: `.github/actions/x` is no part of a front end.
fn not_the_product(name: &str) -> bool {
    const NAMES: [&str; 44] = [
        "node_modules",
        "bower_components",
        "jspm_packages",
        "vendor",
        "vendors",
        "third_party",
        "third-party",
        "thirdparty",
        "fixture",
        "fixtures",
        "__fixtures__",
        "__tests__",
        "__mocks__",
        "__testfixtures__",
        "test",
        "tests",
        "testdata",
        "test-data",
        "testing",
        "spec",
        "specs",
        "e2e",
        "cypress",
        "integration-tests",
        "example",
        "examples",
        "sample",
        "samples",
        "demo",
        "demos",
        "template",
        "templates",
        "skeleton",
        "skeletons",
        "boilerplate",
        "boilerplates",
        "playground",
        "playgrounds",
        "benchmark",
        "benchmarks",
        "dist",
        "coverage",
        "target",
        "tmp",
    ];
    name.starts_with('.') || NAMES.contains(&name.to_ascii_lowercase().as_str())
}

/// True for a folder whose place in the tree does not rule it out.
pub(super) fn may_be(dir: &str) -> bool {
    !dir.split('/').any(not_the_product)
}

/// Names of folders that, beside a project above them, hold its documentation: often built from it and published by
/// another job. Alone in a tree they are what there is to build.
const DOCUMENTATION: [&str; 7] = ["doc", "docs", "documentation", "website", "site", "storybook", "styleguide"];

/// `docs`, `dev-docs`, `docs_v2`.
fn is_documentation(name: &str) -> bool {
    name.to_ascii_lowercase().split(['-', '_', '.']).any(|word| DOCUMENTATION.contains(&word))
}

/// True when a bundler's configuration lies in the folder.
fn has_bundler(listing: &Listing, dir: &str) -> bool {
    const PREFIXES: [&str; 8] = [
        "webpack.",
        "webpackfile.",
        "rspack.config.",
        "vite.config.",
        "next.config.",
        "nuxt.config.",
        "vue.config.",
        "rollup.config.",
    ];
    listing.paths.iter().any(|path| {
        let (folder, name) = path.rsplit_once('/').unwrap_or((".", path));
        folder == dir && (name == "angular.json" || PREFIXES.iter().any(|prefix| name.starts_with(prefix)))
    })
}

/// The notice for a tree of which nothing is built, although there is something.
pub(super) fn tell_what_was_left(account: &mut Account) {
    if let Some(left) = account.left_out.first().cloned() {
        account.notice(left);
    }
}

pub(super) fn install_lines(dir: &str, tool: &str) -> String {
    format!("[[install]] tool = \"{tool}\", dir = \"{dir}\"")
}

/// The project that a folder belongs to: the nearest one at it or above it.
pub(super) fn covering<'a>(projects: &'a [Project], dir: &str) -> Option<&'a Project> {
    let covers = |project: &&Project| project.dir == "." || is_in(dir, &project.dir);
    projects.iter().filter(covers).max_by_key(|project| if project.dir == "." { 0 } else { project.dir.len() })
}

/// True for a folder itself and for everything in it.
fn is_in(dir: &str, folder: &str) -> bool {
    dir.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What a step in a folder needs on its `PATH`; nothing outside every project.
pub(super) fn tools(projects: &[Project], dir: &str) -> Vec<Wanted> {
    covering(projects, dir).map(|project| project.tools.clone()).unwrap_or_default()
}

/// The same for a step that somebody wrote, which may start a tool of ours also where there is no project.
pub(super) fn tools_for(
    listing: &Listing,
    steps: &Steps<'_>,
    projects: &[Project],
    dir: &str,
    program: &str,
    account: &mut Account,
) -> Result<Vec<Wanted>, BadPlan> {
    let known = tools(projects, dir);
    if !known.is_empty() || !["node", "npm", "npx", "yarn", "pnpm", "bun", "bower"].contains(&program) {
        return Ok(known);
    }
    let mut wanted = vec![versions::node(listing, steps, dir, account)?, versions::any("npm", NOBODY)];
    if matches!(program, "yarn" | "pnpm" | "bun" | "bower") {
        wanted.push(versions::any(program, ".hookmill.toml"));
    }
    Ok(wanted)
}

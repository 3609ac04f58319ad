//! The folders of a tree where something is installed.

use super::BadPlan;
use super::account::Account;
use super::javascript::{self, Choice};
use super::manifest::Manifest;
use crate::domain::listing::Listing;
use crate::domain::spec::Wanted;

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

/// Every JavaScript project of the tree, the shallowest first, then by name.
pub(super) fn projects(listing: &Listing, account: &mut Account) -> Result<Vec<Project>, BadPlan> {
    let Some(package) = Manifest::read(listing, ".", "package.json")? else { return Ok(Vec::new()) };
    let choice = javascript::detect(listing, ".", &package, account);
    Ok(vec![Project { dir: ".".to_owned(), choice, members: Vec::new(), tools: Vec::new() }])
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

/// What a step in a folder needs on its `PATH`.
pub(super) fn tools(projects: &[Project], dir: &str) -> Vec<Wanted> {
    covering(projects, dir).map(|project| project.tools.clone()).unwrap_or_default()
}

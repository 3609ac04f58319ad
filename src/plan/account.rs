//! The account of a plan: what was seen, what follows, and by which rule.

use super::javascript::{self, Manager};
use super::manifest::Manifest;
use super::{BadPlan, Wishes, inside};
use crate::domain::listing::Listing;
use crate::domain::sentence::one_line;
use crate::domain::spec::Decision;

/// Collected while a plan is made.
#[derive(Default)]
pub(super) struct Account {
    pub(super) notices: Vec<String>,
    pub(super) decisions: Vec<Decision>,
}

/// More sub-folders than this are counted, not listed.
const LISTED_PACKAGES: usize = 20;

/// A script's text and a path may be as long as they like; what is kept with a build may not.
const LONGEST: usize = 600;

impl Account {
    pub(super) fn notice(&mut self, sentence: impl Into<String>) {
        self.notices.push(one_line(&sentence.into(), LONGEST));
    }

    pub(super) fn decide(&mut self, seen: impl Into<String>, decided: impl Into<String>, because: impl Into<String>) {
        let short = |text: String| one_line(&text, LONGEST);
        let decision =
            Decision { seen: short(seen.into()), decided: short(decided.into()), because: short(because.into()) };
        self.decisions.push(decision);
    }

    /// Why a file was decided about as it was.
    pub(super) fn reason_for(&self, file: &str) -> Option<String> {
        self.decisions.iter().find(|decision| decision.seen == file).map(|decision| decision.because.clone())
    }

    fn has_decided(&self, file: &str) -> bool {
        self.decisions.iter().any(|decision| decision.seen == file)
    }

    /// Accounts for what no rule took: scripts that were not run, packages in sub-folders, other files.
    pub(super) fn rest_of(&mut self, listing: &Listing, wishes: &Wishes, nothing: bool) -> Result<(), BadPlan> {
        let package = Manifest::read(listing, ".", "package.json")?;
        if let Some(package) = &package {
            self.unused_scripts(listing, package, wishes);
        }
        self.other_packages(listing, package.as_ref(), wishes, nothing);
        let at_root = listing.paths.iter().filter(|path| !path.contains('/'));
        for file in at_root {
            if let Some((decided, because)) = aside(file)
                && !self.has_decided(file)
            {
                self.decide(file, decided, because);
            }
        }
        Ok(())
    }

    /// Names the checks that a repository could have, with the lines to add.
    fn unused_scripts(&mut self, listing: &Listing, package: &Manifest, wishes: &Wishes) {
        let manager = javascript::detect(listing, ".", package, &mut Account::default()).manager;
        for name in ["test", "lint", "typecheck", "type-check", "check", "e2e"] {
            let Some(command) = package.script(name) else { continue };
            let used = wishes.checks.iter().any(|check| check.command.iter().any(|word| word == name));
            // `npm init` writes a test script that only fails.
            if used || command.contains("no test specified") {
                continue;
            }
            let because = format!("to run it, add to .hookmill.toml: {}", check_lines(name, manager));
            self.decide(format!("package.json scripts.{name}"), "not run", because);
        }
    }

    /// Packages in sub-folders are installed by workspaces or by name, never by guess.
    fn other_packages(&mut self, listing: &Listing, root: Option<&Manifest>, wishes: &Wishes, nothing: bool) {
        let mut patterns: Vec<&str> = root.map(Manifest::workspaces).unwrap_or_default();
        if listing.has("pnpm-workspace.yaml") || listing.has("lerna.json") {
            patterns.push("**");
        }
        let mut left_out = Vec::new();
        let manifests = ["package.json", "bower.json"];
        for path in &listing.paths {
            let Some((dir, name)) = path.rsplit_once('/') else { continue };
            if !manifests.contains(&name) || self.has_decided(path) || is_wished(wishes, dir) {
                continue;
            }
            let member = patterns.iter().any(|pattern| fast_glob::glob_match(pattern.trim_start_matches("./"), dir));
            if member && name == "package.json" {
                continue;
            }
            left_out.push((dir, name));
        }
        for (dir, name) in left_out.iter().take(LISTED_PACKAGES) {
            let because = format!(
                "only the root is detected; to install it, add to .hookmill.toml: {}",
                install_lines(dir, name)
            );
            self.decide(inside(dir, name), "not installed", because);
        }
        if left_out.len() > LISTED_PACKAGES {
            let more = left_out.len() - LISTED_PACKAGES;
            self.decide(format!("{more} more manifests in sub-folders"), "not installed", "only the root is detected");
        }
        if let Some((dir, name)) = left_out.first().filter(|_| nothing) {
            let lines = install_lines(dir, name);
            self.notice(format!(
                "{} is not built: only the root is detected; add to .hookmill.toml: {lines}",
                inside(dir, name)
            ));
        }
    }
}

fn is_wished(wishes: &Wishes, dir: &str) -> bool {
    let written = |wish: &Option<String>| {
        wish.as_deref().is_some_and(|d| d.trim_start_matches("./").trim_end_matches('/') == dir)
    };
    wishes.installs.iter().any(|wish| written(&wish.dir))
}

fn install_lines(dir: &str, manifest: &str) -> String {
    let tool = if manifest == "bower.json" { "bower" } else { "npm" };
    format!("[[install]] tool = \"{tool}\", dir = \"{dir}\"")
}

fn check_lines(name: &str, manager: Manager) -> String {
    let command: Vec<String> = manager.run(name).iter().map(|word| format!("{word:?}")).collect();
    format!("[[check]] name = \"{name}\", command = [{}]", command.join(", "))
}

/// What becomes of files that no step of a plan comes from.
fn aside(file: &str) -> Option<(&'static str, &'static str)> {
    Some(match file {
        ".nvmrc" | ".node-version" | ".tool-versions" => ("noted", "builds use the agent's own node"),
        ".npmrc" | ".yarnrc" | ".yarnrc.yml" | ".bowerrc" => {
            ("left to its tool", "the package manager reads it itself")
        }
        "angular.json" | "nx.json" | "turbo.json" | "lerna.json" => {
            ("left to its tool", "the build script or [bundle] command starts it")
        }
        "component.json" => ("not read", "bower reads bower.json since its version 1.0"),
        _ if javascript::is_lockfile(file) => ("not used", "nothing in package.json asks for an install with it"),
        _ => return None,
    })
}

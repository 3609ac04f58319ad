//! The account of a plan: what was seen, what follows, and by which rule.

use super::javascript::{self, Manager};
use super::manifest::Manifest;
use super::{BadPlan, Wishes};
use crate::domain::listing::Listing;
use crate::domain::sentence::one_line;
use crate::domain::spec::Decision;

/// Collected while a plan is made.
#[derive(Default)]
pub(super) struct Account {
    pub(super) notices: Vec<String>,
    pub(super) decisions: Vec<Decision>,
    /// Sentences about manifests that nobody installs, of which one is a notice where there is nothing else to do.
    pub(super) left_out: Vec<String>,
}

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

    /// A notice that several projects would give alike.
    pub(super) fn notice_once(&mut self, sentence: String) {
        if !self.notices.contains(&sentence) {
            self.notice(sentence);
        }
    }

    /// A decision about a file that several projects look at.
    pub(super) fn decide_once(&mut self, seen: &str, decided: impl Into<String>, because: impl Into<String>) {
        if !self.has_decided(seen) {
            self.decide(seen, decided, because);
        }
    }

    /// A manifest that is not installed, and the lines that would install it.
    pub(super) fn leave_out(&mut self, manifest: &str, reason: &str, lines: &str) {
        let because = format!("{reason}; to install it, add to .hookmill.toml: {lines}");
        self.left_out.push(format!("{manifest} is not built: {because}"));
        self.decide(manifest, "not installed", because);
    }

    fn has_decided(&self, file: &str) -> bool {
        self.decisions.iter().any(|decision| decision.seen == file)
    }

    /// Accounts for what no rule took: scripts that were not run, other files.
    pub(super) fn rest_of(&mut self, listing: &Listing, wishes: &Wishes) -> Result<(), BadPlan> {
        let package = Manifest::read(listing, ".", "package.json")?;
        if let Some(package) = &package {
            self.unused_scripts(listing, package, wishes);
        }
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
}

fn check_lines(name: &str, manager: Manager) -> String {
    let command: Vec<String> = manager.run(name).iter().map(|word| format!("{word:?}")).collect();
    format!("[[check]] name = \"{name}\", command = [{}]", command.join(", "))
}

/// What becomes of files that no step of a plan comes from.
fn aside(file: &str) -> Option<(&'static str, &'static str)> {
    Some(match file {
        ".nvmrc" | ".node-version" | ".tool-versions" => {
            ("not used", "[toolchain] node of .hookmill.toml goes before it, or another file does")
        }
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

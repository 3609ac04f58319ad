//! Whether a lockfile still fits the manifests beside it: what an install that may not change it would find out late.

use std::collections::{BTreeMap, BTreeSet};

use super::inside;
use super::manifest::{DEPENDENCIES, INSTALLED, Manifest};
use super::roots::Member;
use super::versions::satisfies;
use crate::domain::listing::Listing;
use crate::domain::lockfile::{Format, Lockfile, WrittenFor};

/// What does not fit, in words: `package.json asks for react ^18, and it has ^17`. `None` as well where nobody can tell.
pub(super) fn difference(listing: &Listing, lockfile: &Lockfile, dir: &str, members: &[Member]) -> Option<String> {
    let names: BTreeSet<&str> = members.iter().map(|member| member.name.as_str()).collect();
    let folders = std::iter::once(dir).chain(members.iter().map(|member| member.dir.as_str()));
    folders.into_iter().find_map(|folder| {
        // A member that can't be read is its manager's to complain about.
        let package = Manifest::read(listing, folder, "package.json").ok()??;
        let compared = Compared { lockfile, package: &package, file: inside(folder, "package.json"), names: &names };
        compared.difference(relative(folder, dir))
    })
}

/// A folder as the lockfile above it calls it.
fn relative<'a>(folder: &'a str, root: &str) -> &'a str {
    match folder.strip_prefix(root) {
        Some("") => ".",
        Some(rest) => rest.trim_start_matches('/'),
        None => folder,
    }
}

struct Compared<'a> {
    lockfile: &'a Lockfile,
    package: &'a Manifest,
    file: String,
    /// Of the workspace's own packages.
    names: &'a BTreeSet<&'a str>,
}

impl Compared<'_> {
    fn difference(&self, folder: &str) -> Option<String> {
        match &self.lockfile.written_for {
            WrittenFor::Nothing => self.asked().find_map(|(name, range)| match self.lockfile.installed.get(name) {
                None if matches!(self.lockfile.format, Format::Npm(_)) => Some(self.missing(name)),
                Some(version) if satisfies(version, range) == Some(false) => Some(self.other(name, range, version)),
                _ => None,
            }),
            WrittenFor::Patterns(patterns) => {
                self.asked().find(|(name, range)| !self.has_pattern(patterns, name, range)).map(|(name, range)| {
                    let of_name = |pattern: &&String| pattern.rsplit_once('@').is_some_and(|(own, _)| own == name);
                    match patterns.iter().find(of_name).and_then(|pattern| pattern.rsplit_once('@')) {
                        Some((_, locked)) => self.other(name, range, locked),
                        None => self.missing(name),
                    }
                })
            }
            WrittenFor::Packages(packages) => match packages.get(folder) {
                Some(ranges) => self.other_range(ranges).or_else(|| self.left_over(ranges)),
                None => self.asked().next().map(|_| format!("{} is not in it", self.file)),
            },
        }
    }

    /// What the manifest asks for, without what lockfiles treat in ways of their own.
    fn asked(&self) -> impl Iterator<Item = (&str, &str)> {
        let asked = self.package.asked(&INSTALLED);
        asked.filter(|(name, range)| !range.starts_with("link:") && !self.lockfile.overridden.contains(*name))
    }

    fn has_pattern(&self, patterns: &BTreeSet<String>, name: &str, range: &str) -> bool {
        // `resolutions` (`**/name`) may put another range there; yarn 1 leaves out the workspace's own packages.
        let resolutions = self.package.at(&["resolutions"]).and_then(serde_json::Value::as_object);
        let resolved =
            resolutions.is_some_and(|map| map.keys().any(|key| key == name || key.ends_with(&format!("/{name}"))));
        let any = range.is_empty() && patterns.contains(&format!("{name}@*"));
        resolved || any || self.names.contains(name) || patterns.contains(&format!("{name}@{range}"))
    }

    fn other_range(&self, ranges: &BTreeMap<String, String>) -> Option<String> {
        // A name may stand under two fields, of which a lockfile keeps one.
        let fits = |name: &str, locked: &str| {
            self.package.asked(&DEPENDENCIES).any(|(own, range)| own == name && self.same(name, range, locked))
        };
        self.asked().find_map(|(name, range)| match ranges.get(name) {
            None => Some(self.missing(name)),
            Some(locked) if fits(name, locked) => None,
            Some(locked) => Some(self.other(name, range, locked)),
        })
    }

    fn same(&self, name: &str, range: &str, locked: &str) -> bool {
        match self.lockfile.format {
            // npm compares what is installed, not how it was asked for.
            Format::Npm(_) => {
                let installed = self.lockfile.installed.get(name);
                range == locked || installed.and_then(|version| satisfies(version, range)) == Some(true)
            }
            // yarn writes its own form of every protocol but npm's.
            Format::YarnModern(_) => {
                let plain = range.strip_prefix("npm:").unwrap_or(range);
                plain.contains(':') || plain == locked.strip_prefix("npm:").unwrap_or(locked)
            }
            _ => range == locked,
        }
    }

    /// pnpm, bun and yarn since 2 refuse a lockfile that has more than is asked for; npm and yarn 1 do not.
    fn left_over(&self, ranges: &BTreeMap<String, String>) -> Option<String> {
        if matches!(self.lockfile.format, Format::Npm(_)) {
            return None;
        }
        let asked: BTreeSet<&str> = self.package.asked(&DEPENDENCIES).map(|(name, _)| name).collect();
        let gone =
            ranges.keys().find(|name| !asked.contains(name.as_str()) && !self.lockfile.overridden.contains(*name))?;
        Some(format!("it has {gone}, which {} does not ask for", self.file))
    }

    fn missing(&self, name: &str) -> String {
        format!("{} asks for {name}, which is not in it", self.file)
    }

    fn other(&self, name: &str, range: &str, locked: &str) -> String {
        format!("{} asks for {name} {range}, and it has {locked}", self.file)
    }
}

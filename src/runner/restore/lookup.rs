//! How what earlier builds left is looked up: by which facts, in whose scopes, and why it was not found.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use super::{Group, Restored, State};
use crate::cache::inputs::{self, Facts, Platform};
use crate::cache::{Cache, Found, Held};
use crate::config::repo_file;
use crate::confine::Seen;
use crate::domain::build::{Build, Cause};
use crate::domain::cache_note::{self, Earlier, Off};
use crate::domain::listing::Listing;
use crate::domain::scripts::Scripts;
use crate::domain::snapshot::{Inputs, Level, Lineage, Place, Record};
use crate::domain::spec::Plan;
use crate::domain::time::Timestamp;
use crate::live::cache_tally::CacheTally;
use crate::runner::downloads::{self, DOWNLOADS, Lockfiles};

/// What a build is looked up by. Owned, since it is done where it may block.
#[derive(Debug)]
pub(in crate::runner) struct Lookup {
    pub(in crate::runner) cache: Cache,
    pub(in crate::runner) tally: CacheTally,
    pub(in crate::runner) build: Build,
    pub(in crate::runner) plan: Plan,
    pub(in crate::runner) listing: Listing,
    /// The checked-out tree: its id, and where it is.
    pub(in crate::runner) tree: String,
    pub(in crate::runner) sources: PathBuf,
    /// By step: its tools and their versions.
    pub(in crate::runner) tools: BTreeMap<String, Vec<(String, String)>>,
    pub(in crate::runner) registry: Option<String>,
    /// Address and scopes.
    pub(in crate::runner) registries: Vec<(String, Vec<String>)>,
    pub(in crate::runner) place: Seen,
    pub(in crate::runner) env: BTreeMap<String, String>,
    pub(in crate::runner) scripts: Scripts,
    /// By step: the names of the secrets that it is given.
    pub(in crate::runner) secrets: BTreeMap<String, Vec<String>>,
    /// `[cache]` of the repository.
    pub(in crate::runner) wishes: repo_file::Cache,
    /// What the root of its steps is known by, if it is not this machine's.
    pub(in crate::runner) root: Option<String>,
    /// What else a verdict depends on.
    pub(in crate::runner) bounds: Vec<(String, String)>,
}

impl Lookup {
    /// Looks everything up; blocks. A cache that can't be read is a miss.
    pub(in crate::runner) fn look(self) -> Restored {
        let Some(lineage) = Lineage::of(&self.build) else { return Restored::off(Off::Tag) };
        let (mut found, groups) = self.with_facts(|facts| self.look_for(facts, lineage));
        found.asked = Some((self, groups));
        found
    }

    pub(super) fn with_facts<T>(&self, with: impl FnOnce(&Facts<'_>) -> T) -> T {
        let (build_dir, home) = (self.place.build.to_string_lossy(), self.place.home.to_string_lossy());
        with(&Facts {
            plan: &self.plan,
            listing: &self.listing,
            sources: &self.sources,
            tools: &self.tools,
            platform: PLATFORM,
            root: self.root.as_deref(),
            build_dir: &build_dir,
            home: &home,
            env: &self.env,
            registry: self.registry.as_deref(),
            registries: &self.registries,
            scripts: &self.scripts,
            secrets: &self.secrets,
            declared: &self.wishes.inputs,
        })
    }

    fn look_for(&self, facts: &Facts<'_>, lineage: Lineage) -> (Restored, Vec<inputs::Group>) {
        let finder = Finder { cache: &self.cache, tally: &self.tally, lineage: &lineage, build: &self.build };
        let verdict = inputs::verdict(facts, &self.tree, &self.bounds);
        let mut found = Restored { lineage: Some(lineage.clone()), ..Restored::default() };
        found.same = finder.verdict(&verdict);
        found.verdict = Some(verdict);
        if found.same.is_some() {
            return (found, Vec::new());
        }
        let groups = inputs::installs(facts);
        let mut packages = None;
        for group in &groups {
            if group.level == Level::Packages {
                packages = group.inputs.as_ref().ok();
            }
            let state = match &group.inputs {
                _ if !self.wishes.dependencies => State::Off(cache_note::off(Off::Repository).to_owned()),
                Ok(inputs) => finder.unhidden(facts, group, finder.state(group.level, inputs.clone(), group.expires)),
                Err(why) => State::Off(why.to_string()),
            };
            let inputs::Group { level, steps, directories, .. } = group;
            let tools = steps.iter().filter_map(|step| self.tools.get(step)).flatten();
            let points_into = tools.flat_map(|(tool, version)| downloads::belongs_to_packages(tool, version));
            found.groups.push(Group {
                level: *level,
                steps: steps.clone(),
                directories: directories.clone(),
                points_into: points_into
                    .filter_map(|path| path.strip_prefix(DOWNLOADS)?.strip_prefix('/'))
                    .map(PathBuf::from)
                    .collect(),
                state,
                way: None,
            });
        }
        let state = match inputs::work(facts, packages) {
            _ if !self.wishes.webpack => State::Off(cache_note::off(Off::Repository).to_owned()),
            Ok(inputs) => finder.state(Level::Work, inputs, None),
            Err(why) => State::Off(why.to_string()),
        };
        found.work = Some(Group::of_work(state));
        let installs = found.groups.iter().any(|group| group.held().is_none());
        if self.build.use_cache && installs {
            found.downloads = self.cache.newest(&lineage, Level::Downloads).filter(|held| self.fits(held));
            self.tally.count(Level::Downloads, found.downloads.is_some());
        }
        (found, groups)
    }

    /// Whether downloads are what the lockfiles mean: a registry may have replaced a version, and yarn would fail.
    fn fits(&self, held: &Held) -> bool {
        let lockfiles = Lockfiles::read(&self.sources, self.plan.steps().map(|step| step.dir.as_str()));
        let contradicted =
            held.layers(Place::Downloads).iter().find_map(|layer| downloads::contradiction(layer, &lockfiles));
        if let Some(file) = &contradicted {
            let build = self.build.id.0;
            tracing::info!(build, file = %file.display(), "downloads are not used: the lockfile means something else");
        }
        contradicted.is_none()
    }
}

/// The machine that this agent runs on, and so its builds.
const PLATFORM: Platform<'static> = Platform {
    os: std::env::consts::OS,
    arch: std::env::consts::ARCH,
    libc: if cfg!(target_env = "musl") { "musl" } else { "glibc" },
};

struct Finder<'a> {
    cache: &'a Cache,
    tally: &'a CacheTally,
    lineage: &'a Lineage,
    build: &'a Build,
}

impl Finder<'_> {
    fn state(&self, level: Level, inputs: Inputs, expires: Option<Duration>) -> State {
        if !self.build.use_cache {
            return State::Miss(inputs, cache_note::off(Off::Asked).to_owned());
        }
        let found = self.cache.find(self.lineage, level, &inputs);
        let young = |held: &Held| expires.is_none_or(|life| now().since(held.record.kept_at) < life);
        let is_hit = matches!(&found, Found::Hit(held) if young(held));
        self.tally.count(level, is_hit);
        let missed = match found {
            Found::Hit(held) if is_hit => return State::Hit(Box::new(held)),
            Found::Hit(held) => {
                let why = cache_note::expired(Earlier::of(&held.record, self.build.cause));
                return State::Miss(inputs, why);
            }
            Found::Miss(missed) => missed,
        };
        if let Err(error) = self.cache.note_miss(&self.lineage.own, level, &inputs, self.build.id, now()) {
            tracing::warn!(build = self.build.id.0, %error, "a miss can't be explained later");
        }
        let damaged = missed.damaged.map(|what| format!("what was kept is damaged and was removed: {what}"));
        let why = damaged.or_else(|| {
            let nearest = missed.nearest?;
            let first = inputs.first_difference(&nearest.inputs)?;
            Some(cache_note::changed(&first, Earlier::of(&nearest, self.build.cause)))
        });
        State::Miss(inputs, why.unwrap_or_else(|| cache_note::first(level).to_owned()))
    }

    /// A layer lies above the sources: it must not hide a file that the repository has come to have.
    fn unhidden(&self, facts: &Facts<'_>, group: &inputs::Group, state: State) -> State {
        let State::Hit(held) = state else { return state };
        let hides = held.layers(Place::Tree).iter().find_map(|layer| match inputs::hidden(layer, facts, group) {
            Ok(path) => path.map(|path| format!("{} is now a file of the repository's own", path.display())),
            Err(error) => Some(error.to_string()),
        });
        match hides {
            Some(why) => State::Miss(held.record.inputs.clone(), why),
            None => State::Hit(held),
        }
    }

    /// Only of its own scope: nobody else's word makes a commit pass. A person who asks for a build wants one.
    fn verdict(&self, inputs: &Inputs) -> Option<Record> {
        let asked = matches!(self.build.cause, Cause::Rerun | Cause::Api);
        if asked || !self.build.use_cache {
            return None;
        }
        let own = Lineage { own: self.lineage.own.clone(), above: Vec::new() };
        let same = match self.cache.find(&own, Level::Verdict, inputs) {
            Found::Hit(held) => Some(held.record.clone()),
            Found::Miss(_) => None,
        };
        self.tally.count(Level::Verdict, same.is_some());
        same
    }
}

fn now() -> Timestamp {
    Timestamp::from(SystemTime::now())
}

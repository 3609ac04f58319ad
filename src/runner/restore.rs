//! What earlier builds left that this one can use, and under which keys it may leave its own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::cache::inputs::{self, Cleaned, Facts, Platform, Written};
use crate::cache::{Cache, Found, Held};
use crate::config::repo_file;
use crate::confine::{Joining, Seen};
use crate::domain::build::{Build, CacheUse, Cause, StepKind};
use crate::domain::cache_note::{self, Earlier, Off};
use crate::domain::listing::Listing;
use crate::domain::snapshot::{Inputs, Level, Lineage, Place, Record};
use crate::domain::spec::{Plan, StepSpec};
use crate::domain::time::Timestamp;
use crate::live::cache_tally::CacheTally;

use super::downloads::{self, DOWNLOADS, Lockfiles};
use super::flat::{Lent, Way};
use super::keeping::EDITED;

/// What a build is looked up by. Owned, since it is done where it may block.
#[derive(Debug)]
pub(super) struct Lookup {
    pub(super) cache: Cache,
    pub(super) tally: CacheTally,
    pub(super) build: Build,
    pub(super) plan: Plan,
    pub(super) listing: Listing,
    /// The checked-out tree: its id, and where it is.
    pub(super) tree: String,
    pub(super) sources: PathBuf,
    /// By step: its tools and their versions.
    pub(super) tools: BTreeMap<String, Vec<(String, String)>>,
    pub(super) registry: Option<String>,
    /// Address and scopes.
    pub(super) registries: Vec<(String, Vec<String>)>,
    pub(super) place: Seen,
    pub(super) env: BTreeMap<String, String>,
    pub(super) scripts: bool,
    /// `[cache]` of the repository.
    pub(super) wishes: repo_file::Cache,
    /// What else a verdict depends on.
    pub(super) bounds: Vec<(String, String)>,
}

/// What was found. Nothing of it is removed while this lives.
#[derive(Debug, Default)]
pub(super) struct Restored {
    /// Whose snapshots were read, and whose are written. `None`: no one's.
    pub(super) lineage: Option<Lineage>,
    /// Why nothing was looked for.
    off: Option<Off>,
    /// By what it was looked up, and the groups of installs as they were asked for.
    asked: Option<(Lookup, Vec<inputs::Group>)>,
    pub(super) groups: Vec<Group>,
    pub(super) work: Option<Group>,
    pub(super) downloads: Option<Held>,
    /// The key of this build's own verdict.
    pub(super) verdict: Option<Inputs>,
    same: Option<Record>,
}

/// Steps whose outcome is kept and found as one.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) level: Level,
    /// The names of its steps.
    steps: Vec<String>,
    /// For bower: the folders that it writes.
    pub(super) directories: Vec<String>,
    /// The folders of downloads that what it installs points into, which are therefore part of it.
    pub(super) points_into: BTreeSet<PathBuf>,
    pub(super) state: State,
    /// How its layers came into the tree; `None`: they are stacked.
    pub(super) way: Option<Way>,
}

/// What was found of a group.
#[derive(Debug)]
pub(super) enum State {
    /// It was kept, and is whole.
    Hit(Box<Held>),
    /// It was not; here is its key, and why as far as that is known.
    Miss(Inputs, String),
    /// It can't be kept, and why.
    Off(String),
}

impl Group {
    fn of_work(state: State) -> Self {
        Self {
            level: Level::Work,
            steps: Vec::new(),
            directories: Vec::new(),
            points_into: BTreeSet::new(),
            state,
            way: None,
        }
    }

    fn held(&self) -> Option<&Held> {
        match &self.state {
            State::Hit(held) => Some(held.as_ref()),
            _ => None,
        }
    }

    /// What was moved out of the cache for this build, and has to find its way back.
    pub(super) fn taken(&self) -> Option<&Held> {
        self.held().filter(|_| self.way == Some(Way::Renamed))
    }

    /// Its key, if it is to be kept after this build.
    pub(super) fn missing(&self) -> Option<&Inputs> {
        match &self.state {
            State::Miss(inputs, _) => Some(inputs),
            _ => None,
        }
    }

    /// Its key, found or not; `None` where it is not kept.
    pub(super) fn key(&self) -> Option<&Inputs> {
        match &self.state {
            State::Hit(held) => Some(&held.record.inputs),
            State::Miss(inputs, _) => Some(inputs),
            State::Off(_) => None,
        }
    }

    fn cache(&self) -> CacheUse {
        match self.state {
            State::Hit(_) => CacheUse::Hit,
            State::Miss(..) => CacheUse::Miss,
            State::Off(_) => CacheUse::Off,
        }
    }

    fn note(&self, cause: Cause) -> String {
        match &self.state {
            State::Hit(held) => cache_note::unchanged(Earlier::of(&held.record, cause)),
            State::Miss(_, why) | State::Off(why) => why.clone(),
        }
    }
}

impl Restored {
    /// Where nothing is looked for, and why.
    pub(super) fn off(why: Off) -> Self {
        Self { off: Some(why), ..Self::default() }
    }

    /// Looks at what installs wrote and removes what must not be kept of it.
    ///
    /// # Errors
    /// Why nothing of it can be kept, for people.
    pub(super) fn examine(&self, written: &Path) -> Result<(), String> {
        let Some((lookup, groups)) = &self.asked else { return Ok(()) };
        let examined = lookup.with_facts(|facts| inputs::keepable(Written::Layer(written), facts, groups));
        examined.map(drop).map_err(|why| why.to_string())
    }

    /// The same, where installs wrote into the tree to which the sources are lent: nothing is removed.
    ///
    /// # Errors
    /// Why nothing of it can be kept, for people.
    pub(super) fn examine_flat(&self, lent: &Lent) -> Result<Cleaned, String> {
        let Some((lookup, groups)) = &self.asked else { return Ok(Cleaned::default()) };
        let changed = lent.changed().map_err(|error| error.to_string())?;
        let (root, tracked) = (lent.tree(), |path: &Path| lent.is_source(path));
        let written = Written::Flat { root, tracked: &tracked, changed: &changed };
        let examined = lookup.with_facts(|facts| inputs::keepable(written, &Facts { sources: root, ..*facts }, groups));
        examined.map_err(|why| why.to_string())
    }

    /// The verdict of a tree like this one.
    pub(super) fn same(&self) -> Option<&Record> {
        self.same.as_ref()
    }

    /// Whether anything was moved out of the cache for this build, and has to find its way back however it ends.
    pub(super) fn takes_back(&self) -> bool {
        self.groups.iter().any(|group| group.taken().is_some())
    }

    /// Whether installs will run whose outcome is to be kept.
    pub(super) fn keeps_installs(&self) -> bool {
        self.groups.iter().any(|group| group.missing().is_some())
    }

    /// What the log of a restored step says: since when nothing changed, and how it came into the tree.
    pub(super) fn told(&self, step: &StepSpec) -> String {
        let group = self.groups.iter().find(|group| group.steps.contains(&step.name));
        let way = group.and_then(|group| group.way).map_or_else(|| Joining::Overlay.to_string(), |way| way.to_string());
        format!("{}: {way}", self.of(step).1.unwrap_or_default())
    }

    /// What a step's cache did, and why.
    pub(super) fn of(&self, step: &StepSpec) -> (CacheUse, Option<String>) {
        if let Some(off) = self.off {
            return (CacheUse::Off, Some(cache_note::off(off).to_owned()));
        }
        let group = match step.kind {
            StepKind::Install => self.groups.iter().find(|group| group.steps.contains(&step.name)),
            StepKind::Bundle => self.work.as_ref(),
            StepKind::Check | StepKind::Checkout => None,
        };
        let (Some(group), Some((lookup, _))) = (group, &self.asked) else { return (CacheUse::Off, None) };
        (group.cache(), Some(group.note(lookup.build.cause)))
    }

    /// The layers of a place that were found, the topmost first.
    pub(super) fn layers(&self, place: Place) -> Vec<PathBuf> {
        distinct(self.work_layers(place).into_iter().chain(self.installed_layers(place)))
    }

    /// Those of what bundlers keep.
    pub(super) fn work_layers(&self, place: Place) -> Vec<PathBuf> {
        self.work.iter().filter_map(Group::held).flat_map(|held| held.layers(place)).collect()
    }

    /// Whether a bundler may take a dependency for what its version says: it comes from a snapshot or becomes one, and no
    /// step was seen to change dependencies in place.
    pub(super) fn trusts_dependencies(&self) -> bool {
        let known = |group: &Group| !matches!(group.state, State::Off(_));
        let edited = self.work.iter().filter_map(Group::held).any(|held| held.record.note.as_deref() == Some(EDITED));
        self.groups.iter().all(known) && !edited
    }

    /// Those of a place that dependencies are made of: for steps that install.
    pub(super) fn installed_layers(&self, place: Place) -> Vec<PathBuf> {
        let groups = self.groups.iter().filter_map(Group::held);
        distinct(groups.chain(&self.downloads).flat_map(|held| held.layers(place)))
    }
}

/// Each once, at its first place: one directory can't be two layers of an overlay.
fn distinct(layers: impl Iterator<Item = PathBuf>) -> Vec<PathBuf> {
    let mut seen = BTreeSet::new();
    layers.filter(|layer| seen.insert(layer.clone())).collect()
}

impl Lookup {
    /// Looks everything up; blocks. A cache that can't be read is a miss.
    pub(super) fn look(self) -> Restored {
        let Some(lineage) = Lineage::of(&self.build) else { return Restored::off(Off::Tag) };
        let (mut found, groups) = self.with_facts(|facts| self.look_for(facts, lineage));
        found.asked = Some((self, groups));
        found
    }

    fn with_facts<T>(&self, with: impl FnOnce(&Facts<'_>) -> T) -> T {
        let (build_dir, home) = (self.place.build.to_string_lossy(), self.place.home.to_string_lossy());
        with(&Facts {
            plan: &self.plan,
            listing: &self.listing,
            sources: &self.sources,
            tools: &self.tools,
            platform: PLATFORM,
            build_dir: &build_dir,
            home: &home,
            env: &self.env,
            registry: self.registry.as_deref(),
            registries: &self.registries,
            scripts: self.scripts,
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
}

impl Lookup {
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

//! What earlier builds left that this one can use, and under which keys it may leave its own.

mod lookup;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::cache::Held;
use crate::cache::inputs::{self, Cleaned, Facts, Written};
use crate::confine::Joining;
use crate::domain::build::Cause;
use crate::domain::cache_note::{self, Earlier, Off};
use crate::domain::snapshot::{Inputs, Level, Lineage, Place, Record};
use crate::domain::spec::StepSpec;
use crate::domain::step::{CacheUse, StepKind};

use super::flat::{Lent, Way};
use super::keeping::EDITED;

pub(super) use lookup::Lookup;

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

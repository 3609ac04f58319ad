//! What a build that passed leaves for the next ones. Nobody waits for this: the verdict was told before.
//!
//! A build writes to its own scope alone. What it leaves is sealed first and named by a record after that, so that a
//! crash in between leaves a layer that nobody names.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use crate::cache::{Cache, CacheError, Held, Sealed};
use crate::domain::build::{BuildId, KeptLevel};
use crate::domain::repo::CommitId;
use crate::domain::snapshot::{Inputs, Layer, Level, Place, Record, Scope};
use crate::domain::time::Timestamp;
use crate::domain::view::View;
use crate::tree::{self, Dir, TreeError};

use super::downloads::{self, Lockfiles};
use super::observer;
use super::pending::Keeping;
use super::remains::{Caches, Dependencies, Installs, Remains, edits_dependencies};
use super::restore::{Group, Restored, State};
use super::workspace::Workspace;

/// A chain of layers that grew longer than this is made one: each layer costs a mount a little, and holds what later
/// ones replaced.
const LONGEST_CHAIN: usize = 8;
/// The most that is kept of one install, of one run of the bundlers, and of downloads at once. Bytes.
const LARGEST: u64 = 8 << 30;
/// As above, for what bundlers and compilers keep for their next run.
const LARGEST_WORK: u64 = 2 << 30;

/// What a build leaves, until it is kept or dropped.
#[derive(Debug)]
pub(super) struct Left {
    pub(super) cache: Cache,
    pub(super) build: BuildId,
    pub(super) sha: CommitId,
    pub(super) restored: Restored,
    /// Whether it passed. Of a build that did not, only what it had taken out of the cache goes back.
    pub(super) passed: bool,
    /// What it wrote.
    pub(super) remains: Remains,
    /// The lockfiles of the commit, as no step changed them: the sources may be another build's by now.
    pub(super) lockfiles: Lockfiles,
    /// What bundlers and compilers kept for their next run.
    pub(super) caches: Caches,
    /// The directories that all this lies in.
    pub(super) workspace: Workspace,
    /// Who builds this repository next waits.
    pub(super) _pending: Keeping,
}

/// Why something was not kept.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeepError {
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error(transparent)]
    Tree(#[from] TreeError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Left {
    /// Of a build that did not pass after all.
    pub(super) fn of_no_pass(self) -> Self {
        Self { passed: false, ..self }
    }

    /// Keeps it, and says how much of each kind was new.
    pub(super) async fn keep(self) -> Vec<KeptLevel> {
        let kept = tokio::task::spawn_blocking(move || self.keep_all());
        kept.await.unwrap_or_else(|panic| {
            tracing::error!(%panic, "what a build left could not be kept");
            Vec::new()
        })
    }

    fn keep_all(&self) -> Vec<KeptLevel> {
        let Some(scope) = self.restored.lineage.as_ref().map(|lineage| &lineage.own) else { return Vec::new() };
        let mut keeper = Keeper { left: self, scope, kept: Vec::new(), pointed_into: None };
        if self.passed {
            keeper.attempt(Level::Downloads, |keeper| keeper.downloads());
        }
        match self.dependencies() {
            Ok(Some(dependencies)) => {
                // bower's folders are taken out of what is left for the packages.
                keeper.attempt(Level::Bower, |keeper| keeper.bower(&dependencies));
                keeper.attempt(Level::Packages, |keeper| keeper.packages(&dependencies));
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(build = self.build.0, %error, "what was installed is not kept"),
        }
        if self.passed {
            keeper.attempt(Level::Work, |keeper| keeper.work());
            keeper.attempt(Level::Verdict, |keeper| keeper.verdict());
        }
        keeper.kept
    }

    fn dependencies(&self) -> Result<Option<Dependencies>, KeepError> {
        match &self.remains {
            Remains::Views { installs: Some(Installs { view, are_kept: true }), .. } => {
                let tree = view.writes(Place::Tree);
                let cache = self.of_home(view, Place::Cache)?;
                Ok(Some(Dependencies { tree, cache }))
            }
            Remains::Views { .. } => Ok(None),
            Remains::Apart(apart) => Ok(apart.dependencies.clone()),
        }
    }

    /// What managers downloaded, if any of them ran.
    fn downloads(&self) -> Result<Option<PathBuf>, KeepError> {
        Ok(match &self.remains {
            Remains::Views { installs: Some(installs), .. } => Some(self.of_home(&installs.view, Place::Downloads)?),
            Remains::Views { .. } => None,
            Remains::Apart(apart) => apart.downloads.clone().filter(|_| self.restored.keeps_installs()),
        })
    }

    /// Where a folder of HOME lies that a view's steps wrote, by a path that no link of theirs is on: what it leads to
    /// would be kept in its place.
    fn of_home(&self, view: &View, place: Place) -> Result<PathBuf, KeepError> {
        let written = view.writes(place);
        let Some(at) = place.in_home().map(Path::new).filter(|at| written == view.home.join(at)) else {
            return Ok(written);
        };
        let into = self.workspace.to_keep("of-home")?;
        let name = Path::new(at.file_name().unwrap_or_default());
        let home = Dir::open(&view.home)?;
        if home.open_dir(at).is_ok() {
            tree::move_entry(&home, at, &Dir::open(&into)?, name)?;
        }
        Ok(into.join(name))
    }

    /// The layers that what was written lies on.
    fn below(&self, held: Option<&Held>, place: Place) -> Vec<Layer> {
        match &self.remains {
            Remains::Views { .. } => layers_of(held, place),
            Remains::Apart(_) => Vec::new(),
        }
    }
}

struct Keeper<'a> {
    left: &'a Left,
    scope: &'a Scope,
    kept: Vec<KeptLevel>,
    /// Layers of downloads that what was installed points into, and what holds them.
    pointed_into: Option<(Vec<Layer>, Option<Sealed>)>,
}

impl<'a> Keeper<'a> {
    /// What can't be kept is missed next time, and told in the log of the agent.
    fn attempt(&mut self, level: Level, keep: impl FnOnce(&mut Self) -> Result<(), KeepError>) {
        let began = Instant::now();
        let (build, what) = (self.left.build.0, level.as_str());
        match keep(self) {
            Ok(()) => {
                let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
                tracing::info!(build, what, ms, "kept");
            }
            Err(error) => tracing::warn!(build, what, %error, "not kept"),
        }
    }

    /// What managers downloaded, as far as it is what its name or the lockfile says.
    fn downloads(&mut self) -> Result<(), KeepError> {
        let held = self.left.restored.downloads.as_ref();
        let below = self.left.below(held, Place::Downloads);
        let Some(dir) = self.left.downloads()? else { return Ok(()) };
        let points_into = self.missing(Level::Packages).map(|(group, _)| &group.points_into);
        if let Some(folders) = points_into.filter(|folders| !folders.is_empty()) {
            // As they are, before they are sorted out: what was installed points into them.
            self.pointed_into = Some(self.point_into(&dir, folders, &below)?);
        }
        if downloads::clean(&dir, &self.left.lockfiles)?.files == 0 {
            return Ok(());
        }
        let sealed = self.seal(Level::Downloads, &dir, LARGEST)?;
        let (chain, _leases) = self.chain(sealed, Place::Downloads, below)?;
        self.put(Level::Downloads, &Inputs::default(), chain, None)
    }

    /// The folders of downloads that installed packages point into, on top of those that were there.
    fn point_into(
        &mut self,
        downloads: &Path,
        folders: &BTreeSet<PathBuf>,
        below: &[Layer],
    ) -> Result<(Vec<Layer>, Option<Sealed>), KeepError> {
        let (mut layers, mut sealed) = (Vec::new(), None);
        let into = self.left.workspace.to_keep("pointed-into")?;
        let (from, to) = (Dir::open(downloads)?, Dir::open(&into)?);
        for folder in folders {
            // Not through a link: the folder was written by steps.
            if from.open_dir(folder).is_ok() {
                to.make_dir(folder)?;
                tree::copy_tree(&downloads.join(folder), &into.join(folder))?;
            }
        }
        if holds_something(&into) {
            let layer = self.seal(Level::Packages, &into, LARGEST)?;
            layers.push(layer.layer(Place::Downloads));
            sealed = Some(layer);
        }
        layers.extend(below.iter().cloned());
        Ok((layers, sealed))
    }

    fn bower(&mut self, dependencies: &Dependencies) -> Result<(), KeepError> {
        let Some((group, _)) = self.due(Level::Bower) else { return Ok(()) };
        let (from, into) = (Dir::open(&dependencies.tree)?, self.left.workspace.to_keep("bower")?);
        let to = Dir::open(&into)?;
        for directory in &group.directories {
            let directory = Path::new(directory);
            if let Some(parent) = directory.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                to.make_dir(parent)?;
            }
            from.rename_into(directory, &to)?;
        }
        let sealed = self.seal_installed(group, &into)?;
        self.put_installed(group, vec![sealed.layer(Place::Tree)])
    }

    fn packages(&mut self, dependencies: &Dependencies) -> Result<(), KeepError> {
        let Some((group, _)) = self.due(Level::Packages) else { return Ok(()) };
        let tree = self.seal_installed(group, &dependencies.tree)?;
        let mut layers = vec![tree.layer(Place::Tree)];
        let cache = &dependencies.cache;
        let cache = if holds_something(cache) { Some(self.seal_installed(group, cache)?) } else { None };
        layers.extend(cache.as_ref().map(|sealed| sealed.layer(Place::Cache)));
        if group.taken().is_some() {
            // These were copied for the build, and not taken.
            layers.extend(layers_of(group.taken(), Place::Downloads));
        } else if !group.points_into.is_empty() {
            // Without these it would be mounted with parts missing.
            let Some((downloads, _held)) = &self.pointed_into else { return Ok(()) };
            layers.extend(downloads.iter().cloned());
        }
        self.put_installed(group, layers)
    }

    /// What is to be kept of a level: what was installed in this build, and however it ended what was taken for it.
    fn due(&self, level: Level) -> Option<(&'a Group, &'a Inputs)> {
        let taken = self.left.restored.groups.iter().find(|group| group.level == level && group.taken().is_some());
        let missing = || self.missing(level).filter(|_| self.left.passed);
        taken.and_then(|group| Some((group, group.key()?))).or_else(missing)
    }

    /// As [`seal`](Self::seal); what goes back is nothing new.
    fn seal_installed(&mut self, group: &Group, dir: &Path) -> Result<Sealed, KeepError> {
        match group.taken() {
            Some(_) => Ok(self.left.cache.seal(dir, LARGEST)?),
            None => self.seal(group.level, dir, LARGEST),
        }
    }

    fn put_installed(&self, group: &Group, layers: Vec<Layer>) -> Result<(), KeepError> {
        match (group.taken(), group.missing()) {
            (Some(held), _) => Ok(self.left.cache.put(&Record { layers, ..held.record.clone() })?),
            (None, Some(inputs)) => self.put(group.level, inputs, layers, None),
            (None, None) => Ok(()),
        }
    }

    /// What bundlers keep for their next run. What was made of dependencies that a step changed in place holds only as
    /// long as nobody trusts them to be what their versions say.
    fn work(&mut self) -> Result<(), KeepError> {
        let Some(group) = &self.left.restored.work else { return Ok(()) };
        let (inputs, held) = match &group.state {
            State::Hit(held) => (&held.record.inputs, Some(held.as_ref())),
            State::Miss(inputs, _) => (inputs, None),
            State::Off(_) => return Ok(()),
        };
        let (written, bundler, edited) = self.worked()?;
        let (trusted, trusts) = (self.left.restored.trusts_dependencies(), !edited);
        if trusted && !trusts {
            // It is begun anew, by a build that looks at every file of a dependency.
            return self.put(Level::Work, inputs, Vec::new(), Some(EDITED.to_owned()));
        }
        let mut layers = Vec::new();
        let mut leases = Vec::new();
        for (place, dir) in [(Place::Tree, written), (Place::Bundler, bundler)] {
            let below = self.left.below(held, place);
            match dir.filter(|dir| holds_something(dir)) {
                Some(dir) => {
                    let sealed = self.seal(Level::Work, &dir, LARGEST_WORK)?;
                    let (chain, lease) = self.chain(sealed, place, below)?;
                    layers.extend(chain);
                    leases.push(lease);
                }
                None => layers.extend(below),
            }
        }
        if leases.is_empty() {
            return Ok(());
        }
        self.put(Level::Work, inputs, layers, edited.then(|| EDITED.to_owned()))
    }

    /// What bundlers and compilers wrote for their next run, in the tree and in HOME; and whether a step wrote to
    /// dependencies.
    fn worked(&self) -> Result<(Option<PathBuf>, Option<PathBuf>, bool), KeepError> {
        match &self.left.remains {
            Remains::Views { steps, installs } => {
                let Caches { projects, paths } = &self.left.caches;
                let (written, into) = (steps.writes(Place::Tree), self.left.workspace.to_keep("work")?);
                let moved = observer::kept::extract(&written, projects, paths, &into)?;
                for (path, why) in moved.iter().flat_map(|moved| &moved.refused) {
                    tracing::warn!(build = self.left.build.0, path = %path.display(), why, "[cache] paths: not kept");
                }
                let bundler = self.left.of_home(steps, Place::Bundler)?;
                // Dependencies that are not kept are not those that the next build will have.
                let unknown = installs.as_ref().is_some_and(|installs| !installs.are_kept);
                Ok((moved.map(|_| into), Some(bundler), unknown || edits_dependencies(&written)?))
            }
            Remains::Apart(apart) => Ok((apart.work.clone(), apart.bundler.clone(), apart.edited)),
        }
    }

    fn verdict(&mut self) -> Result<(), KeepError> {
        match &self.left.restored.verdict {
            Some(inputs) => self.put(Level::Verdict, inputs, Vec::new(), None)?,
            None => return Ok(()),
        }
        // Every build that passed leaves this, so that what it kept is never an empty list.
        self.kept.push(KeptLevel { level: Level::Verdict, bytes: 0 });
        Ok(())
    }

    fn missing(&self, level: Level) -> Option<(&'a Group, &'a Inputs)> {
        let left = self.left;
        let group = left.restored.groups.iter().find(|group| group.level == level)?;
        Some((group, group.missing()?))
    }

    fn seal(&mut self, level: Level, dir: &Path, limit: u64) -> Result<Sealed, KeepError> {
        let sealed = self.left.cache.seal(dir, limit)?;
        match self.kept.iter_mut().find(|kept| kept.level == level) {
            Some(kept) => kept.bytes += sealed.disk_bytes,
            None => self.kept.push(KeptLevel { level, bytes: sealed.disk_bytes }),
        }
        Ok(sealed)
    }

    /// A layer on a chain. The answer holds what must not be collected before a record names it.
    fn chain(&self, top: Sealed, place: Place, below: Vec<Layer>) -> Result<(Vec<Layer>, Vec<Sealed>), KeepError> {
        let chain: Vec<Layer> = std::iter::once(top.layer(place)).chain(below).collect();
        if chain.len() <= LONGEST_CHAIN {
            return Ok((chain, vec![top]));
        }
        let ids: Vec<_> = chain.into_iter().map(|layer| layer.id).collect();
        let one = self.left.cache.consolidate(&ids)?;
        Ok((vec![one.layer(place)], vec![one, top]))
    }

    fn put(&self, level: Level, inputs: &Inputs, layers: Vec<Layer>, note: Option<String>) -> Result<(), KeepError> {
        let record = Record {
            scope: self.scope.clone(),
            level,
            inputs: inputs.clone(),
            layers,
            build: self.left.build,
            sha: self.left.sha.clone(),
            kept_at: Timestamp::from(SystemTime::now()),
            note,
        };
        Ok(self.left.cache.put(&record)?)
    }
}

/// [`Record::note`] of what bundlers keep, where a step changes dependencies in place.
pub(super) const EDITED: &str = "a step changes dependencies in place";

fn layers_of(held: Option<&Held>, place: Place) -> Vec<Layer> {
    let layers = held.into_iter().flat_map(|held| &held.record.layers);
    layers.filter(|layer| layer.place == place).cloned().collect()
}

fn holds_something(dir: &Path) -> bool {
    std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some())
}

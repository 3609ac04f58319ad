//! Everything in one directory, where nothing can be stacked.
//!
//! Dependencies are moved out of the cache into the tree and back out of it, so that thousands of files cost a few renames.
//! That holds as long as no step changes them in place: they are looked at when the installs are done and again at the
//! end, and what was changed is not kept. Whoever may not move them gets copies: another's snapshot, or one that another
//! build uses. What is meant to be written into, caches of bundlers and downloads, is always copied, so that a build that
//! fails costs the next one nothing.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use crate::cache::{Cache, Held, Taken};
use crate::confine::Holder;
use crate::domain::outcome::Verdict;
use crate::domain::snapshot::{Level, Place};
use crate::domain::view::View;
use crate::runner::build::{no_holder, no_workspace};
use crate::runner::course::{self, Course};
use crate::runner::flat::{self, Brought, Installed, Lent, Parted, Places, Returned, Way};
use crate::runner::observer;
use crate::runner::remains::{Apart, Caches, Dependencies};
use crate::runner::restore::{Restored, State};
use crate::runner::workspace::Workspace;
use crate::tree::{self, Dir, FileSystem, Kind, TreeError};

use super::{Ran, Wrote};

/// Where a build without stacks is to be.
struct Ground {
    cache: Cache,
    places: Places,
    files: FileSystem,
    home: PathBuf,
    /// An empty directory for layers on their way in.
    incoming: PathBuf,
    /// An empty directory for what goes out.
    outgoing: PathBuf,
    caches: Caches,
}

/// A tree without stacks.
pub(in crate::runner) struct Flat {
    ground: Ground,
    lent: Lent,
    /// What was installed. `None`: nothing of it is kept or comes from the cache.
    noted: Option<Result<Noted, String>>,
}

/// What was installed, and how it will be known after the build.
enum Noted {
    /// By its change times, in the tree and in HOME.
    InPlace { tree: Installed, home: Installed },
    /// Where these tell nothing: as a copy.
    Copied(Dependencies),
}

/// Runs the steps of a plan.
///
/// # Errors
/// When the tree could not be made.
pub(super) async fn run(
    course: &mut Course<'_>,
    workspace: &Workspace,
    holder: Holder,
    files: FileSystem,
    caches: &Caches,
) -> Result<Ran, Verdict> {
    let ground = Ground {
        cache: course.parts.cache.clone(),
        places: workspace.places(),
        files,
        home: workspace.flat_home().map_err(no_workspace)?,
        incoming: workspace.to_keep("incoming").map_err(no_workspace)?,
        outgoing: workspace.to_keep("outgoing").map_err(no_workspace)?,
        caches: caches.clone(),
    };
    let restored = std::mem::take(&mut course.restored);
    let (flat, restored) = blocking(move || Flat::lay(ground, restored)).await?;
    course.restored = restored;
    course.sources = flat.tree().to_owned();
    let view = View {
        tree: flat.lent.stack(),
        home: flat.ground.home.clone(),
        in_home: Vec::new(),
        tmp: workspace.tmp(),
        readable: course.readable(),
        root: course.job.root.as_ref().map(|root| root.dir().to_owned()),
    };
    holder.mount(&view).await.map_err(no_holder)?;
    let (installs, others) = course::split(course.plan);
    let installed = course.run(&holder, &view.home, installs).await;
    let (restored, go_on) = (std::mem::take(&mut course.restored), installed.is_ok());
    let (flat, restored) = blocking(move || flat.installed(restored, go_on)).await?;
    course.restored = restored;
    let ended = match installed {
        Ok(mut ended) => course.run(&holder, &view.home, others).await.map(|rest| {
            ended.extend(rest);
            ended
        }),
        Err(verdict) => Err(verdict),
    };
    holder.close().await;
    Ok(Ran { ended, wrote: Wrote::Flat(flat) })
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, TreeError> + Send + 'static,
) -> Result<T, Verdict> {
    let done = tokio::task::spawn_blocking(work).await.map_err(io::Error::other);
    done.and_then(|done| done.map_err(io::Error::other)).map_err(no_workspace)
}

impl Flat {
    /// Where the tree is.
    pub(super) fn tree(&self) -> &Path {
        self.lent.tree()
    }

    /// Brings the sources into the tree, and over them what earlier installs left.
    fn lay(ground: Ground, mut restored: Restored) -> Result<(Self, Restored), TreeError> {
        let lent = Lent::lend(ground.places.clone(), ground.files)?;
        // What could not be told from what a step wrote would never come back.
        let own = restored.lineage.as_ref().map(|lineage| lineage.own.clone()).filter(|_| lent.way() == Way::Renamed);
        let mut layers = Vec::new();
        for group in &mut restored.groups {
            let State::Hit(held) = &mut group.state else { continue };
            let is_own = own.as_ref() == Some(&held.record.scope);
            match ground.fetch(held, is_own, layers.len()) {
                Ok(fetched) => {
                    let moved = fetched.iter().any(|(_, layer)| matches!(layer, Brought::Moved(_)));
                    group.way = Some(if moved { Way::Renamed } else { Way::of_copies(ground.files) });
                    layers.extend(fetched);
                }
                Err(why) => {
                    tracing::warn!(level = group.level.as_str(), %why, "a snapshot is not used");
                    group.state = State::Miss(held.record.inputs.clone(), why);
                }
            }
        }
        let downloads = restored.downloads.iter().flat_map(|held| held.layers(Place::Downloads));
        layers.extend(downloads.map(|layer| (Place::Downloads, Brought::Shared(layer))));
        let flat = Self { ground, lent, noted: None };
        for place in [Place::Tree, Place::Cache, Place::Downloads] {
            let of_place = layers.iter().filter(|(at, _)| *at == place).map(|(_, layer)| layer.clone());
            flat.bring(place, of_place.collect())?;
        }
        Ok((flat, restored))
    }

    fn bring(&self, place: Place, mut layers: Vec<Brought>) -> Result<(), TreeError> {
        let mut seen = BTreeSet::new();
        layers.retain(|layer| match layer {
            Brought::Moved(dir) | Brought::Shared(dir) => seen.insert(dir.clone()),
        });
        if layers.is_empty() {
            return Ok(());
        }
        let into = place.in_home().map_or_else(|| self.tree().to_owned(), |at| self.ground.home.join(at));
        std::fs::create_dir_all(&into).map_err(|source| TreeError::Io { path: into.clone(), source })?;
        flat::bring(&layers, &into)
    }

    /// Notes what is installed now, before any other step; and if there are any, brings what bundlers kept for them.
    fn installed(mut self, restored: Restored, go_on: bool) -> Result<(Self, Restored), TreeError> {
        let is_known = |level| restored.groups.iter().any(|group| group.level == level && group.key().is_some());
        let (packages, bower) = (is_known(Level::Packages), is_known(Level::Bower));
        // Copies that nobody will keep tell nothing either.
        let is_of_use = self.lent.way() == Way::Renamed || restored.keeps_installs();
        if (packages || bower) && is_of_use {
            self.noted = Some(self.note(&restored, packages, bower));
        }
        if go_on {
            for place in [Place::Tree, Place::Bundler] {
                let layers = restored.work_layers(place);
                self.bring_into_written(place, layers)?;
            }
        }
        Ok((self, restored))
    }

    /// As [`bring`](Self::bring), after steps have run: where a link is in the way, nothing is brought.
    fn bring_into_written(&self, place: Place, layers: Vec<PathBuf>) -> Result<(), TreeError> {
        if let Some(at) = place.in_home().filter(|_| !layers.is_empty())
            && let Err(error) = Dir::open(&self.ground.home)?.make_dir(Path::new(at))
        {
            tracing::info!(%error, "what bundlers kept is not used");
            return Ok(());
        }
        self.bring(place, layers.into_iter().map(Brought::Shared).collect())
    }

    fn note(&self, restored: &Restored, packages: bool, bower: bool) -> Result<Noted, String> {
        let cleaned = restored.examine_flat(&self.lent)?;
        let mut paths = Vec::new();
        if packages {
            paths.extend(cleaned.packages.into_iter().chain(cleaned.files));
        }
        if bower {
            paths.extend(cleaned.bower);
        }
        let home: &[PathBuf] = if packages { &[PathBuf::from(CACHE)] } else { &[] };
        let except = self.ground.caches.all();
        let noted = if self.lent.way() == Way::Renamed {
            Installed::note(self.tree(), &paths, &except)
                .and_then(|tree| Ok(Noted::InPlace { tree, home: Installed::note(&self.ground.home, home, &[])? }))
        } else {
            let paths = paths.iter().filter(|path| !except.iter().any(|at| path.starts_with(at)));
            self.copied(&paths.collect::<Vec<_>>(), &home.iter().collect::<Vec<_>>()).map(Noted::Copied)
        };
        noted.map_err(|error| error.to_string())
    }

    fn copied(&self, tree: &[&PathBuf], home: &[&PathBuf]) -> Result<Dependencies, TreeError> {
        let (into, home_into) = (self.ground.outgoing.join("tree"), self.ground.outgoing.join("home"));
        copy(self.tree(), tree, &into)?;
        copy(&self.ground.home, home, &home_into)?;
        Ok(Dependencies { tree: into, cache: home_into.join(CACHE) })
    }

    /// Takes apart what is to be kept, and gives the sources back.
    pub(super) async fn end(self, restored: &Restored, passed: bool) -> (Apart, Option<String>) {
        let work = passed && restored.work.as_ref().is_some_and(|group| group.key().is_some());
        let is_due = restored.takes_back() || passed && restored.keeps_installs();
        let ended = tokio::task::spawn_blocking(move || {
            let answer = self.take_apart(work, is_due);
            give_back(self.lent);
            answer
        });
        ended.await.unwrap_or_else(|panic| {
            tracing::error!(%panic, "what a build left could not be taken apart");
            (Apart::default(), None)
        })
    }

    fn take_apart(&self, work: bool, is_due: bool) -> (Apart, Option<String>) {
        let Ground { outgoing, caches, home, .. } = &self.ground;
        let mut apart = Apart::default();
        let told = |error: TreeError| tracing::warn!(%error, "something that a build left is not kept");
        if work {
            // Before the dependencies, in which most of it lies.
            let into = outgoing.join("work");
            let extracted = observer::kept::extract(self.tree(), &caches.projects, &caches.paths, &into);
            apart.work = extracted.map_err(told).ok().flatten().map(|_| into);
        }
        let mut not_kept = None;
        match self.noted.as_ref().map(|noted| self.part(noted.as_ref())) {
            Some(Ok((dependencies, added))) => {
                (apart.dependencies, apart.edited) = (Some(dependencies), added);
            }
            Some(Err(why)) => (not_kept, apart.edited) = (Some(why).filter(|_| is_due), true),
            None => apart.edited = true,
        }
        // Out of the slot; a link that a step put in its place is a link still, and is not followed.
        let moved = outgoing.join("home-left");
        match std::fs::rename(home, &moved) {
            Ok(()) => {
                apart.downloads = folder(&moved, Place::Downloads, outgoing);
                apart.bundler = folder(&moved, Place::Bundler, outgoing);
            }
            Err(source) => told(TreeError::Io { path: home.clone(), source }),
        }
        (apart, not_kept)
    }

    /// The dependencies as installed, and whether a step added to them; or why they can't be kept.
    fn part(&self, noted: Result<&Noted, &String>) -> Result<(Dependencies, bool), String> {
        let outgoing = &self.ground.outgoing;
        let (tree, home) = match noted? {
            // Nobody looked whether a step wrote into the original.
            Noted::Copied(dependencies) => return Ok((dependencies.clone(), true)),
            Noted::InPlace { tree, home } => (tree, home),
        };
        let part = |installed: &Installed, root: &Path, name: &str| {
            let parted = installed.part(root, &outgoing.join(name), &outgoing.join(format!("{name}-added")));
            match parted.map_err(|error| error.to_string())? {
                Parted::Whole(added) => Ok(!added.is_empty()),
                Parted::Changed(paths) => Err(changed(&paths)),
            }
        };
        let edited = part(tree, self.tree(), "tree")?;
        part(home, &self.ground.home, "home")?;
        Ok((Dependencies { tree: outgoing.join("tree"), cache: outgoing.join("home").join(CACHE) }, edited))
    }
}

impl Ground {
    /// The layers of a snapshot: moved if it is this build's own and no other build uses it. `number` names the first.
    ///
    /// # Errors
    /// Why it can't be used, a sentence. It is a miss then.
    fn fetch(&self, held: &mut Held, is_own: bool, number: usize) -> Result<Vec<(Place, Brought)>, String> {
        let mut fetched = Vec::new();
        for place in [Place::Tree, Place::Cache, Place::Downloads] {
            let of_place = held.record.layers.iter().filter(|layer| layer.place == place);
            let ids: Vec<_> = of_place.map(|layer| layer.id.clone()).collect();
            for (id, dir) in ids.iter().zip(held.layers(place)) {
                let into = self.incoming.join((number + fetched.len()).to_string());
                // Packages point into downloads, and downloads are written into.
                let may_move = is_own && place != Place::Downloads;
                let layer = match may_move.then(|| self.cache.take(held, id, &into)).transpose() {
                    Ok(Some(Taken::Moved)) => Brought::Moved(into),
                    Ok(Some(Taken::InUse) | None) => Brought::Shared(dir),
                    Ok(Some(Taken::Damaged(how))) => {
                        return Err(format!("what was kept is damaged and was removed: {how}"));
                    }
                    Err(error) => return Err(format!("what was kept can't be used: {error}")),
                };
                fetched.push((place, layer));
            }
        }
        Ok(fetched)
    }
}

/// HOME's folder in which installs leave parts of their result.
const CACHE: &str = ".cache";

/// The sentence for dependencies that are not what was installed.
fn changed(paths: &[PathBuf]) -> String {
    let first = paths.first().map(|path| path.display().to_string()).unwrap_or_default();
    let more = if paths.len() > 1 { format!(" and {} more", paths.len() - 1) } else { String::new() };
    format!("a step after the installs changed {first}{more} in place")
}

/// A folder of a HOME that steps have written, moved out of it; never one that a link leads to.
fn folder(home: &Path, place: Place, outgoing: &Path) -> Option<PathBuf> {
    let at = Path::new(place.in_home()?);
    let moved = || {
        let (from, into) = (Dir::open(home)?, outgoing.join(at.file_name().unwrap_or_default()));
        from.open_dir(at)?;
        tree::move_entry(&from, at, &Dir::open(outgoing)?, Path::new(at.file_name().unwrap_or_default()))?;
        Ok::<_, TreeError>(into)
    };
    moved().ok()
}

/// Copies these paths of a tree into the new folder `into`.
fn copy(from: &Path, paths: &[&PathBuf], into: &Path) -> Result<(), TreeError> {
    std::fs::create_dir_all(into).map_err(|source| TreeError::Io { path: into.to_owned(), source })?;
    let (source, target) = (Dir::open(from)?, Dir::open(into)?);
    for path in paths {
        let (parent, name) = (path.parent().unwrap_or(Path::new("")), path.file_name().unwrap_or_default());
        match source.kind(path) {
            Ok(Kind::Dir) => {
                target.make_dir(path)?;
                tree::copy_tree(&from.join(path), &into.join(path))?;
            }
            Ok(kind) => {
                if !parent.as_os_str().is_empty() {
                    target.make_dir(parent)?;
                }
                source.open_dir(parent)?.copy_entry(Path::new(name), kind, &target.open_dir(parent)?)?;
            }
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Ends the tree, after the last look into it.
fn give_back(lent: Lent) {
    match lent.give_back() {
        Ok(Returned::GivenUp(changed)) => {
            tracing::info!(?changed, "the build wrote into its sources: they are checked out anew next time");
        }
        Ok(Returned::Back | Returned::Untouched) => {}
        Err(error) => tracing::warn!(%error, "the sources could not be taken back: they are checked out anew"),
    }
}

//! The views of a build, one after another, and the steps in them.
//!
//! What installs write is kept apart from what comes after them: they run in a view of their own, and when they are
//! done, what they wrote is a layer below the next view. After a pass that layer is the snapshot of the dependencies, by
//! a rename and with nothing copied; what a bundle edits in `node_modules` never reaches it.

mod flat;

use std::io;
use std::path::{Path, PathBuf};

use crate::confine::{Holder, Joining};
use crate::domain::outcome::Verdict;
use crate::domain::snapshot::Place;
use crate::domain::view::View;

use super::build::{no_holder, no_workspace};
use super::course::{self, Course};
use super::remains::{Caches, Installs, Remains};
use super::restore::Restored;
use super::stage::Ended;
use super::workspace::{Phase, Workspace};
use flat::Flat;

/// The steps of a build, run.
pub(super) struct Ran {
    /// How each ended, stage by stage; or the verdict of the first stage that did not succeed.
    pub(super) ended: Result<Vec<Vec<Ended>>, Verdict>,
    pub(super) wrote: Wrote,
}

/// Where steps wrote what they wrote.
pub(super) enum Wrote {
    /// Into the topmost layers of their views.
    Stacked {
        /// The view of the installs, where they had one of their own.
        installs: Option<View>,
        /// Why what they wrote can't be kept.
        not_kept: Option<String>,
        /// The view of the last steps.
        steps: View,
    },
    /// All into one directory.
    Flat(Flat),
}

impl Wrote {
    /// The tree as far as it was written, and where nothing is stacked the sources with it.
    pub(super) fn tree(&self) -> &Path {
        match self {
            Wrote::Stacked { steps, .. } => &steps.tree.upper,
            Wrote::Flat(flat) => flat.tree(),
        }
    }

    /// After the last look into it: what is to be kept no longer lies where the next build of the slot will be. And why
    /// what was installed is not kept, if it can't be.
    pub(super) async fn end(self, restored: &Restored, passed: bool) -> (Remains, Option<String>) {
        match self {
            Wrote::Stacked { installs, not_kept, steps } => {
                let installs = installs.map(|view| Installs { view, are_kept: not_kept.is_none() });
                (Remains::Views { installs, steps: Box::new(steps) }, not_kept)
            }
            Wrote::Flat(flat) => {
                let (apart, not_kept) = flat.end(restored, passed).await;
                (Remains::Apart(apart), not_kept)
            }
        }
    }
}

/// Runs the steps of a plan. `holder` is ready for its view; it has ended when this returns. `caches` are to be taken out
/// of the tree after it.
///
/// # Errors
/// When there could be no view.
pub(super) async fn run(
    course: &mut Course<'_>,
    workspace: &Workspace,
    holder: Holder,
    caches: &Caches,
) -> Result<Ran, Verdict> {
    match course.parts.layers.joining() {
        Joining::Flat(files) => flat::run(course, workspace, holder, files, caches).await,
        Joining::Overlay if course.restored.keeps_installs() => twice(course, workspace, holder).await,
        Joining::Overlay => once(course, workspace, holder).await,
    }
}

/// Everything in one view.
async fn once(course: &Course<'_>, workspace: &Workspace, holder: Holder) -> Result<Ran, Verdict> {
    let view = view(course, workspace, Phase::Steps, |place| course.restored.layers(place)).map_err(no_workspace)?;
    holder.mount(&view).await.map_err(no_holder)?;
    let ended = course.run(&holder, &view.home, course::whole(course.plan)).await;
    holder.close().await;
    Ok(Ran { ended, wrote: Wrote::Stacked { installs: None, not_kept: None, steps: view } })
}

/// The installs in one view, all others in the next.
async fn twice(course: &Course<'_>, workspace: &Workspace, holder: Holder) -> Result<Ran, Verdict> {
    let restored = &course.restored;
    let (installs, others) = course::split(course.plan);
    let first = view(course, workspace, Phase::Installs, |place| restored.installed_layers(place));
    let first = first.map_err(no_workspace)?;
    holder.mount(&first).await.map_err(no_holder)?;
    // The next holder's namespaces are made while something runs anyway.
    let (ended, next) = tokio::join!(
        course.run(&holder, &first.home, installs),
        Holder::start_early(&course.parts.exe, &course.parts.layers),
    );
    // An overlay's upper layer can be another's lower one when the first is gone, not before.
    holder.close().await;
    let mut ended = match ended {
        Ok(ended) => ended,
        Err(verdict) => {
            let wrote = Wrote::Stacked { installs: None, not_kept: None, steps: first };
            return Ok(Ran { ended: Err(verdict), wrote });
        }
    };
    let next = next.map_err(no_holder)?;
    let not_kept = restored.examine(&first.writes(Place::Tree)).err();
    let second = view(course, workspace, Phase::Steps, |place| {
        let installed = Some(first.writes(place)).filter(|dir| place != Place::Bundler && is_folder(dir));
        let work = restored.work_layers(place).into_iter();
        work.chain(installed).chain(restored.installed_layers(place)).collect()
    });
    let second = second.map_err(no_workspace)?;
    next.mount(&second).await.map_err(no_holder)?;
    let rest = course.run(&next, &second.home, others).await;
    next.close().await;
    let ended = rest.map(|rest| {
        ended.extend(rest);
        ended
    });
    Ok(Ran { ended, wrote: Wrote::Stacked { installs: Some(first), not_kept, steps: second } })
}

/// Whether a folder is there, and no link: an install may have put one in its place, and what it leads to would be shown.
fn is_folder(dir: &Path) -> bool {
    dir.symlink_metadata().is_ok_and(|meta| meta.is_dir())
}

/// A phase's view: over the sources and in HOME these layers, the topmost first.
fn view(
    course: &Course<'_>,
    workspace: &Workspace,
    phase: Phase,
    layers: impl Fn(Place) -> Vec<PathBuf>,
) -> io::Result<View> {
    let tree: Vec<PathBuf> = layers(Place::Tree).into_iter().chain([course.sources.clone()]).collect();
    let mut in_home = Vec::new();
    for place in [Place::Cache, Place::Downloads, Place::Bundler] {
        let lowers = layers(place);
        if let Some(at) = place.in_home().filter(|_| !lowers.is_empty()) {
            in_home.push((PathBuf::from(at), workspace.stack(phase, place, lowers)?));
        }
    }
    Ok(View {
        tree: workspace.stack(phase, Place::Tree, tree)?,
        home: workspace.home(phase)?,
        in_home,
        tmp: workspace.tmp(),
        readable: course.readable(),
        root: course.job.root.as_ref().map(|root| root.dir().to_owned()),
    })
}

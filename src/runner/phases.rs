//! The views of a build, one after another, and the steps in them.
//!
//! What installs write is kept apart from what comes after them: they run in a view of their own, and when they are
//! done, what they wrote is a layer below the next view. After a pass that layer is the snapshot of the dependencies, by
//! a rename and with nothing copied; what a bundle edits in `node_modules` never reaches it.

use std::io;
use std::path::PathBuf;

use crate::confine::{Holder, Joining};
use crate::domain::outcome::Verdict;
use crate::domain::snapshot::Place;
use crate::domain::view::View;
use crate::tree::FileSystem;

use super::build::{no_holder, no_workspace};
use super::course::{self, Course};
use super::flat::Lent;
use super::stage::Ended;
use super::workspace::{Phase, Workspace};

/// The steps of a build, run.
pub(super) struct Ran {
    /// How each ended, stage by stage; or the verdict of the first stage that did not succeed.
    pub(super) ended: Result<Vec<Vec<Ended>>, Verdict>,
    /// The view of the installs, where they had one of their own.
    pub(super) installs: Option<View>,
    /// Why what they wrote can't be kept.
    pub(super) not_kept: Option<String>,
    /// The view of the last steps.
    pub(super) steps: View,
    /// The sources, where they were lent: they go back after the last look into the tree.
    pub(super) lent: Option<Lent>,
}

/// Runs the steps of a plan. `holder` is ready for its view; it has ended when this returns.
///
/// # Errors
/// When there could be no view.
pub(super) async fn run(course: &mut Course<'_>, workspace: &Workspace, holder: Holder) -> Result<Ran, Verdict> {
    match course.parts.layers.joining() {
        Joining::Flat(files) => flat(course, workspace, holder, files).await,
        Joining::Overlay if course.restored.keeps_installs() => twice(course, workspace, holder).await,
        Joining::Overlay => once(course, workspace, holder).await,
    }
}

/// Everything in one directory, where nothing can be stacked: the sources are lent to it.
async fn flat(
    course: &mut Course<'_>,
    workspace: &Workspace,
    holder: Holder,
    files: FileSystem,
) -> Result<Ran, Verdict> {
    let places = workspace.places();
    let lent = tokio::task::spawn_blocking(move || Lent::lend(places, files)).await.map_err(io::Error::other);
    let lent = lent.and_then(|lent| lent.map_err(io::Error::other)).map_err(no_workspace)?;
    course.sources = lent.tree().to_owned();
    let home = workspace.flat_home().map_err(no_workspace)?;
    let view =
        View { tree: lent.stack(), home, in_home: Vec::new(), tmp: workspace.tmp(), readable: course.readable() };
    holder.mount(&view).await.map_err(no_holder)?;
    let ended = course.run(&holder, &view.home, course::whole(course.plan)).await;
    holder.close().await;
    Ok(Ran { ended, installs: None, not_kept: None, steps: view, lent: Some(lent) })
}

/// Everything in one view.
async fn once(course: &Course<'_>, workspace: &Workspace, holder: Holder) -> Result<Ran, Verdict> {
    let view = view(course, workspace, Phase::Steps, |place| course.restored.layers(place)).map_err(no_workspace)?;
    holder.mount(&view).await.map_err(no_holder)?;
    let ended = course.run(&holder, &view.home, course::whole(course.plan)).await;
    holder.close().await;
    Ok(Ran { ended, installs: None, not_kept: None, steps: view, lent: None })
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
            return Ok(Ran { ended: Err(verdict), installs: None, not_kept: None, steps: first, lent: None });
        }
    };
    let next = next.map_err(no_holder)?;
    let not_kept = restored.examine(&first.writes(Place::Tree)).err();
    let second = view(course, workspace, Phase::Steps, |place| {
        let installed = Some(first.writes(place)).filter(|dir| place != Place::Bundler && dir.is_dir());
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
    Ok(Ran { ended, installs: Some(first), not_kept, steps: second, lent: None })
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
    })
}

//! The views of a build, one after another, and the steps in them.
//!
//! What installs write is kept apart from what comes after them: they run in a view of their own, and when they are
//! done, what they wrote is a layer below the next view. After a pass that layer is the snapshot of the dependencies, by
//! a rename and with nothing copied; what a bundle edits in `node_modules` never reaches it.

use std::io;
use std::path::PathBuf;

use crate::confine::Holder;
use crate::domain::outcome::Verdict;
use crate::domain::snapshot::Place;
use crate::domain::view::{Stack, View};
use crate::tree;

use super::build::{no_holder, no_workspace};
use super::course::{self, Course};
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
}

/// Runs the steps of a plan. `holder` is ready for its view; it has ended when this returns.
///
/// # Errors
/// When there could be no view.
pub(super) async fn run(course: &Course<'_>, workspace: &Workspace, holder: Holder) -> Result<Ran, Verdict> {
    if course.parts.layers.stacks() && course.restored.keeps_installs() {
        twice(course, workspace, holder).await
    } else {
        once(course, workspace, holder).await
    }
}

/// Everything in one view.
async fn once(course: &Course<'_>, workspace: &Workspace, holder: Holder) -> Result<Ran, Verdict> {
    let mut view =
        view(course, workspace, Phase::Steps, |place| course.restored.layers(place)).map_err(no_workspace)?;
    if !course.parts.layers.stacks() {
        view.tree = flat(view.tree).await.map_err(no_workspace)?;
    }
    holder.mount(&view).await.map_err(no_holder)?;
    let ended = course.run(&holder, &view.home, course::whole(course.plan)).await;
    holder.close().await;
    Ok(Ran { ended, installs: None, not_kept: None, steps: view })
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
        Err(verdict) => return Ok(Ran { ended: Err(verdict), installs: None, not_kept: None, steps: first }),
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
    Ok(Ran { ended, installs: Some(first), not_kept, steps: second })
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

/// Where nothing can be stacked, the build gets a copy of the sources: its writes must not reach them.
async fn flat(stack: Stack) -> io::Result<Stack> {
    let copied = tokio::task::spawn_blocking(move || {
        for lower in &stack.lowers {
            tree::copy_tree(lower, &stack.joined).map_err(io::Error::other)?;
        }
        Ok(Stack::plain(stack.joined))
    });
    copied.await.map_err(io::Error::other)?
}

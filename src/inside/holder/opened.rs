//! What Landlock opens to a step, in a fence and without one.

use std::path::{Path, PathBuf};

use super::{devices, etc, root};
use crate::confine::launch::{Access, Opened};
use crate::domain::view::{BUILD_DIR, HOME_DIR, View};

/// In a fence: what is mounted read-only is readable, and nothing else is there.
pub(super) fn in_a_fence() -> Vec<Opened> {
    let opened = |path: &str, access| Opened { path: path.into(), access };
    vec![
        opened("/", Access::Read),
        opened(BUILD_DIR, Access::Write),
        opened(HOME_DIR, Access::Write),
        opened("/tmp", Access::Write),
        opened("/dev/shm", Access::Write),
        opened("/dev", Access::Use),
        // Of its own processes only: their names, their chance to be ended first.
        opened("/proc", Access::Use),
    ]
}

/// Without one: of the machine what a fence would show, and of the build its own directories.
pub(super) fn of_the_machine(view: &View) -> Vec<Opened> {
    let own = [&view.home, &view.tmp].into_iter().cloned();
    let stacks = std::iter::once(&view.tree).chain(view.in_home.iter().map(|(_, stack)| stack));
    let own = own.chain(stacks.map(|stack| stack.shown().to_owned()));
    let mut all: Vec<Opened> = own.map(|path| Opened { path, access: Access::Write }).collect();
    let machines = root::PROGRAMS.iter().map(PathBuf::from).chain(etc::of_the_machine());
    // Where the kernel's own switches are read only, too; what is a process' own it gives to whoever may trace it.
    let machines = machines.chain([PathBuf::from("/proc")]);
    let read = machines.chain(view.readable.iter().cloned()).filter(|path| path.exists());
    all.extend(read.map(|path| Opened { path, access: Access::Read }));
    let devices = devices::NODES.iter().map(|node| Path::new("/dev").join(node)).filter(|path| path.exists());
    all.extend(
        devices.flat_map(|path| [Access::Read, Access::Use].map(|access| Opened { path: path.clone(), access })),
    );
    all
}

//! The root that steps see, built once a build; the holder itself moves into it. A step then needs one bind mount,
//! and has no mount of the host's to copy.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::{Component, Path};

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};
use rustix::process::{chdir, pivot_root};

use super::bind::{Access, NEW_ROOT, bind, by_descriptor, open, under};
use super::{devices, etc};
use crate::confine::FRESH_PROC;
use crate::domain::view::{BUILD_DIR, HOME_DIR, Stack, View};

/// What a step may read of the host, where it exists: programs and libraries. Never /home, /root, /var, /run, /srv.
pub(super) const PROGRAMS: [&str; 9] =
    ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store"];

/// Joins the view, builds the root and enters it. `bubblewrap` must be in it too.
///
/// # Errors
/// What could not be done and why, to follow "could not".
pub(super) fn build(view: &View, bubblewrap: Option<&Path>) -> Result<(), String> {
    for stack in std::iter::once(&view.tree).chain(view.in_home.iter().map(|(_, stack)| stack)) {
        if !stack.lowers.is_empty() {
            join(stack)?;
        }
    }
    let build = opened(view.tree.shown())?;
    let home = opened(&view.home)?;
    let mut in_home = Vec::new();
    for (at, stack) in &view.in_home {
        in_home.push((Path::new(HOME_DIR).join(at), opened(stack.shown())?));
    }
    let tmp = opened(&view.tmp)?;
    let mut readable = Vec::new();
    for path in view.readable.iter().map(AsRef::as_ref).chain(bubblewrap) {
        readable.push((path, opened(path)?));
    }
    mount("tmpfs", NEW_ROOT, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, Some(c"mode=755,size=16m"))
        .map_err(|error| format!("mount a tmpfs for the root: {error}"))?;
    for dir in PROGRAMS {
        show_programs(Path::new(dir)).map_err(|error| format!("show {dir} to steps: {error}"))?;
    }
    etc::make().map_err(|error| format!("make /etc for steps: {error}"))?;
    devices::make().map_err(|error| format!("make /dev for steps: {error}"))?;
    make_dirs().map_err(|error| format!("make directories for steps: {error}"))?;
    for (fd, at) in [(&build, BUILD_DIR), (&home, HOME_DIR), (&tmp, "/tmp")] {
        bind(fd, Path::new(at), Access::Write).map_err(|error| format!("show {at} to steps: {error}"))?;
    }
    for (at, fd) in &in_home {
        bind(fd, at, Access::Write).map_err(|error| format!("show {} to steps: {error}", at.display()))?;
    }
    for (path, fd) in &readable {
        show(fd, path).map_err(|error| format!("show {} to steps: {error}", path.display()))?;
    }
    // For bubblewrap, which covers it with one for the step.
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("proc", under(Path::new("proc")), "proc", flags, None).map_err(|error| format!("{FRESH_PROC}: {error}"))?;
    enter().map_err(|error| format!("enter the root for steps: {error}"))
}

/// The overlay. Its layers are named by descriptors: paths may hold the very characters that separate options.
fn join(stack: &Stack) -> Result<(), String> {
    let lowers = stack.lowers.iter().map(|path| opened(path)).collect::<Result<Vec<_>, _>>()?;
    let (upper, work) = (opened(&stack.upper)?, opened(&stack.work)?);
    let lowerdir = lowers.iter().map(by_descriptor).collect::<Vec<_>>().join(":");
    let (upperdir, workdir) = (by_descriptor(&upper), by_descriptor(&work));
    // `volatile` (Linux 5.10): no sync ever goes to the disk below. A build's writes need not outlive a crash, and
    // without it the unmount at the end of every build syncs the whole file system, half a second of nothing.
    let options = format!("userxattr,volatile,lowerdir={lowerdir},upperdir={upperdir},workdir={workdir}");
    let options = CString::new(options).expect("numbers and words hold no NUL");
    mount("overlay", &stack.joined, "overlay", MountFlags::NOSUID | MountFlags::NODEV, Some(options.as_c_str()))
        .map_err(|error| format!("mount an overlay on {}: {error}", stack.joined.display()))
}

fn show_programs(dir: &Path) -> io::Result<()> {
    match fs::symlink_metadata(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        // /bin → usr/bin on a merged system.
        Ok(data) if data.is_symlink() => symlink(fs::read_link(dir)?, under(dir)),
        Ok(_) => bind(&open(dir)?, dir, Access::Read),
    }
}

/// Further readable paths, unless they are there already because they lie in one that is. Below /tmp the mount point
/// is made in the build's own /tmp, and goes with it.
fn show(fd: &OwnedFd, path: &Path) -> io::Result<()> {
    if PROGRAMS.iter().any(|dir| path.starts_with(dir)) {
        return Ok(());
    }
    let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if !path.is_absolute() || !plain {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not an absolute, plain path"));
    }
    if is_there(fd, path) {
        return Ok(());
    }
    bind(fd, path, Access::Read)
}

/// The very same file or folder can be seen at `path` already, inside something larger that was given.
fn is_there(fd: &OwnedFd, path: &Path) -> bool {
    match (rustix::fs::fstat(fd), rustix::fs::stat(under(path))) {
        (Ok(given), Ok(seen)) => (given.st_dev, given.st_ino) == (seen.st_dev, seen.st_ino),
        _ => false,
    }
}

fn make_dirs() -> io::Result<()> {
    for dir in ["proc", "run", "var"] {
        fs::create_dir(under(Path::new(dir)))?;
    }
    symlink("../tmp", under(Path::new("var/tmp")))
}

/// Makes the new root the root, leaves nothing of the old one, and closes it to writes.
fn enter() -> io::Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    chdir(NEW_ROOT)?;
    // The old root comes to lie over the new one (pivot_root(2), NOTES), from where it is taken away.
    pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    chdir("/")?;
    mount_remount("/", MountFlags::BIND | MountFlags::RDONLY | flags, c"")?;
    Ok(())
}

fn opened(path: &Path) -> Result<OwnedFd, String> {
    open(path).map_err(|error| format!("open {}: {error}", path.display()))
}

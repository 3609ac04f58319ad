//! The root that steps see, built once a build; the holder itself moves into it, or where steps see another root file
//! system, into one that has it. A step then needs one bind mount, and has no mount of the host's to copy.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};
use rustix::process::{chdir, pivot_root};

use super::bind::{Access, NEW_ROOT, Site, by_descriptor, open};
use super::{another, devices, etc};
use crate::confine::FRESH_PROC;
use crate::domain::view::{BUILD_DIR, HOME_DIR, Stack, View};

/// What a step may read of the host, where it exists: programs and libraries. Never /home, /root, /var, /run, /srv.
pub(super) const PROGRAMS: [&str; 9] =
    ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store"];

/// What is mounted in the root.
pub(super) struct Part {
    pub(super) fd: OwnedFd,
    pub(super) at: PathBuf,
    access: Access,
}

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
    // All of it before anything covers it.
    let parts = parts(view)?;
    let bubblewrap = bubblewrap.map(readable).transpose()?;
    let root = view.root.as_deref().map(|dir| opened(dir).map(|fd| (dir, fd))).transpose()?;
    mount("tmpfs", NEW_ROOT, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, Some(c"mode=755,size=16m"))
        .map_err(|error| format!("mount a tmpfs for the root: {error}"))?;
    let own = Site::at(NEW_ROOT);
    for dir in PROGRAMS {
        show_programs(&own, Path::new(dir)).map_err(|error| format!("show {dir} to steps: {error}"))?;
    }
    match root {
        None => {
            etc::of_host(&own).map_err(|error| format!("make /etc for steps: {error}"))?;
            devices::make(&own).map_err(|error| format!("make /dev for steps: {error}"))?;
            make_dirs(&own).map_err(|error| format!("make directories for steps: {error}"))?;
            fill(&own, &parts)?;
        }
        Some((dir, root)) => {
            let site = another::site(&own);
            another::for_bubblewrap(&own).map_err(|error| format!("make directories for bubblewrap: {error}"))?;
            another::make(&site, &parts).map_err(|error| format!("make directories for steps: {error}"))?;
            another::join(&own, &site, &root)
                .map_err(|error| format!("mount an overlay of {} as the root for steps: {error}", dir.display()))?;
            fill(&site, &parts)?;
        }
    }
    // After all that could cover it: it may lie below /tmp.
    if let Some(part) = bubblewrap {
        show(&own, &part)?;
    }
    // For bubblewrap, which covers it with one for the step.
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount("proc", own.under("proc"), "proc", flags, None).map_err(|error| format!("{FRESH_PROC}: {error}"))?;
    enter().map_err(|error| format!("enter the root for steps: {error}"))
}

/// Everything of the view, in the order in which it is mounted.
fn parts(view: &View) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut written = |path: &Path, at: &Path| {
        parts.push(Part { fd: opened(path)?, at: at.to_owned(), access: Access::Write });
        Ok::<(), String>(())
    };
    written(view.tree.shown(), Path::new(BUILD_DIR))?;
    written(&view.home, Path::new(HOME_DIR))?;
    written(&view.tmp, Path::new("/tmp"))?;
    for (at, stack) in &view.in_home {
        written(stack.shown(), &Path::new(HOME_DIR).join(at))?;
    }
    // What lies in a folder of this machine's programs is there with it.
    let is_there = |path: &&PathBuf| view.root.is_none() && PROGRAMS.iter().any(|dir| path.starts_with(dir));
    for path in view.readable.iter().filter(|path| !is_there(path)) {
        parts.push(readable(path)?);
    }
    Ok(parts)
}

fn readable(path: &Path) -> Result<Part, String> {
    let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if !path.is_absolute() || !plain {
        return Err(format!("show {} to steps: not an absolute, plain path", path.display()));
    }
    Ok(Part { fd: opened(path)?, at: path.to_owned(), access: Access::Read })
}

/// Mounts devices and parts.
fn fill(site: &Site, parts: &[Part]) -> Result<(), String> {
    devices::fill(site).map_err(|error| format!("make /dev for steps: {error}"))?;
    parts.iter().try_for_each(|part| show(site, part))
}

/// A part, unless it is there already because it lies in one that is. Below /tmp the mount point is made in the build's
/// own /tmp, and goes with it.
fn show(site: &Site, part: &Part) -> Result<(), String> {
    if part.access == Access::Read && is_there(site, part) {
        return Ok(());
    }
    let shown = site.bind(&part.fd, &part.at, part.access);
    shown.map_err(|error| format!("show {} to steps: {error}", part.at.display()))
}

/// The very same file or folder can be seen already, inside something larger that was given.
fn is_there(site: &Site, part: &Part) -> bool {
    match (rustix::fs::fstat(&part.fd), rustix::fs::stat(site.under(&part.at))) {
        (Ok(given), Ok(seen)) => (given.st_dev, given.st_ino) == (seen.st_dev, seen.st_ino),
        _ => false,
    }
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

fn show_programs(own: &Site, dir: &Path) -> io::Result<()> {
    match fs::symlink_metadata(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        // /bin → usr/bin on a merged system.
        Ok(data) if data.is_symlink() => symlink(fs::read_link(dir)?, own.make(dir)),
        Ok(_) => own.bind(&open(dir)?, dir, Access::Read),
    }
}

fn make_dirs(own: &Site) -> io::Result<()> {
    for dir in ["proc", "run", "var"] {
        fs::create_dir_all(own.make(dir))?;
    }
    symlink("../tmp", own.make("var/tmp"))
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

//! Another root file system in the place of this machine's programs: steps see all of it, read-only, and in front of it
//! what they have of ours.
//!
//! It can't be written and may lack the very directories on which something is to be mounted. So these lie in a layer of
//! their own, which an overlay without any layer for writes puts in front. Every directory on the way to a mount point is
//! one of that layer, and so no link of the other root is followed.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::mount::{MountFlags, mount};

use super::bind::{Site, by_descriptor, open};
use super::root::Part;
use super::{devices, etc};
use crate::confine::bubblewrap::STEPS_ROOT;

/// Its own of these say nothing inside of a fence: devices, what ran where it was made, another machine's kernel.
const HIDDEN: [&str; 3] = ["dev", "run", "sys"];

/// In the holder's own root: the layer in front of the other root, and the one that hides some of it.
const OURS: &str = "ours";
const HIDING: &str = "hiding";

/// Where it is made and seen, within the holder's own root.
pub(super) fn site(own: &Site) -> Site {
    Site::apart(own.make(OURS), own.under(STEPS_ROOT))
}

/// Makes the layer in front, with a mount point for each part.
pub(super) fn make(site: &Site, parts: &[Part]) -> io::Result<()> {
    for dir in ["proc", "run", "sys", "var"] {
        fs::create_dir_all(site.make(dir))?;
    }
    symlink("../tmp", site.make("var/tmp"))?;
    etc::of_root(site)?;
    devices::make(site)?;
    parts.iter().try_for_each(|part| site.prepare(&part.fd, &part.at))
}

/// Puts it in front of the other root.
pub(super) fn join(own: &Site, site: &Site, root: &OwnedFd) -> io::Result<()> {
    for name in HIDDEN {
        fs::create_dir_all(own.make(HIDING))?;
        // overlayfs' own sign for what is not there; every user may make it (Linux 5.8).
        mknodat(CWD, own.make(HIDING).join(name), FileType::CharacterDevice, Mode::empty(), 0)?;
    }
    let (ours, hiding) = (open(&site.make("/"))?, open(&own.make(HIDING))?);
    let layers = [&ours, &hiding, root].map(by_descriptor).join(":");
    let options = CString::new(format!("userxattr,lowerdir={layers}")).expect("numbers and words hold no NUL");
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::RDONLY;
    fs::create_dir_all(site.under("/"))?;
    mount("overlay", site.under("/"), "overlay", flags, Some(options.as_c_str()))?;
    Ok(())
}

/// What bubblewrap needs in the holder's own root: it is this machine's, and no step sees that root.
pub(super) fn for_bubblewrap(own: &Site) -> io::Result<()> {
    // It mounts a tmpfs there to work in.
    fs::create_dir_all(own.make("tmp"))?;
    fs::create_dir_all(own.make("proc"))?;
    // Its standard input is nothing, which the holder opens.
    symlink(Path::new(STEPS_ROOT).join("dev"), own.make("dev"))?;
    etc::of_loader(own)
}

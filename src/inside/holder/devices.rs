//! The /dev that steps see: harmless devices, shared memory (a quarter of the machine's at most), terminals of their own.
//!
//! Made once a build; bubblewrap's own `--dev` would make it anew, a millisecond for each step.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::mount::{MountFlags, mount};

use super::bind::{Access, Site, open};

pub(super) const NODES: [&str; 6] = ["full", "null", "random", "tty", "urandom", "zero"];
const LINKS: [(&str, &str); 6] = [
    ("core", "/proc/kcore"),
    ("fd", "/proc/self/fd"),
    ("ptmx", "pts/ptmx"),
    ("stderr", "/proc/self/fd/2"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
];

/// Makes what is no mount of it.
pub(super) fn make(site: &Site) -> io::Result<()> {
    let dev = site.make("dev");
    for dir in ["pts", "shm"] {
        fs::create_dir_all(dev.join(dir))?;
    }
    for node in NODES {
        fs::File::create(dev.join(node))?;
    }
    for (link, to) in LINKS {
        symlink(to, dev.join(link))?;
    }
    Ok(())
}

/// Mounts the rest.
pub(super) fn fill(site: &Site) -> io::Result<()> {
    for node in NODES {
        let host = Path::new("/dev").join(node);
        site.bind(&open(&host)?, &host, Access::Device)?;
    }
    let dev = site.under("dev");
    let flags = MountFlags::NOSUID | MountFlags::NOEXEC;
    mount("devpts", dev.join("pts"), "devpts", flags, Some(c"newinstance,ptmxmode=0666,mode=620"))?;
    mount("tmpfs", dev.join("shm"), "tmpfs", flags | MountFlags::NODEV, Some(c"mode=1777,size=25%"))?;
    Ok(())
}

//! The /etc that steps see: a user, names, and of the host's only what programs need.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::bind::{Access, Site, open};
use crate::confine::bubblewrap::{BUILD_UID, HOST_NAME};
use crate::domain::view::HOME_DIR;

/// Directories shown where they exist: certificates (never /etc/ssl/private), fonts, the chosen alternatives, and the
/// flags without which Debian's Chromium does not start.
const SHOWN: [&str; 7] =
    ["alternatives", "chromium.d", "crypto-policies", "fonts", "pki/ca-trust", "pki/tls/certs", "ssl/certs"];

/// Files copied where they exist: each mount costs every step time, and these are small.
const COPIED: [&str; 14] = [
    "gai.conf",
    "host.conf",
    "ld.so.cache",
    "ld.so.conf",
    "localtime",
    "mime.types",
    // The global settings of a distribution's npm.
    "npmrc",
    "os-release",
    "protocols",
    // Often a link into /run, which steps do not see.
    "resolv.conf",
    "services",
    "ssl/cert.pem",
    "ssl/openssl.cnf",
    "timezone",
];

/// Files that are made for steps in a fence, and that steps without one need as the machine has them.
const OWN: [&str; 5] = ["passwd", "group", "nsswitch.conf", "hostname", "hosts"];

/// All of it in the machine's own /etc, for steps without a fence.
pub(super) fn of_the_machine() -> impl Iterator<Item = PathBuf> {
    SHOWN.into_iter().chain(COPIED).chain(OWN).map(|name| Path::new("/etc").join(name))
}

/// For steps that use this machine's programs.
pub(super) fn of_host(site: &Site) -> io::Result<()> {
    for name in SHOWN {
        let host = Path::new("/etc").join(name);
        if host.is_dir() {
            site.bind(&open(&host)?, &host, Access::Read)?;
        }
    }
    copy(site, &COPIED)?;
    own(site)
}

/// For steps that see another root, which has an /etc of its own: who they are, and how names lead to this machine's network.
pub(super) fn of_root(site: &Site) -> io::Result<()> {
    copy(site, &["resolv.conf"])?;
    own(site)
}

/// For bubblewrap, where no step sees it: libraries may be where only the loader's cache says.
pub(super) fn of_loader(site: &Site) -> io::Result<()> {
    copy(site, &["ld.so.cache"])
}

fn copy(site: &Site, names: &[&str]) -> io::Result<()> {
    for name in names {
        // What is not there, or not for the agent to read, is not for a step either.
        if let Ok(text) = fs::read(Path::new("/etc").join(name)) {
            write(site, name, &text)?;
        }
    }
    Ok(())
}

fn own(site: &Site) -> io::Result<()> {
    let uid = BUILD_UID;
    let passwd = format!(
        "root:x:0:0:root:/nonexistent:/sbin/nologin\nbuild:x:{uid}:{uid}:build:{HOME_DIR}:/bin/sh\n\
         nobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\n"
    );
    write(site, "passwd", passwd.as_bytes())?;
    write(site, "group", format!("root:x:0:\nbuild:x:{uid}:\nnogroup:x:65534:\n").as_bytes())?;
    write(
        site,
        "nsswitch.conf",
        b"passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n",
    )?;
    write(site, "hostname", format!("{HOST_NAME}\n").as_bytes())?;
    // A registry in the LAN may be known to the host by its hosts file only.
    let hosts = fs::read_to_string("/etc/hosts").unwrap_or_default();
    write(site, "hosts", format!("127.0.0.1 localhost {HOST_NAME}\n::1 localhost {HOST_NAME}\n{hosts}").as_bytes())
}

fn write(site: &Site, name: &str, text: &[u8]) -> io::Result<()> {
    let path = site.make("etc").join(name);
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir)?;
    }
    fs::write(&path, text)?;
    fs::set_permissions(&path, Permissions::from_mode(0o644))
}

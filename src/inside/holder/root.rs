//! The root that steps see, built once a build in the holder's own mount namespace: a step then needs one bind mount.

use std::ffi::CString;
use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use rustix::mount::{MountFlags, mount, mount_bind_recursive, mount_remount};

use crate::confine::bubblewrap::{BUILD_UID, HOST_NAME};
use crate::domain::view::{BUILD_DIR, HOME_DIR, View};

/// Where the root is built: a directory that every host has. In this namespace only, what was there is covered;
/// whatever of it is needed is opened before.
pub(super) const ROOT: &str = "/tmp";

/// What a step may read of the host, where it exists: programs and libraries. Never /home, /root, /var, /run, /srv.
const PROGRAMS: [&str; 9] =
    ["/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store"];

/// What a step may read of the host's /etc, where it exists: certificates, linker, fonts, npm's global settings.
const SETTINGS: [&str; 19] = [
    "alternatives",
    "ca-certificates",
    "ca-certificates.conf",
    "crypto-policies",
    "debian_version",
    "fonts",
    "gai.conf",
    "host.conf",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "mime.types",
    "npmrc",
    "os-release",
    "pki/tls/certs",
    "pki/ca-trust",
    "protocols",
    "services",
];

/// /etc/ssl without its `private`.
const CERTIFICATES: [&str; 3] = ["ssl/certs", "ssl/cert.pem", "ssl/openssl.cnf"];

/// Joins the view and builds the root at [`ROOT`].
///
/// # Errors
/// What could not be done and why, to follow "could not".
pub(super) fn build(view: &View, overlay: bool) -> Result<(), String> {
    if overlay {
        join(view)?;
    }
    let build = open(&view.joined)?;
    let home = open(&view.home)?;
    let tmp = open(&view.tmp)?;
    let mut readable = Vec::new();
    for path in &view.readable {
        readable.push((path, open(path)?));
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("tmpfs", ROOT, "tmpfs", flags, Some(c"mode=755,size=16m"))
        .map_err(|error| format!("mount a tmpfs for the root: {error}"))?;
    for dir in PROGRAMS {
        give_program_dir(Path::new(dir)).map_err(|error| format!("show {dir} to steps: {error}"))?;
    }
    make_etc().map_err(|error| format!("make /etc for steps: {error}"))?;
    for dir in ["proc", "dev", "run", "var"] {
        fs::create_dir(under(Path::new(dir))).map_err(|error| format!("make /{dir} for steps: {error}"))?;
    }
    symlink("../tmp", under(Path::new("var/tmp"))).map_err(|error| format!("make /var/tmp for steps: {error}"))?;
    for (fd, at) in [(&build, BUILD_DIR), (&home, HOME_DIR), (&tmp, "/tmp")] {
        bind(fd, Path::new(at), true).map_err(|error| format!("show {at} to steps: {error}"))?;
    }
    for (path, fd) in &readable {
        give(fd, path).map_err(|error| format!("show {} to steps: {error}", path.display()))?;
    }
    mount_remount(ROOT, MountFlags::BIND | MountFlags::RDONLY | flags, c"")
        .map_err(|error| format!("make the root read-only: {error}"))
}

/// The overlay. Its layers are named by descriptors: paths may hold the very characters that separate options.
fn join(view: &View) -> Result<(), String> {
    let lowers = view.lowers.iter().map(|path| open(path)).collect::<Result<Vec<_>, _>>()?;
    let (upper, work) = (open(&view.upper)?, open(&view.work)?);
    let lowerdir = lowers.iter().map(by_descriptor).collect::<Vec<_>>().join(":");
    let options =
        format!("userxattr,lowerdir={lowerdir},upperdir={},workdir={}", by_descriptor(&upper), by_descriptor(&work));
    let options = CString::new(options).expect("numbers and words hold no NUL");
    mount("overlay", &view.joined, "overlay", MountFlags::NOSUID | MountFlags::NODEV, Some(options.as_c_str()))
        .map_err(|error| format!("mount an overlay on {}: {error}", view.joined.display()))
}

fn give_program_dir(dir: &Path) -> io::Result<()> {
    match fs::symlink_metadata(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        // /bin → usr/bin on a merged system.
        Ok(data) if data.is_symlink() => symlink(fs::read_link(dir)?, under(dir)),
        Ok(_) => bind(&open_at(dir)?, dir, false),
    }
}

/// Further readable paths, unless they are there already because they lie in one that is.
fn give(fd: &OwnedFd, path: &Path) -> io::Result<()> {
    if PROGRAMS.iter().any(|dir| path.starts_with(dir)) {
        return Ok(());
    }
    let normal = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if !path.is_absolute() || !normal {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not an absolute, plain path"));
    }
    if is_there(fd, path) {
        return Ok(());
    }
    // Below /tmp the mount point is made in the build's own /tmp, and goes with it.
    bind(fd, path, false)
}

/// The very same file or folder can be seen at `path` already, inside something larger that was given.
fn is_there(fd: &OwnedFd, path: &Path) -> bool {
    match (rustix::fs::fstat(fd), rustix::fs::stat(under(path))) {
        (Ok(given), Ok(seen)) => (given.st_dev, given.st_ino) == (seen.st_dev, seen.st_ino),
        _ => false,
    }
}

fn make_etc() -> io::Result<()> {
    let etc = under(Path::new("etc"));
    fs::create_dir(&etc)?;
    let uid = BUILD_UID;
    let written = |name: &str, text: &str| {
        fs::write(etc.join(name), text)?;
        fs::set_permissions(etc.join(name), Permissions::from_mode(0o644))
    };
    written(
        "passwd",
        &format!(
            "root:x:0:0:root:/nonexistent:/sbin/nologin\nbuild:x:{uid}:{uid}:build:{HOME_DIR}:/bin/sh\n\
             nobody:x:65534:65534:nobody:/nonexistent:/sbin/nologin\n"
        ),
    )?;
    written("group", &format!("root:x:0:\nbuild:x:{uid}:\nnogroup:x:65534:\n"))?;
    written("nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\nservices: files\nprotocols: files\n")?;
    written("hostname", &format!("{HOST_NAME}\n"))?;
    // A registry in the LAN may be known to the host by its hosts file only.
    let hosts = fs::read_to_string("/etc/hosts").unwrap_or_default();
    written("hosts", &format!("127.0.0.1 localhost {HOST_NAME}\n::1 localhost {HOST_NAME}\n{hosts}"))?;
    // Often a link into /run, which steps do not see: its content is what they need.
    if let Ok(text) = fs::read("/etc/resolv.conf") {
        fs::write(etc.join("resolv.conf"), text)?;
    }
    for name in SETTINGS.iter().chain(&CERTIFICATES) {
        let host = Path::new("/etc").join(name);
        match fs::metadata(&host) {
            Ok(_) => bind(&open_at(&host)?, &host, false)?,
            Err(_) => continue,
        }
    }
    Ok(())
}

/// Mounts what the descriptor names at `at` below [`ROOT`], read-only with everything below it unless `writable`.
fn bind(fd: &OwnedFd, at: &Path, writable: bool) -> io::Result<()> {
    let at = under(at);
    let source = by_descriptor(fd);
    if fs::metadata(&source)?.is_dir() {
        fs::create_dir_all(&at)?;
    } else {
        fs::create_dir_all(at.parent().unwrap_or(Path::new(ROOT)))?;
        fs::File::create(&at)?;
    }
    mount_bind_recursive(&source, &at)?;
    set_attributes(&at, writable)
}

/// `mount_setattr(2)`, Linux 5.12: unlike a remount it reaches mounts below too and leaves locked flags alone.
fn set_attributes(at: &Path, writable: bool) -> io::Result<()> {
    let at = CString::new(at.as_os_str().as_encoded_bytes())?;
    let read_only = if writable { 0 } else { libc::MOUNT_ATTR_RDONLY };
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | read_only,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: the path ends in a NUL and the struct is of the size that is told; both outlive the call.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            at.as_ptr(),
            libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn under(path: &Path) -> PathBuf {
    Path::new(ROOT).join(path.strip_prefix("/").unwrap_or(path))
}

fn open(path: &Path) -> Result<OwnedFd, String> {
    open_at(path).map_err(|error| format!("open {}: {error}", path.display()))
}

fn open_at(path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}

fn by_descriptor(fd: &OwnedFd) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

//! A copy of a tree for hosts that can't stack layers: same bytes, modes and times, own inodes.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, Timespec, Timestamps};
use rustix::io::Errno;

use super::dir::names;
use super::remove::remove_at;
use super::resolve::open_beneath;
use super::spread::spread;
use super::{Dir, Kind, TreeError};

/// Copies everything in `from` into the folder `to`, which is made where it is missing. Folders that are in both are
/// joined, and stay as they are; anything else that stands in the way is replaced.
///
/// Modes and modification times are kept, links are copied as links, pipes, sockets and devices
/// are left out. File contents are shared with the original where the file system can
/// (`FICLONE`), else copied by the kernel; never hard links: a write into the copy would be a write
/// into the original. Folders are spread over threads.
pub fn copy_tree(from: &Path, to: &Path) -> Result<(), TreeError> {
    std::fs::create_dir_all(to).map_err(|source| TreeError::Io { path: to.to_owned(), source })?;
    let (from, to) = (Dir::open(from)?, Dir::open(to)?);
    // Folders made, with what their originals look like.
    let made = Mutex::new(Vec::new());
    spread(|folder| {
        let folders = copy_folder(&from, &to, folder)?;
        let mut made = made.lock().unwrap_or_else(PoisonError::into_inner);
        made.extend(folders.iter().filter_map(|(path, stat)| Some((path.clone(), (*stat)?))));
        Ok(folders.into_iter().map(|(path, _)| path).collect())
    })?;
    finish_folders(&to, made.into_inner().unwrap_or_else(PoisonError::into_inner))
}

/// The folders in one folder; with what the original looks like where it was made and has to be finished.
type Folders = Vec<(PathBuf, Option<Stat>)>;

/// Copies what is directly in `rel`; answers with the folders in it.
fn copy_folder(from: &Dir, to: &Dir, rel: &Path) -> Result<Folders, TreeError> {
    let (source, target) = (from.open_dir(rel)?, to.open_dir(rel)?);
    let mut folders = Vec::new();
    for (name, kind) in names(source.fd()).map_err(|errno| TreeError::from_errno(rel, errno))? {
        let path = rel.join(&name);
        let name = Path::new(&name);
        let failed = |errno| TreeError::from_errno(&path, errno);
        match kind {
            FileType::Directory => {
                let stat = rustix::fs::statat(source.fd(), name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
                let made = make_folder(target.fd(), name).map_err(failed)?;
                folders.push((path, made.then_some(stat)));
            }
            FileType::Symlink => instead(&target, name, || Ok(copy_link(&source, &target, name)?))
                .map_err(|source| TreeError::Io { path, source })?,
            FileType::RegularFile => instead(&target, name, || copy_file(&source, &target, name))
                .map_err(|source| TreeError::Io { path, source })?,
            _ => {}
        }
    }
    Ok(folders)
}

impl Dir {
    /// Copies the file or link `name` of this open folder into the open folder `into`, where nothing stands under that name.
    /// As [`copy_tree`] does it: mode and time kept, contents shared where the file system can.
    pub fn copy_entry(&self, name: &Path, kind: Kind, into: &Dir) -> Result<(), TreeError> {
        let failed = |source| TreeError::Io { path: name.to_owned(), source };
        match kind {
            Kind::File => copy_file(self, into, name).map_err(failed),
            Kind::Link => copy_link(self, into, name).map_err(|errno| failed(errno.into())),
            Kind::Dir | Kind::Other => Err(TreeError::NotAFile { path: name.to_owned() }),
        }
    }

    /// Gives this open folder the mode and the times of `original`: the last step of a copy, since filling a folder changes
    /// its time and its mode may forbid it.
    pub fn finish_as(&self, original: &Dir) -> Result<(), TreeError> {
        let set = || {
            let stat = rustix::fs::fstat(original.fd())?;
            rustix::fs::futimens(self.fd(), &times(&stat))?;
            rustix::fs::fchmod(self.fd(), Mode::from_raw_mode(stat.st_mode & 0o777))
        };
        set().map_err(|errno| TreeError::from_errno(Path::new("."), errno))
    }
}

/// Makes the folder `name`; false where there was one.
fn make_folder(dir: BorrowedFd<'_>, name: &Path) -> rustix::io::Result<bool> {
    let make = || rustix::fs::mkdirat(dir, name, Mode::from_raw_mode(0o700)).map(|()| true);
    match make() {
        Err(Errno::EXIST) => {
            let stat = rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?;
            if FileType::from_raw_mode(stat.st_mode).is_dir() {
                return Ok(false);
            }
            remove_at(dir, name)?;
            make()
        }
        answer => answer,
    }
}

/// Runs `make`; when something stands in its place, removes that and runs it again.
fn instead(dir: &Dir, name: &Path, make: impl Fn() -> std::io::Result<()>) -> std::io::Result<()> {
    match make() {
        // Of a link in the last place openat2 may say ELOOP before O_EXCL says EEXIST.
        Err(error)
            if [Errno::EXIST, Errno::LOOP].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error())) =>
        {
            remove_at(dir.fd().as_fd(), name)?;
            make()
        }
        answer => answer,
    }
}

fn copy_link(source: &Dir, target: &Dir, name: &Path) -> rustix::io::Result<()> {
    let text = rustix::fs::readlinkat(source.fd(), name, Vec::new())?;
    let stat = rustix::fs::statat(source.fd(), name, AtFlags::SYMLINK_NOFOLLOW)?;
    rustix::fs::symlinkat(&text, target.fd(), name)?;
    rustix::fs::utimensat(target.fd(), name, &times(&stat), AtFlags::SYMLINK_NOFOLLOW)
}

fn copy_file(source: &Dir, target: &Dir, name: &Path) -> std::io::Result<()> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut reader = File::from(open_beneath(source.fd(), name, flags, Mode::empty())?);
    let stat = rustix::fs::fstat(&reader)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
    let mut writer = File::from(open_beneath(target.fd(), name, flags, Mode::from_raw_mode(0o600))?);
    if !cloned(&reader, &writer) {
        // The standard library asks the kernel to do it (copy_file_range(2)) where it can.
        std::io::copy(&mut reader, &mut writer)?;
    }
    rustix::fs::fchmod(&writer, Mode::from_raw_mode(stat.st_mode & 0o777))?;
    Ok(rustix::fs::futimens(&writer, &times(&stat))?)
}

#[cfg(target_os = "linux")]
fn cloned(reader: &File, writer: &File) -> bool {
    rustix::fs::ioctl_ficlone(writer, reader).is_ok()
}

#[cfg(not(target_os = "linux"))]
fn cloned(_: &File, _: &File) -> bool {
    false
}

/// Modes and times of folders, the deepest first: filling a folder changed its time, and a mode
/// without write permission would have forbidden it.
fn finish_folders(to: &Dir, mut made: Vec<(PathBuf, Stat)>) -> Result<(), TreeError> {
    made.sort_unstable_by(|a, b| b.0.cmp(&a.0));
    for (path, stat) in made {
        let failed = |errno| TreeError::from_errno(&path, errno);
        let dir = to.open_dir(&path)?;
        rustix::fs::futimens(dir.fd(), &times(&stat)).map_err(failed)?;
        rustix::fs::fchmod(dir.fd(), Mode::from_raw_mode(stat.st_mode & 0o777)).map_err(failed)?;
    }
    Ok(())
}

#[allow(clippy::unnecessary_cast, clippy::useless_conversion, reason = "the fields' types differ between systems")]
fn times(stat: &Stat) -> Timestamps {
    let spec = |seconds, nanos| Timespec { tv_sec: seconds as i64, tv_nsec: nanos as _ };
    Timestamps {
        last_access: spec(stat.st_atime, stat.st_atime_nsec as i64),
        last_modification: spec(stat.st_mtime, stat.st_mtime_nsec as i64),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_copy_keeps_modes_times_and_links_and_shares_no_inode() {
        let root = tempfile::tempdir().expect("a folder");
        let (from, to) = (root.path().join("from"), root.path().join("to"));
        for n in 0..20 {
            std::fs::create_dir_all(from.join(format!("d{n}/inner"))).expect("folders");
            std::fs::write(from.join(format!("d{n}/inner/file")), vec![b'x'; 10_000]).expect("a file");
        }
        std::fs::write(from.join("run.sh"), "#!/bin/sh\n").expect("a file");
        std::fs::set_permissions(from.join("run.sh"), std::fs::Permissions::from_mode(0o755)).expect("ours");
        std::fs::hard_link(from.join("run.sh"), from.join("twin.sh")).expect("same file system");
        symlink("/etc/passwd", from.join("link")).expect("a link");
        std::fs::set_permissions(from.join("d3"), std::fs::Permissions::from_mode(0o555)).expect("ours");
        copy_tree(&from, &to).expect("room");

        let meta = |path: PathBuf| std::fs::symlink_metadata(path).expect("there");
        for rel in ["run.sh", "twin.sh", "link", "d3", "d7/inner", "d19/inner/file"] {
            let (a, b) = (meta(from.join(rel)), meta(to.join(rel)));
            assert_eq!((a.mode(), a.mtime(), a.mtime_nsec()), (b.mode(), b.mtime(), b.mtime_nsec()), "{rel}");
            assert_ne!(a.ino(), b.ino(), "{rel}");
        }
        assert_ne!(meta(to.join("run.sh")).ino(), meta(to.join("twin.sh")).ino());
        assert_eq!(std::fs::read_link(to.join("link")).expect("a link"), Path::new("/etc/passwd"));
        assert_eq!(std::fs::read(to.join("d19/inner/file")).expect("a file").len(), 10_000);
        super::super::remove(&from).expect("ours");
    }
}

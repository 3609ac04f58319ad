//! The file systems on which trees are tried: that of the target directory, and, where this user may mount and their
//! tools are there, a btrfs and an XFS of their own in a file.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A file system, unmounted when dropped.
pub(crate) struct Disk {
    name: &'static str,
    root: PathBuf,
    mounted: bool,
    /// The image and the mount point.
    _dir: TempDir,
}

impl Disk {
    /// A folder on it that can be written.
    pub(crate) fn path(&self) -> &Path {
        &self.root
    }

    fn here() -> Self {
        // Temporary directories may be in memory, where a tree is not lent by a rename.
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        Self { name: "the target directory's", root: dir.path().to_owned(), mounted: false, _dir: dir }
    }

    /// Makes one with `mkfs.<name>` and mounts it, or says why it could not.
    fn made(name: &'static str, bytes: u64) -> Result<Self, String> {
        let dir = tempfile::tempdir().expect("a folder");
        let (image, root) = (dir.path().join("image"), dir.path().join("mounted"));
        std::fs::create_dir(&root).expect("a folder");
        std::fs::File::create(&image).and_then(|file| file.set_len(bytes)).expect("a sparse file");
        let run = |program: &str, args: &[&Path]| match Command::new(program).args(args).output() {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => Err(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim())),
            Err(error) => Err(format!("{program}: {error}")),
        };
        run(&format!("mkfs.{name}"), &[Path::new("-q"), &image])?;
        run("mount", &[Path::new("-o"), Path::new("loop"), &image, &root])?;
        Ok(Self { name, root, mounted: true, _dir: dir })
    }
}

impl fmt::Display for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if self.mounted {
            let done = Command::new("umount").arg("--lazy").arg(&self.root).status();
            assert!(done.is_ok_and(|status| status.success()) || std::thread::panicking(), "unmounted");
        }
    }
}

/// Runs a test on each file system that there is; the others are named.
pub(crate) fn each_disk(test: impl Fn(&Disk)) {
    each_disk_of(320 << 20, test);
}

/// The same, with so many bytes on those that are made.
pub(crate) fn each_disk_of(bytes: u64, test: impl Fn(&Disk)) {
    test(&Disk::here());
    for name in ["btrfs", "xfs"] {
        match Disk::made(name, bytes) {
            Ok(disk) => test(&disk),
            Err(why) => eprintln!("NOT TRIED on {name}: {why}"),
        }
    }
}

//! A small disk of a test's own, to be filled.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::server::Settings;

/// A disk of its own in memory; unmounted when dropped, which must be after the server.
pub(crate) struct Disk {
    pub(crate) at: PathBuf,
}

impl Disk {
    /// `None`, with a sentence, where mounting is not allowed.
    pub(crate) fn mount(at: PathBuf, size: &str) -> Option<Disk> {
        fs::create_dir_all(&at).expect("a folder");
        let options = format!("size={size},mode=0700");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&at).output();
        match mounted {
            Ok(output) if output.status.success() => Some(Disk { at }),
            Ok(output) => {
                println!("skipped, this user can't mount a disk: {}", String::from_utf8_lossy(&output.stderr).trim());
                None
            }
            Err(error) => {
                println!("skipped, there is no mount(8): {error}");
                None
            }
        }
    }

    pub(crate) fn grow(&self, size: &str) {
        let status = Command::new("mount").args(["-o", &format!("remount,size={size}")]).arg(&self.at).status();
        assert!(status.expect("mount was there").success());
    }

    fn filler(&self) -> PathBuf {
        self.at.join("somebody-elses-file")
    }

    /// Somebody else takes all but so many bytes.
    pub(crate) fn fill_up_to(&self, left: u64) {
        let mut file = fs::OpenOptions::new().create(true).append(true).open(self.filler()).expect("a file");
        while self.left().0 > left + 65_536 {
            file.write_all(&[7; 65_536]).expect("there is room");
        }
    }

    /// Bytes and inodes that are free.
    pub(crate) fn left(&self) -> (u64, u64) {
        let fs = rustix::fs::statvfs(&self.at).expect("it is mounted");
        (fs.f_bavail * fs.f_frsize, fs.f_favail)
    }

    /// Somebody else takes the last byte.
    pub(crate) fn fill(&self) {
        let mut file = fs::OpenOptions::new().create(true).append(true).open(self.filler()).expect("a file");
        for piece in [&[7_u8; 65_536][..], &[7; 1]] {
            while file.write_all(piece).is_ok() {}
        }
    }

    pub(crate) fn free(&self) {
        fs::remove_file(self.filler()).expect("it was there");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a process that was just killed may not have let go of it yet.
        let _ = Command::new("umount").arg("-l").arg(&self.at).status();
    }
}

/// `[data] dir` on it.
pub(crate) fn data_on(disk: &Path) -> Settings {
    let data = ("HOOKMILL_DATA__DIR".to_owned(), disk.join("data").display().to_string());
    Settings { env: vec![data], ..Settings::default() }
}

/// The store too, as it is without any setting.
pub(crate) fn all_on(disk: &Path) -> Settings {
    let mut settings = data_on(disk);
    let store = format!("sqlite://{}", disk.join("hookmill.db").display());
    settings.env.push(("HOOKMILL_STORE__URL".to_owned(), store));
    settings
}

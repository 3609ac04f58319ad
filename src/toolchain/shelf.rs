//! The folder of kept tools: `<data>/tools/<tool>-<version>`.
//!
//! A tool has its name only when it is whole: it is made in a staging folder and renamed, under a lock of its name. So
//! many builds at once make it once, and what a killed agent left behind is in nobody's way.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use nodejs_semver::Version;
use rustix::fs::{FlockOperation, flock};
use tokio_util::sync::CancellationToken;

use super::unmet::Unmet;
use crate::tree;

const LOCK_POLL: Duration = Duration::from_millis(50);
/// Its time is when the tool was last given to a step.
const STAMP: &str = ".used";

/// How long somebody waits for a tool.
#[derive(Debug, Clone)]
pub(super) struct Patience {
    /// Then it is an outage.
    pub(super) deadline: Instant,
    /// Cancelled when nobody waits any more.
    pub(super) stop: CancellationToken,
}

impl Patience {
    /// # Errors
    /// When nobody waits, or not any longer.
    pub(super) fn check(&self, what: &str) -> Result<(), Unmet> {
        if self.stop.is_cancelled() {
            return Err(Unmet::Stopped);
        }
        match Instant::now() < self.deadline {
            true => Ok(()),
            false => Err(Unmet::Outage { what: what.to_owned(), why: "it took too long".to_owned() }),
        }
    }
}

/// The kept tools of an agent.
#[derive(Debug, Clone)]
pub(super) struct Shelf {
    root: PathBuf,
}

impl Shelf {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root }
    }

    pub(super) fn home(&self, tool: &str, version: &Version) -> PathBuf {
        self.root.join(format!("{tool}-{version}"))
    }

    /// The versions of a tool that are there.
    pub(super) fn kept(&self, tool: &str) -> Vec<Version> {
        let entries = fs::read_dir(&self.root).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter_map(|name| Version::parse(name.strip_prefix(tool)?.strip_prefix('-')?).ok()).collect()
    }

    /// The folder of a tool, made by `make` in a staging folder if it is not there.
    ///
    /// # Errors
    /// `make`'s, or what the disk or the patience has against it.
    pub(super) fn take(
        &self,
        home: &Path,
        patience: &Patience,
        make: impl FnOnce(&Path) -> Result<(), Unmet>,
    ) -> Result<(), Unmet> {
        if use_now(home) {
            return Ok(());
        }
        fs::create_dir_all(&self.root).map_err(Unmet::disk(&self.root))?;
        let _lock = lock(&beside(home, "lock"), patience)?;
        if use_now(home) {
            return Ok(());
        }
        let staging = beside(home, "new");
        remove(&staging)?;
        // What has the name and no stamp was damaged by hand.
        remove(home)?;
        fs::create_dir(&staging).map_err(Unmet::disk(&staging))?;
        let made = make(&staging).and_then(|()| {
            File::create(staging.join(STAMP)).map_err(Unmet::disk(&staging))?;
            fs::rename(&staging, home).map_err(Unmet::disk(home))
        });
        if made.is_err() {
            // The first error says more than a second one here could.
            let _ = tree::remove(&staging);
        }
        made
    }

    /// Moves what no step was given for so long to `trash`; answers with the names.
    pub(super) fn collect(&self, unused_for: Duration, trash: &Path) -> Vec<String> {
        let mut collected = Vec::new();
        for entry in fs::read_dir(&self.root).into_iter().flatten().flatten() {
            let home = entry.path();
            let Ok(name) = entry.file_name().into_string() else { continue };
            if name.starts_with('.') || !is_unused(&home, unused_for) {
                continue;
            }
            let now = Patience { deadline: Instant::now(), stop: CancellationToken::new() };
            if let Ok(_lock) = lock(&beside(&home, "lock"), &now)
                && is_unused(&home, unused_for)
                && tree::rename_away(&home, trash).is_ok()
            {
                collected.push(name);
            }
        }
        collected
    }
}

/// Marks a kept tool as used; false when there is none.
fn use_now(home: &Path) -> bool {
    let stamp = OpenOptions::new().write(true).open(home.join(STAMP));
    stamp.and_then(|file| file.set_modified(SystemTime::now())).is_ok()
}

fn is_unused(home: &Path, unused_for: Duration) -> bool {
    let used = fs::metadata(home.join(STAMP)).and_then(|data| data.modified());
    used.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > unused_for))
}

/// `.node-22.1.0.lock` beside `node-22.1.0`.
fn beside(home: &Path, extension: &str) -> PathBuf {
    let name = home.file_name().unwrap_or_default().to_string_lossy();
    home.with_file_name(format!(".{name}.{extension}"))
}

/// Taken by trying again and again, since a blocking wait for it could not be given up.
fn lock(path: &Path, patience: &Patience) -> Result<File, Unmet> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path).map_err(Unmet::disk(path))?;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                patience.check("a tool that another build fetches")?;
                std::thread::sleep(LOCK_POLL);
            }
            Err(error) => return Err(Unmet::disk(path)(error.into())),
        }
    }
}

fn remove(path: &Path) -> Result<(), Unmet> {
    tree::remove(path).map_err(|error| Unmet::disk(path)(io::Error::other(error)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn patience() -> Patience {
        Patience { deadline: Instant::now() + Duration::from_secs(20), stop: CancellationToken::new() }
    }

    fn shelf(dir: &Path) -> (Shelf, PathBuf) {
        let shelf = Shelf::new(dir.join("tools"));
        let home = shelf.home("node", &Version::parse("22.1.0").expect("a version"));
        (shelf, home)
    }

    #[test]
    fn many_at_once_make_it_once() {
        let dir = tempfile::tempdir().expect("a folder");
        let (shelf, home) = shelf(dir.path());
        let made = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    shelf.take(&home, &patience(), |staging| {
                        made.fetch_add(1, Ordering::Relaxed);
                        fs::write(staging.join("node"), "").map_err(Unmet::disk(staging))
                    })
                });
            }
        });
        assert_eq!(made.load(Ordering::Relaxed), 1);
        assert!(home.join("node").is_file());
        assert_eq!(shelf.kept("node"), [Version::parse("22.1.0").expect("a version")]);
    }

    #[test]
    fn what_failed_or_was_killed_leaves_nothing_in_the_way() {
        let dir = tempfile::tempdir().expect("a folder");
        let (shelf, home) = shelf(dir.path());
        fs::create_dir_all(dir.path().join("tools/.node-22.1.0.new/half")).expect("left over");
        let failed = shelf.take(&home, &patience(), |staging| {
            assert!(!staging.join("half").exists());
            fs::write(staging.join("part"), "").map_err(Unmet::disk(staging))?;
            Err(Unmet::Stopped)
        });
        assert!(matches!(failed, Err(Unmet::Stopped)) && !home.exists());
        assert!(!dir.path().join("tools/.node-22.1.0.new").exists(), "nothing half-made is left");
        shelf.take(&home, &patience(), |_| Ok(())).expect("a new try");
        assert!(home.is_dir());
    }

    #[test]
    fn whoever_waits_for_another_can_go() {
        let dir = tempfile::tempdir().expect("a folder");
        let (shelf, home) = shelf(dir.path());
        let gone = patience();
        gone.stop.cancel();
        shelf
            .take(&home, &patience(), |_| {
                let waiting = shelf.take(&home, &gone, |_| panic!("another makes it"));
                assert!(matches!(waiting, Err(Unmet::Stopped)));
                Ok(())
            })
            .expect("made");
    }

    #[test]
    fn long_unused_tools_are_collected() {
        let dir = tempfile::tempdir().expect("a folder");
        let (shelf, home) = shelf(dir.path());
        let trash = dir.path().join("trash");
        shelf.take(&home, &patience(), |_| Ok(())).expect("made");
        let month = Duration::from_secs(30 * 24 * 60 * 60);
        assert!(shelf.collect(month, &trash).is_empty());
        let old = SystemTime::now() - 2 * month;
        let stamp = OpenOptions::new().write(true).open(home.join(STAMP)).expect("there");
        stamp.set_modified(old).expect("set");
        shelf.take(&home, &patience(), |_| panic!("it is there")).expect("kept");
        assert!(shelf.collect(month, &trash).is_empty(), "its use made it young");
        stamp.set_modified(old).expect("set");
        assert_eq!(shelf.collect(month, &trash), ["node-22.1.0"]);
        assert!(!home.exists());
    }
}

//! The builds that run on a disk, so that the one that fills it can be told to stop.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::sync::CancellationToken;

use crate::tree::{self, Visit};

/// The builds that run.
#[derive(Debug, Clone, Default)]
pub(super) struct Running(Arc<Mutex<Vec<One>>>);

#[derive(Debug)]
struct One {
    folder: PathBuf,
    stop: CancellationToken,
    told: Arc<AtomicBool>,
}

/// A build that runs; forgotten when dropped.
#[derive(Debug)]
pub struct Writer {
    among: Running,
    folder: PathBuf,
    told: Arc<AtomicBool>,
}

impl Writer {
    /// Whether it was told to stop, since the disk was almost full.
    pub fn was_stopped(&self) -> bool {
        self.told.load(Ordering::Relaxed)
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.among.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|one| one.folder != self.folder);
    }
}

impl Running {
    pub(super) fn enter(&self, folder: PathBuf, stop: CancellationToken) -> Writer {
        let told = Arc::<AtomicBool>::default();
        let one = One { folder: folder.clone(), stop, told: Arc::clone(&told) };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(one);
        Writer { among: self.clone(), folder, told }
    }

    /// Tells the build that takes most to stop, unless one was told and is not gone yet. The folder and its bytes.
    pub(super) fn stop_largest(&self) -> Option<(PathBuf, u64)> {
        let folders: Vec<PathBuf> = {
            let running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            if running.iter().any(|one| one.told.load(Ordering::Relaxed)) {
                return None;
            }
            running.iter().map(|one| one.folder.clone()).collect()
        };
        // Without the lock: it may take a while.
        let (folder, bytes) =
            folders.into_iter().map(|folder| (bytes_in(&folder), folder)).max().map(|(b, f)| (f, b))?;
        let running = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let one = running.iter().find(|one| one.folder == folder)?;
        one.told.store(true, Ordering::Relaxed);
        one.stop.cancel();
        Some((folder, bytes))
    }
}

fn bytes_in(folder: &Path) -> u64 {
    let mut bytes = 0;
    // What it can't look into counts as nothing.
    let _ = tree::walk(folder, |entry| {
        bytes += entry.size;
        Visit::Continue
    });
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_is_stopped_and_one_at_a_time() {
        let dir = tempfile::tempdir().expect("a folder");
        let folder = |name: &str, bytes: usize| {
            let folder = dir.path().join(name);
            std::fs::create_dir_all(&folder).expect("a folder");
            std::fs::write(folder.join("file"), vec![7; bytes]).expect("a file");
            folder
        };
        let running = Running::default();
        assert_eq!(running.stop_largest(), None);
        let small = running.enter(folder("small", 10), CancellationToken::new());
        let stop = CancellationToken::new();
        let large = running.enter(folder("large", 1000), stop.clone());
        assert_eq!(running.stop_largest(), Some((dir.path().join("large"), 1000)));
        assert!(large.was_stopped() && stop.is_cancelled() && !small.was_stopped());
        assert_eq!(running.stop_largest(), None, "it may free enough");
        drop(large);
        assert_eq!(running.stop_largest().map(|(_, bytes)| bytes), Some(10));
        assert!(small.was_stopped());
    }
}

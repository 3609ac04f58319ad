//! Brings mirrors under their quota. Names, sizes and times only: no repository is opened.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::{Refusal, mirror};
use crate::tree::{self, Visit};

/// A mirror that was used within this time stays: a build that runs may still read from it.
const IN_USE: Duration = Duration::from_secs(6 * 60 * 60);

/// What went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CollectedMirrors {
    /// How many mirrors.
    pub mirrors: usize,
    /// Bytes that they took.
    pub bytes: u64,
    /// Bytes that the others take.
    pub kept_bytes: u64,
}

/// A mirror with its size and the time of its last use.
struct Mirrored {
    path: PathBuf,
    bytes: u64,
    used: SystemTime,
}

/// Moves mirrors to the trash, the least recently used first, until the others take no more than `quota_bytes`. What went
/// is fetched anew when it is wanted again.
///
/// # Errors
/// When a mirror can't be moved away; what was moved before is gone.
pub fn collect(mirrors: &Path, quota_bytes: u64, trash: &Path) -> Result<CollectedMirrors, Refusal> {
    let mut all: Vec<Mirrored> = folders(mirrors).into_iter().map(measured).collect();
    all.sort_by_key(|mirror| std::cmp::Reverse(mirror.used));
    let mut collected =
        CollectedMirrors { kept_bytes: all.iter().map(|mirror| mirror.bytes).sum(), ..Default::default() };
    while collected.kept_bytes > quota_bytes
        && let Some(oldest) = all.pop()
        && oldest.used.elapsed().is_ok_and(|unused| unused >= IN_USE)
    {
        let Some(locked) = mirror::lock_if_free(&oldest.path)? else { continue };
        tree::rename_away(&oldest.path, trash)
            .map_err(|error| Refusal::disk(&oldest.path, &std::io::Error::other(error)))?;
        drop(locked);
        collected.mirrors += 1;
        collected.bytes += oldest.bytes;
        collected.kept_bytes -= oldest.bytes;
    }
    Ok(collected)
}

/// The bytes of all mirrors.
pub fn mirrored_bytes(mirrors: &Path) -> u64 {
    folders(mirrors).into_iter().map(|path| measured(path).bytes).sum()
}

fn folders(mirrors: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(mirrors).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|ext| ext == "git")).collect()
}

fn measured(path: PathBuf) -> Mirrored {
    let mut bytes = 0;
    // What can't be walked counts nothing, and goes by its time like any other.
    let _ = tree::walk(&path, |entry| {
        bytes += entry.size;
        Visit::Continue
    });
    let used = mirror::last_used(&path).unwrap_or(SystemTime::UNIX_EPOCH);
    Mirrored { path, bytes, used }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A mirror of so many bytes, last used so long ago.
    fn mirror(mirrors: &Path, name: &str, bytes: usize, hours: u64) {
        let path = mirrors.join(name);
        fs::create_dir_all(path.join("objects/pack")).expect("a folder");
        fs::write(path.join("objects/pack/pack-1.pack"), vec![7; bytes]).expect("a pack");
        fs::write(path.join("objects/pack/pack-1.idx"), b"").expect("its index");
        mirror::used(&path);
        let at = SystemTime::now() - Duration::from_secs(hours * 3600);
        fs::File::open(path.with_extension("lock")).and_then(|file| file.set_modified(at)).expect("its time");
    }

    #[test]
    fn the_least_recently_used_go_and_what_is_in_use_stays() {
        let dir = tempfile::tempdir().expect("a folder");
        let (mirrors, trash) = (dir.path().join("mirrors"), dir.path().join("trash"));
        fs::create_dir_all(&trash).expect("a folder");
        for (name, hours) in [("a.git", 300), ("b.git", 200), ("c.git", 100), ("d.git", 1)] {
            mirror(&mirrors, name, 1_000_000, hours);
        }
        let there = || {
            let mut names: Vec<_> = folders(&mirrors)
                .iter()
                .map(|path| path.file_stem().expect("named").to_string_lossy().into_owned())
                .collect();
            names.sort();
            names.concat()
        };
        let none = collect(&mirrors, 5_000_000, &trash).expect("collects");
        assert_eq!((none.mirrors, none.kept_bytes > 4_000_000), (0, true));
        let one = collect(&mirrors, 3_500_000, &trash).expect("collects");
        assert_eq!((one.mirrors, one.bytes >= 1_000_000, there().as_str()), (1, true, "bcd"));

        // Somebody else is busy with it.
        let busy = mirror::lock(&mirrors.join("b.git")).expect("free");
        collect(&mirrors, 0, &trash).expect("collects");
        assert_eq!(there(), "bd");
        drop(busy);
        collect(&mirrors, 0, &trash).expect("collects");
        assert_eq!(there(), "d", "a build may still read from it");
        mirror::used(&mirrors.join("d.git"));
        assert!(mirror::last_used(&mirrors.join("d.git")).expect("known").elapsed().is_ok_and(|at| at < IN_USE));
    }
}

//! What a layer holds, entry by entry: written when it is sealed, compared when it is used.
//!
//! The manifest has one line of JSON for each entry, in the order of [`tree::walk`], so that it is written and compared as a
//! stream. The sample is a file with some of its lines.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::num::NonZero;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, percent_encode};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::tree::{self, Dir, Entry, Kind, TreeError, Visit};

/// A path is bytes; what JSON can't say is written `%XX`.
const ESCAPED: &AsciiSet = &CONTROLS.add(b'%');

/// What an entry is, as the manifest says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum What {
    File,
    Dir,
    Link,
    Whiteout,
    Other,
}

/// An entry of a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Part {
    path: String,
    what: What,
    size: u64,
    mode: u32,
    modified: (i64, u32),
    /// Not said of an inode with several names: removing another of them, which may lie in another layer, moves it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    changed: Option<(i64, u32)>,
    inode: u64,
    /// A link's text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    /// Of a file's contents, in hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
}

fn escaped(bytes: &[u8]) -> String {
    percent_encode(bytes, ESCAPED).to_string()
}

impl Part {
    /// What lstat(2) and readlink(2) tell of an entry.
    fn of(dir: &Dir, entry: &Entry) -> Result<Self, TreeError> {
        let what = match entry.kind {
            Kind::File => What::File,
            Kind::Dir => What::Dir,
            Kind::Link => What::Link,
            Kind::Other if entry.whiteout => What::Whiteout,
            Kind::Other => What::Other,
        };
        let target = match what {
            What::Link => Some(escaped(&dir.read_link(&entry.path)?)),
            _ => None,
        };
        let path = escaped(entry.path.as_os_str().as_bytes());
        let part = Self {
            path,
            what,
            size: entry.size,
            mode: entry.mode,
            modified: entry.modified,
            changed: (what == What::Dir || entry.links == 1).then_some(entry.changed),
            inode: entry.inode,
            target,
            sha256: None,
        };
        // overlayfs gives all whiteouts one inode, in its work directory: it says nothing but that it is one.
        Ok(if what == What::Whiteout { part.bare() } else { part })
    }

    fn bare(self) -> Self {
        Self { size: 0, mode: 0, modified: (0, 0), changed: None, inode: 0, ..self }
    }

    /// Where it lies in the layer.
    pub(super) fn path(&self) -> PathBuf {
        let bytes: Vec<u8> = percent_decode_str(&self.path).collect();
        PathBuf::from(std::ffi::OsStr::from_bytes(&bytes))
    }

    /// Bytes of a file, or of a link's text.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// Whether it is a file, whose contents can be compared.
    pub(super) fn is_file(&self) -> bool {
        self.what == What::File
    }

    /// What lstat(2) tells now that it did not tell then; `None`: it holds. An entry that is not there is a difference.
    pub(super) fn difference(&self, dir: &Dir) -> Result<Option<String>, TreeError> {
        let path = self.path();
        let now = match dir.entry(&path).and_then(|entry| Self::of(dir, &entry)) {
            Err(error) if error.is_not_found() => return Ok(Some(format!("{} is not there", path.display()))),
            Err(TreeError::Link { .. }) => return Ok(Some(format!("{} is not there", path.display()))),
            answer => answer?,
        };
        Ok(self.compared(&now).map(|how| format!("{} {how}", path.display())))
    }

    /// How `now` differs, for people; contents are not looked at.
    fn compared(&self, now: &Self) -> Option<&'static str> {
        let differs = [
            (self.what != now.what, "is of another kind"),
            (self.size != now.size, "is of another size"),
            (self.mode != now.mode, "has another mode"),
            (self.target != now.target, "leads elsewhere"),
            (self.inode != now.inode, "is another file than was sealed"),
            (self.modified != now.modified, "was written after it was sealed"),
            (self.changed != now.changed, "was changed after it was sealed"),
        ];
        differs.into_iter().find_map(|(differs, how)| differs.then_some(how))
    }

    /// Whether a file's contents are what they were; `None`: they are. No file has none.
    pub(super) fn contents_difference(&self, dir: &Dir, buffer: &mut Vec<u8>) -> Result<Option<String>, TreeError> {
        let Some(then) = &self.sha256 else { return Ok(None) };
        let path = self.path();
        Ok((*then != hashed(dir, &path, buffer)?)
            .then(|| format!("{} has other contents than were sealed", path.display())))
    }
}

/// A layer's tree, measured.
#[derive(Debug, Default)]
pub(super) struct Scan {
    /// In the order of the walk.
    pub(super) parts: Vec<Part>,
    /// On the disk; an inode with several names counts once.
    pub(super) disk_bytes: u64,
    /// More than the bound: `parts` is not all.
    pub(super) too_many: bool,
}

/// Walks the tree `dir`, at most `max_entries` entries of it. No contents are read.
pub(super) fn scan(dir: &Path, max_entries: usize) -> Result<Scan, TreeError> {
    let top = Dir::open(dir)?;
    let (mut scan, mut failed) = (Scan::default(), None);
    let mut seen = std::collections::HashSet::new();
    tree::walk(dir, |entry| {
        if scan.parts.len() == max_entries {
            scan.too_many = true;
            return Visit::Stop;
        }
        match Part::of(&top, entry) {
            Ok(part) => scan.parts.push(part),
            Err(error) => {
                failed = Some(error);
                return Visit::Stop;
            }
        }
        if entry.kind == Kind::Dir || entry.links == 1 || seen.insert(entry.inode) {
            scan.disk_bytes = scan.disk_bytes.saturating_add(entry.disk_bytes);
        }
        Visit::Continue
    })?;
    failed.map_or(Ok(scan), Err)
}

/// Runs `work` for each item on as many threads as there are cores, which give way to whoever builds. The first failure ends
/// the work of all.
pub(super) fn in_parallel<T: Sync, E: Send>(
    items: &[T],
    work: impl Fn(&T, &mut Vec<u8>) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(None));
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get).min(items.len());
    let help = || {
        // Of this thread only, which is new and ends with its work (setpriority(2): "nice value is a per-thread attribute").
        #[cfg(target_os = "linux")]
        let _ = rustix::process::nice(10);
        let mut buffer = Vec::new();
        while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = work(item, &mut buffer) {
                next.store(items.len(), Ordering::Relaxed);
                failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
            }
        }
    };
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(help))));
    failed.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), Err)
}

/// Adds the digests of all files' contents.
pub(super) fn hash_all(dir: &Path, parts: &mut [Part]) -> Result<(), TreeError> {
    let top = Dir::open(dir)?;
    let files: Vec<Mutex<&mut Part>> = parts.iter_mut().filter(|part| part.is_file()).map(Mutex::new).collect();
    in_parallel(&files, |part, buffer| {
        let mut part = part.lock().unwrap_or_else(PoisonError::into_inner);
        part.sha256 = Some(hashed(&top, &part.path(), buffer)?);
        Ok(())
    })
}

fn hashed(dir: &Dir, path: &Path, buffer: &mut Vec<u8>) -> Result<String, TreeError> {
    digest(dir.open_file(path)?, buffer).map_err(|source| TreeError::Io { path: path.to_owned(), source })
}

/// The digest of all that can be read from `file`, in hexadecimal.
pub(super) fn digest(mut file: File, buffer: &mut Vec<u8>) -> io::Result<String> {
    let mut hash = Sha256::new();
    buffer.resize(128 << 10, 0);
    loop {
        match file.read(buffer) {
            Ok(0) => return Ok(hex::encode(hash.finalize())),
            Ok(length) => hash.update(&buffer[..length]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Writes parts to a new file, a line each; answers with the digest of what was written.
pub(super) fn write<'a>(path: &Path, parts: impl IntoIterator<Item = &'a Part>) -> io::Result<String> {
    let mut file = BufWriter::new(File::create_new(path)?);
    let mut hash = Sha256::new();
    for part in parts {
        let mut line = serde_json::to_vec(part)?;
        line.push(b'\n');
        hash.update(&line);
        file.write_all(&line)?;
    }
    file.flush()?;
    Ok(hex::encode(hash.finalize()))
}

/// The lines of a manifest or of a sample, one after another.
pub(super) fn lines(path: &Path) -> io::Result<impl Iterator<Item = io::Result<String>>> {
    Ok(BufReader::with_capacity(128 << 10, File::open(path)?).lines())
}

/// A line as a part.
pub(super) fn part(line: &str) -> io::Result<Part> {
    Ok(serde_json::from_str(line)?)
}

/// The first difference between the tree `dir` and its manifest, in a whole walk; contents are not looked at.
pub(super) fn whole_difference(dir: &Path, manifest: &Path) -> io::Result<Option<String>> {
    let top = Dir::open(dir).map_err(io::Error::other)?;
    let mut lines = lines(manifest)?;
    let mut found: io::Result<Option<String>> = Ok(None);
    let walked = tree::walk(dir, |entry| {
        let mut compare = || -> io::Result<Option<String>> {
            let Some(line) = lines.next() else { return Ok(Some(format!("{} was added", entry.path.display()))) };
            let (then, now) = (part(&line?)?, Part::of(&top, entry).map_err(io::Error::other)?);
            if then.path != now.path {
                return Ok(Some(format!(
                    "{} is not there or {} was added",
                    then.path().display(),
                    entry.path.display()
                )));
            }
            Ok(then.compared(&now).map(|how| format!("{} {how}", entry.path.display())))
        };
        found = compare();
        if matches!(found, Ok(None)) { Visit::Continue } else { Visit::Stop }
    });
    walked.map_err(io::Error::other)?;
    match (found, lines.next()) {
        (Ok(None), Some(line)) => Ok(Some(format!("{} is not there", part(&line?)?.path().display()))),
        (found, _) => found,
    }
}

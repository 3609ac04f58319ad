//! Records: small JSON files that name layers. `snapshots/scopes/<scope id>/<level>/<key>.json`; the time of the file is
//! the time of its last use.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::Cache;
use crate::domain::snapshot::{Inputs, LayerId, Level, Record, Scope};

/// Files of another version are of another Hookmill: they count as not there, and go.
const VERSION: u32 = 1;

/// A record is read whole; one that is larger than this is none of ours. Bytes.
const MAX_BYTES: u64 = 4 << 20;

/// A record's file.
#[derive(Serialize, Deserialize)]
struct Kept<R> {
    version: u32,
    #[serde(flatten)]
    record: R,
}

/// What every version of a record's file begins with.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

/// What a record's file holds.
pub(super) enum Read {
    /// A record.
    Whole(Box<Record>),
    /// There is no such file.
    Absent,
    /// Something else, and why it is not a record.
    Garbage(String),
}

impl Cache {
    /// The folder of a scope's records of one level.
    pub(super) fn level_dir(&self, scope: &Scope, level: Level) -> PathBuf {
        self.scopes().join(scope.id()).join(level.as_str())
    }

    /// The file of a record.
    pub(super) fn record_path(&self, scope: &Scope, level: Level, inputs: &Inputs) -> PathBuf {
        let name = match level {
            Level::Downloads => "newest.json".to_owned(),
            _ => format!("{}.json", inputs.key()),
        };
        self.level_dir(scope, level).join(name)
    }

    /// The records in a folder, the last used first. What is garbage is left out.
    pub(super) fn records_in(&self, level_dir: &Path) -> Vec<(PathBuf, SystemTime)> {
        let mut found: Vec<_> = names(level_dir)
            .into_iter()
            .filter(|path| is_record(path))
            .filter_map(|path| Some((fs::metadata(&path).ok()?.modified().ok()?, path)))
            .map(|(used, path)| (path, used))
            .collect();
        found.sort_by_key(|(_, used)| std::cmp::Reverse(*used));
        found
    }

    /// Every record's file.
    pub(super) fn record_paths(&self) -> Vec<(PathBuf, SystemTime)> {
        names(&self.scopes()).iter().flat_map(|scope| names(scope)).flat_map(|level| self.records_in(&level)).collect()
    }
}

/// A record's file has the name of its key, or is the newest of its kind.
fn is_record(path: &Path) -> bool {
    let Some(stem) = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".json")) else { return false };
    stem == "newest" || (stem.len() == 64 && stem.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// The paths of what is in a folder of ours; none if it is not there.
pub(super) fn names(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

/// Reads a record. It must be the one that its place says it is.
pub(super) fn read(path: &Path) -> io::Result<Read> {
    let bytes = match read_bounded(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Read::Absent),
        answer => answer?,
    };
    let garbage = |why: &str| Ok(Read::Garbage(format!("the record {} {why}", path.display())));
    // The version is asked first: what follows may have any form in another one.
    match serde_json::from_slice::<Versioned>(&bytes) {
        Ok(kept) if kept.version == VERSION => {}
        Ok(kept) => return garbage(&format!("is of version {}, not {VERSION}", kept.version)),
        Err(_) => return garbage("can't be read"),
    }
    let Ok(Kept { record, .. }) = serde_json::from_slice::<Kept<Record>>(&bytes) else {
        return garbage("can't be read");
    };
    let ends = Path::new(&record.scope.id()).join(record.level.as_str());
    let in_place = path.parent().is_some_and(|dir| dir.ends_with(ends));
    let named = record.level == Level::Downloads || path.file_stem().is_some_and(|stem| *stem == *record.inputs.key());
    if !in_place || !named || !record.layers.iter().all(|layer| is_layer_id(&layer.id)) {
        return garbage("is not what its place says");
    }
    Ok(Read::Whole(Box::new(record)))
}

/// Layers have names that [`super::seal`] gave; anything else could be a way out of the folder.
pub(super) fn is_layer_id(id: &LayerId) -> bool {
    id.0.len() == 32 && id.0.bytes().all(|b| b.is_ascii_hexdigit())
}

fn read_bounded(path: &Path) -> io::Result<Vec<u8>> {
    use io::Read as _;
    let mut bytes = Vec::new();
    File::open(path)?.take(MAX_BYTES).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Writes a record so that after a crash there is the old one or the new one.
pub(super) fn write(path: &Path, record: &Record) -> io::Result<()> {
    let bytes = serde_json::to_vec(&Kept { version: VERSION, record })?;
    loop {
        match write_atomically(path, &bytes) {
            // Another may have removed the folder, which was empty, between our making it and our using it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            answer => return answer,
        }
    }
}

/// A new file in the place of `path`: a temporary one, synced, then renamed over it, then the folder synced.
pub(super) fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().expect("every path of ours has a folder");
    fs::create_dir_all(dir)?;
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    File::open(dir)?.sync_all()
}

/// Marks a record as used now.
pub(super) fn touch(path: &Path) -> io::Result<()> {
    File::open(path)?.set_modified(SystemTime::now())
}

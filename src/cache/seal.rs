//! From a directory that a build wrote to a layer.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::layer::{self, Meta};
use super::lease::{Alone, Lease};
use super::manifest::{self, Part, Scan};
use super::record::names;
use super::{Cache, CacheError, at};
use crate::domain::snapshot::{Layer, LayerId, Place};
use crate::tree::Dir;

/// A budget for hostile trees: the manifest of so many entries is in memory while it is made. Large honest ones have some
/// 60 000.
const MAX_ENTRIES: usize = 400_000;

/// How many lines of the manifest are looked at in turn when a layer is used.
const SAMPLED: usize = 256;

/// A new layer that nobody removes while this lives. Once a record names it, it may be dropped.
#[derive(Debug)]
pub struct Sealed {
    /// The layer's name.
    pub id: LayerId,
    /// What it takes on the disk, in bytes.
    pub disk_bytes: u64,
    /// How many files, folders and links it has.
    pub entries: usize,
    _lease: Lease,
}

impl Sealed {
    /// The layer, for a record.
    pub fn layer(&self, place: Place) -> Layer {
        Layer { id: self.id.clone(), place }
    }
}

/// A layer that is being made. What is left of it goes to the trash, unless it was finished.
pub(super) struct Incoming<'a> {
    cache: &'a Cache,
    id: LayerId,
    dir: PathBuf,
    lease: Option<Lease>,
}

impl Cache {
    /// Moves `dir` in as a new layer: writes its manifest, brings everything to the disk, and only then gives it its place.
    /// `dir` must be on the file system of the data directory, and nothing may write into it any more.
    ///
    /// # Errors
    /// Larger than `limit_bytes` on the disk, too many files, or the system's word. What was at `dir` is in the trash then,
    /// unless it could not even be moved.
    pub fn seal(&self, dir: &Path, limit_bytes: u64) -> Result<Sealed, CacheError> {
        let incoming = self.make_incoming()?;
        let files = incoming.files();
        fs::rename(dir, &files).map_err(at(dir))?;
        incoming.finish(limit_bytes)
    }

    /// An empty folder for a layer to be.
    pub(super) fn make_incoming(&self) -> Result<Incoming<'_>, CacheError> {
        loop {
            let mut random = [0; 16];
            getrandom::fill(&mut random).map_err(io::Error::other).map_err(at(&self.incoming()))?;
            let id = LayerId(hex::encode(random));
            let dir = self.incoming().join(&id.0);
            fs::create_dir_all(&dir).map_err(at(&dir))?;
            if let Some(lease) = Lease::make(&dir).map_err(at(&dir))? {
                return Ok(Incoming { cache: self, id, dir, lease: Some(lease) });
            }
        }
    }

    /// Removes what a crash left of layers that were being made. Those that another process is making stay. For the start.
    pub fn clear_unfinished(&self) {
        for dir in names(&self.incoming()) {
            let done = match Lease::alone_unfinished(&dir) {
                Ok(Alone::Yes(_alone)) => self.discard(&dir),
                Ok(Alone::InUse | Alone::Gone) => Ok(()),
                Err(error) => Err(at(&dir)(error)),
            };
            if let Err(error) = done {
                tracing::warn!(dir = %dir.display(), %error, "an unfinished snapshot could not be removed");
            }
        }
    }
}

impl Incoming<'_> {
    /// Where the files go.
    pub(super) fn files(&self) -> PathBuf {
        layer::files(&self.dir)
    }

    /// Makes it a layer.
    pub(super) fn finish(mut self, limit_bytes: u64) -> Result<Sealed, CacheError> {
        let files = self.files();
        let mut scan = manifest::scan(&files, MAX_ENTRIES)?;
        if scan.too_many {
            return Err(CacheError::TooMany { limit: MAX_ENTRIES });
        }
        if scan.disk_bytes > limit_bytes {
            return Err(CacheError::TooLarge { bytes: scan.disk_bytes, limit: limit_bytes });
        }
        manifest::hash_all(&files, &mut scan.parts)?;
        self.describe(&scan)?;
        // What a build wrote through a volatile overlay was never synced; its pages are this file system's all the same.
        Dir::open(&self.dir)?.sync_file_system()?;
        let place = self.cache.layer_dir(&self.id);
        let layers = self.cache.layers();
        fs::create_dir_all(&layers).map_err(at(&layers))?;
        fs::rename(&self.dir, &place).map_err(at(&place))?;
        let lease = self.lease.take().expect("only this takes it, and consumes what had it");
        fs::File::open(&layers).and_then(|dir| dir.sync_all()).map_err(at(&layers))?;
        Ok(Sealed { id: self.id.clone(), disk_bytes: scan.disk_bytes, entries: scan.parts.len(), _lease: lease })
    }

    fn describe(&self, scan: &Scan) -> Result<(), CacheError> {
        let manifest = layer::manifest(&self.dir);
        let sha256 = manifest::write(&manifest, &scan.parts).map_err(at(&manifest))?;
        let sample = layer::sample(&self.dir);
        let chosen: Vec<&Part> = chosen(scan.parts.len(), SAMPLED)
            .map_err(at(&sample))?
            .into_iter()
            .map(|index| &scan.parts[index])
            .collect();
        manifest::write(&sample, chosen).map_err(at(&sample))?;
        let meta = layer::meta_json(&self.dir);
        let bytes = serde_json::to_vec(&Meta::new(scan.parts.len(), scan.disk_bytes, sha256));
        bytes.map_err(Into::into).and_then(|bytes| fs::write(&meta, bytes)).map_err(at(&meta))
    }
}

impl Drop for Incoming<'_> {
    fn drop(&mut self) {
        if self.lease.is_some()
            && let Err(error) = self.cache.discard(&self.dir)
        {
            tracing::warn!(dir = %self.dir.display(), %error, "an unfinished snapshot could not be removed");
        }
    }
}

/// `wanted` different numbers below `count`, or all of them, by chance and in no order that matters: the first steps of a
/// Fisher-Yates shuffle.
pub(super) fn chosen(count: usize, wanted: usize) -> io::Result<Vec<usize>> {
    let mut numbers: Vec<usize> = (0..count).collect();
    let wanted = wanted.min(count);
    for place in 0..wanted {
        let random = usize::try_from(getrandom::u64().map_err(io::Error::other)? % (count - place) as u64)
            .expect("less than a usize");
        numbers.swap(place, place + random);
    }
    numbers.truncate(wanted);
    Ok(numbers)
}

//! Asking for a snapshot.

use std::path::{Path, PathBuf};

use super::layer;
use super::lease::Lease;
use super::manifest;
use super::record::{self, Read};
use super::seal::chosen;
use super::{Cache, CacheError};
use crate::domain::snapshot::{Inputs, LayerId, Level, Lineage, Place, Record};
use crate::tree::{Dir, TreeError};

/// How many entries are looked at, and of how many files the contents are read, over all layers of a snapshot: a random part of
/// what a sample has, so that what one use overlooks another sees.
const LOOKED_AT: usize = 32;
const COMPARED: usize = 4;

/// A file whose contents are compared is no larger than this. Bytes.
const SMALL: u64 = 64 << 10;

/// The answer to [`Cache::find`].
#[derive(Debug)]
pub enum Found {
    /// A snapshot of exactly these inputs.
    Hit(Held),
    /// There is none.
    Miss(Missed),
}

/// Why there was nothing.
#[derive(Debug, Default)]
pub struct Missed {
    /// What was used last of this level, in the first scope that has any: what the inputs are to be compared with.
    pub nearest: Option<Record>,
    /// There was one, and it was not whole: a sentence that names what. It is removed.
    pub damaged: Option<String>,
}

/// A snapshot that nobody removes while this lives.
#[derive(Debug)]
pub struct Held {
    /// What is known of it.
    pub record: Record,
    pub(super) path: PathBuf,
    pub(super) leases: Vec<(LayerId, Lease)>,
    layers_dir: PathBuf,
}

impl Held {
    /// The directories of its layers that belong in `place`, the topmost first.
    pub fn layers(&self, place: Place) -> Vec<PathBuf> {
        let of_place = self.record.layers.iter().filter(|layer| layer.place == place);
        of_place.map(|layer| layer::files(&self.layers_dir.join(&layer.id.0))).collect()
    }
}

/// What became of trying to hold a record's layers.
enum Attempt {
    Held(Vec<(LayerId, Lease)>),
    /// The record is gone as well: somebody removed the snapshot in the right order.
    Removed,
    Damaged {
        layer: LayerId,
        how: String,
    },
}

impl Cache {
    /// The snapshot of `level` with exactly `inputs`, from the first readable scope that has it; that is its use. Some of
    /// its parts are checked: one that does not hold is removed, and counts as not there.
    pub fn find(&self, lineage: &Lineage, level: Level, inputs: &Inputs) -> Found {
        let mut damaged = None;
        for scope in lineage.readable() {
            match self.held(&self.record_path(scope, level, inputs)) {
                Ok(Some(held)) => return Found::Hit(held),
                Ok(None) => {}
                Err(sentence) => {
                    damaged.get_or_insert(sentence);
                }
            }
        }
        Found::Miss(Missed { nearest: self.nearest(lineage, level), damaged })
    }

    /// The snapshot of `level` that was used last, from the first readable scope that has one, whatever its inputs.
    pub fn newest(&self, lineage: &Lineage, level: Level) -> Option<Held> {
        lineage.readable().find_map(|scope| {
            let records = self.records_in(&self.level_dir(scope, level));
            records.into_iter().find_map(|(path, _)| self.held(&path).ok().flatten())
        })
    }

    fn nearest(&self, lineage: &Lineage, level: Level) -> Option<Record> {
        lineage.readable().find_map(|scope| {
            let records = self.records_in(&self.level_dir(scope, level));
            records.into_iter().find_map(|(path, _)| match record::read(&path) {
                Ok(Read::Whole(record)) => Some(*record),
                _ => None,
            })
        })
    }

    /// The snapshot of the record at `path`, checked and held. The error is a sentence; what it speaks of is removed.
    fn held(&self, path: &Path) -> Result<Option<Held>, String> {
        let record = match record::read(path) {
            Ok(Read::Absent) => return Ok(None),
            Ok(Read::Whole(record)) => *record,
            Ok(Read::Garbage(how)) => {
                self.discard_damaged(path);
                return Err(how);
            }
            Err(error) => return Err(format!("the record {} can't be read: {error}", path.display())),
        };
        match self.hold_layers(path, &record) {
            Ok(Attempt::Held(leases)) => {
                if let Err(error) = record::touch(path) {
                    tracing::warn!(path = %path.display(), %error, "the use of a snapshot could not be noted");
                }
                Ok(Some(Held { record, path: path.to_owned(), leases, layers_dir: self.layers() }))
            }
            Ok(Attempt::Removed) => Ok(None),
            Ok(Attempt::Damaged { layer, how }) => {
                self.discard_damaged(path);
                self.discard_unused(&layer);
                Err(format!("the {} snapshot's layer {} is damaged: {how}", record.level.as_str(), layer.0))
            }
            Err(error) => Err(format!("the {} snapshot can't be used: {error}", record.level.as_str())),
        }
    }

    fn hold_layers(&self, path: &Path, record: &Record) -> Result<Attempt, CacheError> {
        let mut leases: Vec<(LayerId, Lease)> = Vec::with_capacity(record.layers.len());
        for layer in &record.layers {
            let dir = self.layer_dir(&layer.id);
            let Some(lease) = Lease::share(&dir).map_err(super::at(&dir))? else {
                return Ok(match path.exists() {
                    true => Attempt::Damaged { layer: layer.id.clone(), how: "it is not there".to_owned() },
                    false => Attempt::Removed,
                });
            };
            if let Some(how) = sampled_difference(&dir, record.layers.len())? {
                return Ok(Attempt::Damaged { layer: layer.id.clone(), how });
            }
            leases.push((layer.id.clone(), lease));
        }
        Ok(Attempt::Held(leases))
    }

    fn discard_damaged(&self, path: &Path) {
        if let Err(error) = self.discard(path) {
            tracing::warn!(path = %path.display(), %error, "a damaged snapshot could not be removed");
        }
    }
}

/// What does not hold of a random part of a layer's sample; `among` is how many layers share the effort.
fn sampled_difference(layer: &Path, among: usize) -> Result<Option<String>, CacheError> {
    let sample = layer::sample(layer);
    let lines = match manifest::lines(&sample).and_then(Iterator::collect::<std::io::Result<Vec<String>>>) {
        Ok(lines) => lines,
        Err(error) => return Ok(Some(format!("its sample can't be read: {error}"))),
    };
    let dir = match Dir::open(&layer::files(layer)) {
        Ok(dir) => dir,
        Err(error) if error.is_not_found() => return Ok(Some("its files are not there".to_owned())),
        Err(error) => return Err(error.into()),
    };
    let (mut buffer, mut compared) = (Vec::new(), 0);
    let mut difference = |line: &str| -> Result<Option<String>, TreeError> {
        let Ok(part) = manifest::part(line) else { return Ok(Some("its sample can't be read".to_owned())) };
        if let Some(how) = part.difference(&dir)? {
            return Ok(Some(how));
        }
        if compared < (COMPARED / among).max(1) && part.is_file() && part.size() <= SMALL {
            compared += 1;
            return part.contents_difference(&dir, &mut buffer);
        }
        Ok(None)
    };
    let chosen = chosen(lines.len(), (LOOKED_AT / among).max(8)).map_err(super::at(&sample))?;
    for index in chosen {
        if let Some(how) = difference(&lines[index])? {
            return Ok(Some(how));
        }
    }
    Ok(None)
}

//! Looking at everything.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::path::Path;

use super::lease::Lease;
use super::manifest::{self, Part};
use super::record::{self, Read};
use super::{Cache, CacheError, layer};
use crate::domain::snapshot::{LayerId, Record};
use crate::tree::{Dir, TreeError};

/// What [`Cache::verify`] saw.
#[derive(Debug, Default)]
pub struct Verified {
    /// Layers that were read.
    pub layers: usize,
    /// Files, folders and links in them.
    pub entries: usize,
    /// What is wrong.
    pub damages: Vec<Damage>,
}

/// Something that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Damage {
    /// What, in a sentence's words, without a full stop.
    pub what: String,
    /// Whether it was removed. It stays while somebody uses it; no new build gets it then.
    pub removed: bool,
}

impl Cache {
    /// Reads every record and every layer, contents and all. With `repair`, what does not hold is removed; the next build
    /// makes it anew.
    pub fn verify(&self, repair: bool) -> Result<Verified, CacheError> {
        let mut verified = Verified::default();
        let mut bad_layers: HashSet<LayerId> = HashSet::new();
        for id in self.layer_ids() {
            let Some(what) = self.layer_damage(&id, &mut verified)? else { continue };
            bad_layers.insert(id.clone());
            verified.damages.push(Damage { what: format!("the layer {}: {what}", id.0), removed: false });
        }
        let there: HashSet<LayerId> = self.layer_ids().into_iter().collect();
        for (path, _) in self.record_paths() {
            let what = match record::read(&path) {
                Ok(Read::Absent) => continue,
                Ok(Read::Garbage(how)) => Some(how),
                Ok(Read::Whole(record)) => record_damage(&record, &there, &bad_layers),
                Err(error) => Some(format!("the record {} can't be read: {error}", path.display())),
            };
            if let Some(what) = what {
                if repair {
                    self.discard(&path)?;
                }
                verified.damages.push(Damage { what, removed: repair });
            }
        }
        if repair {
            for id in &bad_layers {
                self.discard_unused(id);
                let gone = !self.layer_dir(id).exists();
                let of_layer = verified.damages.iter_mut().filter(|damage| damage.what.contains(&id.0));
                of_layer.for_each(|damage| damage.removed = gone);
            }
        }
        Ok(verified)
    }

    /// What is wrong with a layer; `None` also if it was removed meanwhile.
    fn layer_damage(&self, id: &LayerId, verified: &mut Verified) -> Result<Option<String>, CacheError> {
        let dir = self.layer_dir(id);
        let _lease = match Lease::share(&dir) {
            Ok(Some(lease)) => lease,
            Ok(None) if !dir.exists() => return Ok(None),
            Ok(None) => return Ok(Some("its lease is not there".to_owned())),
            Err(error) => return Err(super::at(&dir)(error)),
        };
        verified.layers += 1;
        match whole(&dir) {
            Ok(entries) => {
                verified.entries += entries;
                Ok(None)
            }
            Err(what) => Ok(Some(what)),
        }
    }
}

/// A record whose layers are not all there and whole.
fn record_damage(record: &Record, there: &HashSet<LayerId>, bad: &HashSet<LayerId>) -> Option<String> {
    let of = format!("the {} snapshot of {}", record.level.as_str(), record.scope);
    let layers = || record.layers.iter().map(|layer| &layer.id);
    if let Some(gone) = layers().find(|id| !there.contains(id)) {
        return Some(format!("{of}: its layer {} is not there", gone.0));
    }
    layers().find(|id| bad.contains(id)).map(|id| format!("{of}: its layer {} is damaged", id.0))
}

/// How many entries a layer has, all of them as they were sealed; the error is what is not.
fn whole(dir: &Path) -> Result<usize, String> {
    let said = |name: &'static str| move |error: io::Error| format!("its {name} can't be read: {error}");
    let meta = layer::Meta::read(dir).map_err(said("meta.json"))?;
    let (files, list) = (layer::files(dir), layer::manifest(dir));
    let digest = File::open(&list).and_then(|file| manifest::digest(file, &mut Vec::new()));
    if digest.map_err(said("manifest"))? != meta.manifest_sha256 {
        return Err("its manifest was changed after it was sealed".to_owned());
    }
    if let Some(how) = manifest::whole_difference(&files, &list).map_err(said("tree"))? {
        return Err(how);
    }
    let parts = manifest::lines(&list).map_err(said("manifest"))?;
    let parts =
        parts.map(|line| manifest::part(&line?)).collect::<io::Result<Vec<Part>>>().map_err(said("manifest"))?;
    let top = Dir::open(&files).map_err(|error| error.to_string())?;
    manifest::in_parallel(&parts, |part, buffer| {
        let difference = part.contents_difference(&top, buffer).map_err(|error: TreeError| error.to_string())?;
        difference.map_or(Ok(()), Err)
    })?;
    Ok(meta.entries)
}

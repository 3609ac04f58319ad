//! What is kept from build to build: immutable layers, and records that name them; and by which keys it is found ([`inputs`]).
//!
//! A **layer** is a directory as a build left it, with a manifest. Once it is sealed nothing writes into it: builds see it
//! through an overlay, or as a copy. A **record** says of which inputs, and whose, layers are; [`Cache::find`] answers with
//! one whose inputs are exactly those asked for. Records are made last and removed first, so whatever a crash leaves is at
//! worst a layer that no record names, which [`Cache::collect`] removes.
//!
//! Under the data directory: `snapshots/scopes/<scope>/<level>/<key>.json` are the records (their time is that of the last
//! use), `snapshots/layers/<layer>/` has `files/`, `manifest`, `sample`, `meta.json` and `lease`, and `snapshots/incoming/`
//! is where a layer is made. All of it is on one file system, so that things appear and go by a rename.
//!
//! Who uses a layer shares its lease, who removes it holds it alone: builds, a second agent and `hookmill cache` get along
//! without asking each other. Nothing here waits for a network or runs a program; all of it blocks.

pub mod inputs;

mod collect;
mod consolidate;
mod layer;
mod lease;
mod list;
mod lookup;
mod manifest;
mod missed;
mod record;
mod remove;
mod seal;
mod take;
mod verify;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::domain::snapshot::{LayerId, Record};
use crate::tree::{self, TreeError};

pub use collect::Collected;
pub use list::Listed;
pub use lookup::{Found, Held, Missed};
pub use missed::Miss;
pub use remove::{Removed, Selection};
pub use seal::Sealed;
pub use take::Taken;
pub use verify::{Damage, Verified};

/// What is kept in one data directory. Cheap to clone; any number of processes may have one of the same directory.
#[derive(Debug, Clone)]
pub struct Cache {
    data_dir: Arc<Path>,
}

/// Why something was not kept, or could not be looked after. Never a reason to fail a build.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// More than the caller allows.
    #[error("it would take {bytes} bytes on the disk, and {limit} are allowed for one snapshot")]
    TooLarge {
        /// What it takes on the disk.
        bytes: u64,
        /// The caller's bound.
        limit: u64,
    },
    /// More files than any honest tree has.
    #[error("it has more than {limit} files and folders, and a snapshot may have no more")]
    TooMany {
        /// How many are kept at most.
        limit: usize,
    },
    /// A layer was removed while it was needed.
    #[error("the layer {0} is not there any more")]
    Gone(String),
    /// Something below a directory that a build wrote.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// Something of the cache's own.
    #[error("{}: {source}", path.display())]
    Io {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Says where an operation of the system failed.
fn at(path: &Path) -> impl Fn(io::Error) -> CacheError + '_ {
    move |source| CacheError::Io { path: path.to_owned(), source }
}

impl Cache {
    /// What is kept under `data_dir`. Nothing is made or read yet.
    pub fn new(data_dir: &Path) -> Self {
        Self { data_dir: data_dir.into() }
    }

    /// Keeps a record, in the place of one with the same scope, level and inputs. The caller holds all layers that it names
    /// ([`Sealed`], [`Held`]), so that none is removed before the record is there.
    pub fn put(&self, record: &Record) -> Result<(), CacheError> {
        if let Some(gone) = record.layers.iter().find(|layer| !self.layer_dir(&layer.id).is_dir()) {
            return Err(CacheError::Gone(gone.id.0.clone()));
        }
        let path = self.record_path(&record.scope, record.level, &record.inputs);
        record::write(&path, record).map_err(at(&path))
    }

    fn snapshots(&self) -> PathBuf {
        self.data_dir.join("snapshots")
    }

    fn scopes(&self) -> PathBuf {
        self.snapshots().join("scopes")
    }

    fn layers(&self) -> PathBuf {
        self.snapshots().join("layers")
    }

    fn incoming(&self) -> PathBuf {
        self.snapshots().join("incoming")
    }

    fn layer_dir(&self, id: &LayerId) -> PathBuf {
        self.layers().join(&id.0)
    }

    /// Out of the way by a rename; whoever empties the trash takes the time that removing takes.
    fn discard(&self, path: &Path) -> Result<(), CacheError> {
        Ok(tree::rename_away(path, &self.data_dir.join("trash"))?)
    }
}

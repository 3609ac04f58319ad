//! The place that several machines share: objects under keys, in a folder that all of them mount or in a bucket.
//!
//! A key is made of numbers and our own file names (`logs/12/1/00-checkout.log/0`), so it is a safe path and a safe
//! address. An object is there whole or not at all.

mod folder;
mod s3;

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

use super::ship::{artifacts_of, logs_of};
use crate::config::server::{Blobs, Network};
use crate::domain::build::BuildId;
use crate::outside::Unusable;

use folder::Folder;
use s3::S3;

/// The shared place. Cheap to clone. Every call may take as long as a slow network does.
#[derive(Debug, Clone)]
pub struct Depot(Arc<Place>);

#[derive(Debug)]
enum Place {
    Folder(Folder),
    S3(Box<S3>),
}

/// An object as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Object {
    /// Its key.
    pub(super) key: String,
    /// Its size.
    pub(super) bytes: u64,
}

impl Object {
    /// The number that stands behind `prefix` in its key.
    pub(super) fn number(&self, prefix: &str) -> Option<u64> {
        self.key.strip_prefix(prefix)?.split('/').next()?.parse().ok()
    }
}

impl Depot {
    /// The place of the settings; nothing is asked of it yet.
    ///
    /// # Errors
    /// When `[network]` can't be used, or names with the bucket no address.
    pub fn new(blobs: &Blobs, network: &Network) -> Result<Self, Unusable> {
        Ok(Depot(Arc::new(match blobs {
            Blobs::Folder(dir) => Place::Folder(Folder::new(dir.clone())),
            Blobs::S3(bucket) => Place::S3(Box::new(S3::new(bucket, network)?)),
        })))
    }

    /// Every build of which something is kept in the shared place, in no order.
    ///
    /// # Errors
    /// The place's.
    pub fn builds(&self) -> io::Result<Vec<BuildId>> {
        let mut numbers = self.numbers("logs/")?;
        numbers.extend(self.numbers("artifacts/")?);
        Ok(numbers.into_iter().filter_map(|id| i64::try_from(id).ok().map(BuildId)).collect())
    }

    /// Removes what is kept there of a build: its logs, its artifacts or both.
    ///
    /// # Errors
    /// The place's.
    pub fn forget(&self, build: BuildId, logs: bool, artifacts: bool) -> io::Result<()> {
        for (_, prefix) in [(logs, logs_of(build)), (artifacts, artifacts_of(build))].iter().filter(|(goes, _)| *goes) {
            self.remove(self.list(prefix)?.into_iter().map(|object| object.key))?;
        }
        Ok(())
    }

    /// Puts bytes under a key, in the place of what was there.
    pub(super) fn put(&self, key: &str, content: &[u8]) -> io::Result<()> {
        match &*self.0 {
            Place::Folder(folder) => folder.put(key, content),
            Place::S3(s3) => s3.put(key, content),
        }
    }

    /// Puts a whole file under a key, without holding it in memory. Nobody may write to it meanwhile.
    pub(super) fn put_file(&self, key: &str, file: &File) -> io::Result<()> {
        match &*self.0 {
            Place::Folder(folder) => folder.put(key, file),
            Place::S3(s3) => s3.put_file(key, file),
        }
    }

    /// The bytes of an object from `from` on; `None` when there is no such object.
    pub(super) fn get(&self, key: &str, from: u64) -> io::Result<Option<Box<dyn Read>>> {
        match &*self.0 {
            Place::Folder(folder) => folder.get(key, from),
            Place::S3(s3) => s3.get(key, from),
        }
    }

    /// Every object whose key begins with `prefix`, which ends with `/`, in no order.
    pub(super) fn list(&self, prefix: &str) -> io::Result<Vec<Object>> {
        match &*self.0 {
            Place::Folder(folder) => folder.list(prefix),
            Place::S3(s3) => s3.list(prefix),
        }
    }

    /// The numbers that stand behind `prefix`, which ends with `/`, in keys of objects.
    pub(super) fn numbers(&self, prefix: &str) -> io::Result<BTreeSet<u64>> {
        Ok(self.list(prefix)?.iter().filter_map(|object| object.number(prefix)).collect())
    }

    /// Removes objects; one that is gone is fine.
    pub(super) fn remove(&self, keys: impl IntoIterator<Item = String>) -> io::Result<()> {
        keys.into_iter().try_for_each(|key| match &*self.0 {
            Place::Folder(folder) => folder.remove(&key),
            Place::S3(s3) => s3.remove(&key),
        })
    }
}

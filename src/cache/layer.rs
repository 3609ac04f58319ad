//! What is in a layer's folder besides its files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::Cache;
use super::record::{is_layer_id, names};
use crate::domain::snapshot::LayerId;

/// Another version is as good as no layer.
const VERSION: u32 = 1;

/// What a layer takes, and by what its manifest is known.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Meta {
    version: u32,
    /// Files, folders, links.
    pub(super) entries: usize,
    /// On the disk.
    pub(super) disk_bytes: u64,
    /// Of the manifest file, in hexadecimal.
    pub(super) manifest_sha256: String,
}

impl Meta {
    pub(super) fn new(entries: usize, disk_bytes: u64, manifest_sha256: String) -> Self {
        Self { version: VERSION, entries, disk_bytes, manifest_sha256 }
    }

    /// Reads that of a layer.
    pub(super) fn read(layer: &Path) -> io::Result<Self> {
        let meta: Self = serde_json::from_slice(&fs::read(meta_json(layer))?)?;
        match meta.version {
            VERSION => Ok(meta),
            other => Err(io::Error::other(format!("of version {other}, not {VERSION}"))),
        }
    }
}

/// Where the files of a layer are.
pub(super) fn files(layer: &Path) -> PathBuf {
    layer.join("files")
}

/// Where its manifest is.
pub(super) fn manifest(layer: &Path) -> PathBuf {
    layer.join("manifest")
}

/// Where some lines of its manifest are, chosen by chance.
pub(super) fn sample(layer: &Path) -> PathBuf {
    layer.join("sample")
}

/// Where its [`Meta`] is.
pub(super) fn meta_json(layer: &Path) -> PathBuf {
    layer.join("meta.json")
}

impl Cache {
    /// Every layer that is there.
    pub(super) fn layer_ids(&self) -> Vec<LayerId> {
        let ids = names(&self.layers()).into_iter();
        let ids = ids.filter_map(|path| Some(LayerId(path.file_name()?.to_str()?.to_owned())));
        ids.filter(is_layer_id).collect()
    }

    /// What a layer takes on the disk, 0 if that can't be told.
    pub(super) fn layer_bytes(&self, id: &LayerId) -> u64 {
        Meta::read(&self.layer_dir(id)).map_or(0, |meta| meta.disk_bytes)
    }
}

//! The layers of a workspace, as data. Mounting them is the holder's work.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where a confined step sees its tree: the same absolute path in every build.
pub const BUILD_DIR: &str = "/build";
/// Where a confined step's HOME is: private, and the same path in every build.
pub const HOME_DIR: &str = "/home/build";

/// What a build's steps see. Paths on the left are the host's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// Read-only layers of the tree, the topmost first; at least the sources.
    pub lowers: Vec<PathBuf>,
    /// This build's writes. On the same file system as `work`.
    pub upper: PathBuf,
    /// overlayfs' own directory, empty, beside `upper`.
    pub work: PathBuf,
    /// An empty directory on which the layers are joined (a mount point with namespaces, a copy without).
    pub joined: PathBuf,
    /// The private HOME, on the host.
    pub home: PathBuf,
    /// The private TMPDIR, on the host.
    pub tmp: PathBuf,
    /// Further paths that steps may read, at the same path inside: tools, the mirror's objects.
    pub readable: Vec<PathBuf>,
}

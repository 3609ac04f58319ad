//! bower for the demo's server. An agent installs its own once, into its data directory; a demo's is gone after a
//! minute, so demos share one that is kept, and the server finds it on its `PATH` as an operator's.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::surroundings::Surroundings;
use crate::toolchain::{self, Supply, Toolchain};

/// A bower that outlives the demo.
#[derive(Debug)]
pub(super) struct Shared {
    /// Its version.
    pub version: String,
    /// The `PATH` on which it is found first.
    pub path: OsString,
}

/// Installs bower where demos share it, unless it is there, and links it from `folder`.
///
/// `None` when there is no place for it, or it can't be had: then the server tries for itself, and says why not.
pub(super) async fn share_bower(folder: &Path) -> Option<Shared> {
    let path = std::env::var_os("PATH")?;
    let toolchain = Arc::new(Toolchain::look(&path).await);
    let network = Surroundings::of_this_process().ok()?.network();
    let supply = Supply::new(toolchain, cache_dir()?.join("tools"), None, &network, &[]);
    let outfit = supply.outfit(&[toolchain::bower()]).await.ok()?;
    let found = outfit.path.iter().map(|folder| folder.join("bower")).find(|program| program.is_file())?;
    // The program itself and not a link to it: a step sees the link's folder and the program's package, no more.
    let program = found.canonicalize().ok()?;
    let bin = folder.join("bin");
    std::fs::create_dir_all(&bin).ok()?;
    std::os::unix::fs::symlink(program, bin.join("bower")).ok()?;
    let path = std::env::join_paths(std::iter::once(bin).chain(std::env::split_paths(&path))).ok()?;
    Some(Shared { version: outfit.given.first()?.version.clone(), path })
}

/// `$XDG_CACHE_HOME/hookmill`, by the XDG Base Directory Specification `~/.cache/hookmill` where it is not set.
fn cache_dir() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
    Some(cache.join("hookmill"))
}

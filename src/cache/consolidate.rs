//! One layer in the place of a chain of them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::lease::Lease;
use super::seal::Sealed;
use super::{Cache, CacheError, at, layer};
use crate::domain::snapshot::LayerId;
use crate::tree::{Dir, Entry, Kind, TreeError};

/// A folder of the chain: one folder of each layer that shows something of it, the topmost first.
struct Joined {
    path: PathBuf,
    from: Vec<Dir>,
    /// It hides what lies below the chain.
    opaque: bool,
    /// So does it, or a folder that it is in: there is nothing left to hide.
    alone: bool,
}

impl Cache {
    /// Makes one layer that shows what `chain` shows, the topmost first, over whatever lies below it: files are copied
    /// (shared where the file system can), what the chain hides stays hidden. The chain is left as it is.
    pub fn consolidate(&self, chain: &[LayerId]) -> Result<Sealed, CacheError> {
        let mut leases = Vec::new();
        let mut from = Vec::new();
        for id in chain {
            let dir = self.layer_dir(id);
            let lease = Lease::share(&dir).map_err(at(&dir))?;
            leases.push(lease.ok_or_else(|| CacheError::Gone(id.0.clone()))?);
            from.push(Dir::open(&layer::files(&dir))?);
        }
        let incoming = self.make_incoming()?;
        let files = incoming.files();
        std::fs::create_dir(&files).map_err(at(&files))?;
        join_all(from, &Dir::open(&files)?)?;
        incoming.finish(u64::MAX)
    }
}

fn join_all(from: Vec<Dir>, to: &Dir) -> Result<(), TreeError> {
    let mut waiting = vec![Joined { path: PathBuf::new(), from, opaque: false, alone: false }];
    let mut made: Vec<(PathBuf, Dir)> = Vec::new();
    while let Some(mut joined) = waiting.pop() {
        let target = to.open_dir(&joined.path)?;
        waiting.extend(join(&joined, &target)?);
        if joined.opaque {
            target.set_opaque()?;
        }
        if !joined.from.is_empty() {
            made.push((joined.path, joined.from.swap_remove(0)));
        }
    }
    // The deepest first: a folder comes after the one that it is in. Modes may forbid what filling needs.
    for (path, original) in made.into_iter().rev() {
        to.open_dir(&path)?.finish_as(&original)?;
    }
    Ok(())
}

/// Copies what is directly in a folder; answers with the folders in it, made and empty.
fn join(joined: &Joined, target: &Dir) -> Result<Vec<Joined>, TreeError> {
    // Who has what: the layers, the topmost first.
    let mut names: BTreeMap<OsString, Vec<(usize, Entry)>> = BTreeMap::new();
    for (index, dir) in joined.from.iter().enumerate() {
        for name in dir.names()? {
            let entry = dir.entry(Path::new(&name))?;
            names.entry(name).or_default().push((index, entry));
        }
    }
    let mut folders = Vec::new();
    for (name, holders) in names {
        let name = Path::new(&name);
        let (top, entry) = holders.first().expect("a name is known from somebody who has it");
        match entry.kind {
            Kind::Dir => {
                target.make_dir(name)?;
                let (from, opaque) = shown_below(&joined.from, name, &holders)?;
                folders.push(Joined { path: joined.path.join(name), from, opaque, alone: joined.alone || opaque });
            }
            Kind::File | Kind::Link => joined.from[*top].copy_entry(name, entry.kind, target)?,
            // A whiteout, or a pipe or socket, which has no contents to copy but hides what is below as well.
            Kind::Other if !joined.alone => target.make_whiteout(name)?,
            Kind::Other => {}
        }
    }
    Ok(folders)
}

/// The folders that are shown as one under a name whose topmost holder is a folder, and whether they end in something that
/// hides all below them.
fn shown_below(dirs: &[Dir], name: &Path, holders: &[(usize, Entry)]) -> Result<(Vec<Dir>, bool), TreeError> {
    let mut from = Vec::new();
    for (index, entry) in holders {
        if entry.kind != Kind::Dir {
            return Ok((from, true));
        }
        let dir = dirs[*index].open_dir(name)?;
        let opaque = dir.is_opaque()?;
        from.push(dir);
        if opaque {
            return Ok((from, true));
        }
    }
    Ok((from, false))
}

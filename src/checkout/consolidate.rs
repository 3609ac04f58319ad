//! Makes one pack of a mirror's many small ones, beside the work of builds.
//!
//! Every fetch leaves a pack, and git looks through all of them, so each makes the next checkout slower. No object goes:
//! a workspace that borrows them may need one that nothing leads to any more. Whoever reads meanwhile goes on with
//! the packs that it has open, and finds the rest in the new one: git and libgit2 look at the folder again when they
//! miss an object.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use git2::{Odb, Oid};

use super::Refusal;
use super::mirror::{self, Mirror};
use super::refusal::Stop;
use crate::tree;

/// A mirror with no more packs than this is left as it is.
const MANY: usize = 50;
/// The small packs that become one are together no larger (bytes): larger ones, such as that of a first fetch, stay,
/// which bounds the work and the time that a fetch may have to wait for it.
const LARGEST: u64 = 32 << 20;
/// It is not done for fewer small packs than this.
const FEWEST: usize = 10;
/// Refs that a mirror keeps: they only tell a forge what is here already, and the newest tell it best.
const REFS: usize = 100;
/// Memory for the objects that are compared with each other (bytes).
const WINDOW: i64 = 64 << 20;
/// Objects that are larger are not compared with others (bytes).
const COMPARED: i64 = 16 << 20;

/// One pack: its path without extension, and its size.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pack {
    stem: PathBuf,
    bytes: u64,
}

impl Pack {
    fn file(&self, extension: &str) -> PathBuf {
        self.stem.with_extension(extension)
    }
}

/// The mirrors in the folder of mirrors that are crowded.
pub fn crowded(mirrors: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(mirrors).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|mirror| is_crowded(mirror)).collect()
}

/// Whether [`consolidate`] would make a mirror faster. Looks at names and sizes only, so it may be asked after each fetch.
pub fn is_crowded(mirror: &Path) -> bool {
    !small_packs(mirror).is_empty()
}

/// Makes one pack of the small ones of a mirror that has many, and forgets refs that are long unused. Answers with the
/// number of packs that became one; 0 where there are few, or somebody else is busy with the mirror.
///
/// # Errors
/// When the mirror can't be read or written. All objects are there then, too.
pub fn consolidate(path: &Path) -> Result<usize, Refusal> {
    if !is_crowded(path) {
        return Ok(0);
    }
    let Some(_locked) = mirror::lock_if_free(path)? else { return Ok(0) };
    let (small, Some(mirror)) = (small_packs(path), Mirror::open(path)) else { return Ok(0) };
    if small.is_empty() {
        return Ok(0);
    }
    forget_refs(path).map_err(|error| Refusal::disk(path, &error))?;
    fold(path, &mirror, &small).map_err(Stop::refusal)?;
    Ok(small.len())
}

/// The packs that are worth becoming one.
fn small_packs(mirror: &Path) -> Vec<Pack> {
    let entries = std::fs::read_dir(mirror.join("objects/pack")).into_iter().flatten().flatten();
    let packs: Vec<_> =
        entries.filter(|entry| Path::new(&entry.file_name()).extension() == Some(OsStr::new("pack"))).collect();
    if packs.len() <= MANY {
        return Vec::new();
    }
    let sized = packs
        .iter()
        .filter_map(|entry| Some(Pack { stem: entry.path().with_extension(""), bytes: entry.metadata().ok()?.len() }));
    smallest(sized.collect())
}

fn smallest(mut packs: Vec<Pack>) -> Vec<Pack> {
    packs.sort_by(|a, b| (a.bytes, &a.stem).cmp(&(b.bytes, &b.stem)));
    let mut sum: u64 = 0;
    packs.retain(|pack| {
        sum = sum.saturating_add(pack.bytes);
        sum <= LARGEST
    });
    sum = packs.iter().map(|pack| pack.bytes).sum();
    // One that is larger than twice the others together was made of as many before: without it the work grows with what
    // is new, not with what is there (git's geometric repacking).
    while let Some(pack) = packs.pop_if(|pack| pack.bytes > 2 * (sum - pack.bytes)) {
        sum -= pack.bytes;
    }
    if packs.len() < FEWEST {
        packs.clear();
    }
    packs
}

fn forget_refs(mirror: &Path) -> io::Result<()> {
    let mut refs = Vec::new();
    for entry in std::fs::read_dir(mirror.join("refs/hookmill")).into_iter().flatten() {
        let entry = entry?;
        refs.push((entry.metadata()?.modified()?, entry.path()));
    }
    refs.sort();
    refs.iter().rev().skip(REFS).try_for_each(|(_, path)| std::fs::remove_file(path))
}

/// With the lock held. The new pack is whole, on the disk and in its place before an old one goes.
fn fold(path: &Path, mirror: &Mirror, small: &[Pack]) -> Result<(), Stop> {
    // A name that whoever takes the lock next clears, if we are killed.
    let beside = path.join("objects/tmp_consolidated");
    let disk = |error: io::Error| Stop::from(Refusal::disk(&beside, &error));
    let (old, new) = (beside.join("old"), beside.join("new"));
    for objects in [&old, &new] {
        std::fs::create_dir_all(objects.join("pack")).map_err(disk)?;
    }
    for file in small.iter().flat_map(|pack| ["pack", "idx"].map(|extension| pack.file(extension))) {
        std::fs::hard_link(&file, old.join("pack").join(file.file_name().unwrap_or_default())).map_err(disk)?;
    }
    let mut ids: Vec<Oid> = Vec::new();
    objects_in(&old)?.foreach(|id| {
        ids.push(*id);
        true
    })?;
    let mut config = mirror.repo.config()?;
    config.set_i64("pack.windowMemory", WINDOW)?;
    // libgit2 takes its `core.bigFileThreshold` from this key, beside the size of its cache.
    config.set_i64("pack.deltaCacheSize", COMPARED)?;
    let mut pack = mirror.repo.packbuilder()?;
    ids.iter().try_for_each(|id| pack.insert_object(*id, None))?;
    pack.write(&new.join("pack"), 0)?;
    let made = objects_in(&new)?;
    if let Some(lost) = ids.iter().find(|id| !made.exists(**id)) {
        return Err(git2::Error::from_str(&format!("the new pack lacks {lost}")).into());
    }
    let name = pack.name()?.unwrap_or_default();
    let made = Pack { stem: path.join("objects/pack").join(format!("pack-{name}")), bytes: 0 };
    put_in_place(&new.join("pack"), &made).map_err(disk)?;
    // The same objects give the same name.
    for file in small.iter().filter(|pack| pack.stem != made.stem) {
        // Without its index nobody opens a pack any more, and it is cleared as a leftover if we are killed here.
        std::fs::remove_file(file.file("idx")).and_then(|()| std::fs::remove_file(file.file("pack"))).map_err(disk)?;
    }
    Ok(tree::remove(&beside)?)
}

/// The objects of one folder alone.
fn objects_in(folder: &Path) -> Result<Odb<'static>, git2::Error> {
    let odb = Odb::new()?;
    odb.add_disk_alternate(&folder.to_string_lossy())?;
    Ok(odb)
}

fn put_in_place(from: &Path, pack: &Pack) -> io::Result<()> {
    // The pack before its index, by which it is found.
    let files = ["pack", "idx"].map(|extension| pack.file(extension));
    let from = |file: &Path| from.join(file.file_name().unwrap_or_default());
    files.iter().try_for_each(|file| File::open(from(file))?.sync_all())?;
    files.iter().try_for_each(|file| std::fs::rename(from(file), file))?;
    pack.stem.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_packs_stay_and_few_are_left_alone() {
        let check = |sizes: &[u64], expected: usize| {
            let packs = sizes.iter().enumerate().map(|(n, bytes)| Pack { stem: n.to_string().into(), bytes: *bytes });
            let chosen = smallest(packs.collect());
            assert_eq!(chosen.len(), expected, "{sizes:?}");
            assert!(chosen.iter().map(|pack| pack.bytes).sum::<u64>() <= LARGEST);
        };
        check(&[[1000; 60].as_slice(), &[500 << 20]].concat(), 60);
        check(&[4 << 20; 60], 0);
        check(&[1 << 20; 60], 32);
        check(&[1; 9], 0);
        // What became one before, beside new ones.
        check(&[[1000; 50].as_slice(), &[20 << 20, 200_000]].concat(), 50);
        check(&[[1000; 50].as_slice(), &[20 << 20, 90_000]].concat(), 51);
        check(&[[1000; 50].as_slice(), &[1]].concat(), 51);
    }
}

//! What package managers downloaded, kept from build to build, and what of it is not.
//!
//! Only what can be held against a digest is kept: a file whose name is its digest, or whose digest stands in the
//! committed lockfile. A cache of unpacked packages is code that runs in the next build, and no manager compares it
//! with anything: yarn 1 and pnpm install such a file after an edit that kept its size and time.
//!
//! | manager | kept | held against |
//! |---|---|---|
//! | npm 6–11 | tarballs of cacache's `content-v2` | their names; npm compares again, with the lockfile or the registry's document |
//! | yarn 1 | tarballs of its offline mirror | the committed `yarn.lock`; yarn compares again |
//! | yarn 2 and later | the zips of the global cache | the committed `yarn.lock`; yarn compares again |
//! | pnpm 7–12 | the files of the store | their names |
//! | pnpm 7–12 | which files a package is made of | nothing: see below |
//! | bun, bower | nothing: both keep packages unpacked | |
//!
//! npm 6 finds a tarball by its digest only where a lockfile has it; so does bower's resolver for npm, which is made of
//! npm 6 and knows no lockfile: it downloads anew.
//!
//! cacache's index is not kept, nor any document of a registry: without them a manager asks the registry which versions
//! there are, and can't be told an old or a wrong answer. corepack's managers, logs and `_npx` are not kept either.
//!
//! **What can't be verified.** pnpm throws the tarball away and remembers which files it had. That list (a JSON file, from
//! pnpm 11 on a row of a database) follows from nothing that is left, so a build that ran hostile code could name other
//! files in it, each of them whole. What bounds this is whose it is: only a passed build leaves downloads, to its own
//! repository, trust and ref, and they are read by that scope and by pull requests into it. Such a build could as well
//! have changed the `node_modules` that it leaves there. Nothing that a pull request leaves is read by its base.

#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod lockfile;

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sha1::Sha1;
use sha2::{Digest, Sha512};

use crate::tree::{self, Dir, Entry, Kind, TreeError, Visit};

pub use lockfile::Lockfiles;

/// A folder of the private HOME for what package managers download. It is beside `.cache`, because
/// what installs leave in `.cache` (browsers, Electron) belongs to their result, and this does not.
pub const DOWNLOADS: &str = ".downloads";

/// More entries than this, and nothing is kept: a store of pnpm's with 2000 packages has some 100 000.
const MOST_ENTRIES: usize = 500_000;

/// The largest index file of pnpm's that is read, in bytes; that of a package with 20 000 files has some 4 MB.
const LARGEST_INDEX: u64 = 16 * 1024 * 1024;

/// The largest file that is kept, in bytes.
const LARGEST: u64 = 1024 * 1024 * 1024;

/// What is left of a downloads folder.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Files of a kind that is kept which were not what they should be, relative to the folder; at most 20 are named.
    pub refused: Vec<PathBuf>,
    /// How many these were.
    pub refusals: u64,
}

impl Kept {
    fn refuse(&mut self, path: PathBuf) {
        self.refusals += 1;
        if self.refused.len() < 20 {
            self.refused.push(path);
        }
    }
}

/// Removes from `downloads` (`HOME/.downloads` as a build left it) everything that may not be kept, and every file that
/// is not what its name or the committed lockfiles say. No folder there is no error, and keeps nothing.
///
/// The folder is written by builds: it is touched through [`tree`] only, no link is followed, and no folder is entered
/// that no manager makes. Call it when no step can write there any more and no view shows it.
///
/// # Errors
/// When the folder can't be read or a file can't be removed; then it must not be kept.
pub fn clean(downloads: &Path, lockfiles: &Lockfiles) -> Result<Kept, TreeError> {
    let dir = match Dir::open(downloads) {
        Err(error) if error.is_not_found() => return Ok(Kept::default()),
        answer => answer?,
    };
    let found = sort(downloads)?;
    for path in &found.dropped {
        dir.remove(path)?;
    }
    let mut kept = Kept::default();
    for (path, bytes, check) in found.checked {
        if holds(&dir, &path, &check, lockfiles) {
            kept.files += 1;
            kept.bytes += bytes;
        } else {
            dir.remove(&path)?;
            kept.refuse(path);
        }
    }
    // The deepest first: a folder whose folders went may be empty now.
    for folder in found.folders.iter().rev() {
        dir.remove_if_empty(folder)?;
    }
    Ok(kept)
}

/// A file in `downloads` (`HOME/.downloads` of a layer) that these lockfiles mean something else by, relative to it.
///
/// Both yarns take a file of theirs by its name and fail when its digest is not the lockfile's, which is so after a
/// registry replaced a version: nobody else would see an error, so a layer with such a file must not be used. Only what
/// the lockfiles name is read. `None` where all fits, and where there is no folder.
pub fn contradiction(downloads: &Path, lockfiles: &Lockfiles) -> Option<PathBuf> {
    let dir = Dir::open(downloads).ok()?;
    [(Path::new("yarn-mirror"), Check::Mirrored), (Path::new("yarn/cache"), Check::Zip)].into_iter().find_map(
        |(folder, check)| {
            let names = dir.open_dir(folder).and_then(|folder| folder.names()).unwrap_or_default();
            let asked = names.into_iter().filter(|name| name.to_str().is_some_and(|name| lockfiles.names(name)));
            asked.map(|name| folder.join(name)).find(|path| !holds(&dir, path, &check, lockfiles))
        },
    )
}

/// The directories beneath HOME, beside `.cache`, into which what `tool` of `version` installed points: they belong to the
/// snapshot of the packages.
///
/// yarn's `PnP` files name the zips of its global cache (yarnpkg.com, `enableGlobalCache`); pnpm's `node_modules` are links
/// into its store where a repository asks for `enableGlobalVirtualStore` (pnpm.io).
pub fn belongs_to_packages(tool: &str, version: &str) -> &'static [&'static str] {
    let major = version.split('.').next().and_then(|major| major.parse::<u64>().ok()).unwrap_or(0);
    match (tool, major) {
        ("yarn", 2..) => &[".downloads/yarn/cache"],
        ("pnpm", 10..) => &[".downloads/pnpm/v10/links", ".downloads/pnpm/v11/links"],
        _ => &[],
    }
}

/// How a file is known to be what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Check {
    /// A tarball with this digest.
    Tarball(Expected),
    /// Anything with this digest.
    Digest(Expected),
    /// A tarball whose digest stands in a lockfile.
    Mirrored,
    /// A zip whose digest stands in a lockfile.
    Zip,
    /// pnpm's list of a package's files.
    Index,
    /// pnpm's lists in one database, which is not opened here: SQLite's reader is not made for hostile files.
    Database,
}

/// A digest in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Expected {
    Sha1(String),
    Sha512(String),
}

/// What was found in a downloads folder. Paths are relative to it.
#[derive(Default)]
struct Found {
    dropped: Vec<PathBuf>,
    checked: Vec<(PathBuf, u64, Check)>,
    folders: Vec<PathBuf>,
}

fn sort(downloads: &Path) -> Result<Found, TreeError> {
    let mut found = Found::default();
    let mut entries = 0;
    tree::walk(downloads, |entry: &Entry| {
        entries += 1;
        if entries > MOST_ENTRIES {
            return Visit::Stop;
        }
        let parts: Option<Vec<&str>> = entry.path.iter().map(|part| part.to_str()).collect();
        let parts = parts.unwrap_or_default();
        match entry.kind {
            Kind::Dir if leads_to_kept(&parts) => {
                found.folders.push(entry.path.clone());
                return Visit::Continue;
            }
            Kind::File if entry.size <= LARGEST => match check_of(&parts) {
                Some(check) => found.checked.push((entry.path.clone(), entry.size, check)),
                None => found.dropped.push(entry.path.clone()),
            },
            // An overlay's mark of a removal is one of these; without it a verified file below is seen again.
            Kind::Dir | Kind::File | Kind::Link | Kind::Other => found.dropped.push(entry.path.clone()),
        }
        Visit::Skip
    })?;
    if entries > MOST_ENTRIES {
        let everything = Dir::open(downloads)?.names()?;
        return Ok(Found { dropped: everything.into_iter().map(PathBuf::from).collect(), ..Found::default() });
    }
    Ok(found)
}

/// Whether a folder may hold something that is kept.
fn leads_to_kept(parts: &[&str]) -> bool {
    match parts {
        ["npm"] | ["npm", "_cacache"] | ["npm", "_cacache", "content-v2"] | ["yarn-mirror"] => true,
        ["npm", "_cacache", "content-v2", algorithm, rest @ ..] => {
            ["sha1", "sha512"].contains(algorithm) && rest.len() <= 2
        }
        ["yarn"] | ["yarn", "cache"] | ["pnpm"] => true,
        ["pnpm", "v3" | "v10" | "v11"] | ["pnpm", "v3" | "v10" | "v11", "files"] => true,
        ["pnpm", "v3" | "v10" | "v11", "files", _] => true,
        ["pnpm", "v10", "index"] | ["pnpm", "v10", "index", _] => true,
        _ => false,
    }
}

/// How the file at this place is verified; `None` where it is nothing that is kept.
fn check_of(parts: &[&str]) -> Option<Check> {
    let sha512 = |text: String| is_hex(&text, 128).then_some(Expected::Sha512(text));
    match parts {
        ["npm", "_cacache", "content-v2", "sha512", a, b, rest] => {
            sha512([a, b, rest].map(|s| *s).concat()).map(Check::Tarball)
        }
        ["npm", "_cacache", "content-v2", "sha1", a, b, rest] => {
            let text = [*a, *b, *rest].concat();
            is_hex(&text, 40).then_some(Check::Tarball(Expected::Sha1(text)))
        }
        ["yarn-mirror", name] => name.ends_with("gz").then_some(Check::Mirrored),
        ["yarn", "cache", name] => name.ends_with(".zip").then_some(Check::Zip),
        ["pnpm", "v3", "files", _, name] if name.ends_with("-index.json") => Some(Check::Index),
        ["pnpm", "v3" | "v10" | "v11", "files", a, rest] => {
            let rest = rest.strip_suffix("-exec").unwrap_or(rest);
            sha512([*a, rest].concat()).map(Check::Digest)
        }
        ["pnpm", "v10", "index", _, name] => name.ends_with(".json").then_some(Check::Index),
        ["pnpm", "v11", "index.db"] => Some(Check::Database),
        _ => None,
    }
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Whether a file is what it should be; one that can't be read is not.
fn holds(dir: &Dir, path: &Path, check: &Check, lockfiles: &Lockfiles) -> bool {
    let Ok(mut file) = dir.open_file(path) else { return false };
    // A second name could be written through by whoever holds it.
    if file.metadata().map_or(true, |meta| meta.nlink() != 1) {
        return false;
    }
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let answer = match check {
        Check::Tarball(expected) => is_digest(&mut file, expected, GZIP),
        Check::Digest(expected) => is_digest(&mut file, expected, &[]),
        Check::Mirrored => digests(&mut file, GZIP)
            .map(|both| both.is_some_and(|both| lockfiles.knows_tarball(name, &both.1, &both.0))),
        Check::Zip => digests(&mut file, &[]).map(|both| both.is_some_and(|both| lockfiles.knows_zip(name, &both.1))),
        Check::Index => return dir.read_file(path, LARGEST_INDEX).is_ok_and(|bytes| is_index(&bytes)),
        Check::Database => starts_with(&mut file, b"SQLite format 3\0"),
    };
    answer.unwrap_or(false)
}

/// How a gzip file begins (RFC 1952). cacache keeps the registry's documents among the tarballs, and they are not kept.
const GZIP: &[u8] = &[0x1f, 0x8b];

fn is_digest(file: &mut File, expected: &Expected, magic: &[u8]) -> io::Result<bool> {
    Ok(digests(file, magic)?.is_some_and(|(sha1, sha512)| match expected {
        Expected::Sha1(hex) => *hex == sha1,
        Expected::Sha512(hex) => *hex == sha512,
    }))
}

/// SHA-1 and SHA-512 in hexadecimal of a file that starts with `magic`.
fn digests(file: &mut File, magic: &[u8]) -> io::Result<Option<(String, String)>> {
    let (mut sha1, mut sha512) = (Sha1::new(), Sha512::new());
    let mut buffer = vec![0; 64 * 1024];
    let mut start = vec![0; magic.len()];
    if !magic.is_empty() && (file.read_exact(&mut start).is_err() || start != magic) {
        return Ok(None);
    }
    sha1.update(&start);
    sha512.update(&start);
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(Some((hex::encode(sha1.finalize()), hex::encode(sha512.finalize()))));
        }
        sha1.update(&buffer[..read]);
        sha512.update(&buffer[..read]);
    }
}

fn starts_with(file: &mut File, magic: &[u8]) -> io::Result<bool> {
    let mut start = vec![0; magic.len()];
    Ok(file.read_exact(&mut start).is_ok() && start == magic)
}

/// Whether pnpm's list names files by sound digests only, within the package, and nothing that an install script made:
/// that follows from no download at all (pnpm.io, `sideEffectsCache`).
fn is_index(bytes: &[u8]) -> bool {
    let Ok(index) = serde_json::from_slice::<Value>(bytes) else { return false };
    let is_bare = ["sideEffects", "side_effects"].iter().all(|key| index.get(key).is_none_or(is_empty));
    let files = index.get("files").and_then(Value::as_object);
    is_bare && files.is_some_and(|files| files.iter().all(|(path, file)| is_within(path) && is_sound(file)))
}

fn is_empty(value: &Value) -> bool {
    value.is_null() || value.as_object().is_some_and(|object| object.is_empty())
}

fn is_within(path: &str) -> bool {
    !path.starts_with('/') && path.split('/').all(|part| part != "..")
}

fn is_sound(file: &Value) -> bool {
    file.get("integrity").and_then(Value::as_str).is_some_and(|integrity| lockfile::sha512_of(integrity).is_some())
}

#[cfg(test)]
mod tests;

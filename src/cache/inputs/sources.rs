//! The checked-out files as a key sees them: read beneath their root, links followed only inside it.

use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::NotKept;
use crate::domain::listing::joined;
use crate::domain::snapshot::Inputs;
use crate::tree::{self, Dir, Kind, TreeError, Visit};

/// A file larger than this is no input: whoever names one means something else.
const MAX_FILE: u64 = 256 << 20;
/// Links that lead to links: more than these are a circle.
const MAX_LINKS: usize = 5;
/// So many files of a folder are inputs of their own, which `cache explain` can name; more are one together.
const MAX_NAMED: usize = 64;
/// Folders whose contents are made, not written.
const MADE: [&str; 3] = ["node_modules", "bower_components", ".git"];

/// The root of a checked-out tree.
pub(super) struct Sources<'a> {
    root: &'a Path,
    dir: Dir,
}

impl<'a> Sources<'a> {
    pub(super) fn open(root: &'a Path) -> Result<Self, NotKept> {
        Ok(Self { root, dir: Dir::open(root)? })
    }

    /// The contents of a file; `None` where there is none. A link counts as the file of the same tree that it leads to.
    pub(super) fn read(&self, path: &str) -> Result<Option<Vec<u8>>, NotKept> {
        let mut at = path.to_owned();
        for _ in 0..MAX_LINKS {
            match self.dir.read_file(Path::new(&at), MAX_FILE) {
                Ok(bytes) => return Ok(Some(bytes)),
                Err(TreeError::NotAFile { .. }) => return Ok(None),
                Err(TreeError::Link { .. }) => match self.follow(&at) {
                    Some(next) => at = next,
                    None => return Err(NotKept::Link { path: path.to_owned() }),
                },
                Err(TreeError::Io { source, .. }) if is_absent(&source) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
        Err(NotKept::Link { path: path.to_owned() })
    }

    fn follow(&self, link: &str) -> Option<String> {
        let target = self.dir.read_link(Path::new(link)).ok()?;
        joined(parent(link), std::str::from_utf8(&target).ok()?)
    }

    /// Adds a file by its contents, under its own path; tells whether it is there.
    pub(super) fn add(&self, inputs: &mut Inputs, path: &str) -> Result<bool, NotKept> {
        if inputs.0.iter().any(|input| input.name == path) {
            return Ok(true);
        }
        let Some(bytes) = self.read(path)? else { return Ok(false) };
        inputs.add_bytes(path, &bytes);
        Ok(true)
    }

    /// True when anybody may execute the file.
    pub(super) fn is_executable(&self, path: &str) -> bool {
        use std::os::unix::fs::PermissionsExt;
        let file = self
            .dir
            .open_file(Path::new(path))
            .and_then(|file| file.metadata().map_err(|source| TreeError::Io { path: PathBuf::from(path), source }));
        file.is_ok_and(|metadata| metadata.permissions().mode() & 0o111 == 0o111)
    }

    /// True when there is a folder at `path`, not behind a link.
    pub(super) fn is_dir(&self, path: &str) -> bool {
        self.dir.open_dir(Path::new(if path == "." { "" } else { path })).is_ok()
    }

    /// Adds every file that a glob means, by contents. What is made by builds is left out.
    pub(super) fn add_glob(&self, inputs: &mut Inputs, glob: &str) -> Result<(), NotKept> {
        let plain = |part: &&str| !part.contains(['*', '?', '[', '{', '\\', '!']);
        let folder: Vec<&str> = glob.split('/').take_while(plain).collect();
        let folder = folder.join("/");
        if folder == glob && !self.is_dir(glob) {
            // One that is not there is an input, too: a script may ask for it.
            if !self.add(inputs, glob)? {
                inputs.add(glob, "not there");
            }
            return Ok(());
        }
        // A folder's name alone means all that is in it.
        self.add_folder(inputs, glob, &folder, |path| folder == glob || fast_glob::glob_match(glob, path))
    }

    /// Adds the files of a folder for which `wanted` holds, under their paths; `name` stands for many.
    pub(super) fn add_folder(
        &self,
        inputs: &mut Inputs,
        name: &str,
        folder: &str,
        wanted: impl Fn(&str) -> bool,
    ) -> Result<(), NotKept> {
        // Asked first, since the walk opens its root by a whole path and would follow a link.
        if !self.is_dir(if folder.is_empty() { "." } else { folder }) {
            return Ok(());
        }
        let mut found: Vec<(String, Kind)> = Vec::new();
        tree::walk(&self.root.join(folder), |entry| {
            let name = entry.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if entry.kind == Kind::Dir {
                return if MADE.contains(&name) { Visit::Skip } else { Visit::Continue };
            }
            let below = entry.path.to_string_lossy();
            let path = if folder.is_empty() { below.into_owned() } else { format!("{folder}/{below}") };
            if matches!(entry.kind, Kind::File | Kind::Link) && wanted(&path) {
                found.push((path, entry.kind));
            }
            Visit::Continue
        })?;
        let mut together = Sha256::new();
        let many = found.len() > MAX_NAMED;
        for (path, kind) in found {
            let bytes = match kind {
                Kind::Link => self.dir.read_link(Path::new(&path))?,
                _ => self.read(&path)?.unwrap_or_default(),
            };
            if many {
                together.update((path.len() as u64).to_le_bytes());
                together.update(&path);
                together.update((bytes.len() as u64).to_le_bytes());
                together.update(&bytes);
            } else if !inputs.0.iter().any(|input| input.name == path) {
                inputs.add_bytes(path, &bytes);
            }
        }
        if many {
            inputs.add(format!("all of {name}"), format!("sha256:{}", hex::encode(together.finalize())));
        }
        Ok(())
    }
}

fn is_absent(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{IsADirectory, NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory | IsADirectory)
}

/// A path inside a folder of the tree; `.` is the root.
pub(super) fn inside(dir: &str, file: &str) -> String {
    if dir == "." { file.to_owned() } else { format!("{dir}/{file}") }
}

/// The folder of a path; `.` is the root.
pub(super) fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or(".", |(folder, _)| folder)
}

/// A folder and those above it, up to the root.
pub(super) fn upwards(dir: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(dir), |dir| (*dir != ".").then(|| parent(dir)))
}

//! A folder that every machine mounts, as over NFS.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek as _, SeekFrom};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::Object;

/// Before the name of what is still being written.
const UNFINISHED: char = '.';

#[derive(Debug)]
pub(super) struct Folder {
    dir: PathBuf,
}

impl Folder {
    pub(super) fn new(dir: PathBuf) -> Self {
        Folder { dir }
    }

    /// Whether it is there: it is mounted by whoever runs the machine.
    pub(super) fn examine(&self) -> io::Result<()> {
        fs::read_dir(&self.dir).map(drop)
    }

    // Written beside its place and renamed: a reader on another machine sees all of it or nothing.
    pub(super) fn put(&self, key: &str, mut content: impl Read) -> io::Result<()> {
        let place = self.dir.join(key);
        let (Some(folder), Some(name)) = (place.parent(), place.file_name()) else {
            return Err(io::Error::other("a key names a file"));
        };
        // Made here, and not by the operator: only the mounted folder itself must be there, lest an unmounted one be filled.
        fs::metadata(&self.dir)?;
        DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        let unfinished = folder.join(format!("{UNFINISHED}{}-{}", name.to_string_lossy(), std::process::id()));
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
        io::copy(&mut content, &mut file)?;
        fs::rename(unfinished, place)
    }

    pub(super) fn get(&self, key: &str, from: u64) -> io::Result<Option<Box<dyn Read>>> {
        match File::open(self.dir.join(key)) {
            Ok(mut file) => {
                file.seek(SeekFrom::Start(from))?;
                Ok(Some(Box::new(file)))
            }
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(other) => Err(other),
        }
    }

    pub(super) fn list(&self, prefix: &str) -> io::Result<Vec<Object>> {
        let mut found = Vec::new();
        walk(&self.dir.join(prefix), prefix.trim_end_matches('/'), &mut found)?;
        Ok(found)
    }

    /// Folders that become empty go as well, up to the build's own.
    pub(super) fn remove(&self, key: &str) -> io::Result<()> {
        let place = self.dir.join(key);
        match fs::remove_file(&place) {
            Err(gone) if gone.kind() == io::ErrorKind::NotFound => {}
            removed => removed?,
        }
        let levels = key.matches('/').count().saturating_sub(1);
        for folder in place.ancestors().skip(1).take(levels) {
            // One that is not empty stays, which is what tells us to stop.
            if fs::remove_dir(folder).is_err() {
                break;
            }
        }
        Ok(())
    }
}

fn walk(dir: &Path, key: &str, found: &mut Vec<Object>) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let key = format!("{key}/{name}");
        match entry.metadata() {
            _ if name.starts_with(UNFINISHED) => {}
            Ok(about) if about.is_dir() => walk(&entry.path(), &key, found)?,
            Ok(about) => found.push(Object { key, bytes: about.len() }),
            // Compacted away while we looked.
            Err(gone) if gone.kind() == io::ErrorKind::NotFound => {}
            Err(other) => return Err(other),
        }
    }
    Ok(())
}

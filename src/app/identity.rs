//! Who a data directory belongs to: one process at a time, under an identity that outlives it.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

const NAME: &str = "agent.id";

/// Why a data directory can't be ours.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Another process works in it.
    #[error("another hookmill works in {}: give each process a [data] dir of its own", dir.display())]
    Held {
        /// The directory.
        dir: PathBuf,
    },
    /// Its identity can't be read or made.
    #[error("{} can't be read or made: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
}

/// A data directory that is ours for as long as this lives.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) id: String,
    // The lock is given back with the file, however this process ends.
    _file: File,
}

impl Identity {
    pub(super) fn take(dir: &Path) -> Result<Self, IdentityError> {
        let path = dir.join(NAME);
        let unreadable = |source| IdentityError::Unreadable { path: path.clone(), source };
        let mut file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(unreadable)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(IdentityError::Held { dir: dir.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(unreadable(source)),
        }
        let id = read_or_make(&mut file).map_err(unreadable)?;
        Ok(Identity { id, _file: file })
    }
}

fn read_or_make(file: &mut File) -> io::Result<String> {
    let mut text = String::new();
    file.read_to_string(&mut text)?;
    let is_whole = text.trim().len() == 32 && text.trim().bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_whole {
        return Ok(text.trim().to_owned());
    }
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(io::Error::other)?;
    let id = hex::encode(random);
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(format!("{id}\n").as_bytes())?;
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_process_and_keeps_its_identity() {
        let dir = tempfile::tempdir().expect("a folder");
        let first = Identity::take(dir.path()).expect("free");
        let refused = Identity::take(dir.path()).expect_err("taken").to_string();
        assert!(refused.contains("another hookmill works in") && refused.contains("[data] dir"), "{refused}");
        let id = first.id.clone();
        drop(first);
        assert_eq!(Identity::take(dir.path()).expect("free again").id, id);
        fs::write(dir.path().join(NAME), "half").expect("room");
        let anew = Identity::take(dir.path()).expect("a torn one is made anew").id;
        assert!(anew.len() == 32 && anew != id);
    }
}

//! One process a database: an advisory lock on a file beside it, which the kernel gives back when its holder dies.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};

use crate::store::OpenError;

/// The lock; dropping it lets another process open the database.
#[derive(Debug)]
pub(in crate::store) struct ProcessLock {
    _file: File,
}

impl ProcessLock {
    /// Takes the lock of the database at `path`, or names the process that holds it.
    pub(in crate::store) fn take(path: &Path) -> Result<Self, OpenError> {
        let lock_path = beside(path);
        let failed = |source| OpenError::Lock { path: lock_path.clone(), source };
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&lock_path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // The file may be empty for the instant between the holder's lock and its word.
                file.read_to_string(&mut holder).map_err(failed)?;
                return Err(OpenError::Held { path: path.to_owned(), pid: holder.trim().parse().ok() });
            }
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        file.set_len(0).map_err(failed)?;
        file.rewind().map_err(failed)?;
        writeln!(file, "{}", std::process::id()).map_err(failed)?;
        Ok(Self { _file: file })
    }
}

fn beside(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    PathBuf::from(name)
}

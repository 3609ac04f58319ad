//! Who uses a layer: flock(2) on its `lease` file, shared by users and exclusive for its removal.
//!
//! A lock goes with the process that holds it, however that ends; nobody has to clean up after a crash.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

/// The file in a layer's folder.
const FILE: &str = "lease";

/// A layer that nobody removes while this lives.
#[derive(Debug)]
pub(super) struct Lease {
    file: File,
}

/// What came of asking for a layer alone.
pub(super) enum Alone {
    /// Nobody else has it.
    Yes(Lease),
    /// Somebody uses it.
    InUse,
    /// It is not there.
    Gone,
}

impl Lease {
    /// Makes the lease of a new layer and shares it; `None` if the layer was taken for a left one meanwhile and removed.
    pub(super) fn make(layer: &Path) -> io::Result<Option<Self>> {
        let Some(file) = present(create(layer))? else { return Ok(None) };
        lock(&file, FlockOperation::LockShared)?;
        Ok(is_there(&file, layer)?.then_some(Self { file }))
    }

    /// Shares the lease of a layer; `None` if there is no such layer any more. Waits while another is removing it, which
    /// is a rename.
    pub(super) fn share(layer: &Path) -> io::Result<Option<Self>> {
        let Some(file) = open(layer)? else { return Ok(None) };
        lock(&file, FlockOperation::LockShared)?;
        Ok(is_there(&file, layer)?.then_some(Self { file }))
    }

    /// Takes the lease alone, without waiting.
    pub(super) fn alone(layer: &Path) -> io::Result<Alone> {
        Self::alone_of(open(layer)?, layer)
    }

    /// As [`Lease::alone`], of a layer that may not have its lease yet: it is made, so that whoever makes the layer and
    /// whoever clears it away meet at the same file.
    pub(super) fn alone_unfinished(layer: &Path) -> io::Result<Alone> {
        Self::alone_of(present(create(layer))?, layer)
    }

    fn alone_of(file: Option<File>, layer: &Path) -> io::Result<Alone> {
        let Some(file) = file else { return Ok(Alone::Gone) };
        if !try_alone(&file)? {
            return Ok(Alone::InUse);
        }
        Ok(if is_there(&file, layer)? { Alone::Yes(Self { file }) } else { Alone::Gone })
    }

    /// Makes a shared lease one alone; `false` if another shares it. flock(2) lets go of the old lock before it asks for
    /// the new, so this lease is worth nothing after `false`.
    pub(super) fn into_alone(self, layer: &Path) -> io::Result<Option<Self>> {
        Ok((try_alone(&self.file)? && is_there(&self.file, layer)?).then_some(self))
    }
}

fn open(layer: &Path) -> io::Result<Option<File>> {
    present(File::open(layer.join(FILE)))
}

fn create(layer: &Path) -> io::Result<File> {
    File::options().create(true).truncate(false).write(true).open(layer.join(FILE))
}

fn present(file: io::Result<File>) -> io::Result<Option<File>> {
    match file {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        answer => answer.map(Some),
    }
}

/// The layer may have been moved away between opening its file and locking it.
fn is_there(file: &File, layer: &Path) -> io::Result<bool> {
    match std::fs::metadata(layer.join(FILE)) {
        Ok(now) => file.metadata().map(|then| (then.dev(), then.ino()) == (now.dev(), now.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn lock(file: &File, how: FlockOperation) -> io::Result<()> {
    loop {
        match rustix::fs::flock(file, how) {
            Err(Errno::INTR) => {}
            answer => return answer.map_err(io::Error::from),
        }
    }
}

fn try_alone(file: &File) -> io::Result<bool> {
    match lock(file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}

//! What builds leave for people: reports, bundles, screenshots.
//!
//! `<artifacts>/<build>/` holds `index.json` and one numbered file an artifact. It is filled under another name and
//! renamed once it is whole, so a kept build is never half there. A name that a build chose is only ever a text in the
//! index, never a path on this disk.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::depot::Depot;
use super::ship::artifacts_of;
use super::{FETCHED, numbered, remove_dir};
use crate::domain::build::BuildId;

const INDEX: &str = "index.json";
/// Before the name of what is still being filled.
const UNFINISHED: &str = "unfinished-";

/// One kept file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// From the root of the build's tree, with `/`.
    pub path: String,
    /// Its size.
    pub bytes: u64,
}

/// The folder of all builds' artifacts. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Artifacts {
    dir: Arc<Path>,
}

impl Artifacts {
    /// Those beneath `dir` (`<data>/artifacts`), which need not exist yet.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Artifacts { dir: dir.into().into() }
    }

    /// Begins to keep files of a build. Nothing of it can be read until [`Filling::finish`].
    ///
    /// # Errors
    /// The disk's.
    pub fn fill(&self, build: BuildId) -> io::Result<Filling> {
        let dir = self.dir.join(format!("{UNFINISHED}{build}"));
        remove_dir(&dir)?;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        Ok(Filling { dir, whole: self.build_dir(build), kept: Vec::new(), finished: false })
    }

    /// What is kept of a build, in the order in which it was added; empty when nothing is.
    ///
    /// # Errors
    /// The disk's, or an index that is none.
    pub fn list(&self, build: BuildId) -> io::Result<Vec<Artifact>> {
        match fs::read(self.build_dir(build).join(INDEX)) {
            Ok(text) => Ok(serde_json::from_slice(&text)?),
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(other) => Err(other),
        }
    }

    /// Where the bytes of one artifact are on this disk, and how many.
    ///
    /// # Errors
    /// As [`Artifacts::list`].
    pub fn find(&self, build: BuildId, path: &str) -> io::Result<Option<(PathBuf, u64)>> {
        let listed = self.list(build)?;
        let found = listed.iter().enumerate().find(|(_, artifact)| artifact.path == path);
        Ok(found.map(|(number, artifact)| (self.build_dir(build).join(number.to_string()), artifact.bytes)))
    }

    /// Removes what is kept of a build. A build of which nothing is kept is fine.
    ///
    /// # Errors
    /// The disk's.
    pub fn remove(&self, build: BuildId) -> io::Result<()> {
        remove_dir(&self.build_dir(build))
    }

    /// Removes what was never finished, because this program ended on the way. Only while no build runs.
    ///
    /// # Errors
    /// The disk's.
    pub fn remove_unfinished(&self) -> io::Result<()> {
        let entries = match fs::read_dir(&self.dir) {
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            if entry.file_name().as_encoded_bytes().starts_with(UNFINISHED.as_bytes()) {
                remove_dir(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Every build of which something is kept, in no order.
    ///
    /// # Errors
    /// The disk's.
    pub fn builds(&self) -> io::Result<Vec<BuildId>> {
        Ok(numbered(&self.dir)?.into_iter().filter_map(|id| i64::try_from(id).ok().map(BuildId)).collect())
    }

    /// Brings what was kept here of a build to the shared place, the list last; the answer is how many there are.
    pub(super) fn ship(&self, build: BuildId, depot: &Depot) -> io::Result<usize> {
        let (dir, there) = (self.build_dir(build), artifacts_of(build));
        let listed = self.list(build)?.len();
        if listed == 0 || dir.join(FETCHED).exists() {
            return Ok(0);
        }
        for name in (0..listed).map(|number| number.to_string()).chain([INDEX.to_owned()]) {
            depot.put_file(&format!("{there}{name}"), &File::open(dir.join(&name))?)?;
        }
        Ok(listed)
    }

    /// Brings the list of what was kept elsewhere, unless it is here.
    pub(super) fn fetch_list(&self, build: BuildId, depot: &Depot) -> io::Result<()> {
        let dir = self.build_dir(build);
        if dir.join(INDEX).exists() {
            return Ok(());
        }
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        fs::write(dir.join(FETCHED), b"")?;
        fetch_file(depot, &format!("{}{INDEX}", artifacts_of(build)), &dir, INDEX)
    }

    /// Brings one artifact of the list, unless it is here.
    pub(super) fn fetch(&self, build: BuildId, path: &str, depot: &Depot) -> io::Result<()> {
        let Some(number) = self.list(build)?.iter().position(|artifact| artifact.path == path) else { return Ok(()) };
        let (dir, name) = (self.build_dir(build), number.to_string());
        if dir.join(&name).exists() {
            return Ok(());
        }
        fetch_file(depot, &format!("{}{name}", artifacts_of(build)), &dir, &name)
    }

    fn build_dir(&self, build: BuildId) -> PathBuf {
        self.dir.join(build.to_string())
    }
}

/// Brings a file under its name, all or nothing. What is gone there is no fault: it was too old to keep.
fn fetch_file(depot: &Depot, key: &str, dir: &Path, name: &str) -> io::Result<()> {
    let Some(mut content) = depot.get(key, 0)? else { return Ok(()) };
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    io::copy(&mut content, &mut file)?;
    file.persist(dir.join(name))?;
    Ok(())
}

/// Artifacts of one build on their way. Dropped unfinished, it takes everything with it.
#[derive(Debug)]
pub struct Filling {
    dir: PathBuf,
    whole: PathBuf,
    kept: Vec<Artifact>,
    finished: bool,
}

impl Filling {
    /// Keeps the first `max_bytes` of `content` under `path`; answers with how many there were.
    ///
    /// # Errors
    /// Reading's or writing's; then nothing is kept of it.
    pub fn add(&mut self, path: String, content: File, max_bytes: u64) -> io::Result<u64> {
        let place = self.dir.join(self.kept.len().to_string());
        // A number that failed once may be taken again.
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(place)?;
        let bytes = io::copy(&mut content.take(max_bytes), &mut file)?;
        self.kept.push(Artifact { path, bytes });
        Ok(bytes)
    }

    /// Makes everything that was added readable at once, in the place of what was kept before.
    ///
    /// # Errors
    /// The disk's; then nothing is kept.
    pub fn finish(mut self) -> io::Result<()> {
        let mut index =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(self.dir.join(INDEX))?;
        index.write_all(&serde_json::to_vec(&self.kept)?)?;
        remove_dir(&self.whole)?;
        fs::rename(&self.dir, &self.whole)?;
        self.finished = true;
        Ok(())
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        if !self.finished
            && let Err(error) = remove_dir(&self.dir)
        {
            tracing::warn!(dir = %self.dir.display(), %error, "artifacts that were not finished could not be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(dir: &Path, text: &str) -> File {
        fs::write(dir.join("content"), text).expect("a file");
        File::open(dir.join("content")).expect("a file")
    }

    #[test]
    fn all_or_nothing_is_kept() {
        let dir = tempfile::tempdir().expect("a folder");
        let artifacts = Artifacts::new(dir.path().join("artifacts"));
        let build = BuildId(7);
        assert_eq!(artifacts.list(build).expect("readable"), []);
        let mut filling = artifacts.fill(build).expect("room");
        filling.add("dist/main.js".into(), content(dir.path(), "12345"), 100).expect("room");
        filling.add("../../etc/passwd".into(), content(dir.path(), "12345"), 3).expect("room");
        assert_eq!(artifacts.list(build).expect("readable"), []);
        filling.finish().expect("room");
        let kept = artifacts.list(build).expect("readable");
        assert_eq!(
            kept.iter().map(|one| (one.path.as_str(), one.bytes)).collect::<Vec<_>>(),
            [("dist/main.js", 5), ("../../etc/passwd", 3)]
        );
        let (place, bytes) = artifacts.find(build, "../../etc/passwd").expect("readable").expect("kept");
        assert!(place.starts_with(dir.path()) && bytes == 3);
        assert_eq!(fs::read_to_string(place).expect("kept"), "123");
        assert_eq!(artifacts.find(build, "0").expect("readable"), None);
        assert_eq!(artifacts.builds().expect("readable"), [build]);
        artifacts.remove(build).expect("removable");
        assert_eq!(artifacts.builds().expect("readable"), []);
    }

    #[test]
    fn what_a_crash_left_is_removed() {
        let dir = tempfile::tempdir().expect("a folder");
        let artifacts = Artifacts::new(dir.path());
        artifacts.remove_unfinished().expect("nothing to do");
        let mut filling = artifacts.fill(BuildId(1)).expect("room");
        filling.add("a".into(), content(dir.path(), "1"), 100).expect("room");
        // A process that is killed drops nothing.
        std::mem::forget(filling);
        assert!(dir.path().join("unfinished-1").exists());
        assert_eq!(artifacts.builds().expect("readable"), []);
        artifacts.remove_unfinished().expect("removable");
        assert!(!dir.path().join("unfinished-1").exists());
    }
}

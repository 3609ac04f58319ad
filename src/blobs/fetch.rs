//! Brings here what builds elsewhere wrote: logs as they grow, artifacts when somebody asks for them.
//!
//! What is fetched lies in the same folders as what is written here, in the same form, and is read by the same code. A
//! mark beside it says where it came from.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::depot::{Depot, Object};
use super::ship::{Part, length, log_of, logs_of, reach};
use super::{Artifacts, FETCHED, JOURNAL, Logs, SETTLED, WHOLE, Whole, remove_dir};
use crate::domain::build::BuildId;

/// Readers of the same build share what was found within this time.
const FRESH: Duration = Duration::from_millis(300);
/// Builds that nobody asked about for so long are forgotten.
const STALE: Duration = Duration::from_secs(60);

/// How much of a build's log is on this disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// All there is: it is written here, or was fetched whole.
    Here,
    /// There is, or will be, more of it elsewhere.
    Partly,
}

/// The part that fetches. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Fetcher {
    logs: Logs,
    artifacts: Artifacts,
    depot: Option<Depot>,
    looked: Arc<Mutex<HashMap<BuildId, Arc<Mutex<Look>>>>>,
    is_away: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Look {
    at: Instant,
    found: Option<Presence>,
}

impl Fetcher {
    /// Into these folders; without a shared place nothing is ever fetched.
    pub fn new(logs: Logs, artifacts: Artifacts, depot: Option<Depot>) -> Self {
        Fetcher { logs, artifacts, depot, looked: Arc::default(), is_away: Arc::default() }
    }

    /// Whether there is a shared place.
    pub fn is_shared(&self) -> bool {
        self.depot.is_some()
    }

    /// Brings what is new of a build's log. `is_settled`: the build was finished before this call, so that nobody claims
    /// it any more. A place that does not answer is told once, and what is here stays readable.
    pub fn bring(&self, build: BuildId, is_settled: bool) -> Presence {
        let Some(depot) = &self.depot else { return Presence::Here };
        if self.logs.writing.is_open(build) {
            return Presence::Here;
        }
        let look = self.look(build);
        let mut look = look.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = look.found.filter(|_| look.at.elapsed() < FRESH) {
            return found;
        }
        let found = self.told(self.fetch(depot, build, is_settled)).unwrap_or(Presence::Partly);
        *look = Look { at: Instant::now(), found: Some(found) };
        found
    }

    /// Brings the list of a finished build's artifacts, whose log is here whole.
    pub fn bring_list(&self, build: BuildId) {
        let Some(depot) = &self.depot else { return };
        self.told(self.logs.whole(build).and_then(|whole| match whole {
            Some(Whole { artifacts }) if artifacts > 0 => self.artifacts.fetch_list(build, depot),
            _ => Ok(()),
        }));
    }

    /// Brings one artifact that the list names.
    ///
    /// # Errors
    /// The shared place's, and the disk's.
    pub fn bring_artifact(&self, build: BuildId, path: &str) -> io::Result<()> {
        match &self.depot {
            Some(depot) => self.artifacts.fetch(build, path, depot),
            None => Ok(()),
        }
    }

    fn told<T>(&self, result: io::Result<T>) -> Option<T> {
        match result {
            Ok(found) => {
                self.is_away.store(false, Ordering::Relaxed);
                Some(found)
            }
            Err(error) => {
                if !self.is_away.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "logs of other machines can't be fetched at this moment");
                }
                None
            }
        }
    }

    fn look(&self, build: BuildId) -> Arc<Mutex<Look>> {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        looked.retain(|_, look| Arc::strong_count(look) > 1 || look.lock().is_ok_and(|look| look.at.elapsed() < STALE));
        let new = || Arc::new(Mutex::new(Look { at: Instant::now(), found: None }));
        Arc::clone(looked.entry(build).or_insert_with(new))
    }

    fn fetch(&self, depot: &Depot, build: BuildId, is_settled: bool) -> io::Result<Presence> {
        let local = self.logs.newest_claim(build)?;
        if local.is_some_and(|claim| self.logs.claim_dir(build, claim).join(SETTLED).exists()) {
            return Ok(Presence::Here);
        }
        let there = depot.list(&logs_of(build))?;
        let Some(newest) = there.iter().filter_map(|object| object.number(&logs_of(build))).max() else {
            return Ok(if local.is_some() { Presence::Here } else { Presence::Partly });
        };
        let own = local.filter(|&claim| !self.logs.claim_dir(build, claim).join(FETCHED).exists());
        if own.is_some_and(|own| own >= newest) {
            if is_settled && own == Some(newest) {
                mark(&self.logs.claim_dir(build, newest), SETTLED, b"")?;
            }
            return Ok(Presence::Here);
        }
        let dir = self.logs.claim_dir(build, newest);
        if local != Some(newest) {
            // What an older claim left here is nobody's last word.
            self.artifacts.remove(build)?;
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
            mark(&dir, FETCHED, b"")?;
            for older in self.logs.claims(build)?.into_iter().filter(|&other| other < newest) {
                remove_dir(&self.logs.claim_dir(build, older))?;
            }
        }
        let log = log_of(build, newest);
        let Some(whole) = fetch_claim(depot, &log, &dir, &there)? else { return Ok(Presence::Partly) };
        mark(&dir, WHOLE, &whole)?;
        if !is_settled {
            return Ok(Presence::Partly);
        }
        mark(&dir, SETTLED, b"")?;
        Ok(Presence::Here)
    }
}

/// Brings what is new of a claim's log, of which `before` was there a moment ago. The content of its `whole`, if that
/// was there by then: it is put after everything else, and so everything else is seen now.
fn fetch_claim(depot: &Depot, log: &str, dir: &Path, before: &[Object]) -> io::Result<Option<Vec<u8>>> {
    // The journal's end is taken first, and its bytes last: so it never speaks of what is not here yet.
    let journal: Vec<Part> = parts_of(before, log).filter(|part| part.file == JOURNAL).collect();
    let end = reach(journal.iter());
    let whole = before.iter().find(|object| object.key == format!("{log}{WHOLE}"));
    if whole.is_none() && end <= length(&dir.join(JOURNAL))? {
        return Ok(None);
    }
    let mut files: BTreeMap<String, Vec<Part>> = BTreeMap::new();
    for part in parts_of(&depot.list(log)?, log).filter(|part| part.file != JOURNAL) {
        files.entry(part.file.clone()).or_default().push(part);
    }
    for (name, parts) in &files {
        if !append(depot, &dir.join(name), parts)? {
            return Ok(None);
        }
    }
    if !append(depot, &dir.join(JOURNAL), &journal)? {
        return Ok(None);
    }
    let Some(whole) = whole else { return Ok(None) };
    let mut text = Vec::new();
    match depot.get(&whole.key, 0)? {
        Some(mut object) => object.read_to_end(&mut text).map(|_| Some(text)),
        None => Ok(None),
    }
}

fn parts_of<'o>(objects: &'o [Object], log: &'o str) -> impl Iterator<Item = Part> + use<'o> {
    objects.iter().filter_map(move |object| Part::of(object, log))
}

/// Appends to a file what parts have beyond its end. False when a part was gone: it became part of a larger one, which
/// the next look finds.
fn append(depot: &Depot, path: &Path, parts: &[Part]) -> io::Result<bool> {
    let mut file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    let mut at = file.metadata()?.len();
    while let Some(part) = parts.iter().find(|part| part.offset <= at && at < part.offset.saturating_add(part.bytes)) {
        let Some(mut content) = depot.get(&part.key, at - part.offset)? else { return Ok(false) };
        let copied = io::copy(&mut content.by_ref().take(part.offset + part.bytes - at), &mut file)?;
        if copied == 0 {
            return Ok(false);
        }
        at += copied;
    }
    Ok(true)
}

fn mark(dir: &Path, name: &str, text: &[u8]) -> io::Result<()> {
    let path: PathBuf = dir.join(name);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text)
}

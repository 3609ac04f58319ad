//! Brings what this process writes to the shared place, so that every server can show it.
//!
//! Builds write to local files and know nothing of this. What those files gained is put there as objects
//! `logs/<build>/<claim>/<file>/<offset>`, the journal last: it never speaks of bytes that are not there. When a log is
//! closed, each file becomes one object at offset 0, and `whole` is put beside them. A place that is away holds nobody
//! up: the local files are the backlog, and what an earlier process left is found on disk.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::depot::{Depot, Object};
use super::journal::{MAGIC, RECORD};
use super::writing::Claim;
use super::{Artifacts, FETCHED, JOURNAL, Logs, WHOLE, Whole};
use crate::domain::build::BuildId;

/// How often open logs are looked at.
const LOOK: Duration = Duration::from_millis(500);
/// Between two tries while the shared place is away.
const AWAY: Duration = Duration::from_secs(2);
const AWAY_LONG: Duration = Duration::from_secs(30);
/// A part of a log that grows.
const PART: u64 = 256 * 1024;
/// A part of a log that grew faster than it was shipped.
const LARGE_PART: u64 = 4 * 1024 * 1024;

/// The part that ships.
#[derive(Debug)]
pub struct Shipper {
    logs: Logs,
    artifacts: Artifacts,
    depot: Depot,
    under_way: BTreeMap<Claim, Shipment>,
    /// What an earlier process left was looked for.
    is_caught_up: bool,
    wait: Duration,
}

impl Shipper {
    /// From these folders to that place. Logs that are opened from now on are shipped.
    pub fn new(logs: Logs, artifacts: Artifacts, depot: Depot) -> Self {
        logs.writing.keep_closed();
        Shipper { logs, artifacts, depot, under_way: BTreeMap::new(), is_caught_up: false, wait: LOOK }
    }

    /// Ships until `stop`, and once more then: what is not through by that time is found at the next start.
    pub async fn run(mut self, stop: CancellationToken) {
        loop {
            let is_last = stop.is_cancelled();
            let round = tokio::task::spawn_blocking(move || {
                self.round();
                self
            });
            match round.await {
                Ok(shipper) => self = shipper,
                Err(_stopping) => return,
            }
            if is_last {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep(self.wait) => {}
                () = stop.cancelled() => {}
            }
        }
    }

    fn round(&mut self) {
        match self.ship_all() {
            Ok(()) => {
                if self.wait > LOOK {
                    tracing::info!("the blob store is back");
                }
                self.wait = LOOK;
            }
            Err(error) => {
                if self.wait == LOOK {
                    tracing::warn!(%error, "logs and artifacts can't be shared yet; builds go on, and are shared later");
                }
                self.wait = if self.wait == LOOK { AWAY } else { (self.wait * 2).min(AWAY_LONG) };
            }
        }
    }

    fn ship_all(&mut self) -> io::Result<()> {
        if !self.is_caught_up {
            for claim in self.left_behind()? {
                self.under_way.entry(claim).or_insert_with(|| Shipment::new(&self.logs, claim));
            }
            self.is_caught_up = true;
        }
        let open: BTreeMap<Claim, bool> = self.logs.writing.list().into_iter().collect();
        for &claim in open.keys() {
            self.under_way.entry(claim).or_insert_with(|| Shipment::new(&self.logs, claim));
        }
        let claims: Vec<Claim> = self.under_way.keys().copied().collect();
        for claim in claims {
            let is_open = open.get(&claim).copied().unwrap_or(false);
            let Some(shipment) = self.under_way.get_mut(&claim) else { continue };
            let is_there = shipment.dir.exists();
            if is_there {
                shipment.ship(&self.depot)?;
            }
            if !is_open {
                if is_there {
                    shipment.finish(&self.depot, &self.artifacts)?;
                }
                self.under_way.remove(&claim);
                self.logs.writing.forget(claim);
            }
        }
        Ok(())
    }

    /// Claims on this disk that were written here and never shipped whole.
    fn left_behind(&self) -> io::Result<Vec<Claim>> {
        let mut left = Vec::new();
        for build in self.logs.builds()? {
            for claim in self.logs.claims(build)? {
                let dir = self.logs.claim_dir(build, claim);
                if !dir.join(FETCHED).exists() && !dir.join(WHOLE).exists() {
                    left.push((build, claim));
                }
            }
        }
        Ok(left)
    }
}

/// What lies beneath a build's logs in the shared place.
pub(super) fn logs_of(build: BuildId) -> String {
    format!("logs/{build}/")
}

/// What lies beneath a claim's log there.
pub(super) fn log_of(build: BuildId, claim: u64) -> String {
    format!("logs/{build}/{claim}/")
}

/// What lies beneath a build's artifacts there.
pub(super) fn artifacts_of(build: BuildId) -> String {
    format!("artifacts/{build}/")
}

/// A part of a file, as it is named in the shared place.
pub(super) struct Part {
    pub(super) file: String,
    pub(super) offset: u64,
    pub(super) bytes: u64,
    pub(super) key: String,
}

impl Part {
    /// `None` for what is no part of a log.
    pub(super) fn of(object: &Object, log: &str) -> Option<Self> {
        let (file, offset) = object.key.strip_prefix(log)?.split_once('/')?;
        let is_safe = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        let is_ours = file.chars().all(is_safe) && !file.starts_with('.');
        let offset = offset.parse().ok().filter(|_| is_ours)?;
        Some(Part { file: file.to_owned(), offset, bytes: object.bytes, key: object.key.clone() })
    }
}

/// How far parts reach from the beginning, without a gap.
pub(super) fn reach<'p>(parts: impl Iterator<Item = &'p Part>) -> u64 {
    let mut parts: Vec<(u64, u64)> = parts.map(|part| (part.offset, part.offset + part.bytes)).collect();
    parts.sort_unstable();
    parts.into_iter().fold(0, |reach, (from, to)| if from <= reach { reach.max(to) } else { reach })
}

/// One claim's log on its way.
#[derive(Debug)]
struct Shipment {
    build: BuildId,
    claim: u64,
    dir: PathBuf,
    /// What is there; `None` until it was asked.
    sent: Option<BTreeMap<String, Sent>>,
}

/// How much of a file is there.
#[derive(Debug, Default)]
struct Sent {
    bytes: u64,
    parts: Vec<String>,
}

impl Shipment {
    fn new(logs: &Logs, (build, claim): Claim) -> Self {
        Shipment { build, claim, dir: logs.claim_dir(build, claim), sent: None }
    }

    /// Ships what is new.
    fn ship(&mut self, depot: &Depot) -> io::Result<()> {
        if self.sent.is_none() {
            self.sent = Some(self.look(depot)?);
            self.forget_older(depot)?;
        }
        // First: what it speaks of is in the other files by now.
        let journal = whole_records(length(&self.dir.join(JOURNAL))?);
        for name in self.files()? {
            let upto = length(&self.dir.join(&name))?;
            self.ship_file(depot, &name, upto)?;
        }
        self.ship_file(depot, JOURNAL, journal)
    }

    /// What an earlier process brought there.
    fn look(&self, depot: &Depot) -> io::Result<BTreeMap<String, Sent>> {
        let log = log_of(self.build, self.claim);
        let mut files: BTreeMap<String, Vec<Part>> = BTreeMap::new();
        for part in depot.list(&log)?.iter().filter_map(|object| Part::of(object, &log)) {
            files.entry(part.file.clone()).or_default().push(part);
        }
        let sent = |parts: Vec<Part>| Sent {
            bytes: reach(parts.iter()),
            parts: parts.into_iter().map(|part| part.key).collect(),
        };
        Ok(files.into_iter().map(|(name, parts)| (name, sent(parts))).collect())
    }

    /// Only the newest claim counts.
    fn forget_older(&self, depot: &Depot) -> io::Result<()> {
        for older in depot.numbers(&logs_of(self.build))?.into_iter().filter(|&other| other < self.claim) {
            depot.remove(depot.list(&log_of(self.build, older))?.into_iter().map(|object| object.key))?;
        }
        Ok(())
    }

    /// The names of the files beside the journal.
    fn files(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            if name != JOURNAL && name != WHOLE {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn ship_file(&mut self, depot: &Depot, name: &str, upto: u64) -> io::Result<()> {
        let sent = self.sent.get_or_insert_default().entry(name.to_owned()).or_default();
        if sent.bytes >= upto {
            return Ok(());
        }
        let file = File::open(self.dir.join(name))?;
        while sent.bytes < upto {
            let behind = upto - sent.bytes;
            let most = if behind > LARGE_PART { LARGE_PART } else { PART };
            let mut part = vec![0; usize::try_from(behind.min(most)).unwrap_or(0)];
            file.read_exact_at(&mut part, sent.bytes)?;
            let key = format!("{}{name}/{}", log_of(self.build, self.claim), sent.bytes);
            depot.put(&key, &part)?;
            sent.bytes += part.len() as u64;
            sent.parts.push(key);
        }
        Ok(())
    }

    /// The log is closed and all of it is there: one object a file, then the artifacts, then the word that this is all.
    fn finish(&mut self, depot: &Depot, artifacts: &Artifacts) -> io::Result<()> {
        for (name, sent) in self.sent.get_or_insert_default() {
            if sent.parts.len() > 1 {
                let whole = format!("{}{name}/0", log_of(self.build, self.claim));
                depot.put_file(&whole, &File::open(self.dir.join(name))?)?;
                depot.remove(sent.parts.drain(..).filter(|key| *key != whole))?;
                sent.parts.push(whole);
            }
        }
        // Another claim's are another agent's to bring.
        let is_newest = depot.numbers(&logs_of(self.build))?.last() == Some(&self.claim);
        let whole = Whole { artifacts: if is_newest { artifacts.ship(self.build, depot)? } else { 0 } };
        let text = serde_json::to_vec(&whole)?;
        depot.put(&format!("{}{WHOLE}", log_of(self.build, self.claim)), &text)?;
        fs::write(self.dir.join(WHOLE), text)
    }
}

/// A record that is being written is not one yet.
fn whole_records(length: u64) -> u64 {
    let magic = MAGIC.len() as u64;
    length.checked_sub(magic).map_or(0, |records| magic + records - records % RECORD as u64)
}

/// The size of a file; of one that is not there, 0.
pub(super) fn length(path: &std::path::Path) -> io::Result<u64> {
    match fs::metadata(path) {
        Ok(about) => Ok(about.len()),
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(other) => Err(other),
    }
}

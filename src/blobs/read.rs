//! The reading side. Readers take no lock and keep no file open between two calls.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use crate::domain::build::{Build, BuildId, State};
use crate::domain::log::{Happening, LogLine};
use crate::domain::step::Step;

use super::journal::{Cursor, Kind, MAGIC, RECORD, Record};
use super::{JOURNAL, Logs, TEXTS, step_file_name};

/// A batch ends after the record that passes one of these.
const BATCH_BYTES: u64 = 64 * 1024;
const BATCH_LINES: usize = 1000;
/// Records read from the journal at a time.
const RECORDS_AT_ONCE: usize = 1024;

/// Something that happened, and the place just after it.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Reading goes on from here.
    pub after: Cursor,
    /// What happened; never an end, which only the store knows.
    pub happening: Happening,
}

/// Reads a build's journal from a place on, batch by batch.
#[derive(Debug, Clone)]
pub struct Reader {
    logs: Logs,
    build: BuildId,
    cursor: Cursor,
    names: HashMap<u16, String>,
    /// The state that the journal last told before the cursor.
    state: Option<State>,
    primed: bool,
}

impl Logs {
    /// A reader that begins at `from`, or at the beginning when that is a place in another claim's journal.
    pub fn reader(&self, build: BuildId, from: Cursor) -> Reader {
        Reader { logs: self.clone(), build, cursor: from, names: HashMap::new(), state: None, primed: false }
    }
}

impl Reader {
    /// Where reading stands.
    pub fn cursor(&self) -> Cursor {
        self.cursor
    }

    /// The build's state as the journal last told it, before the place where reading stands.
    pub fn state(&self) -> Option<State> {
        self.state
    }

    /// The next batch, some 64 KiB; empty when nothing new is there (yet).
    pub fn read(&mut self) -> io::Result<Vec<Entry>> {
        let Some(claim) = self.logs.newest_claim(self.build)? else { return Ok(Vec::new()) };
        let Some(journal) = JournalFile::open(&self.logs, self.build, claim)? else { return Ok(Vec::new()) };
        if self.cursor.claim != claim {
            *self = self.logs.reader(self.build, Cursor::start(claim));
        }
        if !self.primed {
            self.prime(&journal)?;
        }
        let (mut entries, mut bytes) = (Vec::new(), 0);
        let mut sources = Sources::new(&journal);
        'batch: while bytes < BATCH_BYTES && entries.len() < BATCH_LINES {
            let records = journal.records(self.cursor.record, RECORDS_AT_ONCE)?;
            if records.is_empty() {
                break;
            }
            for record in records {
                bytes += record.length;
                self.take(&record, &mut sources, &mut entries)?;
                if bytes >= BATCH_BYTES || entries.len() >= BATCH_LINES {
                    break 'batch;
                }
            }
        }
        Ok(entries)
    }

    /// Learns from the records before the cursor what later ones need: names of steps, the last state.
    fn prime(&mut self, journal: &JournalFile) -> io::Result<()> {
        let mut sources = Sources::new(journal);
        let (mut at, mut last_state) = (0, None);
        let end = self.cursor.record.saturating_add(u64::from(self.cursor.part > 0));
        while at < end {
            let records = journal.records(at, RECORDS_AT_ONCE)?;
            if records.is_empty() {
                break;
            }
            for record in &records[..records.len().min(usize::try_from(end - at).unwrap_or(usize::MAX))] {
                match record.kind {
                    Kind::Step => {
                        if let Some(step) = sources.json::<Step>(record)? {
                            self.names.insert(record.step, step.name);
                        }
                    }
                    Kind::State => last_state = Some(*record),
                    Kind::Lines => {}
                }
            }
            at += records.len() as u64;
        }
        if let Some(record) = last_state {
            self.state = sources.json::<Build>(&record)?.map(|build| build.state);
        }
        self.primed = true;
        Ok(())
    }

    fn take(&mut self, record: &Record, sources: &mut Sources<'_>, entries: &mut Vec<Entry>) -> io::Result<()> {
        let taken = self.cursor.part;
        let here = self.cursor;
        let mut push = |part: u32, happening| entries.push(Entry { after: Cursor { part, ..here }, happening });
        match record.kind {
            Kind::State if taken == 0 => {
                if let Some(build) = sources.json::<Build>(record)? {
                    self.state = Some(build.state);
                    push(1, Happening::State(Box::new(build)));
                }
            }
            Kind::Step if taken == 0 => {
                if let Some(step) = sources.json::<Step>(record)? {
                    self.names.insert(record.step, step.name.clone());
                    push(1, Happening::Step(Box::new(step)));
                }
            }
            Kind::Lines if taken < record.count => {
                if let Some(name) = self.names.get(&record.step) {
                    for (part, line) in (1..).zip(sources.lines(record, name)?).skip(taken as usize) {
                        push(part, Happening::Line(line));
                    }
                }
            }
            _ => {}
        }
        self.cursor = Cursor { record: self.cursor.record + 1, part: 0, ..self.cursor };
        Ok(())
    }
}

/// The end of every step's log, all as of one moment.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// What happened later is read from here.
    pub cursor: Cursor,
    /// In the order of the plan; only steps that wrote something.
    pub steps: Vec<StepTail>,
}

/// The end of a step's log.
#[derive(Debug, Clone)]
pub struct StepTail {
    /// The step's name.
    pub name: String,
    /// Its last lines.
    pub lines: Vec<LogLine>,
    /// True when lines come before these.
    pub cut: bool,
}

impl Logs {
    /// The last lines of every step: at most `lines` of each and, unless it is a single line, `bytes`.
    pub fn tails(&self, build: BuildId, lines: usize, bytes: u64) -> io::Result<Snapshot> {
        let Some(claim) = self.newest_claim(build)? else { return Ok(Snapshot::default()) };
        let Some(journal) = JournalFile::open(self, build, claim)? else { return Ok(Snapshot::default()) };
        let mut sources = Sources::new(&journal);
        let mut cursor = Cursor::start(claim);
        let mut names = HashMap::new();
        let mut ends: BTreeMap<u16, End> = BTreeMap::new();
        loop {
            let records = journal.records(cursor.record, RECORDS_AT_ONCE)?;
            if records.is_empty() {
                break;
            }
            for record in &records {
                match record.kind {
                    Kind::Step => names.extend(sources.json::<Step>(record)?.map(|step| (record.step, step.name))),
                    Kind::Lines => ends.entry(record.step).or_default().push(*record, lines, bytes),
                    Kind::State => {}
                }
            }
            cursor.record += records.len() as u64;
        }
        let mut steps = Vec::new();
        for (index, end) in ends {
            let Some(name) = names.get(&index) else { continue };
            let mut last = Vec::new();
            for record in &end.records {
                last.extend(sources.lines(record, name)?);
            }
            let excess = last.len().saturating_sub(fitting(&last, lines, bytes));
            last.drain(..excess);
            steps.push(StepTail { name: name.clone(), cut: end.cut || excess > 0, lines: last });
        }
        Ok(Snapshot { cursor, steps })
    }
}

/// The last records of a step.
#[derive(Default)]
struct End {
    records: VecDeque<Record>,
    lines: usize,
    bytes: u64,
    cut: bool,
}

impl End {
    fn push(&mut self, record: Record, lines: usize, bytes: u64) {
        self.records.push_back(record);
        self.lines += record.count as usize;
        self.bytes += record.length;
        while let Some(first) = self.records.front() {
            let (lines_left, bytes_left) = (self.lines - first.count as usize, self.bytes - first.length);
            if lines_left < lines && bytes_left < bytes {
                break;
            }
            (self.lines, self.bytes, self.cut) = (lines_left, bytes_left, true);
            self.records.pop_front();
        }
    }
}

/// How many lines at the end are at most `lines` and, unless it is a single one, at most `bytes`.
fn fitting(all: &[LogLine], lines: usize, bytes: u64) -> usize {
    let mut used = 0;
    let fits = |line: &&LogLine| {
        used += line.text.len() as u64;
        used <= bytes
    };
    all.iter().rev().take(lines).take_while(fits).count().max(1)
}

/// A step's log as it stands on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its size in bytes, when it was looked at.
    pub len: u64,
    /// Whether it ends with a line end (or is empty).
    pub ends_line: bool,
}

impl Logs {
    /// The log of the step at place `index` of the plan; `None` when it has written nothing (yet, or any more).
    pub fn step_file(&self, build: BuildId, index: u16, name: &str) -> io::Result<Option<StepFile>> {
        let Some(claim) = self.newest_claim(build)? else { return Ok(None) };
        let path = self.claim_dir(build, claim).join(step_file_name(index, name));
        let Some(file) = open(path.clone())? else { return Ok(None) };
        let len = file.metadata()?.len();
        let ends_line = len == 0 || read_at(&file, len - 1, 1)?.last() == Some(&b'\n');
        Ok(Some(StepFile { path, len, ends_line }))
    }
}

/// One claim's journal, open for reading.
struct JournalFile {
    dir: PathBuf,
    file: File,
}

impl JournalFile {
    /// `None` when it is gone, or so new that it holds nothing.
    fn open(logs: &Logs, build: BuildId, claim: u64) -> io::Result<Option<Self>> {
        let dir = logs.claim_dir(build, claim);
        let Some(file) = open(dir.join(JOURNAL))? else { return Ok(None) };
        let magic = read_at(&file, 0, MAGIC.len())?;
        Ok((magic == MAGIC).then_some(JournalFile { dir, file }))
    }

    /// Whole records from `from` on, at most `count`.
    fn records(&self, from: u64, count: usize) -> io::Result<Vec<Record>> {
        let offset = (from.saturating_mul(RECORD as u64)).saturating_add(MAGIC.len() as u64);
        // pread takes a signed offset: a place beyond that (a made-up id) holds nothing.
        if i64::try_from(offset).is_err() {
            return Ok(Vec::new());
        }
        let bytes = read_at(&self.file, offset, count * RECORD)?;
        Ok(bytes.as_chunks::<RECORD>().0.iter().map_while(Record::decode).collect())
    }
}

/// The files that a journal's records point into, opened when first needed.
struct Sources<'a> {
    journal: &'a JournalFile,
    texts: Option<File>,
    logs: HashMap<u16, File>,
}

impl<'a> Sources<'a> {
    fn new(journal: &'a JournalFile) -> Self {
        Sources { journal, texts: None, logs: HashMap::new() }
    }

    /// `None` when the words are not whole, as after a power cut.
    fn json<T: serde::de::DeserializeOwned>(&mut self, record: &Record) -> io::Result<Option<T>> {
        if self.texts.is_none() {
            self.texts = open(self.journal.dir.join(TEXTS))?;
        }
        let Some(texts) = &self.texts else { return Ok(None) };
        let bytes = read_at(texts, record.offset, usize::try_from(record.length).unwrap_or(0))?;
        Ok(serde_json::from_slice(&bytes).ok())
    }

    fn lines(&mut self, record: &Record, name: &str) -> io::Result<Vec<LogLine>> {
        if !self.logs.contains_key(&record.step) {
            let Some(file) = open(self.journal.dir.join(step_file_name(record.step, name)))? else {
                return Ok(Vec::new());
            };
            self.logs.insert(record.step, file);
        }
        let Some(log) = self.logs.get(&record.step) else { return Ok(Vec::new()) };
        let bytes = read_at(log, record.offset, usize::try_from(record.length).unwrap_or(0))?;
        let bytes = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
        let text = |line: &[u8]| String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned();
        let line = |(n, line)| LogLine { step: name.to_owned(), n, at: record.at, text: text(line) };
        Ok((record.first..).zip(bytes.split(|&byte| byte == b'\n')).map(line).collect())
    }
}

fn open(path: PathBuf) -> io::Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(other) => Err(other),
    }
}

/// What is there of `length` bytes at `offset`; less at the end of the file.
fn read_at(file: &File, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let mut filled = 0;
    while filled < length {
        match file.read_at(&mut bytes[filled..], offset.saturating_add(filled as u64)) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(again) if again.kind() == io::ErrorKind::Interrupted => {}
            Err(other) => return Err(other),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

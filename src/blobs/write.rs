//! The writing side: one journal a build, one log a step.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use serde::Serialize;

use crate::domain::build::Build;
use crate::domain::log::LINE_MAX;
use crate::domain::step::Step;
use crate::domain::time::Timestamp;

use super::journal::{Kind, MAGIC, Record};
use super::writing::Open;
use super::{JOURNAL, TEXTS, step_file_name};

/// How much of the end of an over-long log is kept.
const TAIL: usize = 1024 * 1024;
/// After so many records a step's lines are recorded in larger bundles: a step that writes nothing but
/// line ends, one by one, would otherwise have a journal many times the size of its log.
const MANY_RECORDS: u32 = 100_000;
/// The size of those bundles, in bytes.
const BUNDLE: u64 = 4096;

/// The log of one claim of a build. Cheap to clone; clones write to the same journal.
///
/// Every call writes to disk before it returns (not necessarily through to the device).
#[derive(Clone)]
pub struct BuildLog {
    shared: Arc<Shared>,
}

struct Shared {
    dir: PathBuf,
    cap: u64,
    written: Arc<AtomicU64>,
    on_new: Box<dyn Fn() + Send + Sync>,
    _open: Arc<Open>,
    // Held only while a record is appended; steps write their own logs without it.
    files: Mutex<Files>,
}

struct Files {
    journal: File,
    journal_len: u64,
    texts: File,
    texts_len: u64,
}

impl BuildLog {
    pub(super) fn create(
        dir: PathBuf,
        cap: u64,
        written: Arc<AtomicU64>,
        open: Arc<Open>,
        on_new: Box<dyn Fn() + Send + Sync>,
    ) -> io::Result<Self> {
        let texts = create_file(dir.join(TEXTS))?;
        let journal = create_file(dir.join(JOURNAL))?;
        journal.write_all_at(&MAGIC, 0)?;
        let files = Files { journal, journal_len: MAGIC.len() as u64, texts, texts_len: 0 };
        Ok(BuildLog { shared: Arc::new(Shared { dir, cap, written, on_new, _open: open, files: Mutex::new(files) }) })
    }

    /// Records that the build moved or that its plan became known.
    pub fn state(&self, build: &Build) -> io::Result<()> {
        self.note(Kind::State, 0, build)
    }

    /// Records that a step moved without having (or after having closed) a log. `index` is its place in [`Build::steps`].
    pub fn step(&self, index: u16, step: &Step) -> io::Result<()> {
        self.note(Kind::Step, index, step)
    }

    /// Records that a step began and opens its log. `index` is its place in [`Build::steps`].
    pub fn begin(&self, index: u16, step: &Step) -> io::Result<StepLog> {
        let file = create_file(self.shared.dir.join(step_file_name(index, &step.name)))?;
        self.step(index, step)?;
        Ok(StepLog {
            log: self.clone(),
            index,
            file,
            cap: self.shared.cap.saturating_sub(TAIL as u64),
            written: 0,
            recorded: 0,
            whole: 0,
            lines: 0,
            next_line: 1,
            records: 0,
            ends_line: true,
            overflow: None,
        })
    }

    fn note(&self, kind: Kind, step: u16, value: &impl Serialize) -> io::Result<()> {
        let text = serde_json::to_vec(value)?;
        {
            let mut files = self.shared.files.lock().unwrap_or_else(PoisonError::into_inner);
            let offset = files.texts_len;
            files.texts.write_all_at(&text, offset)?;
            let length = text.len() as u64;
            files.append(&Record { kind, step, count: 1, offset, length, first: 0, at: now() })?;
            files.texts_len = offset + length;
        }
        (self.shared.on_new)();
        Ok(())
    }

    fn record(&self, record: &Record) -> io::Result<()> {
        self.shared.files.lock().unwrap_or_else(PoisonError::into_inner).append(record)
    }
}

impl Files {
    // Written at its own place: what a full disk cut short is written over by the next attempt.
    fn append(&mut self, record: &Record) -> io::Result<()> {
        let bytes = record.encode();
        self.journal.write_all_at(&bytes, self.journal_len)?;
        self.journal_len += bytes.len() as u64;
        Ok(())
    }
}

/// The log of one step. Memory: about 1 MiB at most, and only once the cap is near.
pub struct StepLog {
    log: BuildLog,
    index: u16,
    file: File,
    /// How much may go to disk as it comes.
    cap: u64,
    /// Bytes on disk.
    written: u64,
    /// Bytes that the journal knows.
    recorded: u64,
    /// The end of the last whole line on disk.
    whole: u64,
    /// Whole lines between `recorded` and `whole`.
    lines: u32,
    next_line: u64,
    records: u32,
    /// Whether the bytes on disk end with a line end (or there are none).
    ends_line: bool,
    overflow: Option<Overflow>,
}

impl StepLog {
    /// Writes output as it came. What goes beyond the cap is kept in memory up to 1 MiB, the newest.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let room = usize::try_from(self.cap.saturating_sub(self.written)).unwrap_or(usize::MAX);
        let (head, rest) = bytes.split_at(bytes.len().min(room));
        if !head.is_empty() {
            self.write(head)?;
        }
        if !rest.is_empty() {
            self.overflow.get_or_insert_default().push(rest);
        }
        Ok(())
    }

    /// Writes what was held back, then records how the step ended.
    pub fn finish(mut self, step: &Step) -> io::Result<()> {
        if let Some(overflow) = self.overflow.take() {
            if overflow.dropped > 0 {
                let before = if self.ends_line { "" } else { "\n" };
                self.write(format!("{before}[... {} bytes dropped ...]\n", overflow.dropped).as_bytes())?;
            }
            let (older, newer) = overflow.kept.as_slices();
            self.write(older)?;
            self.write(newer)?;
        }
        self.record_whole_lines()?;
        if self.written > self.recorded {
            self.record_piece(self.written)?;
        }
        self.log.step(self.index, step)
    }

    // In slices, so that what stays unrecorded never exceeds the longest line.
    fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let room =
                LINE_MAX - usize::try_from(self.written - self.recorded).unwrap_or(LINE_MAX - 1).min(LINE_MAX - 1);
            let (slice, rest) = bytes.split_at(bytes.len().min(room));
            self.file.write_all_at(slice, self.written)?;
            self.note_lines(slice);
            if self.records < MANY_RECORDS || self.whole - self.recorded >= BUNDLE {
                self.record_whole_lines()?;
            }
            if self.written - self.recorded >= LINE_MAX as u64 {
                self.record_whole_lines()?;
            }
            if self.written - self.recorded >= LINE_MAX as u64 {
                self.record_piece(self.written - unfinished_character(slice))?;
            }
            bytes = rest;
        }
        (self.log.shared.on_new)();
        Ok(())
    }

    fn note_lines(&mut self, slice: &[u8]) {
        let start = self.written;
        self.written += slice.len() as u64;
        self.log.shared.written.fetch_add(slice.len() as u64, Ordering::Relaxed);
        self.ends_line = slice.last() == Some(&b'\n');
        if let Some(last) = slice.iter().rposition(|&byte| byte == b'\n') {
            self.whole = start + last as u64 + 1;
            self.lines += u32::try_from(slice.iter().filter(|&&byte| byte == b'\n').count()).unwrap_or(u32::MAX);
        }
    }

    fn record_whole_lines(&mut self) -> io::Result<()> {
        if self.lines == 0 {
            return Ok(());
        }
        let (end, count) = (self.whole, self.lines);
        self.record(end, count)
    }

    /// Records what has no line end (yet) as a line of its own.
    fn record_piece(&mut self, end: u64) -> io::Result<()> {
        self.record(end, 1)
    }

    fn record(&mut self, end: u64, count: u32) -> io::Result<()> {
        let (step, offset, first) = (self.index, self.recorded, self.next_line);
        let length = end - offset;
        self.log.record(&Record { kind: Kind::Lines, step, count, offset, length, first, at: now() })?;
        self.recorded = end;
        self.whole = end;
        self.lines = 0;
        self.next_line += u64::from(count);
        self.records = self.records.saturating_add(1);
        Ok(())
    }
}

/// The end of an over-long log, while it is not known yet where that end will be.
#[derive(Default)]
struct Overflow {
    kept: VecDeque<u8>,
    dropped: u64,
}

impl Overflow {
    fn push(&mut self, bytes: &[u8]) {
        let newest = &bytes[bytes.len().saturating_sub(TAIL)..];
        let excess = (self.kept.len() + newest.len()).saturating_sub(TAIL);
        self.kept.drain(..excess);
        self.kept.extend(newest);
        self.dropped += (excess + bytes.len() - newest.len()) as u64;
    }
}

/// How many bytes at the end begin a UTF-8 character that is not complete; at most 3.
fn unfinished_character(bytes: &[u8]) -> u64 {
    for (behind, &byte) in (1..=3).zip(bytes.iter().rev()) {
        let whole = match byte {
            0x80..0xC0 => continue,
            0xC0..0xE0 => 2,
            0xE0..0xF0 => 3,
            0xF0.. => 4,
            _ => 1,
        };
        return if behind < whole { behind } else { 0 };
    }
    0
}

fn create_file(path: PathBuf) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

fn now() -> Timestamp {
    SystemTime::now().into()
}

//! The journal's records: what happened in one claim of a build, in order, in fixed-size pieces.
//!
//! A record says where its words are (a step's log, or the file of texts beside it) and never holds
//! them. Records are only ever appended, so a reader needs no lock: whole records before the end of
//! the file are there, and a torn last one (after `kill -9`) is not one yet.

use std::fmt;
use std::str::FromStr;

use crate::domain::time::Timestamp;

/// The first bytes of a journal; the last of them is the version of the record.
pub(super) const MAGIC: [u8; 8] = *b"hmjrnl\0\x01";

/// What a record speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The build as JSON, in the file of texts.
    State,
    /// A step as JSON, in the file of texts.
    Step,
    /// Lines of a step, in its log.
    Lines,
}

/// One record. Offsets and lengths are in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) kind: Kind,
    /// The step's place in the plan; 0 for `State`.
    pub(super) step: u16,
    /// How many lines; 1 for the other kinds.
    pub(super) count: u32,
    /// Where the words begin.
    pub(super) offset: u64,
    /// How long they are.
    pub(super) length: u64,
    /// The number of the first line; 0 for the other kinds.
    pub(super) first: u64,
    pub(super) at: Timestamp,
}

/// The size of a record on disk.
pub(super) const RECORD: usize = 40;

impl Record {
    pub(super) fn encode(&self) -> [u8; RECORD] {
        let mut bytes = [0; RECORD];
        bytes[0] = match self.kind {
            Kind::State => 1,
            Kind::Step => 2,
            Kind::Lines => 3,
        };
        bytes[2..4].copy_from_slice(&self.step.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.count.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.offset.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.length.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.first.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.at.0.to_le_bytes());
        bytes
    }

    /// `None` for what was never written whole: a power cut can leave zeros.
    pub(super) fn decode(bytes: &[u8; RECORD]) -> Option<Self> {
        let kind = match bytes[0] {
            1 => Kind::State,
            2 => Kind::Step,
            3 => Kind::Lines,
            _ => return None,
        };
        let word = |at: usize| {
            let mut word = [0; 8];
            word.copy_from_slice(&bytes[at..at + 8]);
            u64::from_le_bytes(word)
        };
        Some(Record {
            kind,
            step: u16::from_le_bytes([bytes[2], bytes[3]]),
            count: u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
            offset: word(8),
            length: word(16),
            first: word(24),
            at: Timestamp(i64::from_le_bytes(word(32).to_le_bytes())),
        })
    }
}

/// A place between two happenings of a build: everything before it was read.
///
/// Written `claim.record.part`, for instance `2.1234.17`; a reader gets it as an opaque id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cursor {
    /// Which claim's journal. Another claim means: from the beginning.
    pub claim: u64,
    /// The record that is being read, from 0.
    pub record: u64,
    /// How many of its parts (lines) were taken already.
    pub part: u32,
}

impl Cursor {
    /// The beginning of a claim's journal.
    pub fn start(claim: u64) -> Self {
        Cursor { claim, record: 0, part: 0 }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.claim, self.record, self.part)
    }
}

/// The text is not a cursor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a place in a build's journal")]
pub struct BadCursor;

impl FromStr for Cursor {
    type Err = BadCursor;
    fn from_str(text: &str) -> Result<Self, BadCursor> {
        let mut parts = text.splitn(3, '.');
        let mut next = || parts.next().ok_or(BadCursor);
        Ok(Cursor {
            claim: next()?.parse().map_err(|_| BadCursor)?,
            record: next()?.parse().map_err(|_| BadCursor)?,
            part: next()?.parse().map_err(|_| BadCursor)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_survive_the_way_to_disk() {
        let record = Record {
            kind: Kind::Lines,
            step: 513,
            count: 70_000,
            offset: u64::MAX - 1,
            length: 1 << 40,
            first: 17,
            at: Timestamp(-5),
        };
        assert_eq!(Record::decode(&record.encode()), Some(record));
        assert_eq!(Record::decode(&[0; RECORD]), None);
    }

    #[test]
    fn cursors_are_short_and_parsed_strictly() {
        let far = Cursor { claim: u64::MAX, record: u64::MAX, part: u32::MAX };
        assert!(far.to_string().len() <= 64);
        assert_eq!(far.to_string().parse(), Ok(far));
        for bad in ["", "1", "1.2", "1.2.3.4", "a.b.c", "-1.2.3", "1.2.", "1.2.end", "99999999999999999999.1.1"] {
            assert_eq!(bad.parse::<Cursor>(), Err(BadCursor), "{bad}");
        }
    }
}

//! Output as lines for people: lossy, capped, whatever the bytes are. The bytes on disk stay as they were.

use std::io::BufRead;

/// The longest line that is shown, in bytes as the program wrote them.
pub const LINE_MAX: usize = 64 * 1024;

/// Splits a stream of bytes into lines, in pieces of any size.
///
/// A line ends at `\n` (a `\r` before it belongs to the end). Within a line, `\r` begins it anew, as on a terminal:
/// of a progress bar only its last state is a line. Over [`LINE_MAX`] bytes a line is cut and says by how much.
/// Invalid UTF-8 becomes U+FFFD; every other byte, NUL too, stays what it is.
#[derive(Debug, Default)]
pub struct Lines {
    kept: Vec<u8>,
    cut: u64,
    /// The last byte was a `\r` of which nobody knows yet whether it ends the line or begins it anew.
    returned: bool,
    /// Something of an unfinished line was seen, perhaps only a `\r`.
    open: bool,
}

impl Lines {
    /// Nothing seen yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes and gives each line that they complete.
    pub fn push(&mut self, mut bytes: &[u8], mut line: impl FnMut(String)) {
        while !bytes.is_empty() {
            let piece = bytes;
            let length = bytes.skip_until(b'\n').expect("reading from memory does not fail");
            match piece[..length].strip_suffix(b"\n") {
                Some(last) => {
                    self.extend(last);
                    line(self.take());
                }
                None => self.extend(piece),
            }
        }
    }

    /// Gives the line that no `\n` ended, if there is one.
    pub fn finish(&mut self, mut line: impl FnMut(String)) {
        if self.open {
            line(self.take());
        }
    }

    fn extend(&mut self, piece: &[u8]) {
        if piece.is_empty() {
            return;
        }
        self.open = true;
        // Carriage returns at the end wait for what follows: `\r\n` is an end, `\rx` a new beginning.
        let written = without_returns(piece);
        if self.returned && !written.is_empty() {
            self.clear();
        }
        self.returned = written.len() < piece.len() || (self.returned && written.is_empty());
        let shown = match written.iter().rposition(|byte| *byte == b'\r') {
            Some(at) => {
                self.clear();
                &written[at + 1..]
            }
            None => written,
        };
        let room = LINE_MAX - self.kept.len();
        let (kept, cut) = shown.split_at(shown.len().min(room));
        self.kept.extend_from_slice(kept);
        self.cut += cut.len() as u64;
    }

    fn clear(&mut self) {
        self.kept.clear();
        self.cut = 0;
    }

    fn take(&mut self) -> String {
        let mut text = if self.cut == 0 {
            String::from_utf8_lossy(&self.kept).into_owned()
        } else {
            // The cut may go through a character; its first half is no error of the program's.
            String::from_utf8_lossy(whole_characters(&self.kept)).into_owned()
        };
        if self.cut > 0 {
            text.push_str(&format!(" … ({} more bytes in this line)", self.cut));
        }
        *self = Self { kept: std::mem::take(&mut self.kept), ..Self::default() };
        self.kept.clear();
        text
    }
}

fn without_returns(piece: &[u8]) -> &[u8] {
    let end = piece.iter().rposition(|byte| *byte != b'\r').map_or(0, |at| at + 1);
    &piece[..end]
}

fn whole_characters(bytes: &[u8]) -> &[u8] {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => &bytes[..error.valid_up_to()],
        _ => bytes,
    }
}

#[cfg(test)]
mod tests {
    use super::{LINE_MAX, Lines};

    fn lines(pieces: &[&[u8]]) -> Vec<String> {
        let (mut lines, mut seen) = (Lines::new(), Vec::new());
        for piece in pieces {
            lines.push(piece, |line| seen.push(line));
        }
        lines.finish(|line| seen.push(line));
        seen
    }

    /// The same lines must come out however the bytes were cut into pieces.
    #[track_caller]
    fn check(bytes: &[u8], expected: &[&str]) {
        assert_eq!(lines(&[bytes]), expected, "in one piece");
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(lines(&single), expected, "byte by byte");
        for at in 0..bytes.len() {
            assert_eq!(lines(&[&bytes[..at], &bytes[at..]]), expected, "cut at {at}");
        }
    }

    #[test]
    fn lines_end_at_newlines() {
        check(b"", &[]);
        check(b"one\ntwo\n", &["one", "two"]);
        check(b"one\n\ntwo", &["one", "", "two"]);
        check(b"\n", &[""]);
    }

    #[test]
    fn a_carriage_return_begins_the_line_anew() {
        check(b"one\r\ntwo\r\n", &["one", "two"]);
        check(b"10%\r20%\r100%\ndone\n", &["100%", "done"]);
        check(b"10%\r20%\r\n", &["20%"]);
        check(b"10%\r\r\n", &["10%"]);
        check(b"\r\n", &[""]);
        check(b"50%\r", &["50%"]);
        check(b"\r", &[""]);
        check(b"a\rb", &["b"]);
    }

    #[test]
    fn any_byte_is_harmless() {
        check(b"a\0b\n", &["a\0b"]);
        check("zażółć €\n".as_bytes(), &["zażółć €"]);
        check(b"bad \xff\xfe end\n", &["bad \u{fffd}\u{fffd} end"]);
        check(b"half \xe2\x82\n", &["half \u{fffd}"]);
    }

    #[test]
    fn a_long_line_is_cut_and_says_so() {
        let mut long = "é".repeat(LINE_MAX).into_bytes();
        long.insert(0, b'x');
        long.push(b'\n');
        let seen = lines(&[&long[..10], &long[10..]]);
        let expected = format!("x{} … ({} more bytes in this line)", "é".repeat((LINE_MAX - 1) / 2), LINE_MAX + 1);
        assert_eq!(seen, [expected]);
    }

    #[test]
    fn a_line_without_end_costs_no_memory() {
        let (mut lines, piece) = (Lines::new(), [b'x'; 1 << 16]);
        for _ in 0..1024 {
            lines.push(&piece, |_| panic!("no line ended"));
        }
        assert!(lines.kept.capacity() <= 2 * LINE_MAX);
        let mut seen = 0;
        lines.finish(|_| seen += 1);
        assert_eq!(seen, 1);
    }
}

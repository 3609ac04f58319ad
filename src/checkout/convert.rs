//! A blob's contents in the form in which git writes them: git's `convert.c`, the way to the work tree.

use std::borrow::Cow;

use git2::Oid;

use super::attributes::{Eol, Form};

/// The contents of blob `id` as they are written in `form`.
pub(super) fn to_worktree(data: &[u8], id: Oid, form: Form) -> Cow<'_, [u8]> {
    let mut data = Cow::Borrowed(data);
    if form.ident
        && let Some(marked) = identified(&data, id)
    {
        data = Cow::Owned(marked);
    }
    if form.eol != Eol::AsStored && becomes_crlf(&data, form.eol) {
        data = Cow::Owned(with_crlf(&data));
    }
    data
}

#[derive(Default)]
struct Stats {
    nul: u64,
    lone_cr: u64,
    lone_lf: u64,
    crlf: u64,
    printable: u64,
    unprintable: u64,
}

impl Stats {
    /// git's `gather_stats`.
    fn of(data: &[u8]) -> Stats {
        let mut stats = Stats::default();
        let mut bytes = data.iter().copied().peekable();
        while let Some(byte) = bytes.next() {
            match byte {
                b'\r' if bytes.next_if_eq(&b'\n').is_some() => stats.crlf += 1,
                b'\r' => stats.lone_cr += 1,
                b'\n' => stats.lone_lf += 1,
                // Backspace, tab, form feed and escape are in files that people call text.
                0x08 | b'\t' | 0x0c | 0x1b => stats.printable += 1,
                0 => {
                    stats.nul += 1;
                    stats.unprintable += 1;
                }
                0x01..0x20 | 0x7f => stats.unprintable += 1,
                _ => stats.printable += 1,
            }
        }
        // DOS ended a text with this.
        if data.last() == Some(&0x1a) {
            stats.unprintable -= 1;
        }
        stats
    }

    fn is_binary(&self) -> bool {
        self.lone_cr > 0 || self.nul > 0 || (self.printable >> 7) < self.unprintable
    }
}

/// git's `will_convert_lf_to_crlf`.
fn becomes_crlf(data: &[u8], eol: Eol) -> bool {
    let stats = Stats::of(data);
    stats.lone_lf > 0 && (eol == Eol::Crlf || (stats.crlf == 0 && !stats.is_binary()))
}

fn with_crlf(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(data.len() + data.len() / 16);
    let mut before = 0;
    for &byte in data {
        if byte == b'\n' && before != b'\r' {
            out.push(b'\r');
        }
        out.push(byte);
        before = byte;
    }
    out
}

/// Writes the blob's id into each `$Id$`; `None` when there is none. An id with spaces in it is another system's, and
/// is left as it is.
fn identified(data: &[u8], id: Oid) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut rest = data;
    while let Some(at) = rest.windows(3).position(|three| three == b"$Id") {
        let (before, after) = rest.split_at(at + 3);
        out.extend_from_slice(before);
        rest = after;
        let length = match rest.first() {
            Some(b'$') => 1,
            Some(b':') => match rest.iter().position(|&byte| matches!(byte, b'$' | b'\n')) {
                Some(end) if rest[end] == b'$' && !is_foreign(&rest[1..end]) => end + 1,
                _ => continue,
            },
            _ => continue,
        };
        out.extend_from_slice(format!(": {id} $").as_bytes());
        rest = &rest[length..];
    }
    if out.is_empty() {
        return None;
    }
    out.extend_from_slice(rest);
    Some(out)
}

/// True for what stands between `$Id:` and `$` when it holds a space before its last character, as CVS wrote it.
fn is_foreign(inner: &[u8]) -> bool {
    inner.iter().skip(1).position(|&byte| byte == b' ').is_some_and(|at| at + 2 < inner.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(data: &str, form: Form, expected: &str) {
        let written = to_worktree(data.as_bytes(), Oid::ZERO_SHA1, form);
        assert_eq!(String::from_utf8_lossy(&written), expected, "{data:?}");
    }

    #[test]
    fn line_ends() {
        let (always, text) =
            (Form { eol: Eol::Crlf, ..Form::default() }, Form { eol: Eol::CrlfIfText, ..Form::default() });
        check("a\nb\n", Form::default(), "a\nb\n");
        check("a\nb\n", always, "a\r\nb\r\n");
        check("a\r\nb\n", always, "a\r\nb\r\n");
        check("a\nb\n", text, "a\r\nb\r\n");
        check("a\r\nb\n", text, "a\r\nb\n");
        check("a\0b\n", text, "a\0b\n");
        check("a\0b\n", always, "a\0b\r\n");
    }

    #[test]
    fn ids() {
        let form = Form { ident: true, ..Form::default() };
        let id = Oid::ZERO_SHA1;
        check("x $Id$ y $Id: old $ $Identity$", form, &format!("x $Id: {id} $ y $Id: {id} $ $Identity$"));
        check("$Id: a.c,v 1.2 ada $\n$Id: open\n$", form, "$Id: a.c,v 1.2 ada $\n$Id: open\n$");
    }
}

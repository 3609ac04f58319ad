//! Output that comes in pieces, with a secret perhaps across their borders.

use std::borrow::Cow;
use std::sync::Arc;

use super::search::{Begins, Search};
use super::{HIDDEN, SHORTEST};

/// Hides secrets in a stream. The bytes at its end that may be the beginning of one are held back until it is known.
pub struct Masked {
    search: Option<Arc<Search>>,
    /// What was held back.
    held: Vec<u8>,
    /// So many of the first bytes held back are part of a secret whose place was filled already.
    covered: usize,
}

impl Masked {
    pub(super) fn new(search: Option<Arc<Search>>) -> Self {
        Self { search, held: Vec::new(), covered: 0 }
    }

    /// The next bytes, and of them and what was held back all that can be shown.
    pub fn push<'a>(&mut self, bytes: &'a [u8]) -> Cow<'a, [u8]> {
        let Some(search) = self.search.clone() else { return Cow::Borrowed(bytes) };
        if self.held.is_empty() {
            let mut scan = Scan::new(&search, bytes, 0);
            scan.run(false);
            if scan.is_untouched() {
                return Cow::Borrowed(bytes);
            }
            return Cow::Owned(self.take(scan));
        }
        let text = [std::mem::take(&mut self.held).as_slice(), bytes].concat();
        let mut scan = Scan::new(&search, &text, self.covered);
        scan.run(false);
        Cow::Owned(self.take(scan))
    }

    /// Whether something is held back that [`pause`](Self::pause) would show.
    pub fn can_pause(&self) -> bool {
        !self.held.is_empty() && self.held.len() < SHORTEST
    }

    /// Nothing came for a while: shows what was held back, as far as that is too little to tell anything of a secret.
    pub fn pause(&mut self) -> Vec<u8> {
        if self.can_pause() { self.drain() } else { Vec::new() }
    }

    /// Nothing more will come. Where a secret was cut off, what is there of it is hidden if it is half of it.
    pub fn finish(&mut self) -> Vec<u8> {
        let Some(search) = self.search.clone() else { return Vec::new() };
        let text = std::mem::take(&mut self.held);
        let mut scan = Scan::new(&search, &text, std::mem::take(&mut self.covered));
        scan.run(true);
        scan.show(scan.end);
        scan.out
    }

    fn drain(&mut self) -> Vec<u8> {
        let shown = self.held.split_off(self.covered.min(self.held.len()));
        self.held.clear();
        self.covered = 0;
        shown
    }

    fn take(&mut self, mut scan: Scan<'_>) -> Vec<u8> {
        scan.show(scan.end);
        self.held = scan.text[scan.end..].to_vec();
        self.covered = scan.covered.saturating_sub(scan.end);
        scan.out
    }
}

/// Whether that many bytes of a form that was cut off tell anything. `https://` at the end of an output is only the
/// beginning of many an address.
pub(super) fn tells(bytes: usize, form: usize) -> bool {
    bytes >= SHORTEST && bytes * 2 >= form
}

/// One walk over a piece.
struct Scan<'a> {
    search: &'a Search,
    text: &'a [u8],
    out: Vec<u8>,
    /// The text up to here is in `out`, or hidden.
    done: usize,
    /// The text up to here from somewhere on is part of a secret; 0: nothing was found.
    covered: usize,
    /// What lies behind is held back.
    end: usize,
}

impl<'a> Scan<'a> {
    fn new(search: &'a Search, text: &'a [u8], covered: usize) -> Self {
        Self { search, text, out: Vec::new(), done: covered.min(text.len()), covered, end: text.len() }
    }

    /// Everything is to be shown as it is, and nothing was copied.
    fn is_untouched(&self) -> bool {
        self.end == self.text.len() && self.covered == 0
    }

    /// `last`: nothing will follow.
    fn run(&mut self, last: bool) {
        let mut at = 0;
        while at < self.text.len() {
            match self.search.begins(&self.text[at..]) {
                Begins::Nothing(places) => at += places,
                Begins::Form { whole, open } => {
                    if whole > 0 {
                        self.hide(at, at + whole);
                    }
                    if open.is_some() && !last {
                        self.end = at;
                        break;
                    }
                    if open.is_some_and(|form| tells(self.text.len() - at, form)) {
                        self.hide(at, self.text.len());
                    }
                    at += 1;
                }
            }
        }
    }

    /// What overlaps becomes one hole.
    fn hide(&mut self, from: usize, to: usize) {
        if from >= self.covered {
            self.show(from);
            self.out.extend_from_slice(HIDDEN.as_bytes());
        }
        self.covered = self.covered.max(to);
        self.done = self.done.max(self.covered);
    }

    fn show(&mut self, to: usize) {
        if self.done < to {
            self.out.extend_from_slice(&self.text[self.done..to]);
            self.done = to;
        }
    }
}

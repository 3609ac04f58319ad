//! Finds many byte strings in a text without looking at most of it.
//!
//! Steps print up to a gigabyte, and every server has secrets to look for. An automaton looks at each byte; this goes the
//! way of Wu and Manber ("A fast algorithm for multi-pattern searching", 1994): the last two bytes of a window say how
//! far nothing can begin, which is all seven bytes most of the time.

use std::collections::{BTreeSet, HashMap};

use super::SHORTEST;

/// The beginning by which forms are looked up.
type Head = [u8; SHORTEST];

/// Byte strings to be found, each of at least [`SHORTEST`] bytes.
pub(super) struct Search {
    /// In order, so that those with a common beginning are neighbours.
    forms: Vec<Vec<u8>>,
    /// The range of `forms` with a beginning.
    heads: HashMap<Head, (usize, usize)>,
    /// By the last two bytes of a window of [`SHORTEST`]: how many places further the next form may begin.
    skip: Box<[u8]>,
}

/// What begins at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begins {
    /// Nothing, here and at the places before the next that many further.
    Nothing(usize),
    /// One or several.
    Form {
        /// The bytes of the longest that is all there; 0 for none.
        whole: usize,
        /// The bytes of the shortest that goes beyond the end of the text, if it goes on like that.
        open: Option<usize>,
    },
}

impl Search {
    /// `None` where there is nothing to be found.
    pub(super) fn new(forms: BTreeSet<Vec<u8>>) -> Option<Self> {
        if forms.is_empty() {
            return None;
        }
        let forms: Vec<Vec<u8>> = forms.into_iter().collect();
        let mut skip = vec![u8::try_from(SHORTEST - 1).expect("small"); 1 << 16].into_boxed_slice();
        let mut heads: HashMap<Head, (usize, usize)> = HashMap::new();
        for (at, form) in forms.iter().enumerate() {
            let head = head(form).expect("no form is shorter");
            heads.entry(head).and_modify(|range| range.1 = at + 1).or_insert((at, at + 1));
            for end in 1..SHORTEST {
                let places = u8::try_from(SHORTEST - 1 - end).expect("small");
                let known = &mut skip[pair(form[end - 1], form[end])];
                *known = (*known).min(places);
            }
        }
        Some(Self { forms, heads, skip })
    }

    /// What begins at the first byte of `rest`, which is not empty.
    pub(super) fn begins(&self, rest: &[u8]) -> Begins {
        let Some(head) = head(rest) else { return self.begins_short(rest) };
        let skip = self.skip[pair(head[SHORTEST - 2], head[SHORTEST - 1])];
        if skip > 0 {
            return Begins::Nothing(usize::from(skip));
        }
        let Some(&(first, end)) = self.heads.get(&head) else { return Begins::Nothing(1) };
        let forms = &self.forms[first..end];
        let whole = forms.iter().filter(|form| rest.starts_with(form)).map(Vec::len).max().unwrap_or(0);
        let open = forms.iter().filter(|form| form.len() > rest.len() && form.starts_with(rest));
        let open = open.map(Vec::len).min();
        if whole == 0 && open.is_none() { Begins::Nothing(1) } else { Begins::Form { whole, open } }
    }

    fn begins_short(&self, rest: &[u8]) -> Begins {
        let at = self.forms.partition_point(|form| form.as_slice() < rest);
        let open = self.forms.get(at).filter(|form| form.starts_with(rest)).map(Vec::len);
        if open.is_some() { Begins::Form { whole: 0, open } } else { Begins::Nothing(1) }
    }
}

fn head(text: &[u8]) -> Option<Head> {
    text.first_chunk().copied()
}

fn pair(first: u8, second: u8) -> usize {
    usize::from(u16::from_be_bytes([first, second]))
}

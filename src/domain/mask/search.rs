//! Finds many byte strings in a text without looking at most of it.
//!
//! Steps print up to a gigabyte, and every server has secrets to look for. An automaton looks at each byte; this goes the
//! way of Wu and Manber ("A fast algorithm for multi-pattern searching", 1994): the last two bytes of a window say how
//! far nothing can begin, which is all seven bytes most of the time.

use std::collections::{BTreeSet, HashMap};

use super::SHORTEST;
use super::forms::Forms;

/// The beginning by which forms are looked up.
type Head = [u8; SHORTEST];

/// Byte strings to be found, each of at least [`SHORTEST`] bytes.
pub(super) struct Search {
    forms: Vec<Form>,
    /// Every beginning of a form, with the form; in order.
    heads: Vec<(Head, usize)>,
    /// The range of `heads` with a beginning.
    places: HashMap<Head, (usize, usize)>,
    /// By the last two bytes of a window of [`SHORTEST`]: how many places further the next form may begin.
    skip: Box<[u8]>,
}

/// One of them.
pub(super) struct Form {
    pub(super) text: Vec<u8>,
    /// Whether a line may end anywhere in it.
    pub(super) in_lines: bool,
}

/// How a form and a text go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meets {
    /// They differ.
    Not,
    /// The text's first bytes, that many, are the form.
    Whole(usize),
    /// All of the text is a beginning of the form. If it goes on like that it will be that many bytes, or more.
    Open(usize),
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
    pub(super) fn new(forms: Forms) -> Option<Self> {
        if forms.is_empty() {
            return None;
        }
        let forms: Vec<Form> = forms.into_iter().map(|(text, in_lines)| Form { text, in_lines }).collect();
        let heads: BTreeSet<(Head, usize)> =
            forms.iter().enumerate().flat_map(|(at, form)| form.heads().map(move |head| (head, at))).collect();
        let heads: Vec<(Head, usize)> = heads.into_iter().collect();
        let mut skip = vec![u8::try_from(SHORTEST - 1).expect("small"); 1 << 16].into_boxed_slice();
        let mut places: HashMap<Head, (usize, usize)> = HashMap::new();
        for (at, (head, _)) in heads.iter().enumerate() {
            places.entry(*head).and_modify(|range| range.1 = at + 1).or_insert((at, at + 1));
            for end in 1..SHORTEST {
                let places = u8::try_from(SHORTEST - 1 - end).expect("small");
                let known = &mut skip[pair(head[end - 1], head[end])];
                *known = (*known).min(places);
            }
        }
        Some(Self { forms, heads, places, skip })
    }

    /// What begins at the first byte of `rest`, which is not empty.
    pub(super) fn begins(&self, rest: &[u8]) -> Begins {
        let Some(head) = head(rest) else { return self.begins_short(rest) };
        let skip = self.skip[pair(head[SHORTEST - 2], head[SHORTEST - 1])];
        if skip > 0 {
            return Begins::Nothing(usize::from(skip));
        }
        let Some(&(first, end)) = self.places.get(&head) else { return Begins::Nothing(1) };
        let (mut whole, mut open) = (0, None::<usize>);
        for (_, at) in &self.heads[first..end] {
            match self.forms[*at].meets(rest) {
                Meets::Not => {}
                Meets::Whole(bytes) => whole = whole.max(bytes),
                Meets::Open(bytes) => open = Some(open.map_or(bytes, |known| known.min(bytes))),
            }
        }
        if whole == 0 && open.is_none() { Begins::Nothing(1) } else { Begins::Form { whole, open } }
    }

    fn begins_short(&self, rest: &[u8]) -> Begins {
        let at = self.heads.partition_point(|(head, _)| head.as_slice() < rest);
        let form = self.heads.get(at).filter(|(head, _)| head.starts_with(rest)).map(|(_, form)| &self.forms[*form]);
        match form.map(|form| form.text.len()) {
            Some(bytes) => Begins::Form { whole: 0, open: Some(bytes) },
            None => Begins::Nothing(1),
        }
    }
}

impl Form {
    /// How a text may begin in which this is.
    fn heads(&self) -> impl Iterator<Item = Head> {
        let broken = (1..SHORTEST).filter(|_| self.in_lines).flat_map(|place| {
            let (before, after) = self.text.split_at(place);
            ["\n", "\r\n"].map(|end| [before, end.as_bytes(), after].concat())
        });
        std::iter::once(self.text.clone()).chain(broken).map(|text| head(&text).expect("no form is shorter"))
    }

    /// Whether the text begins with this.
    pub(super) fn meets(&self, text: &[u8]) -> Meets {
        let mut rest = text;
        for (at, byte) in self.text.iter().enumerate() {
            if at > 0 && self.in_lines && rest.first().is_some_and(|next| next != byte) {
                rest = match rest {
                    [b'\n', after @ ..] | [b'\r', b'\n', after @ ..] => after,
                    [b'\r'] => &[],
                    _ => return Meets::Not,
                };
            }
            rest = match rest {
                [] => return Meets::Open(text.len() + self.text.len() - at),
                [next, after @ ..] if next == byte => after,
                _ => return Meets::Not,
            };
        }
        Meets::Whole(text.len() - rest.len())
    }
}

fn head(text: &[u8]) -> Option<Head> {
    text.first_chunk().copied()
}

fn pair(first: u8, second: u8) -> usize {
    usize::from(u16::from_be_bytes([first, second]))
}

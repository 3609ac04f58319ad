//! Hides secrets in what programs print and in what is said about it.
//!
//! A mask knows every form in which a secret is usually written (as it is, base64, URL-encoded, as JSON, in
//! hexadecimal digits, a line of it; base64 and digits also in lines), and puts [`HIDDEN`] in its place. It is a net under the tightrope, not the rope: a
//! program that wants to print a secret prints it backwards. What must not be printed must not be given to it.

mod forms;
mod search;
mod stream;

#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use stream::Masked;

use forms::Forms;
use search::Search;

/// What stands in a secret's place.
pub const HIDDEN: &str = "***";

/// The shortest secret that is hidden, in bytes. A shorter one would blank out words that mean something else.
pub const SHORTEST: usize = 8;

/// What is to be hidden. Cheap to clone; its `Debug` shows nothing.
#[derive(Clone, Default)]
pub struct Mask(Option<Arc<Search>>);

impl Mask {
    /// Hides these, in every form; those under [`SHORTEST`] bytes are left out.
    pub fn of<'a>(secrets: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut forms = Forms::new();
        secrets.into_iter().for_each(|secret| forms::add(secret, &mut forms));
        Self(Search::new(forms).map(Arc::new))
    }

    /// Whether nothing is hidden, and nothing has to be looked at.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// A text that is there as a whole.
    pub fn text(&self, text: String) -> String {
        let masked = self.bytes(text.as_bytes());
        // A secret that is no text may have been found in the middle of a character.
        masked.map_or(text, |masked| String::from_utf8_lossy(&masked).into_owned())
    }

    /// Output that is there as a whole; `None` where there is nothing to hide.
    pub fn bytes(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        let mut masked = self.stream();
        let mut out = masked.push(bytes).into_owned();
        out.extend_from_slice(&masked.finish());
        (out != bytes).then_some(out)
    }

    /// The same for output that comes in pieces.
    pub fn stream(&self) -> Masked {
        Masked::new(self.0.clone())
    }
}

impl std::fmt::Debug for Mask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Mask(…)")
    }
}

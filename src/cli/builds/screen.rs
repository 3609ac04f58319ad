//! What strangers wrote, made fit for a terminal.
//!
//! A build's output and a commit's title come from whoever may push. Terminals obey escape sequences
//! (titles, clipboards, links, answers typed back), so only colours go through.

use std::io::{self, IsTerminal};

use console::AnsiCodeIterator;

use crate::domain::sentence;

/// What of a build's output goes to standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Screen {
    /// A file or a pipe: byte for byte.
    Raw,
    /// A terminal: text and colours.
    Colours,
    /// A terminal without colours (<https://no-color.org>): text.
    Plain,
}

impl Screen {
    /// That of this process.
    pub(in crate::cli) fn of_this_process() -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        match (io::stdout().is_terminal(), refused) {
            (false, _) => Screen::Raw,
            (true, false) => Screen::Colours,
            (true, true) => Screen::Plain,
        }
    }

    /// One line, or a piece of it, as it may be written there.
    pub(super) fn tame(self, text: &str) -> String {
        if self == Screen::Raw {
            return text.to_owned();
        }
        let mut tamed = String::with_capacity(text.len());
        let mut coloured = false;
        for (piece, is_code) in AnsiCodeIterator::new(text) {
            if !is_code {
                tamed.extend(piece.chars().filter(|c| !c.is_control() || matches!(c, '\t' | '\n')));
            } else if self == Screen::Colours && is_colour(piece) {
                tamed.push_str(piece);
                coloured = true;
            }
        }
        if coloured {
            let end = if tamed.ends_with('\n') { tamed.len() - 1 } else { tamed.len() };
            // A step that dies in the middle of a red word must not paint what follows.
            tamed.insert_str(end, "\u{1b}[0m");
        }
        tamed
    }
}

/// `ESC [ numbers m`: select graphic rendition (ECMA-48, 8.3.117).
fn is_colour(code: &str) -> bool {
    let inner = code.strip_prefix("\u{1b}[").and_then(|rest| rest.strip_suffix('m'));
    inner.is_some_and(|inner| inner.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b';' | b':')))
}

/// Any text as one line without anything that a terminal would obey.
pub(in crate::cli) fn one_line(text: &str) -> String {
    sentence::one_line(text, 1000)
}

#[cfg(test)]
mod tests {
    use super::Screen::{Colours, Plain, Raw};
    use super::*;

    #[test]
    fn only_colours_reach_a_terminal() {
        let check = |screen: Screen, text, expected| assert_eq!(screen.tame(text), expected, "{text:?}");
        check(Raw, "\u{1b}]0;title\u{7}a\r\n", "\u{1b}]0;title\u{7}a\r\n");
        check(Colours, "a\u{1b}[31mred\n", "a\u{1b}[31mred\u{1b}[0m\n");
        check(Colours, "\u{1b}[38;2;1;2;3mx", "\u{1b}[38;2;1;2;3mx\u{1b}[0m");
        check(Plain, "a\u{1b}[31mred\u{1b}[0m\n", "ared\n");
        for screen in [Colours, Plain] {
            check(screen, "a\u{1b}]8;;javascript:x\u{7}b\n", "ab\n");
            check(screen, "a\u{1b}[2J\u{1b}[Hb", "ab");
            check(screen, "10%\r20%\r\n", "10%20%\n");
            check(screen, "a\u{9b}31mb\0\u{8}\tc", "ab\tc");
        }
    }

    #[test]
    fn an_unfinished_sequence_has_no_power() {
        for text in ["\u{1b}", "\u{1b}[", "\u{1b}]52;c;aGk=", "\u{1b}P"] {
            let tamed = Colours.tame(text);
            assert!(!tamed.contains('\u{1b}'), "{text:?} became {tamed:?}");
        }
    }
}

//! Hostile text made harmless for the eye: colours of terminals kept, everything else shown or dropped.
//!
//! Only "select graphic rendition" (ECMA-48, section 8.3.117) has an effect. Other control sequences
//! (moving the cursor, titles, hyperlinks) are dropped; lone control characters and those that turn
//! the direction of text around are shown as symbols. HTML is escaped later, by the templates.

/// A piece of a line in one style.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Run {
    /// CSS classes: `f1` red foreground, `g4` blue background, `b` bold, `d` dim, `i` italic, `u` underlined.
    pub(super) class: String,
    pub(super) text: String,
}

/// The style as it stands between two lines of a step.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Painter {
    foreground: Option<u8>,
    background: Option<u8>,
    bold: bool,
    dim: bool,
    italic: bool,
    underlined: bool,
}

impl Painter {
    /// A line in runs; the style goes over to the next line.
    pub(super) fn line(&mut self, line: &str) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        let mut class = self.class();
        // Where none of the command strings that are still to come ends: looked for once, for a line may be full of them.
        let mut endless = false;
        let mut rest = line;
        while let Some(c) = rest.chars().next() {
            if c == '\u{1b}'
                && let Some(sequence) = Sequence::at(rest, &mut endless)
            {
                if let Some(codes) = sequence.colours {
                    self.select(codes);
                    class = self.class();
                }
                rest = &rest[sequence.length..];
                continue;
            }
            match runs.last_mut() {
                Some(run) if run.class == class => push_shown(&mut run.text, c),
                _ => {
                    let mut text = String::new();
                    push_shown(&mut text, c);
                    runs.push(Run { class: class.clone(), text });
                }
            }
            rest = &rest[c.len_utf8()..];
        }
        runs
    }

    fn select(&mut self, codes: &str) {
        let mut codes =
            codes.split(';').map(|code| code.split(':').next().unwrap_or_default().parse::<u8>().unwrap_or(0));
        while let Some(code) = codes.next() {
            match code {
                0 => *self = Painter::default(),
                1 => self.bold = true,
                2 => self.dim = true,
                3 => self.italic = true,
                4 => self.underlined = true,
                22 => (self.bold, self.dim) = (false, false),
                23 => self.italic = false,
                24 => self.underlined = false,
                30..=37 => self.foreground = Some(code - 30),
                39 => self.foreground = None,
                40..=47 => self.background = Some(code - 40),
                49 => self.background = None,
                90..=97 => self.foreground = Some(code - 90 + 8),
                100..=107 => self.background = Some(code - 100 + 8),
                // Of the larger palettes only the sixteen that have a class.
                38 | 48 => {
                    let chosen = match codes.next() {
                        Some(5) => codes.next().filter(|&colour| colour < 16),
                        Some(2) => codes.by_ref().nth(2).and(None),
                        _ => None,
                    };
                    if code == 38 { self.foreground = chosen } else { self.background = chosen }
                }
                _ => {}
            }
        }
    }

    fn class(&self) -> String {
        let mut classes = Vec::new();
        classes.extend(self.foreground.map(|colour| format!("f{colour}")));
        classes.extend(self.background.map(|colour| format!("g{colour}")));
        let flags = [(self.bold, "b"), (self.dim, "d"), (self.italic, "i"), (self.underlined, "u")];
        classes.extend(flags.into_iter().filter(|(on, _)| *on).map(|(_, class)| class.to_owned()));
        classes.join(" ")
    }
}

/// A whole escape sequence at the beginning of a text.
struct Sequence<'a> {
    /// In bytes.
    length: usize,
    /// The parameters, if it selects colours.
    colours: Option<&'a str>,
}

impl<'a> Sequence<'a> {
    /// `None` when it is not complete on this line: then its escape is shown like any control character.
    fn at(text: &'a str, endless: &mut bool) -> Option<Self> {
        let body = text.strip_prefix('\u{1b}')?;
        let bytes = body.as_bytes();
        match *bytes.first()? {
            b'[' => {
                let parameters = bytes[1..].iter().take_while(|byte| (0x30..=0x3f).contains(*byte)).count();
                let between = bytes[1 + parameters..].iter().take_while(|byte| (0x20..=0x2f).contains(*byte)).count();
                let last = *bytes.get(1 + parameters + between).filter(|byte| (0x40..=0x7e).contains(*byte))?;
                let colours = (last == b'm' && between == 0).then(|| &body[1..1 + parameters]);
                Some(Sequence { length: parameters + between + 3, colours })
            }
            // Command strings: window titles, hyperlinks (OSC 8), device control. They end with BEL or ST.
            b']' | b'P' | b'X' | b'^' | b'_' => {
                let end = if *endless { None } else { end_of_string(bytes) };
                *endless = end.is_none();
                Some(Sequence { length: 1 + end?, colours: None })
            }
            _ => {
                let between = bytes.iter().take_while(|byte| (0x20..=0x2f).contains(*byte)).count();
                bytes.get(between).filter(|byte| (0x30..=0x7e).contains(*byte))?;
                Some(Sequence { length: between + 2, colours: None })
            }
        }
    }
}

/// Where a command string ends, from its introducer.
fn end_of_string(bytes: &[u8]) -> Option<usize> {
    bytes.iter().enumerate().find_map(|(at, byte)| match byte {
        0x07 => Some(at + 1),
        0x1b if bytes.get(at + 1) == Some(&b'\\') => Some(at + 2),
        _ => None,
    })
}

/// A title, name or reason on one line, with nothing in it that could hide or reorder what is read.
pub(super) fn shown(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    text.chars().for_each(|c| push_shown(&mut shown, c));
    shown
}

/// The same for a text of several lines.
pub(super) fn shown_lines(text: &str) -> String {
    text.lines().map(shown).collect::<Vec<_>>().join("\n")
}

fn push_shown(text: &mut String, c: char) {
    match c {
        '\t' => text.push('\t'),
        // Unicode has pictures for these, in the same order.
        '\0'..='\u{1f}' => text.push(char::from_u32(0x2400 + u32::from(c)).unwrap_or('\u{fffd}')),
        '\u{7f}' => text.push('\u{2421}'),
        '\u{80}'..='\u{9f}'
        | '\u{61c}'
        | '\u{200b}'
        | '\u{200e}'
        | '\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{2069}'
        | '\u{feff}' => text.push_str(&format!("⟨U+{:04X}⟩", u32::from(c))),
        c => text.push(c),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: &[(&str, &str)]) {
        let runs = Painter::default().line(line);
        let runs: Vec<(&str, &str)> = runs.iter().map(|run| (run.class.as_str(), run.text.as_str())).collect();
        assert_eq!(runs, expected, "{line:?}");
    }

    #[test]
    fn colours_are_kept() {
        check("plain", &[("", "plain")]);
        check("\x1b[31mred\x1b[0m plain", &[("f1", "red"), ("", " plain")]);
        check("\x1b[1;92;44mloud\x1b[22;39;49m.", &[("f10 g4 b", "loud"), ("", ".")]);
        check(
            "\x1b[38;5;9mnine\x1b[38;5;200mother\x1b[38;2;1;2;3;4mtrue",
            &[("f9", "nine"), ("", "other"), ("u", "true")],
        );
        check("\x1b[mreset", &[("", "reset")]);
        let mut painter = Painter::default();
        painter.line("\x1b[2m");
        assert_eq!(painter.line("next")[0].class, "d", "a style lasts over the end of a line");
    }

    #[test]
    fn everything_else_is_dropped_or_shown() {
        check("a\x1b[2J\x1b[1;1Hb\x1b[?25lc", &[("", "abc")]);
        check("\x1b]8;;javascript:alert(1)\x1b\\click\x1b]8;;\x07!", &[("", "click!")]);
        check("\x1b]0;title\x07x", &[("", "x")]);
        check("\x1b]8;;javascript:alert(1)", &[("", "␛]8;;javascript:alert(1)")]);
        check("\x1b[31", &[("", "␛[31")]);
        check("\x1b", &[("", "␛")]);
        check("\x1b(Bx\x1bcy", &[("", "xy")]);
        check("\x1bé", &[("", "␛é")]);
        check("a\0b\rc\x7f\u{9b}31md", &[("", "a␀b␍c␡⟨U+009B⟩31md")]);
        check("safe\u{202e}gpj.exe\u{2069}", &[("", "safe⟨U+202E⟩gpj.exe⟨U+2069⟩")]);
        check("<script>alert(1)</script>", &[("", "<script>alert(1)</script>")]);
        assert_eq!(shown("\x1b[31mred\n"), "␛[31mred␊", "titles have no colours");
    }
}

//! What a log promises to be on a page, whatever a step wrote.

use askama::Template;

use super::ansi::{Painter, shown, shown_lines};
use super::view::{Line, Tail};
use crate::fuzz::Target;

/// See [`crate::fuzz`].
pub const TARGETS: &[Target] = &[Target {
    name: "log-page",
    real: &[
        b"\x1b[1m\x1b[32masset \x1b[39m\x1b[22mmain.js 1.2 KiB \x1b[38;5;9m[emitted]\x1b[0m\n  ./src/index.js\n",
        b"<script>alert(1)</script>\x1b]8;;javascript:alert(1)\x1b\\click\x1b]8;;\x07&amp;\"'`\n",
        "\x1b[31;1mFehler\x1b[0m größe \u{202e}gpj.exe\u{2069} \u{9b}31m \0\x07\x08\r\n".as_bytes(),
    ],
    words: &[
        "\x1b[",
        "\x1b]",
        "\x1b\\",
        "\x07",
        "m",
        "31",
        ";",
        ":",
        "38;5;",
        "48;2;1;2;3",
        "\x1bP",
        "\x1b_",
        "\u{9b}",
        "\u{9d}",
        "<",
        ">",
        "&",
        "\"",
        "'",
        "</div>",
        "</span>",
        "<img src=x onerror=alert(1)>",
        "\u{202e}",
        "\u{2066}",
        "\u{200b}",
        "\n",
        "\r",
        "\t",
        "99999999999999999999",
        "\u{fffd}",
    ],
    tries: 1000,
    holds: pages,
}];

/// The lines as the page of a build holds them.
#[derive(Template)]
#[template(path = "lines.html")]
struct Lines {
    log: Tail,
}

/// No tag but ours, each closed, and no character that draws or turns around.
fn pages(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut painter = Painter::default();
    let mut lines = Vec::new();
    for (n, line) in (0..).zip(text.split('\n')) {
        let runs = painter.line(line);
        for run in &runs {
            assert!(
                run.class.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == ' '),
                "{:?}",
                run.class
            );
            assert!(is_harmless(&run.text), "{:?}", run.text);
        }
        let length: usize = runs.iter().map(|run| run.text.chars().count()).sum();
        // The longest picture of one character is ⟨U+10FFFF⟩.
        assert!(length <= 10 * line.chars().count());
        lines.push(Line { n, runs });
    }
    assert!(is_harmless(&shown(&text)) && shown_lines(&text).lines().all(is_harmless));
    let count = lines.len();
    let html = Lines { log: Tail { lines, cut: false } }.render().expect("a page");
    let mut open = Vec::new();
    let mut divs = 0;
    for part in html.split('<').skip(1) {
        let (tag, text) = part.split_once('>').expect("a tag that ends");
        assert!(!text.contains('>'), "{part:?}");
        match tag.split(' ').next().expect("a name") {
            name @ ("div" | "span") => {
                assert!(tag.starts_with(&format!("{name} class=\"")) && tag.ends_with('"'), "{tag:?}");
                divs += usize::from(name == "div");
                open.push(name);
            }
            "/div" => assert_eq!(open.pop(), Some("div")),
            "/span" => assert_eq!(open.pop(), Some("span")),
            other => panic!("a tag of nobody's: {other:?}"),
        }
    }
    assert!(open.is_empty() && divs == count);
}

fn is_harmless(text: &str) -> bool {
    let draws = |c: char| c.is_control() && c != '\t';
    let turns =
        |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{61c}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !text.chars().any(|c| draws(c) || turns(c))
}

#[cfg(test)]
mod tests {
    #[test]
    fn promises_hold() {
        super::TARGETS.iter().for_each(|target| target.try_it());
    }
}

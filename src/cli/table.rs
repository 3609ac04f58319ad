//! Tables on a terminal.

use std::time::Duration;

use crate::domain::time::{Timestamp, brief};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// For a terminal that does not say how wide it is.
const WIDTH: usize = 100;

/// How long ago something was: `42s`, `7h 00m`, `3 days`.
pub(super) fn age(then: Timestamp, now: Timestamp) -> String {
    let past = now.since(then);
    if past < 2 * DAY { brief(past) } else { format!("{} days", past.as_secs() / DAY.as_secs()) }
}

/// The first row.
pub(super) fn headings(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// Columns of the terminal.
pub(super) fn width() -> usize {
    console::Term::stdout().size_checked().map_or(WIDTH, |(_rows, columns)| columns.into())
}

/// Pads every column but the last, and cuts lines to the width.
pub(super) fn aligned(rows: &[Vec<String>], width: usize) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widest: Vec<usize> = (0..columns)
        .map(|column| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0))
        .collect();
    let line = |row: &Vec<String>| {
        let mut line = String::new();
        for (cell, widest) in row.iter().zip(&widest) {
            line.push_str(&format!("{cell:<widest$}  "));
        }
        line.truncate(line.trim_end().len());
        cut(line, width)
    };
    rows.iter().map(line).collect()
}

fn cut(line: String, width: usize) -> String {
    if line.chars().count() <= width {
        return line;
    }
    let mut cut: String = line.chars().take(width.saturating_sub(1)).collect();
    cut.push('…');
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_each_other_and_fit_the_terminal() {
        let rows: Vec<Vec<String>> = [["A", "LONG", "WHY"], ["äöü", "x", "because of it"]]
            .iter()
            .map(|row| row.iter().map(|&cell| cell.to_owned()).collect())
            .collect();
        assert_eq!(aligned(&rows, 80), ["A    LONG  WHY", "äöü  x     because of it"]);
        assert_eq!(aligned(&rows, 16), ["A    LONG  WHY", "äöü  x     beca…"]);
    }

    #[test]
    fn ages_are_short() {
        let now = Timestamp(1_763_820_000_000);
        let check = |seconds: i64, text: &str| assert_eq!(age(Timestamp(now.0 - seconds * 1000), now), text);
        check(42, "42s");
        check(7 * 3600, "7h 00m");
        check(3 * 24 * 3600 + 5, "3 days");
        check(-5, "0.0s");
    }
}

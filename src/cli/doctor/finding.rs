//! One line of the table, and the table.

use serde::Serialize;

/// The widest line of the table, in columns.
const WIDTH: usize = 80;
/// Where details begin.
const INDENT: usize = 26;

/// How it is with one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    /// As it should be.
    Good,
    /// Builds run, but not all of them, or not as well.
    Warning,
    /// Builds, or their statuses, can't be.
    Fault,
}

/// What was found of one thing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// The heading it stands under.
    pub(super) group: &'static str,
    /// What was looked at: `node`, a forge's name, an address.
    pub(super) name: String,
    pub(super) state: State,
    /// What is there, or what is wrong.
    pub(super) detail: String,
    /// What mends it; none where nothing is wrong.
    pub(super) fix: Option<String>,
}

impl Finding {
    pub(super) fn good(group: &'static str, name: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { group, name: name.into(), state: State::Good, detail: detail.into(), fix: None }
    }

    pub(super) fn warning(
        group: &'static str,
        name: impl Into<String>,
        detail: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { state: State::Warning, fix: Some(fix.into()), ..Self::good(group, name, detail) }
    }

    pub(super) fn fault(
        group: &'static str,
        name: impl Into<String>,
        detail: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { state: State::Fault, ..Self::warning(group, name, detail, fix) }
    }

    pub(super) fn is_fault(&self) -> bool {
        self.state == State::Fault
    }
}

/// The whole report: one JSON document, or the table with its last line.
pub(super) fn report(findings: &[Finding], configured: bool, json: bool) -> String {
    let count = |state| findings.iter().filter(|finding| finding.state == state).count();
    let (faults, warnings) = (count(State::Fault), count(State::Warning));
    if json {
        let document = serde_json::json!({"ok": faults == 0, "configured": configured, "findings": findings});
        return format!("{document:#}\n");
    }
    let mut text = table(findings);
    if !configured {
        let none = "There is no configuration, so only the machine was looked at. `hookmill init` writes one, \
                    `hookmill demo` needs none.";
        wrap(none, WIDTH).iter().for_each(|line| push_line(&mut text, line));
    }
    let number = |count: usize, one: &str| format!("{count} {one}{}", if count == 1 { "" } else { "s" });
    let verdict = match (faults, configured) {
        (0, _) => "Builds can run",
        (_, true) => "Builds can't run as configured",
        (_, false) => "Builds can't run on this machine",
    };
    push_line(&mut text, &format!("{verdict}: {}, {}.", number(faults, "fault"), number(warnings, "warning")));
    text
}

fn table(findings: &[Finding]) -> String {
    let mut text = String::new();
    let mut group = "";
    for finding in findings {
        if finding.group != group {
            if !group.is_empty() {
                text.push('\n');
            }
            group = finding.group;
            push_line(&mut text, group);
        }
        let mark = match finding.state {
            State::Good => "ok",
            State::Warning => "warn",
            State::Fault => "FAULT",
        };
        let head = format!("  {mark:<6}{}", finding.name);
        let mut details = wrap(&finding.detail, WIDTH - INDENT).into_iter();
        if console::measure_text_width(&head) < INDENT {
            let first = details.next().unwrap_or_default();
            push_line(&mut text, &format!("{head:<INDENT$}{first}"));
        } else {
            push_line(&mut text, &head);
        }
        details.for_each(|line| push_line(&mut text, &format!("{:INDENT$}{line}", "")));
        for (at, line) in finding.fix.iter().flat_map(|fix| wrap(fix, WIDTH - INDENT - 5)).enumerate() {
            let label = if at == 0 { "fix: " } else { "     " };
            push_line(&mut text, &format!("{:INDENT$}{label}{line}", ""));
        }
    }
    text.push('\n');
    text
}

fn push_line(text: &mut String, line: &str) {
    text.push_str(line.trim_end());
    text.push('\n');
}

/// Lines of at most `width` columns, broken between words; a longer word (an address) keeps a line for itself.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for paragraph in text.lines() {
        let mut line = String::new();
        for word in paragraph.split_whitespace() {
            let fits = console::measure_text_width(&line) + 1 + console::measure_text_width(word) <= width;
            if !line.is_empty() && !fits {
                lines.push(std::mem::take(&mut line));
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_fits_into_eighty_columns_and_names_each_fix() {
        let findings = [
            Finding::good("machine", "node", "20.20.2, /usr/bin/node"),
            Finding::fault(
                "machine",
                "npm",
                "not found in the 6 folders of PATH ".repeat(3),
                "sudo apt-get install npm",
            ),
            Finding::warning("outside", "https://registry.example:8443", "is refused", "start it"),
        ];
        let text = report(&findings, true, false);
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
        assert!(
            text.starts_with("machine\n  ok    node              20.20.2, /usr/bin/node\n  FAULT npm    "),
            "{text}"
        );
        assert!(text.contains("\n                          fix: sudo apt-get install npm\n"), "{text}");
        assert!(text.ends_with("\nBuilds can't run as configured: 1 fault, 1 warning.\n"), "{text}");
        let json: serde_json::Value = serde_json::from_str(&report(&findings, true, true)).expect("JSON");
        assert_eq!((&json["ok"], &json["findings"][2]["state"]), (&false.into(), &"warning".into()));
    }

    #[test]
    fn words_stay_whole() {
        assert_eq!(wrap("a bb ccc", 4), ["a bb", "ccc"]);
        assert_eq!(wrap("a https://long.example/x b", 6), ["a", "https://long.example/x", "b"]);
    }
}

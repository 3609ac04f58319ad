//! The account of a plan on a terminal: what was seen, what follows and why, what is worth knowing, what would run.

use std::collections::BTreeMap;

use console::{measure_text_width, style};

use super::lanes::harmless;
use crate::domain::rule::Ruling;
use crate::domain::spec::{Decision, Explanation, NOBODY, Plan, Stage, Wanted};

/// For a terminal that does not say how wide it is.
const WIDTH: usize = 80;
/// Lines longer than this are hard to read, however wide the terminal is.
const WIDEST: usize = 110;
/// A column of names is at most so wide; a longer name gets a line of its own.
const NAMES: usize = 30;

/// A plan with its account.
pub(super) fn plan(plan: &Plan) -> Vec<String> {
    let width = width();
    let mut lines = told(&plan.notices, &plan.decisions, width);
    lines.extend(heading("What would run"));
    lines.extend(stages(&plan.stages, width));
    lines.extend(tools(plan, width));
    lines
}

/// The account that a server keeps with a build.
pub(super) fn explanation(explanation: &Explanation) -> Vec<String> {
    let Explanation { notices, decisions } = explanation;
    told(notices, decisions, width())
}

/// Which rules moved a build, and why; nothing for one that an older version made.
pub(super) fn history(rulings: &[Ruling]) -> Vec<String> {
    let width = width();
    let mut lines = Vec::new();
    if !rulings.is_empty() {
        lines.push(style("What moved this build, and by which rule").bold().to_string());
    }
    for ruling in rulings {
        let other = ruling.other_build.map(|id| format!(" (#{id})")).unwrap_or_default();
        let delivery = ruling.delivery.as_deref().map(|id| format!(", delivery {id}")).unwrap_or_default();
        lines.extend(item("-", &harmless(&format!("{}{other}{delivery}", ruling.because)), width));
        let rule = wrapped(&format!("{}: {}", ruling.rule, ruling.rule.says()), width.saturating_sub(6));
        lines.extend(rule.iter().map(|line| format!("      {}", style(line).dim())));
    }
    if !lines.is_empty() {
        lines.push(String::new());
    }
    lines
}

/// The notices by themselves.
pub(super) fn notices(notices: &[String]) -> Vec<String> {
    let width = width();
    notices.iter().flat_map(|notice| item("!", &harmless(notice), width)).collect()
}

fn width() -> usize {
    console::Term::stdout().size_checked().map_or(WIDTH, |(_rows, columns)| usize::from(columns).clamp(40, WIDEST))
}

fn told(notices: &[String], decisions: &[Decision], width: usize) -> Vec<String> {
    let mut lines = vec![style("What was seen, what follows, and why").bold().to_string()];
    let seen: Vec<String> = decisions.iter().map(|decision| harmless(&decision.seen)).collect();
    let column = seen.iter().map(|seen| measure_text_width(seen)).filter(|width| *width <= NAMES).max().unwrap_or(0);
    for (seen, Decision { decided, because, .. }) in seen.iter().zip(decisions) {
        let indent = column + 4;
        let decided = wrapped(&harmless(decided), width.saturating_sub(indent));
        let because = wrapped(&harmless(because), width.saturating_sub(indent + 2));
        let right = decided.into_iter().chain(because.iter().map(|line| format!("  {}", style(line).dim())));
        lines.extend(beside(seen, column, right));
    }
    if decisions.is_empty() {
        lines.push("  nothing that says how it is built".to_owned());
    }
    if !notices.is_empty() {
        lines.extend(heading("Worth knowing"));
        lines.extend(notices.iter().flat_map(|notice| item("!", &harmless(notice), width)));
    }
    lines
}

fn heading(text: &str) -> [String; 2] {
    [String::new(), style(text).bold().to_string()]
}

/// Stage by stage; the steps of one run side by side.
fn stages(stages: &[Stage], width: usize) -> Vec<String> {
    if stages.is_empty() {
        return vec!["  nothing".to_owned()];
    }
    let names = stages.iter().flat_map(|stage| &stage.steps).map(|step| measure_text_width(&harmless(&step.name)));
    let column = names.filter(|width| *width <= NAMES).max().unwrap_or(0) + 3;
    let mut lines = Vec::new();
    for (number, stage) in stages.iter().enumerate() {
        for (place, step) in stage.steps.iter().enumerate() {
            let mark = if place == 0 { (number + 1).to_string() } else { String::new() };
            let dir = if step.dir == "." { String::new() } else { format!("   in {}", step.dir) };
            let command = format!("{}{dir}", step.argv.join(" "));
            let right = wrapped(&harmless(&command), width.saturating_sub(column + 4));
            lines.extend(beside(&format!("{mark:<3}{}", harmless(&step.name)), column, right.into_iter()));
        }
    }
    lines
}

/// The tools that the steps have on their `PATH`, each once, with who asked for them and the steps that have them.
fn tools(plan: &Plan, width: usize) -> Vec<String> {
    let mut wanted: BTreeMap<&Wanted, Vec<&str>> = BTreeMap::new();
    for step in plan.steps() {
        for tool in &step.tools {
            wanted.entry(tool).or_default().push(&step.name);
        }
    }
    if wanted.is_empty() {
        return Vec::new();
    }
    let mut lines = Vec::from(heading("With"));
    for (tool, steps) in wanted {
        let version = if tool.version == "*" { "any version" } else { &tool.version };
        let who = if tool.asked_by == NOBODY { String::new() } else { format!(", asked by {}", tool.asked_by) };
        let text = format!("{} {version}{who}, for {}", tool.tool, steps.join(", "));
        lines.extend(item("-", &harmless(&text), width));
    }
    lines
}

/// A name in its column, and lines beside it; a name that is too long has its own line.
fn beside(name: &str, column: usize, right: impl Iterator<Item = String>) -> Vec<String> {
    let mut lines = Vec::new();
    let mut name = Some(name);
    if let Some(long) = name.filter(|name| measure_text_width(name) > column) {
        lines.push(format!("  {long}"));
        name = None;
    }
    for line in right {
        let left = name.take().unwrap_or_default();
        lines.push(format!("  {}  {line}", console::pad_str(left, column, console::Alignment::Left, None)));
    }
    lines
}

/// An item of a list, wrapped under itself.
fn item(mark: &str, text: &str, width: usize) -> Vec<String> {
    let lines = wrapped(text, width.saturating_sub(4)).into_iter().enumerate();
    lines.map(|(number, line)| format!("  {} {line}", if number == 0 { mark } else { " " })).collect()
}

/// Breaks a text between words. A word longer than the line stays whole: it may be there to be copied.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if measure_text_width(line) + 1 + measure_text_width(word) <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(seen: &str, decided: &str, because: &str) -> Decision {
        Decision { seen: seen.into(), decided: decided.into(), because: because.into() }
    }

    #[test]
    fn names_stand_in_a_column_and_texts_are_wrapped_beside_them() {
        let decisions = [
            decision("yarn.lock", "yarn install", "this lockfile belongs to yarn"),
            decision("packages/a-long-way-down/package.json", "not built", "\u{1b}[31mno script"),
        ];
        let lines = told(&["two lockfiles; delete package-lock.json".into()], &decisions, 40);
        let plain: Vec<_> = lines.iter().map(|line| console::strip_ansi_codes(line).into_owned()).collect();
        assert_eq!(
            plain[1..],
            [
                "  yarn.lock  yarn install",
                "               this lockfile belongs to",
                "               yarn",
                "  packages/a-long-way-down/package.json",
                "             not built",
                "               no script",
                "",
                "Worth knowing",
                "  ! two lockfiles; delete",
                "    package-lock.json",
            ]
        );
    }

    #[test]
    fn words_are_never_cut() {
        assert_eq!(wrapped("a unbreakable b", 5), ["a", "unbreakable", "b"]);
        assert_eq!(wrapped("", 5), [""]);
    }
}

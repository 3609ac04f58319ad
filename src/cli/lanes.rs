//! What moves on the screen: a lane a step, side by side in time, each with its elapsed time and its last line. Without
//! a terminal the same as plain lines, in the order in which they came.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use console::style;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::domain::outcome::Outcome;
use crate::domain::step::{Step, StepState};

/// How often a lane's clock is drawn.
const TICK: Duration = Duration::from_millis(100);
/// Names are padded, so that lanes stand under each other.
const NAME_WIDTH: usize = 10;

/// The screen, or the stream of plain lines.
pub(super) struct Lanes {
    /// `None` without a terminal.
    drawn: Option<MultiProgress>,
    stderr: bool,
    running: BTreeMap<String, ProgressBar>,
}

impl Lanes {
    /// Lanes that are drawn on standard output, or printed there when it is no terminal.
    pub(super) fn new(terminal: bool) -> Self {
        let drawn = terminal.then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stdout()));
        Self { drawn, stderr: false, running: BTreeMap::new() }
    }

    /// The same on standard error, where standard output is for a document.
    pub(super) fn on_stderr(terminal: bool) -> Self {
        let drawn = terminal.then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr()));
        Self { drawn, stderr: true, running: BTreeMap::new() }
    }

    /// Prints a line above the lanes.
    pub(super) fn say(&self, line: &str) {
        // A reader that went away (`| head`) ends nothing: the build is still to be finished and cleaned up after.
        let print = || {
            let _ = if self.stderr {
                writeln!(std::io::stderr().lock(), "{line}")
            } else {
                writeln!(std::io::stdout().lock(), "{line}")
            };
        };
        match &self.drawn {
            Some(screen) => screen.suspend(print),
            None => print(),
        }
    }

    /// A step moved: its lane appears or is closed with a line.
    pub(super) fn step(&mut self, step: &Step) {
        match step.state {
            StepState::Queued => {}
            StepState::Running => self.open(&step.name),
            StepState::Finished => {
                self.close(&step.name);
                self.say(&finished(step));
                mending(step).iter().for_each(|line| self.say(line));
            }
        }
    }

    /// A step wrote a line.
    pub(super) fn line(&mut self, step: &str, text: &str) {
        let text = harmless(text);
        if text.trim().is_empty() {
            return;
        }
        if self.drawn.is_none() {
            self.say(&format!("  {step:NAME_WIDTH$} | {text}"));
        } else if let Some(lane) = self.running.get(step) {
            lane.set_message(text);
        }
    }

    /// Takes away what still moves, at the end of a build or of the demo.
    pub(super) fn clear(&mut self) {
        while let Some((_, lane)) = self.running.pop_first() {
            lane.finish_and_clear();
        }
    }

    fn open(&mut self, name: &str) {
        let Some(screen) = &self.drawn else {
            self.say(&format!("  {name:NAME_WIDTH$} starts"));
            return;
        };
        if self.running.contains_key(name) {
            return;
        }
        let drawing = ProgressStyle::with_template("  {prefix} {spinner} {seconds}  {wide_msg:.dim}")
            .expect("the template is a constant that parses")
            .with_key("seconds", |lane: &ProgressState, text: &mut dyn std::fmt::Write| {
                let _ = write!(text, "{:5.1} s", lane.elapsed().as_secs_f64());
            });
        let lane =
            screen.add(ProgressBar::new_spinner().with_style(drawing).with_prefix(format!("{name:NAME_WIDTH$}")));
        lane.enable_steady_tick(TICK);
        self.running.insert(name.to_owned(), lane);
    }

    fn close(&mut self, name: &str) {
        if let Some(lane) = self.running.remove(name) {
            lane.finish_and_clear();
        }
    }
}

fn finished(step: &Step) -> String {
    let outcome = step.outcome.unwrap_or(Outcome::Broken);
    let word = match outcome {
        Outcome::Passed | Outcome::Skipped => style(outcome.as_str()).green(),
        Outcome::Cancelled => style(outcome.as_str()).dim(),
        Outcome::Failed | Outcome::TimedOut | Outcome::Broken => style(outcome.as_str()).red(),
    };
    let took = match (step.started_at, step.finished_at) {
        (Some(start), Some(end)) => format!(" in {:.1} s", end.since(start).as_secs_f64()),
        _ => String::new(),
    };
    let reason = step.reason.as_deref().map(|reason| format!(": {}", harmless(reason))).unwrap_or_default();
    let cache = step
        .cache_note
        .as_deref()
        .map(|note| style(format!(" (cache {}: {})", step.cache.as_str(), harmless(note))).dim().to_string());
    format!("  {:NAME_WIDTH$} {word}{took}{}{reason}", step.name, cache.unwrap_or_default())
}

/// The lines that mend a step, each a little to the right of the step's own.
fn mending(step: &Step) -> Vec<String> {
    let Some(mend) = &step.mend else { return Vec::new() };
    mend.lines().map(|line| format!("      {}", harmless(line)).trim_end().to_owned()).collect()
}

/// A line of a build, with nothing in it that a terminal would obey.
pub(super) fn harmless(text: &str) -> String {
    let bare = console::strip_ansi_codes(text);
    bare.chars().map(|c| if c == '\t' { ' ' } else { c }).filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_can_not_steer_the_terminal() {
        assert_eq!(harmless("\u{1b}[31mred\u{1b}[0m\ta\u{1b}]0;title\u{7}b\r\u{8}"), "red ab");
        assert!(!harmless("\u{9b}2J plain").contains('\u{9b}'));
    }
}

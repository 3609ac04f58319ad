//! Builds and steps as tables.

use std::time::SystemTime;

use serde::Deserialize;

use super::super::table::{age, aligned, headings, width};
use super::screen::{Screen, one_line};
use crate::domain::build::{Build, State};
use crate::domain::outcome::Outcome;
use crate::domain::step::Step;
use crate::domain::time::{Timestamp, brief};

/// A list of builds: aligned and cut to the terminal, or columns with tabs between for another program.
pub(super) fn list(builds: &[Build], screen: Screen) -> Vec<String> {
    let now = Timestamp::from(SystemTime::now());
    let on_terminal = screen != Screen::Raw;
    let mut rows: Vec<Vec<String>> = Vec::new();
    if on_terminal {
        rows.push(headings(&["BUILD", "RESULT", "REPOSITORY", "REF", "COMMIT", "AGE", "TOOK", "WHY"]));
    }
    for build in builds {
        rows.push(vec![
            build.id.to_string(),
            word(build.state, build.outcome).to_owned(),
            build.repo.to_string(),
            what(build),
            if on_terminal { build.sha.short().to_owned() } else { build.sha.to_string() },
            if on_terminal { age(build.created_at, now) } else { build.created_at.to_string() },
            took(build.started_at, build.finished_at, now),
            one_line(build.reason.as_deref().unwrap_or_default()),
        ]);
    }
    if on_terminal { aligned(&rows, width()) } else { rows.iter().map(|row| row.join("\t")).collect() }
}

/// One build and its steps.
pub(super) fn build(build: &Build, page: &str) -> Vec<String> {
    let now = Timestamp::from(SystemTime::now());
    let mut facts = vec![
        ("repository", format!("{}, {}", build.repo, what(build))),
        ("commit", build.sha.to_string()),
        ("title", one_line(build.title.as_deref().unwrap_or_default())),
        ("author", one_line(build.author.as_deref().unwrap_or_default())),
        ("asked by", asked_by(build)),
        ("approved by", approved_by(build, now)),
        ("why", one_line(build.reason.as_deref().unwrap_or_default())),
        ("created", format!("{} ({} ago)", build.created_at, age(build.created_at, now))),
        ("took", took(build.started_at, build.finished_at, now)),
        ("sandbox", one_line(&build.sandbox)),
        ("kept", build.kept_in_words()),
        ("page", page.to_owned()),
    ];
    if let Some(newer) = build.superseded_by {
        facts.push(("superseded by", format!("build {newer}")));
    }
    if let Some(older) = build.rerun_of {
        facts.push(("repeats", format!("build {older}")));
    }
    if let Some(other) = build.same_as {
        facts.push(("same files as", format!("build {other}, which passed: nothing had to run")));
    }
    let mut lines = vec![format!("build {}: {}", build.id, word(build.state, build.outcome))];
    lines.extend(
        facts.into_iter().filter(|(_, value)| !value.is_empty()).map(|(name, value)| format!("  {name:<13} {value}")),
    );
    if !build.steps.is_empty() {
        let mut rows = vec![headings(&["STEP", "RESULT", "TOOK", "ENDED WITH", "CACHE"])];
        rows.extend(build.steps.iter().map(|step| step_row(step, now)));
        lines.push(String::new());
        lines.extend(aligned(&rows, usize::MAX));
        for step in &build.steps {
            // The build's own reason stands above.
            let reason = step.reason.as_deref().filter(|_| step.reason != build.reason);
            lines.extend(reason.map(|reason| format!("  {}: {}", one_line(&step.name), one_line(reason))));
        }
        for step in build.steps.iter().filter(|step| !step.reached.is_empty()) {
            lines.push(format!("  {} reached {}", one_line(&step.name), one_line(&step.reached_in_words())));
        }
        for step in &build.steps {
            lines.extend(mending(step));
        }
    }
    lines
}

/// What a forge was told of a build in one context.
#[derive(Debug, Deserialize)]
pub(super) struct Told {
    context: String,
    state: String,
    fate: String,
    #[serde(default)]
    last_error: Option<String>,
}

/// What the forge does not know of a build; nothing when it knows all.
pub(super) fn not_told(id: i64, told: &[Told]) -> Vec<String> {
    let line = |told: &Told| {
        let why = told.last_error.as_deref().map(|why| format!(": {}", one_line(why))).unwrap_or_default();
        let what = format!("{} {}", one_line(&told.context), one_line(&told.state));
        match told.fate.as_str() {
            "due" if !why.is_empty() => Some(format!("The forge has not taken {what} yet{why}")),
            "dead" => Some(format!("The forge did not take {what}{why}\n  help: hookmill builds resend {id}")),
            _ => None,
        }
    };
    let lines: Vec<String> = told.iter().filter_map(line).collect();
    if lines.is_empty() { lines } else { [String::new()].into_iter().chain(lines).collect() }
}

fn asked_by(build: &Build) -> String {
    let without = if build.use_cache { "" } else { ", without caches" };
    format!("{}, {}, attempt {}{without}", build.cause.words(), build.trust.as_str(), build.attempt)
}

/// `admin, 3h 02m ago`; empty for what needed nobody's word.
fn approved_by(build: &Build, now: Timestamp) -> String {
    let who = build.approved_by.as_deref().map(one_line).unwrap_or_default();
    let when = build.approved_at.map(|at| format!(", {} ago", age(at, now))).unwrap_or_default();
    format!("{who}{when}")
}

/// What mends a step, under its name.
fn mending(step: &Step) -> Vec<String> {
    let Some(mend) = &step.mend else { return Vec::new() };
    let heading = format!("What mends {}:", one_line(&step.name));
    // Indented as in a file, so the line breaks are theirs and the blanks before a key too.
    [String::new(), heading].into_iter().chain(mend.lines().map(|line| format!("  {}", one_line(line)))).collect()
}

/// One step in a sentence, for `log -f`.
pub(super) fn step_line(step: &Step) -> String {
    let name = one_line(&step.name);
    let Some(outcome) = step.outcome else {
        return format!("{name}: {}", step.state.as_str());
    };
    let took = match (step.started_at, step.finished_at) {
        (Some(begun), Some(ended)) => format!(" in {}", brief(ended.since(begun))),
        _ => String::new(),
    };
    let why = step.reason.as_deref().map(|reason| format!(": {}", one_line(reason))).unwrap_or_default();
    let cache = step.cache_note.as_ref().map(|_| format!(" (cache {})", cache(step))).unwrap_or_default();
    format!("{name}: {}{took}{cache}{why}", outcome.as_str())
}

/// One build in a sentence, for `log -f`.
pub(super) fn build_line(build: &Build) -> String {
    let why = build.reason.as_deref().map(|reason| format!(": {}", one_line(reason))).unwrap_or_default();
    format!("build {}: {}{why}", build.id, word(build.state, build.outcome))
}

fn step_row(step: &Step, now: Timestamp) -> Vec<String> {
    let ended = match (&step.signal, step.exit_code) {
        (Some(signal), _) => format!("signal {}", one_line(signal)),
        (None, Some(code)) => format!("exit {code}"),
        (None, None) => String::new(),
    };
    vec![
        one_line(&step.name),
        step.outcome.map_or(step.state.as_str(), Outcome::as_str).to_owned(),
        took(step.started_at, step.finished_at, now),
        ended,
        cache(step),
    ]
}

/// `hit: unchanged since build #12`.
fn cache(step: &Step) -> String {
    let why = step.cache_note.as_deref().map(|note| format!(": {}", one_line(note))).unwrap_or_default();
    format!("{}{why}", step.cache.as_str())
}

fn word(state: State, outcome: Option<Outcome>) -> &'static str {
    outcome.map_or(state.as_str(), Outcome::as_str)
}

/// The branch, tag or pull request.
fn what(build: &Build) -> String {
    let name = one_line(&build.git_ref.short());
    match build.pull_request {
        Some(number) if build.branch.is_some() => format!("{name} (#{number})"),
        Some(number) => format!("#{number}"),
        None => name,
    }
}

/// How long it took, or has been taking until now; empty before it began.
fn took(begun: Option<Timestamp>, ended: Option<Timestamp>, now: Timestamp) -> String {
    begun.map(|begun| brief(ended.unwrap_or(now).since(begun))).unwrap_or_default()
}

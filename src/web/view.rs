//! What a page shows, as plain text for the templates, which escape it. No HTML is made here.

use std::time::{Duration, SystemTime};

use axum::http::{HeaderMap, Uri};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::blobs::{Artifact, Snapshot, StepTail};
use crate::domain::build::{Build, BuildId, State};
use crate::domain::outcome::Outcome;
use crate::domain::repo::RepoId;
use crate::domain::rule::Ruling;
use crate::domain::sentence::size;
use crate::domain::spec::Decision;
use crate::domain::step::{CacheUse, Step, StepState};
use crate::domain::time::{Timestamp, brief};

use super::ansi::{Painter, Run, shown, shown_lines};
use super::auth::Site;
use super::records::Told;

/// What may stand in a path as it is.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

pub(super) fn path_encoded(text: &str) -> String {
    utf8_percent_encode(text, PATH).to_string()
}

pub(super) fn now() -> Timestamp {
    SystemTime::now().into()
}

/// What stands around every page.
pub(super) struct Frame {
    pub(super) base: String,
    pub(super) version: &'static str,
    pub(super) title: String,
    /// The token of our own forms, when somebody is signed in.
    pub(super) form: Option<String>,
    pub(super) can_sign_in: bool,
    /// Whether lists open to this reader; somebody with one build's link only gets no links to them.
    pub(super) may_list: bool,
    /// Where to come back to after signing in.
    pub(super) here: String,
}

impl Frame {
    pub(super) fn new(site: &Site, headers: &HeaderMap, uri: &Uri, title: impl Into<String>) -> Self {
        Frame {
            base: site.base().to_owned(),
            version: &super::asset::VERSION,
            title: title.into(),
            form: site.form_token(headers),
            can_sign_in: site.has_admin(),
            may_list: site.may_read_all(headers),
            here: utf8_percent_encode(super::auth::local_path(uri.path()), NON_ALPHANUMERIC).to_string(),
        }
    }
}

/// What the forge was not told, and will not be unless somebody has it sent again.
pub(super) fn never_told(told: &Told) -> Option<String> {
    let why = told.last_error.as_deref().unwrap_or_default();
    (told.fate == "dead").then(|| {
        format!(
            "The forge was not told {} {} and will not be asked again ({why}): see Health",
            told.context, told.state
        )
    })
}

/// How something stands, as a word and as a class of the style sheet.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    pub(super) class: &'static str,
    pub(super) word: &'static str,
    pub(super) sign: &'static str,
}

impl Mark {
    pub(super) fn of_outcome(outcome: Outcome) -> Self {
        let (word, sign) = match outcome {
            Outcome::Passed => ("passed", "✓"),
            Outcome::Skipped => ("skipped", "–"),
            Outcome::Failed => ("failed", "✗"),
            Outcome::TimedOut => ("timed out", "✗"),
            Outcome::Cancelled => ("cancelled", "⊘"),
            Outcome::Broken => ("broken", "!"),
        };
        Mark { class: outcome.as_str(), word, sign }
    }

    pub(super) fn of_build(build: &Build) -> Self {
        match (build.outcome, build.state) {
            (Some(outcome), _) => Self::of_outcome(outcome),
            (None, State::Waiting) => Mark { class: "waiting", word: "waiting", sign: "‖" },
            (None, State::Queued) => Mark { class: "queued", word: "queued", sign: "○" },
            (None, _) => Mark { class: "running", word: "running", sign: "●" },
        }
    }

    fn of_step(step: &Step) -> Self {
        match (step.outcome, step.state) {
            (Some(outcome), _) => Self::of_outcome(outcome),
            (None, StepState::Queued) => Mark { class: "queued", word: "queued", sign: "○" },
            (None, _) => Mark { class: "running", word: "running", sign: "●" },
        }
    }
}

/// A moment, for machines and for people.
pub(super) struct Moment {
    pub(super) exact: String,
    pub(super) ago: String,
}

impl Moment {
    pub(super) fn new(at: Timestamp, now: Timestamp) -> Self {
        let since = now.since(at);
        let ago = match since.as_secs() {
            0 | 1 => "just now".to_owned(),
            seconds @ 2..60 => format!("{seconds}s ago"),
            seconds @ 60..3600 => format!("{}m ago", seconds / 60),
            seconds @ 3600..86_400 => format!("{}h ago", seconds / 3600),
            seconds => format!("{}d ago", seconds / 86_400),
        };
        Moment { exact: at.to_string(), ago }
    }
}

/// What a list and a build's page both say of a build.
pub(super) struct Summary {
    pub(super) id: BuildId,
    pub(super) mark: Mark,
    pub(super) title: String,
    pub(super) reason: Option<String>,
    pub(super) repo: String,
    pub(super) repo_path: String,
    pub(super) source: String,
    pub(super) commit: String,
    pub(super) author: Option<String>,
    pub(super) created: Moment,
    pub(super) took: Option<String>,
}

impl Summary {
    pub(super) fn new(build: &Build, now: Timestamp) -> Self {
        let title = build.title.as_deref().filter(|title| !title.trim().is_empty());
        let git_ref = shown(&build.git_ref.short());
        let source = match (build.pull_request, build.git_ref.as_branch(), build.git_ref.as_tag()) {
            (Some(number), Some(_), _) => format!("pull request {number} · {git_ref}"),
            (None, None, Some(_)) => format!("tag {git_ref}"),
            _ => git_ref,
        };
        let ran = build.started_at.map(|start| build.finished_at.unwrap_or(now).since(start));
        Summary {
            id: build.id,
            mark: Mark::of_build(build),
            title: title.map_or_else(|| format!("Commit {}", build.sha.short()), shown),
            reason: build.reason.as_deref().map(shown),
            repo: shown(&build.repo.to_string()),
            repo_path: repo_path(&build.repo),
            source,
            commit: build.sha.short().to_owned(),
            author: build.author.as_deref().map(shown),
            created: Moment::new(build.created_at, now),
            took: ran.map(brief),
        }
    }
}

pub(super) fn repo_path(repo: &RepoId) -> String {
    format!("/repos/{}", path_encoded(&repo.to_string()))
}

/// A line of the plan's account.
pub(super) struct Reasoned {
    pub(super) seen: String,
    pub(super) decided: String,
    pub(super) because: String,
}

impl Reasoned {
    pub(super) fn new(decision: &Decision) -> Self {
        let Decision { seen, decided, because } = decision;
        Reasoned { seen: shown(seen), decided: shown(decided), because: shown(because) }
    }
}

/// A line of a build's history.
pub(super) struct Moved {
    pub(super) at: Moment,
    pub(super) rule: &'static str,
    pub(super) says: &'static str,
    pub(super) because: String,
    pub(super) other: Option<OtherBuild>,
    pub(super) delivery: Option<String>,
}

/// Another build that a page names.
pub(super) struct OtherBuild {
    pub(super) id: BuildId,
    /// Whether this reader may open it: a link's key is for one build.
    pub(super) is_open: bool,
}

impl Moved {
    pub(super) fn new(ruling: &Ruling, now: Timestamp, may_open: impl Fn(BuildId) -> bool) -> Self {
        Moved {
            at: Moment::new(ruling.at, now),
            rule: ruling.rule.as_str(),
            says: ruling.rule.says(),
            because: shown(&ruling.because),
            other: ruling.other_build.map(|id| OtherBuild { id, is_open: may_open(id) }),
            delivery: ruling.delivery.as_deref().map(shown),
        }
    }
}

/// A step as a lane: what it is, and when it ran within its build.
pub(super) struct Lane {
    /// Its place in the plan, from 1.
    pub(super) number: usize,
    pub(super) name: String,
    /// The exact name, percent-encoded: for addresses and for the script.
    pub(super) key: String,
    pub(super) mark: Mark,
    pub(super) took: Option<String>,
    /// When it began, in milliseconds since 1970, while it runs.
    pub(super) running_since: Option<i64>,
    pub(super) cache: Option<CacheWord>,
    pub(super) ending: Option<String>,
    pub(super) reason: Option<String>,
    /// Lines to paste that mend it.
    pub(super) mend: Option<String>,
    /// The hosts that it asked for.
    pub(super) reached: Vec<Host>,
    /// Where its bar begins and how long it is, in percent of the build's time.
    pub(super) bar: Option<(String, String)>,
    pub(super) log: Option<Tail>,
    /// Whether its log is unfolded at first.
    pub(super) open: bool,
}

/// What a step's cache did, where there is something to say.
pub(super) struct CacheWord {
    /// `hit`, `miss` or `off`; also the class.
    pub(super) word: &'static str,
    pub(super) text: String,
}

impl CacheWord {
    fn of(step: &Step) -> Option<Self> {
        let text = match (&step.cache_note, step.cache) {
            (Some(note), _) => shown(note),
            (None, CacheUse::Hit) => "found".to_owned(),
            (None, CacheUse::Miss | CacheUse::Off) => return None,
        };
        Some(CacheWord { word: step.cache.as_str(), text })
    }
}

/// A host that a step asked for, with its bytes.
pub(super) struct Host {
    pub(super) words: String,
    pub(super) closed: bool,
}

/// The end of a step's log.
pub(super) struct Tail {
    pub(super) lines: Vec<Line>,
    pub(super) cut: bool,
}

/// A line of a log.
pub(super) struct Line {
    pub(super) n: u64,
    pub(super) runs: Vec<Run>,
}

impl From<StepTail> for Tail {
    fn from(tail: StepTail) -> Self {
        let mut painter = Painter::default();
        let lines = tail.lines.into_iter().map(|line| Line { n: line.n, runs: painter.line(&line.text) });
        Tail { lines: lines.collect(), cut: tail.cut }
    }
}

/// The lanes of a build, each with the end of its log.
pub(super) fn lanes(build: &Build, snapshot: Snapshot, now: Timestamp) -> Vec<Lane> {
    let mut tails: Vec<StepTail> = snapshot.steps;
    let first = build.steps.iter().filter_map(|step| step.started_at).min();
    let start = first.into_iter().chain(build.started_at).min().unwrap_or(now);
    let last = build.steps.iter().filter_map(|step| step.finished_at).max();
    let end = if build.state == State::Finished { last.or(build.finished_at).unwrap_or(now) } else { now };
    let whole = end.since(start).max(Duration::from_millis(1));
    let open = step_to_look_at(build);
    let lane = |(index, step): (usize, &Step)| {
        let ran = step.started_at.map(|began| (began, step.finished_at.unwrap_or(end).since(began)));
        // A step of no time at all still gets a stroke that can be seen.
        let hair = whole / 250;
        let at = tails.iter().position(|tail| tail.name == step.name);
        Lane {
            number: index + 1,
            name: shown(&step.name),
            key: utf8_percent_encode(&step.name, NON_ALPHANUMERIC).to_string(),
            mark: Mark::of_step(step),
            took: ran.map(|(_, took)| brief(took)),
            running_since: step.started_at.filter(|_| step.state == StepState::Running).map(|at| at.0),
            cache: CacheWord::of(step),
            ending: ending(step).filter(|ending| !step.reason.as_ref().is_some_and(|reason| reason.contains(ending))),
            reason: step.reason.as_deref().map(shown),
            mend: step.mend.as_deref().map(shown_lines),
            reached: step
                .reached
                .iter()
                .map(|host| Host { words: shown(&host.to_string()), closed: host.closed })
                .collect(),
            bar: ran.map(|(began, took)| {
                (percent(began.since(start).min(whole - hair), whole), percent(took.max(hair), whole))
            }),
            log: at.map(|at| tails.swap_remove(at).into()),
            open: open == Some(index) || step.outcome.is_some_and(is_at_fault),
        }
    };
    build.steps.iter().enumerate().map(lane).collect()
}

/// How many artifacts a page names; all are in the API's list.
const ARTIFACTS_SHOWN: usize = 100;

/// What a build left to be kept.
pub(super) struct KeptFiles {
    /// `1 file`, `12 files`.
    pub(super) count: String,
    /// The size of all of them.
    pub(super) total: String,
    pub(super) files: Vec<KeptFile>,
    /// How many are not shown.
    pub(super) more: usize,
}

/// One artifact.
pub(super) struct KeptFile {
    pub(super) path: String,
    /// The exact path, percent-encoded.
    pub(super) address: String,
    pub(super) size: String,
}

impl KeptFiles {
    /// `None` when nothing is kept.
    pub(super) fn of(artifacts: &[Artifact]) -> Option<Self> {
        let file = |artifact: &Artifact| KeptFile {
            path: shown(&artifact.path),
            address: path_encoded(&artifact.path),
            size: size(artifact.bytes),
        };
        let count = artifacts.len();
        (count > 0).then(|| KeptFiles {
            count: format!("{count} {}", if count == 1 { "file" } else { "files" }),
            total: size(artifacts.iter().map(|artifact| artifact.bytes).sum()),
            files: artifacts.iter().take(ARTIFACTS_SHOWN).map(file).collect(),
            more: count.saturating_sub(ARTIFACTS_SHOWN),
        })
    }
}

fn is_at_fault(outcome: Outcome) -> bool {
    matches!(outcome, Outcome::Failed | Outcome::TimedOut | Outcome::Broken)
}

/// The step whose log a visitor most likely wants: one that runs, else the last that ran.
fn step_to_look_at(build: &Build) -> Option<usize> {
    if build.outcome.is_some_and(|outcome| !outcome.is_success()) {
        return None;
    }
    let running = build.steps.iter().rposition(|step| step.state == StepState::Running);
    running.or_else(|| build.steps.iter().rposition(|step| step.started_at.is_some()))
}

fn ending(step: &Step) -> Option<String> {
    match (step.exit_code, &step.signal) {
        (_, Some(signal)) => Some(format!("ended by SIG{}", shown(signal))),
        (Some(code), None) if code != 0 => Some(format!("exit status {code}")),
        _ => None,
    }
}

fn percent(part: Duration, whole: Duration) -> String {
    format!("{:.2}%", (part.as_secs_f64() / whole.as_secs_f64() * 100.0).clamp(0.0, 100.0))
}

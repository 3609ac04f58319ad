//! A fault in a configuration text, with its place and its fix, and how it is shown to a person.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::schema::Asked;
use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

/// A text that settings come from: a file, the embedded default, or one environment variable.
pub(super) struct Source {
    /// What a person calls it: `hookmill.toml`, `environment`.
    pub(super) name: String,
    /// The text as it may be shown: of the same length as what was read, secrets replaced by asterisks.
    pub(super) shown: String,
    /// Relative paths in it are relative to this folder.
    pub(super) base: PathBuf,
    /// True for an environment variable: its keys are written otherwise than in a file.
    pub(super) variable: bool,
}

/// Where in a source something stands.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) source: Arc<Source>,
    /// Bytes of the source's text.
    pub(super) span: Range<usize>,
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{:?}", self.source.name, self.span)
    }
}

/// What sort of fault it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It can't be right: an unknown key, a wrong value, something missing.
    Wrong,
    /// It is right by the documentation, but this version does not do it yet.
    NotBuilt,
    /// It works, and should still be looked at.
    Warning,
}

/// One fault: where, what, and what to do.
#[derive(Clone)]
pub struct Problem {
    /// What sort of fault it is.
    pub kind: Kind,
    /// One line, without a full stop; names the key.
    pub message: String,
    /// What to do about it, if there is something to be done in the text.
    pub fix: Option<String>,
    place: Option<Place>,
}

impl Problem {
    pub(super) fn at(kind: Kind, place: &Place, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), fix: None, place: Some(place.clone()) }
    }

    /// A fault of a whole file, or of no file.
    pub(super) fn general(message: impl Into<String>) -> Self {
        Self { kind: Kind::Wrong, message: message.into(), fix: None, place: None }
    }

    pub(super) fn fix(mut self, fix: impl Into<String>) -> Self {
        self.fix = Some(fix.into());
        self
    }

    /// The file's name and the line and column (both from 1, the column in characters), if it has a place.
    pub fn location(&self) -> Option<(&str, usize, usize)> {
        let place = self.place.as_ref()?;
        let text = &place.source.shown;
        let before = &text[..text.floor_char_boundary(place.span.start)];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let line = before.matches('\n').count() + 1;
        Some((&place.source.name, line, before[line_start..].chars().count() + 1))
    }

    /// The fault as a person reads it: message, `file:line:column`, the line with a caret, the fix.
    pub fn render(&self, coloured: bool) -> String {
        let level = if self.kind == Kind::Warning { Level::WARNING } else { Level::ERROR };
        let title = level.primary_title(self.message.as_str());
        let mut group = match &self.place {
            Some(place) => {
                let Excerpt { text, line, span } = excerpt(place);
                title.element(
                    Snippet::source(text)
                        .line_start(line)
                        .path(place.source.name.as_str())
                        .annotation(AnnotationKind::Primary.span(span)),
                )
            }
            None => Group::with_title(title),
        };
        if let Some(fix) = &self.fix {
            group = group.element(Level::HELP.message(fix.as_str()));
        }
        let renderer = if coloured { Renderer::styled() } else { Renderer::plain() };
        renderer.render(&[group])
    }
}

/// Only the first line of a place: a caret under a whole table would bury its message.
fn visible(place: &Place) -> Range<usize> {
    let text = &place.source.shown;
    let start = text.floor_char_boundary(place.span.start.min(text.len()));
    let end = text.ceil_char_boundary(place.span.end.clamp(start, text.len()));
    let line_end = text[start..end].find('\n').map_or(end, |at| start + at);
    start..line_end
}

/// The line of a place, as far as a person reads it.
struct Excerpt<'s> {
    text: &'s str,
    /// Its number, from 1.
    line: usize,
    /// The place in `text`.
    span: Range<usize>,
}

/// What is shown behind a place of its line, in bytes: whoever wrote a megabyte without an end of line reads no more.
const BEHIND: usize = 1000;

/// Cut out here: whoever draws it would go through the whole text for each of its faults.
fn excerpt(place: &Place) -> Excerpt<'_> {
    let text = &place.source.shown;
    let span = visible(place);
    let start = text[..span.start].rfind('\n').map_or(0, |at| at + 1);
    let end = text[span.end..].find('\n').map_or(text.len(), |at| span.end + at);
    let end = text.ceil_char_boundary(end.min(span.end + BEHIND));
    let line = 1 + text[..start].matches('\n').count();
    Excerpt { text: &text[start..end], line, span: span.start - start..span.end - start }
}

impl fmt::Debug for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {:?}: {}", self.kind, self.location(), self.message)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

/// Every fault of a configuration, in the order of the texts. Nothing is used of what has one.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}", self.render(false))]
pub struct Problems(pub Vec<Problem>);

impl Problems {
    /// The first of them, an empty line between, and how many more there are. Each is drawn by reading all of its text, and
    /// a text of a megabyte may be nothing but faults.
    pub fn render(&self, coloured: bool) -> String {
        let shown = self.0.iter().take(MOST_SHOWN).map(|problem| problem.render(coloured));
        let more = self.0.len().saturating_sub(MOST_SHOWN);
        let more = (more > 0).then(|| format!("and {more} more, to be seen once these are mended"));
        shown.chain(more).collect::<Vec<_>>().join("\n\n")
    }
}

/// More than anybody mends before looking again.
const MOST_SHOWN: usize = 20;

/// Collects what is found while reading, so that one run names every fault.
#[derive(Default)]
pub(super) struct Findings {
    /// Every key that was asked for.
    pub(super) asked: Asked,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Problem>,
}

impl Findings {
    pub(super) fn push(&mut self, problem: Problem) {
        match problem.kind {
            Kind::Warning => self.warnings.push(problem),
            Kind::Wrong | Kind::NotBuilt => self.problems.push(problem),
        }
    }

    /// The warnings, or every problem when there is one.
    pub(super) fn verdict(mut self) -> Result<Vec<Problem>, Problems> {
        if self.problems.is_empty() {
            return Ok(self.warnings);
        }
        let order = |problem: &Problem| problem.place.as_ref().map(|p| (p.source.name.clone(), p.span.start));
        self.problems.sort_by_cached_key(order);
        Err(Problems(self.problems))
    }
}

/// The name of a file in messages: relative where that is shorter, since people read it in a terminal.
pub(super) fn display_name(path: &Path, cwd: &Path) -> String {
    path.strip_prefix(cwd).unwrap_or(path).display().to_string()
}

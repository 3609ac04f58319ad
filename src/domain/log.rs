//! What happens in a build, as terminals, pages and the event stream see it.

use serde::{Deserialize, Serialize};

use super::build::Build;
use super::step::Step;
use super::time::Timestamp;

/// The longest line that is shown live; longer ones come in pieces of at most this many bytes.
pub const LINE_MAX: usize = 64 * 1024;

/// One line of a step's output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// The step's name.
    pub step: String,
    /// The line's number within its step's log, from 1.
    pub n: u64,
    /// When it was written down.
    #[serde(rename = "t")]
    pub at: Timestamp,
    /// The text without its line end; bytes that are not UTF-8 were replaced. Hostile text.
    pub text: String,
}

/// Something that happened in a build. Serialised as the `data` of the event stream.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Happening {
    /// The build moved, or its plan became known.
    State(Box<Build>),
    /// A step moved.
    Step(Box<Step>),
    /// A step wrote a line.
    Line(LogLine),
    /// The build has its outcome; nothing follows.
    End(Box<Build>),
}

impl Happening {
    /// The `event` field of the stream.
    pub fn kind(&self) -> &'static str {
        match self {
            Happening::State(_) => "state",
            Happening::Step(_) => "step",
            Happening::Line(_) => "line",
            Happening::End(_) => "end",
        }
    }
}

//! `hookmill builds log -f`: a build's event stream until its end, over lost connections.

use std::time::{Duration, Instant};

use serde::Deserialize;

use super::event_stream::{Event, EventStream};
use super::screen::Screen;
use super::show;
use crate::cli::output::Out;
use crate::cli::server::{CallError, Server};
use crate::domain::build::{Build, State};
use crate::domain::outcome::Outcome;
use crate::domain::step::Step;

/// How long a server may be away before it is given up: a restart may wait for running builds.
const AWAY: Duration = Duration::from_secs(15 * 60);
const FIRST_PAUSE: Duration = Duration::from_millis(250);
const LONGEST_PAUSE: Duration = Duration::from_secs(15);
/// A server that asks for more is asked again after this.
const LONGEST_WISH: Duration = Duration::from_secs(60);

/// Follows a build to its end, whose exit code is the answer; success when nobody reads our output any more.
pub(super) fn follow(server: &Server, id: i64, step: Option<&str>, out: &mut Out) -> Result<u8, CallError> {
    let mut teller = Teller { only: step, screen: Screen::of_this_process(), widest: 0, told: None };
    let mut last_id: Option<String> = None;
    let mut pause = FIRST_PAUSE;
    let mut away: Option<Instant> = None;
    loop {
        let lost = match server.events(id, last_id.as_deref()) {
            Ok(None) => return teller.end(&show_now(server, id)?),
            Ok(Some(body)) => {
                away = None;
                let mut stream = EventStream::new(body);
                while let Ok(Some(event)) = stream.next() {
                    pause = FIRST_PAUSE;
                    if let Some(build) = teller.tell(&event, server, out)? {
                        return teller.end(&build);
                    }
                    if out.is_closed() {
                        return Ok(0);
                    }
                    last_id = event.id.or(last_id);
                }
                None
            }
            // Before the first word there is nothing to come back to.
            Err(error @ CallError::Unreachable { .. }) if last_id.is_none() => return Err(error),
            Err(error @ (CallError::Unreachable { .. } | CallError::Busy { .. })) => Some(error),
            Err(error) => return Err(error),
        };
        let since = *away.get_or_insert_with(|| {
            match &lost {
                Some(error) => eprintln!("hookmill: {error}; trying again"),
                None => eprintln!("hookmill: the connection was lost; trying again"),
            }
            Instant::now()
        });
        let wish = match &lost {
            Some(CallError::Busy { after: Some(after), .. }) => (*after).min(LONGEST_WISH),
            _ => Duration::ZERO,
        };
        if let Some(error) = lost.filter(|_| since.elapsed() > AWAY) {
            return Err(error);
        }
        std::thread::sleep(pause.max(wish));
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn show_now(server: &Server, id: i64) -> Result<Build, CallError> {
    let document = server.document(&["api", "v1", "builds", &id.to_string()], &[])?;
    server.parse(&document)
}

/// One line of a step's output.
#[derive(Deserialize)]
struct Line {
    step: String,
    text: String,
}

/// Output goes to standard output, everything else to standard error.
struct Teller<'a> {
    only: Option<&'a str>,
    screen: Screen,
    /// The longest step name so far, in characters.
    widest: usize,
    /// The state that was told last; a plan that became known is a state event as well.
    told: Option<State>,
}

impl Teller<'_> {
    /// Tells one event; the build, when it was the last.
    fn tell(&mut self, event: &Event, server: &Server, out: &mut Out) -> Result<Option<Build>, CallError> {
        let document = event.data.as_bytes();
        match event.kind.as_str() {
            "line" => self.line(&server.parse(document)?, out),
            "step" => {
                let step: Step = server.parse(document)?;
                if self.wants(&step.name) {
                    eprintln!("{}", show::step_line(&step));
                }
            }
            "state" => {
                let build: Build = server.parse(document)?;
                let names = build.steps.iter().map(|step| step.name.chars().count());
                self.widest = names.max().unwrap_or(0).max(self.widest);
                if self.told.replace(build.state) != Some(build.state) {
                    eprintln!("{}", show::build_line(&build));
                }
            }
            "end" => return server.parse(document).map(Some),
            // A newer server's.
            _ => {}
        }
        Ok(None)
    }

    fn line(&mut self, Line { step, text }: &Line, out: &mut Out) {
        if !self.wants(step) {
            return;
        }
        let text = self.screen.tame(text);
        if self.only.is_some() {
            out.line(text);
        } else {
            self.widest = step.chars().count().max(self.widest);
            out.line(format_args!("{:<width$} | {text}", self.screen.tame(step), width = self.widest));
        }
    }

    fn wants(&self, step: &str) -> bool {
        self.only.is_none_or(|only| only == step)
    }

    /// The last word, and the exit code.
    fn end(&self, build: &Build) -> Result<u8, CallError> {
        eprintln!("{}", show::build_line(build));
        let names: Vec<&str> = build.steps.iter().map(|step| step.name.as_str()).collect();
        if let Some(only) = self.only.filter(|only| !names.contains(only)) {
            let there = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            return Err(CallError::Refused(format!("build {} has no step {only:?}; its steps: {there}", build.id)));
        }
        Ok(build.outcome.unwrap_or(Outcome::Broken).exit_code())
    }
}

//! A build's events, as anybody can follow them: `GET /api/v1/builds/{id}/events` (server-sent events).

use std::io::{BufRead, BufReader};

use serde::Deserialize;
use tokio::sync::mpsc;

use crate::domain::build::{Build, BuildId};
use crate::domain::step::Step;

/// What is heard of a build.
#[derive(Debug)]
pub(super) enum Heard {
    /// A step moved.
    Step(Box<Step>),
    /// A step wrote a line.
    Line {
        /// The step's name.
        step: String,
        /// The line; hostile text.
        text: String,
    },
    /// The last word.
    End(Box<Build>),
    /// The stream broke before the last word; why.
    Broke(String),
}

#[derive(Deserialize)]
struct Line {
    step: String,
    text: String,
}

/// Follows a build on a thread of its own until its end; the thread ends also when nobody listens any more.
pub(super) fn follow(http: &ureq::Agent, server: &str, build: BuildId) -> mpsc::UnboundedReceiver<Heard> {
    let (sender, receiver) = mpsc::unbounded_channel();
    let http = http.clone();
    let url = format!("{server}/api/v1/builds/{build}/events");
    std::thread::spawn(move || {
        let told = match http.get(&url).header("Accept", "text/event-stream").call() {
            Ok(response) if response.status() == 200 => {
                read(BufReader::new(response.into_body().into_reader()), &mut |heard| sender.send(heard).is_ok())
            }
            Ok(response) => Err(format!("GET {url} answered {}", response.status())),
            Err(error) => Err(format!("GET {url}: {error}")),
        };
        if let Err(why) = told {
            let _ = sender.send(Heard::Broke(why));
        }
    });
    receiver
}

/// Reads events until `end`, or until `tell` says that nobody listens.
///
/// The format is that of the HTML standard, section 9.2.6 "Interpreting an event stream", as far as our server
/// uses it: fields `event` and `data` with one line each, comments, an empty line after each event.
fn read(stream: impl BufRead, tell: &mut dyn FnMut(Heard) -> bool) -> Result<(), String> {
    let (mut kind, mut data) = (String::new(), String::new());
    for line in stream.lines() {
        let line = line.map_err(|error| format!("the event stream broke off: {error}"))?;
        if let Some((field, value)) = line.split_once(':') {
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => value.clone_into(&mut kind),
                "data" => value.clone_into(&mut data),
                _ => {}
            }
        } else if line.is_empty() && !data.is_empty() {
            let (kind, data) = (std::mem::take(&mut kind), std::mem::take(&mut data));
            let heard = parse(&kind, &data).map_err(|error| format!("an event {kind:?} can't be read: {error}"))?;
            let Some(heard) = heard else { continue };
            let last = matches!(heard, Heard::End(_));
            if !tell(heard) || last {
                return Ok(());
            }
        }
    }
    Err("the event stream ended before the build did".to_owned())
}

fn parse(kind: &str, data: &str) -> Result<Option<Heard>, serde_json::Error> {
    Ok(Some(match kind {
        "step" => Heard::Step(serde_json::from_str(data)?),
        "line" => {
            let line: Line = serde_json::from_str(data)?;
            Heard::Line { step: line.step, text: line.text }
        }
        "end" => Heard::End(serde_json::from_str(data)?),
        // Clients ignore what they do not know; `state` says nothing that steps and end do not.
        _ => return Ok(None),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(stream: &str) -> (Vec<Heard>, Result<(), String>) {
        let mut heard = Vec::new();
        let told = read(stream.as_bytes(), &mut |one| {
            heard.push(one);
            true
        });
        (heard, told)
    }

    #[test]
    fn lines_and_comments_and_unknown_events() {
        let stream = ": hello\n\nid: 1\nevent: line\ndata: {\"step\":\"npm\",\"n\":1,\"t\":\"…\",\"text\":\"a: b\"}\n\n\
                      event: novelty\ndata: {}\n\n";
        let (heard, told) = all(stream);
        assert!(matches!(&heard[..], [Heard::Line { step, text }] if step == "npm" && text == "a: b"), "{heard:?}");
        assert!(told.is_err(), "the stream has no end");
    }

    #[test]
    fn an_event_that_is_not_ours_breaks_the_stream() {
        let (heard, told) = all("event: step\ndata: [1]\n\n");
        assert!(heard.is_empty() && told.is_err_and(|why| why.contains("\"step\"")));
    }
}

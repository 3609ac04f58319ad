//! Listens to a step: what it prints is masked before anybody hears it, and remembered where causes stand.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use crate::domain::mask::Masked;
use crate::process::{Event, Exit, Running};
use crate::runner::diagnosis::{HEAD_BYTES, TAIL_BYTES};
use crate::runner::{Happening, Stop};

use super::Scene;

/// After so much silence what was held back of a step's output is shown, if it can be.
const PAUSE: Duration = Duration::from_millis(200);

/// From TERM to KILL.
const GRACE: Duration = Duration::from_secs(10);

/// Why a step was ended before it ended itself.
pub(super) enum Cut {
    Timeout,
    Stop,
}

pub(super) struct Watched {
    pub(super) exit: Option<Exit>,
    pub(super) cut: Option<Cut>,
    pub(super) output: Remembered,
}

/// Listens to a step until its output has ended; stops it at its deadline or when asked.
pub(super) async fn watch(
    scene: &Scene<'_>,
    place: usize,
    running: &mut Running,
    stop: &Stop,
    deadline: Instant,
) -> Watched {
    let mut watched = Watched { exit: None, cut: None, output: Remembered::default() };
    let mut output = Printed { scene, place, masked: scene.mask.stream() };
    loop {
        let pause = output.masked.can_pause();
        tokio::select! {
            biased;
            () = stop.cancelled(), if watched.cut.is_none() && watched.exit.is_none() => {
                watched.cut = Some(Cut::Stop);
                running.stop(GRACE);
            }
            () = tokio::time::sleep_until(deadline), if watched.cut.is_none() && watched.exit.is_none() => {
                watched.cut = Some(Cut::Timeout);
                running.stop(GRACE);
            }
            event = running.next() => match event {
                Some(Event::Output(bytes)) => output.take(bytes, &mut watched.output).await,
                Some(Event::Exited(exit)) => watched.exit = Some(exit),
                Some(Event::Ended { leaked }) => {
                    output.finish(&mut watched.output).await;
                    if leaked {
                        let note = "\n== a process it left behind held its output open and was ended ==\n";
                        scene.tell.that(Happening::Output(place, Bytes::from_static(note.as_bytes()))).await;
                    }
                }
                None => return watched,
            },
            // Who looks on sees a prompt that ends like the beginning of a secret.
            () = tokio::time::sleep(PAUSE), if pause => output.pause(&mut watched.output).await,
        }
    }
}

/// What a step prints on its way to the listener: nobody but this has seen it before secrets are hidden.
struct Printed<'a> {
    scene: &'a Scene<'a>,
    place: usize,
    masked: Masked,
}

impl Printed<'_> {
    async fn take(&mut self, bytes: Bytes, remembered: &mut Remembered) {
        let shown = match self.masked.push(&bytes) {
            Cow::Borrowed(_) => None,
            Cow::Owned(shown) => Some(Bytes::from(shown)),
        };
        self.show(shown.unwrap_or(bytes), remembered).await;
    }

    async fn pause(&mut self, remembered: &mut Remembered) {
        let shown = self.masked.pause();
        self.show(shown.into(), remembered).await;
    }

    async fn finish(&mut self, remembered: &mut Remembered) {
        let shown = self.masked.finish();
        self.show(shown.into(), remembered).await;
    }

    async fn show(&self, bytes: Bytes, remembered: &mut Remembered) {
        remembered.remember(&bytes);
        self.scene.tell.output(self.place, bytes).await;
    }
}

/// The beginning and the end of an output, which is where causes stand.
#[derive(Default)]
pub(super) struct Remembered {
    head: Vec<u8>,
    tail: VecDeque<u8>,
    /// Something between the two is not remembered.
    dropped: bool,
}

impl Remembered {
    fn remember(&mut self, bytes: &[u8]) {
        let room = HEAD_BYTES.saturating_sub(self.head.len()).min(bytes.len());
        let (first, rest) = bytes.split_at(room);
        self.head.extend_from_slice(first);
        self.dropped |= self.tail.len() + rest.len() > TAIL_BYTES;
        let rest = &rest[rest.len().saturating_sub(TAIL_BYTES)..];
        let too_many = (self.tail.len() + rest.len()).saturating_sub(TAIL_BYTES);
        self.tail.drain(..too_many);
        self.tail.extend(rest);
    }

    pub(super) fn text(&self) -> String {
        let (front, back) = self.tail.as_slices();
        let gap: &[u8] = if self.dropped { b"\n" } else { b"" };
        String::from_utf8_lossy(&[&self.head, gap, front, back].concat()).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_and_the_end_are_remembered() {
        let mut output = Remembered::default();
        output.remember(b"first\n");
        for _ in 0..100 {
            output.remember(&[b'x'; 4096]);
        }
        output.remember(b"\nlast");
        let text = output.text();
        assert!(text.starts_with("first\n") && text.ends_with("\nlast"));
        assert!(text.len() <= HEAD_BYTES + TAIL_BYTES + 1);
    }
}

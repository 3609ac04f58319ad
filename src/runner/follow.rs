//! Everything that happened in a build and everything that will, as one stream.
//!
//! The journal on disk is the only source of what happened; the hub only says when to look again; the
//! store has the last word. The order of looking makes it whole: the store is asked first, then the
//! journal is read to its end, and an agent settles a build only after its last line was written. So
//! when a settled build's journal has no more, there is no more.

use std::fmt;
use std::pin::Pin;
use std::str::FromStr;
use std::time::{Duration, Instant};

use crate::blobs::{Cursor, Fetcher, Logs, Presence, Reader};
use crate::domain::build::{Build, BuildId, State};
use crate::domain::log::Happening;
use crate::live::{Hub, Subscription, TooManyReaders};

/// How long news is gathered before it is passed on: a step that prints fast is told in batches.
const GATHER: Duration = Duration::from_millis(20);
/// How long to wait for news before looking without any: another process may have moved the build.
const LOOK_AGAIN: Duration = Duration::from_secs(5);
/// How long to wait before looking at a build of another machine again, which nobody here tells of.
const FETCH_AGAIN: Duration = Duration::from_secs(1);
/// How long the last lines of a build of another machine may come after its end.
const LATE: Duration = Duration::from_secs(15);

/// A place in a build's stream, as readers get it to come back with. Opaque to them, at most 64 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventId {
    /// Just after something that happened.
    After(Cursor),
    /// After the end.
    End,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EventId::After(cursor) => cursor.fmt(f),
            EventId::End => f.write_str("end"),
        }
    }
}

impl FromStr for EventId {
    type Err = crate::blobs::BadCursor;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "end" { Ok(EventId::End) } else { text.parse().map(EventId::After) }
    }
}

/// Something that happened, with its id.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The place just after it.
    pub id: EventId,
    /// What happened.
    pub happening: Happening,
}

/// The store did not answer. The text is for operators.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct Unavailable(pub String);

/// The store's word on a build: `None` when there is no such build.
pub type Found = Pin<Box<dyn Future<Output = Result<Option<Build>, Unavailable>> + Send>>;

/// A build's stream.
pub struct Follow {
    build: BuildId,
    reader: Reader,
    news: Subscription,
    look_up: Box<dyn Fn(BuildId) -> Found + Send + Sync>,
    /// The state that was told last.
    told: Option<State>,
    /// What was told although the journal had not said it: if the journal says the very same, it is not told again.
    told_early: Option<Build>,
    settled: Option<Build>,
    /// When it was first seen settled.
    settled_at: Option<Instant>,
    elsewhere: Fetcher,
    presence: Presence,
    over: bool,
}

/// Where a build's words are read.
#[derive(Debug, Clone)]
pub struct Words {
    /// On this disk.
    pub logs: Logs,
    /// Brought there from other machines.
    pub elsewhere: Fetcher,
}

impl Follow {
    /// Begins after `from`, or at the beginning. `look_up` asks the store for the build as it is now.
    ///
    /// # Errors
    /// The hub has no room for another reader.
    pub fn begin(
        build: BuildId,
        from: Option<Cursor>,
        words: &Words,
        hub: &Hub,
        look_up: impl Fn(BuildId) -> Found + Send + Sync + 'static,
    ) -> Result<Self, TooManyReaders> {
        let from = from.unwrap_or_default();
        Ok(Follow {
            build,
            reader: words.logs.reader(build, from),
            news: hub.subscribe(build)?,
            look_up: Box::new(look_up),
            told: told_before_the_journal(from),
            told_early: None,
            settled: None,
            settled_at: None,
            elsewhere: words.elsewhere.clone(),
            presence: Presence::Here,
            over: false,
        })
    }

    /// The next events, in order; `None` after the end, and when the build is gone or the server stops.
    ///
    /// May be dropped at any point and called again: nothing is lost or told twice.
    pub async fn next(&mut self) -> Option<Vec<Event>> {
        while !self.over {
            self.bring().await;
            let events = self.read().await?;
            if !events.is_empty() {
                return Some(events);
            }
            if let Some(build) = self.settled.take() {
                if self.is_late(&build) {
                    self.settled = Some(build);
                    self.wait().await?;
                    continue;
                }
                self.over = true;
                return Some(vec![Event { id: EventId::End, happening: Happening::End(Box::new(build)) }]);
            }
            match (self.look_up)(self.build).await {
                Ok(None) => return None,
                // Its journal is read once more: it may have grown while the store was asked.
                Ok(Some(build)) if build.state == State::Finished => {
                    self.settled = Some(build);
                    self.settled_at.get_or_insert_with(Instant::now);
                }
                Ok(Some(build)) if self.told != Some(build.state) => return Some(vec![self.tell_early(build)]),
                Ok(Some(_)) => self.wait().await?,
                Err(unavailable) => {
                    tracing::warn!(build = self.build.0, error = %unavailable, "the store does not say how a followed build stands");
                    self.wait().await?;
                }
            }
        }
        None
    }

    /// Brings what the build wrote on another machine. Before anybody claimed it there is nothing to be brought.
    async fn bring(&mut self) {
        if !self.elsewhere.is_shared() || matches!(self.told, Some(State::Waiting | State::Queued)) {
            return;
        }
        let (elsewhere, build, is_settled) = (self.elsewhere.clone(), self.build, self.settled.is_some());
        let brought = tokio::task::spawn_blocking(move || elsewhere.bring(build, is_settled)).await;
        self.presence = brought.unwrap_or(Presence::Here);
    }

    /// Whether the end of a build's log is still on its way. A build that nobody claimed has none.
    fn is_late(&self, build: &Build) -> bool {
        self.presence == Presence::Partly
            && build.started_at.is_some()
            && self.settled_at.is_some_and(|at| at.elapsed() < LATE)
    }

    async fn read(&mut self) -> Option<Vec<Event>> {
        let mut reader = self.reader.clone();
        // A disk is slow at times; it must not hold up everybody else's requests.
        let read = tokio::task::spawn_blocking(move || reader.read().map(|entries| (reader, entries))).await;
        let (reader, entries) = match read {
            Ok(Ok(read)) => read,
            Ok(Err(error)) => {
                tracing::warn!(build = self.build.0, %error, "a followed build's journal cannot be read");
                return None;
            }
            Err(_stopping) => return None,
        };
        let tells_state = entries.iter().any(|entry| matches!(entry.happening, Happening::State(_)));
        if tells_state || self.told.is_none() {
            self.told = reader.state().or(self.told);
        }
        self.reader = reader;
        let early = self.told_early.take_if(|_| !entries.is_empty());
        let is_news = |happening: &Happening| !matches!((happening, &early), (Happening::State(now), Some(early)) if **now == *early);
        let entries = entries.into_iter().filter(|entry| is_news(&entry.happening));
        Some(entries.map(|entry| Event { id: EventId::After(entry.after), happening: entry.happening }).collect())
    }

    /// A state that no agent wrote down: nobody has claimed the build yet, or it was given back.
    fn tell_early(&mut self, build: Build) -> Event {
        let cursor = self.reader.cursor();
        let id = if cursor.claim == 0 { Cursor { claim: 0, record: ordinal(build.state), part: 0 } } else { cursor };
        self.told = Some(build.state);
        self.told_early = Some(build.clone());
        Event { id: EventId::After(id), happening: Happening::State(Box::new(build)) }
    }

    async fn wait(&mut self) -> Option<()> {
        let look_again = if self.elsewhere.is_shared() { FETCH_AGAIN } else { LOOK_AGAIN };
        match tokio::time::timeout(look_again, self.news.news()).await {
            Ok(true) => {
                tokio::time::sleep(GATHER).await;
                Some(())
            }
            Ok(false) => None,
            Err(_nothing_new) => Some(()),
        }
    }
}

// Claims count from 1. Before the first, an id of claim 0 says which state its reader knows.
fn told_before_the_journal(from: Cursor) -> Option<State> {
    [State::Waiting, State::Queued, State::Running]
        .into_iter()
        .find(|&state| from.claim == 0 && from.record == ordinal(state))
}

fn ordinal(state: State) -> u64 {
    match state {
        State::Waiting => 1,
        State::Queued => 2,
        State::Running => 3,
        State::Finished => 4,
    }
}

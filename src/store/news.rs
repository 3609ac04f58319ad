//! What changed, told to those who wait for it: in this process at once, in others through the database.

use std::collections::BTreeSet;

use tokio::sync::{broadcast, watch};

use crate::domain::build::BuildId;

/// How many moves of builds a slow reader may be behind before it is told to look at everything.
const BEHIND: usize = 1024;

/// Something that others may wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Topic {
    /// A build can be claimed.
    Queue,
    /// A status is due.
    Outbox,
    /// Anything else.
    Other,
    /// This build moved: it began, ended, was asked to end, or wrote something.
    Build(BuildId),
}

/// Tells this process.
#[derive(Debug, Clone)]
pub(super) struct News {
    any: watch::Sender<u64>,
    queue: watch::Sender<u64>,
    outbox: watch::Sender<u64>,
    builds: broadcast::Sender<Moved>,
}

/// Which builds moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    /// This one.
    Build(BuildId),
    /// Perhaps any: something was missed. Look at all that you follow.
    Any,
}

impl News {
    pub(super) fn new() -> Self {
        let counter = || watch::Sender::new(0);
        Self { any: counter(), queue: counter(), outbox: counter(), builds: broadcast::Sender::new(BEHIND) }
    }

    /// Tells what a transaction changed.
    pub(super) fn tell(&self, topics: &BTreeSet<Topic>) {
        let up = |counter: &watch::Sender<u64>| counter.send_modify(|count| *count += 1);
        for topic in topics {
            match topic {
                Topic::Queue => up(&self.queue),
                Topic::Outbox => up(&self.outbox),
                Topic::Other => {
                    up(&self.queue);
                    up(&self.outbox);
                }
                // Nobody follows: nobody is told.
                Topic::Build(id) => drop(self.builds.send(Moved::Build(*id))),
            }
        }
        if topics.iter().any(|topic| !matches!(topic, Topic::Build(_))) {
            up(&self.any);
        }
    }

    /// Tells everybody: what happened meanwhile is not known.
    pub(super) fn tell_all(&self) {
        self.tell(&BTreeSet::from([Topic::Other]));
        drop(self.builds.send(Moved::Any));
    }

    pub(super) fn any(&self) -> Changes {
        Changes(self.any.subscribe())
    }

    pub(super) fn queue(&self) -> Changes {
        Changes(self.queue.subscribe())
    }

    pub(super) fn outbox(&self) -> Changes {
        Changes(self.outbox.subscribe())
    }

    pub(super) fn builds(&self) -> BuildChanges {
        BuildChanges(self.builds.subscribe())
    }
}

/// A reader's place in the run of changes. Changes while nobody waits are not lost, only joined into one.
#[derive(Debug)]
pub struct Changes(watch::Receiver<u64>);

impl Changes {
    /// Returns at once when something changed since the last call, else waits for it. Never returns after the
    /// store is gone.
    pub async fn next(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// A reader's place in the run of builds that moved.
#[derive(Debug)]
pub struct BuildChanges(broadcast::Receiver<Moved>);

impl BuildChanges {
    /// The next build that moved. Never returns after the store is gone.
    pub async fn next(&mut self) -> Moved {
        match self.0.recv().await {
            Ok(moved) => moved,
            Err(broadcast::error::RecvError::Lagged(_)) => Moved::Any,
            Err(broadcast::error::RecvError::Closed) => std::future::pending().await,
        }
    }

    /// Waits until this build may have moved.
    pub async fn of(&mut self, build: BuildId) {
        loop {
            match self.next().await {
                Moved::Build(moved) if moved != build => {}
                _ => return,
            }
        }
    }
}

// In the database a message is the sender's name and a topic: `5f3a91c2 queue`, `5f3a91c2 build 12`.

/// The channel of all messages.
pub(super) const CHANNEL: &str = "hookmill";

/// A topic as others get it.
pub(super) fn message(sender: u32, topic: Topic) -> String {
    match topic {
        Topic::Queue => format!("{sender:08x} queue"),
        Topic::Outbox => format!("{sender:08x} outbox"),
        Topic::Other => format!("{sender:08x} other"),
        Topic::Build(id) => format!("{sender:08x} build {}", id.0),
    }
}

/// What somebody else tells; nothing of our own, which was told at once. What a newer version says and we do not know
/// may be anything.
pub(super) fn heard(message: &str, us: u32) -> Option<Topic> {
    let mut words = message.split(' ');
    if words.next().and_then(|sender| u32::from_str_radix(sender, 16).ok()) == Some(us) {
        return None;
    }
    Some(match (words.next(), words.next().and_then(|id| id.parse().ok())) {
        (Some("queue"), _) => Topic::Queue,
        (Some("outbox"), _) => Topic::Outbox,
        (Some("build"), Some(id)) => Topic::Build(BuildId(id)),
        _ => Topic::Other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_comes_back_as_its_topic_and_our_own_not_at_all() {
        for topic in [Topic::Queue, Topic::Outbox, Topic::Other, Topic::Build(BuildId(12))] {
            assert_eq!(heard(&message(7, topic), 8), Some(topic));
            assert_eq!(heard(&message(7, topic), 7), None);
        }
        assert_eq!(heard("of a later version", 7), Some(Topic::Other));
    }
}

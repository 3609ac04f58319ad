//! The store's tables in memory: the same operations, the same answers, each one whole or not at all.
//!
//! What is decided is decided by the production's own functions (`intake::decide`, `domain::lease`, `domain::outbox`);
//! what stands here is what the statements do. `differential.rs` compares it with the real store, step by step.

mod accept;
mod outbox;
mod queue;
mod requests;

use std::collections::BTreeMap;

use hookmill::domain::build::{BuildId, State};
use hookmill::domain::outcome::Outcome;
use hookmill::domain::repo::{CommitId, RefName};
use hookmill::domain::status::StatusState;
use hookmill::domain::time::Timestamp;
use hookmill::store::{Accepted, NewBuild};
use outbox::Pause;
pub(crate) use outbox::{Key, Said};
pub(crate) use queue::Claimed;

/// Both readings of the database's clock at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Now {
    /// For times that people see.
    pub(crate) wall: Timestamp,
    /// For deadlines.
    pub(crate) steady: Timestamp,
}

/// A rule that can be taken away, to show that the simulation misses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Without {
    /// Every rule holds.
    Nothing,
    /// Writes of a holder are not compared with the build's fence.
    Fence,
    /// A claim does not raise the fence.
    RisingFence,
    /// A commit belongs to whoever spoke last, not to its newest build.
    NewestOwnsTheCommit,
    /// A second request of a key may be under way beside the first.
    OneRequestAKey,
    /// A request that ended late, or of which nobody knows how it ended, is forgotten like any other.
    CareAfterLateRequests,
    /// A request that nobody answered counts as one that was never sent.
    DoubtAfterSilence,
    /// A build that ends leaves what it left pending.
    Settling,
    /// A delivery is not looked for among those that were taken.
    UniqueDeliveries,
    /// The answer is sent before the transaction.
    CommitBeforeAnswer,
    /// Nobody takes builds back whose lease ran out.
    TakingBack,
    /// A holder goes on, however long it heard nothing.
    StoppingInTime,
}

/// A build's row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    pub(crate) id: BuildId,
    /// As it was made; `pushed` changes.
    pub(crate) new: NewBuild,
    pub(crate) attempt: u32,
    pub(crate) created_at: Timestamp,
    pub(crate) state: State,
    pub(crate) outcome: Option<Outcome>,
    pub(crate) reason: Option<String>,
    pub(crate) superseded_by: Option<BuildId>,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) finished_at: Option<Timestamp>,
    pub(crate) lease_until: Option<Timestamp>,
    pub(crate) fence: i64,
    pub(crate) claims: u32,
    /// Reason and sentence, once its holder was asked to end it.
    pub(crate) cancel: Option<(String, String)>,
}

/// All tables. A copy is a backup; an operation that is not to be committed is done on one.
#[derive(Debug, Clone)]
pub(crate) struct Tables {
    pub(crate) without: Without,
    /// By forge, repository and id.
    pub(crate) deliveries: BTreeMap<(String, String, String), Accepted>,
    pub(crate) builds: BTreeMap<BuildId, Row>,
    /// By ref, in the order in which they were heard.
    deletions: BTreeMap<String, Vec<hookmill::store::Deletion>>,
    /// Where refs and pull requests stand, by their names; none: it was deleted or closed.
    heads: BTreeMap<String, Option<CommitId>>,
    pub(crate) outbox: BTreeMap<i64, Said>,
    /// By forge; those that are over stay until it answers.
    pauses: BTreeMap<String, Pause>,
    /// Every word that a build ever said, in order; of the outbox only what is still of use is left.
    pub(crate) words: Vec<(BuildId, String, StatusState)>,
    last_build: i64,
    last_said: i64,
}

impl Tables {
    pub(crate) fn new(without: Without) -> Self {
        Self {
            without,
            deliveries: BTreeMap::new(),
            builds: BTreeMap::new(),
            deletions: BTreeMap::new(),
            heads: BTreeMap::new(),
            outbox: BTreeMap::new(),
            pauses: BTreeMap::new(),
            words: Vec::new(),
            last_build: 0,
            last_said: 0,
        }
    }

    /// The builds of one ref of the only repository there is, oldest first.
    fn of_ref<'t>(&'t self, git_ref: &'t RefName) -> impl Iterator<Item = &'t Row> {
        self.builds.values().filter(move |row| row.new.git_ref == *git_ref)
    }

    fn of_commit<'t>(&'t self, git_ref: &'t RefName, sha: &'t CommitId) -> impl Iterator<Item = &'t Row> {
        self.of_ref(git_ref).filter(move |row| row.new.sha == *sha)
    }
}

//! The one task that writes. It takes whatever has gathered while it was busy and commits it with one sync.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot, watch};

use super::clock::Clock;
use super::deliveries::{self, Accepted, Pending};
use super::sql::Connection;
use super::sqlite::lock::ProcessLock;
use super::{Store, StoreError};

/// The most requests of one transaction: bounds how long the first of them waits for the last.
const MAX_GROUP: usize = 256;

/// What a request does on the connection.
pub(super) type Work<'c, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'c>>;

/// The way to the writing task.
pub(super) struct Writer {
    requests: mpsc::Sender<Request>,
}

enum Request {
    /// A delivery: taken together with its neighbours, in few statements.
    Accept(Box<Pending>, oneshot::Sender<Result<Accepted, StoreError>>),
    /// Anything else.
    Change(Box<dyn Change>),
    /// No more after this.
    Close(oneshot::Sender<()>),
}

/// A write whose answer is known only once its transaction is on disk.
trait Change: Send {
    fn apply<'c>(&'c mut self, connection: &'c mut Connection) -> Work<'c, ()>;
    fn settle(self: Box<Self>, outcome: Result<(), StoreError>);
    fn wakes(&self) -> bool;
}

struct Asked<T, F> {
    work: Option<F>,
    answer: Option<T>,
    wakes: bool,
    reply: oneshot::Sender<Result<T, StoreError>>,
}

impl<T, F> Change for Asked<T, F>
where
    T: Send + 'static,
    F: for<'c> FnOnce(&'c mut Connection) -> Work<'c, T> + Send + 'static,
{
    fn apply<'c>(&'c mut self, connection: &'c mut Connection) -> Work<'c, ()> {
        Box::pin(async move {
            let work = self.work.take().ok_or(StoreError::Closed)?;
            self.answer = Some(work(connection).await?);
            Ok(())
        })
    }

    fn settle(self: Box<Self>, outcome: Result<(), StoreError>) {
        let Asked { answer, reply, .. } = *self;
        // Nobody waits any more when the caller was dropped; what was committed stands.
        let _ = reply.send(outcome.and_then(|()| answer.ok_or(StoreError::Closed)));
    }

    fn wakes(&self) -> bool {
        self.wakes
    }
}

impl Writer {
    /// Starts the task; it owns the connection and the process lock until it ends.
    pub(super) fn start(
        connection: Connection,
        lock: Option<ProcessLock>,
        clock: Clock,
        changes: watch::Sender<u64>,
        outage: Arc<Mutex<Option<String>>>,
    ) -> Self {
        let (requests, receiver) = mpsc::channel(1024);
        let task = Task { connection, clock, changes, outage };
        tokio::spawn(task.run(receiver, lock));
        Self { requests }
    }

    /// Ends the task once everything asked before is committed.
    pub(super) async fn close(&self) {
        let (reply, closed) = oneshot::channel();
        if self.requests.send(Request::Close(reply)).await.is_ok() {
            let _ = closed.await;
        }
    }

    /// Takes a delivery; the answer comes once it is on disk.
    pub(super) async fn accept(&self, pending: Pending) -> Result<Accepted, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(Request::Accept(Box::new(pending), reply)).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }
}

impl Store {
    /// Hands `work` to the writing task and waits until it is on disk. `wakes`: those who wait for changes are told.
    pub(super) async fn write<T, F>(&self, wakes: bool, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut Connection) -> Work<'c, T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let asked = Asked { work: Some(work), answer: None, wakes, reply };
        let request = Request::Change(Box::new(asked));
        self.inner.writer.requests.send(request).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }
}

/// What one transaction takes.
#[derive(Default)]
struct Group {
    pending: Vec<Pending>,
    waiting: Vec<oneshot::Sender<Result<Accepted, StoreError>>>,
    changes: Vec<Box<dyn Change>>,
    close: Option<oneshot::Sender<()>>,
}

/// What became of a group's members, in their order, once it was committed.
struct Outcomes {
    accepted: Vec<Result<Accepted, StoreError>>,
    changed: Vec<Result<(), StoreError>>,
}

struct Task {
    connection: Connection,
    clock: Clock,
    changes: watch::Sender<u64>,
    outage: Arc<Mutex<Option<String>>>,
}

impl Task {
    async fn run(mut self, mut requests: mpsc::Receiver<Request>, lock: Option<ProcessLock>) {
        let mut gathered = Vec::new();
        let mut closers = Vec::new();
        while requests.recv_many(&mut gathered, MAX_GROUP).await > 0 {
            let mut group = Group::default();
            for request in gathered.drain(..) {
                match request {
                    Request::Accept(pending, reply) => {
                        group.pending.push(*pending);
                        group.waiting.push(reply);
                    }
                    Request::Change(change) => group.changes.push(change),
                    Request::Close(reply) => group.close = Some(reply),
                }
            }
            // Requests that are already in the channel are still served.
            if let Some(closer) = group.close.take() {
                requests.close();
                closers.push(closer);
            }
            if !group.pending.is_empty() || !group.changes.is_empty() {
                self.serve(group).await;
            }
        }
        if let Err(error) = self.connection.close().await {
            tracing::warn!(%error, "the store was not closed cleanly; the next start recovers it");
        }
        drop(lock);
        for closer in closers {
            let _ = closer.send(());
        }
    }

    async fn serve(&mut self, mut group: Group) {
        let committed = self.commit(&mut group).await;
        self.remember(&committed);
        let Group { waiting, changes, .. } = group;
        let mut wakes = false;
        match committed {
            Ok(outcomes) => {
                for (reply, answer) in waiting.into_iter().zip(outcomes.accepted) {
                    wakes |= answer.as_ref().is_ok_and(|accepted| accepted.made || !accepted.cancelled.is_empty());
                    let _ = reply.send(answer);
                }
                for (change, outcome) in changes.into_iter().zip(outcomes.changed) {
                    wakes |= change.wakes() && outcome.is_ok();
                    change.settle(outcome);
                }
            }
            Err(outage) => {
                for reply in waiting {
                    let _ = reply.send(Err(outage.clone()));
                }
                for change in changes {
                    change.settle(Err(outage.clone()));
                }
            }
        }
        if wakes {
            self.changes.send_modify(|count| *count += 1);
        }
    }

    /// One transaction for the whole group. An error here is everybody's; one member's own is in the outcomes.
    async fn commit(&mut self, group: &mut Group) -> Result<Outcomes, StoreError> {
        self.begin().await?;
        let done = match self.apply(group).await {
            Ok(outcomes) => self.say("COMMIT").await.map(|()| outcomes),
            Err(outage) => Err(outage),
        };
        if done.is_err() {
            // After some errors SQLite has rolled back by itself; a second time is an error that means nothing.
            let _ = self.say("ROLLBACK").await;
        }
        done
    }

    async fn apply(&mut self, group: &mut Group) -> Result<Outcomes, StoreError> {
        let accepted = self.accept(&group.pending).await?;
        let mut changed = Vec::with_capacity(group.changes.len());
        for change in &mut group.changes {
            self.say("SAVEPOINT one").await?;
            let outcome = change.apply(&mut self.connection).await;
            changed.push(self.leave_savepoint(outcome).await?);
        }
        Ok(Outcomes { accepted, changed })
    }

    /// All deliveries in few statements; when that fails, each by itself, so that only the bad one fails. They come
    /// first in their transaction, so that the common case needs no savepoint: SQLite would keep a copy of every page.
    async fn accept(&mut self, pending: &[Pending]) -> Result<Vec<Result<Accepted, StoreError>>, StoreError> {
        if pending.is_empty() {
            return Ok(Vec::new());
        }
        let now = self.clock.now();
        match deliveries::accept(&mut self.connection, pending, now).await {
            Ok(all) => return Ok(all.into_iter().map(Ok).collect()),
            Err(outage @ StoreError::Unavailable(_)) => return Err(outage),
            Err(_) => {
                self.say("ROLLBACK").await?;
                self.begin().await?;
            }
        }
        let mut each = Vec::with_capacity(pending.len());
        for one in pending {
            self.say("SAVEPOINT one").await?;
            let alone = deliveries::accept(&mut self.connection, std::slice::from_ref(one), now).await;
            let alone = alone.and_then(|answers| answers.into_iter().next().ok_or(StoreError::Closed));
            each.push(self.leave_savepoint(alone).await?);
        }
        Ok(each)
    }

    /// Keeps or takes back what happened since the savepoint. An outage ends the whole group: SQLite may already
    /// have ended the transaction.
    async fn leave_savepoint<T>(
        &mut self,
        outcome: Result<T, StoreError>,
    ) -> Result<Result<T, StoreError>, StoreError> {
        match &outcome {
            Ok(_) => self.say("RELEASE one").await?,
            Err(StoreError::Unavailable(why)) => return Err(StoreError::Unavailable(why.clone())),
            Err(_) => {
                self.say("ROLLBACK TO one").await?;
                self.say("RELEASE one").await?;
            }
        }
        Ok(outcome)
    }

    // Whatever a transaction's own words fail with, nothing of the group was written: it may be tried again.

    async fn begin(&mut self) -> Result<(), StoreError> {
        self.connection.begin().await.map_err(|error| StoreError::Unavailable(error.to_string()))
    }

    async fn say(&mut self, statement: &'static str) -> Result<(), StoreError> {
        self.connection.say(statement).await.map_err(|error| StoreError::Unavailable(error.to_string()))
    }

    fn remember(&self, committed: &Result<Outcomes, StoreError>) {
        let mut outage = self.outage.lock().unwrap_or_else(PoisonError::into_inner);
        match committed {
            Ok(_) if outage.is_some() => {
                tracing::info!("the store can be written again");
                *outage = None;
            }
            Ok(_) => {}
            Err(error) => {
                if outage.is_none() {
                    tracing::error!(%error, "the store can't be written; deliveries are answered 503 until it can");
                }
                *outage = Some(error.to_string());
            }
        }
    }
}

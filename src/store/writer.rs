//! The way to the database for whatever changes it: handed over here, carried out by the engine's own task, answered when
//! it is on disk.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot};

use super::clock::{Clock, Now};
use super::deliveries::{self, Accepted, Pending};
use super::locks;
use super::news::{News, Topic};
use super::sql::Connection;
use super::{Store, StoreError};

/// The most requests of one transaction: bounds how long the first of them waits for the last.
pub(super) const MAX_GROUP: usize = 256;

/// How many requests may wait before whoever hands over another one waits, too.
pub(super) const WAITING: usize = 1024;

/// What a request does on the connection.
pub(super) type Work<'c, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'c>>;

/// What a delivery was answered.
pub(super) type Answer = Result<Accepted, StoreError>;

/// Something to be written.
pub(super) enum Request {
    /// A delivery: taken together with its neighbours, in few statements.
    Accept(Box<Pending>, oneshot::Sender<Answer>),
    /// Anything else.
    Change(Box<dyn Change>),
    /// No more after this.
    Close(oneshot::Sender<()>),
}

/// A write whose answer is known only once its transaction is on disk.
pub(super) trait Change: Send {
    /// Does it.
    fn apply<'c>(&'c mut self, connection: &'c mut Connection) -> Work<'c, ()>;
    /// Answers whoever asked.
    fn settle(self: Box<Self>, outcome: Result<(), StoreError>);
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
            if self.wakes {
                connection.tell(Topic::Other);
            }
            Ok(())
        })
    }

    fn settle(self: Box<Self>, outcome: Result<(), StoreError>) {
        let Asked { answer, reply, .. } = *self;
        // Nobody waits any more when the caller was dropped; what was committed stands.
        let _ = reply.send(outcome.and_then(|()| answer.ok_or(StoreError::Closed)));
    }
}

/// Where requests are handed over.
pub(super) struct Writer {
    /// One channel for all, or one for deliveries and one for the rest.
    pub(super) deliveries: mpsc::Sender<Request>,
    pub(super) changes: mpsc::Sender<Request>,
}

/// What those who write share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) clock: Clock,
    pub(super) news: News,
    pub(super) outage: Outage,
}

/// Why nothing can be written at the moment, if so.
#[derive(Debug, Clone, Default)]
pub(super) struct Outage(Arc<Mutex<Option<String>>>);

impl Outage {
    /// Whether the last write failed for a reason that is nobody's own.
    pub(super) fn is_on(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    /// Notes how a transaction ended.
    pub(super) fn note(&self, ended: Result<(), &StoreError>) {
        let mut outage = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match ended {
            Ok(()) if outage.is_some() => {
                tracing::info!("the store can be written again");
                *outage = None;
            }
            Ok(()) => {}
            Err(error) => {
                if outage.is_none() {
                    tracing::error!(%error, "the store can't be written; deliveries are answered 503 until it can");
                }
                *outage = Some(error.to_string());
            }
        }
    }
}

impl Writer {
    /// Ends the tasks once everything asked before is committed.
    pub(super) async fn close(&self) {
        for lane in [&self.deliveries, &self.changes] {
            let (reply, closed) = oneshot::channel();
            if lane.send(Request::Close(reply)).await.is_ok() {
                let _ = closed.await;
            }
        }
    }

    /// Takes a delivery; the answer comes once it is on disk.
    pub(super) async fn accept(&self, pending: Pending) -> Answer {
        let (reply, answer) = oneshot::channel();
        self.deliveries.send(Request::Accept(Box::new(pending), reply)).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }
}

impl Store {
    /// Hands `work` to a writing task and waits until it is on disk. `wakes`: whoever waits for anything is told; what is
    /// known more closely the work notes on the connection itself ([`Connection::tell`]).
    pub(super) async fn write<T, F>(&self, wakes: bool, work: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: for<'c> FnOnce(&'c mut Connection) -> Work<'c, T> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let asked = Asked { work: Some(work), answer: None, wakes, reply };
        let request = Request::Change(Box::new(asked));
        self.inner.writer.changes.send(request).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }
}

/// Takes deliveries within the transaction that is open. An error here is everybody's; one member's own is in the answers.
///
/// All of them in few statements; when that fails, each by itself, so that only the bad one fails. They come first in
/// their transaction, so that the common case needs no savepoint: SQLite would keep a copy of every page.
pub(super) async fn accept(
    connection: &mut Connection,
    pending: &[Pending],
    now: Now,
) -> Result<Vec<Answer>, StoreError> {
    if pending.is_empty() {
        return Ok(Vec::new());
    }
    locks::of_deliveries(connection, pending).await?;
    match deliveries::accept(connection, pending, now).await {
        Ok(all) => return Ok(all.into_iter().map(Ok).collect()),
        Err(outage @ StoreError::Unavailable(_)) => return Err(outage),
        Err(_) => {
            say(connection, "ROLLBACK").await?;
            begin(connection).await?;
            locks::of_deliveries(connection, pending).await?;
        }
    }
    let mut each = Vec::with_capacity(pending.len());
    for one in pending {
        let told = savepoint(connection).await?;
        let alone = deliveries::accept(connection, std::slice::from_ref(one), now).await;
        let alone = alone.and_then(|answers| answers.into_iter().next().ok_or(StoreError::Closed));
        each.push(leave_savepoint(connection, told, alone).await?);
    }
    Ok(each)
}

/// Sets a savepoint; what was to be told before it.
pub(super) async fn savepoint(connection: &mut Connection) -> Result<BTreeSet<Topic>, StoreError> {
    say(connection, "SAVEPOINT one").await?;
    Ok(connection.told().clone())
}

/// Keeps or takes back what happened since the savepoint. An outage ends the whole group: SQLite may already
/// have ended the transaction.
pub(super) async fn leave_savepoint<T>(
    connection: &mut Connection,
    told: BTreeSet<Topic>,
    outcome: Result<T, StoreError>,
) -> Result<Result<T, StoreError>, StoreError> {
    match &outcome {
        Ok(_) => say(connection, "RELEASE one").await?,
        Err(StoreError::Unavailable(why)) => return Err(StoreError::Unavailable(why.clone())),
        Err(_) => {
            say(connection, "ROLLBACK TO one").await?;
            say(connection, "RELEASE one").await?;
            *connection.told() = told;
        }
    }
    Ok(outcome)
}

/// Begins a transaction.
pub(super) async fn begin(connection: &mut Connection) -> Result<(), StoreError> {
    connection.begin().await.map_err(unavailable)
}

/// Says one of a transaction's own words.
pub(super) async fn say(connection: &mut Connection, statement: &'static str) -> Result<(), StoreError> {
    connection.say(statement).await.map_err(unavailable)
}

/// Whatever a transaction's own words fail with, it is nobody's fault who asked for something in it: it may be tried
/// again. (Whether a COMMIT that failed was carried out is not known where the database is on the other side of a
/// connection; a delivery that is sent again is then found, and answered as a repeat.)
pub(super) fn unavailable(error: sqlx::Error) -> StoreError {
    match StoreError::from(error) {
        StoreError::Refused(why) => StoreError::Unavailable(why),
        other => other,
    }
}

//! The one task that writes. It takes whatever has gathered while it was busy and commits it with one sync.

use tokio::sync::{mpsc, oneshot};

use super::lock::ProcessLock;
use crate::store::StoreError;
use crate::store::deliveries::Pending;
use crate::store::sql::Connection;
use crate::store::writer::{self, Answer, Change, MAX_GROUP, Request, Shared, WAITING, Writer};

/// What one transaction takes.
#[derive(Default)]
struct Group {
    pending: Vec<Pending>,
    waiting: Vec<oneshot::Sender<Answer>>,
    changes: Vec<Box<dyn Change>>,
    close: Vec<oneshot::Sender<()>>,
}

/// What became of a group's members, in their order, once it was committed.
struct Outcomes {
    accepted: Vec<Answer>,
    changed: Vec<Result<(), StoreError>>,
}

struct Task {
    connection: Connection,
    shared: Shared,
}

/// Starts the task; it owns the connection and the process lock until it ends.
pub(in crate::store) fn start(connection: Connection, lock: ProcessLock, shared: Shared) -> Writer {
    let (requests, receiver) = mpsc::channel(WAITING);
    tokio::spawn(Task { connection, shared }.run(receiver, lock));
    Writer { deliveries: requests.clone(), changes: requests }
}

impl Task {
    async fn run(mut self, mut requests: mpsc::Receiver<Request>, lock: ProcessLock) {
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
                    Request::Close(reply) => group.close.push(reply),
                }
            }
            // Requests that are already in the channel are still served.
            if !group.close.is_empty() {
                requests.close();
                closers.append(&mut group.close);
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
        self.shared.outage.note(committed.as_ref().map(drop));
        let Group { waiting, changes, .. } = group;
        match committed {
            Ok(outcomes) => {
                for (reply, answer) in waiting.into_iter().zip(outcomes.accepted) {
                    let _ = reply.send(answer);
                }
                for (change, outcome) in changes.into_iter().zip(outcomes.changed) {
                    change.settle(outcome);
                }
                self.shared.news.tell(self.connection.told());
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
    }

    /// One transaction for the whole group. An error here is everybody's; one member's own is in the outcomes.
    async fn commit(&mut self, group: &mut Group) -> Result<Outcomes, StoreError> {
        writer::begin(&mut self.connection).await?;
        let done = match self.apply(group).await {
            Ok(outcomes) => writer::say(&mut self.connection, "COMMIT").await.map(|()| outcomes),
            Err(outage) => Err(outage),
        };
        if done.is_err() {
            // After some errors SQLite has rolled back by itself; a second time is an error that means nothing.
            let _ = writer::say(&mut self.connection, "ROLLBACK").await;
        }
        done
    }

    async fn apply(&mut self, group: &mut Group) -> Result<Outcomes, StoreError> {
        let connection = &mut self.connection;
        let accepted = writer::accept(connection, &group.pending, self.shared.clock.now()).await?;
        let mut changed = Vec::with_capacity(group.changes.len());
        for change in &mut group.changes {
            let told = writer::savepoint(connection).await?;
            let outcome = change.apply(connection).await;
            changed.push(writer::leave_savepoint(connection, told, outcome).await?);
        }
        Ok(Outcomes { accepted, changed })
    }
}

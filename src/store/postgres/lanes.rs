//! The tasks that write. One takes the deliveries that have gathered, many in a transaction; beside it some take one
//! change each, in a transaction of its own: the server syncs what they commit together by itself.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::{AssertSqlSafe, Row as _};
use tokio::sync::{self, mpsc, oneshot};
use tokio::time::{Instant, timeout};

use super::Connector;
use crate::domain::time::Timestamp;
use crate::store::StoreError;
use crate::store::deliveries::Pending;
use crate::store::news::{self, CHANNEL};
use crate::store::sql::Connection;
use crate::store::writer::{self, Answer, Change, MAX_GROUP, Request, Shared, WAITING, Writer};

/// How many changes are written at once.
const LANES: usize = 4;
/// How long a connection that was idle may take for its first word; then it is taken for lost.
const FIRST_WORD: Duration = Duration::from_secs(5);
/// How long a transaction may take; a lock is waited for half as long.
const TRANSACTION: Duration = Duration::from_secs(20);
/// After a knock that nobody answered: how long until the next one, at first and at most.
const SOON: Duration = Duration::from_millis(100);
const LATER: Duration = Duration::from_secs(2);

type Closers = Arc<Mutex<Vec<oneshot::Sender<()>>>>;
type Requests = Arc<sync::Mutex<mpsc::Receiver<Request>>>;

/// Starts the tasks. `first` is a connection that is there already; `sender` marks our own messages to other processes.
pub(in crate::store) fn start(connector: &Connector, first: Connection, shared: &Shared, sender: u32) -> Writer {
    let lane = |connection| Lane {
        connector: connector.clone(),
        connection,
        shared: shared.clone(),
        sender,
        knock: Knock::default(),
    };
    let (deliveries, receiver) = mpsc::channel(WAITING);
    tokio::spawn(lane(Some(first)).take_deliveries(receiver));

    let (changes, receiver) = mpsc::channel(WAITING);
    let (requests, closers) = (Requests::new(receiver.into()), Closers::default());
    let lanes: Vec<_> = (0..LANES)
        .map(|_| tokio::spawn(lane(None).take_changes(Arc::clone(&requests), Arc::clone(&closers))))
        .collect();
    tokio::spawn(async move {
        for lane in lanes {
            let _ = lane.await;
        }
        for closer in closers.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = closer.send(());
        }
    });
    Writer { deliveries, changes }
}

/// One connection that writes, found again when it is lost.
struct Lane {
    connector: Connector,
    connection: Option<Connection>,
    shared: Shared,
    sender: u32,
    knock: Knock,
}

/// When a server that did not answer is asked again. Until then whoever wants something is told at once.
#[derive(Default)]
struct Knock {
    failed: Option<(String, Instant)>,
    wait: Duration,
}

impl Knock {
    fn is_due(&self) -> Result<(), StoreError> {
        match &self.failed {
            Some((why, next)) if Instant::now() < *next => Err(StoreError::Unavailable(why.clone())),
            _ => Ok(()),
        }
    }

    fn note<T>(&mut self, answered: Result<T, sqlx::Error>) -> Result<T, StoreError> {
        let error = match answered {
            Ok(connection) => {
                *self = Self::default();
                return Ok(connection);
            }
            Err(error) => writer::unavailable(error),
        };
        self.wait = (self.wait * 2).clamp(SOON, LATER);
        self.failed = Some((error.to_string(), Instant::now() + self.wait));
        Err(error)
    }
}

impl Lane {
    async fn take_deliveries(mut self, mut requests: mpsc::Receiver<Request>) {
        let (mut gathered, mut closers) = (Vec::new(), Vec::new());
        while requests.recv_many(&mut gathered, MAX_GROUP).await > 0 {
            let (mut pending, mut waiting) = (Vec::new(), Vec::new());
            for request in gathered.drain(..) {
                match request {
                    Request::Accept(one, reply) => {
                        pending.push(*one);
                        waiting.push(reply);
                    }
                    Request::Change(change) => change.settle(Err(StoreError::Closed)),
                    Request::Close(reply) => {
                        requests.close();
                        closers.push(reply);
                    }
                }
            }
            if !pending.is_empty() {
                self.accept(&pending, waiting).await;
            }
        }
        self.end().await;
        for closer in closers {
            let _ = closer.send(());
        }
    }

    async fn take_changes(mut self, requests: Requests, closers: Closers) {
        loop {
            let mut receiver = requests.lock().await;
            let request = receiver.recv().await;
            if let Some(Request::Close(reply)) = request {
                receiver.close();
                closers.lock().unwrap_or_else(PoisonError::into_inner).push(reply);
                continue;
            }
            drop(receiver);
            match request {
                Some(Request::Change(change)) => self.change(change).await,
                Some(Request::Accept(_, reply)) => drop(reply.send(Err(StoreError::Closed))),
                Some(Request::Close(_)) => {}
                None => return self.end().await,
            }
        }
    }

    /// All in one transaction; the answers follow its commit.
    async fn accept(&mut self, pending: &[Pending], waiting: Vec<oneshot::Sender<Answer>>) {
        let ended = match self.begin().await {
            Ok(mut connection) => {
                let (now, sender) = (self.shared.clock.now(), self.sender);
                let work = async {
                    let answers = writer::accept(&mut connection, pending, now).await?;
                    commit(&mut connection, sender).await.map(|()| answers)
                };
                let done = timeout(TRANSACTION, work).await.unwrap_or_else(|_| Err(silent()));
                self.leave(connection, done).await
            }
            Err(error) => Err(error),
        };
        self.shared.outage.note(ended.as_ref().map(drop));
        match ended {
            Ok(answers) => waiting.into_iter().zip(answers).for_each(|(reply, answer)| drop(reply.send(answer))),
            Err(error) => waiting.into_iter().for_each(|reply| drop(reply.send(Err(error.clone())))),
        }
    }

    /// One change in a transaction of its own.
    async fn change(&mut self, mut change: Box<dyn Change>) {
        let ended = match self.begin().await {
            Ok(mut connection) => {
                let sender = self.sender;
                let work = async {
                    change.apply(&mut connection).await?;
                    commit(&mut connection, sender).await
                };
                let done = timeout(TRANSACTION, work).await.unwrap_or_else(|_| Err(silent()));
                self.leave(connection, done).await
            }
            Err(error) => Err(error),
        };
        match &ended {
            Ok(()) => self.shared.outage.note(Ok(())),
            Err(error @ StoreError::Unavailable(_)) => self.shared.outage.note(Err(error)),
            // Its own fault: the store is well.
            Err(_) => {}
        }
        change.settle(ended);
    }

    /// A transaction that has begun, on the connection that is there, else on a new one; the database's clock is read
    /// with it. A connection that was lost while nobody used it was asked nothing, so that is no failure.
    async fn begin(&mut self) -> Result<Connection, StoreError> {
        if let Some(mut connection) = self.connection.take()
            && let Ok(Ok(time)) = timeout(FIRST_WORD, begin(&mut connection)).await
        {
            self.shared.clock.set(time);
            return Ok(connection);
        }
        self.knock.is_due()?;
        let connected = self.connector.connect().await;
        let mut connection = self.knock.note(connected)?;
        let time = timeout(FIRST_WORD, begin(&mut connection)).await.unwrap_or_else(|_| Err(silent()))?;
        self.shared.clock.set(time);
        Ok(connection)
    }

    /// After a transaction: whoever waits is told, or it is taken back. A connection on which that fails is given up;
    /// the server takes back what was not committed.
    async fn leave<T>(&mut self, mut connection: Connection, done: Result<T, StoreError>) -> Result<T, StoreError> {
        if done.is_ok() {
            self.shared.news.tell(connection.told());
            self.connection = Some(connection);
        } else if let Ok(Ok(())) = timeout(FIRST_WORD, writer::say(&mut connection, "ROLLBACK")).await {
            self.connection = Some(connection);
        }
        done
    }

    async fn end(self) {
        if let Some(connection) = self.connection {
            // A server that is gone is not told that we go.
            let _ = timeout(FIRST_WORD, connection.close()).await;
        }
    }
}

/// The error of a database that does not answer.
fn silent() -> StoreError {
    StoreError::Unavailable("the database does not answer".to_owned())
}

/// Begins a transaction and reads the database's clock, in one message.
async fn begin(connection: &mut Connection) -> Result<Timestamp, StoreError> {
    const BEGIN: &str = "BEGIN; SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint";
    connection.told().clear();
    let postgres = connection.postgres().ok_or_else(silent)?;
    let rows = sqlx::raw_sql(BEGIN).fetch_all(postgres).await.map_err(writer::unavailable)?;
    let row = rows.first().ok_or_else(silent)?;
    Ok(Timestamp(row.try_get(0).map_err(writer::unavailable)?))
}

/// Ends a transaction with what others are to be told of it, in one message. There is always a word before COMMIT: in a
/// transaction that failed it is an error, while COMMIT alone would take back everything and say that all is well.
async fn commit(connection: &mut Connection, sender: u32) -> Result<(), StoreError> {
    let mut words = String::new();
    for topic in connection.told().iter() {
        let message = news::message(sender, *topic);
        // Words and numbers of ours: nothing in it needs to be quoted.
        write!(words, "SELECT pg_notify('{CHANNEL}', '{message}'); ").expect("a string grows");
    }
    if words.is_empty() {
        words.push_str("SELECT 1; ");
    }
    words.push_str("COMMIT");
    let postgres = connection.postgres().ok_or_else(silent)?;
    sqlx::raw_sql(AssertSqlSafe(words)).execute(postgres).await.map(drop).map_err(writer::unavailable)
}

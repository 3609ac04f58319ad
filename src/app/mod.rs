//! The join: everything is made here, handed its part of the configuration, run, and ended in order.

mod parts;
mod records;
mod reload;
mod signals;
mod start;

use std::path::Path;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::load::LoadError;
use crate::store::{self, OpenError, Store};
use crate::sweeper::Sweeper;
use crate::web::listener::{self, Listener};
use crate::worker::{Ending, Worker};

use parts::Parts;
use signals::{Asked, Signals};

/// After a second signal, what is under way (a request to a forge, an answer to a reader) may end within this time.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How long to wait before what could not be put right at start is tried again.
const PUT_RIGHT_AGAIN: Duration = Duration::from_secs(2);

/// Why `serve` ended other than by a drain.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Nothing is configured, or what is configured can't be used.
    #[error(transparent)]
    Config(#[from] LoadError),
    /// The store can't be opened.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The listener can't be opened.
    #[error("can't listen on {address}: {source}")]
    Listen {
        /// Where.
        address: String,
        /// The system's word.
        source: std::io::Error,
    },
    /// Something else of ours failed.
    #[error("{what}: {source}")]
    Part {
        /// What.
        what: &'static str,
        /// The system's word.
        source: std::io::Error,
    },
}

impl ServeError {
    /// The exit code: 2 configuration, 3 a part failed.
    pub fn exit_code(&self) -> u8 {
        match self {
            ServeError::Config(_) | ServeError::Store(_) | ServeError::Listen { .. } => 2,
            ServeError::Part { .. } => 3,
        }
    }
}

/// How `serve` ended by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// After a drain: exit code 0.
    Drained,
    /// After a second signal: exit code 130.
    AtOnce,
}

/// Runs the listener, the pages, the reporter and the agent until a signal ends them.
///
/// # Errors
/// When something can't be started; nothing runs then.
pub async fn serve(config: Option<&Path>) -> Result<Ended, ServeError> {
    let part = |what| move |source| ServeError::Part { what, source };
    let signals = Signals::listen().map_err(part("signals can't be received"))?;
    let server = start::read_settings(config)?.server;
    start::make_data_dir(&server.data_dir).map_err(part("the data directory can't be made"))?;
    let exe = std::env::current_exe().map_err(part("this program's own file can't be found"))?;
    // Both take some milliseconds, and a forge may be waiting.
    let opening = Store::open(&server.store.sqlite, store::Options::default());
    let (store, layers) = tokio::join!(opening, start::layers(&exe, &server));
    let store = store?;
    let listener = start::open_listener(&server).await?;
    let parts = Parts::make(config.map(Path::to_owned), server, &store, exe, &layers);
    let is_right = put_right(&parts.sweeper).await;
    let ended = run(parts, is_right, listener, signals).await;
    store.close().await;
    Ok(ended)
}

/// Runs the parts until a signal, then ends them in order: no claims, no doors, and the last words of the reporter.
async fn run(parts: Parts, is_right: bool, listener: Listener, mut signals: Signals) -> Ended {
    let Parts { sweeper, worker, reporter, router, hub, tools, reload } = parts;
    let (doors, last_words) = (CancellationToken::new(), CancellationToken::new());
    let ending = Ending::default();
    let tasks = TaskTracker::new();
    let door = tasks.spawn(listener::serve(listener, router, doors.clone()));
    tasks.spawn(sweeper.clone().run(doors.clone()));
    tasks.spawn(sweeper.clone().keep_room(doors.clone()));
    tasks.spawn(reporter.run(last_words.clone()));
    // Before the first build needs it, and not before the door is open.
    tasks.spawn(async move { tools.toolchain().await });
    let working = tokio::spawn(work(worker, ending.clone(), sweeper, is_right));
    start::announce_ready(&reload.started_with);

    while signals.next().await == Asked::Reload {
        reload.read_again().await;
    }
    tracing::info!("draining: no new builds are started; a second signal stops at once");
    // Without systemd there is nobody to tell, which is no fault.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    ending.drain.cancel();
    let ended = drain(&mut signals, working, &ending).await;
    hub.close();
    doors.cancel();
    let all_said = async {
        let _ = door.await;
        last_words.cancel();
        tasks.close();
        tasks.wait().await;
    };
    tokio::select! {
        () = all_said => ended,
        // What is not sent by then is in the outbox, and sent after the next start.
        () = end_of_patience(&mut signals, ended) => Ended::AtOnce,
    }
}

/// True when what an earlier process left behind is put right. A full disk at start is no reason to lose what can be
/// read, nor to claim a build that may be one of those.
async fn put_right(sweeper: &Sweeper) -> bool {
    let result = sweeper.at_start().await;
    if let Err(error) = &result {
        tracing::error!(%error, "what was left behind could not be put right yet");
    }
    result.is_ok()
}

/// Runs the worker once all is put right.
async fn work(worker: Worker, ending: Ending, sweeper: Sweeper, mut is_right: bool) -> bool {
    while !is_right {
        tokio::select! {
            () = tokio::time::sleep(PUT_RIGHT_AGAIN) => is_right = put_right(&sweeper).await,
            () = ending.drain.cancelled() => break,
        }
    }
    worker.run(ending).await
}

/// Returns when last words must not be waited for any longer: soon after a drain that was cut short, else when
/// somebody asks a second time.
async fn end_of_patience(signals: &mut Signals, ended: Ended) {
    match ended {
        Ended::AtOnce => tokio::time::sleep(LAST_WORDS).await,
        Ended::Drained => while signals.next().await != Asked::Stop {},
    }
}

/// Waits for running builds. Another stop ends them at once; a reload now is heard and ignored.
async fn drain(signals: &mut Signals, working: tokio::task::JoinHandle<bool>, ending: &Ending) -> Ended {
    let mut working = working;
    loop {
        tokio::select! {
            _ = &mut working => return Ended::Drained,
            asked = signals.next() => if asked == Asked::Stop {
                tracing::warn!("stopping at once: running builds are given back to the queue");
                ending.now.cancel();
                let _ = working.await;
                return Ended::AtOnce;
            }
        }
    }
}

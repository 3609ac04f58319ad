//! The join: everything is made here, handed its part of the configuration, run, and ended in order.

mod identity;
mod parts;
mod records;
mod reload;
mod signals;
mod start;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::load::{LoadError, Loaded};
use crate::config::server::StoreUrl;
use crate::live::Hub;
use crate::outside::Unusable;
use crate::runner::Toolbox;
use crate::store::{self, Moved, OpenError, Store};
use crate::sweeper::Sweeper;
use crate::web::listener::{self, Listener};
use crate::worker::{Ending, Roll, RollError, Worker};

pub use identity::IdentityError;

use identity::Identity;
use parts::{Front, Materials, Parts, Role};
use signals::{Asked, Signals};

/// After a second signal, what is under way (a request to a forge, an answer to a reader) may end within this time.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// How long to wait before what could not be put right at start is tried again.
const PUT_RIGHT_AGAIN: Duration = Duration::from_secs(2);

/// Why `serve` or `agent` ended other than by a drain.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Nothing is configured, or what is configured can't be used.
    #[error(transparent)]
    Config(#[from] LoadError),
    /// The store can't be opened.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// What several machines share can't be reached with these settings.
    #[error(transparent)]
    Blobs(#[from] Unusable),
    /// The data directory is another process's.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The agent can't work under its name.
    #[error(transparent)]
    Roll(#[from] RollError),
    /// `agent` on a store of one process.
    #[error(
        "`hookmill agent` needs a store that several processes share: write [store] url = \"postgres://…\". A SQLite store \
         belongs to one process, and `hookmill serve` runs builds itself"
    )]
    NotShared,
    /// `agent` without a slot.
    #[error("agent.slots is 0, so this agent would never run a build: take it out, or write 1 or more")]
    NoSlots,
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
            ServeError::Config(_)
            | ServeError::Store(_)
            | ServeError::Blobs(_)
            | ServeError::Identity(_)
            | ServeError::NotShared
            | ServeError::NoSlots
            | ServeError::Roll(RollError::Taken { .. })
            | ServeError::Listen { .. } => 2,
            ServeError::Roll(RollError::Store(_)) | ServeError::Part { .. } => 3,
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
    start_and_run(Role::Serve, config).await
}

/// Runs an agent on a store that it shares with others, until a signal ends it or it was drained.
///
/// # Errors
/// As [`serve`], and when the store is one process's.
pub async fn agent(config: Option<&Path>) -> Result<Ended, ServeError> {
    start_and_run(Role::Agent, config).await
}

async fn start_and_run(role: Role, config: Option<&Path>) -> Result<Ended, ServeError> {
    let part = |what| move |source| ServeError::Part { what, source };
    let signals = Signals::listen().map_err(part("signals can't be received"))?;
    let Loaded { server, fingerprint, .. } = start::read_settings(role, config)?;
    start::check_role(role, &server)?;
    start::make_data_dir(&server.data_dir).map_err(part("the data directory can't be made"))?;
    let exe = std::env::current_exe().map_err(part("this program's own file can't be found"))?;
    // Both take some milliseconds, and a forge may be waiting.
    let opening = Store::open(StoreUrl::clone(&server.store), store::Options::default());
    let (store, layers) = tokio::join!(opening, start::layers(&exe, &server));
    let store = store?;
    let ours = Identity::take(&server.data_dir)?;
    let depot = start::depot(&server)?;
    let listener = match role {
        Role::Serve => Some(start::open_listener(&server).await?),
        Role::Agent => None,
    };
    let (config, identity) = (config.map(Path::to_owned), ours.id.clone());
    let parts = Parts::make(
        role,
        Materials { config, server, fingerprint, store: store.clone(), exe, layers, depot, identity },
    );
    let is_right = put_right(&parts.sweeper, parts.roll.as_ref()).await?;
    let ended = run(parts, is_right, listener, signals).await;
    store.close().await;
    drop(ours);
    Ok(ended)
}

/// Runs the parts until a signal or a drain, then ends them in order: no claims, no doors, and the last words of the
/// reporter.
async fn run(parts: Parts, is_right: bool, listener: Option<Listener>, mut signals: Signals) -> Ended {
    let Parts { sweeper, worker, roll, front, hub, tools, shipper, reload } = parts;
    let (doors, last_words) = (CancellationToken::new(), CancellationToken::new());
    let ending = Ending::default();
    let tasks = TaskTracker::new();
    let mut door = None;
    if let (Some(Front { reporter, missed, router }), Some(listener)) = (front, listener) {
        door = Some(tasks.spawn(listener::serve(listener, router, doors.clone())));
        tasks.spawn(missed.run(doors.clone()));
        tasks.spawn(reporter.run(last_words.clone()));
    }
    tasks.spawn(wake_followers(sweeper.store.clone(), hub.clone(), doors.clone()));
    tasks.spawn(sweeper.clone().run(doors.clone()));
    tasks.spawn(sweeper.clone().keep_room(doors.clone()));
    tasks.spawn(sweeper.clone().keep_mirrors(doors.clone()));
    if let Some(shipper) = shipper {
        tasks.spawn(shipper.run(last_words.clone()));
    }
    // Before the first build needs it, and not before the door is open.
    tasks.spawn(look_at_tools(tools, worker.clone()));
    let mut working = tokio::spawn(work(worker, ending.clone(), sweeper, roll.clone(), is_right));
    // An agent is there for as long as a build of it may run.
    if let Some(roll) = roll {
        tasks.spawn(roll.run(doors.clone()));
    }
    start::announce_ready(reload.role, &reload.started_with);
    let (reload, stop) = (Arc::new(reload), doors.clone());
    let starting = Arc::clone(&reload);
    tasks.spawn(async move {
        tokio::select! {
            () = starting.record_start() => {}
            () = stop.cancelled() => {}
        }
    });

    let is_drained = loop {
        tokio::select! {
            asked = signals.next() => match asked {
                Asked::Reload => reload.read_again().await,
                Asked::Stop => break false,
            },
            _ = &mut working => break true,
        }
    };
    // Without systemd there is nobody to tell, which is no fault.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    let ended = if is_drained {
        tracing::info!("drained");
        Ended::Drained
    } else {
        tracing::info!("draining: no new builds are started; a second signal stops at once");
        ending.drain.cancel();
        drain(&mut signals, working, &ending).await
    };
    hub.close();
    doors.cancel();
    let all_said = async {
        if let Some(door) = door {
            let _ = door.await;
        }
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

/// Wakes who follows a build when another process moved it. What moves it here tells them itself.
/// Those of this machine, and of the roots that builds are configured to see.
async fn look_at_tools(tools: Toolbox, worker: Worker) {
    tools.toolchain().await;
    let roots = worker.forges.borrow().roots();
    for root in roots.iter().filter(|_| worker.agent.slots > 0) {
        if let Err(why) = worker.parts.prepare_root(root).await {
            tracing::error!(root = %root.dir().display(), "NO BUILD WILL RUN in this root: {why}");
        }
    }
}

async fn wake_followers(store: Store, hub: Hub, stop: CancellationToken) {
    let mut changes = store.build_changes();
    while store.is_shared() {
        tokio::select! {
            moved = changes.next() => match moved {
                Moved::Build(build) => hub.publish(build),
                Moved::Any => hub.publish_all(),
            },
            () = stop.cancelled() => return,
        }
    }
}

/// True when the agent's name is ours and what an earlier process left behind is put right. A full disk at start is no
/// reason to lose what can be read, nor to claim a build that may be one of those.
///
/// # Errors
/// When another agent bears the name.
async fn put_right(sweeper: &Sweeper, roll: Option<&Roll>) -> Result<bool, RollError> {
    if let Some(roll) = roll {
        match roll.register().await {
            Ok(()) => {}
            Err(RollError::Store(error)) => {
                tracing::error!(%error, "what was left behind could not be put right yet");
                // It may be what fills the store's disk.
                sweeper.clear_leftovers().await;
                return Ok(false);
            }
            Err(taken) => return Err(taken),
        }
    }
    let result = sweeper.at_start().await;
    if let Err(error) = &result {
        tracing::error!(%error, "what was left behind could not be put right yet");
    }
    Ok(result.is_ok())
}

/// Runs the worker once all is put right.
async fn work(worker: Worker, ending: Ending, sweeper: Sweeper, roll: Option<Roll>, mut is_right: bool) -> bool {
    while !is_right {
        tokio::select! {
            () = tokio::time::sleep(PUT_RIGHT_AGAIN) => {
                is_right = put_right(&sweeper, roll.as_ref()).await.unwrap_or(false);
            }
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

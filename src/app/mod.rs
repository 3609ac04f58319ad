//! The join: everything is made here, handed its part of the configuration, run, and ended in order.

mod records;
mod signals;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::blobs::Logs;
use crate::config::load::{self, LoadError, Loaded};
use crate::config::server::{Require, Server, Statuses};
use crate::config::surroundings::Surroundings;
use crate::confine::{self, Layers};
use crate::domain::link::InstanceKey;
use crate::forge::api::Client;
use crate::intake;
use crate::live::Hub;
use crate::reporter::Reporter;
use crate::runner::{Parts, Toolbox};
use crate::store::{self, OpenError, Store};
use crate::sweeper::Sweeper;
use crate::web::hook::{Hooks, NotTaken, Refusals, TakeFn};
use crate::web::listener::{self, Listener};
use crate::web::{self, Pages, Site};
use crate::worker::{Ending, Worker};

use records::StoreRecords;
use signals::{Asked, Signals};

/// How many live readers one process serves.
const READERS: usize = 512;

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
    let mut signals = Signals::listen().map_err(part("signals can't be received"))?;
    let settings = read_settings(config)?;
    let server = settings.server;
    let store = Store::open(&server.store.sqlite, store::Options::default()).await?;
    make_data_dir(&server.data_dir).map_err(part("the data directory can't be made"))?;
    let listener = open_listener(&server).await?;
    let exe = std::env::current_exe().map_err(part("this program's own file can't be found"))?;
    let layers = layers(&exe, &server).await;

    let (forges, forges_seen) = watch::channel(Arc::clone(&server.forges));
    let (statuses, statuses_seen) = watch::channel(Arc::clone(&server.statuses));
    let (retention, retention_seen) = watch::channel(Arc::clone(&server.retention));
    let links = InstanceKey::new(store.link_key());
    let logs = Logs::new(server.data_dir.join("logs"));
    let hub = Hub::new(READERS);
    let sweeper = Sweeper {
        store: store.clone(),
        data_dir: server.data_dir.clone(),
        logs: logs.clone(),
        retention: retention_seen,
    };
    let put_right = put_right(&sweeper).await;
    let tools = Toolbox::default();
    let worker = Worker {
        store: store.clone(),
        agent: Arc::clone(&server.agent),
        forges: forges_seen.clone(),
        statuses: statuses_seen.clone(),
        web: Arc::clone(&server.web),
        parts: Parts {
            exe,
            data_dir: server.data_dir.clone(),
            layers: Arc::clone(&layers),
            network: Arc::clone(&server.network),
            tools: tools.clone(),
            shared_tools: None,
            permits: Arc::new(Semaphore::new(steps_at_once(server.agent.slots))),
        },
        logs: logs.clone(),
        hub: hub.clone(),
        busy: Arc::default(),
    };
    let refusals = Refusals::default();
    let take = take_by(store.clone(), statuses_seen);
    let records = Arc::new(StoreRecords {
        store: store.clone(),
        layers,
        slots: server.agent.slots,
        busy: Arc::clone(&worker.busy),
        answers: Arc::clone(&take.answers),
        data_dir: server.data_dir.clone(),
    });
    let seen = refusals.clone();
    let pages = Arc::new(Pages::new(site(&server, &links), records, logs, hub.clone(), move || {
        seen.list().into_iter().map(records::refusal).collect()
    }));
    let hooks = web::hook::routes(Hooks { forges: forges_seen.clone(), take: take.take, refusals });
    let router = web::under_public_path(&site(&server, &links), web::router(Arc::clone(&pages)).merge(hooks));

    let doors = CancellationToken::new();
    let ending = Ending::default();
    let tasks = TaskTracker::new();
    let reporter_stop = CancellationToken::new();
    let door = tasks.spawn(listener::serve(listener, router, doors.clone()));
    tasks.spawn(sweeper.clone().run(doors.clone()));
    let reporter = Reporter {
        store: store.clone(),
        forges: forges_seen,
        client: Arc::new(Client::new(&server.network)),
        web: Arc::clone(&server.web),
        links: links.clone(),
    };
    tasks.spawn(reporter.run(reporter_stop.clone()));
    // Before the first build needs it, and not before the door is open.
    tasks.spawn(async move { tools.toolchain().await });
    let working = tokio::spawn(work(worker, ending.clone(), sweeper.clone(), put_right));
    announce_ready(&server);

    let ended = loop {
        match signals.next().await {
            Asked::Reload => match read_settings(config) {
                Ok(again) => {
                    pages.reconfigure(site(&again.server, &links));
                    forges.send_replace(Arc::clone(&again.server.forges));
                    statuses.send_replace(Arc::clone(&again.server.statuses));
                    retention.send_replace(Arc::clone(&again.server.retention));
                    warn_of_restarts(&server, &again.server);
                    tracing::info!("configuration read again");
                }
                Err(error) => tracing::error!(%error, "the configuration was not changed: the new one can't be used"),
            },
            Asked::Stop => {
                tracing::info!("draining: no new builds are started; a second signal stops at once");
                let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
                ending.drain.cancel();
                break drain(&mut signals, working, &ending).await;
            }
        }
    };
    hub.close();
    doors.cancel();
    let last_words = async {
        let _ = door.await;
        reporter_stop.cancel();
        tasks.close();
        tasks.wait().await;
    };
    let ended = tokio::select! {
        () = last_words => ended,
        // What is not sent by then is in the outbox, and sent after the next start.
        () = end_of_patience(&mut signals, ended) => Ended::AtOnce,
    };
    store.close().await;
    Ok(ended)
}

/// Returns when last words must not be waited for any longer: soon after a drain that was cut short, else when
/// somebody asks a second time.
async fn end_of_patience(signals: &mut Signals, ended: Ended) {
    match ended {
        Ended::AtOnce => tokio::time::sleep(LAST_WORDS).await,
        Ended::Drained => while signals.next().await != Asked::Stop {},
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

fn read_settings(config: Option<&Path>) -> Result<Loaded, ServeError> {
    let around = Surroundings::of_this_process()
        .map_err(|source| ServeError::Part { what: "the current directory can't be read", source })?;
    let loaded = load::load(config, &around)?;
    for warning in &loaded.warnings {
        tracing::warn!("{}", warning.render(false));
    }
    Ok(loaded)
}

fn make_data_dir(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// A socket that systemd hands over wins over the configured address (sd_listen_fds(3)).
async fn open_listener(server: &Server) -> Result<Listener, ServeError> {
    let failed = |address: String| move |source| ServeError::Listen { address, source };
    let mut handed = listenfd::ListenFd::from_env();
    if let Some(socket) = handed.take_tcp_listener(0).map_err(failed("systemd's socket".into()))? {
        let listening = socket.set_nonblocking(true).and_then(|()| tokio::net::TcpListener::from_std(socket));
        return listening.map(Listener::Tcp).map_err(failed("systemd's socket".into()));
    }
    Listener::bind(&server.web.listen).await.map_err(failed(server.web.listen.to_string()))
}

async fn layers(exe: &Path, server: &Server) -> Arc<Layers> {
    let layers = match server.sandbox.require {
        Require::None => Layers::none("[sandbox] require = \"none\""),
        Require::Available => confine::probe(exe, &server.data_dir)
            .await
            .unwrap_or_else(|error| Layers::none(&format!("the host could not be probed: {error}"))),
    };
    if layers.is_full() {
        tracing::info!(sandbox = layers.name(), "builds are confined");
    } else {
        tracing::warn!(sandbox = layers.name(), "SANDBOX DEGRADED");
        for fix in layers.fixes() {
            tracing::warn!("{fix}");
        }
    }
    Arc::new(layers)
}

/// Enough for two installs side by side in every slot, and no fewer than the cores.
fn steps_at_once(slots: usize) -> usize {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    (slots * 2).max(cores)
}

fn site(server: &Server, links: &InstanceKey) -> Site {
    let pages: BTreeMap<_, _> =
        server.forges.by_name.values().map(|forge| (forge.name.clone(), forge.web_url.clone())).collect();
    Site::new(&server.web, links.clone(), pages)
}

/// The intake as the door calls it, with a count of what it was answered.
struct Take {
    take: TakeFn,
    answers: Arc<records::Answers>,
}

fn take_by(store: Store, statuses: watch::Receiver<Arc<Statuses>>) -> Take {
    let answers = Arc::<records::Answers>::default();
    let counted = Arc::clone(&answers);
    let take: TakeFn = Arc::new(move |taken| {
        let (store, counted) = (store.clone(), Arc::clone(&counted));
        let context = statuses.borrow().context.clone();
        Box::pin(async move {
            let answered = intake::take(&store, records::arrival(taken, context)).await;
            counted.count(&answered);
            answered.map(records::answer).map_err(|error| NotTaken { why: error.to_string() })
        })
    });
    Take { take, answers }
}

fn announce_ready(server: &Server) {
    tracing::info!(listen = %server.web.listen, public_url = %server.web.public_url, slots = server.agent.slots, "ready");
    // Without systemd there is nobody to tell, which is no fault.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
}

/// Names what a reload can't change.
fn warn_of_restarts(before: &Server, now: &Server) {
    let fixed: [(&str, bool); 5] = [
        ("server.listen", before.web.listen == now.web.listen),
        ("store.url", before.store.sqlite == now.store.sqlite),
        ("data.dir", before.data_dir == now.data_dir),
        ("agent", before.agent.slots == now.agent.slots && before.agent.name == now.agent.name),
        ("sandbox.require", before.sandbox.require == now.sandbox.require),
    ];
    for (key, same) in fixed {
        if !same {
            tracing::warn!(key, "this setting changes only with a restart");
        }
    }
}

//! Every part, made and handed what it needs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use tokio::sync::{Notify, Semaphore, watch};

use crate::blobs::{Artifacts, Depot, Logs, Shipper};
use crate::cache::Cache;
use crate::config::fingerprint::Fingerprint;
use crate::config::server::{Server, Statuses};
use crate::confine::Layers;
use crate::disk::Disk;
use crate::domain::agent::Order;
use crate::domain::link::InstanceKey;
use crate::forge::api::Client;
use crate::intake;
use crate::live::Hub;
use crate::live::cache_tally::CacheTally;
use crate::reporter::{Pace, Reporter};
use crate::runner::{self, Pending, Toolbox};
use crate::store::{AgentCard, Store, StoreError};
use crate::sweeper::Sweeper;
use crate::sweeper::missed::{Missed, SweepTally};
use crate::web::hook::{Hooks, NotTaken, Refusals, TakeFn};
use crate::web::{self, Pages, Site};
use crate::worker::{Roll, Worker};

use super::records::{self, StoreRecords};
use super::reload::Reload;
use super::start::steps_at_once;

/// How many live readers one process serves.
const READERS: usize = 512;

/// What a process is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// The door and, unless it has no slots, an agent.
    Serve,
    /// An agent and nothing else.
    Agent,
}

/// What the parts are made from.
pub(super) struct Materials {
    pub(super) config: Option<PathBuf>,
    pub(super) server: Server,
    /// What the settings were made from.
    pub(super) fingerprint: Fingerprint,
    pub(super) store: Store,
    pub(super) exe: PathBuf,
    pub(super) layers: Arc<Layers>,
    pub(super) depot: Option<Depot>,
    /// The data directory's.
    pub(super) identity: String,
}

/// The parts of a process, ready to run.
pub(super) struct Parts {
    pub(super) sweeper: Sweeper,
    pub(super) worker: Worker,
    /// The agent's place among all; `None` where there is no agent.
    pub(super) roll: Option<Roll>,
    /// What only a server has.
    pub(super) front: Option<Front>,
    pub(super) hub: Hub,
    pub(super) tools: Toolbox,
    /// Where several machines share logs and artifacts.
    pub(super) shipper: Option<Shipper>,
    pub(super) reload: Reload,
}

/// What forges and people meet.
pub(super) struct Front {
    pub(super) reporter: Reporter,
    pub(super) missed: Missed,
    pub(super) router: Router,
}

impl Parts {
    /// Makes them from the settings, around one store.
    pub(super) fn make(role: Role, materials: Materials) -> Parts {
        let Materials { config, server, fingerprint, store, exe, layers, depot, identity } = materials;
        let (store, layers) = (&store, &layers);
        let (forges, forges_seen) = watch::channel(Arc::clone(&server.forges));
        let (secrets, secrets_seen) = watch::channel(server.secrets().into());
        let (statuses, statuses_seen) = watch::channel(Arc::clone(&server.statuses));
        let (retention, retention_seen) = watch::channel(Arc::clone(&server.retention));
        let (sandbox, sandbox_seen) = watch::channel(Arc::clone(&server.sandbox));
        let links = InstanceKey::new(store.link_key());
        let logs = Logs::new(server.data_dir.join("logs"));
        let artifacts = Artifacts::new(server.data_dir.join("artifacts"));
        let cache = Cache::new(&server.data_dir);
        let caches = CacheTally::default();
        let disk = Disk::new(&server.data_dir, &server.space);
        let hub = Hub::new(READERS);
        let tools = Toolbox::default();
        let shipper = depot.clone().map(|depot| Shipper::new(logs.clone(), artifacts.clone(), depot));
        let busy = Arc::<AtomicUsize>::default();
        let crowded = Arc::<Notify>::default();
        let roll = roll(store, &server, layers, identity, (&busy, &disk));
        let sweeper = Sweeper {
            agent: roll.as_ref().map(|_| server.agent.name.clone()),
            exe: exe.clone(),
            store: store.clone(),
            data_dir: server.data_dir.clone(),
            logs: logs.clone(),
            artifacts: artifacts.clone(),
            depot: depot.clone(),
            cache: cache.clone(),
            tally: caches.clone(),
            disk: disk.clone(),
            crowded: Arc::clone(&crowded),
            retention: retention_seen,
        };
        let worker = Worker {
            store: store.clone(),
            agent: Arc::clone(&server.agent),
            forges: forges_seen.clone(),
            secrets: secrets_seen,
            statuses: statuses_seen.clone(),
            sandbox: sandbox_seen,
            web: Arc::clone(&server.web),
            parts: runner::Parts {
                exe: exe.clone(),
                data_dir: server.data_dir.clone(),
                layers: Arc::clone(layers),
                network: Arc::clone(&server.network),
                tools: tools.clone(),
                toolchain: Arc::clone(&server.toolchain),
                shared_tools: None,
                artifacts: Some(artifacts.clone()),
                cache: cache.clone(),
                tally: caches.clone(),
                pending: Pending::default(),
                crowded,
                permits: Arc::new(Semaphore::new(steps_at_once(server.agent.slots))),
            },
            logs: logs.clone(),
            disk: disk.clone(),
            hub: hub.clone(),
            busy,
            orders: roll.as_ref().map_or_else(|| watch::channel(Order::Run).1, Roll::orders),
            ends_when_drained: role == Role::Agent,
        };
        let client = Arc::new(Client::new(&server.network));
        let (sweeps, refused) = (SweepTally::default(), Arc::<AtomicBool>::default());
        let mut pages = None;
        let front = (role == Role::Serve).then(|| {
            let reporter = Reporter {
                store: store.clone(),
                forges: forges_seen.clone(),
                client: Arc::clone(&client),
                web: Arc::clone(&server.web),
                links: links.clone(),
                sender: sender(&server.agent.name),
                pace: Pace::default(),
            };
            let missed = Missed {
                exe: exe.clone(),
                store: store.clone(),
                forges: forges_seen.clone(),
                statuses: statuses_seen.clone(),
                network: Arc::clone(&server.network),
                client,
                web: Arc::clone(&server.web),
                every: server.sweep,
                refused: Arc::clone(&refused),
                holder: server.agent.name.clone(),
                tally: sweeps.clone(),
            };
            let take = take_by(store.clone(), statuses_seen, refused, disk.clone());
            let records = Arc::new(StoreRecords {
                store: store.clone(),
                forges: forges_seen.clone(),
                layers: Arc::clone(layers),
                slots: server.agent.slots,
                busy: Arc::clone(&worker.busy),
                agent: roll.as_ref().map(|_| server.agent.name.clone()),
                answers: take.answers,
                disk,
                caches: caches.clone(),
                sweeps,
            });
            let refusals = Refusals::default();
            let seen = refusals.clone();
            let made = Arc::new(Pages::new(
                site(&server, &links),
                records,
                web::Kept { logs, artifacts, depot },
                hub.clone(),
                move || seen.list().into_iter().map(records::refusal).collect(),
            ));
            let hooks = web::hook::routes(Hooks { forges: forges_seen, take: take.take, refusals });
            let router = web::under_public_path(&site(&server, &links), web::router(Arc::clone(&made)).merge(hooks));
            pages = Some(made);
            Front { reporter, missed, router }
        });
        let store = store.clone();
        let last = Mutex::new(fingerprint);
        let reload = Reload {
            role,
            config,
            started_with: server,
            forges,
            secrets,
            statuses,
            retention,
            sandbox,
            pages,
            links,
            store,
            last,
        };
        Parts { sweeper, worker, roll, front, hub, tools, shipper, reload }
    }
}

/// The agent's entry; a process without slots is no agent.
fn roll(
    store: &Store,
    server: &Server,
    layers: &Layers,
    identity: String,
    (busy, disk): (&Arc<AtomicUsize>, &Disk),
) -> Option<Roll> {
    let card = AgentCard {
        name: server.agent.name.clone(),
        identity,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        sandbox: layers.name(),
        slots: server.agent.slots,
    };
    (server.agent.slots > 0).then(|| Roll::new(store.clone(), card, server.agent.lease, Arc::clone(busy), disk.clone()))
}

/// The name under which this process marks what it sends: no other has it, not even the next one on this machine.
fn sender(name: &str) -> String {
    let random = getrandom::u32().unwrap_or(0);
    format!("{name}/{}/{random:08x}", std::process::id())
}

/// The public side of the server, for the pages.
pub(super) fn site(server: &Server, links: &InstanceKey) -> Site {
    let pages: BTreeMap<_, _> =
        server.forges.by_name.values().map(|forge| (forge.name.clone(), forge.web_url.clone())).collect();
    Site::new(&server.web, links.clone(), pages)
}

/// The intake as the door calls it, with a count of what it was answered.
struct Take {
    take: TakeFn,
    answers: Arc<records::Answers>,
}

/// `refused` is set when a delivery can't be taken; a full disk gives its reserve up first.
fn take_by(store: Store, statuses: watch::Receiver<Arc<Statuses>>, refused: Arc<AtomicBool>, disk: Disk) -> Take {
    let answers = Arc::<records::Answers>::default();
    let counted = Arc::clone(&answers);
    let take: TakeFn = Arc::new(move |taken| {
        let (store, counted, refused) = (store.clone(), Arc::clone(&counted), Arc::clone(&refused));
        let disk = disk.clone();
        let context = statuses.borrow().context.clone();
        Box::pin(async move {
            let arrival = records::arrival(taken, context);
            let mut answered = intake::take(&store, arrival.clone()).await;
            // A full disk keeps a reserve for this.
            if matches!(answered, Err(StoreError::Unavailable(_))) && disk.give_reserve() {
                disk.ask();
                answered = intake::take(&store, arrival).await;
            }
            counted.count(&answered);
            refused.fetch_or(answered.is_err(), Ordering::Relaxed);
            answered.map(records::answer).map_err(|error| NotTaken { why: error.to_string() })
        })
    });
    Take { take, answers }
}

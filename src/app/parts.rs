//! Every part, made and handed what it needs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use tokio::sync::{Semaphore, watch};

use crate::blobs::{Artifacts, Logs};
use crate::cache::Cache;
use crate::config::server::{Server, Statuses};
use crate::confine::Layers;
use crate::disk::Disk;
use crate::domain::link::InstanceKey;
use crate::forge::api::Client;
use crate::intake;
use crate::live::Hub;
use crate::live::cache_tally::CacheTally;
use crate::reporter::Reporter;
use crate::runner::{self, Pending, Toolbox};
use crate::store::{Store, StoreError};
use crate::sweeper::Sweeper;
use crate::web::hook::{Hooks, NotTaken, Refusals, TakeFn};
use crate::web::{self, Pages, Site};
use crate::worker::Worker;

use super::records::{self, StoreRecords};
use super::reload::Reload;
use super::start::steps_at_once;

/// How many live readers one process serves.
const READERS: usize = 512;

/// The parts of a server, ready to run.
pub(super) struct Parts {
    pub(super) sweeper: Sweeper,
    pub(super) worker: Worker,
    pub(super) reporter: Reporter,
    pub(super) router: Router,
    pub(super) hub: Hub,
    pub(super) tools: Toolbox,
    pub(super) reload: Reload,
}

impl Parts {
    /// Makes them from the settings, around one store.
    pub(super) fn make(
        config: Option<PathBuf>,
        server: Server,
        store: &Store,
        exe: PathBuf,
        layers: &Arc<Layers>,
    ) -> Parts {
        let (forges, forges_seen) = watch::channel(Arc::clone(&server.forges));
        let (statuses, statuses_seen) = watch::channel(Arc::clone(&server.statuses));
        let (retention, retention_seen) = watch::channel(Arc::clone(&server.retention));
        let links = InstanceKey::new(store.link_key());
        let logs = Logs::new(server.data_dir.join("logs"));
        let artifacts = Artifacts::new(server.data_dir.join("artifacts"));
        let cache = Cache::new(&server.data_dir);
        let caches = CacheTally::default();
        let disk = Disk::new(&server.data_dir, &server.space);
        let hub = Hub::new(READERS);
        let tools = Toolbox::default();
        let sweeper = Sweeper {
            exe: exe.clone(),
            store: store.clone(),
            data_dir: server.data_dir.clone(),
            logs: logs.clone(),
            artifacts: artifacts.clone(),
            cache: cache.clone(),
            tally: caches.clone(),
            disk: disk.clone(),
            retention: retention_seen,
        };
        let reporter = Reporter {
            store: store.clone(),
            forges: forges_seen.clone(),
            client: Arc::new(Client::new(&server.network)),
            web: Arc::clone(&server.web),
            links: links.clone(),
        };
        let worker = Worker {
            store: store.clone(),
            agent: Arc::clone(&server.agent),
            forges: forges_seen.clone(),
            statuses: statuses_seen.clone(),
            web: Arc::clone(&server.web),
            parts: runner::Parts {
                exe,
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
                permits: Arc::new(Semaphore::new(steps_at_once(server.agent.slots))),
            },
            logs: logs.clone(),
            disk: disk.clone(),
            hub: hub.clone(),
            busy: Arc::default(),
        };
        let take = take_by(store.clone(), statuses_seen, disk.clone());
        let records = Arc::new(StoreRecords {
            store: store.clone(),
            layers: Arc::clone(layers),
            slots: server.agent.slots,
            busy: Arc::clone(&worker.busy),
            answers: take.answers,
            agent: server.agent.name.clone(),
            disk,
            caches: caches.clone(),
        });
        let refusals = Refusals::default();
        let seen = refusals.clone();
        let pages = Arc::new(Pages::new(
            site(&server, &links),
            records,
            web::Kept { logs, artifacts },
            hub.clone(),
            move || seen.list().into_iter().map(records::refusal).collect(),
        ));
        let hooks = web::hook::routes(Hooks { forges: forges_seen, take: take.take, refusals });
        let router = web::under_public_path(&site(&server, &links), web::router(Arc::clone(&pages)).merge(hooks));
        let store = store.clone();
        let reload = Reload { config, started_with: server, forges, statuses, retention, pages, links, store };
        Parts { sweeper, worker, reporter, router, hub, tools, reload }
    }
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

fn take_by(store: Store, statuses: watch::Receiver<Arc<Statuses>>, disk: Disk) -> Take {
    let answers = Arc::<records::Answers>::default();
    let counted = Arc::clone(&answers);
    let take: TakeFn = Arc::new(move |taken| {
        let (store, counted, disk) = (store.clone(), Arc::clone(&counted), disk.clone());
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
            answered.map(records::answer).map_err(|error| NotTaken { why: error.to_string() })
        })
    });
    Take { take, answers }
}

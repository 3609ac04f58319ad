//! SIGHUP: the configuration is read again, all or nothing; running builds go on.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::config::fingerprint::Fingerprint;
use crate::config::load::Loaded;
use crate::config::secret::Secret;
use crate::config::server::{Agent, Forge, Forges, Network, Retention, Sandbox, Server, Statuses};
use crate::domain::audit::{Act, Actor, Deed, Occasion};
use crate::domain::link::InstanceKey;
use crate::store::{Store, StoreError};
use crate::web::Pages;

use super::parts::{Role, site};
use super::start::read_settings;

/// Whoever may be told of new settings, and the ones from the start.
pub(super) struct Reload {
    pub(super) role: Role,
    /// `--config`.
    pub(super) config: Option<PathBuf>,
    /// The settings that this process started with.
    pub(super) started_with: Server,
    pub(super) forges: watch::Sender<Arc<Forges>>,
    /// Receivers hide these in logs.
    pub(super) secrets: watch::Sender<Arc<[Secret]>>,
    pub(super) statuses: watch::Sender<Arc<Statuses>>,
    pub(super) retention: watch::Sender<Arc<Retention>>,
    pub(super) sandbox: watch::Sender<Arc<Sandbox>>,
    pub(super) pages: Option<Arc<Pages>>,
    pub(super) links: InstanceKey,
    pub(super) store: Store,
    /// What was read last.
    pub(super) last: Mutex<Fingerprint>,
}

impl Reload {
    /// Writes down what this process started with, and which files are not as they were when it started before.
    pub(super) async fn record_start(&self) {
        let (name, files) = (&self.started_with.agent.name, self.read_last().files);
        let before = match self.store.last_configuration(name).await {
            Ok(before) => before,
            Err(error) => {
                tracing::error!(%error, "the audit can't be read");
                return;
            }
        };
        let known = match before.map(|entry| entry.deed.act) {
            Some(Act::ConfigurationLoaded { files, .. }) => files,
            _ => Vec::new(),
        };
        let changed = files.iter().filter(|file| !known.contains(file)).map(|file| file.path.clone()).collect();
        self.record(Act::ConfigurationLoaded { occasion: Occasion::Start, files, changed }).await;
    }

    async fn record(&self, act: Act) {
        let actor = Actor::process(&self.started_with.agent.name);
        let deed = Deed { actor, act, build: None, repo: None };
        if let Err(error) = self.store.record(vec![deed]).await {
            tracing::error!(%error, "that a configuration was read is missing in the audit");
        }
    }

    fn read_last(&self) -> Fingerprint {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads everything again and hands it on, or says why nothing was changed.
    pub(super) async fn read_again(&self) {
        let again = match read_settings(self.role, self.config.as_deref()) {
            Ok(again) => again,
            Err(error) => {
                tracing::error!(%error, "the configuration was not changed: the new one can't be used");
                return;
            }
        };
        let Loaded { server: again, fingerprint, .. } = again;
        let before = self.forges.borrow().clone();
        if let Some(pages) = &self.pages {
            pages.reconfigure(site(&again, &self.links));
        }
        self.forges.send_replace(Arc::clone(&again.forges));
        self.secrets.send_replace(again.secrets().into());
        self.statuses.send_replace(Arc::clone(&again.statuses));
        self.retention.send_replace(Arc::clone(&again.retention));
        // Of it only `require` waits for a restart: the layers were probed by it.
        self.sandbox.send_replace(Arc::clone(&again.sandbox));
        warn_of_restarts(&self.started_with, &again);
        for forge in again.forges.by_name.values() {
            if let Err(error) = self.resume(forge, before.by_name.get(&forge.name)).await {
                tracing::warn!(%error, forge = %forge.name, "the forge stays paused");
            }
        }
        tracing::info!("configuration read again");
        let changed = fingerprint.changed_since(&self.read_last());
        let files = fingerprint.files.clone();
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = fingerprint;
        self.record(Act::ConfigurationLoaded { occasion: Occasion::Reload, files, changed }).await;
    }
}

impl Reload {
    /// A token that was refused may be another one now: nobody waits out the pause for the old one, and what it could
    /// not deliver is sent again.
    async fn resume(&self, forge: &Forge, before: Option<&Arc<Forge>>) -> Result<(), StoreError> {
        self.store.resume_forge(&forge.name).await?;
        if before.is_some_and(|before| before.is_asked_like(forge)) {
            return Ok(());
        }
        self.store.set_token_end(&forge.name, None).await?;
        let count = self.store.resend_all(&forge.name).await?;
        if count > 0 {
            tracing::info!(forge = %forge.name, count, "statuses that were given up are sent again");
        }
        Ok(())
    }
}

fn same_network(before: &Network, now: &Network) -> bool {
    (&before.proxy, &before.no_proxy, &before.ca_file) == (&now.proxy, &now.no_proxy, &now.ca_file)
}

fn same_agent(before: &Agent, now: &Agent) -> bool {
    (before.slots, &before.name, before.lease) == (now.slots, &now.name, now.lease)
}

/// Names what a reload can't change.
fn warn_of_restarts(before: &Server, now: &Server) {
    let fixed: [(&str, bool); 8] = [
        ("server.listen", before.web.listen == now.web.listen),
        ("server.sweep", before.sweep == now.sweep),
        ("store.url", before.store == now.store),
        ("data.dir", before.data_dir == now.data_dir),
        ("data.blobs_url", before.blobs == now.blobs),
        ("agent", same_agent(&before.agent, &now.agent)),
        ("network", same_network(&before.network, &now.network)),
        ("sandbox.require", before.sandbox.require == now.sandbox.require),
    ];
    for (key, same) in fixed {
        if !same {
            tracing::warn!(key, "this setting changes only with a restart");
        }
    }
}

//! What has to be there before anything runs: settings, directory, listener, and the knowledge of this host.

use std::path::Path;
use std::sync::Arc;

use crate::blobs::Depot;
use crate::config::load::{self, Loaded};
use crate::config::server::{Require, Server, StoreUrl};
use crate::config::surroundings::Surroundings;
use crate::confine::{self, Layers};
use crate::web::listener::Listener;

use super::ServeError;
use super::parts::Role;

pub(super) fn read_settings(role: Role, config: Option<&Path>) -> Result<Loaded, ServeError> {
    let mut around = Surroundings::of_this_process()
        .map_err(|source| ServeError::Part { what: "the current directory can't be read", source })?;
    around.takes_hooks = role == Role::Serve;
    let loaded = load::load(config, &around)?;
    for warning in &loaded.warnings {
        tracing::warn!("{}", warning.render(false));
    }
    Ok(loaded)
}

/// Refuses what a process of this kind can't work with.
pub(super) fn check_role(role: Role, server: &Server) -> Result<(), ServeError> {
    match (role, &*server.store) {
        (Role::Serve, _) => Ok(()),
        (Role::Agent, StoreUrl::Sqlite(_)) => Err(ServeError::NotShared),
        (Role::Agent, StoreUrl::Postgres(_)) if server.agent.slots == 0 => Err(ServeError::NoSlots),
        (Role::Agent, StoreUrl::Postgres(_)) => Ok(()),
    }
}

pub(super) fn make_data_dir(dir: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)
}

/// A socket that systemd hands over wins over the configured address (`sd_listen_fds(3)`).
pub(super) async fn open_listener(server: &Server) -> Result<Listener, ServeError> {
    let failed = |address: String| move |source| ServeError::Listen { address, source };
    let mut handed = listenfd::ListenFd::from_env();
    if let Some(socket) = handed.take_tcp_listener(0).map_err(failed("systemd's socket".into()))? {
        let listening = socket.set_nonblocking(true).and_then(|()| tokio::net::TcpListener::from_std(socket));
        return listening.map(Listener::Tcp).map_err(failed("systemd's socket".into()));
    }
    Listener::bind(&server.web.listen).await.map_err(failed(server.web.listen.to_string()))
}

/// What several machines share, if the settings say so.
pub(super) fn depot(server: &Server) -> Result<Option<Depot>, ServeError> {
    Ok(server.blobs.as_ref().map(|blobs| Depot::new(blobs, &server.network)).transpose()?)
}

pub(super) async fn layers(exe: &Path, server: &Server) -> Arc<Layers> {
    let layers = match server.sandbox.require {
        Require::None => {
            let probed = confine::probe_bare(exe, &server.data_dir, "[sandbox] require = \"none\"").await;
            probed.unwrap_or_else(|error| Layers::none(&format!("the host could not be probed: {error}")))
        }
        Require::Available | Require::Full => {
            // Before anything is started that would have to move along.
            let cgroup = confine::take_cgroup();
            let probed = confine::probe(exe, &server.data_dir).await;
            let layers = probed.unwrap_or_else(|error| Layers::none(&format!("the host could not be probed: {error}")));
            Layers { cgroup, insisted: server.sandbox.require == Require::Full, ..layers }
        }
    };
    tracing::info!(trees = %layers.joining(), "how sources and snapshots become one tree");
    match layers.admit(false, None) {
        Err(why) => tracing::error!(sandbox = layers.name(), "NO BUILD WILL RUN: {why}"),
        Ok(()) if layers.is_sound() => tracing::info!(sandbox = layers.name(), "builds are confined"),
        Ok(()) => tracing::warn!(sandbox = layers.name(), "SANDBOX DEGRADED"),
    }
    for fix in layers.fixes() {
        tracing::warn!("{fix}");
    }
    Arc::new(layers)
}

/// Enough for two installs side by side in every slot, and no fewer than the cores.
pub(super) fn steps_at_once(slots: usize) -> usize {
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    (slots * 2).max(cores)
}

pub(super) fn announce_ready(role: Role, server: &Server) {
    let slots = server.agent.slots;
    match role {
        Role::Serve => {
            tracing::info!(listen = %server.web.listen, public_url = %server.web.public_url, slots, "ready");
        }
        Role::Agent => tracing::info!(name = server.agent.name, slots, "ready"),
    }
    // Without systemd there is nobody to tell, which is no fault.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
}

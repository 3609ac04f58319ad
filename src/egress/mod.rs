//! The way out of a step that may reach only some hosts: an allow-listing HTTP proxy.
//!
//! The step has a network of its own in which there is nothing but this proxy's socket. It asks by `CONNECT`
//! (RFC 9110, 9.3.6) for https and in absolute form (RFC 9112, 3.2.2) for http. Names are resolved here, and the
//! addresses are looked at after that: a name that is allowed opens no private address. What was refused is
//! remembered, since it is most likely why the step fails.

mod address;
mod connection;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod request;
mod rules;

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

use crate::config::server::Network;

pub use rules::Rules;

/// Connections that one step may have at once; the next ones wait.
const CONNECTIONS: usize = 256;
/// The pause after the system had no descriptor or memory for a connection.
const BREATH: Duration = Duration::from_millis(50);

/// What went through a gate, and what did not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes in both directions, by `host:port`.
    pub passed: BTreeMap<String, u64>,
    /// How often each `host:port` was refused.
    pub refused: BTreeMap<String, u32>,
}

/// An open gate. Dropping it ends every connection.
#[derive(Debug)]
pub struct Gate {
    traffic: Arc<Mutex<Traffic>>,
    listening: JoinHandle<()>,
}

/// What every connection of a gate shares.
struct Post {
    rules: Rules,
    network: Arc<Network>,
    traffic: Arc<Mutex<Traffic>>,
}

impl Post {
    fn note(&self, note: impl FnOnce(&mut Traffic)) {
        note(&mut self.traffic.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Gate {
    /// Lets through what the rules allow, by `[network] proxy` where one is set, until it is dropped.
    ///
    /// # Errors
    /// When the runtime can't listen on the socket.
    pub fn open(listener: std::net::TcpListener, rules: Rules, network: Arc<Network>) -> io::Result<Gate> {
        listener.set_nonblocking(true)?;
        let listener = TcpListener::from_std(listener)?;
        let traffic = Arc::new(Mutex::new(Traffic::default()));
        let post = Arc::new(Post { rules, network, traffic: Arc::clone(&traffic) });
        Ok(Gate { traffic, listening: tokio::spawn(listen(listener, post)) })
    }

    /// What went through so far.
    pub fn traffic(&self) -> Traffic {
        self.traffic.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// Ends with all its connections when it is aborted: they belong to its set.
async fn listen(listener: TcpListener, post: Arc<Post>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let post = Arc::clone(&post);
                connections.spawn(async move {
                    serve(stream, &post).await;
                    drop(permit);
                });
            }
            Err(_) => tokio::time::sleep(BREATH).await,
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, post: &Post) {
    if let Err(error) = connection::serve(stream, post).await {
        tracing::debug!(%error, "a connection of a step through its gate broke off");
    }
}

#[cfg(test)]
mod tests;

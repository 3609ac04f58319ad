//! The way out of a step that may reach only some hosts: an allow-listing HTTP proxy.
//!
//! The step has a network of its own in which there is nothing but this proxy's socket, and a socket for each place of this
//! machine's loopback that it may reach. It asks by `CONNECT`
//! (RFC 9110, 9.3.6) for https and in absolute form (RFC 9112, 3.2.2) for http. Names are resolved here, and the
//! addresses are looked at after that: a name that is allowed opens no private address, unless it is that of a registry
//! which the operator configured. A redirect is a new request, and is looked at like any other. What was refused is
//! remembered, since it is most likely why the step fails.

mod address;
mod connection;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod ledger;
mod names;
mod proxy;
mod request;
mod rules;

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::config::server::Network;

pub use ledger::{Closed, Visit};
pub use rules::{Rules, names_path};

use ledger::Ledger;
use names::Answered;
use proxy::Proxy;

/// Connections that one step may have at once; the next ones wait.
const CONNECTIONS: usize = 256;
/// The pause after the system had no descriptor or memory for a connection.
const BREATH: Duration = Duration::from_millis(50);

/// An open gate. Dropping it ends every connection: its set ends what is in it.
#[derive(Debug)]
pub struct Gate {
    ledger: Arc<Ledger>,
    _listening: JoinSet<()>,
}

/// What every connection of a gate shares.
struct Post {
    rules: Rules,
    answered: Answered,
    network: Arc<Network>,
    /// That of `network`, once it was needed: certificates are read for TLS.
    proxy: OnceLock<Result<Proxy, String>>,
    ledger: Arc<Ledger>,
}

impl Gate {
    /// Lets through what the rules allow, by `[network] proxy` where one is set, until it is dropped. The first of the
    /// listeners is the proxy's; each other one stands for the host of [`Rules::doors`] at its address.
    ///
    /// # Errors
    /// When the runtime can't listen on a socket.
    pub fn open(listeners: Vec<std::net::TcpListener>, rules: Rules, network: Arc<Network>) -> io::Result<Gate> {
        let mut doors = Vec::with_capacity(listeners.len());
        for (number, listener) in listeners.into_iter().enumerate() {
            listener.set_nonblocking(true)?;
            let listener = TcpListener::from_std(listener)?;
            let address = listener.local_addr()?;
            let stands_for = rules.doors().into_iter().find(|(at, _)| number > 0 && *at == address);
            let host = stands_for.map(|(_, host)| (host.to_owned(), address.port()));
            doors.push((listener, host));
        }
        let ledger = Arc::<Ledger>::default();
        let (answered, proxy) = (Answered::default(), OnceLock::new());
        let post = Arc::new(Post { rules, answered, network, proxy, ledger: Arc::clone(&ledger) });
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        let mut listening = JoinSet::new();
        for (listener, host) in doors {
            listening.spawn(listen(listener, host, Arc::clone(&post), Arc::clone(&room)));
        }
        Ok(Gate { ledger, _listening: listening })
    }

    /// What went through so far, and what did not.
    pub fn visits(&self) -> Vec<Visit> {
        self.ledger.visits()
    }
}

/// Ends with all its connections when it is aborted: they belong to its set.
async fn listen(listener: TcpListener, host: Option<(String, u16)>, post: Arc<Post>, room: Arc<Semaphore>) {
    let host = Arc::new(host);
    let mut connections = JoinSet::new();
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let (post, host) = (Arc::clone(&post), Arc::clone(&host));
                connections.spawn(async move {
                    serve(stream, host.as_ref().as_ref(), &post).await;
                    drop(permit);
                });
            }
            Err(_) => tokio::time::sleep(BREATH).await,
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn serve(stream: TcpStream, host: Option<&(String, u16)>, post: &Post) {
    let served = match host {
        Some((host, port)) => connection::pass(stream, host, *port, post).await,
        None => connection::serve(stream, post).await,
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection of a step through its gate broke off");
    }
}

#[cfg(test)]
mod tests;

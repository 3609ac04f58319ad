//! A wire between a store and its database that a test cuts when it likes.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::task::AbortOnDropHandle;

/// When a connection that says COMMIT is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// Before the server hears it.
    BeforeCommit,
    /// After the server has done it, before anybody hears of that.
    AfterCommit,
}

#[derive(Default)]
struct Switches {
    before: AtomicBool,
    after: AtomicBool,
    cuts: AtomicUsize,
}

impl Switches {
    /// True once for each time that it was set.
    fn take(&self, switch: &AtomicBool) -> bool {
        let cuts = switch.swap(false, Ordering::SeqCst);
        self.cuts.fetch_add(usize::from(cuts), Ordering::SeqCst);
        cuts
    }
}

/// The wire. Dropped, it and its connections end.
pub(crate) struct Wire {
    pub(crate) port: u16,
    switches: Arc<Switches>,
    _accepting: AbortOnDropHandle<()>,
}

impl Wire {
    /// Leads from a port of its own to the server's.
    pub(crate) async fn to(server: u16) -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let port = listener.local_addr().expect("bound").port();
        let switches = Arc::<Switches>::default();
        let inner = Arc::clone(&switches);
        let accepting: JoinHandle<()> = tokio::spawn(async move {
            let mut open = tokio::task::JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.expect("loopback");
                let switches = Arc::clone(&inner);
                open.spawn(async move {
                    // A server that is down refuses, and so do we by hanging up.
                    if let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await {
                        carry(client, server, &switches).await;
                    }
                });
            }
        });
        Wire { port, switches, _accepting: AbortOnDropHandle::new(accepting) }
    }

    /// The next connection on which COMMIT is said is cut.
    pub(crate) fn cut(&self, when: When) {
        match when {
            When::BeforeCommit => &self.switches.before,
            When::AfterCommit => &self.switches.after,
        }
        .store(true, Ordering::SeqCst);
    }

    /// How many connections were cut.
    pub(crate) fn cuts(&self) -> usize {
        self.switches.cuts.load(Ordering::SeqCst)
    }
}

async fn carry(client: TcpStream, server: TcpStream, switches: &Switches) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let answer_is_lost = AtomicBool::new(false);
    // Whichever side ends, the other is dropped with it: both sockets close.
    tokio::select! {
        () = there(&mut from_client, &mut to_server, switches, &answer_is_lost) => {}
        () = back(&mut from_server, &mut to_client, &answer_is_lost) => {}
    }
}

async fn there(from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf, switches: &Switches, answer_is_lost: &AtomicBool) {
    let mut bytes = vec![0; 1 << 16];
    loop {
        let Ok(count @ 1..) = from.read(&mut bytes).await else { return };
        if bytes[..count].windows(6).any(|word| word == b"COMMIT") {
            if switches.take(&switches.before) {
                return;
            }
            if switches.take(&switches.after) {
                answer_is_lost.store(true, Ordering::SeqCst);
            }
        }
        if to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}

async fn back(from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf, answer_is_lost: &AtomicBool) {
    let mut bytes = vec![0; 1 << 16];
    loop {
        let Ok(count @ 1..) = from.read(&mut bytes).await else { return };
        // It is the answer to COMMIT: it was carried out, and nobody hears of it.
        if answer_is_lost.load(Ordering::SeqCst) || to.write_all(&bytes[..count]).await.is_err() {
            return;
        }
    }
}

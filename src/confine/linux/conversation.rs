//! What the agent and a build's holder say to each other, and who waits for the answer.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::process::Child;
use tokio::sync::{mpsc, oneshot};

use super::cgroup::Leaf;
use super::wire::{self, Inbox, Netns, Reply, Request, StepId, Terms};
use crate::confine::HolderError;
use crate::domain::spec::StepCommand;
use crate::domain::view::View;
use crate::process::{Bound, Exit};

/// A holder that was told to go has this long before it is killed.
const CLOSE_WAIT: Duration = Duration::from_secs(5);

/// What the conversation's task is asked to send, and who waits for the answer.
#[derive(Debug)]
pub(super) enum Order {
    /// Wait for the first word of the holder.
    Greet(oneshot::Sender<Result<(), HolderError>>),
    Mount(Box<View>, oneshot::Sender<Result<(), HolderError>>),
    Start {
        command: Box<StepCommand>,
        netns: Netns,
        doors: Vec<SocketAddr>,
        terms: Terms,
        id: StepId,
        /// Its output's write end, the socket for its doors', and the entry of its control group.
        fds: Vec<OwnedFd>,
        waiting: Waiting,
    },
    Terminate(StepId),
    Kill(StepId),
    Close,
}

/// Who waits for the fate of a step.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) started: Option<oneshot::Sender<Result<(), String>>>,
    pub(super) exit: oneshot::Sender<Exit>,
    pub(super) leaf: Option<Arc<Leaf>>,
}

impl Waiting {
    /// How the step ended, whoever counted. A step that passed has met no bound that mattered.
    fn tell(self, status: Option<i32>, over: Option<Bound>) {
        let exit = status.map_or(Exit::NotStarted, Exit::from_passed_on);
        let met = || self.leaf.as_ref().and_then(|leaf| leaf.passed()).filter(|_| status.is_some_and(|code| code != 0));
        // A receiver that is gone gave up waiting.
        let _ = self.exit.send(over.or_else(met).map_or(exit, Exit::Over));
    }
}

/// Both directions of the socket, and who waits for what.
pub(super) struct Conversation {
    socket: UnixStream,
    child: Child,
    inbox: Inbox,
    asked: Option<oneshot::Sender<Result<(), HolderError>>>,
    /// `Some` once the holder spoke before anybody asked.
    greeting: Option<Result<(), HolderError>>,
    steps: HashMap<StepId, Waiting>,
}

impl Conversation {
    pub(super) fn new(socket: UnixStream, child: Child) -> Self {
        Self { socket, child, inbox: Inbox::new(), asked: None, greeting: None, steps: HashMap::new() }
    }

    /// Runs until the holder is gone or nobody needs it any more. Whoever still waits then hears that it is lost.
    pub(super) async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        loop {
            let going_on = tokio::select! {
                order = orders.recv() => match order {
                    None | Some(Order::Close) => break,
                    Some(order) => self.carry_out(order).await,
                },
                ready = self.socket.readable() => ready.and_then(|()| self.hear()),
                _ = self.child.wait() => break,
            };
            if let Err(error) = going_on {
                tracing::warn!(%error, "the conversation with a build's holder broke off");
                break;
            }
        }
        self.hear_last_words(&mut orders).await;
        self.end().await;
    }

    /// The holder may have said why it ends and ended before we listened, or before anybody asked.
    async fn hear_last_words(&mut self, orders: &mut mpsc::UnboundedReceiver<Order>) {
        // Not by readiness: the runtime may learn of the exit before it learns of the words.
        while matches!(self.inbox.receive(&self.socket), Ok(true)) {}
        while let Ok(Some(reply)) = self.inbox.message() {
            self.answer(reply);
        }
        while let Ok(order) = orders.try_recv() {
            if matches!(order, Order::Greet(_)) && self.carry_out(order).await.is_err() {
                return;
            }
        }
    }

    async fn carry_out(&mut self, order: Order) -> io::Result<()> {
        match order {
            Order::Greet(answer) => {
                match self.greeting.take() {
                    // Who no longer listens for an answer needs none.
                    Some(greeting) => drop(answer.send(greeting)),
                    None => self.asked = Some(answer),
                }
                Ok(())
            }
            Order::Mount(view, answer) => {
                self.asked = Some(answer);
                self.send(&Request::Mount(*view), Vec::new()).await
            }
            Order::Start { command, netns, doors, terms, id, fds, waiting } => {
                self.steps.insert(id, waiting);
                self.send(&Request::Start { id, command: *command, netns, doors, terms }, fds).await
            }
            Order::Terminate(id) => self.send(&Request::Terminate(id), Vec::new()).await,
            Order::Kill(id) => self.send(&Request::Kill(id), Vec::new()).await,
            Order::Close => Ok(()),
        }
    }

    async fn send(&mut self, request: &Request, mut fds: Vec<OwnedFd>) -> io::Result<()> {
        let frame = wire::encode(request)?;
        let mut rest = &frame[..];
        while !rest.is_empty() {
            self.socket.writable().await?;
            let beside: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
            let sent = self.socket.try_io(Interest::WRITABLE, || wire::send(self.socket.as_fd(), rest, &beside));
            match sent {
                Ok(sent) => {
                    rest = &rest[sent..];
                    fds.clear();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn hear(&mut self) -> io::Result<()> {
        let Self { socket, inbox, .. } = self;
        match socket.try_io(Interest::READABLE, || inbox.receive(&*socket)) {
            Ok(true) => {}
            Ok(false) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the holder ended")),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
        while let Some(reply) = self.inbox.message()? {
            self.answer(reply);
        }
        Ok(())
    }

    /// A receiver that is gone gave up waiting; that needs no answer.
    fn answer(&mut self, reply: Reply) {
        match reply {
            Reply::Ready | Reply::Mounted => self.answer_asked(Ok(())),
            Reply::Refused(what) => self.answer_asked(Err(HolderError::Refused(what))),
            Reply::Started(id) => {
                if let Some(started) = self.steps.get_mut(&id).and_then(|step| step.started.take()) {
                    let _ = started.send(Ok(()));
                }
            }
            Reply::NotStarted { id, why } => {
                if let Some(started) = self.steps.remove(&id).and_then(|step| step.started) {
                    let _ = started.send(Err(why));
                }
            }
            Reply::Exited { id, status, over } => {
                if let Some(step) = self.steps.remove(&id) {
                    step.tell(status, over);
                }
            }
        }
    }

    fn answer_asked(&mut self, answer: Result<(), HolderError>) {
        match self.asked.take() {
            Some(asked) => drop(asked.send(answer)),
            None => self.greeting = Some(answer),
        }
    }

    /// Closing the socket tells the holder to go, and the kernel to end everything with it; its exit says that it did.
    async fn end(self) {
        let Self { socket, mut child, .. } = self;
        drop(socket);
        if tokio::time::timeout(CLOSE_WAIT, child.wait()).await.is_err() {
            tracing::warn!(pid = child.id(), "a build's holder did not end and is killed");
            // It may have ended meanwhile; either way it is waited for.
            let _ = child.kill().await;
        }
    }
}

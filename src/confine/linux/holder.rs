//! The agent's hand on a build's holder process.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::process::Child;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::cgroup::Leaf;
use super::wire::{self, Inbox, Netns, Reply, Request, StepId, Terms};
use crate::confine::{Cgroup, DOORS, HolderError, Layers, Mode};
use crate::domain::spec::{Network, StepCommand};
use crate::domain::view::View;
use crate::process::{Bound, Domain, Exit, Running, output_pipe};

/// A holder that was told to go has this long before it is killed.
const CLOSE_WAIT: Duration = Duration::from_secs(5);

/// One build's holder: the owner of its namespaces and of its view, and the parent of all its steps.
/// Dropping it kills everything inside; [`close`](Self::close) does so too, and waits until it is done.
#[derive(Debug)]
pub struct Holder {
    mode: Mode,
    /// What every step is put under. The trial of a host takes away what fails.
    pub(super) walls: Walls,
    cgroup: Option<Cgroup>,
    pid: Option<u32>,
    line: mpsc::UnboundedSender<Order>,
    next: AtomicU64,
    ended: JoinHandle<()>,
}

/// The second walls, which the launcher builds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Walls {
    pub(super) landlock: bool,
    pub(super) seccomp: bool,
}

/// What the conversation's task is asked to send, and who waits for the answer.
#[derive(Debug)]
enum Order {
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
struct Waiting {
    started: Option<oneshot::Sender<Result<(), String>>>,
    exit: oneshot::Sender<Exit>,
    leaf: Option<Arc<Leaf>>,
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

impl Holder {
    /// Starts the holder process and its namespaces, before the view is known: it can be done while a checkout runs.
    ///
    /// `exe` is this binary (`hookmill`); it is called as `exe internal holder confined|bare`.
    ///
    /// # Errors
    /// When the process can't be started, or its namespaces not be made.
    pub async fn start_early(exe: &Path, layers: &Layers) -> Result<Holder, HolderError> {
        let mode = layers.mode();
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let child = {
            let mut command = tokio::process::Command::new(exe);
            command
                .args(["internal", "holder", if mode == Mode::Bare { "bare" } else { "confined" }])
                .env_clear()
                .current_dir("/")
                .stdin(Stdio::from(OwnedFd::from(theirs)))
                .stdout(Stdio::null())
                .kill_on_drop(true);
            // bubblewrap is looked up on the agent's own PATH; nothing else of its environment goes along.
            command.envs(std::env::var_os("PATH").map(|path| ("PATH", path)));
            command.spawn().map_err(|source| HolderError::Spawn { exe: exe.to_owned(), source })?
        };
        let pid = child.id();
        let (line, orders) = mpsc::unbounded_channel();
        let conversation = Conversation::new(UnixStream::from_std(ours)?, child);
        let ended = tokio::spawn(conversation.run(orders));
        let walls = Walls { landlock: layers.landlock.is_ok(), seccomp: layers.seccomp.is_ok() };
        let cgroup = layers.cgroup.clone().ok();
        let holder = Holder { mode, walls, cgroup, pid, line, next: AtomicU64::new(1), ended };
        holder.ask(Order::Greet).await?;
        Ok(holder)
    }

    /// Joins the view and builds the root that steps see. Once, before the first step.
    ///
    /// # Errors
    /// When something of the view is not there or can't be mounted.
    pub async fn mount(&self, view: &View) -> Result<(), HolderError> {
        self.ask(|answer| Order::Mount(Box::new(view.clone()), answer)).await
    }

    /// [`start_early`](Self::start_early) and [`mount`](Self::mount) in one.
    ///
    /// # Errors
    /// As both.
    pub async fn open(exe: &Path, layers: &Layers, view: &View) -> Result<Holder, HolderError> {
        let holder = Self::start_early(exe, layers).await?;
        holder.mount(view).await?;
        Ok(holder)
    }

    /// Starts a step. Steps run side by side, in one view.
    ///
    /// # Errors
    /// When the process can't be started or the holder is gone. Where bubblewrap starts but can't build the fence
    /// (a directory that is not there), the step exits as [`Exit::NotStarted`] and its output says why.
    pub async fn start(&self, command: &StepCommand) -> Result<Running, HolderError> {
        let open = command.network == Network::Open || !self.has_netns();
        self.start_in(command, if open { Netns::Host } else { Netns::Own }, &[], None).await
    }

    /// Starts a step in a network of its own that holds nothing but listening sockets: who accepts on them decides what the
    /// step reaches. The first one is at [`DOOR`](crate::confine::DOOR), the others at those of `doors`, all of its loopback,
    /// that could be had there; at most [`DOORS`]. `None` where the host gives no network namespaces.
    ///
    /// # Errors
    /// As [`start`](Self::start); and when the step's network could not be made.
    pub async fn start_with_door(
        &self,
        command: &StepCommand,
        doors: &[SocketAddr],
    ) -> Result<Option<(Running, Vec<std::net::TcpListener>)>, HolderError> {
        if !self.has_netns() {
            return Ok(None);
        }
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        let doors = &doors[..doors.len().min(DOORS)];
        let running = self.start_in(command, Netns::Door, doors, Some(theirs.into())).await?;
        // It was sent before the program was started, so nothing has to be waited for.
        let mut inbox = Inbox::new();
        ours.set_nonblocking(true)?;
        inbox.receive(&ours)?;
        let doors: Vec<_> = std::iter::from_fn(|| inbox.fd()).map(std::net::TcpListener::from).collect();
        if doors.is_empty() {
            return Err(HolderError::Refused("open the door of a step's network".to_owned()));
        }
        Ok(Some((running, doors)))
    }

    fn has_netns(&self) -> bool {
        matches!(self.mode, Mode::Confined { netns: true, .. })
    }

    async fn start_in(
        &self,
        command: &StepCommand,
        netns: Netns,
        doors: &[SocketAddr],
        door: Option<OwnedFd>,
    ) -> Result<Running, HolderError> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (read, output) = output_pipe()?;
        let (started, has_started) = oneshot::channel();
        let (exit, has_exited) = oneshot::channel();
        // When the holder is gone, the kernel has already killed the step.
        let exiting = async { has_exited.await.unwrap_or(Exit::Signal(9)) };
        let (leaf, entry) = self.leaf(command)?.unzip();
        let leaf = leaf.map(Arc::new);
        let domain = StepDomain { id, line: self.line.clone(), leaf: leaf.clone() };
        let running = Running::new(read, Box::pin(exiting), Box::new(domain))?;
        let waiting = Waiting { started: Some(started), exit, leaf };
        let terms = self.terms(command);
        let command_of_step = Box::new(command.clone());
        let fds = std::iter::once(output).chain(door).chain(entry).collect();
        self.line
            .send(Order::Start { command: command_of_step, netns, doors: doors.to_vec(), terms, id, fds, waiting })
            .map_err(|_| HolderError::Lost)?;
        match has_started.await {
            Ok(Ok(())) => Ok(running),
            Ok(Err(why)) => Err(HolderError::Start { program: command.argv.first().cloned().unwrap_or_default(), why }),
            Err(_) => Err(HolderError::Lost),
        }
    }

    fn leaf(&self, command: &StepCommand) -> Result<Option<(Leaf, OwnedFd)>, HolderError> {
        let made = self.cgroup.as_ref().map(|group| Leaf::make(group, command.memory, command.processes));
        made.transpose().map_err(|error| HolderError::Refused(format!("make the step's control group: {error}")))
    }

    /// What the kernel does not count in a control group, the holder does.
    fn terms(&self, command: &StepCommand) -> Terms {
        let counts = |what: fn(&Cgroup) -> bool| self.cgroup.as_ref().is_some_and(what);
        Terms {
            landlock: self.walls.landlock,
            seccomp: self.walls.seccomp,
            cgroup: self.cgroup.is_some(),
            memory: (!counts(|group| group.memory)).then_some(command.memory),
            processes: (!counts(|group| group.pids)).then_some(command.processes),
        }
    }

    /// Ends everything inside and waits until it is gone.
    pub async fn close(mut self) {
        // An error means that the conversation has ended already, and the holder with it.
        let _ = self.line.send(Order::Close);
        let _ = (&mut self.ended).await;
    }

    /// The process id of the holder, for logs; `None` if it ended at once.
    pub fn pid(&self) -> Option<u32> {
        self.pid
    }

    /// Whether the holder has ended, by whatever hand.
    pub fn is_lost(&self) -> bool {
        self.ended.is_finished()
    }

    async fn ask(
        &self,
        order: impl FnOnce(oneshot::Sender<Result<(), HolderError>>) -> Order,
    ) -> Result<(), HolderError> {
        let (answer, answered) = oneshot::channel();
        self.line.send(order(answer)).map_err(|_| HolderError::Lost)?;
        answered.await.map_err(|_| HolderError::Lost)?
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        // The task owns the child process, which is killed when it is dropped.
        self.ended.abort();
    }
}

/// A step's domain: the holder signals it.
struct StepDomain {
    id: StepId,
    line: mpsc::UnboundedSender<Order>,
    leaf: Option<Arc<Leaf>>,
}

impl Domain for StepDomain {
    fn terminate(&self) {
        // An error means that the holder is gone, and the step with it.
        let _ = self.line.send(Order::Terminate(self.id));
    }

    fn kill(&self) {
        let _ = self.line.send(Order::Kill(self.id));
        if let Some(leaf) = &self.leaf {
            leaf.kill();
        }
    }
}

/// Both directions of the socket, and who waits for what.
struct Conversation {
    socket: UnixStream,
    child: Child,
    inbox: Inbox,
    asked: Option<oneshot::Sender<Result<(), HolderError>>>,
    /// `Some` once the holder spoke before anybody asked.
    greeting: Option<Result<(), HolderError>>,
    steps: HashMap<StepId, Waiting>,
}

impl Conversation {
    fn new(socket: UnixStream, child: Child) -> Self {
        Self { socket, child, inbox: Inbox::new(), asked: None, greeting: None, steps: HashMap::new() }
    }

    /// Runs until the holder is gone or nobody needs it any more. Whoever still waits then hears that it is lost.
    async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
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

/// The holder is shared by the steps of a stage.
const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<Arc<Holder>>();
};

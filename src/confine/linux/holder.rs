//! The agent's hand on a build's holder process.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::net::UnixStream;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use super::cgroup::{Bounds, Leaf};
use super::conversation::{Conversation, Order, Waiting};
use super::wire::{Inbox, Netns, StepId, Terms};
use crate::confine::{Cgroup, DOORS, HolderError, Layers, Mode};
use crate::domain::spec::{Network, StepCommand};
use crate::domain::view::View;
use crate::process::{Domain, Exit, Running, output_pipe};

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
        let bounds = Bounds { memory: command.memory, processes: command.processes, cpus: command.cpus };
        let made = self.cgroup.as_ref().map(|group| Leaf::make(group, &bounds));
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

/// The holder is shared by the steps of a stage.
const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<Arc<Holder>>();
};

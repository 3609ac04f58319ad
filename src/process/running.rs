//! A program that runs: its output, its exit and the end of its output, each an event of its own.

use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep_until};

use super::exit::Exit;
use super::pipe::Output;

/// How long a program may take to end by itself once it was asked.
pub const GRACE: Duration = Duration::from_secs(10);

/// After the exit, this much silence ends the wait for a leaked pipe.
const DRAIN_IDLE: Duration = Duration::from_secs(2);
/// After the exit, a leaked pipe is not listened to longer than this, however much it says.
const DRAIN_TOTAL: Duration = Duration::from_secs(4);
/// After a kill, this long for what the kernel still has to do.
const KILL_WAIT: Duration = Duration::from_secs(30);

/// What a running program tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It printed something; standard output and standard error in order.
    Output(Bytes),
    /// Its first process ended. Output may still follow.
    Exited(Exit),
    /// Nothing more will come, and nothing of it runs any more.
    Ended {
        /// Something that it left behind held the output open and was killed.
        leaked: bool,
    },
}

/// Everything that a program started, as one thing to signal.
pub trait Domain: Send + Sync {
    /// Asks it to end (SIGTERM).
    fn terminate(&self);
    /// Ends it now (SIGKILL), as often as one likes.
    fn kill(&self);
}

/// How the first process ends, as it becomes known.
pub type Exiting = Pin<Box<dyn Future<Output = Exit> + Send>>;

/// A started program. Dropping it kills everything that it started.
#[must_use = "a program that nobody listens to blocks once its pipe is full, and dropping it kills it"]
pub struct Running {
    output: Output,
    exit: Option<Exiting>,
    domain: Box<dyn Domain>,
    stop: Stop,
    drain: Option<Drain>,
    leaked: bool,
    ended: bool,
}

#[derive(Debug, Clone, Copy)]
enum Stop {
    No,
    Asked { kill_at: Instant },
    Killed { give_up_at: Instant },
}

/// Set at the exit: how long output is still waited for.
#[derive(Debug, Clone, Copy)]
struct Drain {
    idle_until: Instant,
    until: Instant,
}

enum Step {
    Read(Vec<u8>),
    Exited(Exit),
    Due,
}

impl Running {
    /// A program that writes into the other end of `output`, ends as `exit` says and is signalled through `domain`.
    ///
    /// # Errors
    /// When `output` can't be read without waiting.
    pub fn new(output: OwnedFd, exit: Exiting, domain: Box<dyn Domain>) -> io::Result<Self> {
        Ok(Self {
            output: Output::new(output)?,
            exit: Some(exit),
            domain,
            stop: Stop::No,
            drain: None,
            leaked: false,
            ended: false,
        })
    }

    /// The next event; `None` after [`Event::Ended`]. Cancel-safe: a dropped call loses nothing.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            if self.ended {
                return None;
            }
            if self.output.is_over() && self.exit.is_none() {
                // Left-overs that closed their output are part of it too.
                self.domain.kill();
                self.ended = true;
                return Some(Event::Ended { leaked: self.leaked });
            }
            if let Some(event) = self.advance().await {
                return Some(event);
            }
        }
    }

    /// All that it prints until it has ended, and how it ended. For a program that says little: it is kept in memory.
    pub async fn heard(&mut self) -> (Vec<u8>, Exit) {
        let (mut said, mut how) = (Vec::new(), Exit::NotStarted);
        while let Some(event) = self.next().await {
            match event {
                Event::Output(bytes) => said.extend_from_slice(&bytes),
                Event::Exited(exit) => how = exit,
                Event::Ended { .. } => {}
            }
        }
        (said, how)
    }

    /// Asks it to end and, unless it did within `grace`, kills it. A second call kills at once.
    /// Go on calling [`next`](Self::next): a program that can't print can't end either.
    pub fn stop(&mut self, grace: Duration) {
        match self.stop {
            Stop::No => {
                self.domain.terminate();
                self.stop = Stop::Asked { kill_at: Instant::now() + grace };
            }
            Stop::Asked { .. } => self.kill(),
            Stop::Killed { .. } => {}
        }
    }

    /// Ends it and everything that it started, now.
    pub fn kill(&mut self) {
        self.domain.kill();
        if !matches!(self.stop, Stop::Killed { .. }) {
            self.stop = Stop::Killed { give_up_at: Instant::now() + KILL_WAIT };
        }
    }

    async fn advance(&mut self) -> Option<Event> {
        let step = {
            let due = self.due();
            tokio::select! {
                read = self.output.read(), if !self.output.is_over() => Step::Read(read),
                exit = exited(&mut self.exit), if self.exit.is_some() => Step::Exited(exit),
                () = at(due), if due.is_some() => Step::Due,
            }
        };
        match step {
            Step::Read(bytes) if !bytes.is_empty() => {
                if let Some(drain) = &mut self.drain {
                    drain.idle_until = Instant::now() + DRAIN_IDLE;
                }
                Some(Event::Output(bytes.into()))
            }
            Step::Read(_) => None,
            Step::Exited(exit) => Some(self.exited(exit)),
            Step::Due => self.overdue(),
        }
    }

    fn exited(&mut self, exit: Exit) -> Event {
        let now = Instant::now();
        self.exit = None;
        self.drain = Some(Drain { idle_until: now + DRAIN_IDLE, until: now + DRAIN_TOTAL });
        Event::Exited(exit)
    }

    /// The next moment at which waiting alone is not enough.
    fn due(&self) -> Option<Instant> {
        match (self.drain, self.stop) {
            (Some(drain), _) => Some(drain.idle_until.min(drain.until)),
            (None, Stop::Asked { kill_at }) => Some(kill_at),
            (None, Stop::Killed { give_up_at }) => Some(give_up_at),
            (None, Stop::No) => None,
        }
    }

    fn overdue(&mut self) -> Option<Event> {
        match (self.drain, self.stop) {
            (Some(_), _) if self.leaked => self.output.close(),
            (Some(_), _) => {
                // The exit status stands; only the wait for the pipe's end is cut short.
                self.leaked = true;
                self.domain.kill();
                let soon = Instant::now() + DRAIN_IDLE;
                self.drain = Some(Drain { idle_until: soon, until: soon });
            }
            (None, Stop::Asked { .. }) => self.kill(),
            // A process that the kernel can't end (a dead NFS server) must not hold a build for ever.
            (None, Stop::Killed { .. }) => return Some(self.exited(Exit::Signal(9))),
            (None, Stop::No) => {}
        }
        None
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            self.domain.kill();
        }
    }
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("stop", &self.stop).field("ended", &self.ended).finish_non_exhaustive()
    }
}

async fn exited(exit: &mut Option<Exiting>) -> Exit {
    match exit {
        Some(exit) => exit.as_mut().await,
        None => std::future::pending().await,
    }
}

async fn at(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}

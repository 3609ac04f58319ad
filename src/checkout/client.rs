//! The agent's half: starts the child process, waits for its answer, and ends it.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde::Serialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use super::{Answer, AskHeads, Done, Heads, Job, Refusal, RefusalKind, Source, mirror};
use crate::domain::outcome::{Outcome, Verdict};
use crate::domain::time::brief;

/// An answer holds the manifests of a tree; more than this is not one of ours.
const MAX_ANSWER: u64 = 256 << 20;
/// What is kept of the child's complaints.
const MAX_COMPLAINT: u64 = 16 << 10;
/// The child gives up at the deadline by itself, with better words; after this it is killed.
const GRACE: Duration = Duration::from_secs(2);

/// Why there is no checkout.
#[derive(Debug, thiserror::Error)]
pub enum CheckoutError {
    /// The child said why.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// It was cancelled from outside.
    #[error("the checkout was cancelled")]
    Cancelled,
    /// The child could not be started or spoken to.
    #[error("the checkout could not be started: {0}")]
    Start(#[source] std::io::Error),
    /// The child ended without an answer: out of memory, killed, or a fault of ours.
    #[error("the checkout ended without an answer ({how}){complaint}")]
    Crashed {
        /// Its exit status.
        how: String,
        /// The end of what it said on standard error, if anything.
        complaint: String,
    },
}

impl CheckoutError {
    /// How the build ends by this, in words.
    pub fn verdict(&self) -> Verdict {
        match self {
            CheckoutError::Refused(refusal) => refusal.verdict(),
            CheckoutError::Cancelled => Verdict::new(Outcome::Cancelled, self.to_string()),
            CheckoutError::Start(_) | CheckoutError::Crashed { .. } => Verdict::new(Outcome::Broken, self.to_string()),
        }
    }

    /// True when the same job may succeed a little later.
    pub fn may_retry(&self) -> bool {
        match self {
            CheckoutError::Refused(refusal) => refusal.may_retry(),
            CheckoutError::Cancelled => false,
            CheckoutError::Start(_) | CheckoutError::Crashed { .. } => true,
        }
    }
}

/// Runs one checkout in a child process: `exe internal checkout`, in a process group of its own,
/// with an environment made from nothing. `deadline` is from now and takes the place of the job's.
///
/// The job, credential included, goes over the child's standard input, where no process list shows
/// it. That pipe stays open while we live: when it closes, the child ends itself, so that an agent
/// that was killed leaves no fetch behind.
///
/// # Errors
/// See [`CheckoutError`]. Dropping the future kills the child.
pub async fn run(exe: &Path, job: &Job, deadline: Duration, cancel: CancellationToken) -> Result<Done, CheckoutError> {
    let job = Job { deadline, ..job.clone() };
    // A person's own git configuration says which of their files are ignored.
    let kept: &[&str] = match job.source {
        Source::Remote(_) => OUTSIDE,
        Source::Local(_) => &["PATH", "HOME", "XDG_CONFIG_HOME"],
    };
    // The child ends itself at the deadline and says so; where it can't, we end it a little later, for the same reason.
    let said = Group::spawn(command(exe, "checkout", kept))?.ask(&job, deadline + GRACE, cancel).await;
    let said = said.map_err(|error| match error {
        CheckoutError::Refused(refusal) if refusal.kind == RefusalKind::TimedOut => Refusal::timed_out(deadline).into(),
        other => other,
    });
    let answer = said.and_then(|said| match serde_json::from_slice(&said.answer) {
        Ok(Answer::Done(done)) => Ok(*done),
        Ok(Answer::Refused(refusal)) => Err(refusal.into()),
        Err(_) => Err(said.crashed()),
    });
    if answer.is_err() {
        // What a killed fetch left would wait for the next one, which may never come.
        let mirror = job.mirror;
        let _ = tokio::task::spawn_blocking(move || mirror::lock_if_free(&mirror)).await;
    }
    answer
}

/// Asks git where a repository's branches and tags stand, in a child process like that of [`run`].
///
/// # Errors
/// See [`CheckoutError`]. Dropping the future kills the child.
pub async fn heads(exe: &Path, ask: &AskHeads, deadline: Duration) -> Result<Heads, CheckoutError> {
    let group = Group::spawn(command(exe, "heads", OUTSIDE))?;
    let said = group.ask(ask, deadline, CancellationToken::new()).await.map_err(|error| match error {
        CheckoutError::Refused(refusal) if refusal.kind == RefusalKind::TimedOut => {
            let text = format!("{} did not list its refs within {}", ask.clone_url, brief(deadline));
            Refusal::new(RefusalKind::TimedOut, text).into()
        }
        other => other,
    })?;
    match serde_json::from_slice::<Result<Heads, Refusal>>(&said.answer) {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(said.crashed()),
    }
}

/// Runs [`super::consolidate()`] for one mirror in a child process; it ends at the deadline, and with us. Answers with
/// the number of packs that became one.
///
/// # Errors
/// See [`CheckoutError`].
pub async fn consolidate(exe: &Path, mirror: &Path, deadline: Duration) -> Result<usize, CheckoutError> {
    let mut command = command(exe, "consolidate", &[]);
    command.arg(mirror);
    let said = Group::spawn(command)?.ask(&(), deadline, CancellationToken::new()).await?;
    match serde_json::from_slice::<Result<usize, Refusal>>(&said.answer) {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(said.crashed()),
    }
}

/// What a child said, and how it ended.
struct Said {
    answer: Vec<u8>,
    complaint: Vec<u8>,
    status: std::process::ExitStatus,
}

impl Said {
    /// Why there is no answer.
    fn crashed(&self) -> CheckoutError {
        use std::os::unix::process::ExitStatusExt as _;
        if self.status.signal() == Some(rustix::process::Signal::XCPU.as_raw()) {
            return Refusal::too_much_computing().into();
        }
        let text = String::from_utf8_lossy(&self.complaint);
        // Rust's allocator says this before it aborts; libgit2 turns the same into an error.
        if text.contains("memory allocation of") {
            return Refusal::too_much_memory().into();
        }
        let last = text.lines().rfind(|line| !line.trim().is_empty()).map(|line| format!(": {}", line.trim()));
        CheckoutError::Crashed { how: self.status.to_string(), complaint: last.unwrap_or_default() }
    }
}

async fn read(from: &mut (impl AsyncRead + Unpin), most: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Half an answer is no JSON; that is where a failure shows.
    let _ = from.take(most).read_to_end(&mut bytes).await;
    bytes
}

/// What a child that goes outside keeps of our environment.
const OUTSIDE: &[&str] = &["PATH", "SSL_CERT_FILE", "SSL_CERT_DIR"];

/// Our own binary with one of its inner tasks, in a process group of its own and with no more of our environment than
/// the variables `kept`.
fn command(exe: &Path, task: &str, kept: &[&str]) -> Command {
    let mut command = Command::new(exe);
    command
        .args(["internal", task])
        .env_clear()
        .envs(kept.iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true);
    command
}

/// The child and whatever it might have started; killed as a whole when it is dropped.
struct Group(Child);

impl Group {
    fn spawn(mut command: Command) -> Result<Group, CheckoutError> {
        command.spawn().map(Group).map_err(CheckoutError::Start)
    }

    /// Hands the child one line of JSON and waits for all that it says, or kills it.
    async fn ask(
        mut self,
        question: &impl Serialize,
        deadline: Duration,
        cancel: CancellationToken,
    ) -> Result<Said, CheckoutError> {
        let mut stdin = self.0.stdin.take().expect("piped");
        let mut stdout = self.0.stdout.take().expect("piped");
        let mut stderr = self.0.stderr.take().expect("piped");
        let mut line = serde_json::to_vec(question).expect("a struct of strings and numbers is JSON");
        line.push(b'\n');
        let exchange = async {
            let told = async {
                // A child that died at once closes its end; its exit status says more than EPIPE.
                let _ = stdin.write_all(&line).await;
                let _ = stdin.flush().await;
            };
            let ((), answer, complaint) =
                tokio::join!(told, read(&mut stdout, MAX_ANSWER), read(&mut stderr, MAX_COMPLAINT));
            (answer, complaint)
        };
        let result = tokio::select! {
            biased;
            () = cancel.cancelled() => Err(CheckoutError::Cancelled),
            () = tokio::time::sleep(deadline) => Err(Refusal::timed_out(deadline).into()),
            (answer, complaint) = exchange => Ok((answer, complaint)),
        };
        self.kill();
        let status = self.0.wait().await.map_err(CheckoutError::Start)?;
        // Open for as long as we wanted the answer.
        drop(stdin);
        let (answer, complaint) = result?;
        Ok(Said { answer, complaint, status })
    }

    fn kill(&mut self) {
        // No id any more: it was waited for, and the number may be somebody else's.
        if let Some(id) = self.0.id().and_then(|id| i32::try_from(id).ok()).and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process_group(id, rustix::process::Signal::KILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}

//! The agent's half: starts the child process, waits for its answer, and ends it.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use super::{Answer, Done, Job, Refusal, RefusalKind, Source};
use crate::domain::outcome::{Outcome, Verdict};

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
    let mut group = Group::spawn(exe, &job).map_err(CheckoutError::Start)?;
    let child = &mut group.0;
    let mut stdin = child.stdin.take().expect("piped");
    let mut stdout = child.stdout.take().expect("piped");
    let mut stderr = child.stderr.take().expect("piped");
    let mut line = serde_json::to_vec(&job).expect("a struct of strings and numbers is JSON");
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
        () = tokio::time::sleep(deadline + GRACE) => Err(Refusal::timed_out(deadline).into()),
        (answer, complaint) = exchange => Ok((answer, complaint)),
    };
    group.kill();
    let status = group.0.wait().await.map_err(CheckoutError::Start)?;
    drop(stdin);
    let (answer, complaint) = result?;
    match serde_json::from_slice(&answer) {
        Ok(Answer::Done(done)) => Ok(*done),
        Ok(Answer::Refused(refusal)) => Err(refusal.into()),
        Err(_) => Err(crashed(status, &complaint)),
    }
}

/// Runs [`super::consolidate()`] for one mirror in a child process; it ends at the deadline, and with us. Answers with
/// the number of packs that became one.
///
/// # Errors
/// See [`CheckoutError`].
pub async fn consolidate(exe: &Path, mirror: &Path, deadline: Duration) -> Result<usize, CheckoutError> {
    let mut group = Group(command(exe, "consolidate").arg(mirror).spawn().map_err(CheckoutError::Start)?);
    let child = &mut group.0;
    // Open for as long as we want the answer.
    let stdin = child.stdin.take().expect("piped");
    let mut stdout = child.stdout.take().expect("piped");
    let mut stderr = child.stderr.take().expect("piped");
    let exchange = async { tokio::join!(read(&mut stdout, MAX_COMPLAINT), read(&mut stderr, MAX_COMPLAINT)) };
    let said = tokio::time::timeout(deadline, exchange).await;
    group.kill();
    let status = group.0.wait().await.map_err(CheckoutError::Start)?;
    drop(stdin);
    let (answer, complaint) = said.map_err(|_| Refusal::timed_out(deadline))?;
    match serde_json::from_slice::<Result<usize, Refusal>>(&answer) {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(crashed(status, &complaint)),
    }
}

fn crashed(status: std::process::ExitStatus, complaint: &[u8]) -> CheckoutError {
    let text = String::from_utf8_lossy(complaint);
    // Rust's allocator says this before it aborts; libgit2 turns the same into an error.
    if text.contains("memory allocation of") {
        let text = "the checkout needed more memory than a checkout may use (1 GiB)";
        return Refusal::new(RefusalKind::Unacceptable, text).into();
    }
    let last = text.lines().rfind(|line| !line.trim().is_empty()).map(|line| format!(": {}", line.trim()));
    CheckoutError::Crashed { how: status.to_string(), complaint: last.unwrap_or_default() }
}

async fn read(from: &mut (impl AsyncRead + Unpin), most: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    // Half an answer is no JSON; that is where a failure shows.
    let _ = from.take(most).read_to_end(&mut bytes).await;
    bytes
}

/// Our own binary with one of its inner tasks, in a process group of its own and with nothing of our environment.
fn command(exe: &Path, task: &str) -> Command {
    let mut command = Command::new(exe);
    command
        .args(["internal", task])
        .env_clear()
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
    fn spawn(exe: &Path, job: &Job) -> std::io::Result<Group> {
        let mut command = command(exe, "checkout");
        // A person's own git configuration says which of their files are ignored.
        let kept: &[&str] = match job.source {
            Source::Remote(_) => &["PATH", "SSL_CERT_FILE", "SSL_CERT_DIR"],
            Source::Local(_) => &["PATH", "HOME", "XDG_CONFIG_HOME"],
        };
        for name in kept {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.spawn().map(Group)
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

//! `hookmill demo`: the main job with nothing set up.
//!
//! It is a user of the product. It writes a sample repository, starts a small forge of its own, starts this very
//! binary as `hookmill serve`, and from then on everything goes through the front doors: a signed delivery to the hook,
//! the API and its events for what is shown, the statuses API of its forge for the verdict.

mod author;
mod follow;
mod forge;

mod prerequisites;
mod repository;
mod run;
mod sample;
mod server;
mod story;
mod terminal;
mod tools;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use crate::domain::outcome::Outcome;

use super::USAGE;

/// Exit codes beside those of an outcome: something missing or gone wrong, a signal.
const BROKEN: u8 = 3;
const INTERRUPTED: u8 = 130;

/// `hookmill demo`.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Keys while it runs: p push, b break, f fix, o open, q quit. Without a terminal it does one push and ends, \
                  as with --once."
)]
pub struct Args {
    /// The port of its pages; 0 is any free port.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub port: u16,
    /// One push, its verdict, and the end.
    #[arg(long)]
    pub once: bool,
    /// The push breaks the bundle.
    #[arg(long = "break")]
    pub broken: bool,
    /// Keeps everything in this folder instead of removing it.
    #[arg(long, value_name = "DIR")]
    pub keep: Option<PathBuf>,
}

/// Why the demo could not do its part.
#[derive(Debug, thiserror::Error)]
enum DemoError {
    #[error("--keep {}: {cause}", folder.display())]
    Keep { folder: PathBuf, cause: std::io::Error },
    #[error("the demo's folder could not be prepared: {0}")]
    Folder(std::io::Error),
    #[error("the sample repository could not be written: {0}")]
    Sample(#[from] git2::Error),
    #[error("the demo's forge could not be started: {0}")]
    Forge(std::io::Error),
    #[error(transparent)]
    Server(#[from] server::ServerError),
    #[error(transparent)]
    NotDelivered(#[from] forge::NotDelivered),
    #[error("the hook answered {code} and made no build: {body}")]
    NoBuild { code: u16, body: String },
    #[error("build {build} could not be followed: {why}\n{tail}")]
    Lost { build: crate::domain::build::BuildId, why: String, tail: String },
    #[error("the forge got no final status within {} s after build {build} ended\n{tail}", run::STATUS_LIMIT.as_secs())]
    NoStatus { build: crate::domain::build::BuildId, tail: String },
}

impl DemoError {
    fn exit_code(&self) -> u8 {
        match self {
            DemoError::Keep { .. } | DemoError::Server(server::ServerError::Port { .. }) => USAGE,
            _ => BROKEN,
        }
    }
}

/// How the demo ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// Its one build ended.
    Built(Outcome),
    /// The person pressed q.
    Quit,
}

/// Runs the demo to its end.
pub fn run(args: &Args) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(BROKEN, &format!("no runtime: {error}")),
    };
    let code = runtime.block_on(demo(args));
    // Threads that still read (a stream of events, the keyboard) end with the process.
    runtime.shutdown_background();
    code
}

async fn demo(args: &Args) -> ExitCode {
    if let Err(error) = server::free_port(args.port) {
        return fail(USAGE, &error.to_string());
    }
    let folder = match Folder::prepare(args.keep.as_deref()) {
        Ok(folder) => folder,
        Err(error) => return fail(error.exit_code(), &error.to_string()),
    };
    let ready = match prerequisites::look(prerequisites::System::here(), folder.path()).await {
        Ok(ready) => ready,
        Err(missing) => {
            eprintln!("{}", story::missing(&missing));
            return ExitCode::from(BROKEN);
        }
    };
    let interactive = !args.once && terminal::is_interactive();
    let told = run::stage(args, &ready, folder.path(), interactive, interrupted()).await;
    folder.leave();
    match told {
        Ok(Some(Ending::Built(outcome))) => ExitCode::from(outcome.exit_code()),
        Ok(Some(Ending::Quit)) => ExitCode::SUCCESS,
        Ok(None) => ExitCode::from(INTERRUPTED),
        Err(error) => fail(error.exit_code(), &error.to_string()),
    }
}

fn fail(code: u8, message: &str) -> ExitCode {
    eprintln!("hookmill demo: {message}");
    ExitCode::from(code)
}

/// Ends when the person, the system or a closed terminal asks for the end.
async fn interrupted() {
    let mut asked = Vec::new();
    for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
        match signal(kind) {
            Ok(stream) => asked.push(stream),
            // Without a handler the signal's own effect stays: the process ends at once.
            Err(_) => return std::future::pending().await,
        }
    }
    std::future::poll_fn(|context| {
        let any = asked.iter_mut().any(|stream| stream.poll_recv(context).is_ready());
        if any { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

/// Where the demo writes: a folder that goes with it, or the one to keep.
enum Folder {
    Temporary(tempfile::TempDir),
    Kept(PathBuf),
}

impl Folder {
    fn prepare(keep: Option<&Path>) -> Result<Self, DemoError> {
        let Some(keep) = keep else {
            let folder = tempfile::Builder::new().prefix("hookmill-demo-").tempdir().map_err(DemoError::Folder)?;
            return Ok(Folder::Temporary(folder));
        };
        let refused = |cause| DemoError::Keep { folder: keep.to_owned(), cause };
        std::fs::create_dir_all(keep).map_err(refused)?;
        if std::fs::read_dir(keep).map_err(refused)?.next().is_some() {
            return Err(refused(std::io::Error::other("it is not empty; name another folder")));
        }
        Ok(Folder::Kept(keep.canonicalize().map_err(refused)?))
    }

    /// Removes the temporary folder, or says where the kept one is.
    fn leave(self) {
        match self {
            Folder::Kept(folder) => println!("kept: {}", folder.display()),
            Folder::Temporary(folder) => {
                // Builds leave folders that nobody may enter (an overlay's work directory), so TempDir can't do it.
                if let Err(error) = crate::tree::remove(&folder.keep()) {
                    eprintln!("hookmill demo: its folder could not be removed: {error}");
                }
            }
        }
    }

    fn path(&self) -> &Path {
        match self {
            Folder::Temporary(folder) => folder.path(),
            Folder::Kept(folder) => folder,
        }
    }
}

/// 128 random bits, for a secret or an id, as 32 hex digits.
fn random_hex() -> String {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the system's random numbers are there once it has booted");
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

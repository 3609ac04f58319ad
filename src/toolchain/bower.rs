//! bower, the agent's own: installed once into the data directory, so that a repository's bower
//! components need not wait for its npm packages.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use tokio::process::Command;

use super::{Missing, Toolchain};

/// The last bower there will be.
pub const VERSION: &str = "1.8.14";

/// One package without dependencies: what takes longer than this hangs.
const PATIENCE: Duration = Duration::from_secs(120);
const LOCK_POLL: Duration = Duration::from_millis(100);

/// Why there is no bower. Never the commit's fault.
#[derive(Debug, thiserror::Error)]
pub enum NoBower {
    /// There is no npm to install it with.
    #[error("bower is not installed on the agent and can't be installed: {0}")]
    NoNpm(#[from] Missing),
    /// npm failed.
    #[error(
        "bower is not installed on the agent: npm install bower@{VERSION} said: {said}; install it: npm install -g bower@{VERSION}"
    )]
    Npm {
        /// npm's first words.
        said: String,
    },
    /// npm, or another process that installs bower, took too long.
    #[error("bower is not installed on the agent: npm install bower@{VERSION} took longer than {}s; install it: npm install -g bower@{VERSION}", PATIENCE.as_secs())]
    TooSlow,
    /// The data directory could not be written.
    #[error("bower could not be installed into {path}: {source}; free space or correct data.dir")]
    Disk {
        /// The path that was not writable.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// bower, ready to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bower {
    /// The folder for a step's `PATH`.
    pub folder: PathBuf,
    /// What a step must be able to read, empty for a bower in the system's folders.
    pub readable: Vec<PathBuf>,
    /// Its version.
    pub version: String,
}

/// The operator's bower of version 1.8 if there is one, else ours, installed when it is not there yet.
///
/// Safe to call from many processes at once: one installs, under a lock, into a folder that is
/// renamed into place when it is whole; the others wait and find it.
///
/// # Errors
/// [`NoBower`], naming what was tried and the command that mends it.
pub async fn ensure(toolchain: &Toolchain, data_dir: &Path) -> Result<Bower, NoBower> {
    if let Some(tool) = toolchain.get("bower")
        && let Some(version) = tool.version.clone().filter(|version| version.starts_with("1.8."))
        && let Some(folder) = tool.path.parent()
    {
        let real = tool.path.canonicalize().unwrap_or_else(|_| tool.path.clone());
        let readable = super::readable(&tool.path, &real);
        return Ok(Bower { folder: folder.to_path_buf(), readable, version });
    }
    let tools = data_dir.join("tools");
    let home = tools.join(format!("bower-{VERSION}"));
    if !is_whole(&home) {
        install(toolchain, &tools, &home).await?;
    }
    Ok(Bower { folder: bin(&home), readable: vec![home], version: VERSION.to_owned() })
}

/// Where bower is configured to search, by its own defaults and the files of the agent's user; `None` when there is no
/// bower yet, or it does not say.
pub async fn registry(toolchain: &Toolchain, data_dir: &Path) -> Option<url::Url> {
    const ASK: &str = "let r = require(process.argv[1]).read('/').registry; \
                       console.log(r.search ? [].concat(r.search)[0] : r)";
    let ours = bin(&data_dir.join("tools").join(format!("bower-{VERSION}"))).join("bower");
    let program = toolchain.get("bower").map(|tool| tool.path.clone()).unwrap_or(ours).canonicalize().ok()?;
    let reader = program.parent()?.parent()?.join("lib/node_modules/bower-config");
    let node = toolchain.get("node")?;
    let mut command = Command::new(&node.path);
    command.args(["-e", ASK, "--"]).arg(reader).current_dir("/").stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(10), command.output()).await.ok()?.ok()?;
    let said = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
    url::Url::parse(said.trim()).ok()
}

fn bin(home: &Path) -> PathBuf {
    home.join("node_modules/.bin")
}

/// It has its name only after npm was done, so a look at the program is enough.
fn is_whole(home: &Path) -> bool {
    bin(home).join("bower").is_file()
}

async fn install(toolchain: &Toolchain, tools: &Path, home: &Path) -> Result<(), NoBower> {
    let npm = toolchain.require("npm")?;
    let disk = |path: &Path| {
        let path = path.to_path_buf();
        move |source| NoBower::Disk { path, source }
    };
    std::fs::create_dir_all(tools).map_err(disk(tools))?;
    let deadline = Instant::now() + PATIENCE;
    let _lock = lock(&tools.join(".lock"), deadline).await?;
    if is_whole(home) {
        return Ok(());
    }
    let staging = tools.join(".bower");
    remove(&staging).map_err(disk(&staging))?;
    remove(home).map_err(disk(home))?;
    std::fs::create_dir(&staging).map_err(disk(&staging))?;
    let mut command = Command::new(&npm.path);
    command.args(["install", "--prefix"]).arg(&staging);
    command.args(["--ignore-scripts", "--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error"]);
    command.args(["--fetch-retries=1", "--fetch-retry-mintimeout=1000", "--fetch-timeout=30000"]);
    command.arg(format!("bower@{VERSION}"));
    command.current_dir(&staging).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout_at(deadline.into(), command.output()).await.map_err(|_| NoBower::TooSlow)?;
    let output = output.map_err(|error| NoBower::Npm { said: error.to_string() })?;
    if !output.status.success() || !is_whole(&staging) {
        return Err(NoBower::Npm { said: first_words(&output.stderr) });
    }
    std::fs::rename(&staging, home).map_err(disk(home))
}

/// Taken by trying again and again, since a blocking wait for it could not be given up.
async fn lock(path: &Path, deadline: Instant) -> Result<File, NoBower> {
    let disk = |source| NoBower::Disk { path: path.to_path_buf(), source };
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path).map_err(disk)?;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) if Instant::now() < deadline => tokio::time::sleep(LOCK_POLL).await,
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(NoBower::TooSlow),
            Err(error) => return Err(disk(error.into())),
        }
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// npm's code and first line: `ECONNREFUSED, request to … failed`.
fn first_words(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("npm error ").or(line.strip_prefix("npm ERR! ")));
    let code = lines.find_map(|line| line.strip_prefix("code "));
    let fields = ["syscall ", "errno ", "path ", "A complete log"];
    let said = lines.find(|line| !line.trim().is_empty() && !fields.iter().any(|field| line.starts_with(field)));
    let words = [code, said].into_iter().flatten().collect::<Vec<_>>().join(", ");
    let words = if words.is_empty() { text.lines().next().unwrap_or("nothing").to_owned() } else { words };
    crate::domain::sentence::one_line(&words, 200)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A toolchain whose `npm` is this shell script.
    async fn with_npm(folder: &Path, script: &str) -> Toolchain {
        use std::os::unix::fs::PermissionsExt;
        let bin = folder.join("bin");
        std::fs::create_dir(&bin).expect("a folder");
        let npm = bin.join("npm");
        std::fs::write(&npm, format!("#!/bin/sh\n{script}")).expect("a script");
        std::fs::set_permissions(&npm, std::fs::Permissions::from_mode(0o755)).expect("executable");
        Toolchain::look(bin.as_os_str()).await
    }

    /// Installs as npm does with `--prefix`, counts its runs, and is slow enough to be waited for.
    const NPM: &str = "PATH=/usr/bin:/bin\n[ \"$1\" = install ] || exit 0\necho run >> \"$3/../../runs\"\nmkdir -p \"$3/node_modules/.bin\"\n\
                       sleep 0.2\necho '#!/bin/sh' > \"$3/node_modules/.bin/bower\"\n";

    #[tokio::test]
    async fn many_at_once_install_it_once() {
        let dir = tempfile::tempdir().expect("a folder");
        let toolchain = with_npm(dir.path(), NPM).await;
        let data = dir.path();
        let (a, b, c) = tokio::join!(ensure(&toolchain, data), ensure(&toolchain, data), ensure(&toolchain, data));
        let folder = data.join("tools/bower-1.8.14/node_modules/.bin");
        for bower in [a, b, c] {
            assert_eq!(bower.expect("installed").folder, folder);
        }
        assert_eq!(std::fs::read_to_string(data.join("runs")).expect("counted"), "run\n");
        assert!(!data.join("tools/.bower").exists(), "nothing half-made is left");
    }

    #[tokio::test]
    async fn what_a_killed_install_left_is_in_nobodys_way() {
        let dir = tempfile::tempdir().expect("a folder");
        let toolchain = with_npm(dir.path(), NPM).await;
        std::fs::create_dir_all(dir.path().join("tools/.bower/node_modules/half")).expect("left over");
        ensure(&toolchain, dir.path()).await.expect("installed");
        assert!(!dir.path().join("tools/bower-1.8.14/node_modules/half").exists());
    }

    #[tokio::test]
    async fn a_failure_names_the_tool_what_was_tried_and_the_fix() {
        let dir = tempfile::tempdir().expect("a folder");
        let toolchain =
            with_npm(dir.path(), "echo 'npm error code ECONNREFUSED' >&2; echo 'npm error syscall connect' >&2; echo 'npm error request failed' >&2; exit 1").await;
        let error = ensure(&toolchain, dir.path()).await.expect_err("npm fails").to_string();
        assert_eq!(
            error,
            "bower is not installed on the agent: npm install bower@1.8.14 said: ECONNREFUSED, request failed; install it: npm install -g bower@1.8.14"
        );
        let nothing = Toolchain::look(std::ffi::OsStr::new("/nonexistent")).await;
        let error = ensure(&nothing, dir.path()).await.expect_err("no npm").to_string();
        assert!(error.contains("npm is not installed on the agent"), "{error}");
    }
}

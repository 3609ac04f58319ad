//! Steps behind the fence, and without one: real namespaces, real bubblewrap, real kills.
#![cfg(target_os = "linux")]

mod another_root;
mod bare_steps;
mod bounds;
mod fence;
mod figures;
mod host;
mod stories;
mod walls;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use hookmill::confine::{Holder, Layers, Mode, Seen, probe, probe_bare};
use hookmill::domain::spec::{Network, StepCommand};
use hookmill::domain::view::{Stack, View};
use hookmill::process::{Event, Exit, Running};
use hookmill::tree;
use tokio::sync::oneshot;

/// Long enough for any machine; a story that is right never waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

fn exe() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_hookmill"))
}

/// A build's directories, with one source file.
struct Build {
    dir: tempfile::TempDir,
    view: View,
    layers: Layers,
}

impl Build {
    fn new(layers: &Layers) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let made = |name: &str| {
            fs::create_dir(dir.path().join(name)).expect("made");
            dir.path().join(name)
        };
        let tree = Stack {
            lowers: if layers.stacks() { vec![made("sources")] } else { Vec::new() },
            upper: made("upper"),
            work: made("work"),
            joined: made("joined"),
        };
        let (home, tmp) = (made("home"), made("tmp"));
        let view = View { tree, home, in_home: Vec::new(), tmp, readable: Vec::new(), root: None };
        {
            let tree = view.tree.lowers.first().unwrap_or(&view.tree.upper);
            fs::create_dir(tree.join("client")).expect("made");
            fs::write(tree.join("README"), "the sources\n").expect("written");
            fs::write(tree.join("client/deep"), "deep\n").expect("written");
        }
        Self { dir, view, layers: layers.clone() }
    }

    async fn open(&self) -> Holder {
        self.clear_work();
        within(Holder::open(exe(), &self.layers, &self.view)).await.expect("a holder")
    }

    fn command(&self, script: &str) -> StepCommand {
        let seen = self.layers.seen(self.host());
        let text = |path: &Path| path.to_str().expect("plain").to_owned();
        StepCommand {
            argv: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
            env: BTreeMap::from([
                ("PATH".to_owned(), "/usr/local/bin:/usr/bin:/bin".to_owned()),
                ("HOME".to_owned(), text(&seen.home)),
                ("TMPDIR".to_owned(), text(&seen.tmp)),
            ]),
            dir: ".".to_owned(),
            network: Network::Closed,
            processes: 512,
            memory: 4 << 30,
            cpus: None,
        }
    }

    fn host(&self) -> Seen {
        let View { tree, home, tmp, .. } = &self.view;
        Seen { build: tree.shown().to_owned(), home: home.clone(), tmp: tmp.clone() }
    }

    /// A file of the tree as the host finds it after a step wrote it.
    fn written(&self, name: &str) -> PathBuf {
        self.view.tree.upper.join(name)
    }

    async fn run(&self, script: &str) -> (String, Exit) {
        let holder = self.open().await;
        let ended = self.run_in(&holder, script).await;
        holder.close().await;
        ended
    }

    async fn run_in(&self, holder: &Holder, script: &str) -> (String, Exit) {
        let (text, exit, _) = all(holder.start(&self.command(script)).await.expect("started")).await;
        (text, exit)
    }

    /// What holds `$HOME/alive` open for writing is alive: the channel hears when nothing does any more.
    fn life_line(&self) -> oneshot::Receiver<()> {
        let fifo = self.view.home.join("alive");
        assert!(Command::new("mkfifo").arg(&fifo).status().expect("mkfifo runs").success());
        let (ended, end) = oneshot::channel();
        std::thread::spawn(move || {
            File::open(fifo).and_then(|mut fifo| fifo.read_to_end(&mut Vec::new())).expect("read");
            ended.send(()).ok();
        });
        end
    }
}

impl Build {
    /// overlayfs leaves directories without any rights, which only root can remove as they are, and among them the
    /// mark of a volatile overlay, over which there can be no second one.
    fn clear_work(&self) {
        tree::remove(&self.view.tree.work.join("work")).expect("removed");
    }
}

impl Drop for Build {
    fn drop(&mut self) {
        self.clear_work();
    }
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("in time")
}

/// Everything until the end: output, exit, leak.
async fn all(mut running: Running) -> (String, Exit, bool) {
    let (mut text, mut how) = (Vec::new(), None);
    loop {
        match within(running.next()).await.expect("Ended comes before None") {
            Event::Output(bytes) => text.extend_from_slice(&bytes),
            Event::Exited(exit) => how = Some(exit),
            Event::Ended { leaked } => {
                assert_eq!(running.next().await, None);
                return (String::from_utf8_lossy(&text).into_owned(), how.expect("an exit before the end"), leaked);
            }
        }
    }
}

/// Until the output so far ends in `mark`.
async fn until(running: &mut Running, mark: &str) {
    let mut text = Vec::new();
    while !text.ends_with(mark.as_bytes()) {
        match within(running.next()).await {
            Some(Event::Output(bytes)) => text.extend_from_slice(&bytes),
            other => panic!("{other:?} after {:?}", String::from_utf8_lossy(&text)),
        }
    }
}

async fn gone(life: oneshot::Receiver<()>) {
    within(life).await.expect("nothing of the step is left");
}

/// What this host gives, or `None` (said loudly) where it has no namespaces.
async fn confined() -> Option<Layers> {
    let dir = tempfile::tempdir().expect("a directory");
    let layers = within(probe(exe(), dir.path())).await.expect("probed");
    assert_eq!(fs::read_dir(dir.path()).expect("read").count(), 0, "the trial leaves nothing");
    if layers.mode() == Mode::Bare {
        eprintln!("NOT TRIED, this host has no fence: {}", layers.name());
        return None;
    }
    Some(layers)
}

/// Steps without a fence, behind what they can put around themselves on this host.
async fn bare() -> Layers {
    let dir = tempfile::tempdir().expect("a directory");
    let layers = within(probe_bare(exe(), dir.path(), "a test asks for none")).await.expect("probed");
    assert_eq!(fs::read_dir(dir.path()).expect("read").count(), 0, "the trial leaves nothing");
    layers
}

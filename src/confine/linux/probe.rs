//! Which layers this host gives: a build of nothing is run through the very code that runs builds.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::holder::Holder;
use super::launch;
use crate::confine::{HolderError, Layers, Missing, Mode};
use crate::domain::spec::{Network, StepCommand};
use crate::domain::view::{Stack, View};
use crate::process::{Exit, Running, Spawn, spawn};
use crate::tree;

/// Tries every layer for real: `exe` is this binary, `dir` a directory on the file system of the builds
/// (whether an overlay can be mounted depends on it). What was made for the trial is removed again.
///
/// # Errors
/// Only when `dir` can't be written; a missing layer is an answer, not an error.
pub async fn probe(exe: &Path, dir: &Path) -> io::Result<Layers> {
    let trial = Trial::new(dir)?;
    let mut layers = fence(exe, &trial).await;
    if layers.mode() == Mode::Bare {
        try_bare_steps(exe, &mut layers, &trial.flat()).await;
    }
    Ok(layers.on(dir))
}

/// What steps are put under where there is no fence because of `why`; see [`probe`].
///
/// # Errors
/// As [`probe`].
pub async fn probe_bare(exe: &Path, dir: &Path, why: &str) -> io::Result<Layers> {
    let trial = Trial::new(dir)?;
    let mut layers = Layers { landlock: landlock(), seccomp: seccomp(), ..Layers::none(why) };
    try_bare_steps(exe, &mut layers, &trial.flat()).await;
    Ok(layers.on(dir))
}

/// All but the file system.
async fn fence(exe: &Path, trial: &Trial) -> Layers {
    let mut layers = Layers {
        userns: Ok(()),
        overlay: Ok(()),
        // Assumed until it is tried; a holder without it could not be asked for namespaces.
        bubblewrap: Ok(String::new()),
        netns: Ok(()),
        door: Ok(()),
        landlock: landlock(),
        seccomp: seccomp(),
        // Nothing is taken for a trial.
        cgroup: Err(Missing("none was asked for".into())),
        insisted: false,
        files: tree::FileSystem::default(),
    };
    let mut holder = match Holder::start_early(exe, &layers).await {
        Ok(holder) => holder,
        Err(error) => {
            let Layers { landlock, seccomp, .. } = layers;
            let untried = Layers::none("not tried without user namespaces");
            return Layers { userns: Err(why(&error)), landlock, seccomp, ..untried };
        }
    };
    layers.bubblewrap = version().await;
    holder = match holder.mount(&trial.view).await {
        Ok(()) => holder,
        Err(error) => {
            layers.overlay = Err(why(&error));
            holder.close().await;
            match Holder::open(exe, &layers, &trial.flat()).await {
                Ok(holder) => holder,
                Err(error) => return Layers { userns: Err(why(&error)), ..layers },
            }
        }
    };
    if layers.bubblewrap.is_ok() {
        try_steps(&mut holder, &mut layers, &trial.view).await;
    }
    holder.close().await;
    layers
}

/// The file that the trial's step writes.
const WRITTEN: &str = "written";

/// A step with a network of its own and, if that fails, one without.
async fn try_steps(holder: &mut Holder, layers: &mut Layers, view: &View) {
    layers.netns = under_walls(holder, layers, Network::Closed).await;
    layers.door = match &layers.netns {
        Ok(()) => opens_a_door(holder).await,
        Err(missing) => Err(missing.clone()),
    };
    if layers.netns.is_err()
        && let Err(missing) = writes(holder, Network::Open).await
    {
        layers.bubblewrap = Err(missing);
    } else if layers.overlay.is_ok() && !view.tree.upper.join(WRITTEN).exists() {
        layers.overlay = Err(Missing("a file written through the overlay did not arrive in its upper layer".into()));
    }
}

/// A step without a fence. Whatever fails under Landlock there is its fault: its rules may not know where this machine has
/// its programs.
async fn try_bare_steps(exe: &Path, layers: &mut Layers, view: &View) {
    let mut holder = match Holder::open(exe, layers, view).await {
        Ok(holder) => holder,
        Err(error) => {
            (layers.landlock, layers.seccomp) = (Err(why(&error)), Err(why(&error)));
            return;
        }
    };
    if let Err(missing) = under_walls(&mut holder, layers, Network::Open).await
        && holder.walls.landlock
    {
        layers.landlock = Err(missing);
    }
    holder.close().await;
}

/// A step that writes a file. A second wall that the launcher can't build is left out: what is told as there is then
/// insisted on with every step.
async fn under_walls(holder: &mut Holder, layers: &mut Layers, network: Network) -> Result<(), Missing> {
    loop {
        match writes(holder, network.clone()).await {
            Err(why) if holder.walls.landlock && why.0.contains(launch::LANDLOCK) => {
                (layers.landlock, holder.walls.landlock) = (Err(why), false);
            }
            Err(why) if holder.walls.seccomp && why.0.contains(launch::SECCOMP) => {
                (layers.seccomp, holder.walls.seccomp) = (Err(why), false);
            }
            done => return done,
        }
    }
}

fn writing(network: Network) -> StepCommand {
    StepCommand {
        argv: ["/bin/sh", "-c", &format!(": > {WRITTEN}")].map(str::to_owned).to_vec(),
        env: BTreeMap::new(),
        dir: ".".into(),
        network,
        processes: 512,
        memory: 4 << 30,
        cpus: None,
    }
}

async fn writes(holder: &Holder, network: Network) -> Result<(), Missing> {
    passes(holder.start(&writing(network)).await.map_err(|error| why(&error))?).await
}

/// The socket comes from inside before the step is started, so its coming is all that there is to see.
async fn opens_a_door(holder: &Holder) -> Result<(), Missing> {
    match holder.start_with_door(&writing(Network::Registries), &[]).await {
        Ok(Some((running, _doors))) => passes(running).await,
        Ok(None) => Err(Missing("no network namespaces".into())),
        Err(error) => Err(why(&error)),
    }
}

async fn passes(mut running: Running) -> Result<(), Missing> {
    let (said, how) = running.heard().await;
    match how {
        Exit::Code(0) => Ok(()),
        how => Err(Missing(format!("{how}: {}", String::from_utf8_lossy(&said).trim()))),
    }
}

/// The kernel's version of Landlock's interface. The first can't rename from one directory into another, which every
/// package manager does.
fn landlock() -> Result<u32, Missing> {
    // SAFETY: asked for its version, the call reads and writes nothing.
    let version = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, std::ptr::null::<u8>(), 0usize, 1u32) };
    match version {
        ..0 => Err(Missing(format!("the kernel refuses it: {}", io::Error::last_os_error()))),
        0 | 1 => Err(Missing(format!("its version here is {version}, and steps need 2"))),
        version => Ok(u32::try_from(version).unwrap_or(u32::MAX)),
    }
}

/// Whether the kernel takes filters that refuse with an error.
fn seccomp() -> Result<(), Missing> {
    let action = libc::SECCOMP_RET_ERRNO;
    // SAFETY: the call reads one number and changes nothing.
    let known = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0u32, &raw const action) };
    if known == 0 { Ok(()) } else { Err(Missing(format!("the kernel refuses it: {}", io::Error::last_os_error()))) }
}

/// bubblewrap's version, if there is one on the agent's own `PATH`.
async fn version() -> Result<String, Missing> {
    let command = Spawn {
        argv: vec!["bwrap".into(), "--version".into()],
        env: std::env::var("PATH").map(|path| ("PATH".to_owned(), path)).into_iter().collect(),
        dir: "/".into(),
    };
    let mut running = spawn(&command).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Missing("bwrap is not on PATH".into()),
        _ => Missing(format!("bwrap: {error}")),
    })?;
    let (said, _) = running.heard().await;
    let said = String::from_utf8_lossy(&said);
    let version = said.trim().strip_prefix("bubblewrap ").unwrap_or(said.trim());
    match version_parts(version) {
        Some(parts) if parts >= (0, 8) => Ok(version.to_owned()),
        _ => Err(Missing(format!("bwrap is {version:?}; 0.8 is the first that can forbid nested user namespaces"))),
    }
}

fn version_parts(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.').map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

fn why(error: &HolderError) -> Missing {
    match error {
        HolderError::Refused(what) => Missing(format!("could not {what}")),
        error => Missing(error.to_string()),
    }
}

/// Directories for one trial, removed with it.
#[derive(Debug)]
pub(super) struct Trial {
    dir: PathBuf,
    pub(super) view: View,
}

impl Trial {
    pub(super) fn new(dir: &Path) -> io::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let dir = dir.join(format!("probe-{}-{count}", std::process::id()));
        let made = |name: &str| std::fs::create_dir_all(dir.join(name)).map(|()| dir.join(name));
        let tree =
            Stack { lowers: vec![made("lower")?], upper: made("upper")?, work: made("work")?, joined: made("joined")? };
        let (home, tmp) = (made("home")?, made("tmp")?);
        let view = View { tree, home, in_home: Vec::new(), tmp, readable: Vec::new(), root: None };
        Ok(Self { dir, view })
    }
}

impl Trial {
    /// The view for a host on which nothing can be stacked.
    fn flat(&self) -> View {
        View { tree: Stack::plain(self.view.tree.joined.clone()), ..self.view.clone() }
    }
}

impl Drop for Trial {
    fn drop(&mut self) {
        // overlayfs leaves directories without any rights in its work directory.
        if let Err(error) = tree::remove(&self.dir) {
            tracing::warn!(dir = %self.dir.display(), %error, "the directories of the sandbox trial are left behind");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::version_parts;

    #[test]
    fn versions_compare_by_number() {
        assert_eq!(version_parts("0.8.0"), Some((0, 8)));
        assert_eq!(version_parts("0.11.0"), Some((0, 11)));
        assert!(version_parts("0.11.0") > version_parts("0.8.0"));
        assert_eq!(version_parts("bwrap: no"), None);
    }
}

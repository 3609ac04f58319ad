//! Which layers of the fence there are, and what that makes of a build.

mod table;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};

use crate::domain::cpus::Cpus;
use crate::domain::view::{BUILD_DIR, HOME_DIR};
use crate::tree::FileSystem;

pub use table::Layer;

/// What this host gives, layer by layer, each one tried; see [`probe`](super::probe).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layers {
    /// User, mount and process namespaces for the holder.
    pub userns: Result<(), Missing>,
    /// An overlay of the view's layers, mounted and written through without root.
    pub overlay: Result<(), Missing>,
    /// bubblewrap, started inside the holder: its version.
    pub bubblewrap: Result<String, Missing>,
    /// A network namespace for steps that may not reach out.
    pub netns: Result<(), Missing>,
    /// A socket that listens in such a network and is served from outside of it.
    pub door: Result<(), Missing>,
    /// Landlock, on top of the view: the version of its interface.
    pub landlock: Result<u32, Missing>,
    /// Filters of system calls that no build needs.
    pub seccomp: Result<(), Missing>,
    /// A control group of its own for every step.
    pub cgroup: Result<Cgroup, Missing>,
    /// The configuration insists on every layer (`require = "full"`).
    pub insisted: bool,
    /// What the file system of the builds can do where nothing can be stacked.
    pub files: FileSystem,
}

/// Why a layer is missing, in the words of what was tried.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Missing(pub String);

/// The control group below which each step gets one, and what of it the kernel bounds there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    /// Its directory.
    pub base: PathBuf,
    /// Memory and swap.
    pub memory: bool,
    /// Processes.
    pub pids: bool,
    /// Shares of the processors, and bounds on them.
    pub cpu: bool,
}

impl fmt::Display for Cgroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bounds = [(self.memory, "memory"), (self.pids, "pids"), (self.cpu, "cpu")];
        let there: Vec<&str> = bounds.iter().filter(|(there, _)| *there).map(|(_, word)| *word).collect();
        match &*there {
            [] => f.write_str("no controllers, only an end for all at once"),
            there => f.write_str(&there.join(", ")),
        }
    }
}

/// How steps are run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// In namespaces, under bubblewrap.
    Confined {
        /// The view's stacks may have layers; else each must be one directory that holds everything already.
        overlay: bool,
        /// A step with a closed network gets a network namespace; else it can reach whatever the agent can.
        netns: bool,
    },
    /// As processes of the agent's own user, with nothing around them but Landlock and seccomp where there are those. The
    /// view's stacks must have no layers.
    Bare,
}

/// How sources and snapshots become one tree; shown, it is a few words for the log, the page and `doctor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joining {
    /// They are stacked, and neither moved nor copied.
    Overlay,
    /// They are brought into one directory, as well as its file system can.
    Flat(FileSystem),
}

impl fmt::Display for Joining {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Joining::Overlay => "stacked by overlay",
            Joining::Flat(FileSystem { tells_changes: true, reflinks: true }) => {
                "brought in by rename, else by reflink"
            }
            Joining::Flat(FileSystem { tells_changes: true, .. }) => "brought in by rename, else copied in parallel",
            Joining::Flat(FileSystem { reflinks: true, .. }) => "brought in by reflink",
            Joining::Flat(_) => "copied in parallel",
        })
    }
}

/// Where the parts of a view are: as a step sees them, or as this machine has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The tree's root.
    pub build: PathBuf,
    /// What `HOME` must say.
    pub home: PathBuf,
    /// What `TMPDIR` must say.
    pub tmp: PathBuf,
}

impl Layers {
    /// Nothing at all, because of `why`: the host is no Linux, or the configuration asks for none.
    pub fn none(why: &str) -> Self {
        let missing = || Missing(why.to_owned());
        Self {
            userns: Err(missing()),
            overlay: Err(missing()),
            bubblewrap: Err(missing()),
            netns: Err(missing()),
            door: Err(missing()),
            landlock: Err(missing()),
            seccomp: Err(missing()),
            cgroup: Err(missing()),
            insisted: false,
            files: FileSystem::default(),
        }
    }

    /// These layers, with builds on the file system of `dir`, which is tried. Where it can't be, trees are copied.
    pub fn on(self, dir: &Path) -> Self {
        let files = FileSystem::probe(dir).unwrap_or_else(|error| {
            tracing::warn!(dir = %dir.display(), %error, "the file system could not be probed; trees are copied");
            FileSystem::default()
        });
        Self { files, ..self }
    }

    /// How steps are run with these layers.
    pub fn mode(&self) -> Mode {
        match (&self.userns, &self.bubblewrap) {
            (Ok(()), Ok(_)) => Mode::Confined { overlay: self.overlay.is_ok(), netns: self.netns.is_ok() },
            _ => Mode::Bare,
        }
    }

    /// Steps are shut off from this host, and what builds read is stacked. What else can be missing bounds a step less
    /// well and is named, or is a second wall.
    pub fn is_sound(&self) -> bool {
        self.mode() == Mode::Confined { overlay: true, netns: true }
    }

    /// Whether a build whose code is a stranger's (or not), and whose steps are to see that root, may run here at all.
    ///
    /// # Errors
    /// What is missing, as a sentence of the agent's.
    pub fn admit(&self, is_strangers: bool, root: Option<&Path>) -> Result<(), String> {
        let missing = |core_only: bool| {
            let gone = self.table().into_iter().filter(|layer| layer.core || !core_only);
            gone.filter_map(|layer| layer.state.err().map(|why| format!("{} ({why})", layer.name))).next()
        };
        if is_strangers && let Some(gone) = missing(true) {
            return Err(format!("this agent runs no fork's build without {gone}"));
        }
        if let Some(root) = root.filter(|_| self.mode() == Mode::Bare) {
            let gone = self.first_missing();
            return Err(format!(
                "steps can't be shut into {} here, and must not run outside of it: {gone}",
                root.display()
            ));
        }
        if self.insisted
            && let Some(gone) = missing(false)
        {
            return Err(format!("[sandbox] require = \"full\", and this agent has no {gone}"));
        }
        Ok(())
    }

    /// Why a bound on processors is not kept here, as a notice of the build; `None` where it is.
    pub fn unkept(&self, cpus: Cpus) -> Option<String> {
        let why = match &self.cgroup {
            Ok(Cgroup { cpu: true, .. }) => return None,
            Ok(some) => format!("its control groups have {some}"),
            Err(why) => why.to_string(),
        };
        Some(format!("limits.cpus = {cpus} is not kept on this agent: {why}; hookmill doctor has the fix"))
    }

    /// Whether a step's network can be closed, or narrowed to some hosts.
    pub fn has_netns(&self) -> bool {
        matches!(self.mode(), Mode::Confined { netns: true, .. })
    }

    /// Whether a view's stacks may have layers.
    pub fn stacks(&self) -> bool {
        matches!(self.mode(), Mode::Confined { overlay: true, .. })
    }

    /// How sources and snapshots become one tree.
    pub fn joining(&self) -> Joining {
        if self.stacks() { Joining::Overlay } else { Joining::Flat(self.files) }
    }

    /// Where steps see what this machine has at `host`.
    pub fn seen(&self, host: Seen) -> Seen {
        match self.mode() {
            Mode::Confined { .. } => {
                Seen { build: BUILD_DIR.into(), home: HOME_DIR.into(), tmp: Path::new("/tmp").into() }
            }
            Mode::Bare => host,
        }
    }

    /// One line for the build page, the log's first line and `/readyz`.
    pub fn name(&self) -> String {
        let (overlay, netns) = match self.mode() {
            Mode::Bare => return self.bare_name(),
            Mode::Confined { overlay, netns } => (overlay, netns),
        };
        let mut name = "userns+mount+pid".to_owned();
        for (there, word) in [(netns, "+net"), (overlay, "+overlay"), (true, "+bwrap")] {
            if there {
                name.push_str(word);
            }
        }
        if let Ok(version) = self.landlock {
            name.push_str(&format!("+landlock{version}"));
        }
        if self.seccomp.is_ok() {
            name.push_str("+seccomp");
        }
        name.push_str(match &self.cgroup {
            Ok(Cgroup { memory: true, .. }) => "+cgroup",
            Ok(_) => "+cgroup.kill+rss-watch",
            Err(_) => "+rss-watch",
        });
        if !netns {
            name.push_str(" (DEGRADED: no network namespace, every step can reach the network)");
        }
        name
    }

    /// What steps have around them without a fence is named last: it is no fence.
    fn bare_name(&self) -> String {
        let landlock = self.landlock.as_ref().ok().map(|version| format!("landlock{version}"));
        let seccomp = self.seccomp.as_ref().ok().map(|()| "seccomp".to_owned());
        let walls: Vec<String> = landlock.into_iter().chain(seccomp).collect();
        let behind = if walls.is_empty() { String::new() } else { format!(" (each step behind {})", walls.join("+")) };
        format!("NONE: {}{behind}", self.first_missing())
    }

    fn first_missing(&self) -> String {
        match (&self.userns, &self.bubblewrap) {
            (Err(why), _) => format!("no user namespaces: {why}"),
            (_, Err(why)) => format!("no bubblewrap: {why}"),
            (Ok(()), Ok(_)) => "off".to_owned(),
        }
    }
}

//! Which layers of the fence there are, in words.

use std::fmt;
use std::path::{Path, PathBuf};

use super::FRESH_PROC;
use crate::domain::cpus::Cpus;
use crate::domain::view::{BUILD_DIR, HOME_DIR};
use crate::tree::FileSystem;

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

/// One layer, as a table shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Its name.
    pub name: &'static str,
    /// What it does, or why it is not there.
    pub state: Result<String, String>,
    /// What brings it, where it is not there.
    pub fix: Option<String>,
    /// Without it a fork's build is not run.
    pub core: bool,
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
    /// As plain processes of the agent's own user. The view's stacks must have no layers.
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

    /// Whether a build whose code is a stranger's (or not) may run here at all.
    ///
    /// # Errors
    /// What is missing, as a sentence of the agent's.
    pub fn admit(&self, is_strangers: bool) -> Result<(), String> {
        let missing = |core_only: bool| {
            let gone = self.table().into_iter().filter(|layer| layer.core || !core_only);
            gone.filter_map(|layer| layer.state.err().map(|why| format!("{} ({why})", layer.name))).next()
        };
        if is_strangers && let Some(gone) = missing(true) {
            return Err(format!("this agent runs no fork's build without {gone}"));
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
            Mode::Bare => return format!("NONE: {}", self.first_missing()),
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

    /// What to do about each missing layer, a sentence each; empty when none is missing.
    pub fn fixes(&self) -> Vec<String> {
        let table = self.table().into_iter();
        table
            .filter_map(|Layer { name, state, fix, .. }| Some(format!("No {name} ({}): {}", state.err()?, fix?)))
            .collect()
    }

    /// Every layer, those that others need first.
    pub fn table(&self) -> Vec<Layer> {
        fn layer<T>(
            name: &'static str,
            state: &Result<T, Missing>,
            there: impl FnOnce(&T) -> String,
            fix: impl Into<String>,
        ) -> Layer {
            let state = state.as_ref().map(there).map_err(ToString::to_string);
            Layer { name, fix: state.is_err().then(|| fix.into()), state, core: false }
        }
        let core = |layer: Layer| Layer { core: true, ..layer };
        let userns = layer(
            "user namespaces",
            &self.userns,
            |()| "user, mount and process namespaces; the end of one is the end of all in it".to_owned(),
            match &self.userns {
                Err(Missing(why)) if why.contains(FRESH_PROC) => COVERED_PROC,
                _ => CONTAINER_OR_APPARMOR,
            },
        );
        let bubblewrap = layer(
            "bubblewrap",
            &self.bubblewrap,
            String::clone,
            "install the package `bubblewrap`, 0.8 or later, where the agent's PATH finds it",
        );
        let proxy = "a step that may reach some hosts has one socket in a network of its own";
        let netns = "allow them to the agent's user (`sysctl user.max_net_namespaces`)";
        let mut table = vec![
            core(userns),
            core(bubblewrap),
            core(layer("network namespaces", &self.netns, |()| "bundles have none but their own".to_owned(), netns)),
            layer("proxy", &self.netns, |()| proxy.to_owned(), "it stands in a network namespace"),
            layer(
                "overlay",
                &self.overlay,
                |()| "sources are stacked, not copied".to_owned(),
                format!(
                    "overlay mounts need Linux 5.11 and `data.dir` on ext4, XFS or btrfs. Until then sources and \
                     snapshots are {}.",
                    Joining::Flat(self.files)
                ),
            ),
            layer(
                "landlock",
                &self.landlock,
                |version| format!("version {version}: steps write below /build, /home/build and /tmp only"),
                "a kernel of 5.19 or later that has it in `lsm=` of its command line (/sys/kernel/security/lsm)",
            ),
            layer(
                "seccomp",
                &self.seccomp,
                |()| "ptrace, bpf, io_uring, keys, mounts, new namespaces and their like are refused".to_owned(),
                "a kernel with CONFIG_SECCOMP_FILTER",
            ),
        ];
        table.extend(self.bounds());
        if self.userns.is_err() {
            // One fault explains the layers that were not tried.
            for layer in table.iter_mut().skip(1).filter(|layer| layer.state.is_err()) {
                layer.fix = None;
            }
        }
        table
    }

    /// Who ends a step that takes too much: the kernel, or a watch of the agent's.
    fn bounds(&self) -> Vec<Layer> {
        let bounded = match &self.cgroup {
            Ok(Cgroup { memory: true, pids: true, cpu: true, .. }) => {
                Ok(self.cgroup.as_ref().map_or_else(ToString::to_string, ToString::to_string))
            }
            Ok(some @ Cgroup { memory: true, pids: true, .. }) => {
                Err(format!("{some}, no cpu; a step takes what it likes of the processors"))
            }
            Ok(some) => Err(format!("{some}; the agent looks at each step's memory four times a second instead")),
            Err(why) => Err(format!("{why}; the agent looks at each step's memory four times a second instead")),
        };
        let fix = bounded.is_err().then(|| CGROUP.to_owned());
        vec![Layer { name: "control groups", state: bounded, fix, core: false }]
    }

    fn first_missing(&self) -> String {
        match (&self.userns, &self.bubblewrap) {
            (Err(why), _) => format!("no user namespaces: {why}"),
            (_, Err(why)) => format!("no bubblewrap: {why}"),
            (Ok(()), Ok(_)) => "off".to_owned(),
        }
    }
}

/// What gives user namespaces, wherever the agent runs.
const CONTAINER_OR_APPARMOR: &str = "on Ubuntu 23.10 and later load the AppArmor profile in deploy/; elsewhere `sysctl \
     user.max_user_namespaces` and, on Debian, `kernel.unprivileged_userns_clone` must not be 0; under systemd compare \
     the unit with the list at the end of deploy/hookmill.service; in Docker `docker run --security-opt \
     seccomp=unconfined --security-opt apparmor=unconfined --security-opt systempaths=unconfined`; in a Pod the \
     securityContext of deploy/pod.yaml";

/// What uncovers `/proc`.
const COVERED_PROC: &str = "parts of /proc are covered here, and then the kernel mounts no fresh one: in Docker `docker run \
     --security-opt systempaths=unconfined --security-opt seccomp=unconfined --security-opt apparmor=unconfined`; in a Pod \
     `procMount: Unmasked` and the rest of deploy/pod.yaml; under systemd no ProtectKernelTunables=, ProtectKernelLogs= or \
     ProcSubset=";

/// What gives a control group, wherever the agent runs.
const CGROUP: &str = "under systemd `Delegate=cpu memory pids` (deploy/hookmill.service has it); by hand \
     `systemd-run --user --scope -p Delegate=yes hookmill serve`; in a container a control group of its own that it can write";

#[cfg(test)]
mod tests {
    use super::{Cgroup, Cpus, FileSystem, Joining, Layers, Missing, Mode};

    fn full() -> Layers {
        let files = FileSystem { reflinks: false, tells_changes: true };
        let cgroup = Cgroup { base: "/sys/fs/cgroup/hookmill".into(), memory: true, pids: true, cpu: true };
        Layers {
            userns: Ok(()),
            overlay: Ok(()),
            bubblewrap: Ok("0.8.0".into()),
            netns: Ok(()),
            landlock: Ok(7),
            seccomp: Ok(()),
            cgroup: Ok(cgroup),
            insisted: false,
            files,
        }
    }

    #[test]
    fn layers_are_named_and_so_is_what_is_missing() {
        let check = |layers: Layers, name: &str, fixes: usize| {
            assert_eq!(layers.name(), name);
            assert_eq!(layers.fixes().len(), fixes, "{name} {:#?}", layers.fixes());
        };
        let missing = || Missing("not here".into());
        check(full(), "userns+mount+pid+net+overlay+bwrap+landlock7+seccomp+cgroup", 0);
        check(Layers { overlay: Err(missing()), ..full() }, "userns+mount+pid+net+bwrap+landlock7+seccomp+cgroup", 1);
        check(
            Layers { landlock: Err(missing()), seccomp: Err(missing()), cgroup: Err(missing()), ..full() },
            "userns+mount+pid+net+overlay+bwrap+rss-watch",
            3,
        );
        let kill_only = Cgroup { memory: false, pids: false, cpu: false, ..full().cgroup.expect("there") };
        check(
            Layers { cgroup: Ok(kill_only), ..full() },
            "userns+mount+pid+net+overlay+bwrap+landlock7+seccomp+cgroup.kill+rss-watch",
            1,
        );
        check(
            Layers { netns: Err(missing()), ..full() },
            "userns+mount+pid+overlay+bwrap+landlock7+seccomp+cgroup (DEGRADED: no network namespace, every step can \
             reach the network)",
            2,
        );
        check(Layers { bubblewrap: Err(missing()), ..full() }, "NONE: no bubblewrap: not here", 1);
        check(Layers::none("not here"), "NONE: no user namespaces: not here", 1);
    }

    #[test]
    fn a_stranger_needs_the_core_and_full_needs_all() {
        let check = |layers: Layers, strangers: bool, expected: Result<(), &str>| {
            assert_eq!(layers.admit(strangers), expected.map_err(str::to_owned));
        };
        let missing = || Missing("not here".into());
        check(full(), true, Ok(()));
        check(Layers { insisted: true, ..full() }, true, Ok(()));
        let plain = Layers { landlock: Err(missing()), cgroup: Err(missing()), ..full() };
        check(plain.clone(), true, Ok(()));
        let said = "[sandbox] require = \"full\", and this agent has no landlock (not here)";
        check(Layers { insisted: true, ..plain }, false, Err(said));
        let said = "this agent runs no fork's build without network namespaces (not here)";
        check(Layers { netns: Err(missing()), ..full() }, true, Err(said));
        check(Layers { netns: Err(missing()), ..full() }, false, Ok(()));
        check(Layers::none("off"), false, Ok(()));
        check(Layers::none("off"), true, Err("this agent runs no fork's build without user namespaces (off)"));
        let no_cpu = Cgroup { cpu: false, ..full().cgroup.expect("there") };
        let said = Layers { cgroup: Ok(no_cpu), insisted: true, ..full() }.admit(false).expect_err("no cpu");
        assert!(said.contains("no control groups (memory, pids, no cpu; a step takes"), "{said}");
        let kill_only = Cgroup { memory: false, ..full().cgroup.expect("there") };
        let said = Layers { cgroup: Ok(kill_only), insisted: true, ..full() }.admit(false).expect_err("no memory");
        assert!(said.contains("no control groups (pids, cpu; the agent looks"), "{said}");
    }

    #[test]
    fn a_bound_on_processors_that_nobody_keeps_is_said() {
        let two = Cpus::of(2.0).expect("a number");
        assert_eq!(full().unkept(two), None);
        let check = |cgroup, words: &str| {
            let said = Layers { cgroup, ..full() }.unkept(two).expect("not kept");
            let expected = format!("limits.cpus = 2 is not kept on this agent: {words}; hookmill doctor has the fix");
            assert_eq!(said, expected);
        };
        check(Err(Missing("not delegated".into())), "not delegated");
        let no_cpu = Cgroup { cpu: false, ..full().cgroup.expect("there") };
        check(Ok(no_cpu), "its control groups have memory, pids");
    }

    #[test]
    fn without_namespaces_or_bubblewrap_steps_run_bare() {
        assert_eq!(full().mode(), Mode::Confined { overlay: true, netns: true });
        assert!(full().is_sound() && full().stacks());
        assert_eq!(Layers::none("asked for").mode(), Mode::Bare);
        assert!(!Layers::none("asked for").stacks());
    }

    #[test]
    fn the_way_that_runs_is_named() {
        let check = |layers: Layers, words: &str| assert_eq!(layers.joining().to_string(), words);
        check(full(), "stacked by overlay");
        let no_overlay = Layers { overlay: Err(Missing("not here".into())), ..full() };
        check(no_overlay.clone(), "brought in by rename, else copied in parallel");
        assert!(
            no_overlay.fixes()[0].ends_with("sources and snapshots are brought in by rename, else copied in parallel.")
        );
        let on =
            |reflinks, tells_changes| Layers { files: FileSystem { reflinks, tells_changes }, ..no_overlay.clone() };
        check(on(true, true), "brought in by rename, else by reflink");
        check(on(true, false), "brought in by reflink");
        check(on(false, false), "copied in parallel");
        assert_eq!(Layers::none("asked for").joining(), Joining::Flat(FileSystem::default()));
    }
}

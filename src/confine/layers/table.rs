//! Every layer in words: what it does or why it is not there, and what brings it.

use super::{Cgroup, Joining, Layers, Missing, Mode};
use crate::confine::FRESH_PROC;

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

impl Layer {
    fn new<T>(
        name: &'static str,
        state: &Result<T, Missing>,
        there: impl FnOnce(&T) -> String,
        fix: impl Into<String>,
    ) -> Self {
        let state = state.as_ref().map(there).map_err(ToString::to_string);
        Self { name, fix: state.is_err().then(|| fix.into()), state, core: false }
    }

    fn core(self) -> Self {
        Self { core: true, ..self }
    }
}

impl Layers {
    /// What to do about each missing layer, a sentence each; empty when none is missing.
    pub fn fixes(&self) -> Vec<String> {
        let table = self.table().into_iter();
        table
            .filter_map(|Layer { name, state, fix, .. }| Some(format!("No {name} ({}): {}", state.err()?, fix?)))
            .collect()
    }

    /// Every layer, those that others need first.
    pub fn table(&self) -> Vec<Layer> {
        let mut table: Vec<Layer> =
            self.fence().into_iter().chain(self.walls()).chain(std::iter::once(self.bounds())).collect();
        if self.userns.is_err() {
            // One fault explains the layers that were not tried.
            for layer in table.iter_mut().skip(1).filter(|layer| layer.state.is_err()) {
                layer.fix = None;
            }
        }
        table
    }

    /// What shuts steps off from the machine, and what they see of it.
    fn fence(&self) -> [Layer; 5] {
        let userns = match &self.userns {
            Err(Missing(why)) if why.contains(FRESH_PROC) => COVERED_PROC,
            _ => CONTAINER_OR_APPARMOR,
        };
        let door = match &self.netns {
            Ok(()) => {
                "let the agent's user raise the loopback of a network namespace of its own (`unshare -rn ip link set lo up`)"
            }
            Err(_) => "it stands in a network namespace",
        };
        let overlay = format!(
            "overlay mounts need Linux 5.11 and `data.dir` on ext4, XFS or btrfs. Until then sources and snapshots are {}.",
            Joining::Flat(self.files)
        );
        [
            Layer::new(
                "user namespaces",
                &self.userns,
                |()| "user, mount and process namespaces; the end of one is the end of all in it".to_owned(),
                userns,
            )
            .core(),
            Layer::new(
                "bubblewrap",
                &self.bubblewrap,
                String::clone,
                "install the package `bubblewrap`, 0.8 or later, where the agent's PATH finds it",
            )
            .core(),
            Layer::new(
                "network namespaces",
                &self.netns,
                |()| "bundles have none but their own".to_owned(),
                "allow them to the agent's user (`sysctl user.max_net_namespaces`)",
            )
            .core(),
            Layer::new(
                "proxy",
                &self.door,
                |()| "a step that may reach some hosts has one socket in a network of its own".to_owned(),
                door,
            ),
            Layer::new("overlay", &self.overlay, |()| "sources are stacked, not copied".to_owned(), overlay),
        ]
    }

    /// What stands around each step inside the fence, or without one.
    fn walls(&self) -> [Layer; 2] {
        let files = match self.mode() {
            Mode::Confined { .. } => "steps write below /build, /home/build and /tmp only",
            Mode::Bare => "steps read the machine's programs and what is their build's own, and write that",
        };
        [
            Layer::new(
                "landlock",
                &self.landlock,
                |version| format!("version {version}: {files}"),
                "a kernel of 5.19 or later that has it in `lsm=` of its command line (/sys/kernel/security/lsm)",
            ),
            Layer::new(
                "seccomp",
                &self.seccomp,
                |()| "ptrace, bpf, io_uring, keys, mounts, new namespaces and their like are refused".to_owned(),
                "a kernel with CONFIG_SECCOMP_FILTER",
            ),
        ]
    }

    /// Who ends a step that takes too much: the kernel, or a watch of the agent's.
    fn bounds(&self) -> Layer {
        const INSTEAD: &str = "the agent looks at each step's memory four times a second instead";
        let state = match &self.cgroup {
            Ok(all @ Cgroup { memory: true, pids: true, cpu: true, .. }) => Ok(all.to_string()),
            Ok(some @ Cgroup { memory: true, pids: true, .. }) => {
                Err(format!("{some}, no cpu; a step takes what it likes of the processors"))
            }
            Ok(some) => Err(format!("{some}; {INSTEAD}")),
            Err(why) => Err(format!("{why}; {INSTEAD}")),
        };
        let fix = state.is_err().then(|| CGROUP.to_owned());
        Layer { name: "control groups", state, fix, core: false }
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

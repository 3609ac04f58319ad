//! Which layers of the fence there are, in words.

use std::fmt;
use std::path::{Path, PathBuf};

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
    /// What the file system of the builds can do where nothing can be stacked.
    pub files: FileSystem,
}

/// Why a layer is missing, in the words of what was tried.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Missing(pub String);

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

    /// Every layer is there.
    pub fn is_full(&self) -> bool {
        self.mode() == Mode::Confined { overlay: true, netns: true }
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
        if !netns {
            name.push_str(" (DEGRADED: no network namespace, every step can reach the network)");
        }
        name
    }

    /// What to do about each missing layer, a sentence each; empty when none is missing.
    pub fn fixes(&self) -> Vec<String> {
        let mut fixes = Vec::new();
        if let Err(why) = &self.userns {
            fixes.push(format!(
                "No user namespaces ({why}): on Ubuntu 23.10 and later load the AppArmor profile in deploy/; elsewhere \
                 `sysctl user.max_user_namespaces` and, on Debian, `kernel.unprivileged_userns_clone` must not be 0; in a \
                 container allow them (docker: `--security-opt seccomp=unconfined --security-opt apparmor=unconfined`)."
            ));
            return fixes;
        }
        if let Err(why) = &self.bubblewrap {
            fixes.push(format!("No bubblewrap ({why}): install the package `bubblewrap`, 0.8 or later."));
        }
        if let Err(why) = &self.overlay {
            fixes.push(format!(
                "No overlay mounts ({why}): they need Linux 5.11 and `data.dir` on ext4, XFS or btrfs. Until then \
                 sources and snapshots are {}.",
                Joining::Flat(self.files)
            ));
        }
        if let (Ok(_), Err(why)) = (&self.bubblewrap, &self.netns) {
            fixes.push(format!(
                "No network namespaces ({why}): allow them to the agent's user (`sysctl user.max_net_namespaces`)."
            ));
        }
        fixes
    }

    fn first_missing(&self) -> String {
        match (&self.userns, &self.bubblewrap) {
            (Err(why), _) => format!("no user namespaces: {why}"),
            (_, Err(why)) => format!("no bubblewrap: {why}"),
            (Ok(()), Ok(_)) => "off".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{FileSystem, Joining, Layers, Missing, Mode};

    fn full() -> Layers {
        let files = FileSystem { reflinks: false, tells_changes: true };
        Layers { userns: Ok(()), overlay: Ok(()), bubblewrap: Ok("0.8.0".into()), netns: Ok(()), files }
    }

    #[test]
    fn layers_are_named_and_so_is_what_is_missing() {
        let check = |layers: Layers, name: &str, fixes: usize| {
            assert_eq!(layers.name(), name);
            assert_eq!(layers.fixes().len(), fixes, "{name}");
        };
        let missing = || Missing("not here".into());
        check(full(), "userns+mount+pid+net+overlay+bwrap", 0);
        check(Layers { overlay: Err(missing()), ..full() }, "userns+mount+pid+net+bwrap", 1);
        check(
            Layers { netns: Err(missing()), ..full() },
            "userns+mount+pid+overlay+bwrap (DEGRADED: no network namespace, every step can reach the network)",
            1,
        );
        check(Layers { bubblewrap: Err(missing()), ..full() }, "NONE: no bubblewrap: not here", 1);
        check(Layers { userns: Err(missing()), ..full() }, "NONE: no user namespaces: not here", 1);
    }

    #[test]
    fn without_namespaces_or_bubblewrap_steps_run_bare() {
        assert_eq!(full().mode(), Mode::Confined { overlay: true, netns: true });
        assert!(full().is_full() && full().stacks());
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

//! The fence around a build's steps.
//!
//! One **holder** process a build owns the namespaces and the joined view and starts every step in it, so that two
//! steps see one tree and the holder's end, however it comes, is the end of everything that a step ever started.
//! [`probe`] tries on this very host which layers it gives; [`Layers`] names them, and what is missing, for pages
//! and logs. Where the host gives none, the same holder runs the same steps without a fence, each behind what it can put
//! around itself, and says so.
//!
//! The other side of the fence is `inside::holder`: the same binary, entered as `hookmill internal holder`.

mod layers;

#[cfg(not(target_os = "linux"))]
mod elsewhere;
#[cfg(target_os = "linux")]
mod linux;

#[cfg(not(target_os = "linux"))]
pub use elsewhere::{Holder, Visit, look_for_cgroup, probe, probe_bare, take_cgroup};
pub use layers::{Cgroup, Joining, Layer, Layers, Missing, Mode, Seen};
#[cfg(target_os = "linux")]
pub use linux::{Holder, Visit, bubblewrap, launch, look_for_cgroup, probe, probe_bare, take_cgroup, wire};

/// What a holder could not do where parts of this host's `/proc` are covered: the kernel then mounts no other one.
pub const FRESH_PROC: &str = "mount a fresh /proc";

/// Where a step with a door finds it, in its own network: the proxy that its `HTTP_PROXY` names.
pub const DOOR: std::net::SocketAddr =
    std::net::SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 3128);

/// How many further doors a step may have.
pub const DOORS: usize = 16;

/// Why a build could not be given its fence, or a step not be started in it. Ours to mend, never the build's fault.
#[derive(Debug, thiserror::Error)]
pub enum HolderError {
    /// The holder process could not be started.
    #[error("starting the holder process {exe}: {source}", exe = exe.display())]
    Spawn {
        /// Our own binary, as it was called.
        exe: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The holder is gone; everything inside it has ended.
    #[error("the holder process ended unexpectedly; everything in it was killed")]
    Lost,
    /// The holder could not make namespaces or mounts.
    #[error("the holder could not {0}")]
    Refused(String),
    /// A step's process could not be started.
    #[error("starting {program:?}: {why}")]
    Start {
        /// The program of the step.
        program: String,
        /// What the system said.
        why: String,
    },
    /// A pipe or socket failed.
    #[error("speaking with the holder: {0}")]
    Io(#[from] std::io::Error),
}

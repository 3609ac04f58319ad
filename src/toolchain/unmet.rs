//! Why a wanted tool can't be had, and whose fault that is.

use super::Missing;
use std::io;
use std::path::{Path, PathBuf};

/// A tool that a step wants and can't be given.
#[derive(Debug, thiserror::Error)]
pub enum Unmet {
    /// What was asked for is no version or range.
    #[error("{asked_by} asks for {tool} {version:?}, which is no version that npm could read")]
    Unreadable {
        /// The tool.
        tool: String,
        /// The words.
        version: String,
        /// Who asked.
        asked_by: String,
    },
    /// Nobody has published such a version.
    #[error("{tool} {version} is asked for by {asked_by}; {there_is}")]
    NoSuchVersion {
        /// The tool.
        tool: String,
        /// The range that was asked for.
        version: String,
        /// Who asked.
        asked_by: String,
        /// What there is: `the registry has up to 26.10.0`.
        there_is: String,
    },
    /// There are no binaries for this machine.
    #[error("{tool} {version} is asked for by {asked_by}, and there are no binaries of {tool} for {platform}; {mend}")]
    Platform {
        /// The tool.
        tool: String,
        /// The range that was asked for.
        version: String,
        /// Who asked.
        asked_by: String,
        /// `linux arm (32 bit)`, `linux x64 (musl)`.
        platform: String,
        /// What the operator can do.
        mend: String,
    },
    /// The tool is what the repository asks for by name, and not by content.
    #[error("{asked_by} says that {tool} {version} hashes to {wanted}…, and it hashes to {found}…; correct the hash")]
    WrongHash {
        /// The tool.
        tool: String,
        /// Its version.
        version: String,
        /// Who asked.
        asked_by: String,
        /// The beginning of the repository's hash, with its algorithm.
        wanted: String,
        /// The beginning of what was fetched.
        found: String,
    },
    /// What came is not what its publisher signed for, or is no archive.
    #[error("{what} from {origin} was refused: {why}")]
    Refused {
        /// The package or file.
        what: String,
        /// Scheme, host and port.
        origin: String,
        /// What is wrong with it.
        why: String,
    },
    /// Nobody answered, or not with what was asked for. Another try may succeed.
    #[error("{what} could not be fetched: {why}")]
    Outage {
        /// The package or file.
        what: String,
        /// What went wrong, with the host.
        why: String,
    },
    /// The agent has no npm to learn its registry from.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// The agent's npm names no registry.
    #[error("{tool} {version} is asked for by {asked_by}, and no registry to get it from is known; {mend}")]
    NoRegistry {
        /// The tool.
        tool: String,
        /// The range that was asked for.
        version: String,
        /// Who asked.
        asked_by: String,
        /// What the operator can do.
        mend: String,
    },
    /// The data directory could not be written.
    #[error("{} could not be written: {source}; free space or correct data.dir", path.display())]
    Disk {
        /// The path.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Whoever wanted it has gone.
    #[error("stopped")]
    Stopped,
}

impl Unmet {
    /// Whether the repository is wrong, and not the agent or the registry.
    pub fn is_the_repositorys(&self) -> bool {
        matches!(self, Unmet::Unreadable { .. } | Unmet::WrongHash { .. })
    }

    /// Whether the same wish may be met a little later.
    pub fn may_pass(&self) -> bool {
        matches!(self, Unmet::Outage { .. })
    }

    pub(super) fn disk(path: &Path) -> impl FnOnce(io::Error) -> Unmet + use<> {
        let path = path.to_path_buf();
        move |source| Unmet::Disk { path, source }
    }
}

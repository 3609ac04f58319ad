//! Whose install scripts run.

use std::collections::BTreeSet;

/// `scripts` of the server's configuration: what runs by itself when packages are installed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Scripts {
    /// Those of every package, as its manager has it.
    #[default]
    All,
    /// Of dependencies only these packages', by name; and the repository's own, which its bundle could run as well.
    Listed(BTreeSet<String>),
    /// Nobody's.
    None,
}

impl Scripts {
    /// Whether managers run what they like.
    pub fn run_all(&self) -> bool {
        *self == Scripts::All
    }

    /// Whether those of the repository's own packages run.
    pub fn run_own(&self) -> bool {
        *self != Scripts::None
    }

    /// Whether those of any dependency run.
    pub fn run_some(&self) -> bool {
        match self {
            Scripts::All => true,
            Scripts::Listed(packages) => !packages.is_empty(),
            Scripts::None => false,
        }
    }

    /// For keys and people: `run`, `do not run`, `run for esbuild sharp`.
    pub fn words(&self) -> String {
        match self {
            Scripts::All => "run".to_owned(),
            Scripts::Listed(packages) if packages.is_empty() => "run for no dependency".to_owned(),
            Scripts::Listed(packages) => {
                format!("run for {}", packages.iter().map(String::as_str).collect::<Vec<_>>().join(" "))
            }
            Scripts::None => "do not run".to_owned(),
        }
    }
}

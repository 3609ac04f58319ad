//! The exact keys: everything that an install, a bundle or a verdict depends on, by name and value.
//!
//! Two trees with equal inputs get the same snapshot, so what is missing here is a wrong build, and what is too much is
//! a needless install. `CI_*`, tokens and times are in no key; of secrets the names are, which keeps what was made with one
//! from builds that have none. What can't be known, because a script of the
//! repository may read any file, is not kept, with a sentence that says how to tell us.

mod bower;
mod installs;
mod manifests;
mod scripts;
mod settings;
mod sources;
mod tools;
mod written;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crate::domain::listing::Listing;
use crate::domain::scripts::Scripts;
use crate::domain::snapshot::{Inputs, Level};
use crate::domain::spec::{Plan, StepSpec};
use crate::tree::TreeError;

pub use installs::installs;
pub use tools::{verdict, work};
pub use written::{Cleaned, Written, hidden, keepable};

/// How long what has no lockfile is kept: ranges are looked up anew after it.
pub const UNLOCKED: Duration = Duration::from_secs(24 * 60 * 60);

/// What keys are made of.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// What the build does.
    pub plan: &'a Plan,
    /// The files that say how.
    pub listing: &'a Listing,
    /// The root of the checked-out files.
    pub sources: &'a Path,
    /// By step: its tools and their exact versions.
    pub tools: &'a BTreeMap<String, Vec<(String, String)>>,
    /// The machine that installs are made for.
    pub platform: Platform<'a>,
    /// What the root file system is known by that steps see instead of the machine's own.
    pub root: Option<&'a str>,
    /// Where steps see the tree: absolute paths land in what they install.
    pub build_dir: &'a str,
    /// Where steps see their HOME.
    pub home: &'a str,
    /// What the server adds to every step's environment.
    pub env: &'a BTreeMap<String, String>,
    /// The registry that everything comes from which no other one serves.
    pub registry: Option<&'a str>,
    /// The registries of the build: address and scopes.
    pub registries: &'a [(String, Vec<String>)],
    /// Whose install scripts run.
    pub scripts: &'a Scripts,
    /// By step: the names of the secrets that it is given. What it makes may hold their values.
    pub secrets: &'a BTreeMap<String, Vec<String>>,
    /// `[cache] inputs`: globs over what the repository's own install scripts read.
    pub declared: &'a [String],
}

/// What a native module is compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Platform<'a> {
    /// `linux`, `macos`.
    pub os: &'a str,
    /// `x86_64`, `aarch64`.
    pub arch: &'a str,
    /// `glibc`, `musl`; empty where there is but one.
    pub libc: &'a str,
}

/// Installs that are kept together.
#[derive(Debug)]
pub struct Group {
    /// [`Level::Packages`] or [`Level::Bower`].
    pub level: Level,
    /// The names of its steps, in plan order.
    pub steps: Vec<String>,
    /// What they depend on, or why that can't be known.
    pub inputs: Result<Inputs, NotKept>,
    /// The folders that bower writes, relative to the root; for packages those of bower runs in their scripts.
    pub directories: Vec<String>,
    /// How old a snapshot may be; `None`: any age.
    pub expires: Option<Duration>,
}

/// Why nothing is kept of installs. Each is a sentence for people: the cause, and what mends it.
#[derive(Debug, thiserror::Error)]
pub enum NotKept {
    /// Versions are decided by each install.
    #[error("{step} has no lockfile, so what it installs is decided anew each time; commit one")]
    NoLockfile {
        /// The step.
        step: String,
    },
    /// The lockfile does not decide.
    #[error(
        "`{command}` may install what {lockfile} does not hold; bring the lockfile up to date and install with `{fix}`"
    )]
    NotFrozen {
        /// The step's command.
        command: String,
        /// The lockfile's path.
        lockfile: String,
        /// The command that installs exactly the lockfile.
        fix: &'static str,
    },
    /// A script of the repository's own.
    #[error("{place} `{command}` may read any file; name what it reads under [cache] inputs in .hookmill.toml")]
    Script {
        /// The file and the script: `package.json's postinstall`.
        place: String,
        /// The command in it that is not known.
        command: String,
    },
    /// A hook of a package manager that is more than itself.
    #[error("{path} is a program that uses {what}; name what it reads under [cache] inputs in .hookmill.toml")]
    Code {
        /// Its path.
        path: String,
        /// The words that tell.
        what: &'static str,
    },
    /// A dependency from somewhere else.
    #[error("{path} names {text:?}, which is outside the repository; bring it inside or publish it")]
    Outside {
        /// The manifest.
        path: String,
        /// What is written there.
        text: String,
    },
    /// A file that is a link to nowhere, or out of the tree.
    #[error("{path} is a link that leads to no file of the repository; commit the file itself")]
    Link {
        /// Its path.
        path: String,
    },
    /// A manifest that nobody can read.
    #[error("{path} is not JSON; correct it")]
    NotJson {
        /// Its path.
        path: String,
    },
    /// An install changed a file of the commit.
    #[error(
        "an install changed {path}, a file of the commit, and a later commit's own would be hidden; let no install script change it, or name it under [cache] inputs in .hookmill.toml"
    )]
    Changed {
        /// Its path.
        path: String,
    },
    /// An install removed a file or a folder of the commit.
    #[error("an install removed {path}, which is part of the commit; let no install script remove it")]
    Removed {
        /// Its path.
        path: String,
    },
    /// Dependencies that the repository holds itself.
    #[error("{path} is committed, so installs begin from it; take it out of the repository: git rm -r --cached {path}")]
    Committed {
        /// Its path.
        path: String,
    },
    /// The sources could not be read.
    #[error("the checked-out files can't be read: {0}")]
    Unreadable(#[from] TreeError),
}

impl Facts<'_> {
    /// What every level depends on.
    fn surroundings(&self, inputs: &mut Inputs) {
        let Platform { os, arch, libc } = self.platform;
        inputs.add("platform", [os, arch, libc].join(" ").trim_end());
        if let Some(root) = self.root {
            inputs.add("root file system", root);
        }
        inputs.add("folder of the build", self.build_dir);
        inputs.add("HOME", self.home);
        variables(inputs, "env", self.env);
        inputs.add("install scripts", self.scripts.words());
        if let Some(registry) = self.registry {
            inputs.add("registry", settings::without_user(registry));
        }
        for (address, scopes) in self.registries {
            inputs.add(format!("registry of {}", scopes.join(" ")), settings::without_user(address));
        }
    }

    /// What a step is: its command, folder, environment and tools.
    fn step(&self, inputs: &mut Inputs, step: &StepSpec) {
        let name = &step.name;
        for (tool, version) in self.tools.get(name).into_iter().flatten() {
            inputs.add(format!("{tool} of {name}"), version.as_str());
        }
        inputs.add(format!("{name}: command"), step.argv.join(" "));
        if step.argv.iter().any(|word| word.contains(' ')) {
            // Two commands may read alike; their words do not.
            inputs.add_bytes(format!("{name}: words"), step.argv.join("\0").as_bytes());
        }
        inputs.add(format!("{name}: folder"), step.dir.as_str());
        if !step.then.is_empty() {
            let then = step.then.iter().map(|then| format!("{} in {}", then.argv.join(" "), then.dir));
            inputs.add(format!("{name}: then"), then.collect::<Vec<_>>().join("; "));
        }
        variables(inputs, &format!("{name}: env"), &step.env);
        if let Some(secrets) = self.secrets.get(name) {
            inputs.add(format!("secrets given to {name}"), secrets.join(" "));
        }
    }
}

/// Adds variables: names, and the values of those whose name speaks of no secret.
fn variables(inputs: &mut Inputs, place: &str, env: &BTreeMap<String, String>) {
    const SECRET: [&str; 8] = ["TOKEN", "SECRET", "PASSW", "CREDENTIAL", "AUTH", "_KEY", "APIKEY", "PRIVATE"];
    for (name, value) in env.iter().filter(|(name, _)| !name.starts_with("CI_")) {
        let upper = name.to_ascii_uppercase();
        let is_secret = SECRET.iter().any(|word| upper.contains(word));
        inputs.add(format!("{place} {name}"), if is_secret { "(secret)" } else { value });
    }
}

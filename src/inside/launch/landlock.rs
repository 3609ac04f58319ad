//! Landlock: the kernel keeps for each step a list of where it may read and write.
//!
//! In a fence it holds where a mount does not: no device is made anywhere, nothing is renamed out of the build's
//! directories. Without a fence it is what closes the machine's files, and other processes' environment and memory: what
//! is under it can't trace what is not under the very same. From the sixth version of its interface on it keeps signals
//! to the step's own processes, and abstract sockets of the host from a step with an open network.

use std::path::Path;

use landlock::{
    ABI, Access as _, AccessFs, BitFlags, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetStatus, Scope,
};

use crate::confine::launch::{Access, Opened};

/// The newest version whose rules are ours; on an older kernel what that one knows.
const KNOWN: ABI = ABI::V6;

/// Puts it on this process, for ever.
pub(super) fn put_on(opened: &[Opened]) -> Result<(), String> {
    let all = AccessFs::from_all(KNOWN);
    let created = Ruleset::default().handle_access(all).and_then(|set| set.scope(Scope::from_all(KNOWN)));
    let mut set = created.and_then(Ruleset::create).map_err(|error| error.to_string())?;
    for Opened { path, access } in opened {
        set = allow(set, path, rights(*access)).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let status = set.restrict_self().map_err(|error| error.to_string())?;
    match status.ruleset {
        RulesetStatus::NotEnforced => Err("the kernel took the rules and enforces none".to_owned()),
        RulesetStatus::PartiallyEnforced | RulesetStatus::FullyEnforced => Ok(()),
    }
}

fn rights(access: Access) -> BitFlags<AccessFs> {
    match access {
        Access::Read => AccessFs::from_read(KNOWN),
        Access::Write => AccessFs::from_all(KNOWN) & !(AccessFs::MakeChar | AccessFs::MakeBlock),
        Access::Use => AccessFs::WriteFile | AccessFs::Truncate | AccessFs::IoctlDev,
    }
}

fn allow(set: RulesetCreated, path: &Path, rights: BitFlags<AccessFs>) -> Result<RulesetCreated, String> {
    let place = PathFd::new(path).map_err(|error| error.to_string())?;
    // The kernel refuses a rule that gives a file what only a folder can have.
    let rights = if path.is_dir() { rights } else { rights & AccessFs::from_file(KNOWN) };
    set.add_rule(PathBeneath::new(place, rights)).map_err(|error| error.to_string())
}

//! Landlock: on top of what is mounted how, the kernel keeps for each step a list of where it may write.
//!
//! It holds where a mount does not: no device is made anywhere, nothing is renamed out of the build's directories, and
//! (from the sixth version of its interface on) no abstract socket of the host is spoken to by a step with an open
//! network.

use landlock::{
    ABI, Access, AccessFs, BitFlags, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr,
    RulesetStatus, Scope,
};

use crate::domain::view::{BUILD_DIR, HOME_DIR};

/// The newest version whose rules are ours; on an older kernel what that one knows.
const KNOWN: ABI = ABI::V6;

/// Puts it on this process, for ever.
pub(super) fn put_on() -> Result<(), String> {
    let all = AccessFs::from_all(KNOWN);
    let write = all & !(AccessFs::MakeChar | AccessFs::MakeBlock);
    let use_files = AccessFs::WriteFile | AccessFs::Truncate | AccessFs::IoctlDev;
    let rules: [(&str, BitFlags<AccessFs>); 7] = [
        ("/", AccessFs::from_read(KNOWN)),
        (BUILD_DIR, write),
        (HOME_DIR, write),
        ("/tmp", write),
        ("/dev/shm", write),
        ("/dev", use_files),
        // Of its own processes only: their names, their chance to be ended first.
        ("/proc", use_files),
    ];
    let created = Ruleset::default().handle_access(all).and_then(|set| set.scope(Scope::from_all(KNOWN)));
    let mut set = created.and_then(Ruleset::create).map_err(|error| error.to_string())?;
    for (path, access) in rules {
        set = allow(set, path, access).map_err(|error| format!("{path}: {error}"))?;
    }
    let status = set.restrict_self().map_err(|error| error.to_string())?;
    match status.ruleset {
        RulesetStatus::NotEnforced => Err("the kernel took the rules and enforces none".to_owned()),
        RulesetStatus::PartiallyEnforced | RulesetStatus::FullyEnforced => Ok(()),
    }
}

fn allow(set: RulesetCreated, path: &str, access: BitFlags<AccessFs>) -> Result<RulesetCreated, String> {
    let place = PathFd::new(path).map_err(|error| error.to_string())?;
    set.add_rule(PathBeneath::new(place, access)).map_err(|error| error.to_string())
}

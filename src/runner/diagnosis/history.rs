//! git in a step: no repository, or less history than a script asks for.

use super::{Diagnosis, mend};

/// Reads what git said to a script.
pub(super) fn diagnose(output: &str) -> Option<Diagnosis> {
    let says = |signs: &[&str]| output.lines().find(|line| signs.iter().any(|sign| line.contains(sign)));
    if says(&["No names found, cannot describe anything", "No tags can describe", "No annotated tags can describe"])
        .is_some()
    {
        return Some(
            Diagnosis::theirs(
                "git describe finds no tag: only the commit was fetched; [checkout] depth = 0, tags = true",
            )
            .mended_by(mend::history(true)),
        );
    }
    if let Some(line) = says(&SHALLOW) {
        let said = line.trim().trim_start_matches("fatal: ");
        let said = said.split(": unknown revision").next().unwrap_or(said);
        return Some(
            Diagnosis::theirs(format!("git sees one commit only ({said}); [checkout] depth = 0 fetches the history"))
                .mended_by(mend::history(false)),
        );
    }
    says(&["fatal: not a git repository"]).map(|_| {
        Diagnosis::theirs(
            "a script asks git, and this tree is not a git repository; it has to do without, or ask CI_COMMIT_SHA",
        )
        .mended_by(
            "# in the script: the commit is in the environment of every step\n${CI_COMMIT_SHA:-$(git rev-parse HEAD)}",
        )
    })
}

/// What git says of commits and branches that were not fetched.
const SHALLOW: [&str; 6] = [
    "unknown revision or path not in the working tree",
    "fatal: bad revision",
    "fatal: Not a valid object name",
    "fatal: Invalid symmetric difference expression",
    ": no merge base",
    "fatal: Not a valid commit name",
];

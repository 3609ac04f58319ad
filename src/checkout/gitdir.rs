//! The `.git` that the steps see: a detached HEAD, borrowed objects, no credential.

use std::collections::{BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

use git2::{Oid, Repository};
use serde::{Deserialize, Serialize};

use super::refusal::Stop;
use crate::tree::{Dir, NewFile, TreeError};

/// What a workspace's `.git` says; equal heads need no writing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    /// The commit at which HEAD stands.
    pub(super) commit: String,
    /// `origin`, without credentials.
    pub(super) origin: Option<String>,
    /// Folders of objects, under the paths by which the steps see them.
    pub(super) alternates: Vec<PathBuf>,
    /// Commits whose parents are not shown.
    pub(super) shallow: BTreeSet<String>,
}

/// The commits at which a history of `depth` commits is cut off; none for a whole history (0).
pub(super) fn cut_off(repo: &Repository, commit: Oid, depth: u32) -> Result<BTreeSet<String>, Stop> {
    let mut cut = BTreeSet::new();
    let mut seen = BTreeSet::from([commit]);
    let mut waiting = VecDeque::from([(commit, 1)]);
    while depth > 0
        && let Some((id, at)) = waiting.pop_front()
    {
        let parents: Vec<Oid> = repo.find_commit(id)?.parent_ids().collect();
        if at < depth {
            waiting.extend(parents.into_iter().filter(|&id| seen.insert(id)).map(|id| (id, at + 1)));
        } else if !parents.is_empty() {
            cut.insert(id.to_string());
        }
    }
    Ok(cut)
}

/// Writes `.git` anew in `src`, without its index.
pub(super) fn write(src: &Dir, head: &Head) -> Result<(), TreeError> {
    const PLAIN: NewFile = NewFile { executable: false, modified: None };
    src.remove(Path::new(".git"))?;
    for folder in ["objects/info", "objects/pack", "refs/heads", "refs/tags", "info"] {
        src.make_dir(&Path::new(".git").join(folder))?;
    }
    let git = src.open_dir(Path::new(".git"))?;
    let file = |name: &str, text: String| git.write_new(Path::new(name), text.as_bytes(), PLAIN);
    file("HEAD", format!("{}\n", head.commit))?;
    file("config", config(head.origin.as_deref()))?;
    let lines = |lines: Vec<String>| lines.into_iter().map(|line| line + "\n").collect::<String>();
    file("objects/info/alternates", lines(head.alternates.iter().map(|path| path.display().to_string()).collect()))?;
    if !head.shallow.is_empty() {
        file("shallow", lines(head.shallow.iter().cloned().collect()))?;
    }
    Ok(())
}

/// The index holds sizes and the times that we gave the files. A step sees the same files through
/// an overlay or in a copy, with other inodes, owners and change times: `checkStat = minimal` and
/// `trustctime = false` keep those out of it, so that `git status` need not read every file.
fn config(origin: Option<&str>) -> String {
    let core = "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n\tlogallrefupdates = false\n\
                \tcheckStat = minimal\n\ttrustctime = false\n[gc]\n\tauto = 0\n";
    match origin {
        Some(url) => {
            let url = url.replace('\\', "\\\\").replace('"', "\\\"");
            format!("{core}[remote \"origin\"]\n\turl = \"{url}\"\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n")
        }
        None => core.to_owned(),
    }
}

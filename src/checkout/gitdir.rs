//! The `.git` that the steps see: a detached HEAD, borrowed objects, no credential.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};

use git2::{Oid, Repository};
use serde::{Deserialize, Serialize};

use super::refusal::Stop;
use crate::tree::{Dir, NewFile, TreeError};

/// What a workspace's `.git` says; equal heads need no writing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    /// The commit at which HEAD stands.
    pub(super) commit: String,
    /// `origin`, without credentials.
    pub(super) origin: Option<String>,
    /// Folders of objects, under the paths by which the steps see them.
    pub(super) alternates: Vec<PathBuf>,
    /// Commits whose parents are not shown.
    pub(super) shallow: BTreeSet<String>,
    /// Tags by their full names, with the ids at which they stand.
    pub(super) tags: BTreeMap<String, String>,
    /// Submodules that are there: their names and addresses.
    pub(super) submodules: BTreeMap<String, String>,
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
    file("config", config(head))?;
    let lines = |lines: Vec<String>| lines.into_iter().map(|line| line + "\n").collect::<String>();
    file("objects/info/alternates", lines(head.alternates.iter().map(|path| path.display().to_string()).collect()))?;
    if !head.tags.is_empty() {
        // No header: git then looks at each tag itself to see whether it is annotated (git-pack-refs(1)).
        file("packed-refs", lines(head.tags.iter().map(|(name, id)| format!("{id} {name}")).collect()))?;
    }
    if !head.shallow.is_empty() {
        file("shallow", lines(head.shallow.iter().cloned().collect()))?;
    }
    Ok(())
}

/// The index holds sizes and the times that we gave the files. A step sees the same files through
/// an overlay or in a copy, with other inodes, owners and change times: `checkStat = minimal` and
/// `trustctime = false` keep those out of it, so that `git status` need not read every file.
pub(super) fn config(head: &Head) -> String {
    let mut text =
        "[core]\n\trepositoryformatversion = 0\n\tfilemode = true\n\tbare = false\n\tlogallrefupdates = false\n\
                    \tcheckStat = minimal\n\ttrustctime = false\n[gc]\n\tauto = 0\n"
            .to_owned();
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    if let Some(url) = &head.origin {
        let url = quoted(url);
        text += &format!("[remote \"origin\"]\n\turl = \"{url}\"\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n");
    }
    for (name, url) in &head.submodules {
        text += &format!("[submodule \"{}\"]\n\tactive = true\n\turl = \"{}\"\n", quoted(name), quoted(url));
    }
    text
}

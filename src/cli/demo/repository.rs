//! Bare git repositories, written without a work tree.

use std::path::Path;

use git2::{Index, IndexEntry, IndexTime, Oid, Repository, RepositoryInitOptions, Signature, Time};

use crate::domain::repo::CommitId;

use super::sample::Tree;

/// What a commit says about itself.
#[derive(Debug, Clone)]
pub(super) struct Message<'a> {
    /// The subject line.
    pub subject: &'a str,
    /// Seconds since 1970, UTC.
    pub seconds: i64,
}

/// Who commits in the sample.
pub(super) const AUTHOR: (&str, &str) = ("Ada", "ada@example.invalid");

/// The mode of a plain file in a git tree.
const PLAIN_FILE: u32 = 0o100_644;

/// A bare repository whose default branch is `main`, which gives any commit that is asked for by its id, as forges do.
pub(super) fn create(path: &Path) -> Result<Repository, git2::Error> {
    let repository =
        Repository::init_opts(path, RepositoryInitOptions::new().bare(true).initial_head("main").mkpath(true))?;
    repository.config()?.set_bool("uploadpack.allowAnySHA1InWant", true)?;
    Ok(repository)
}

/// Commits a tree on top of `main`.
pub(super) fn commit(repository: &Repository, tree: &Tree, message: &Message<'_>) -> Result<CommitId, git2::Error> {
    let tree = repository.find_tree(write_tree(repository, tree)?)?;
    let who = Signature::new(AUTHOR.0, AUTHOR.1, &Time::new(message.seconds, 0))?;
    let parent = repository.refname_to_id("refs/heads/main").ok().map(|id| repository.find_commit(id)).transpose()?;
    let parents: Vec<&git2::Commit<'_>> = parent.iter().collect();
    let id =
        repository.commit(Some("refs/heads/main"), &who, &who, &format!("{}\n", message.subject), &tree, &parents)?;
    Ok(id.to_string().parse().expect("git writes ids as lower-case hex"))
}

/// Tags the tip of `main`.
pub(super) fn tag(repository: &Repository, name: &str) -> Result<(), git2::Error> {
    let tip = repository.refname_to_id("refs/heads/main")?;
    repository.reference(&format!("refs/tags/{name}"), tip, false, "release").map(drop)
}

fn write_tree(repository: &Repository, tree: &Tree) -> Result<Oid, git2::Error> {
    let mut index = Index::new()?;
    for (path, content) in tree {
        index.add(&IndexEntry {
            ctime: IndexTime::new(0, 0),
            mtime: IndexTime::new(0, 0),
            dev: 0,
            ino: 0,
            mode: PLAIN_FILE,
            uid: 0,
            gid: 0,
            file_size: 0,
            id: repository.blob(content.as_bytes())?,
            flags: 0,
            flags_extended: 0,
            path: path.clone().into_bytes(),
        })?;
    }
    index.write_tree_to(repository)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_stand_on_each_other_and_tags_on_commits() {
        let folder = tempfile::tempdir().expect("a folder");
        let repository = create(&folder.path().join("a/shop.git")).expect("created");
        let tree = |text: &str| Tree::from([("src/deep/a.js".to_owned(), text.to_owned())]);
        let message = Message { subject: "First", seconds: 1_700_000_000 };
        let first = commit(&repository, &tree("1"), &message).expect("committed");
        tag(&repository, "1.0.0").expect("tagged");
        let second = commit(&repository, &tree("2"), &message).expect("committed");
        let second = repository.find_commit(second.as_str().parse().expect("an id")).expect("there");
        assert_eq!(second.parent_id(0).expect("a parent").to_string(), first.as_str());
        let file = second.tree().expect("a tree").get_path(Path::new("src/deep/a.js")).expect("there");
        assert_eq!(repository.find_blob(file.id()).expect("a blob").content(), b"2");
        assert_eq!(repository.refname_to_id("refs/tags/1.0.0").expect("there").to_string(), first.as_str());
    }
}

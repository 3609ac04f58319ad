//! What `.hookmill.toml` says about the checkout itself, read from the commit that is checked out.

use git2::{ObjectType, Oid, Repository};

use crate::config::repo_file::{self, Checkout, RepoFile};

/// Longer files are refused by their reader too.
const MAX_BYTES: usize = 2 << 20;

/// The parts of the repository file that a checkout heeds.
#[derive(Debug, Default)]
pub(super) struct Settings {
    /// `[checkout]`.
    pub(super) checkout: Checkout,
    /// `[paths] ignore`.
    pub(super) ignored: Vec<String>,
}

impl Settings {
    /// From the file's text. One that can't be used sets nothing: planning says what is wrong with it.
    pub(super) fn read(text: Option<&[u8]>) -> Settings {
        let file = text
            .and_then(|bytes| std::str::from_utf8(bytes).ok())
            .and_then(|text| RepoFile::parse(text, repo_file::FILE_NAME).ok());
        file.map_or_else(Settings::default, |file| Settings { checkout: file.checkout, ignored: file.ignored_paths })
    }
}

/// The repository file of a tree, if there is one.
pub(super) fn file_of(repo: &Repository, tree: Oid) -> Option<Vec<u8>> {
    blob_at(repo, tree, repo_file::FILE_NAME)
}

/// The contents of a file at `path`, if there is one of a bearable size. A malformed tree has none here: the walk over
/// all of it, which follows, says what is wrong with it.
pub(super) fn blob_at(repo: &Repository, tree: Oid, path: &str) -> Option<Vec<u8>> {
    const LINK: i32 = 0o120_000;
    let tree = repo.find_tree(tree).ok()?;
    let entry = tree.get_path(std::path::Path::new(path)).ok()?;
    let odb = repo.odb().ok()?;
    let (size, kind) = odb.read_header(entry.id()).ok()?;
    if entry.filemode() == LINK || kind != ObjectType::Blob || size > MAX_BYTES {
        return None;
    }
    odb.read(entry.id()).ok().map(|object| object.data().to_vec())
}

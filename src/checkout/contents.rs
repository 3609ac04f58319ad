//! What is to be written besides a tree's own bytes: in which form, and which contents of Git LFS.
//!
//! All of it is known, fetched and measured before the first file of the workspace changes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use git2::{ObjectType, Odb, Oid};

use super::attributes::{Attributes, Form};
use super::budget::{Budget, Meter, Totals};
use super::diff::{self, Difference, Item, Kind, Side};
use super::lfs::{self, Found, Pointer};
use super::refusal::{Refusal, Stop};
use super::submodules::{Modules, top_of};

/// The attribute files of a tree, submodules' too, with the ids of their contents.
pub(super) type AttributeFiles = BTreeMap<String, String>;

/// Where the contents of Git LFS come from, by the folder (with `/`) of the repository; empty when they are not wanted.
pub(super) type LfsSources = BTreeMap<String, lfs::Source>;

/// git reads no attribute file that is larger (`ATTR_MAX_FILE_SIZE` is 100 MB; nobody's is).
const MAX_ATTRIBUTES: usize = 1 << 20;

/// How each file is written.
#[derive(Default)]
pub(super) struct Contents {
    pub(super) files: AttributeFiles,
    attributes: Attributes,
    /// Contents of Git LFS that are there, by path.
    lfs: BTreeMap<String, (Pointer, PathBuf)>,
    /// Paths whose contents no server had, because there is no Git LFS.
    pub(super) no_server: bool,
}

impl Contents {
    /// The attributes of the tree that `difference` leads to.
    pub(super) fn of(odb: &Odb<'_>, before: &AttributeFiles, difference: &Difference) -> Result<Contents, Stop> {
        let mut files = before.clone();
        for path in &difference.gone {
            if let Ok(path) = std::str::from_utf8(path) {
                files.remove(path);
            }
        }
        for item in &difference.put {
            if let Ok(path) = std::str::from_utf8(&item.path)
                && matches!(item.kind, Kind::File { .. })
                && path.rsplit('/').next() == Some(".gitattributes")
            {
                files.insert(path.to_owned(), item.id.to_string());
            }
        }
        let attributes = read(odb, &files)?;
        Ok(Contents { files, attributes, ..Contents::default() })
    }

    /// Adds to `difference` the files that did not change, and whose form did: because of other attributes.
    pub(super) fn add_reformed(
        &self,
        odb: &Odb<'_>,
        before: &AttributeFiles,
        new: Side<'_>,
        modules: &Modules,
        budget: Budget,
        difference: &mut Difference,
    ) -> Result<(), Stop> {
        if *before == self.files {
            return Ok(());
        }
        let before = read(odb, before)?;
        let all = diff::compare(odb, None, new, Meter::new(budget, Totals::default()))?;
        let known: BTreeSet<&[u8]> = difference.put.iter().map(|item| item.path.as_slice()).collect();
        let reformed: Vec<Item> = all
            .put
            .into_iter()
            .filter(|item| matches!(item.kind, Kind::File { .. }) && !known.contains(item.path.as_slice()))
            .filter(|item| {
                let path = String::from_utf8_lossy(&item.path);
                let top = top_of(modules, &path);
                before.form(&path, top) != self.attributes.form(&path, top)
            })
            .collect();
        difference.put.extend(reformed);
        Ok(())
    }

    /// Gets the contents of the pointers in `difference` whose files have `filter=lfs`. `large` says what is there
    /// already; with that the budget holds.
    pub(super) fn obtain_lfs(
        &mut self,
        odb: &Odb<'_>,
        difference: &Difference,
        modules: &Modules,
        sources: &LfsSources,
        large: &BTreeMap<String, u64>,
        budget: Budget,
    ) -> Result<(), Stop> {
        let mut wanted: BTreeMap<&str, BTreeMap<String, Pointer>> = BTreeMap::new();
        for item in &difference.put {
            let Ok(path) = std::str::from_utf8(&item.path) else { continue };
            let top = top_of(modules, path);
            if !self.form(path, modules).lfs || !sources.contains_key(top) {
                continue;
            }
            if let Some(pointer) = pointer_of(odb, item)? {
                wanted.entry(top).or_default().insert(path[top.len()..].to_owned(), pointer);
            }
        }
        let coming = wanted.values().flat_map(BTreeMap::values).map(|pointer| pointer.size);
        let bytes = coming.chain(large.values().copied()).fold(difference.totals.bytes, u64::saturating_add);
        if !wanted.is_empty() && bytes > budget.bytes {
            let text = format!("more than {} bytes with Git LFS (limits.checkout_bytes)", budget.bytes);
            return Err(Refusal::too_much(text).into());
        }
        for (top, pointers) in wanted {
            match sources[top].obtain(&pointers)? {
                Found::NoServer => self.no_server = true,
                Found::Files(mut files) => self.lfs.extend(pointers.into_iter().filter_map(|(path, pointer)| {
                    let file = files.remove(&path)?;
                    Some((format!("{top}{path}"), (pointer, file)))
                })),
            }
        }
        Ok(())
    }

    /// The form of a file.
    pub(super) fn form(&self, path: &str, modules: &Modules) -> Form {
        if self.attributes.is_empty() {
            return Form::default();
        }
        self.attributes.form(path, top_of(modules, path))
    }

    /// The file that holds what a pointer at `path` stands for.
    pub(super) fn lfs_of(&self, path: &str) -> Option<&(Pointer, PathBuf)> {
        self.lfs.get(path)
    }
}

fn read(odb: &Odb<'_>, files: &AttributeFiles) -> Result<Attributes, Stop> {
    let mut attributes = Attributes::default();
    for (path, id) in files {
        let object = odb.read(Oid::from_str(id)?)?;
        if object.len() <= MAX_ATTRIBUTES {
            attributes.add(path, &String::from_utf8_lossy(object.data()));
        }
    }
    Ok(attributes)
}

fn pointer_of(odb: &Odb<'_>, item: &Item) -> Result<Option<Pointer>, Stop> {
    if !matches!(item.kind, Kind::File { .. }) {
        return Ok(None);
    }
    let (size, kind) = odb.read_header(item.id)?;
    if size >= 1024 || kind != ObjectType::Blob {
        return Ok(None);
    }
    Ok(Pointer::parse(odb.read(item.id)?.data()))
}

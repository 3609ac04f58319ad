//! From one tree to the next: which paths change, judged by names and budget on the way.
//!
//! Only folders that differ are read, so one changed file among 57 000 costs a handful of objects;
//! the first checkout is the difference to nothing. Trees are parsed here and not by libgit2, so
//! that a malformed one is the commit's fault, said with its path, and not a broken mirror.

use std::collections::{BTreeMap, HashMap};
use std::iter::Peekable;
use std::vec::IntoIter;

use git2::{ObjectType, Odb, Oid};

use super::budget::{MAX_FILE, Meter, Totals};
use super::names::broken_rule;
use super::refusal::{Refusal, Stop};

/// What a path of a tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File {
        executable: bool,
    },
    Link,
    /// A commit of another repository.
    Submodule,
    Folder,
}

/// A path that is not a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Item {
    /// From the root, with `/`.
    pub(super) path: Vec<u8>,
    pub(super) kind: Kind,
    pub(super) id: Oid,
}

/// How to get from the old tree to the new one.
#[derive(Debug, Default)]
pub(super) struct Difference {
    /// To be removed first. A path that is also in `put` changed its kind or its content.
    pub(super) gone: Vec<Vec<u8>>,
    /// To be written, in an order that keeps folders together.
    pub(super) put: Vec<Item>,
    /// What the new tree holds.
    pub(super) totals: Totals,
}

/// The trees of submodules, by their paths: where a walk goes on into another repository.
pub(super) type Trees = BTreeMap<String, Oid>;

/// A tree and the submodules in it.
#[derive(Clone, Copy)]
pub(super) struct Side<'a> {
    pub(super) tree: Oid,
    pub(super) submodules: &'a Trees,
}

/// Compares `old` (nothing, for a first checkout) with `new`. Two commits of a submodule are one folder that changed.
pub(super) fn compare(odb: &Odb<'_>, old: Option<Side<'_>>, new: Side<'_>, meter: Meter) -> Result<Difference, Stop> {
    let none = Trees::new();
    let submodules = (old.map_or(&none, |old| old.submodules), new.submodules);
    let mut walk = Walk { odb, meter, submodules, sizes: HashMap::new(), found: Difference::default() };
    let (old, new) = (old.map(|old| old.tree), new.tree);
    if old != Some(new) {
        walk.folders(&mut Vec::new(), old, Some(new), 0)?;
    }
    walk.found.totals = walk.meter.finish()?;
    Ok(walk.found)
}

/// One entry of a tree object.
pub(super) struct Entry {
    pub(super) name: Vec<u8>,
    kind: Kind,
    id: Oid,
}

struct Walk<'a> {
    odb: &'a Odb<'a>,
    meter: Meter,
    /// Before and after.
    submodules: (&'a Trees, &'a Trees),
    /// Sizes of files already asked for: in a bomb all files are the same object.
    sizes: HashMap<Oid, u64>,
    found: Difference,
}

impl Walk<'_> {
    /// Compares two folders at `path`, either of which may not be there.
    fn folders(&mut self, path: &mut Vec<u8>, old: Option<Oid>, new: Option<Oid>, depth: usize) -> Result<(), Stop> {
        if depth > self.meter.budget().depth {
            let text = format!("lies deeper than {} folders", self.meter.budget().depth);
            return Err(Refusal::tree(path, text).into());
        }
        let mut old = self.entries(path, old)?.into_iter().peekable();
        let mut new = self.entries(path, new)?.into_iter().peekable();
        while let Some((before, after)) = next_pair(&mut old, &mut new) {
            let name = after.as_ref().or(before.as_ref()).map(|entry| entry.name.clone()).unwrap_or_default();
            let length = path.len();
            if length > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(&name);
            self.pair(path, before, after, depth)?;
            path.truncate(length);
        }
        Ok(())
    }

    /// One name in both folders.
    fn pair(
        &mut self,
        path: &mut Vec<u8>,
        before: Option<Entry>,
        after: Option<Entry>,
        depth: usize,
    ) -> Result<(), Stop> {
        if let (Some(before), Some(after)) = (&before, &after)
            && (before.id, before.kind) == (after.id, after.kind)
        {
            return Ok(());
        }
        if let Some(after) = &after {
            self.judge(path, &after.name)?;
        }
        let (old_folder, new_folder) =
            (folder(path, before.as_ref(), self.submodules.0), folder(path, after.as_ref(), self.submodules.1));
        let (before_kind, after_kind) = (before.as_ref().map(|e| e.kind), after.as_ref().map(|e| e.kind));
        if let Some(before) = before
            && before.kind != Kind::Folder
        {
            let size = self.size(path, &before)?;
            self.meter.remove_file(size);
            // With its folder would go the files that stay.
            if before.kind != Kind::Submodule || after.as_ref().is_none_or(|after| after.kind != Kind::Submodule) {
                self.found.gone.push(path.clone());
            }
        }
        if old_folder.is_some() || new_folder.is_some() {
            match (old_folder, new_folder) {
                (None, Some(_)) => self.meter.add_folder()?,
                (Some(_), None) => self.meter.remove_folder(),
                _ => {}
            }
            if old_folder.is_some()
                && new_folder.is_some()
                && (before_kind == Some(Kind::Submodule)) != (after_kind == Some(Kind::Submodule))
            {
                // They belong to two repositories: nothing of the one stays for the other.
                self.folders(path, old_folder, None, depth + 1)?;
                self.folders(path, None, new_folder, depth + 1)?;
            } else {
                self.folders(path, old_folder, new_folder, depth + 1)?;
            }
        }
        if let Some(after) = after
            && after.kind != Kind::Folder
        {
            let size = self.size(path, &after)?;
            self.meter.add_file(size)?;
            self.found.put.push(Item { path: path.clone(), kind: after.kind, id: after.id });
        }
        Ok(())
    }

    fn judge(&self, path: &[u8], name: &[u8]) -> Result<(), Refusal> {
        if let Some(rule) = broken_rule(name) {
            return Err(Refusal::tree(path, rule));
        }
        let most = self.meter.budget().path_bytes;
        if path.len() > most {
            return Err(Refusal::tree(path, format_args!("is a path longer than {most} bytes")));
        }
        Ok(())
    }

    fn size(&mut self, path: &[u8], entry: &Entry) -> Result<u64, Stop> {
        if entry.kind == Kind::Submodule {
            return Ok(0);
        }
        if let Some(&size) = self.sizes.get(&entry.id) {
            return Ok(size);
        }
        let (size, kind) = self.odb.read_header(entry.id)?;
        let size = size as u64;
        if kind != ObjectType::Blob {
            return Err(Refusal::tree(path, "is said to be a file and is none").into());
        }
        if size > MAX_FILE {
            return Err(Refusal::tree(path, format_args!("is larger than {} MiB", MAX_FILE >> 20)).into());
        }
        self.sizes.insert(entry.id, size);
        Ok(size)
    }

    /// A folder's entries in name order, each name once.
    fn entries(&self, path: &[u8], tree: Option<Oid>) -> Result<Vec<Entry>, Stop> {
        let Some(id) = tree else { return Ok(Vec::new()) };
        let object = self.odb.read(id)?;
        if object.kind() != ObjectType::Tree {
            return Err(Refusal::tree(path, "is said to be a folder and is none").into());
        }
        let mut entries = parse(object.data()).map_err(|rule| Refusal::tree(path, rule))?;
        // git orders a folder `a` as `a/`; here both trees only have to be ordered alike.
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        if let Some(twice) = entries.windows(2).find(|pair| pair[0].name == pair[1].name) {
            return Err(Refusal::tree(&twice[0].name, "is there twice in one folder").into());
        }
        Ok(entries)
    }
}

/// The tree that an entry stands for, if it is a folder or a submodule that is there.
fn folder(path: &[u8], entry: Option<&Entry>, submodules: &Trees) -> Option<Oid> {
    match entry?.kind {
        Kind::Folder => Some(entry?.id),
        Kind::Submodule => submodules.get(std::str::from_utf8(path).ok()?).copied(),
        _ => None,
    }
}

/// Reads a tree object: `<octal mode> <name>\0<20 bytes of id>`, again and again.
pub(super) fn parse(mut data: &[u8]) -> Result<Vec<Entry>, &'static str> {
    const CUT: &str = "is a folder that git can't read";
    const ID: usize = 20;
    let mut entries = Vec::new();
    while !data.is_empty() {
        let space = data.iter().position(|&b| b == b' ').ok_or(CUT)?;
        let (mode, rest) = (&data[..space], &data[space + 1..]);
        let nul = rest.iter().position(|&b| b == 0).ok_or(CUT)?;
        let (name, rest) = (&rest[..nul], &rest[nul + 1..]);
        let id = Oid::from_bytes(rest.get(..ID).ok_or(CUT)?).map_err(|_| CUT)?;
        let kind = match mode {
            b"40000" | b"040000" => Kind::Folder,
            b"120000" => Kind::Link,
            b"160000" => Kind::Submodule,
            // 100664 was written by git before 2005 and is still in old histories.
            b"100644" | b"100664" => Kind::File { executable: false },
            b"100755" => Kind::File { executable: true },
            _ => return Err("holds an entry that is neither file, folder, link nor submodule"),
        };
        entries.push(Entry { name: name.to_vec(), kind, id });
        data = &rest[ID..];
    }
    Ok(entries)
}

/// The next name of two ordered folders, with its entry in each.
fn next_pair(
    old: &mut Peekable<IntoIter<Entry>>,
    new: &mut Peekable<IntoIter<Entry>>,
) -> Option<(Option<Entry>, Option<Entry>)> {
    use std::cmp::Ordering::{Equal, Greater, Less};
    let order = match (old.peek(), new.peek()) {
        (None, None) => return None,
        (Some(_), None) => Less,
        (None, Some(_)) => Greater,
        (Some(before), Some(after)) => before.name.cmp(&after.name),
    };
    Some(match order {
        Less => (old.next(), None),
        Greater => (None, new.next()),
        Equal => (old.next(), new.next()),
    })
}

#[cfg(test)]
mod tests {
    use super::super::Budget;
    use super::*;

    /// What a server without scruples could send; git's own refuses to pack such trees.
    #[test]
    fn malformed_trees_are_refused_with_their_path() {
        let folder = tempfile::tempdir().expect("a folder");
        let repo = git2::Repository::init_bare(folder.path()).expect("room");
        let odb = repo.odb().expect("just made");
        let blob = odb.write(ObjectType::Blob, b"x").expect("room");
        let entry =
            |mode: &str, name: &str, id: Oid| [mode.as_bytes(), b" ", name.as_bytes(), b"\0", id.as_bytes()].concat();
        let top = |inner: &[u8]| {
            let inner = odb.write(ObjectType::Tree, inner).expect("room");
            odb.write(ObjectType::Tree, &entry("40000", "in", inner)).expect("room")
        };
        let empty = odb.write(ObjectType::Tree, b"").expect("room");
        let budget = Budget { files: 9, bytes: 99, depth: 9, path_bytes: 99 };
        for (words, tree) in [
            ("\"in/\" is no name for a file", entry("100644", "", blob)),
            ("\"in\" holds an entry that is neither file, folder, link nor submodule", entry("010644", "p", blob)),
            ("\"in/a\" is said to be a folder and is none", entry("40000", "a", blob)),
            ("\"in/a\" is said to be a file and is none", entry("100644", "a", empty)),
            ("\"in\" is a folder that git can't read", b"100644 a".to_vec()),
            ("\"in\" is a folder that git can't read", b"100644 a\0short".to_vec()),
        ] {
            let meter = Meter::new(budget, Totals::default());
            let side = Side { tree: top(&tree), submodules: &Trees::new() };
            match compare(&odb, None, side, meter) {
                Err(Stop::Refused(refusal)) => assert!(refusal.message.ends_with(words), "{words}: {refusal}"),
                other => panic!("{words}: {other:?}"),
            }
        }
    }
}

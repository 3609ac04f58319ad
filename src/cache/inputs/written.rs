//! What installs wrote, looked at before it is kept.
//!
//! Dependencies are kept as they are. Outside of them a layer lies above the sources of later commits, so a tracked file
//! in it would hide what those commits say: whoever changes one is not kept, unless its contents are in the key.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{Facts, Group, NotKept};
use crate::domain::lockfile;
use crate::domain::snapshot::{Input, Level};
use crate::tree::{self, Dir, Entry, Kind, TreeError, Visit};

/// A file larger than this is taken as changed when its size is that of the tracked one.
const MAX_COMPARED: u64 = 64 << 20;
/// Files and folders of yarn's Plug'n'Play and its state, in a project's folder.
const YARN: [&str; 6] = [
    ".yarn/cache",
    ".yarn/unplugged",
    ".yarn/install-state.gz",
    ".yarn/build-state.yml",
    ".yarn/berry",
    ".yarn/.cache",
];

/// What installs wrote, and over what.
#[derive(Clone, Copy)]
pub enum Written<'a> {
    /// An upper layer of overlayfs over the sources, with other layers of dependencies between them at most.
    Layer(&'a Path),
    /// A tree that holds the sources, what installs wrote and other layers of dependencies at most.
    Flat {
        /// The tree's root.
        root: &'a Path,
        /// Whether a path is a file or a folder of the commit.
        tracked: &'a dyn Fn(&Path) -> bool,
        /// What of the commit is not as it was, or gone.
        changed: &'a BTreeSet<PathBuf>,
    },
}

/// What can be kept; every path is relative to the root.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Cleaned {
    /// Dependencies that belong to the packages: `node_modules` at every level, Plug'n'Play's files, yarn's folders, and
    /// what bower wrote when a script ran it.
    pub packages: Vec<PathBuf>,
    /// Folders that bower's own steps wrote.
    pub bower: Vec<PathBuf>,
    /// New files outside of them, which are no files of the commit.
    pub files: Vec<PathBuf>,
}

/// Looks at what installs wrote, and removes from a layer what must not be kept: git's state but `config` and `hooks`,
/// and files that are as the sources have them.
///
/// # Errors
/// [`NotKept::Changed`], [`NotKept::Removed`] and [`NotKept::Committed`] for a commit's own files, or what the disk says.
pub fn keepable(written: Written<'_>, facts: &Facts<'_>, groups: &[Group]) -> Result<Cleaned, NotKept> {
    let root = match written {
        Written::Layer(root) | Written::Flat { root, .. } => root,
    };
    let sources = Dir::open(facts.sources)?;
    let opened = Dir::open(root)?;
    let mut look = Look { facts, groups, sources: &sources, written, cleaned: Cleaned::default(), gone: Vec::new() };
    let mut refused = None;
    tree::walk(root, |entry| match look.visit(root, &opened, entry) {
        Ok(visit) => visit,
        Err(why) => {
            refused = Some(why);
            Visit::Stop
        }
    })?;
    if let Some(why) = refused {
        return Err(why);
    }
    if let Written::Flat { changed, .. } = written
        && let Some(path) = changed.iter().find(|path| opened.kind(path).is_err_and(|error| error.is_not_found()))
    {
        return Err(NotKept::Removed { path: display(path) });
    }
    for path in &look.gone {
        opened.remove(path)?;
    }
    Ok(look.cleaned)
}

/// The first file of a layer, outside of dependencies, that a later commit has as a file of its own: the layer would
/// hide it, so it must not be mounted over `facts.sources`.
///
/// # Errors
/// What the disk says.
pub fn hidden(layer: &Path, facts: &Facts<'_>, group: &Group) -> Result<Option<PathBuf>, TreeError> {
    let sources = Dir::open(facts.sources)?;
    let groups = std::slice::from_ref(group);
    let mut found = None;
    tree::walk(layer, |entry| {
        if dependencies(groups, &entry.path).is_some() || entry.path == Path::new(".git") {
            return Visit::Skip;
        }
        let is_hidden =
            entry.kind != Kind::Dir && stands(&sources, &entry.path) && !is_keyed(facts, groups, &entry.path);
        // A folder where the commit has a file.
        let covers = entry.kind == Kind::Dir && sources.open_file(&entry.path).is_ok();
        if is_hidden || covers {
            found = Some(entry.path.clone());
            return Visit::Stop;
        }
        Visit::Continue
    })?;
    Ok(found)
}

struct Look<'a> {
    facts: &'a Facts<'a>,
    groups: &'a [Group],
    sources: &'a Dir,
    written: Written<'a>,
    cleaned: Cleaned,
    gone: Vec<PathBuf>,
}

impl Look<'_> {
    fn visit(&mut self, root: &Path, opened: &Dir, entry: &Entry) -> Result<Visit, NotKept> {
        let path = entry.path.as_path();
        if path.starts_with(".git") {
            return Ok(self.git(path));
        }
        if let Some(level) = dependencies(self.groups, path) {
            return self.dependencies(level, entry);
        }
        match self.written {
            Written::Layer(_) => self.layered(root, opened, entry),
            Written::Flat { tracked, changed, .. } => self.flat(entry, tracked, changed),
        }
    }

    /// A stale index would lie about the sources of the next build. Its hooks and where they are belong to what husky and
    /// the like install.
    fn git(&mut self, path: &Path) -> Visit {
        if matches!(self.written, Written::Flat { .. }) {
            return Visit::Skip;
        }
        let Ok(inside) = path.strip_prefix(".git") else { return Visit::Skip };
        if inside == Path::new("") {
            return Visit::Continue;
        }
        if inside != Path::new("config") && inside != Path::new("hooks") {
            self.gone.push(path.to_owned());
        }
        Visit::Skip
    }

    fn dependencies(&mut self, level: Level, entry: &Entry) -> Result<Visit, NotKept> {
        let path = &entry.path;
        // Yarn's own files may be committed ("zero-installs"): the lockfile decides what is in them.
        let is_yarns = path.file_name().is_none_or(|name| name != "node_modules" && name != "bower_components");
        if let Written::Flat { tracked, changed, .. } = self.written
            && tracked(path)
        {
            return match is_yarns && level == Level::Packages {
                true => self.flat(entry, tracked, changed),
                false => Err(NotKept::Committed { path: display(path) }),
            };
        }
        if let Written::Layer(_) = self.written {
            let committed =
                self.sources.open_dir(path).is_ok_and(|dir| dir.names().is_ok_and(|names| !names.is_empty()));
            if committed && !(is_yarns && level == Level::Packages) {
                return Err(NotKept::Committed { path: display(path) });
            }
            // A whiteout for what another layer holds.
            if entry.kind == Kind::Other {
                return Ok(Visit::Skip);
            }
        }
        match level {
            Level::Bower => self.cleaned.bower.push(path.clone()),
            _ => self.cleaned.packages.push(path.clone()),
        }
        Ok(Visit::Skip)
    }

    fn layered(&mut self, root: &Path, opened: &Dir, entry: &Entry) -> Result<Visit, NotKept> {
        let path = entry.path.as_path();
        let tracked = stands(self.sources, path);
        match entry.kind {
            Kind::Dir if !tracked => Ok(Visit::Continue),
            Kind::Dir => {
                // Where a folder of the sources was removed and made anew, nothing of theirs shows through.
                if self.sources.open_dir(path).is_err() || is_opaque(&root.join(path)) {
                    return Err(NotKept::Removed { path: display(path) });
                }
                Ok(Visit::Continue)
            }
            Kind::Other => {
                if tracked {
                    return Err(NotKept::Removed { path: display(path) });
                }
                self.gone.push(path.to_owned());
                Ok(Visit::Skip)
            }
            Kind::File | Kind::Link if !tracked => {
                self.cleaned.files.push(path.to_owned());
                Ok(Visit::Continue)
            }
            Kind::File | Kind::Link => {
                if is_same(self.sources, opened, entry) {
                    self.gone.push(path.to_owned());
                } else if !is_keyed(self.facts, self.groups, path) {
                    return Err(NotKept::Changed { path: display(path) });
                }
                Ok(Visit::Continue)
            }
        }
    }

    fn flat(
        &mut self,
        entry: &Entry,
        tracked: &dyn Fn(&Path) -> bool,
        changed: &BTreeSet<PathBuf>,
    ) -> Result<Visit, NotKept> {
        let path = &entry.path;
        let is_lockfile = || path.file_name().is_some_and(|name| lockfile::NAMES.iter().any(|known| name == *known));
        if changed.contains(path) && !is_lockfile() {
            // Also one whose contents are in the key: it stays with the sources, and nothing is laid over them.
            return Err(NotKept::Changed { path: display(path) });
        }
        if matches!(entry.kind, Kind::File | Kind::Link) && !tracked(path) {
            self.cleaned.files.push(path.clone());
        }
        Ok(Visit::Continue)
    }
}

/// Whose dependencies are at a path, if there are any.
fn dependencies(groups: &[Group], path: &Path) -> Option<Level> {
    let group = groups.iter().find(|group| group.directories.iter().any(|directory| path == Path::new(directory)));
    if let Some(group) = group {
        return Some(group.level);
    }
    let name = path.file_name()?.to_str()?;
    let is_pnp = matches!(name, ".pnp.cjs" | ".pnp.js" | ".pnp.loader.mjs" | ".pnp.data.json");
    let is_yarns = || YARN.iter().any(|known| path.ends_with(known));
    (name == "node_modules" || name == "bower_components" || is_pnp || is_yarns()).then_some(Level::Packages)
}

/// Whether the contents of a file are in the key, so that every commit with this key has the same ones.
fn is_keyed(facts: &Facts<'_>, groups: &[Group], path: &Path) -> bool {
    let Some(path) = path.to_str() else { return false };
    let name = path.rsplit('/').next().unwrap_or(path);
    let inputs = groups.iter().filter_map(|group| group.inputs.as_ref().ok());
    let is_input = |input: &Input| input.name == path;
    lockfile::NAMES.contains(&name)
        || inputs.flat_map(|inputs| &inputs.0).any(is_input)
        || facts.declared.iter().any(|glob| fast_glob::glob_match(glob, path) || Path::new(path).starts_with(glob))
}

/// True when anything stands at a path, links not followed.
fn stands(dir: &Dir, path: &Path) -> bool {
    match dir.open_file(path) {
        Err(TreeError::Io { source, .. }) => {
            !matches!(source.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
        }
        _ => true,
    }
}

/// Whether a written file is as the sources have it: copied up by a program that only opened it.
fn is_same(sources: &Dir, written: &Dir, entry: &Entry) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let path = &entry.path;
    if entry.kind == Kind::Link {
        return sources.read_link(path).is_ok_and(|own| written.read_link(path).is_ok_and(|new| own == new));
    }
    let Ok(Ok(own)) = sources.open_file(path).map(|file| file.metadata()) else { return false };
    let is_like = own.len() == entry.size && own.permissions().mode() & 0o777 == entry.mode & 0o777;
    is_like
        && sources
            .read_file(path, MAX_COMPARED)
            .is_ok_and(|own| written.read_file(path, MAX_COMPARED).is_ok_and(|new| own == new))
}

/// Whether overlayfs hides what is beneath a folder: `user.overlay.opaque` is `y`
/// (<https://docs.kernel.org/filesystems/overlayfs.html#whiteouts-and-opaque-directories>).
fn is_opaque(folder: &Path) -> bool {
    let mut value = [0_u8; 8];
    let read = rustix::fs::lgetxattr(folder, "user.overlay.opaque", &mut value);
    read.is_ok_and(|length| value.get(..length).is_some_and(|value| value == b"y"))
}

fn display(path: &Path) -> String {
    path.display().to_string()
}

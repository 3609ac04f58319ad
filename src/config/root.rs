//! `[sandbox] root`: a directory that steps see as their root, instead of this machine's programs.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use super::problem::{Findings, Kind, Place, Problem};
use super::section::{Located, Section};

/// What every step is started through or with: package scripts run in a shell, programs of packages begin with
/// `#!/usr/bin/env node`.
const NEEDED: [&str; 2] = ["/bin/sh", "/usr/bin/env"];

/// As many links as the kernel follows (`path_resolution(7)`).
const MOST_LINKS: usize = 40;

/// Another root file system: the operator's own, which nobody writes to while builds run.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Root {
    dir: PathBuf,
}

/// Why a directory can't be the root of steps.
#[derive(Debug, thiserror::Error)]
pub enum NoRoot {
    /// It is not there, or is none.
    #[error("{} is not a directory", .0.display())]
    NoDirectory(PathBuf),
    /// It is this machine's own, or has the agent's data in it.
    #[error("{} is this machine's own root, with everything that steps must not see", .0.display())]
    Own(PathBuf),
    /// A program without which no step runs.
    #[error("{} is no root file system for steps: {program} can't be used in it: {source}", dir.display())]
    Lacks {
        /// The directory.
        dir: PathBuf,
        /// The program, as steps would start it.
        program: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl Root {
    /// The directory, if steps can be run in it.
    ///
    /// # Errors
    /// [`NoRoot`]: it is not there, it is `/`, or it lacks a shell or `env`.
    pub fn open(dir: PathBuf) -> Result<Root, NoRoot> {
        if !dir.is_dir() {
            return Err(NoRoot::NoDirectory(dir));
        }
        if dir.canonicalize().is_ok_and(|real| real == Path::new("/")) {
            return Err(NoRoot::Own(dir));
        }
        let root = Root { dir };
        for program in NEEDED {
            if let Err(source) = root.program(Path::new(program)) {
                return Err(NoRoot::Lacks { dir: root.dir, program, source });
            }
        }
        Ok(root)
    }

    /// The directory, as it was written.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where this machine has what steps see at `path`; links on the way are this machine's to follow, so the path is one
    /// that [`resolve`](Self::resolve) gave.
    pub fn on_host(&self, path: &Path) -> PathBuf {
        self.dir.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Where an absolute path leads for a step: links are followed as one would, never out of the root.
    ///
    /// # Errors
    /// There is nothing, it can't be read, or links lead in circles.
    pub fn resolve(&self, path: &Path) -> io::Result<PathBuf> {
        let mut rest: VecDeque<OsString> = parts(path);
        let mut at = PathBuf::from("/");
        let mut links = 0;
        while let Some(part) = rest.pop_front() {
            if part == ".." {
                at.pop();
                continue;
            }
            let next = at.join(&part);
            let data = fs::symlink_metadata(self.on_host(&next))?;
            if !data.is_symlink() {
                at = next;
                continue;
            }
            links += 1;
            if links > MOST_LINKS {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "its links lead in circles"));
            }
            let target = fs::read_link(self.on_host(&next))?;
            if target.is_absolute() {
                at = PathBuf::from("/");
            }
            for part in parts(&target).into_iter().rev() {
                rest.push_front(part);
            }
        }
        Ok(at)
    }

    /// Where a program really is, if somebody may execute it.
    ///
    /// # Errors
    /// There is none.
    pub fn program(&self, path: &Path) -> io::Result<PathBuf> {
        use std::os::unix::fs::PermissionsExt;
        let real = self.resolve(path)?;
        let data = fs::symlink_metadata(self.on_host(&real))?;
        match data.is_file() && data.permissions().mode() & 0o111 != 0 {
            true => Ok(real),
            false => Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is no program")),
        }
    }

    /// A text file as a step would read it.
    ///
    /// # Errors
    /// It is not there, or no text.
    pub fn text(&self, path: &Path) -> io::Result<String> {
        fs::read_to_string(self.on_host(&self.resolve(path)?))
    }

    /// What system it says that it is: `Debian GNU/Linux 12 (bookworm)` (os-release(5)).
    pub fn system(&self) -> Option<String> {
        let places = ["/etc/os-release", "/usr/lib/os-release"];
        let text = places.iter().find_map(|place| self.text(Path::new(place)).ok())?;
        let name = text.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="))?;
        let name: String = name.trim().trim_matches(['"', '\'']).chars().filter(|c| !c.is_control()).take(60).collect();
        (!name.is_empty()).then_some(name)
    }
}

impl std::fmt::Display for Root {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "root {}", self.dir.display())?;
        self.system().map_or(Ok(()), |system| write!(f, " ({system})"))
    }
}

fn parts(path: &Path) -> VecDeque<OsString> {
    let names = path.components().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    });
    names.collect()
}

/// Reads `root`: `Some` where it is written; an empty text is this machine's own.
pub(super) fn root(section: &mut Section<'_>) -> Option<Located<Option<Root>>> {
    let Located { place, value } = section.text("root")?;
    if value.is_empty() {
        return Some(Located { place, value: None });
    }
    match Root::open(place.source.base.join(&value).components().collect()) {
        Ok(root) => Some(Located { place, value: Some(root) }),
        Err(bad) => {
            let message = format!("`{}`: {bad}", section.key("root"));
            section.wrong(
                &place,
                message,
                "name a whole root file system, as debootstrap or `docker export` makes one",
            );
            None
        }
    }
}

/// What else must be so of every root that is written anywhere: steps that see nothing but it are confined, and what it
/// holds is theirs to read.
pub(super) fn check<'a>(
    roots: impl Iterator<Item = &'a Located<Option<Root>>>,
    confines: bool,
    data_dir: &Path,
    findings: &mut Findings,
) {
    for Located { place, value } in roots {
        let Some(root) = value else { continue };
        let mut wrong = |place: &Place, message: String, fix: &str| {
            findings.push(Problem::at(Kind::Wrong, place, message).fix(fix));
        };
        let shown = root.dir.display();
        if !confines {
            let message = format!("steps can't be shut into {shown} while sandbox.require = \"none\"");
            wrong(place, message, "take out one of the two");
        }
        if holds(&root.dir, data_dir) {
            let message = format!("{shown} has data.dir in it, and steps would see all of that");
            wrong(place, message, "name a directory that holds the root file system and nothing else");
        }
    }
}

/// Whether a directory, which may not be there yet, lies in another one.
fn holds(root: &Path, dir: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().ok();
    let there = dir.ancestors().find_map(real);
    real(root).zip(there).is_some_and(|(root, there)| there.starts_with(root))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn made() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("a folder");
        for folder in ["usr/bin", "etc", "sub"] {
            fs::create_dir_all(dir.path().join(folder)).expect("a folder");
        }
        let busybox = dir.path().join("usr/bin/busybox");
        fs::write(&busybox, "").expect("a file");
        fs::set_permissions(&busybox, fs::Permissions::from_mode(0o755)).expect("set");
        symlink("usr/bin", dir.path().join("bin")).expect("a link");
        // As Alpine has them: absolute, and so this machine's own for whoever follows them from outside.
        symlink("/bin/busybox", dir.path().join("usr/bin/sh")).expect("a link");
        symlink("/bin/busybox", dir.path().join("usr/bin/env")).expect("a link");
        fs::write(dir.path().join("etc/os-release"), "ID=x\nPRETTY_NAME=\"X 3\"\n").expect("a file");
        dir
    }

    #[test]
    fn links_are_followed_within() {
        let dir = made();
        let link = |to: &str, at: &str| symlink(to, dir.path().join(at)).expect("a link");
        link("../../../../usr/bin/busybox", "sub/up");
        link("round", "sub/round");
        link("/etc/passwd", "sub/out");
        let root = Root::open(dir.path().to_owned()).expect("a root");
        let check = |path: &str, expected: Option<&str>| {
            assert_eq!(root.resolve(Path::new(path)).ok().as_deref(), expected.map(Path::new), "{path}");
        };
        check("/bin/sh", Some("/usr/bin/busybox"));
        check("/sub/up", Some("/usr/bin/busybox"));
        check("/sub/../bin", Some("/usr/bin"));
        check("/", Some("/"));
        check("/sub/round", None);
        // This machine has one.
        check("/sub/out", None);
        assert_eq!(root.to_string(), format!("root {} (X 3)", dir.path().display()));
        assert!(root.program(Path::new("/etc/os-release")).is_err() && root.program(Path::new("/usr/bin")).is_err());
    }

    #[test]
    fn what_is_no_root_says_why() {
        let dir = made();
        let why = |path: &Path| Root::open(path.to_owned()).expect_err("no root").to_string();
        assert_eq!(why(Path::new("/nowhere")), "/nowhere is not a directory");
        assert!(why(Path::new("/../")).ends_with("steps must not see"));
        fs::remove_file(dir.path().join("usr/bin/env")).expect("there");
        let lacks = why(dir.path());
        assert!(lacks.contains("no root file system for steps: /usr/bin/env can't be used in it: No such"), "{lacks}");
    }

    #[test]
    fn a_root_with_the_data_in_it_is_known() {
        let dir = made();
        assert!(holds(dir.path(), dir.path()) && holds(dir.path(), &dir.path().join("sub/not/yet")));
        assert!(!holds(&dir.path().join("etc"), &dir.path().join("sub")));
    }
}

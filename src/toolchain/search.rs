//! Finding programs, and what must be visible for them to run.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// Folders that every step sees read-only anyway.
const SYSTEM: [&str; 8] = ["/usr", "/bin", "/sbin", "/lib", "/lib64", "/opt", "/nix", "/snap"];

/// Where a root has its programs, whatever the agent's own `PATH` is.
pub(super) const STANDARD: [&str; 6] = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// The folders of a `PATH`, without those that are relative (the current directory may be anybody's)
/// and without the `node_modules/.bin` that npm puts first when it starts us.
pub(super) fn folders(path_variable: &OsStr) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = std::env::split_paths(path_variable)
        .filter(|folder| folder.is_absolute() && !folder.ends_with("node_modules/.bin"))
        .collect();
    in_order_once(&mut folders);
    folders
}

/// The first folder's program of that name, as a shell would find it.
pub fn find(program: &str, folders: &[PathBuf], is_program: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    if program.is_empty() || program.contains('/') {
        return None;
    }
    folders.iter().map(|folder| folder.join(program)).find(|path| is_program(path))
}

/// The folders that belong on a step's `PATH`: the system's, and those that hold one of `programs`.
/// The rest of what an operator has on it (their own scripts, other languages' tools) is left out.
pub fn folders_of(programs: &[&str], folders: &[PathBuf], is_program: impl Fn(&Path) -> bool) -> Vec<PathBuf> {
    let belongs =
        |folder: &&PathBuf| is_system(folder) || programs.iter().any(|program| is_program(&folder.join(program)));
    folders.iter().filter(belongs).cloned().collect()
}

/// Whether a path lies in folders that every step sees anyway.
pub(super) fn is_system(path: &Path) -> bool {
    SYSTEM.iter().any(|root| path.starts_with(root))
}

/// True for a file that may be executed by somebody.
pub(super) fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

/// What must be readable for a program found at `found` whose file is really `real`; nothing for
/// what lies in the system's folders.
///
/// A package's script needs its package (`…/lib/node_modules/npm`), a program in a `bin` what stands
/// beside it (`~/.nvm/versions/node/v22.1.0`), any other its own folder; and a link the folder it is in.
pub fn readable(found: &Path, real: &Path) -> Vec<PathBuf> {
    let home_of_link = found.parent().filter(|_| found != real);
    let needed = [home_of_link.map(Path::to_path_buf), home_of(real)];
    needed.into_iter().flatten().filter(|folder| !is_system(folder) && folder.parent().is_some()).collect()
}

fn home_of(real: &Path) -> Option<PathBuf> {
    let package = real.ancestors().find(|path| path.parent().is_some_and(|parent| parent.ends_with("node_modules")));
    if let Some(package) = package {
        return Some(package.to_path_buf());
    }
    let folder = real.parent()?;
    let prefix = folder.parent().filter(|prefix| folder.ends_with("bin") && is_a_prefix_of_its_own(prefix));
    Some(prefix.unwrap_or(folder).to_path_buf())
}

/// `~/bin` and `~/.local/bin` are no prefixes: what stands beside them is somebody's home.
fn is_a_prefix_of_its_own(prefix: &Path) -> bool {
    let is_home = prefix.parent().is_some_and(|parent| parent.ends_with("home") || parent.ends_with("Users"));
    !is_home && prefix != Path::new("/root") && !prefix.ends_with(".local")
}

/// Drops folders that lie in another of the list, and repeats.
pub(super) fn outermost(folders: &mut Vec<PathBuf>) {
    folders.sort();
    folders.dedup_by(|later, earlier| later.starts_with(earlier.as_path()));
}

/// Drops repeats and keeps the order.
pub(super) fn in_order_once(folders: &mut Vec<PathBuf>) {
    let mut seen = std::collections::BTreeSet::new();
    folders.retain(|folder| seen.insert(folder.clone()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(list: &[&str]) -> Vec<PathBuf> {
        list.iter().map(PathBuf::from).collect()
    }

    #[test]
    fn relative_folders_and_those_of_repositories_are_not_searched() {
        let variable = OsStr::new("/usr/bin:.:bin::/srv/app/node_modules/.bin:/usr/bin:/opt/x");
        assert_eq!(folders(variable), paths(&["/usr/bin", "/opt/x"]));
    }

    #[test]
    fn the_first_folder_wins_and_a_path_is_no_program() {
        let there = |path: &Path| [Path::new("/b/node"), Path::new("/c/node")].contains(&path);
        let folders = paths(&["/a", "/b", "/c"]);
        assert_eq!(find("node", &folders, there), Some(PathBuf::from("/b/node")));
        assert_eq!(find("npm", &folders, there), None);
        assert_eq!(find("../b/node", &folders, there), None);
    }

    #[test]
    fn a_steps_path_has_the_systems_folders_and_the_tools() {
        let there = |path: &Path| path == Path::new("/home/ann/.nvm/versions/node/v22/bin/node");
        let own = paths(&["/home/ann/bin", "/home/ann/.nvm/versions/node/v22/bin", "/root/.cargo/bin", "/usr/bin"]);
        assert_eq!(folders_of(&["node"], &own, there), paths(&["/home/ann/.nvm/versions/node/v22/bin", "/usr/bin"]));
    }

    #[test]
    fn what_must_be_visible() {
        let check = |found: &str, real: &str, expected: &[&str]| {
            assert_eq!(readable(Path::new(found), Path::new(real)), paths(expected), "{found}");
        };
        check("/usr/bin/node", "/usr/bin/node", &[]);
        check("/usr/bin/npm", "/usr/lib/node_modules/npm/bin/npm-cli.js", &[]);
        let nvm = "/home/ann/.nvm/versions/node/v22";
        check(&format!("{nvm}/bin/node"), &format!("{nvm}/bin/node"), &[nvm]);
        check(
            &format!("{nvm}/bin/npm"),
            &format!("{nvm}/lib/node_modules/npm/bin/npm-cli.js"),
            &[&format!("{nvm}/bin"), &format!("{nvm}/lib/node_modules/npm")],
        );
        check("/home/ann/.local/bin/bun", "/home/ann/.bun/bin/bun", &["/home/ann/.local/bin", "/home/ann/.bun"]);
        check("/home/ann/bin/node", "/home/ann/bin/node", &["/home/ann/bin"]);
        check("/srv/hookmill/bower", "/srv/hookmill/bower", &["/srv/hookmill"]);
    }

    #[test]
    fn folders_in_others_are_dropped() {
        let mut list = paths(&["/a/b", "/a", "/ab", "/a/c/d", "/a"]);
        outermost(&mut list);
        assert_eq!(list, paths(&["/a", "/ab"]));
    }
}

//! What the preloaded file has written of the compilers that ran.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::OURS;
use crate::tree;

/// The file, in [`OURS`].
pub(super) const FILE: &str = "observed.jsonl";
/// A build wrote it: more than this is not read.
const MAX_BYTES: u64 = 1 << 20;
/// A build of more compilers than this tells of the first.
const MAX_LINES: usize = 1000;
/// A bundler's name and version are no longer than this.
const MAX_TEXT: usize = 40;

/// Whose persistent cache a compiler used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CacheOf {
    /// The one that we gave it.
    Ours,
    /// The repository's configuration has one.
    #[serde(rename = "repository's")]
    Repositorys,
    /// None: the repository wants none, or the bundler has none.
    None,
}

/// A run of a compiler.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Observed {
    /// `webpack` or `rspack`.
    pub bundler: String,
    /// Its version: `5.95.0`.
    pub version: String,
    /// Whose cache it used.
    pub cache: CacheOf,
    /// How many modules it built.
    pub built: u64,
    /// How many it took from a cache.
    pub cached: u64,
}

/// The compilers that ran in a build with this HOME, in the order in which they ended. What can't be read is left out:
/// it is a build that wrote it, and nothing is decided by it.
pub fn observed(home_on_host: &Path) -> Vec<Observed> {
    let path = Path::new(OURS).join(FILE);
    let Ok(bytes) = tree::read_file(home_on_host, &path, MAX_BYTES) else { return Vec::new() };
    let lines = bytes.split(|byte| *byte == b'\n').take(MAX_LINES);
    let short = |text: &str| text.len() <= MAX_TEXT && text.chars().all(|c| c.is_ascii_graphic());
    lines
        .filter_map(|line| serde_json::from_slice::<Observed>(line).ok())
        .filter(|one| short(&one.bundler) && short(&one.version))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_and_nonsense_is_not() {
        let home = tempfile::tempdir().expect("a folder");
        assert_eq!(observed(home.path()), []);
        std::fs::create_dir(home.path().join(OURS)).expect("a folder");
        let file = home.path().join(OURS).join(FILE);
        let good = r#"{"bundler":"webpack","version":"5.95.0","cache":"repository's","built":3,"cached":4}"#;
        let odd = r#"{"bundler":"<script>\n","version":"5","cache":"ours","built":3,"cached":4}"#;
        let less = r#"{"bundler":"webpack","version":"5","cache":"ours","built":-3,"cached":4}"#;
        std::fs::write(&file, format!("{good}\n{odd}\n{less}\n\u{1}not JSON\n{good}")).expect("a file");
        let one = Observed {
            bundler: "webpack".into(),
            version: "5.95.0".into(),
            cache: CacheOf::Repositorys,
            built: 3,
            cached: 4,
        };
        assert_eq!(observed(home.path()), [one.clone(), one]);
        std::fs::remove_file(&file).expect("removed");
        std::os::unix::fs::symlink("/etc/passwd", &file).expect("a link");
        assert_eq!(observed(home.path()), []);
    }
}
